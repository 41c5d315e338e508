# Types of decode.py for the compiled line.
cimport cython

cdef int BODY


@cython.locals(length=cython.longlong)
cdef _frame(dict table, bytes frame)
cpdef frontend(bytes frame)
cpdef backend(bytes frame)
@cython.locals(nul=Py_ssize_t, after=Py_ssize_t)
cpdef _bind(bytes frame)
@cython.locals(count=Py_ssize_t, end=Py_ssize_t, values=list, length=cython.longlong)
cdef tuple _values(bytes frame, Py_ssize_t at, what)
cdef tuple _formats(bytes frame, Py_ssize_t at, what)
cdef tuple _int16(bytes frame, Py_ssize_t at, what)
cdef _end(bytes frame, Py_ssize_t at, what)
cdef tuple _string(bytes frame, Py_ssize_t at, what)
