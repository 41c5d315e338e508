# Types of mask.py for the compiled line.
cimport cython

from ostiary.model.proofs cimport Batch, Masked

cdef object _CONTROL, _FILE


cpdef Masked mask(clear, Batch batch, detect)
