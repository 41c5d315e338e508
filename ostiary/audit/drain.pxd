# Types of drain.py for the compiled line.
cimport cython

from ostiary.audit cimport disk, inline
from ostiary.audit.tail cimport Tail

cdef object _PWRITEV, _FDATASYNC
cdef int _NOTHING, _LOOK, _TELL, _UNWRITTEN, _UNSYNCED


@cython.final
cdef class Place:
    cdef public int fd
    cdef public long long offset
    cdef public long long limit
    cdef public long long index
    cdef public bytes path
    cdef const char *_name
    cdef public unsigned long long device
    cdef public unsigned long long number
    @cython.locals(name=bytes)
    cpdef move(self, int fd, object path, long long offset)
    @cython.locals(held=disk.Held, found=bint)
    cpdef bint stands(self)
    cdef bint is_there(self) noexcept nogil


@cython.final
cdef class Drain:
    cdef public long long durable
    cdef public double busy_since
    cdef public double look_at
    cdef public long long tell_at
    cdef public bint careful
    cdef public int error
    cdef public bint plain
    cdef public bint waiting
    cdef public bint beside
    cdef public bint rung
    cdef Tail _tail
    cdef Place _place
    cdef int _bell
    cpdef ring(self, bint plain)
    @cython.locals(held=disk.Held, why=int)
    cpdef int wait(self)
    @cython.locals(held=disk.Held, why=int)
    cpdef int bring(self)
    @cython.locals(why=int)
    cdef int _serve(self) noexcept nogil
    @cython.locals(size=cython.longlong, at=cython.longlong, now=double)
    cdef int _bring(self) noexcept nogil
