# Types of asking.py for the compiled line.
cimport cython

from ostiary.kernel.frames cimport Inbox, Run
from ostiary.model.commands cimport Order
from ostiary.model.decisions cimport Permit, Refusal
from ostiary.model.operations cimport Operation, Parameters
from ostiary.model.proofs cimport Batch, Denied, Intended
from ostiary.protocols.postgres cimport decode
from ostiary.protocols.postgres.conversation cimport Conversation, Portal, Statement, Turn, Work, opened
from ostiary.protocols.postgres.decode cimport BindFields, ParseFields
from ostiary.protocols.postgres.understand.judge cimport Understood
from ostiary.protocols.postgres.understanding cimport Understanding
from ostiary.protocols.relay cimport Ask, Streamed

cdef int _QUERY, _PARSE, _BIND, _DESCRIBE_STATEMENT, _DESCRIBE_PORTAL, _EXECUTE, _CLOSE, _SYNC
cdef int QUERY, SYNC, EXECUTE, DESCRIBE, BIND, PARSE, FUNCTION_CALL, COPY_DATA, COPY_DONE, COPY_FAIL, BARE, STATEMENT
cdef bytes _TAKEN
cdef list _NO_RUNS


@cython.final
cdef class _Slot:
    cdef readonly int kind
    cdef readonly bytes name
    cdef readonly Statement statement
    cdef readonly tuple formats
    cdef readonly Portal portal
    cdef readonly bint extended
    cdef readonly tuple effects
    cpdef _Slot with_effects(self, tuple effects)


@cython.locals(slot=_Slot)
cdef _Slot _slot(int kind, bytes name, Statement statement, tuple formats, Portal portal, bint extended, tuple effects=*)


@cython.final
cdef class _Pass:
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
    cdef public bytes _buf
    cdef public list _runs
    cdef public Py_ssize_t _at
    cdef public object _later
    cdef public BindFields _said
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
    @cython.locals(buf=bytes, runs=list, ask=Ask)
    cpdef take(self, bytes data, snapshot)
    @cython.locals(run=Run, tag=int, ask=Ask)
    cpdef Ask _next(self, snapshot)
    @cython.locals(raw=cython.p_char, start=Py_ssize_t, end=Py_ssize_t)
    cpdef bytes _wire(self, Run run)
    @cython.locals(raw=cython.p_char, end=Py_ssize_t, sql=bytes, understood=Understood)
    cpdef Ask _query(self, bytes wire, snapshot)
    cpdef Ask _other(self, int tag, bytes wire, snapshot)
    @cython.locals(talk=Conversation, said=ParseFields, statement=Statement, understood=Understood)
    cpdef Ask _parse(self, bytes wire, snapshot)
    @cython.locals(wire=bytes, said=BindFields, statement=Statement)
    cpdef bint _is_unsettled(self, Run run) except *
    @cython.locals(talk=Conversation, said=BindFields, statement=Statement, understood=Understood)
    cpdef Ask _bind(self, bytes wire, snapshot)
    @cython.locals(portal=Portal, work=Work, was=Operation)
    cpdef Ask _execute(self, bytes wire, bytes name)
    @cython.locals(at=Py_ssize_t, slot=_Slot)
    cpdef Portal _portal(self, bytes name)
    cpdef _describe(self, bytes wire, bytes name)
    @cython.locals(talk=Conversation, wire=bytes)
    cpdef bint _copy_message(self, Run run) except *
    @cython.locals(passed=_Pass)
    cpdef _pass(self, bytes wire, Turn turn)
    @cython.locals(slot=_Slot, turn=Turn, permit=Permit)
    cpdef bint decided(self, Ask ask, decision) except *
    @cython.locals(outbox=list, wires=list, intended=list, used=Py_ssize_t, passed=_Pass, slot=_Slot)
    cpdef Order order(self, tuple proofs)
    @cython.locals(work=Work)
    cpdef bytes _send_query(self, Intended proof, tuple effects)
    @cython.locals(talk=Conversation, work=Work, turn=Turn)
    cpdef bytes _send_extended(self, _Slot item, Intended proof)
    @cython.locals(turn=Turn)
    cpdef _send_pass(self, _Pass item, list wires)
    cpdef bint _is_sync(self, _Pass item) except *
    cpdef streamed(self)
    cpdef answers(self)
