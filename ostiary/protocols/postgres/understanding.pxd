# Types of understanding.py for the compiled line.

cdef class Knowledge:
    cdef public object cache
    cdef object _protect
    cdef object _protected
    cdef object _version
    cpdef protected(self, snapshot)


cdef class Understanding:
    cdef bint _in_block
    cdef Knowledge _knowledge
    cdef object _snapshot
    cdef object _view
    cpdef look(self, sql, snapshot, parameter_types=*)
