# Types of ssh_channel.py for the compiled line.
cimport cython

from ostiary.audit.journal cimport Journal
from ostiary.driver.lane cimport Lane, LogCommands
from ostiary.protocols.ssh.messages cimport alone, data_head
from ostiary.recording.recorder cimport Recorder
from ostiary.upstream.ssh_packets cimport write, write_all
from ostiary.upstream.ssh_wire cimport Turn


cdef class Came:
    cdef public long long code
    cdef public list pieces
    cdef public long long size


cdef class ChannelDriver:
    cdef public Turn _turn
    cdef public dict _came
    cdef public object line
    cdef public object asking
    cdef public object _relay
    cdef public Journal _journal
    cdef public object _session
    cdef public LogCommands _log_commands
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
    @cython.locals(waits=Came, wire=bytes)
    cpdef came(self, side, data, code)
    cpdef heard(self, bytes wire)
    cpdef replied(self, bytes wire)
