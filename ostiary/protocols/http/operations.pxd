# Types of operations.py for the compiled line.
cimport cython

from ostiary.model.nouns cimport Noun
from ostiary.protocols.http.messages cimport Fields, RequestHead


@cython.final
cdef class Judged(Noun):
    cdef readonly object target
    cdef readonly object facts
    cdef readonly bint wants_body
    cdef readonly str below
    cdef readonly bytes place


cpdef named_hop_by_hop(Fields fields)
@cython.locals(fields=Fields, kept=tuple, lines=bytes)
cpdef bytes lines_passed_on(RequestHead head, connection, named, bint reading)
