"""What becomes of a question for humans before its answer is here, and without one."""

from __future__ import annotations

import msgspec

from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.operations import Operation


def unanswered(question: NeedsApproval, why: str = "", hint: str = "") -> Refusal:
    """Refuse what nobody approved: silence is no. The grounds name whose approval it takes, and why there is none."""
    grounds = question.grounds
    if why or hint:
        message = f"{grounds.message} ({why})" if why else grounds.message
        grounds = msgspec.structs.replace(grounds, message=message, hint=hint or grounds.hint)
    return Refusal(question.who, question.operation, grounds)


def prepared(question: NeedsApproval) -> Permit:
    """Let a message pass that only prepares, and has no effect: what runs it is a question of its own, with its parameters."""
    return Permit(question.who, question.operation, question.grounds)


def for_people(question: NeedsApproval, operation: Operation) -> NeedsApproval:
    """The same question about what people are shown of the operation, and their answer is bound to."""
    return NeedsApproval(question.who, operation, question.grounds, question.approvers)
