# Types of relay.py for the compiled line.
from ostiary.model.operations cimport Operation
from ostiary.model.proofs cimport Intended
from ostiary.protocols.ssh.alone cimport Alone
from ostiary.protocols.ssh.messages cimport alone, data_head
from ostiary.protocols.ssh.results cimport Stretch


cdef class ChannelRelay(Alone):
    cdef public object _settings
    cdef public object _state
    cdef public list _variables
    cdef public list _prelude
    cdef public bint has_terminal
    cdef public list _sizes
    cdef public object _echo
    cdef public list _unsettled
    cdef public long long _unsettled_bytes
    cdef public bint _has_pressed
    cdef public list _notes
    cdef public Operation _start
    cdef public Operation _asked
    cdef public object _later
    cdef public list _wire
    cdef public list _decided
    cdef public list _answers
    cdef public Intended _under
    cdef public dict _streams
    cdef public object files
    cdef public bint _ends
    cdef public bytes _typed
    cdef public long long _counted
    cdef public long long _bytes
    cdef public dict _masked
    cdef public object _ending
    cdef public list _outcomes
    cdef public list _streamed
    cdef public bint is_over
    cdef _flows(self, data, bytes wire)
    cdef _unsettle(self, bint is_typed, bytes data)
    cdef _settle(self, echo)
