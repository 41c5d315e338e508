# Types of drafts.py for the compiled line.
cimport cython

from ostiary.audit cimport inline

cdef Py_ssize_t _ROOM


@cython.final
cdef class Draft:
    cdef unsigned char[16384] _room
    cdef readonly Py_ssize_t size
    cpdef void begin(self, bytes piece) noexcept
    @cython.locals(at=Py_ssize_t, end=Py_ssize_t)
    cpdef void lay(self, bytes piece) noexcept
    @cython.locals(count=int, rest=cython.ulonglong)
    cpdef void number(self, long long value) noexcept
    @cython.locals(at=Py_ssize_t, _=int)
    cpdef void digits(self, long long value, int count) noexcept
    cpdef bytes taken(self)
