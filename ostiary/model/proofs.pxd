# Types of proofs.py for the compiled line.
cimport cython

from ostiary.model.decisions cimport Permit, Refusal
from ostiary.model.nouns cimport Noun


@cython.final
cdef class Intended(Noun):
    cdef readonly Permit permit
    cdef readonly object entry
    cdef readonly long long began


@cython.final
cdef class Denied(Noun):
    cdef readonly Refusal refusal
    cdef readonly object entry


@cython.final
cdef class Batch(Noun):
    cdef readonly object frames
    cdef readonly object content
    cdef readonly object plan
    cdef readonly long long rows
    cdef readonly bint strip
    cdef readonly object head
    cdef readonly object cut
    cdef readonly object data_class


@cython.final
cdef class Masked(Noun):
    cdef readonly object frames
    cdef readonly object content
    cdef readonly long long rows
    cdef readonly tuple counts


@cython.final
cdef class Recorded(Noun):
    cdef readonly object frames


@cython.final
cdef class Outcome(Noun):
    cdef readonly Intended intended
    cdef readonly object status
    cdef readonly object tag
    cdef readonly long long rows
    cdef readonly long long bytes
    cdef readonly object error
    cdef readonly object error_text
    cdef readonly tuple masked
    cdef readonly tuple columns
