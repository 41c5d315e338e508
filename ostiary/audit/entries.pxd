# Types of entries.py for the compiled line.

cdef class Encoder:
    cdef public object gw
    cdef public object boot
    cdef object _scrub
    cdef long long _second
    cdef object _stamp
    cdef dict _asked
    cdef dict _columns
    cdef dict _tags
    cpdef stamp(self, long long t)
    cpdef columns(self, columns)
    cpdef ending(self, status, tag)


cdef class SessionEntries:
    cdef Encoder _encoder
    cdef public object facts
    cdef object _full
    cdef object _lean
    cdef object _origin
    cdef object _session
    cdef object _stmt
    cdef object _end
    cdef dict _tags
    cpdef _asking(self, kind, operation, asked, entry_id, long long t, long long mono, stmt, params)
