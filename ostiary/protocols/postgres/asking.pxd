# Types of asking.py for the compiled line.

from ostiary.protocols.postgres.conversation cimport Conversation


cdef class Asking:
    cdef Conversation _talk
    cdef object _understanding
    cdef bint _describes
    cdef object _inbox
    cdef object _todo
    cdef list _outbox
    cdef list _streamed
    cdef list _answers
    cdef object _slot
    cdef bint _skipping
    cdef int _segment
    cdef object _oversize
    cdef public bint stalled
    cdef public bint leaving
    cpdef _query(self, buf, run, snapshot)
    cpdef _other(self, wire, snapshot)
    cpdef _pass(self, wire, turn)
    cpdef decided(self, ask, decision)
    cpdef order(self, proofs)
    cpdef _send_query(self, proof, effects)
    cpdef _send_extended(self, item, proof)
    cpdef _send_pass(self, item, wires)
    cpdef _is_sync(self, item)
