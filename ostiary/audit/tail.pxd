# Types of tail.py for the compiled line.
cimport cython

cdef object _checksum, _pack
cdef bytes _STOP
cdef long long _DATA


@cython.final
cdef class Tail:
    cdef public object path
    cdef public int _fd
    cdef public object _memory
    cdef public object _view
    cdef public long long size
    cdef public long long _mask
    cdef public int _slot
    cdef public tuple head
    cdef public long long _drained
    cdef public long long room
    @cython.locals(position=cython.longlong, index=cython.longlong, length=cython.longlong, after=cython.longlong, at=cython.longlong,
                   stop=cython.longlong)
    cpdef Py_ssize_t append(self, bytes entry, long long reserve=*) except? -2
