# Types of holder.py for the compiled line.


cdef class Catalogue:
    cdef public object _connection
    cdef public object _open_link
    cdef public object _link
    cdef public object _lock
    cdef public object _known
    cdef public object _snapshot
    cdef public double _looked
    cdef public double _limit
    cdef public long long _generation
    cdef public long long _read_generation
    cdef public object _spawn
    cdef public bint _looking
    cdef public object _shared
    cpdef long long _now(self) except? -1
    cpdef current(self)
