# Types of answering.py for the compiled line.

from ostiary.protocols.postgres.conversation cimport Conversation, Turn, Work


cdef class Answering:
    cdef public Conversation _talk
    cdef public object _understanding
    cdef public object _detect
    cdef public object _plans_by
    cdef public bint _masking
    cdef public object _inbox
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
    cpdef _control(self, buf, begin, end, Work work)
    cpdef _control_frame(self, int tag, buf, run, Turn turn)
    cpdef _ready(self, frame, Turn turn)
    cpdef _complete(self, frame, Turn turn)
    cpdef masked(self, masked)
