# Types of concealed.py for the compiled line.
cimport cython


@cython.final
cdef class Concealer:
    cdef tuple _needles
    cdef bytes _held
    cdef long long _found
    cdef bint _opens
    cdef bint _part
