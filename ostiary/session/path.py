"""The data path of a session, and nothing else: read it downwards.

Clients pipeline, so a session is two straight lines, joined by the relay's queue of what is outstanding. `requests` is
everything that happens before a target hears of something; `replies` is everything that happens before a client does.

What keeps the promises is the types: `Run` takes an `Order`, which is made from `Intended` alone; `Send` takes `Recorded`,
which is made from `Masked`, which is made from a batch. Leaving out a hop does not type-check (`tests/house/wrong_path.py`).
Calls are pure; whatever touches the world is an awaited command, carried out by `ostiary.driver`.
"""

from __future__ import annotations

from typing import assert_never

from ostiary.masking.mask import mask
from ostiary.model.commands import (
    AskHuman,
    Clock,
    Close,
    HearClient,
    HearTarget,
    Keep,
    LookUp,
    MakeDurable,
    Outdate,
    Record,
    Run,
    Send,
)
from ostiary.model.connections import Connection
from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.identity import Said, VerifiedIdentity
from ostiary.model.operations import Operation
from ostiary.policy.decide import decide
from ostiary.policy.entities import NOTHING_SAID
from ostiary.policy.policies import Policies
from ostiary.policy.unanswered import unanswered
from ostiary.protocols.relay import Relay


class Line:
    """What both directions of one session share."""

    __slots__ = ("admitted", "connection", "policies", "relay", "said", "who")

    def __init__(
        self, *, admitted: Permit, connection: Connection, policies: Policies, relay: Relay, said: Said = NOTHING_SAID
    ) -> None:
        self.admitted = admitted
        """The permit under which the session was opened."""
        self.who: VerifiedIdentity = admitted.who
        self.said = said
        """Where the client comes from, and what it says of itself."""
        self.connection = connection
        self.policies = policies
        """The policies in force: replaced when they are loaded anew, so each operation meets the newest."""
        self.relay = relay


async def requests(line: Line) -> None:
    """From the client to the target."""
    relay = line.relay
    while (data := await HearClient()) is not None:
        decisions: list[Permit | Refusal] = []
        for ask in relay.asks(data, await LookUp()):
            decision = await decided(line, ask.operation)
            if relay.decided(ask, decision):
                decisions.append(decision)
        order = relay.order(await MakeDurable(tuple(decisions)) if decisions else ())
        for piece in relay.streamed():
            await Keep(piece.under, piece.data, piece.ends)
        if order.wire:
            await Run(order)
        for batch in relay.answers():
            await Send((await Record(mask(line.admitted.grounds.clear, batch, line.connection.detect), None),))


async def decided(line: Line, operation: Operation) -> Permit | Refusal:
    """What policy says, after asking the humans whom it wants asked."""
    now = await Clock() if line.policies.reads_clock else 0
    decision = decide(line.policies, line.who, operation, line.connection, now=now, said=line.said)
    if isinstance(decision, NeedsApproval):
        approved_by = await AskHuman(decision)
        if approved_by:
            decision = decide(
                line.policies, line.who, operation, line.connection, approved_by=approved_by, now=now, said=line.said
            )
    match decision:
        case Permit() | Refusal():
            return decision
        case NeedsApproval():
            return unanswered(decision)
        case _:
            assert_never(decision)


async def replies(line: Line) -> None:
    """From the target to the client."""
    relay = line.relay
    detect = line.connection.detect
    while (data := await HearTarget()) is not None:
        recorded = []
        for batch, under in relay.results(data):
            clear = (line.admitted if under is None else under.permit).grounds.clear
            masked = mask(clear, batch, detect)
            relay.masked(masked)
            recorded.append(await Record(masked, under))
        outcomes = relay.outcomes()
        if outcomes:
            await Close(outcomes)
        if relay.outdated():
            await Outdate()
        if recorded:
            await Send(tuple(recorded))
