# Types of relay.py for the compiled line.
cimport cython

from ostiary.model.commands cimport Order
from ostiary.model.operations cimport Operation
from ostiary.model.proofs cimport Intended, Masked, Outcome, Recorded
from ostiary.model.results cimport ReplyHead
from ostiary.protocols.http.decode cimport BodyReader, request_framing
from ostiary.protocols.http.messages cimport Fields, RequestHead
from ostiary.protocols.http.results cimport ReplyReader


cdef class HttpRelay:
    cdef public RequestHead head
    cdef public object connection
    cdef public object phase
    cdef public Intended under
    cdef public ReplyReader reader
    cdef public bytes rest
    cdef public bint closes
    cdef public object _judged
    cdef public object _framing
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
    cpdef Operation operation(self)
    cpdef Operation _operation(self)
    cpdef _facts(self)
    cpdef Order order(self, Intended proof)
    cpdef results(self, bytes data)
    cpdef _turned(self, parts)
    cpdef _turn(self, part)
    @cython.locals(fields=Fields, kept=tuple, found=ReplyHead)
    cpdef ReplyHead _placed(self, ReplyHead part)
    cpdef masked(self, Masked masked)
    cpdef Outcome outcome(self, status=*, error=*)
    cpdef bytes ending(self)
