# Types of world.py for the compiled line.
from ostiary.model.commands cimport Order
from ostiary.model.proofs cimport Intended, Masked, Recorded


cdef class World:
    cpdef known(self)
    cpdef clock(self)
    cpdef tuple write(self, tuple decisions)
    cpdef bint run(self, Order order) except *
    cpdef Recorded record(self, Masked masked, Intended under)
    cpdef conclude(self, tuple outcomes)
    cpdef outdate(self)
    cpdef count(self, counting)
    cpdef send(self, tuple recorded)
