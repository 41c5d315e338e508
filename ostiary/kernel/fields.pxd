# Types for fields.py when it is compiled. See fields.py.
cimport cython

cdef int _TAB, _LF, _CR, _SPACE, _COLON, _DELETE

cpdef tuple read(bytes block, Py_ssize_t most)

@cython.locals(headers=list, names=list, at=Py_ssize_t, end=Py_ssize_t, start=Py_ssize_t, colon=Py_ssize_t, begin=Py_ssize_t,
               stop=Py_ssize_t, name=bytes)
cdef tuple _walk(bytes block, const unsigned char[::1] data, Py_ssize_t most)

cdef bint is_token(int char) noexcept
