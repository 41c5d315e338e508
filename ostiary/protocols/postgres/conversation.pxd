# Types of conversation.py for the compiled line: attributes become members of a C struct.

cimport cython

from ostiary.model.proofs cimport Denied, Intended, Outcome

cdef int _PARSE, _BIND, _SYNC, _IDLE, MOST_ANSWERED


@cython.final
cdef class Work:
    cdef public Intended intended
    cdef public tuple effects
    cdef public tuple columns
    cdef public object error
    cdef public object error_text
    cdef public object status
    cdef public dict masked
    cdef public bint noticed
    cdef public list tags
    cdef public long long completed
    cdef public long long rows
    cdef public long long sent
    cpdef Outcome outcome(self)


@cython.final
cdef class Statement:
    cdef public bytes asked
    cdef public tuple columns
    cdef public object facts
    cdef public tuple parameter_types
    cdef public int segment
    cdef public bytes sql


@cython.final
cdef class Portal:
    cdef public tuple formats
    cdef public object plan
    cdef public Statement statement
    cdef public Work work


@cython.final
cdef class Turn:
    cdef public Denied denied
    cdef public bint hidden
    cdef public int kind
    cdef public bytes name
    cdef public object plan
    cdef public Portal portal
    cdef public Statement statement
    cdef public Work work


@cython.locals(turn=Turn)
cpdef Turn opened(int kind, Work work=*, bytes name=*, Statement statement=*, Portal portal=*)


@cython.final
cdef class Turns:
    cdef public list _turns
    cdef public Py_ssize_t _first
    cpdef Turn first(self)
    cpdef Turn second(self)
    cpdef append(self, Turn turn)
    @cython.locals(turns=list)
    cpdef popleft(self)
    cpdef drop_second(self)
    cpdef clear(self)


@cython.final
cdef class Conversation:
    cdef public long long changed
    cdef public Work copying_in
    cdef public bint defined
    cdef public list ended
    cdef public bint farewell
    cdef public long long flowed
    cdef public list open_works
    cdef public bint outdated
    cdef public dict parsing
    cdef public Turns pending
    cdef public dict portals
    cdef public bint segment_failed
    cdef public bint skipping
    cdef public dict statements
    cdef public int status
    cdef public bint uncounted
    cdef public bint unsynced
    cpdef _end(self, Work work)
    cpdef finish(self, Work work, status)
    @cython.locals(turn=Turn)
    cpdef fail_until_sync(self)
    @cython.locals(turn=Turn)
    cpdef forget(self, Turn turn)
    @cython.locals(only=Work, work=Work, failed=bint, is_quiet=bint)
    cpdef ready(self, int status)
    @cython.locals(work=Work, ended=list, made=list)
    cpdef tuple outcomes(self)
    cpdef Statement statement(self, bytes name)
    cpdef bint is_outstanding(self)
