# Types of decisions.py for the compiled line.
cimport cython

from ostiary.model.operations cimport Operation


cdef class _Value:
    pass


@cython.final
cdef class Permit(_Value):
    cdef readonly object who
    cdef readonly Operation operation
    cdef readonly object grounds


@cython.final
cdef class Refusal(_Value):
    cdef readonly object who
    cdef readonly Operation operation
    cdef readonly object grounds


@cython.final
cdef class NeedsApproval(_Value):
    cdef readonly object who
    cdef readonly Operation operation
    cdef readonly object grounds
    cdef readonly object approvers
