# Types of http_exchange.py for the compiled line.
cimport cython

from ostiary.audit.journal cimport Journal
from ostiary.driver.http_pool cimport Listens, Pool, TargetLink
from ostiary.driver.lane cimport Lane
from ostiary.masking.http cimport ReplyMasker
from ostiary.model cimport commands as c
from ostiary.model.commands cimport Order
from ostiary.model.decisions cimport Permit
from ostiary.model.proofs cimport Intended, Outcome, Recorded
from ostiary.protocols.http.messages cimport Heads
from ostiary.protocols.http.relay cimport HttpRelay
from ostiary.recording.recorder cimport Recorder
from ostiary.session.exchange cimport reply, request
from ostiary.session.path cimport Line


cdef class Exchange


cdef class Client:
    cpdef write(self, bytes data)
    cpdef bytes framed(self, HttpRelay relay, Recorded recorded, length, bint is_head, bint has_body)
    cpdef bytes ending(self, HttpRelay relay)
    cpdef over(self, Exchange exchange, bint goes_on)


cdef class Session:
    cdef public Journal journal
    cdef public Permit admitted
    cdef public object destination
    cdef public object connection
    cdef public object desk
    cdef public object counting
    cdef public str label
    cdef public Recorder recorder
    cdef public object restraint
    cdef public object granted
    cdef public object understanding
    cdef public Heads heads
    cdef public set under_way
    cdef public double used
    cdef public bytes token
    cdef public bint is_open
    cdef bytes _wire
    cdef bytes _lines
    cdef bytes _dressed
    cpdef ReplyMasker masker(self, HttpRelay relay)
    cpdef Pool pool(self, HttpRelay relay)
    cpdef ready(self)
    cpdef bytes lines(self, HttpRelay relay, bytes shown)
    @cython.locals(lines=bytes, dressed=bytes, end=Py_ssize_t)
    cpdef bytes dressed(self, HttpRelay relay, bytes wire, bytes shown)


cdef class Exchange(Listens):
    cdef public HttpRelay relay
    cdef public Session session
    cdef public object _loop
    cdef public ReplyMasker masker
    cdef public Line line
    cdef public Lane requests
    cdef public Client _client
    cdef public TargetLink _link
    cdef public bytes _sent
    cdef public bint _again
    cdef public bint _heard_target
    cdef public bint _head_sent
    cdef public bint _opened
    cdef public bint _continued
    cdef public bint _closed_outcome
    cdef public bint is_over
    cdef public bint broke_off
    cdef public double moved_at
    cdef public bint _crowded
    cdef public bint _target_is_full
    cdef public bint _ended
    cdef public bint _is_decided
    cdef public bint _denying
    cdef public object _ticket
    cdef public bint waits_for_target
    cpdef begin(self, bytes early=*)
    cpdef target_sent(self, bytes data)
    cpdef _answer(self, bytes data)
    cpdef clock(self)
    cpdef count(self, counting)
    cpdef tuple write(self, tuple decisions)
    @cython.locals(shown=bytes, link=TargetLink)
    cpdef bint run(self, Order order) except *
    @cython.locals(relay=HttpRelay, masker=ReplyMasker, out=list, each=Recorded, opens=bint)
    cpdef send(self, tuple recorded)
    cpdef _attach(self, TargetLink link, bytes wire, bytes shown)
    cpdef bint _may_run_twice(self) except *
    cpdef _request_over(self, failure)
    @cython.locals(link=TargetLink)
    cpdef _over(self, bint keeps, goes_on=*)
