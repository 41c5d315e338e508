# Types for literals.py when it is compiled.
cimport cython

cdef int _PLAIN, _WORD, _DIGIT, _DASH, _SLASH, _QUOTE, _NAME, _NEVER, _OPENS_COMMENT, _AMPERSAND, _APOSTROPHE, _BACKSLASH, LONGEST, LONGEST_NUMBER
cdef bytes _SORTS
cdef bytearray _ROOM


@cython.locals(end=Py_ssize_t, kept=Py_ssize_t, at=Py_ssize_t, begin=Py_ssize_t, size=Py_ssize_t, sort=int,
               raw=cython.p_uchar, sorts=cython.p_uchar, room=cython.p_uchar)
cpdef bytes plain_key(bytes text)
@cython.locals(begin=Py_ssize_t, end=Py_ssize_t, sort=int, raw=cython.p_uchar, sorts=cython.p_uchar)
cdef Py_ssize_t _run(bytes text, Py_ssize_t at, bint is_number) except? -2
cdef bint _is_unsafe(bytes text, Py_ssize_t at, int sort) except -1
@cython.locals(begin=Py_ssize_t, end=Py_ssize_t, quote=int, byte=int, is_ascii=bint)
cdef Py_ssize_t _quoted(bytes text, Py_ssize_t at, int sort) except -2
cdef bint _is_text(bytes part) except -1
