# Types of decisions.py for the compiled line.
cimport cython

from ostiary.model.nouns cimport Noun
from ostiary.model.operations cimport Operation


@cython.final
cdef class Permit(Noun):
    cdef readonly object who
    cdef readonly Operation operation
    cdef readonly object grounds


@cython.final
cdef class Refusal(Noun):
    cdef readonly object who
    cdef readonly Operation operation
    cdef readonly object grounds


@cython.final
cdef class NeedsApproval(Noun):
    cdef readonly object who
    cdef readonly Operation operation
    cdef readonly object grounds
    cdef readonly object approvers
