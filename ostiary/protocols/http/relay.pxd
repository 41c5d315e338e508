# Types of relay.py for the compiled line.
cimport cython

from ostiary.model.commands cimport Order
from ostiary.model.operations cimport Operation
from ostiary.model.proofs cimport Intended, Masked, Outcome, Recorded
from ostiary.model.results cimport ReplyHead
from ostiary.protocols.http.decode cimport BodyReader, request_framing
from ostiary.protocols.http.encode cimport length_line, request_head
from ostiary.protocols.http.login cimport recorded_head
from ostiary.protocols.http.messages cimport Fields, Framing, RequestHead
from ostiary.protocols.http.operations cimport Judged, lines_passed_on, named_hop_by_hop
from ostiary.protocols.http.results cimport ReplyReader
from ostiary.protocols.http.states cimport turn


cdef class HttpRelay:
    cdef public RequestHead head
    cdef public object connection
    cdef public object phase
    cdef public Intended under
    cdef public ReplyReader reader
    cdef public bytes rest
    cdef public bint closes
    cdef public bint is_answered
    cdef public Judged _judged
    cdef public Framing _framing
    cdef public object _named
    cdef public list _held
    cdef public object _ticket
    cdef public object _socket
    cdef public long long _messages
    cdef public dict _counts
    cdef public long long _sent
    cdef public bint _chunked
    cdef public object _room
    cdef public object bug
    cdef public BodyReader body
    @cython.locals(fields=Fields, kept=tuple)
    cpdef _read(self, RequestHead head, understanding)
    cpdef _goes(self, event)
    cpdef bint is_ready(self) except *
    cpdef bint is_sent(self) except *
    cpdef bint is_open(self) except *
    cpdef bint takes_more(self) except *
    cpdef Operation operation(self)
    @cython.locals(fields=Fields, kept=tuple, judged=Judged, plain=bint)
    cpdef Operation _operation(self)
    cpdef _facts(self)
    @cython.locals(framing=Framing, head=RequestHead)
    cpdef bytes _wire(self, bytes body, bint lasting=*)
    cpdef Order order(self, Intended proof)
    cpdef results(self, bytes data)
    @cython.locals(turned=list)
    cpdef _turned(self, parts)
    cpdef _turn(self, part)
    @cython.locals(fields=Fields, kept=tuple, found=ReplyHead)
    cpdef ReplyHead _placed(self, ReplyHead part)
    cpdef masked(self, Masked masked)
    @cython.locals(head=bytes)
    cpdef bytes framed(self, Recorded recorded, length, bint is_head, bint has_body)
    @cython.locals(code=cython.int, failed=bint)
    cpdef Outcome outcome(self, status=*, error=*)
    cpdef bytes ending(self)
