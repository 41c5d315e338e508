# Types of http_exchange.py for the compiled line.
cimport cython

from ostiary.audit.journal cimport Journal
from ostiary.driver.http_pool cimport Pool, TargetLink
from ostiary.driver.lane cimport Lane, LogCommands
from ostiary.masking.http cimport ReplyMasker
from ostiary.model cimport commands as c
from ostiary.model.commands cimport Order
from ostiary.model.decisions cimport Permit
from ostiary.model.proofs cimport Intended, Outcome, Recorded
from ostiary.protocols.http.relay cimport HttpRelay
from ostiary.session.path cimport Line


@cython.final
cdef class Exchange:
    cdef public HttpRelay relay
    cdef public object session
    cdef public object _loop
    cdef public ReplyMasker masker
    cdef public Line line
    cdef public Lane requests
    cdef public Lane _replies
    cdef public LogCommands _log_commands
    cdef public Journal _journal
    cdef public object _client
    cdef public TargetLink _link
    cdef public bytes _sent
    cdef public bint _again
    cdef public bint _heard_target
    cdef public bint _head_sent
    cdef public bint _opened
    cdef public bint _continued
    cdef public bint _closed_outcome
    cdef public bint is_over
    cdef public bint broke_off
    cdef public double _asked_at
    cdef public bint _crowded
    cdef public bint _target_is_full
    cdef public bint _ended
    cdef public bint _is_decided
    cdef public bint _denying
    cdef public object _ticket
    cdef public bint waits_for_target
