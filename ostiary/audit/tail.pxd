# Types of tail.py for the compiled line.
cimport cython

from ostiary.audit cimport disk, inline

cdef object _checksum
cdef bytes _STOP
cdef long long _DATA, _FIRST, _SECOND
cdef unsigned int _ONES, _POLYNOMIAL


cdef class Ring:
    cdef unsigned char[::1] _bytes
    cdef long long _size
    @cython.locals(at=cython.longlong, size=cython.longlong, first=cython.longlong)
    cpdef put(self, long long position, bytes piece)
    cpdef let_go(self)


@cython.final
cdef class Tail:
    cdef public object path
    cdef public int _fd
    cdef public object _memory
    cdef public object _view
    cdef public Ring ring
    cdef public long long size
    cdef public long long _mask
    cdef public int _slot
    cdef unsigned char[8] _header
    cdef unsigned char[::1] _notes
    cdef public long long _begun
    cdef public long long _index
    cdef public long long _position
    cdef public long long _drained
    cdef public long long seen
    cdef long long _seen_position
    cdef public long long room
    @cython.locals(position=cython.longlong, index=cython.longlong, length=cython.longlong, after=cython.longlong, checksum=cython.longlong,
                   byte=int)
    cpdef Py_ssize_t append(self, bytes entry, long long reserve=*) except? -2
    cpdef long long used(self)
    @cython.locals(index=cython.longlong, position=cython.longlong)
    cpdef long long look(self) noexcept nogil
    cpdef int save(self, int fd, long long at) noexcept nogil
    cpdef void settle(self) noexcept nogil
    @cython.locals(at=cython.longlong, check=cython.uint, value=cython.uint, byte=int, _=int)
    cpdef void drained(self, long long position, long long index) noexcept nogil
