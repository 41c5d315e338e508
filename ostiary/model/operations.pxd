# Types of operations.py for the compiled line.
cimport cython

from ostiary.model.nouns cimport Noun


@cython.final
cdef class Parameters(Noun):
    cdef readonly object formats
    cdef readonly object types
    cdef readonly object values


@cython.final
cdef class Operation(Noun):
    cdef readonly object facts
    cdef readonly object statement
    cdef readonly Parameters parameters
    cdef readonly object wire
    cdef readonly object asked
