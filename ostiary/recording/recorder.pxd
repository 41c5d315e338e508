# Types of recorder.py for the compiled line.
cimport cython

from ostiary.model.proofs cimport Masked, Recorded
from ostiary.vault.payloads cimport PayloadStream

cdef object _RESULT


@cython.final
cdef class Recorder:
    cdef public PayloadStream stream
    cpdef Recorded record(self, Masked masked, long long t_us, entry_id)
