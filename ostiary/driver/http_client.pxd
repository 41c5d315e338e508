# Types of http_client.py for the compiled line.
cimport cython

from ostiary.driver.http_asker cimport Asker
from ostiary.driver.http_exchange cimport Exchange
from ostiary.protocols.http.decode cimport read_request
from ostiary.protocols.http.messages cimport Fields, RequestHead


@cython.final
cdef class ClientLink(Asker):
    cdef public object _transport
    cdef public object _held
    cdef public Fields _fields
    cdef public double _deadline
    cdef public bint _full
    cdef public bint _may_turn
    @cython.locals(head=RequestHead)
    cpdef _next(self)
