# Types of nouns.py for the compiled line.

cdef class Noun:
    pass
