# Types for entries.py when it is compiled. See entries.py.
cimport cython


cdef object _checksum

@cython.locals(end=Py_ssize_t, b0=Py_ssize_t, b1=Py_ssize_t, b2=Py_ssize_t, b3=Py_ssize_t, length=Py_ssize_t, said=Py_ssize_t, entry=bytes, found=list)
cpdef tuple cut(bytes buf, Py_ssize_t at, Py_ssize_t count, Py_ssize_t largest)
