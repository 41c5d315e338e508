# Types of counts.py for the compiled line.
cimport cython


@cython.final
cdef class Counts:
    cdef dict _found
    cpdef bint any(self)
    cpdef tuple taken(self)
