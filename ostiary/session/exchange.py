"""The data path of one HTTP exchange, and nothing else: read it downwards. Its counterpart for sessions is `path.py`.

A session of HTTP is a token on a connection, and many exchanges of it may be under way at once. `request` is everything that happens
before the service hears of something, and may have to wait, so its steps have two ends; `reply` is everything that happens before the client does, and never waits. The
same types keep the promises: `World.run` takes an `Order`, made from `Intended` alone; `World.send` takes `Recorded`, made from `Masked`.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, Final, assert_never, cast

from ostiary.masking.http import ReplyMasker
from ostiary.model.commands import (
    AskHuman,
    AwaitAnswer,
    AwaitDurable,
    AwaitRun,
    Command,
    HearClient,
    Keep,
    Order,
)
from ostiary.model.connections import HttpConnection
from ostiary.model.decisions import Decision, NeedsApproval, Permit, Refusal
from ostiary.model.operations import Objection, Unjudgeable
from ostiary.model.proofs import Denied, Intended, Masked, Recorded
from ostiary.policy.decide import decide, decide_unasked
from ostiary.policy.obliged import unobeyed
from ostiary.policy.unanswered import for_people, unanswered
from ostiary.protocols.http.relay import HttpRelay
from ostiary.protocols.http.results import Part
from ostiary.session.path import Line, held, is_held, took
from ostiary.session.world import World

STILL: Final = Objection(
    Unjudgeable.NOT_REWRITTEN, "policy demands that the request be rewritten, and then demands it again", "Ask whoever keeps the policy.", "403", None
)
Waiting = Coroutine[Command, Any, None]
"""What is left to do, and waits for something first."""
TOO_LONG: Final = "it is too large to be shown to an approver whole"


def request(line: Line, masker: ReplyMasker, world: World) -> Waiting | None:
    """From the client to the service: what can be done at once is done. What is left of it, where something has to be waited for."""
    relay: HttpRelay = line.relay
    if not relay.is_ready():
        return heard(line, masker, world)
    said = first(line, relay, world)
    if isinstance(said, NeedsApproval) or (isinstance(said, Permit) and is_held(line)):
        return weighed(line, masker, world, said)
    proofs = world.write((said,))
    return durable(line, masker, world) if proofs is None else forwarded(line, masker, world, proofs[0])


async def heard(line: Line, masker: ReplyMasker, world: World) -> None:
    """Wait for a body that policy wants to see."""
    relay: HttpRelay = line.relay
    while not relay.is_ready():
        if (data := await HearClient()) is None:
            return
        relay.heard(data)
    rest = request(line, masker, world)
    if rest is not None:
        await rest


async def weighed(line: Line, masker: ReplyMasker, world: World, said: Permit | NeedsApproval) -> None:
    """Wait for the humans whom policy wants asked; and count what is bounded."""
    relay: HttpRelay = line.relay
    decision = await decided(line, relay, world, said)
    if decision is None:
        return
    proofs = world.write((decision,))
    rest = durable(line, masker, world) if proofs is None else forwarded(line, masker, world, proofs[0])
    if rest is not None:
        await rest


async def durable(line: Line, masker: ReplyMasker, world: World) -> None:
    """Wait for the disk."""
    proofs = await AwaitDurable()
    rest = forwarded(line, masker, world, proofs[0])
    if rest is not None:
        await rest


def forwarded(line: Line, masker: ReplyMasker, world: World, proof: Intended | Denied) -> Waiting | None:
    """What is permitted goes to the service, a refusal to the client. What is left of it, as in `request`."""
    relay: HttpRelay = line.relay
    if isinstance(proof, Denied):
        answered(relay, masker, world, relay.refuse(proof), None)  # our own words are of no budget
        return None
    intended: Intended = proof
    masker.show(intended.permit.grounds.clear)
    runs = world.run(relay.order(intended))
    return None if runs and relay.is_sent() else streamed(relay, world, intended, runs)


async def streamed(relay: HttpRelay, world: World, intended: Intended, runs: bool) -> None:
    """Wait for the way to the service, unless it `runs` there already; and for what follows the head, of which every piece is kept first."""
    if not runs:
        await AwaitRun()
    while not relay.is_sent() and (data := await HearClient()) is not None:
        for piece, wire, ends in relay.streamed(data):
            await Keep(intended, piece, ends)
            world.run(Order((), wire))


def first(line: Line, relay: HttpRelay, world: World) -> Decision:
    """What policy says of a request that is here as far as it has to be. Whatever goes wrong in here is a refusal, on record as any other."""
    try:
        return judged(line, relay, world)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the answer is no
        return undecided(line, relay, exc)


async def decided(line: Line, relay: HttpRelay, world: World, decision: Decision) -> Permit | Refusal | None:
    """What budgets make of what policy said, and the humans whom it wants asked; None: the client has gone before all was here that they must see.

    Whatever goes wrong in here is a refusal, too.
    """
    try:
        return await considered(line, relay, world, decision)
    except Exception as exc:  # noqa: BLE001 - as above
        return undecided(line, relay, exc)


def undecided(line: Line, relay: HttpRelay, why: Exception) -> Refusal:
    """The refusal of a request about which nothing could be decided: it is objected to, and that no policy lifts."""
    relay.give_up(why)
    decision = decide(line.policies, line.who, relay.operation(), line.connection)
    assert isinstance(decision, Refusal)  # noqa: S101 - what is objected to is refused, whatever policies say
    return decision


def judged(line: Line, relay: HttpRelay, world: World) -> Decision:
    """What policy says. Raises what its parts raise."""
    now = world.clock() if line.policies.reads_clock else 0
    decision = decide_unasked(line.policies, line.who, relay.operation(), line.connection, now, line.said, line.granted)
    if isinstance(decision, Refusal):
        return spared(line, relay, decision, now)
    return decision if decision.grounds.duties is None else obeyed(line, relay, decision, now)


def spared(line: Line, relay: HttpRelay, refusal: Refusal, now: int) -> Decision:
    """A refusal, unless it is for something that the permits of the rest demand be taken away: then what policy says of what is left."""
    lesser = relay.lesser(refusal.operation)
    if lesser is None:
        return refusal
    decision = decide_unasked(line.policies, line.who, lesser, line.connection, now, line.said, line.granted)
    found = decision if isinstance(decision, Refusal) else obeyed(line, relay, decision, now)
    return refusal if found.operation is lesser else found


async def considered(line: Line, relay: HttpRelay, world: World, decision: Decision) -> Permit | Refusal | None:
    """As `decided`. Raises what its parts raise."""
    while True:
        if isinstance(decision, Permit) and is_held(line):
            decision = await held(line, decision, None, world.clock(), alone=True)
        if not isinstance(decision, NeedsApproval):
            return decision
        if relay.is_whole:
            return await approved(line, relay, world, decision)
        if relay.is_long:
            return unanswered(decision, TOO_LONG, "Split it, or do it in a way that is small.")
        if (data := await HearClient()) is None:
            return None
        relay.heard(data)
        decision = judged(line, relay, world)


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


async def approved(line: Line, relay: HttpRelay, world: World, question: NeedsApproval) -> Permit | Refusal:
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
        now=world.clock(), said=line.said, granted=line.granted,
    )  # fmt: skip
    match decision:
        case Permit():
            still = obeyed(line, relay, decision, 0)
            if not isinstance(still, Permit) or still.operation is not decision.operation:
                return unanswered(question, "policy demands another call by now than was approved")
            now_held = await held(line, decision, None, world.clock(), alone=True)
            return unanswered(now_held) if isinstance(now_held, NeedsApproval) else now_held
        case Refusal():
            return decision
        case NeedsApproval():
            return unanswered(decision, "the approval that was given is not the one that policy asks for now")
        case _:
            assert_never(decision)


def reply(line: Line, masker: ReplyMasker, world: World, data: bytes | None) -> None:
    """From the service to the client: what it says now; None: it has closed its end."""
    relay: HttpRelay = line.relay
    answered(relay, masker, world, relay.closed() if data is None else relay.results(data), line)


def answered(relay: HttpRelay, masker: ReplyMasker, world: World, parts: Iterable[Part], line: Line | None) -> None:
    """Mask, count, record and send what there is of an answer; the outcome is on record before the last of it leaves."""
    recorded: list[Recorded] = []
    masked: Masked
    for part in parts:
        for masked in masker.mask(part):
            if line is not None and is_held(line):
                world.count(took(line, 0, 0, len(masked.frames)))
            relay.masked(masked)
            recorded.append(world.record(masked, relay.under))
    if relay.is_answered and (outcome := relay.outcome()) is not None:
        world.conclude((outcome,))
    if recorded or relay.is_answered:
        world.send(tuple(recorded))
