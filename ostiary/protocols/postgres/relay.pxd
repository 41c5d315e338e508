# Types of relay.py for the compiled line.

from ostiary.protocols.postgres.answering cimport Answering
from ostiary.protocols.postgres.asking cimport Asking
from ostiary.protocols.postgres.conversation cimport Conversation


cdef class PostgresRelay:
    cdef public Answering _answering
    cdef public Asking _asking
    cdef public object _changes
    cdef public Conversation _talk
    cdef public object _understanding
    cdef public bint _watched
    cpdef decided(self, ask, decision)
    cpdef order(self, proofs)
    cpdef masked(self, masked)
    cpdef outcomes(self)
    cpdef outdated(self)
