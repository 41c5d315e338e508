# Types of asking.py for the compiled line.

from ostiary.protocols.postgres.conversation cimport Conversation


cdef class Asking:
    cdef public Conversation _talk
    cdef public object _understanding
    cdef public bint _describes
    cdef public object _inbox
    cdef public object _todo
    cdef public list _outbox
    cdef public list _streamed
    cdef public list _answers
    cdef public object _slot
    cdef public bint _skipping
    cdef public int _segment
    cdef public object _oversize
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
