# Types of relay.py for the compiled line.
cimport cython

from ostiary.model.nouns cimport Noun
from ostiary.model.operations cimport Operation
from ostiary.model.proofs cimport Intended


@cython.final
cdef class Ask(Noun):
    cdef readonly Operation operation
    cdef readonly bint takes_effect


@cython.final
cdef class Streamed(Noun):
    cdef readonly Intended under
    cdef readonly object data
    cdef readonly bint ends
