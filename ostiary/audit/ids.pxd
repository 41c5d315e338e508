# Types of ids.py for the compiled line.
cimport cython

cdef tuple _HEX
cdef object _now


@cython.final
cdef class Ids:
    cdef public object _random
    cdef public long long _millis
    cdef public str _stem
    cdef public str _prefix
    cdef public unsigned long long _counter
    @cython.locals(millis=cython.longlong)
    cpdef str next(self, now=*)
    @cython.locals(rand_a=cython.longlong, variant=cython.longlong)
    cpdef _turn(self, long long millis)
