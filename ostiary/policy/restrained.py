"""What a permit is worth in a session that is restrained: a budget may be spent, or an alert demand that people look first."""

from __future__ import annotations

from ostiary.model.decisions import Grounds, NeedsApproval, Permit, Refusal
from ostiary.model.operations import Action
from ostiary.model.restraints import Budget, Restraint


def restrained(restraint: Restraint, permit: Permit, now: int) -> Permit | Refusal | NeedsApproval:
    """Let an operation that policy permitted pass, ask people, or refuse it because its budget is spent. Counts what passes."""
    grounds, facts = permit.grounds, permit.operation.facts
    if restraint.demanded and facts.action is not Action.CONNECT and not grounds.approval:
        return _demand(permit, restraint.demanded)
    deletes = facts.action is Action.DELETE or any(each.action is Action.DELETE for each in facts.resources)
    spent = restraint.spent(now, deletes=deletes)
    return permit if spent is None else _refuse(permit, spent)


def _refuse(permit: Permit, budget: Budget) -> Refusal:
    message = f"the budget {budget.name} is spent: {budget.most} {budget.of} a {budget.per}"
    hint = "Wait for the next one." if budget.per != "session" else "It was for this session."
    return Refusal(permit.who, permit.operation, _grounds(permit, f"budget:{budget.name}", message, hint))


def _demand(permit: Permit, approvers: tuple[tuple[str, int], ...]) -> NeedsApproval:
    people = ", ".join(f"{count} of {group}" for group, count in approvers)
    message = f"after an alert everything that is done here takes approval by {people}"
    grounds = _grounds(permit, "alert", message, f"Ask {people} to approve this operation.")
    return NeedsApproval(permit.who, permit.operation, grounds, approvers)


def _grounds(permit: Permit, because: str, message: str, hint: str) -> Grounds:
    return Grounds((because,), permit.grounds.policy, frozenset(), None, message, hint)
