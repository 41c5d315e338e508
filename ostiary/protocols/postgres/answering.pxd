# Types of answering.py for the compiled line.
cimport cython

from ostiary.kernel.frames cimport Inbox, Run, frame_size
from ostiary.model.proofs cimport Batch, Intended, Masked
from ostiary.protocols.postgres.conversation cimport Conversation, Portal, Statement, Turn, Work
from ostiary.protocols.postgres.understanding cimport Understanding

cdef int _QUERY, _EXECUTE, _SYNC, _DESCRIBE_STATEMENT
cdef int ROW_DESCRIPTION, DATA_ROW, COMMAND_COMPLETE, READY, ERROR, NOTICE, NOTIFICATION, PARAMETER_STATUS, PARSE_COMPLETE
cdef int BIND_COMPLETE, CLOSE_COMPLETE, PARAMETER_DESCRIPTION, NO_DATA, EMPTY_QUERY, SUSPENDED, COPY_IN, COPY_OUT, COPY_DATA
cdef int COPY_DONE
cdef int _IDLE, _IN_BLOCK, _FAILED
cdef int _REFUSED, _DESCRIBES, _DESCRIBES_NOTHING, _COMPLETES, _ENDS, _PARSES, _CLOSES, _COPIES_IN, _COPIES_OUT, _CHANGES_NOTHING
cdef bytes _ANSWERS, _CHANGING
cdef object _CONTROL


@cython.final
cdef class Answering:
    cdef public Conversation _talk
    cdef public Understanding _understanding
    cdef public object _detect
    cdef public object _plans_by
    cdef public bint _masking
    cdef public Inbox _inbox
    cdef public object _process_ids
    cdef public object _shown
    cdef public dict _described
    cdef public dict _plans
    cdef public object _gathered
    cdef public object _copy_plan
    cdef public object _copy_content
    cdef public bint _copy_header
    cdef public Work _batch_work
    cdef public bint _reporting
    cdef public bytes _buf
    cdef public list _runs
    cdef public Py_ssize_t _at
    cdef public Py_ssize_t _begin
    cdef public Py_ssize_t _end
    cdef public Work _work
    cdef public Turn _turn
    cdef public bint _heeded
    cdef public bint _is_told
    cdef public str _told
    cdef public bytes _last
    cdef public tuple _columns
    cdef public tuple _named
    @cython.locals(found=tuple)
    cpdef take(self, bytes data)
    @cython.locals(talk=Conversation, turn=Turn, now=Work, run=Run, looked_at=tuple, told=str)
    cpdef tuple _step(self)
    cpdef bint _may_tell(self, Work work) except *
    @cython.locals(begin=Py_ssize_t)
    cpdef tuple _passed(self)
    @cython.locals(tag=int, count=cython.longlong, copied=cython.longlong)
    cpdef bint _heed(self, Run run, Turn turn, Work now) except *
    @cython.locals(raw=cython.p_char, frames=bytes)
    cpdef tuple _control(self, bytes buf, Py_ssize_t begin, Py_ssize_t end, Work work)
    @cython.locals(what=int)
    cpdef bint _control_frame(self, int tag, bytes buf, Py_ssize_t start, Py_ssize_t end, Turn turn) except *
    @cython.locals(talk=Conversation, work=Work, status=int, failed=bint)
    cpdef _ready(self, bytes buf, Py_ssize_t start, Py_ssize_t end, Turn turn)
    @cython.locals(raw=cython.p_char, work=Work, tag=str)
    cpdef _complete(self, bytes buf, Py_ssize_t start, Py_ssize_t end, Turn turn)
    @cython.locals(frame=bytes, columns=tuple, named=tuple, work=Work)
    cpdef _row_description(self, bytes buf, Py_ssize_t start, Py_ssize_t end, Turn turn)
    @cython.locals(portal=Portal)
    cpdef _row_plan(self, Turn turn)
    cpdef _no_data(self, Turn turn)
    @cython.locals(talk=Conversation)
    cpdef _parsed(self, Turn turn)
    @cython.locals(talk=Conversation)
    cpdef _closed(self, Turn turn)
    @cython.locals(talk=Conversation, behind=Turn)
    cpdef _copy_in(self, Turn turn)
    cpdef _within_limit(self, Work work, long long coming=*)
    @cython.locals(work=Work, counts=dict)
    cpdef masked(self, Masked masked)
