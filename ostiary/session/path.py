"""The data path of a session, and nothing else: read it downwards.

Clients pipeline, so a session is two straight lines, joined by the relay's queue of what is outstanding. `requests` is
everything that happens before a target hears of something; `replies` is everything that happens before a client does.

What keeps the promises is the types: `Run` takes an `Order`, which is made from `Intended` alone; `Send` takes `Recorded`,
which is made from `Masked`, which is made from a batch. Leaving out a hop does not type-check (`tests/house/wrong_path.py`).
What touches the world is asked of it, and `ostiary.driver` carries it out: what may take its time is an awaited command, what is done
at once a call of `World`. All other calls are pure.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

from ostiary.masking.mask import mask
from ostiary.model.catalogue import Snapshot
from ostiary.model.commands import (
    AskHuman,
    AwaitAnswer,
    AwaitDurable,
    AwaitRun,
    Count,
    HearClient,
    HearTarget,
    Hold,
    Keep,
    LookUp,
    Settle,
    Take,
)
from ostiary.model.connections import Connection
from ostiary.model.decisions import NeedsApproval, Permit, Refusal
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Said, VerifiedIdentity
from ostiary.model.operations import Objection, Operation
from ostiary.model.proofs import Batch, Intended, Recorded
from ostiary.model.restraints import Place, Restraint
from ostiary.policy.decide import NOBODY, decide, decide_unasked
from ostiary.policy.effects import beyond, cost, of_all, said
from ostiary.policy.entities import NOTHING_SAID
from ostiary.policy.obliged import gathered, lifted, still, unobeyed
from ostiary.policy.policies import Policies
from ostiary.policy.restrained import restrained
from ostiary.policy.unanswered import prepared, unanswered
from ostiary.protocols.relay import Ask, Relay
from ostiary.session.world import World

INSIDE: Final = "nobody waits inside a transaction: end it, and repeat the statement once approval {} is given"


class Line:
    """What both directions of one session share."""

    __slots__ = (
        "admitted", "bounds", "connection", "demands", "granted", "policies", "relay", "restraint", "said", "waits_inside", "who",
    )  # fmt: skip

    def __init__(
        self,
        admitted: Permit,
        connection: Connection,
        policies: Policies,
        relay: Any,
        said: Said = NOTHING_SAID,
        granted: frozenset[str] = NOBODY,
        waits_inside: float = 0.0,
    ) -> None:
        self.admitted = admitted
        """The permit under which the session was opened."""
        self.who: VerifiedIdentity = admitted.who
        mandate = admitted.who.mandate
        self.bounds = () if mandate is None else mandate.budgets
        """What the mandate bounds of effects; empty: nothing is counted."""
        self.demands = admitted.grounds.duties
        """What the permit to connect demands, and an operation could lift; None: nothing."""
        self.said = said
        """Where the client comes from, and what it says of itself."""
        self.granted = granted
        """The groups that granted this connection for a time, if it took that."""
        self.waits_inside = waits_inside
        """Seconds for which an approval may be waited for inside a transaction, which holds its locks; 0: it is refused instead."""
        self.connection = connection
        self.policies = policies
        """The policies in force: replaced when they are loaded anew, so each operation meets the newest."""
        self.relay: Any = relay
        """What speaks the protocol: a `Relay` here, an `HttpRelay` in `exchange.py`."""
        self.restraint: Restraint | None = None
        """Budgets and alerts that restrain this session; None: none does."""


async def requests(line: Line, world: World) -> None:
    """From the client to the target."""
    relay: Relay = line.relay
    while (data := await HearClient()) is not None:
        decisions: list[Permit | Refusal] = []
        ask: Ask
        snapshot = world.known()
        if snapshot is None:
            snapshot = await LookUp()
        for ask in relay.asks(data, snapshot):
            now = world.clock() if line.policies.reads_clock else 0
            decision = decide_unasked(
                line.policies, line.who, ask.operation, line.connection, now, line.said, line.granted
            )
            if isinstance(decision, Permit) and ask.takes_effect:
                decision = await held(line, decision, relay.place(), world.clock(), alone=not decisions) if is_held(line) else decision
            if isinstance(decision, NeedsApproval):
                if relay.is_complete:
                    await send_on(line, world, decisions)
                    decisions = []
                decision = await approved(line, world, ask, decision)
            if isinstance(decision, Permit) and (line.demands is not None or is_bound(decision)):
                decision = obeyed(line, ask, decision, await LookUp(), world.clock() if line.policies.reads_clock else 0)
            if relay.decided(ask, decision):
                decisions.append(decision)
        await send_on(line, world, decisions)


def obeyed(line: Line, ask: Ask, permit: Permit, snapshot: Snapshot, now: int) -> Permit | Refusal:
    """The operation as its permits demand it. What was rewritten is decided on like any other, and must then be as it is demanded."""
    grounds = permit.grounds
    found = lifted(line.demands, permit.operation.facts) or gathered(permit) or obey(line.relay, permit, snapshot)
    while isinstance(found, Operation) and found is not permit.operation:
        # The relay rewrites one message for as many demands as it counts, so this ends.
        decision = decide(
            line.policies, line.who, found, line.connection, approved_by=grounds.approved_by, approval=grounds.approval,
            now=now, said=line.said, granted=line.granted,
        )  # fmt: skip
        if isinstance(decision, NeedsApproval):
            decision = unanswered(decision) if ask.takes_effect else prepared(decision)
        if isinstance(decision, Refusal):
            return decision
        permit = still(decision, permit.grounds.duties)
        found = obey(line.relay, permit, snapshot)
    if isinstance(found, Objection):
        return unobeyed(permit, found)
    return permit


def is_bound(permit: Permit) -> bool:
    """Whether the operation may have to be changed, or refused, for what its permits demand."""
    return permit.grounds.duties is not None or (permit.grounds.row_limit is not None and permit.operation.facts.gathers != 1)


def obey(relay: Relay, permit: Permit, snapshot: Snapshot) -> Operation | Objection:
    """What the permit demands, done to its operation."""
    duties = permit.grounds.duties
    return permit.operation if duties is None else relay.obey(permit, duties, snapshot)


async def send_on(line: Line, world: World, decisions: list[Permit | Refusal]) -> None:
    """What was decided becomes durable, and then goes out: permits to the target, refusals to the client."""
    relay: Relay = line.relay
    proofs = world.write(tuple(decisions)) if decisions else ()
    if proofs is None:
        proofs = await AwaitDurable()
    order = relay.order(proofs)
    for piece in relay.streamed():
        await Keep(piece.under, piece.data, piece.ends)
    if order.wire and not world.run(order):
        await AwaitRun()
    for batch in relay.answers():
        world.send((world.record(mask(line.admitted.grounds.clear, batch, line.connection.detect), None),))


async def approved(line: Line, world: World, ask: Ask, question: NeedsApproval) -> Permit | Refusal:
    """What policy says once the humans whom it wants asked have answered, of what the operation means by then."""
    relay: Relay = line.relay
    if not ask.takes_effect:
        return prepared(question)
    await Settle()
    ticket = await AskHuman(question, relay.state())
    if ticket.why_not:
        return unanswered(question, ticket.why_not, ticket.hint)
    answer = ticket.answer
    if answer is None:
        if relay.is_inside and not line.waits_inside:
            return unanswered(question, INSIDE.format(ticket.id), ticket.hint)
        notice = mask(line.admitted.grounds.clear, relay.notice(ticket.notice, ticket.hint), line.connection.detect)
        world.send((world.record(notice, None),))
        reply = await AwaitAnswer(ticket, line.waits_inside if relay.is_inside else None)
        if reply.answer is None:
            return unanswered(question, reply.why_not)
        answer = reply.answer
    # People take their time, and so does whoever changes the target by another way meanwhile.
    if relay.means(ask, await LookUp(afresh=True)).digest != question.operation.facts.digest:
        return unanswered(question, "what it would do has changed since it was asked; ask again")
    decision = decide(
        line.policies, line.who, question.operation, line.connection, approved_by=answer.groups, approval=answer.id,
        now=world.clock(), said=line.said, granted=line.granted,
    )  # fmt: skip
    match decision:
        case Permit():
            now_held = await held(line, decision, relay.place(), world.clock(), alone=True)
            return unanswered(now_held) if isinstance(now_held, NeedsApproval) else now_held
        case Refusal():
            return decision
        case NeedsApproval():
            return unanswered(decision, "the approval that was given is not the one that policy asks for now")
        case _:
            assert_never(decision)


def is_held(line: Line) -> bool:
    """Whether anything is counted in this session: budgets, an alert's demand, or a mandate that bounds effects."""
    return line.restraint is not None or bool(line.bounds)


