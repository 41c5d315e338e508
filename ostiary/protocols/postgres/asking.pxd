# Types of asking.py for the compiled line.
cimport cython

from ostiary.kernel.frames cimport Inbox
from ostiary.model.commands cimport Order
from ostiary.model.decisions cimport Permit, Refusal
from ostiary.model.nouns cimport Noun
from ostiary.model.operations cimport Operation, Parameters
from ostiary.model.proofs cimport Batch, Denied, Intended
from ostiary.protocols.postgres.conversation cimport Conversation, Portal, Statement, Turn, Work
from ostiary.protocols.postgres.understand.judge cimport Understood
from ostiary.protocols.postgres.understanding cimport Understanding
from ostiary.protocols.relay cimport Ask, Streamed

cdef int _QUERY, _PARSE, _BIND, _DESCRIBE_STATEMENT, _DESCRIBE_PORTAL, _EXECUTE, _CLOSE, _SYNC
cdef int QUERY, SYNC, EXECUTE, DESCRIBE, BIND, FUNCTION_CALL, COPY_DATA, COPY_DONE, COPY_FAIL


@cython.final
cdef class _Slot(Noun):
    cdef readonly int kind
    cdef readonly object name
    cdef readonly Statement statement
    cdef readonly object formats
    cdef readonly Portal portal
    cdef readonly bint extended
    cdef readonly tuple effects
    cpdef _Slot with_effects(self, tuple effects)


@cython.final
cdef class _Pass(Noun):
    cdef readonly bytes wire
    cdef readonly Turn turn


cdef _Slot _QUERY_SLOT


@cython.final
cdef class Asking:
    cdef public Conversation _talk
    cdef public Understanding _understanding
    cdef public bint _describes
    cdef public bytes _comment
    cdef public Inbox _inbox
    cdef public object _todo
    cdef public list _outbox
    cdef public list _streamed
    cdef public list _answers
    cdef public _Slot _slot
    cdef public list _obeyed
    cdef public bint _skipping
    cdef public int _segment
    cdef public object _oversize
    cdef public bint stalled
    cdef public bint leaving
    @cython.locals(item=tuple, buf=bytes, run=tuple, tag=int, ask=Ask)
    cpdef Ask _next(self, snapshot)
    @cython.locals(start=Py_ssize_t, end=Py_ssize_t, wire=bytes, sql=bytes, understood=Understood)
    cpdef Ask _query(self, bytes buf, tuple run, snapshot)
    @cython.locals(tag=int)
    cpdef Ask _other(self, bytes wire, snapshot)
    cpdef Ask _parse(self, bytes wire, message, snapshot)
    @cython.locals(talk=Conversation, statement=Statement, understood=Understood)
    cpdef Ask _bind(self, bytes wire, message, snapshot)
    @cython.locals(portal=Portal, work=Work, turn=Turn, was=Operation)
    cpdef Ask _execute(self, bytes wire, message)
    cpdef Portal _portal(self, name)
    @cython.locals(turn=Turn)
    cpdef _describe(self, bytes wire, message)
    cpdef _pass(self, bytes wire, Turn turn)
    @cython.locals(slot=_Slot, turn=Turn)
    cpdef bint decided(self, Ask ask, decision) except *
    @cython.locals(outbox=list, wires=list, intended=list, used=Py_ssize_t)
    cpdef Order order(self, tuple proofs)
    cpdef bytes _send_query(self, Intended proof, tuple effects)
    @cython.locals(talk=Conversation, work=Work, turn=Turn)
    cpdef bytes _send_extended(self, _Slot item, Intended proof)
    @cython.locals(turn=Turn)
    cpdef _send_pass(self, _Pass item, list wires)
    cpdef bint _is_sync(self, item) except *
