# Types of exchange.py for the compiled line.
cimport cython

from ostiary.masking.http cimport ReplyMasker
from ostiary.model.commands cimport AskHuman, AwaitAnswer, AwaitDurable, AwaitRun, HearClient, Keep, Order
from ostiary.model.decisions cimport NeedsApproval, Permit, Refusal
from ostiary.model.proofs cimport Denied, Intended, Masked, Outcome, Recorded
from ostiary.policy.decide cimport decide_unasked
from ostiary.protocols.http.relay cimport HttpRelay
from ostiary.session.path cimport Line, is_held
from ostiary.session.world cimport World


cpdef request(Line line, ReplyMasker masker, World world)
cdef forwarded(Line line, ReplyMasker masker, World world, proof)
cdef first(Line line, HttpRelay relay, World world)
cdef judged(Line line, HttpRelay relay, World world)
cpdef reply(Line line, ReplyMasker masker, World world, bytes data)
@cython.locals(recorded=list, masked=Masked, outcome=Outcome)
cpdef answered(HttpRelay relay, ReplyMasker masker, World world, parts, Line line)
