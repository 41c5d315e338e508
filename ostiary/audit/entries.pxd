# Types of entries.py for the compiled line.
cimport cython

from ostiary.model.decisions cimport Permit, Refusal
from ostiary.model.nouns cimport Noun
from ostiary.model.operations cimport Operation
from ostiary.model.proofs cimport Intended, Outcome


@cython.final
cdef class _Asked(Noun):
    cdef readonly object facts
    cdef readonly object grounds
    cdef readonly str verdict
    cdef readonly str decision
    cdef readonly str op
    cdef readonly str head


@cython.final
cdef class Encoder:
    cdef public str gw
    cdef public str boot
    cdef public object _scrub
    cdef public long long _second
    cdef public str _stamp
    cdef public dict _asked
    cdef public dict _columns
    cdef public dict _tags
    @cython.locals(micros=cython.longlong)
    cpdef str stamp(self, long long t)
    @cython.locals(found=_Asked)
    cpdef _Asked asked(self, facts, grounds, str verdict)
    cpdef str columns(self, columns)
    cpdef str ending(self, status, tag)


@cython.final
cdef class SessionEntries:
    cdef public Encoder _encoder
    cdef public object facts
    cdef public str _full
    cdef public str _lean
    cdef public str _origin
    cdef public str _session
    cdef public str _stmt
    cdef public str _end
    @cython.locals(operation=Operation, asked=_Asked)
    cpdef bytes intent(self, Permit permit, str entry_id, long long t, long long mono, kept=*)
    @cython.locals(operation=Operation, asked=_Asked)
    cpdef bytes deny(self, Refusal refusal, str entry_id, long long t, long long mono, kept)
    @cython.locals(stored=str, bound=str)
    cpdef bytes _asking(self, str kind, Operation operation, _Asked asked, str entry_id, long long t, long long mono, kept)
    cpdef bytes outcome(self, Outcome outcome, str entry_id, long long t, long long mono, recording=*)
    @cython.locals(encoder=Encoder, intended=Intended, columns=str, cut=str, error=str, masked=str, omitted=str, words=str,
                   ending=str, kept=str, us=cython.longlong)
    cpdef bytes _outcome(self, Outcome outcome, str entry_id, long long t, long long mono, recording, bint short)


@cython.locals(encoded=bytes)
cdef bytes _whole(str entry)
