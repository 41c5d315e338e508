# Types of journal.py for the compiled line.

from ostiary.audit.ids cimport Ids


cdef class Written:
    cdef public bint given_up
    cdef public long long index
    cdef public object proofs
    cdef public list stored
    cdef public bint stream_first


cdef class Journal:
    cdef public object _writer
    cdef public object _entries
    cdef public Ids _ids
    cdef public object _open_stream
    cdef public bint is_full
    cdef public object session
    cdef public bint strict
    cdef public long long began
    cdef public object _start
    cdef public long long _operations
    cdef public object stream
    cpdef append(self, Written written)
    cpdef proofs(self, Written written)
    cpdef outcomes(self, outcomes)
