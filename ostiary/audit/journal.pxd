# Types of journal.py for the compiled line.
cimport cython

from ostiary.audit cimport inline
from ostiary.audit.entries cimport SessionEntries
from ostiary.audit.ids cimport Ids
from ostiary.audit.writer cimport Writer
from ostiary.model.decisions cimport Permit, Refusal
from ostiary.model.operations cimport Operation, Parameters
from ostiary.model.proofs cimport Denied, Intended, Outcome
from ostiary.vault.payloads cimport PayloadStream

cdef object _STATEMENT, _ASKED, _PARAMS, _pack_count, _pack_value


@cython.final
cdef class Written:
    cdef public bint given_up
    cdef public long long index
    cdef public tuple proofs


@cython.final
cdef class Journal:
    cdef public Writer _writer
    cdef public SessionEntries _entries
    cdef public Ids _ids
    cdef public object _open_stream
    cdef public bint is_full
    cdef public object session
    cdef public bint strict
    cdef public long long began
    cdef public object _start
    cdef public long long _operations
    cdef public PayloadStream stream
    @cython.locals(now=cython.longlong, mono=cython.longlong, entries=list, proofs=list, ids=list, places=list, number=Py_ssize_t, entry_id=str)
    cpdef Written write(self, tuple decisions)
    cpdef bint is_durable(self, Written written) except -1
    cpdef tuple proofs(self, Written written)
    cpdef _bring_stream(self)
    @cython.locals(now=cython.longlong, mono=cython.longlong, outcome=Outcome)
    cpdef outcomes(self, tuple outcomes)
    cpdef bint _keeps(self, tuple decisions) except -1
    cpdef long long elapsed_us(self) noexcept
    @cython.locals(t_us=cython.longlong, items=list, places=list, number=Py_ssize_t, entry_id=str, operation=Operation, statement=Py_ssize_t, params=Py_ssize_t, asked=Py_ssize_t, stream=PayloadStream, refs=list, kept=list, place=tuple)
    cpdef list _keep(self, tuple decisions, list ids)


@cython.locals(formats=tuple, values=tuple, parts=list, number=Py_ssize_t)
cpdef bytes parameter_bytes(Parameters parameters)
