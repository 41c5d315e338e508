# Types of ssh_channel.py for the compiled line.
cimport cython

from ostiary.driver.lane cimport Lane, LogWorld
from ostiary.model.commands cimport Order
from ostiary.model.proofs cimport Intended, Masked, Recorded
from ostiary.protocols.ssh.messages cimport alone, data_head
from ostiary.recording.recorder cimport Recorder
from ostiary.upstream.ssh_packets cimport write, write_all
from ostiary.upstream.ssh_wire cimport Turn


cdef class Came:
    cdef public long long code
    cdef public list pieces
    cdef public long long size


cdef class ChannelDriver(LogWorld):
    cdef public Turn _turn
    cdef public dict _came
    cdef public object line
    cdef public object asking
    cdef public object _relay
    cdef public object _session
    cdef public Recorder _nothing
    cdef public object _loop
    cdef public object client
    cdef public object target
    cdef public object _early
    cdef public dict _held
    cdef public bint _came_in
    cdef public bint _has_met
    cdef public list _unsaid
    cdef public bint _finished
    cdef public object _pause
    cdef public object _status
    cdef public object _signal
    cdef public object opened
    cdef public Lane _requests
    cdef public Lane _replies
    cpdef known(self)
    cpdef clock(self)
    cpdef bint run(self, Order order) except *
    cpdef Recorded record(self, Masked masked, Intended under)
    cpdef outdate(self)
    cpdef send(self, tuple recorded)
    @cython.locals(waits=Came, wire=bytes)
    cpdef came(self, side, data, code)
    cpdef heard(self, bytes wire)
    cpdef replied(self, bytes wire)
