# Types of messages.py for the compiled line.
cimport cython

from ostiary.model.nouns cimport Noun


cdef class ResponseHead


@cython.final
cdef class Framing(Noun):
    cdef readonly object length
    cdef readonly bint chunked
    cdef readonly bint is_empty
    cdef readonly bint until_close


@cython.final
cdef class Fields:
    cdef readonly tuple headers
    cdef readonly bytes block
    cdef tuple _names
    cdef readonly frozenset options
    cdef public object host
    cdef public tuple passed
    cdef public bytes shown
    cdef public object token
    cdef public tuple service
    cdef public bint asks_no_socket
    cdef public object framing
    cdef public tuple end_to_end
    cdef public tuple placed
    cdef public tuple reply
    cdef public tuple judged
    cdef public tuple operation
    @cython.locals(found=tuple, at=Py_ssize_t, each=bytes)
    cpdef tuple all(self, bytes name)


@cython.final
cdef class Heads:
    cdef dict _known
    cdef readonly bytes raw
    cdef readonly ResponseHead last
    cpdef ResponseHead find(self, bytes raw)
    cpdef keep(self, bytes raw, ResponseHead head)


@cython.final
cdef class RequestHead(Noun):
    cdef readonly Fields fields
    cdef readonly tuple headers
    cdef readonly bytes method
    cdef readonly int minor
    cdef readonly bint persists
    cdef readonly bytes raw
    cdef readonly bytes target


@cython.final
cdef class ResponseHead(Noun):
    cdef readonly Fields fields
    cdef readonly tuple headers
    cdef readonly int minor
    cdef readonly bint persists
    cdef readonly Py_ssize_t size
    cdef readonly int status
