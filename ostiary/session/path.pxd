# Types of path.py for the compiled line.

cdef class Line:
    cdef public object admitted
    cdef public object bounds
    cdef public object connection
    cdef public object demands
    cdef public object granted
    cdef public object policies
    cdef public object relay
    cdef public object restraint
    cdef public object said
    cdef public double waits_inside
    cdef public object who
