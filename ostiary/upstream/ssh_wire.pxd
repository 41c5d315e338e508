# Types of ssh_wire.py for the compiled line.
cimport cython

from ostiary.upstream.ssh_packets cimport Incoming


cdef class Turn:
    cdef public bint is_on
    cdef public list wires
    cdef public list _later
    cdef public double stirred_at
    cpdef later(self, carry_on)
    cpdef end(self)


cdef class Wire:
    cdef public object _sock
    cdef public Turn _turn
    cdef public object _inner
    cdef public Incoming _incoming
    cdef public object _transport
    cdef public object _why
    cpdef _take(self, bytes data)
