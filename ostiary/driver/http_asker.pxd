# Types of http_asker.py for the compiled line.
cimport cython

from ostiary.driver.http_exchange cimport Client, Exchange, Session
from ostiary.policy.policies cimport Policies
from ostiary.protocols.http.messages cimport RequestHead
from ostiary.protocols.http.relay cimport HttpRelay


cdef class Gate:
    cdef public object settings
    cdef public bint speaks_http2
    cpdef Policies in_force(self)
    cpdef destination(self, RequestHead head)
    cpdef Session session(self, bytes token, destination, Session last=*)
    cpdef token(self, RequestHead head)
    cpdef bint is_ready(self, RequestHead head) except *
    cpdef HttpRelay relay(self, RequestHead head, Session session, str fault)


cdef class Asker(Client):
    cdef public Gate _gate
    cdef public object _loop
    cdef public object _said
    cdef public object _certificate
    cdef public Exchange _exchange
    cdef public tuple _last
    cdef public Session _session
    cdef public RequestHead _head
    cdef public bint _opening
    cdef public bint _ends
    cdef public set _paused
    cdef public double _silent_since
    cdef public double _slow_since
    cdef public long long _slow_bytes
    cpdef _begin(self, Exchange exchange)
    cpdef _arrived(self, RequestHead head)
    @cython.locals(gate=Gate, key=bytes, session=Session)
    cpdef _admit(self, RequestHead head, destination, str fault)
    cpdef bytes _place(self, token)
    @cython.locals(relay=HttpRelay, exchange=Exchange)
    cpdef _start(self, RequestHead head, Session session, str fault)
    @cython.locals(session=Session)
    cpdef bint _let_go(self, Exchange exchange) except *
