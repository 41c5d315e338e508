# Types for literals.py when it is compiled.
cimport cython

cdef int _PLAIN, _WORD, _DIGIT, _DASH, _SLASH, _NEVER, _OPENS_COMMENT
cdef bytes _SORTS


@cython.locals(end=Py_ssize_t, kept=Py_ssize_t, at=Py_ssize_t, begin=Py_ssize_t, sort=int, is_number=bint, pieces=list)
cpdef bytes plain_key(bytes text)