async def held(line: Line, permit: Permit, place: Place | None, now: int, *, alone: bool) -> Permit | Refusal | NeedsApproval:
    """What a permit is worth once what it costs is counted; `alone`: nothing was decided with it that has not been sent."""
    if line.restraint is not None:
        decision = await Hold(line.restraint, permit, now) if line.restraint.is_shared else restrained(line.restraint, permit, now)
        if not isinstance(decision, Permit):
            return decision
    asked = cost(permit, line.connection, place, alone=alone)
    if not isinstance(asked, Count):
        return asked or permit
    missing = await asked
    return permit if missing is None else beyond(permit, missing)


async def took(line: Line, rows: int, changed: int, size: int) -> None:
    """Count what is about to leave. Raises `NotAdmitted` when it would be too much: then it does not."""
    if line.restraint is not None:
        if line.restraint.is_shared:
            await Take(line.restraint, rows, size)
        else:
            line.restraint.took(rows, size)
    if line.bounds and (missing := await of_all(line.bounds, rows + changed, size)) is not None:
        raise NotAdmitted(Reason.BUDGET_SPENT, said(line.who, missing))


async def replies(line: Line, world: World) -> None:
    """From the target to the client."""
    relay: Relay = line.relay
    detect = line.connection.detect
    while (data := await HearTarget()) is not None:
        recorded: list[Recorded] = []
        batch: Batch
        under: Intended | None
        for batch, under in relay.results(data):
            clear = (line.admitted if under is None else under.permit).grounds.clear
            masked = mask(clear, batch, detect)
            relay.masked(masked)
            if is_held(line):
                await took(line, relay.flowed(), relay.changed(), len(masked.frames))
            recorded.append(world.record(masked, under))
        outcomes = relay.outcomes()
        if outcomes:
            world.conclude(outcomes)
        if relay.outdated():
            world.outdate()
        if recorded:
            world.send(tuple(recorded))
