# Types of session.py for the compiled line.
cimport cython

from ostiary.catalogue.holder cimport Catalogue
from ostiary.driver.lane cimport Lane, LogWorld
from ostiary.model cimport commands as c
from ostiary.model.commands cimport Order
from ostiary.model.proofs cimport Intended
from ostiary.protocols.postgres.relay cimport PostgresRelay


cdef class SessionDriver


cdef class Peer:
    cdef SessionDriver _session
    cdef public object side


cdef class SessionDriver(LogWorld):
    cdef public object line
    cdef public object who
    cdef public PostgresRelay _relay
    cdef public Catalogue _catalogue
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
    cdef public double _idle_seconds
    cdef public object _idle_timer
    cdef public double _heard_at
    cdef public Lane _requests
    cdef public Lane _replies
    cpdef known(self)
    cpdef clock(self)
    cpdef bint run(self, Order order) except *
    cpdef outdate(self)
    cpdef send(self, tuple recorded)
    @cython.locals(lane=Lane)
    cpdef heard(self, side, bytes data)
