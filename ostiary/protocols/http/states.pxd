# Types of states.py for the compiled line.
cimport cython

cdef list _FLAT


@cython.locals(row=cython.long, column=cython.long)
cpdef turn(phase, event)
