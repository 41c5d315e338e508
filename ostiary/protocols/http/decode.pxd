# Types of decode.py for the compiled line.
cimport cython

from ostiary.kernel.fields cimport read as read_fields
from ostiary.protocols.http.messages cimport Fields, Framing, Heads, RequestHead, ResponseHead


@cython.locals(found=tuple, headers=tuple, names=tuple)
cdef Fields _fields(bytes block)
@cython.locals(end=Py_ssize_t)
cdef Py_ssize_t _head(data, Py_ssize_t limit) except -2
@cython.locals(end=Py_ssize_t, raw=bytes, block=bytes, fields=Fields)
cpdef RequestHead read_request(data, RequestHead last=*)
@cython.locals(end=Py_ssize_t, raw=bytes, head=ResponseHead)
cpdef ResponseHead read_response(bytes data, Heads known=*)
cdef Framing _declared(Fields fields, int minor)
@cython.locals(codings=tuple, lengths=tuple)
cdef Framing _says(Fields fields, int minor)
cpdef Framing request_framing(RequestHead head)
@cython.locals(declared=Framing)
cpdef Framing response_framing(ResponseHead head, bytes method)


@cython.final
cdef class BodyReader:
    cdef Framing _framing
    cdef bytes _held
    cdef long long _left
    cdef str _state
    cdef readonly bint is_done
    cdef readonly bytes rest
    cdef readonly long long size
    cpdef tuple feed(self, bytes data)
    @cython.locals(piece=bytes)
    cpdef list take(self, bytes data)
