# Types of lane.py for the compiled line.
cimport cython

from ostiary.audit.journal cimport Journal, Written
from ostiary.model cimport commands as c
from ostiary.model.proofs cimport Intended, Masked, Recorded
from ostiary.recording.recorder cimport Recorder
from ostiary.session.world cimport World


cdef class Lane:
    cdef public object _by
    cdef public object _coroutine
    cdef public dict _carry_out
    cdef public object _failed
    cdef public object _name
    cdef public object _send
    cdef public object unheard
    cdef public long long unheard_bytes
    cdef public bint waits
    cdef public bint gone
    cdef public bint busy
    cdef public bint is_over
    cpdef stop(self)
    cpdef resume(self, reply)
    cpdef hear(self, bytes data)
    cpdef listen(self)


cdef class LogWorld(World):
    cdef public Journal _journal
    cdef public Recorder _recorder
    cdef public Written _under_way
    cdef public Lane lane
    cpdef use(self, Journal journal, Recorder recorder)
    @cython.locals(written=Written)
    cpdef tuple write(self, tuple decisions)
    cpdef Recorded record(self, Masked masked, Intended under)
    cpdef conclude(self, tuple outcomes)
    cpdef give_up(self)
