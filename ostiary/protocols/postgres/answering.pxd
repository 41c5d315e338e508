# Types of answering.py for the compiled line.

from ostiary.protocols.postgres.conversation cimport Conversation, Turn, Work


cdef class Answering:
    cdef Conversation _talk
    cdef object _understanding
    cdef object _detect
    cdef object _plans_by
    cdef bint _masking
    cdef object _inbox
    cdef dict _described
    cdef dict _plans
    cdef object _gathered
    cdef object _copy_plan
    cdef object _copy_content
    cdef Work _batch_work
    cdef bint _reporting
    cpdef _control(self, buf, begin, end, Work work)
    cpdef _control_frame(self, int tag, buf, run, Turn turn)
    cpdef _ready(self, frame, Turn turn)
    cpdef _complete(self, frame, Turn turn)
    cpdef masked(self, masked)
