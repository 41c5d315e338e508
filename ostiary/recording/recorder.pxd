# Types of recorder.py for the compiled line.
cimport cython

from ostiary.model.proofs cimport Masked, Recorded


@cython.final
cdef class Recorder:
    cdef public object stream
    cpdef Recorded record(self, Masked masked, long long t_us, entry_id)
