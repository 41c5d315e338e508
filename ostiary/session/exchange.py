"""The data path of one HTTP exchange, and nothing else: read it downwards. Its counterpart for sessions is `path.py`.

A session of HTTP is a token on a connection, and many exchanges of it may be under way at once. `request` is everything that happens
before the service hears of something; `reply` is everything that happens before the client does. The same types keep the promises: `Run`
takes an `Order`, made from `Intended` alone; `Send` takes `Recorded`, made from `Masked`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from ostiary.masking.http import ReplyMasker
from ostiary.model.commands import Clock, Close, HearClient, HearTarget, Keep, MakeDurable, Order, Record, Run, Send
from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.operations import Operation
from ostiary.model.proofs import Denied, Recorded
from ostiary.model.restraints import Restraint
from ostiary.policy.decide import decide
from ostiary.policy.restrained import restrained
from ostiary.policy.unanswered import unanswered
from ostiary.protocols.http.relay import HttpRelay
from ostiary.protocols.http.results import Part
from ostiary.session.path import Line


async def request(line: Line, masker: ReplyMasker) -> None:
    """From the client to the service."""
    relay = cast(HttpRelay, line.relay)
    while not relay.is_ready:
        if (data := await HearClient()) is None:
            return
        relay.heard(data)
    decision = await decided(line, relay.operation())
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


async def decided(line: Line, operation: Operation) -> Permit | Refusal:
    """What policy says. Nobody is waited for over HTTP yet, so what asks for an approval is refused, and names it."""
    now = await Clock() if line.policies.reads_clock else 0
    decision = decide(line.policies, line.who, operation, line.connection, now=now, said=line.said, granted=line.granted)
    if line.restraint is not None and isinstance(decision, Permit):
        decision = restrained(line.restraint, decision, await Clock())
    if isinstance(decision, NeedsApproval):
        return unanswered(decision, "approvals are not waited for over HTTP yet")
    return decision


async def reply(line: Line, masker: ReplyMasker) -> None:
    """From the service to the client."""
    relay = cast(HttpRelay, line.relay)
    while not relay.is_answered:
        data = await HearTarget()
        await answered(relay, masker, relay.closed() if data is None else relay.results(data), line.restraint)


async def answered(relay: HttpRelay, masker: ReplyMasker, parts: Iterator[Part], restraint: Restraint | None) -> None:
    """Mask, count, record and send what there is of an answer; the outcome is on record before the last of it leaves."""
    recorded: list[Recorded] = []
    for part in parts:
        for masked in masker.mask(part):
            if restraint is not None:
                restraint.took(0, len(masked.frames))
            relay.masked(masked)
            recorded.append(await Record(masked, relay.under))
    if relay.is_answered and (outcome := relay.outcome()) is not None:
        await Close((outcome,))
    if recorded or relay.is_answered:
        await Send(tuple(recorded))
