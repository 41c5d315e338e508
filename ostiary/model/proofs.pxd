# Types of proofs.py for the compiled line.
cimport cython

from ostiary.model.decisions cimport Permit, Refusal


cdef class _Value:
    pass


@cython.final
cdef class Intended(_Value):
    cdef readonly Permit permit
    cdef readonly object entry
    cdef readonly long long began


@cython.final
cdef class Denied(_Value):
    cdef readonly Refusal refusal
    cdef readonly object entry


@cython.final
cdef class Batch(_Value):
    cdef readonly object frames
    cdef readonly object content
    cdef readonly object plan
    cdef readonly long long rows
    cdef readonly bint strip
    cdef readonly object head
    cdef readonly object cut
    cdef readonly object data_class


@cython.final
cdef class Masked(_Value):
    cdef readonly object frames
    cdef readonly object content
    cdef readonly long long rows
    cdef readonly tuple counts


@cython.final
cdef class Recorded(_Value):
    cdef readonly object frames


@cython.final
cdef class Outcome(_Value):
    cdef readonly Intended intended
    cdef readonly object status
    cdef readonly object tag
    cdef readonly long long rows
    cdef readonly long long bytes
    cdef readonly object error
    cdef readonly object error_text
    cdef readonly tuple masked
    cdef readonly tuple columns
