# Types of results.py for the compiled line.
cimport cython

from ostiary.model.nouns cimport Noun


@cython.final
cdef class ReplyHead(Noun):
    cdef readonly int status
    cdef readonly tuple headers
    cdef readonly bint has_body
    cdef readonly object length
    cdef readonly bint of_read
