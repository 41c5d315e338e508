# Types of tail.py for the compiled line.

cdef class Tail:
    cdef public object path
    cdef object _fd
    cdef object _memory
    cdef object _view
    cdef public long long size
    cdef long long _mask
    cdef int _slot
    cdef public object head
    cdef public long long _drained
    cdef public long long room
    cpdef append(self, entry, long long reserve=*)
