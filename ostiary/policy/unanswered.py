"""What becomes of a question for humans that nobody answered."""

from __future__ import annotations

from ostiary.model.decisions import NeedsApproval, Refusal


def unanswered(question: NeedsApproval) -> Refusal:
    """Refuse what nobody approved: silence is no. The grounds name whose approval it takes."""
    return Refusal(question.who, question.operation, question.grounds)
