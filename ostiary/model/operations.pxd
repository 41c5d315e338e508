# Types of operations.py for the compiled line.
cimport cython



cdef class _Value:
    pass


@cython.final
cdef class Parameters(_Value):
    cdef readonly object formats
    cdef readonly object types
    cdef readonly object values


@cython.final
cdef class Operation(_Value):
    cdef readonly object facts
    cdef readonly object statement
    cdef readonly Parameters parameters
    cdef readonly object wire
    cdef readonly object asked
