# Types of ids.py for the compiled line.

cdef class Ids:
    cdef public object _random
    cdef public long long _millis
    cdef public object _prefix
    cdef public unsigned long long _counter
    cpdef _turn(self, long long millis)
