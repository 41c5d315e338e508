"""Each function here leaves out a hop of the line, and must not type-check: `test_types.py` wants every one reported.

Read it beside `ostiary/session/path.py`. It is never run.
"""

from __future__ import annotations

from typing import assert_never

from ostiary.masking import mask
from ostiary.model.approvals import Answer
from ostiary.model.commands import AskHuman, Keep, MakeDurable, Order, Record, Run, Send
from ostiary.model.decisions import Decision, NeedsApproval, Permit, Refusal
from ostiary.model.operations import Operation
from ostiary.model.proofs import Batch, Intended, Masked


async def skips_masking(batch: Batch, under: Intended) -> None:
    await Record(batch, under)  # what the target sent, as it sent it


async def skips_recording(batch: Batch) -> None:
    await Send((mask(frozenset(), batch, frozenset()),))  # masked, and on no record


async def sends_what_the_target_sent(batch: Batch) -> None:
    await Send((batch,))


async def skips_the_log(permit: Permit) -> None:
    await Run(Order((permit,), permit.operation.wire))  # permitted, and nothing says so yet


async def skips_policy(operation: Operation) -> None:
    await MakeDurable((operation,))  # nobody decided


async def runs_bytes(wire: bytes) -> None:
    await Run(wire)  # whose are they?


async def streams_under_a_permit(permit: Permit, data: bytes) -> None:
    await Keep(permit, data)  # the intent is not durable


async def runs_what_was_not_approved(question: NeedsApproval) -> None:
    await MakeDurable((question,))


async def forgets_the_humans(decision: Decision) -> None:
    match decision:
        case Permit() | Refusal():
            pass
        case _:
            assert_never(decision)


async def mistakes_an_answer_for_a_permit(question: NeedsApproval) -> None:
    permit: Permit = await AskHuman(question, b"")
    del permit


async def takes_a_ticket_for_an_answer(question: NeedsApproval) -> None:
    answer: Answer = await AskHuman(question, b"")
    del answer


async def mistakes_masked_for_recorded(masked: Masked) -> None:
    await Send((masked,))
