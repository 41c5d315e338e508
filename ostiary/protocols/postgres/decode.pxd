# Types of decode.py for the compiled line.
cimport cython

cdef int BODY, MAX_NAME
cdef tuple _ALL_TEXT, _ALL_BINARY
cdef bytes _NAMED


@cython.final
cdef class BindFields:
    cdef readonly bytes portal
    cdef readonly bytes statement
    cdef readonly tuple parameter_formats
    cdef readonly tuple parameters
    cdef readonly tuple result_formats


@cython.final
cdef class ParseFields:
    cdef readonly bytes name
    cdef readonly bytes statement
    cdef readonly tuple parameter_types


@cython.locals(length=cython.longlong)
cdef _frame(dict table, bytes frame)
cpdef frontend(bytes frame)
cpdef backend(bytes frame)
@cython.locals(said=ParseFields, raw=cython.p_char, nul=Py_ssize_t, at=Py_ssize_t, count=Py_ssize_t)
cpdef ParseFields parse_fields(bytes frame)
@cython.locals(said=BindFields, raw=cython.p_char, nul=Py_ssize_t, at=Py_ssize_t, count=Py_ssize_t, values=list)
cpdef BindFields bind_fields(bytes frame)
@cython.locals(raw=cython.p_char, nul=Py_ssize_t)
cpdef bytes named(bytes frame, what)
@cython.locals(raw=cython.p_char, nul=Py_ssize_t)
cpdef bytes executed(bytes frame)
@cython.locals(raw=cython.p_char, count=Py_ssize_t, end=Py_ssize_t, length=cython.longlong)
cdef Py_ssize_t _values(bytes frame, Py_ssize_t at, what, list values) except -1
@cython.locals(count=Py_ssize_t)
cdef tuple _formats(bytes frame, Py_ssize_t at, what)
cdef Py_ssize_t _count(bytes frame, Py_ssize_t at, what) except -1
cdef tuple _codes(bytes frame, Py_ssize_t at, Py_ssize_t count, what)
cdef tuple _int16(bytes frame, Py_ssize_t at, what)
cdef _end(bytes frame, Py_ssize_t at, what)
cdef tuple _string(bytes frame, Py_ssize_t at, what)
@cython.locals(stop=Py_ssize_t)
cdef Py_ssize_t _nul(bytes frame, Py_ssize_t at, what) except -1
