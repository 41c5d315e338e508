# Types of secured.py for the compiled line.
cimport cython


cdef class Secured:
    cdef public object inner
    cdef readonly object up
    cdef object _incoming
    cdef object _outgoing
    cdef object _tls
    cdef object _records
    cdef object _tcp
    cdef object _why
    cdef bint _is_up
    cdef bint _paused
    cdef bint _ends
    cdef bint _shut
    @cython.locals(data=bytes)
    cdef _read(self)
    @cython.locals(data=bytes)
    cdef _send(self)
    cdef _shake(self)
    cdef _fail(self, object why)
    cdef _lose(self, object why)
    cdef _say_goodbye(self)
    cpdef write(self, object data)
