"""The data path of one HTTP exchange, and nothing else: read it downwards. Its counterpart for sessions is `path.py`.

A session of HTTP is a token on a connection, and many exchanges of it may be under way at once. `request` is everything that happens
before the service hears of something; `reply` is everything that happens before the client does. The same types keep the promises: `Run`
takes an `Order`, made from `Intended` alone; `Send` takes `Recorded`, made from `Masked`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, assert_never, cast

from ostiary.masking.http import ReplyMasker
from ostiary.model.commands import (
    AskHuman,
    AwaitAnswer,
    Clock,
    Close,
    HearClient,
    HearTarget,
    Keep,
    MakeDurable,
    Order,
    Record,
    Run,
    Send,
)
from ostiary.model.connections import HttpConnection
from ostiary.model.decisions import Decision, NeedsApproval, Permit, Refusal
from ostiary.model.operations import Objection, Unjudgeable
from ostiary.model.proofs import Denied, Masked, Recorded
from ostiary.policy.decide import decide
from ostiary.policy.obliged import unobeyed
from ostiary.policy.unanswered import for_people, unanswered
from ostiary.protocols.http.relay import HttpRelay
from ostiary.protocols.http.results import Part
from ostiary.session.path import Line, held, is_held, took

STILL: Final = Objection(
    Unjudgeable.NOT_REWRITTEN, "policy demands that the request be rewritten, and then demands it again", "Ask whoever keeps the policy.", "403", None
)
TOO_LONG: Final = "it is too large to be shown to an approver whole"


async def request(line: Line, masker: ReplyMasker) -> None:
    """From the client to the service."""
    relay: HttpRelay = cast(HttpRelay, line.relay)
    while not relay.is_ready:
        if (data := await HearClient()) is None:
            return
        relay.heard(data)
    decision = await decided(line, relay)
    if decision is None:
        return
    (proof,) = await MakeDurable((decision,))
    if isinstance(proof, Denied):
        await answered(relay, masker, relay.refuse(proof), None)  # our own words are of no budget
        return
    masker.show(proof.permit.grounds.clear)
    await Run(relay.order(proof))
    while not relay.is_sent and (data := await HearClient()) is not None:
        for piece, wire, ends in relay.streamed(data):
            await Keep(proof, piece, ends)
            await Run(Order((), wire))


async def decided(line: Line, relay: HttpRelay) -> Permit | Refusal | None:
    """What policy says, and the humans whom it wants asked; None: the client has gone before all was here that they must see.

    Whatever goes wrong in here is a refusal, on record as any other.
    """
    try:
        return await considered(line, relay)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the answer is no
        return undecided(line, relay, exc)


def undecided(line: Line, relay: HttpRelay, why: Exception) -> Refusal:
    """The refusal of a request about which nothing could be decided: it is objected to, and that no policy lifts."""
    relay.give_up(why)
    decision = decide(line.policies, line.who, relay.operation(), line.connection)
    assert isinstance(decision, Refusal)  # noqa: S101 - what is objected to is refused, whatever policies say
    return decision


async def considered(line: Line, relay: HttpRelay) -> Permit | Refusal | None:
    """As `decided`. Raises what its parts raise."""
    while True:
        now = await Clock() if line.policies.reads_clock else 0
        operation = relay.operation()
        decision = decide(line.policies, line.who, operation, line.connection, now=now, said=line.said, granted=line.granted)
        decision = obeyed(line, relay, decision, now)
        if isinstance(decision, Permit) and is_held(line):
            decision = await held(line, decision, None, await Clock(), alone=True)
        if not isinstance(decision, NeedsApproval):
            return decision
        if relay.is_whole:
            return await approved(line, relay, decision)
        if relay.is_long:
            return unanswered(decision, TOO_LONG, "Split it, or do it in a way that is small.")
        if (data := await HearClient()) is None:
            return None
        relay.heard(data)


def obeyed(line: Line, relay: HttpRelay, decision: Decision, now: int) -> Decision:
    """The request as its permits demand it. What was rewritten is decided on like any other, and must then be as it is demanded."""
    for _ in range(2):
        duties = None if isinstance(decision, Refusal) else decision.grounds.duties
        if isinstance(decision, Refusal) or duties is None:
            return decision
        found = relay.obey(decision, duties)
        if isinstance(found, Objection):
            return unobeyed(decision, found)
        if found is decision.operation:
            return decision
        decision = decide(
            line.policies, line.who, found, line.connection, approved_by=decision.grounds.approved_by,
            approval=decision.grounds.approval, now=now, said=line.said, granted=line.granted,
        )  # fmt: skip
    return decision if isinstance(decision, Refusal) else unobeyed(decision, STILL)


async def approved(line: Line, relay: HttpRelay, question: NeedsApproval) -> Permit | Refusal:
    """What policy says once people have answered; until then, a refusal that names the question: the same request is repeated.

    What they are asked is what would be sent to the service, byte for byte, and what is sent after a yes is that.
    """
    asked = relay.asked(question.operation)
    ticket = await AskHuman(for_people(question, asked.shown), asked.state)
    if ticket.why_not:
        return unanswered(question, ticket.why_not, ticket.hint)
    answer = ticket.answer
    seconds = cast(HttpConnection, line.connection).approval_seconds
    if answer is None and seconds:
        reply = await AwaitAnswer(ticket, seconds)
        if reply.why_not:
            return unanswered(question, reply.why_not)
        answer = reply.answer
    if answer is None:
        relay.waits_for(ticket)
        return unanswered(question, f"approval {ticket.id} is asked for", ticket.hint)
    decision = decide(
        line.policies, line.who, asked.operation, line.connection, approved_by=answer.groups, approval=answer.id,
        now=await Clock(), said=line.said, granted=line.granted,
    )  # fmt: skip
    match decision:
        case Permit():
            still = obeyed(line, relay, decision, 0)
            if not isinstance(still, Permit) or still.operation is not decision.operation:
                return unanswered(question, "policy demands another call by now than was approved")
            now_held = await held(line, decision, None, await Clock(), alone=True)
            return unanswered(now_held) if isinstance(now_held, NeedsApproval) else now_held
        case Refusal():
            return decision
        case NeedsApproval():
            return unanswered(decision, "the approval that was given is not the one that policy asks for now")
        case _:
            assert_never(decision)


async def reply(line: Line, masker: ReplyMasker) -> None:
    """From the service to the client."""
    relay: HttpRelay = cast(HttpRelay, line.relay)
    while not relay.is_answered:
        data = await HearTarget()
        await answered(relay, masker, relay.closed() if data is None else relay.results(data), line)


async def answered(relay: HttpRelay, masker: ReplyMasker, parts: Iterable[Part], line: Line | None) -> None:
    """Mask, count, record and send what there is of an answer; the outcome is on record before the last of it leaves."""
    recorded: list[Recorded] = []
    masked: Masked
    for part in parts:
        for masked in masker.mask(part):
            if line is not None and is_held(line):
                await took(line, 0, 0, len(masked.frames))
            relay.masked(masked)
            recorded.append(await Record(masked, relay.under))
    if relay.is_answered and (outcome := relay.outcome()) is not None:
        await Close((outcome,))
    if recorded or relay.is_answered:
        await Send(tuple(recorded))
