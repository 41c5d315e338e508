# Types of path.py for the compiled line.
cimport cython

from ostiary.masking.mask cimport mask
from ostiary.model.commands cimport (
    AskHuman, AwaitAnswer, AwaitDurable, AwaitRun, Count, HearClient, HearTarget, Hold, Keep, LookUp, Order, Settle, Take,
)
from ostiary.model.decisions cimport NeedsApproval, Permit, Refusal
from ostiary.model.operations cimport Operation
from ostiary.model.proofs cimport Batch, Intended, Masked, Recorded
from ostiary.policy.decide cimport decide_unasked
from ostiary.policy.policies cimport Policies
from ostiary.protocols.relay cimport Ask, Relay
from ostiary.session.world cimport World


cdef class Line:
    cdef public Permit admitted
    cdef public object bounds
    cdef public object connection
    cdef public object demands
    cdef public object granted
    cdef public Policies policies
    cdef public object relay
    cdef public object restraint
    cdef public object said
    cdef public double waits_inside
    cdef public object who


cpdef bint is_held(Line line) except *
