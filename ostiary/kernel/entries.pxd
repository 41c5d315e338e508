# Types for entries.py when it is compiled. See entries.py.
cimport cython


cdef object _checksum
cdef bytes _ID, _AFTER_ID, _INTENT, _OUTCOME, _START, _END, _REF, _AFTER_REF, _SESSION, _AFTER_SESSION
cdef Py_ssize_t _UUID, _LONGEST
cdef tuple _PAIRS

@cython.locals(end=Py_ssize_t, b0=Py_ssize_t, b1=Py_ssize_t, b2=Py_ssize_t, b3=Py_ssize_t, length=Py_ssize_t, said=Py_ssize_t, entry=bytes, found=list)
cpdef tuple cut(bytes buf, Py_ssize_t at, Py_ssize_t count, Py_ssize_t largest)
@cython.locals(pieces=list, length=Py_ssize_t, entry=bytes)
cpdef bytes bundle(list entries)
@cython.locals(at=Py_ssize_t, kind=Py_ssize_t, name=str, ref=str, session=str, is_start=bint)
cpdef see(bytes entry, dict intents, dict sessions)
@cython.locals(i=Py_ssize_t, byte=int)
cdef str _uuid(bytes entry, Py_ssize_t at, bytes before)
@cython.locals(name=str)
cdef str _named(bytes entry, Py_ssize_t at, bytes before, bytes after)
