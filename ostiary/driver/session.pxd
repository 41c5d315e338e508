# Types of session.py for the compiled line.
cimport cython

from ostiary.audit.journal cimport Journal, Written
from ostiary.model cimport commands as c
from ostiary.model.proofs cimport Intended, Recorded
from ostiary.protocols.postgres.relay cimport PostgresRelay
from ostiary.recording.recorder cimport Recorder


cdef class Lane:
    cdef public object _coroutine
    cdef public dict _carry_out
    cdef public object _failed
    cdef public object _send
    cdef public object unheard
    cdef public long long unheard_bytes
    cdef public bint waits
    cdef public bint gone
    cdef public bint busy
    cdef public bint is_over
    cpdef resume(self, reply)
    cpdef hear(self, bytes data)
    cpdef listen(self)


cdef class SessionDriver:
    cdef public object line
    cdef public object who
    cdef public PostgresRelay _relay
    cdef public Journal _journal
    cdef public Recorder _recorder
    cdef public object _catalogue
    cdef public object _desk
    cdef public bint _has_asked
    cdef public object _question
    cdef public bint _settling
    cdef public bint _nudged
    cdef public object _cancel
    cdef public object _ended
    cdef public object _loop
    cdef public object _client
    cdef public object _target
    cdef public set _client_paused
    cdef public set _target_paused
    cdef public list _timers
    cdef public bint _finished
    cdef public Written _under_way
    cdef public double _idle_seconds
    cdef public object _idle_timer
    cdef public double _heard_at
    cdef public Lane _requests
    cdef public Lane _replies
    @cython.locals(lane=Lane)
    cpdef heard(self, side, bytes data)
