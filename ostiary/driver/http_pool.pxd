# Types of http_pool.py for the compiled line.
cimport cython

from ostiary.driver.lane cimport LogWorld


cdef class Listens(LogWorld):
    cpdef target_sent(self, bytes data)


@cython.final
cdef class TargetLink:
    cdef public object transport
    cdef public Listens taker
    cdef public bint is_used
    cdef public double idle_since
    cdef object _readable
    @cython.locals(taker=Listens)
    cpdef data_received(self, bytes data)
    cpdef bint is_open(self) except *
    cpdef bint is_silent(self) except *


@cython.final
cdef class Pool:
    cdef public long most
    cdef public long opened
    cdef list _idle
    cdef object _waiting
    @cython.locals(link=TargetLink)
    cpdef TargetLink take(self, double now)
    cpdef give_back(self, TargetLink link, bint keeps, double now)
    cpdef drop(self, TargetLink link)
    cpdef wake(self)
