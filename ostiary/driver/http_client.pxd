# Types of http_client.py for the compiled line.
cimport cython

from ostiary.driver.http_asker cimport Asker
from ostiary.driver.http_exchange cimport Exchange
from ostiary.protocols.http.decode cimport read_request
from ostiary.protocols.http.messages cimport RequestHead


cdef class ClientLink(Asker):
    cdef public object _transport
    cdef public bytearray _held
    cdef public RequestHead _known
    cdef public double _deadline
    cdef public double _keep_seconds
    cdef public bint _full
    cdef public bint _may_turn
    @cython.locals(head=RequestHead)
    cpdef _next(self)
    cpdef _begin(self, Exchange exchange)
    cpdef write(self, bytes data)
    cpdef over(self, Exchange exchange, bint goes_on)
    @cython.locals(exchange=Exchange, known=RequestHead)
    cpdef data_received(self, bytes data)
