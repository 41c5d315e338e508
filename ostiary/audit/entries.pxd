# Types of entries.py for the compiled line.
cimport cython

from ostiary.audit.drafts cimport Draft
from ostiary.model.decisions cimport Permit, Refusal
from ostiary.model.nouns cimport Noun
from ostiary.model.operations cimport Operation, Parameters
from ostiary.model.proofs cimport Intended, Outcome

cdef Py_ssize_t _MOST
cdef bytes _INTENT, _DENY, _OUTCOME, _REF, _RESULT, _ROWS, _US, _CUT, _COUNT, _LEN, _PARAMS, _CLOSE, _T


@cython.final
cdef class _Asked(Noun):
    cdef readonly object facts
    cdef readonly object grounds
    cdef readonly str verdict
    cdef readonly bytes decision
    cdef readonly bytes op
    cdef readonly bytes head


@cython.final
cdef class Encoder:
    cdef public str gw
    cdef public str boot
    cdef public object _scrub
    cdef public long long _second
    cdef public bytes _stamp
    cdef public dict _asked
    cdef public _Asked _latest
    cdef public tuple _latest_columns
    cdef public str _latest_tag
    cdef public bytes _columns_encoded
    cdef public bytes _tag_encoded
    cdef public dict _columns
    cdef public dict _statuses
    cdef public dict _tags
    cdef public dict _people
    cdef public dict _targets
    cdef public dict _claims
    cdef public dict _admitted
    cdef public Draft draft
    @cython.locals(micros=cython.longlong)
    cpdef str stamp(self, long long t)
    cdef lay_stamp(self, long long t)
    @cython.locals(micros=cython.longlong)
    cdef int _micros(self, long long t) except -1
    @cython.locals(found=_Asked)
    cpdef _Asked asked(self, facts, grounds, str verdict)
    @cython.locals(found=bytes)
    cpdef bytes columns(self, tuple columns)
    @cython.locals(found=bytes)
    cpdef bytes status(self, str status)
    @cython.locals(found=bytes)
    cpdef bytes tag(self, str tag)


@cython.final
cdef class SessionEntries:
    cdef public Encoder _encoder
    cdef public object facts
    cdef public bytes _full
    cdef public bytes _lean
    cdef public bytes _origin
    cdef public bytes _stmt
    cdef public bytes _closing
    cdef public bytes _end
    @cython.locals(operation=Operation, asked=_Asked)
    cpdef bytes intent(self, Permit permit, str entry_id, long long t, long long mono, kept=*)
    @cython.locals(operation=Operation, asked=_Asked)
    cpdef bytes deny(self, Refusal refusal, str entry_id, long long t, long long mono, kept)
    @cython.locals(statement=bytes, parameters=bytes, original=bytes, draft=Draft, bound=Parameters)
    cdef bytes _asking(self, bytes kind, Operation operation, _Asked asked, str entry_id, long long t, long long mono, kept)
    cpdef bytes outcome(self, Outcome outcome, str entry_id, long long t, long long mono, recording=*)
    @cython.locals(encoder=Encoder, intended=Intended, draft=Draft, tag=str, ref=str, status=bytes, tagged=bytes, columns=bytes, cut=bytes,
                   error=bytes, masked=bytes, words=bytes, kept=bytes)
    cdef bytes _outcome(self, Outcome outcome, str entry_id, long long t, long long mono, recording, bint short)


@cython.locals(encoded=bytes)
cdef bytes _encoded(str entry)
cdef bytes _whole(Draft draft)
cdef int _check(Py_ssize_t size) except -1
cdef bytes _ref(ref)
