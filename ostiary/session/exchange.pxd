# Types of exchange.py for the compiled line.
cimport cython

from ostiary.masking.http cimport ReplyMasker
from ostiary.model.commands cimport (
    AskHuman, AwaitAnswer, Clock, Close, HearClient, HearTarget, Keep, MakeDurable, Order, Record, Run, Send,
)
from ostiary.model.decisions cimport NeedsApproval, Permit, Refusal
from ostiary.model.proofs cimport Denied, Intended, Masked, Recorded
from ostiary.protocols.http.relay cimport HttpRelay
from ostiary.session.path cimport Line, is_held
