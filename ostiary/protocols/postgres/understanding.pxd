# Types of understanding.py for the compiled line.

cdef class Knowledge:
    cdef public object cache
    cdef public object rewritten
    cdef public object _protect
    cdef public object _rules
    cdef public object _protected
    cpdef protected(self, snapshot)


cdef class Understanding:
    cdef public bint _in_block
    cdef public bint _is_newer
    cdef public Knowledge _knowledge
    cdef public object _snapshot
    cdef public object _view
    cpdef look(self, sql, snapshot, parameter_types=*)
