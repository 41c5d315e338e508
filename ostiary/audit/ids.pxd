# Types of ids.py for the compiled line.
cimport cython

from ostiary.audit cimport inline

cdef int _COUNTER_BITS, _POOL, _NOISE


@cython.final
cdef class Ids:
    cdef public object _random
    cdef public bytes _pool
    cdef public Py_ssize_t _drawn
    cdef public long long _millis
    cdef public long long _counter
    cdef unsigned char[36] _text
    cpdef str next(self, now=*)
    @cython.locals(millis=cython.longlong)
    cpdef str at(self, long long now)
    @cython.locals(noise=bytes, at=Py_ssize_t, more=Py_ssize_t)
    cdef _turn(self, long long millis)
    @cython.locals(place=int, digit=int)
    cdef void _write(self, int at, int digits, long long value) noexcept
