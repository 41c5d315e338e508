# Types of relay.py for the compiled line.
cimport cython

from ostiary.model.commands cimport Order
from ostiary.model.operations cimport Operation
from ostiary.model.proofs cimport Intended, Masked


cdef class _Value:
    pass


@cython.final
cdef class Ask(_Value):
    cdef readonly Operation operation
    cdef readonly bint takes_effect


@cython.final
cdef class Streamed(_Value):
    cdef readonly Intended under
    cdef readonly object data
    cdef readonly bint ends


cdef class Relay:
    cpdef asks(self, bytes data, snapshot)
    cpdef bint decided(self, Ask ask, decision) except *
    cpdef Order order(self, tuple proofs)
    cpdef streamed(self)
    cpdef answers(self)
    cpdef results(self, bytes data)
    cpdef masked(self, Masked masked)
    cpdef long long flowed(self) except? -1
    cpdef long long changed(self) except? -1
    cpdef tuple outcomes(self)
    cpdef bint outdated(self) except *
