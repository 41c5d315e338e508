"""Each function here leaves out a hop of the line, and must not type-check: `test_types.py` wants every one reported.

Read it beside `ostiary/session/path.py`. It is never run.
"""

from __future__ import annotations

from typing import assert_never

from ostiary.masking import mask
from ostiary.model.approvals import Answer
from ostiary.model.commands import AskHuman, Keep, Order
from ostiary.model.decisions import Decision, NeedsApproval, Permit, Refusal
from ostiary.model.operations import Operation
from ostiary.model.proofs import Batch, Intended, Masked
from ostiary.session.world import World


def skips_masking(world: World, batch: Batch, under: Intended) -> None:
    world.record(batch, under)  # what the target sent, as it sent it


def skips_recording(world: World, batch: Batch) -> None:
    world.send((mask(frozenset(), batch, frozenset()),))  # masked, and on no record


def sends_what_the_target_sent(world: World, batch: Batch) -> None:
    world.send((batch,))


def skips_the_log(world: World, permit: Permit) -> None:
    world.run(Order((permit,), permit.operation.wire))  # permitted, and nothing says so yet


def skips_policy(world: World, operation: Operation) -> None:
    world.write((operation,))  # nobody decided


def runs_bytes(world: World, wire: bytes) -> None:
    world.run(wire)  # whose are they?


async def streams_under_a_permit(permit: Permit, data: bytes) -> None:
    await Keep(permit, data)  # the intent is not durable


def runs_what_was_not_approved(world: World, question: NeedsApproval) -> None:
    world.write((question,))


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


def mistakes_masked_for_recorded(world: World, masked: Masked) -> None:
    world.send((masked,))
