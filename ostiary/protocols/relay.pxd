# Types of relay.py for the compiled line.
cimport cython

from ostiary.model.operations cimport Operation
from ostiary.model.proofs cimport Intended


cdef class _Value:
    pass


@cython.final
cdef class Ask(_Value):
    cdef readonly Operation operation
    cdef readonly bint takes_effect


@cython.final
cdef class Streamed(_Value):
    cdef readonly Intended under
    cdef readonly object data
    cdef readonly bint ends
