# Types of results.py for the compiled line.
from ostiary.protocols.ssh.messages cimport data_head


cdef class Stretch:
    cdef public long long _code
    cdef public tuple _classes
    cdef public bint _detects
    cdef public bint _by_line
    cdef public bytes _context
    cdef public bytes _held
    cpdef flush(self, bytes typed)
    cdef _whole(self, data)
