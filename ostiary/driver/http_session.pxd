# Types of http_session.py for the compiled line.
cimport cython

from ostiary.driver.http_exchange cimport Session
from ostiary.driver.http_pool cimport Pool
from ostiary.masking.http cimport Released, ReplyMasker
from ostiary.protocols.http.relay cimport HttpRelay

cdef object _time


cdef class HttpSession(Session):
    cdef public object begun
    cdef public object lease
    cdef public object who
    cdef public double expires
    cdef public object id
    cdef public object _actor
    cdef public bytes _actor_lines
    cdef public double _actor_until
    cdef public object _bits
    cdef public object _shows
    cdef public bint _shows_nothing
    cdef public Pool _pool
    cdef public object _rules
    cdef public Released _released
    cdef public object _conceals
    cdef public object _detect
    cdef public object _passes
    @cython.locals(masker=ReplyMasker)
    cpdef ReplyMasker masker(self, HttpRelay relay)
    cpdef Pool pool(self, HttpRelay relay)
    cpdef ready(self)
    @cython.locals(now=double)
    cpdef bytes lines(self, HttpRelay relay, bytes shown)
