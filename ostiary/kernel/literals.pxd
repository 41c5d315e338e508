# Types for literals.py when it is compiled.
cimport cython

cdef int _PLAIN, _WORD, _DIGIT, _DASH, _SLASH, _QUOTE, _NAME, _NEVER, _OPENS_COMMENT, _AMPERSAND
cdef bytes _SORTS, _APOSTROPHE, _QUOTATION


@cython.locals(end=Py_ssize_t, kept=Py_ssize_t, at=Py_ssize_t, begin=Py_ssize_t, sort=int, pieces=list)
cpdef bytes plain_key(bytes text)
@cython.locals(end=Py_ssize_t, sort=int)
cdef Py_ssize_t _run(bytes text, Py_ssize_t at, bint is_number) except? -2
cdef bint _is_unsafe(bytes text, Py_ssize_t at, int sort) except -1
@cython.locals(begin=Py_ssize_t, quote=bytes)
cdef Py_ssize_t _quoted(bytes text, Py_ssize_t at, int sort) except -2
cdef bint _is_plain(bytes part) except -1
