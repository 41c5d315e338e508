# Types of relay.py for the compiled line.
cimport cython

from ostiary.model.commands cimport Order
from ostiary.model.proofs cimport Masked
from ostiary.protocols.postgres.answering cimport Answering
from ostiary.protocols.postgres.asking cimport Asking
from ostiary.protocols.postgres.conversation cimport Conversation
from ostiary.protocols.postgres.understanding cimport Understanding
from ostiary.protocols.relay cimport Ask, Relay


cdef class PostgresRelay(Relay):
    cdef public Answering _answering
    cdef public Asking _asking
    cdef public object _changes
    cdef public Conversation _talk
    cdef public Understanding _understanding
    cdef public bint _watched
    cpdef asks(self, bytes data, snapshot)
    cpdef streamed(self)
    cpdef answers(self)
    cpdef results(self, bytes data)
    cpdef bint decided(self, Ask ask, decision) except *
    cpdef Order order(self, tuple proofs)
    cpdef masked(self, Masked masked)
    cpdef tuple outcomes(self)
    cpdef bint outdated(self) except *
