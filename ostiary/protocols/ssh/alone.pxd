# Types of alone.py for the compiled line.


cdef class Alone:
    pass
