# Types of policies.py for the compiled line.
cimport cython

from ostiary.model.nouns cimport Noun


@cython.final
cdef class Verdict(Noun):
    cdef readonly bint permitted
    cdef readonly object grounds
    cdef readonly object approvers


@cython.final
cdef class Policies:
    cdef readonly dict _old
    cdef readonly dict _young
    cdef dict _sets
    cdef object _slicer
    cdef dict _watching
    cdef readonly dict by_id
    cdef readonly object digest
    cdef readonly bint observes
    cdef readonly bint reads_client
    cdef readonly bint reads_clock
    cdef readonly bint unmasks
    cpdef Verdict lookup(self, tuple key)
