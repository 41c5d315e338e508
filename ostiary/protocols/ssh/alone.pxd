# Types of alone.py for the compiled line.
from ostiary.protocols.relay cimport Relay


cdef class Alone(Relay):
    pass
