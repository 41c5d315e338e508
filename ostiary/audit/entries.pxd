# Types of entries.py for the compiled line.

cdef class Encoder:
    cdef public object gw
    cdef public object boot
    cdef public object _scrub
    cdef public long long _second
    cdef public object _stamp
    cdef public dict _asked
    cdef public dict _columns
    cdef public dict _tags
    cpdef stamp(self, long long t)
    cpdef columns(self, columns)
    cpdef ending(self, status, tag)


cdef class SessionEntries:
    cdef public Encoder _encoder
    cdef public object facts
    cdef public object _full
    cdef public object _lean
    cdef public object _origin
    cdef public object _session
    cdef public object _stmt
    cdef public object _end
    cdef public dict _tags
    cpdef _asking(self, kind, operation, asked, entry_id, long long t, long long mono, kept)
