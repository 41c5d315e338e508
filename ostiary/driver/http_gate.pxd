# Types of http_gate.py for the compiled line.
cimport cython

from ostiary.driver.http_asker cimport Gate
from ostiary.driver.http_exchange cimport Session
from ostiary.driver.http_session cimport HttpSession
from ostiary.protocols.http.login cimport shown_token
from ostiary.protocols.http.messages cimport Fields, RequestHead
from ostiary.protocols.http.relay cimport HttpRelay

cdef object _time


cdef class HttpGate(Gate):
    cdef public object _reception
    cdef public object _signer
    cdef public object _tls
    cdef public dict _by_host
    cdef public dict _by_prefix
    cdef public object _names
    cdef public dict _sessions
    cdef public dict _beginning
    cdef public set _clients
    cdef public object _connected
    cdef public object _open
    cdef public bint _closing
    @cython.locals(fields=Fields, service=tuple)
    cpdef destination(self, RequestHead head)
    @cython.locals(found=HttpSession)
    cpdef Session session(self, bytes token, destination, Session last=*)
    cpdef token(self, RequestHead head)
    @cython.locals(relay=HttpRelay)
    cpdef HttpRelay relay(self, RequestHead head, Session session, str fault)
