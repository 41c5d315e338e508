# Types of http_asker.py for the compiled line.
cimport cython

from ostiary.driver.http_exchange cimport Exchange
from ostiary.protocols.http.messages cimport RequestHead


cdef class Asker:
    cdef public object _gate
    cdef public object _loop
    cdef public object _said
    cdef public object _certificate
    cdef public Exchange _exchange
    cdef public tuple _last
    cdef public RequestHead _head
    cdef public bint _opening
    cdef public bint _ends
    cdef public set _paused
    cdef public double _silent_since
    cdef public double _slow_since
    cdef public long long _slow_bytes
    cpdef bytes _place(self, token)
    cpdef bint _let_go(self, Exchange exchange) except *
