# Types of substitutes.py for Cython: the Python source is the only source.
cimport cython

cdef int _STAR

@cython.final
cdef class Substitute:
    cdef readonly int how
    cdef bytes key
    cdef readonly int family
    cdef readonly int number
    cdef readonly bint binary
    cdef readonly Py_ssize_t first
    cdef readonly Py_ssize_t last

    cpdef of(self, bytes value)
    cdef bytes hashed(self, bytes value)
    @cython.locals(c=int, made=int, at=Py_ssize_t, i=Py_ssize_t, stream=bytearray, out=bytearray, text=str)
    cdef bytes token(self, bytes value)
    @cython.locals(text=str, first=Py_ssize_t, last=Py_ssize_t)
    cdef bytes partial(self, bytes value)
    cdef of_number(self, bytes value)

cdef int _same_kind(int c, int chance) noexcept
cdef int _next(int c) noexcept
