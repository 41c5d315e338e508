# Types of results.py for the compiled line.
cimport cython

from ostiary.model.results cimport ReplyHead
from ostiary.protocols.http.decode cimport BodyReader, read_response, response_framing
from ostiary.protocols.http.messages cimport Fields, Framing, Heads, ResponseHead


@cython.final
cdef class ReplyReader:
    cdef BodyReader _body
    cdef bytes _held
    cdef int _interim
    cdef bytes _method
    cdef public Heads heads
    cdef readonly Fields fields
    cdef readonly bint is_done
    cdef readonly bint keeps
    cdef public object socket
    cdef readonly int status
    @cython.locals(parts=list, body=BodyReader, head=ResponseHead, framing=Framing)
    cpdef feed(self, bytes data)
    @cython.locals(kept=tuple, found=ReplyHead, made=ReplyHead)
    cdef ReplyHead _begin(self, ResponseHead head, Framing framing)
    cdef _length(self, ResponseHead head, Framing framing)


@cython.locals(fields=Fields, kept=list, header=tuple)
cpdef tuple end_to_end(ResponseHead head)
