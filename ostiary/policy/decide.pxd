# Types of decide.py for the compiled line.
cimport cython

from ostiary.model.decisions cimport NeedsApproval, Permit, Refusal
from ostiary.model.operations cimport Operation
from ostiary.policy.policies cimport Policies, Verdict


@cython.locals(minute=cython.longlong, key=tuple, verdict=Verdict)
cpdef decide_unasked(Policies policies, who, Operation operation, connection, long long now, said, granted)

cdef _decided(who, Operation operation, Verdict verdict)
