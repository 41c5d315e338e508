# Types of ids.py for the compiled line.

cdef class Ids:
    cdef object _random
    cdef long long _millis
    cdef object _prefix
    cdef unsigned long long _counter
    cpdef _turn(self, long long millis)
