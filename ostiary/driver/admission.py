"""Who comes in, and onto what: the part of the gate that is the same in every protocol.

A listener reads claims in its own protocol's way and then calls, in this order, `identify`, `target`, `admit` and `begin`; each
demands what the one before gives. Whoever is turned away is on record before they hear of it. What they hear of a bad token is one
sentence; which check failed is in the log.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, runtime_checkable

import msgspec

from ostiary.alerts.budgets import Budgets
from ostiary.alerts.heard import Demands
from ostiary.approvals.desk import Desk, Granted
from ostiary.audit.entries import Encoder, SessionEntries, session_facts
from ostiary.audit.ids import Ids
from ostiary.audit.journal import Journal
from ostiary.audit.writer import Writer
from ostiary.config.types import Listener
from ostiary.driver.devices import Devices
from ostiary.driver.lane import Counting
from ostiary.driver.leases import Cut, Lease, Leases
from ostiary.driver.neighbours import Neighbours
from ostiary.driver.targets import Destination, Destinations, Kind
from ostiary.identity.habits import Habits
from ostiary.identity.verifier import Verifier
from ostiary.model.connections import Connection
from ostiary.model.decisions import NeedsApproval, Permit
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Claims, Said, VerifiedIdentity
from ostiary.model.printable import printable
from ostiary.model.restraints import Restraint
from ostiary.policy.decide import NOBODY, connect_operation, decide
from ostiary.policy.policies import Policies
from ostiary.store.commons import Commons, CommonsBusy
from ostiary.vault.payload_format import QuotaReached
from ostiary.vault.payloads import PayloadStream

MAX_NAME_SHOWN: Final = 64
"""Characters of a connection's name that a stranger made up."""


BEYOND: Final = "policy demands read-only transactions or a statement timeout, and this target has neither"

WhyNot = Callable[[VerifiedIdentity], NotAdmitted | None]
"""Why an identity may not go on; None: it may."""


class Gate(Protocol):
    """One protocol's listener: lets clients in, and keeps the sessions that they have."""

    async def serve(self, sock: socket.socket) -> None:
        """Accept clients until cancelled."""
        ...

    def use(self, policies: Policies) -> None:
        """From now on every operation, also of sessions that are open, is decided under these policies."""
        ...

    def stop(self, why_not: WhyNot) -> None:
        """End the sessions whose identity may not go on, and say why: it was revoked, or somebody in it was stopped."""
        ...

    def close(self) -> None:
        """Let nobody in any more, and end every session."""
        ...


@runtime_checkable
class Alertable(Protocol):
    """A listener whose sessions an alert can reach one by one."""

    def restrain(self, restrained: Callable[[VerifiedIdentity, Restraint | None], Restraint | None]) -> None:
        """Look anew at what restrains each session."""
        ...

    def end(self, session: str, why: NotAdmitted) -> None:
        """End the session of that id, if there is one."""
        ...


class Begun(msgspec.Struct, frozen=True):
    """A session whose `session.start` is durable."""

    admitted: Permit
    session: str
    """UUIDv7."""
    journal: Journal
    held: Granted | None
    """What was granted to whoever opened it, on this connection; the session ends with it."""

    @property
    def granted(self) -> frozenset[str]:
        """The groups that granted it."""
        return NOBODY if self.held is None else self.held.groups


async def _no_approvers(_who: VerifiedIdentity, why: str) -> None:
    """Where nobody can be asked, what takes approval is refused."""
    raise NotAdmitted(Reason.MISUSED_TOKEN, why)


class Reception:
    """What the listeners of one worker share: whose tokens are believed, where the targets are, and the log."""

    def __init__(
        self,
        *,
        verifier: Verifier,
        targets: Destinations,
        policies: Policies,
        writer: Writer,
        encoder: Encoder,
        ids: Ids,
        open_stream: Callable[[str, VerifiedIdentity], PayloadStream],
        desk: Desk,
        budgets: Budgets,
        demands: Demands,
        counting: Counting,
        commons: Commons,
        neighbours: Neighbours,
        waits_inside: float = 0.0,
        devices: Devices | None = None,
        habits: Habits | None = None,
        stop: Callable[[VerifiedIdentity, str], Awaitable[None]] | None = None,
        demand: Callable[[VerifiedIdentity, str], Awaitable[None]] = _no_approvers,
    ) -> None:
        """`waits_inside`: seconds for which an approval may be waited for inside a transaction.

        `habits` watches how credentials are used; `stop` ends a credential with all its sessions, and `demand` has people approve of whatever
        is done with one. Both say why.
        """
        self.devices = devices
        """Where people log in who bring no token; None: nowhere."""
        self._habits = habits
        self._stop = stop
        self._demand = demand
        self._verifier = verifier
        self._targets = targets
        self.policies = policies
        """The policies in force."""
        self._writer = writer
        self._encoder = encoder
        self._ids = ids
        self._open_stream = open_stream
        self.desk = desk
        """Where questions for people are put."""
        self._leases = Leases()
        desk.listen(self._leases.taken_back)
        self.waits_inside = waits_inside
        self._budgets = budgets
        self._demands = demands
        self.counting = counting
        self.commons = commons
        """What all workers count together."""
        self.neighbours = neighbours

    @property
    def discovery(self) -> str:
        """Where a client learns how to get a token (OpenID Connect Discovery, 4); empty: nowhere."""
        issuer = self._verifier.own_issuer
        return "" if issuer is None else f"{issuer}/.well-known/openid-configuration"

    async def identify(self, claims: Claims) -> VerifiedIdentity:
        """Prove who it is. Raises `NotAdmitted`, without saying which check failed; that is on record."""
        try:
            who = await self._verifier.verify(claims, time.time())
        except NotAdmitted as exc:
            await self.turn_away(claims, None, exc)
            raise NotAdmitted(exc.reason, hint=exc.hint or "get a new token with `ostiary token`") from None
        await self._watch(claims, who)
        return who

    def still_stands(self, who: VerifiedIdentity) -> None:
        """Raise `NotAdmitted` where `who` was stopped after it was identified.

        `Gate.stop` reaches the sessions that a gate holds: ask this once a session is among them, or its stop was missed.
        """
        self._verifier.check(who)

    async def _watch(self, claims: Claims, who: VerifiedIdentity) -> None:
        """Put unusual uses of a credential on record, and react as the operator said. Raises `NotAdmitted`."""
        if self._habits is None:
            return
        try:
            signs = self._habits.notice(who, claims.said, time.time())
        except CommonsBusy as exc:
            refused = NotAdmitted(Reason.CONTROL_UNREACHABLE, f"how the credential was used is not known now: {exc}", "try again in a moment")
            await self.turn_away(claims, who, refused)
            raise refused from None
        for sign in signs:
            reaction, detail = self._habits.reactions[sign.name], f"misuse {sign.name}: {sign.detail}"
            if reaction == "approve":
                detail += "; from now on everything takes approval"
                try:
                    await self._demand(who, detail)
                except NotAdmitted as exc:
                    refused = NotAdmitted(exc.reason, f"{detail}, which could not be told: {exc.detail}", exc.hint)
                    await self.turn_away(claims, who, refused)
                    raise NotAdmitted(exc.reason, hint=exc.hint) from None
            if reaction in ("flag", "approve"):
                entry = self._encoder.login(
                    self._ids.next(), time.time_ns(), time.monotonic_ns(),
                    said=claims.said, connection=claims.connection, who=who, detail=detail,
                )  # fmt: skip
                await self._writer.wait_durable(self._writer.append(entry))
                continue
            refused = NotAdmitted(Reason.MISUSED_TOKEN, detail)
            await self.turn_away(claims, who, refused)
            if reaction == "stop" and self._stop is not None:
                await self._stop(who, detail)
            raise NotAdmitted(Reason.MISUSED_TOKEN, hint="get a new token with `ostiary token`")

    def target(self, name: str, kind: type[Kind], settings: Listener, sessions: int) -> Kind:
        """Find the target that is asked for, if there is room on it. `sessions`: how many the listener has already."""
        target = self._targets.find(name, kind)
        if target is None:
            shown = printable(name[:MAX_NAME_SHOWN])
            raise NotAdmitted(Reason.NO_SUCH_CONNECTION, shown, "`ostiary connections list` names them")
        if target.sessions >= target.connection.max_sessions or sessions >= settings.max_sessions:
            raise NotAdmitted(Reason.TOO_MANY_SESSIONS, f"on {target.connection.name}")
        return target

    def admit(self, who: VerifiedIdentity, target: Destination, said: Said) -> Permit:
        """Ask policy whether they may open a session there. Raises `NotAdmitted`."""
        connection = target.connection
        operation, now = connect_operation(connection), int(time.time())
        held = self.desk.granted(who, connection.name)
        groups, approval = (NOBODY, "") if held is None else (held.groups, held.id)
        decision = decide(self.policies, who, operation, connection, now=now, said=said)
        if held is not None and not isinstance(decision, Permit):  # so that what needs no grant names none
            decision = decide(
                self.policies, who, operation, connection, approved_by=groups, approval=approval, now=now, said=said,
                granted=groups,
            )  # fmt: skip
        match decision:
            case Permit():
                duties = decision.grounds.duties
                if duties is not None and (duties.read_only or duties.timeout is not None) and connection.type != "postgresql":
                    raise NotAdmitted(Reason.NOT_PERMITTED, BEYOND, "Ask whoever keeps the policy: they are for PostgreSQL.")
                return decision
            case NeedsApproval():
                hint = f"Ask for it: ostiary approvals request {connection.name} --minutes 30 --reason …"
                raise NotAdmitted(Reason.NOT_PERMITTED, decision.grounds.message, hint)
            case _:
                raise NotAdmitted(Reason.NOT_PERMITTED, decision.grounds.message, decision.grounds.hint)

    def restraint(self, who: VerifiedIdentity, connection: Connection) -> Restraint | None:
        """What restrains a session that is about to begin; None: nothing does."""
        found = Restraint(self._budgets.purses(who, connection, int(time.time())))
        found.demanded = self._demands.of(who)
        return None if found.is_idle else found

    def demand(self, who: VerifiedIdentity, restraint: Restraint | None) -> Restraint | None:
        """What restrains a session that is open, now that an alert has said something."""
        demanded = self._demands.of(who)
        if restraint is None and not demanded:
            return None
        restraint = restraint or Restraint(())
        restraint.demanded = demanded
        return restraint

    async def turn_away(self, claims: Claims, who: VerifiedIdentity | None, why: NotAdmitted) -> None:
        """Put a login that failed on record, durably."""
        entry = self._encoder.login(
            self._ids.next(), time.time_ns(), time.monotonic_ns(),
            said=claims.said, connection=claims.connection, who=who, reason=why.reason.name, detail=why.detail,
        )  # fmt: skip
        await self._writer.wait_durable(self._writer.append(entry))

    async def begin(self, admitted: Permit, said: Said, target: Destination) -> Begun:
        """Begin the session's record, and wait until its `session.start` is durable: before the target hears of anything.

        From here on the session counts on its target; who calls this ends it, with `target.leave` and `journal.end`.
        """
        session = self._ids.next()
        who = admitted.who
        held = self.desk.granted(who, target.connection.name)
        if admitted.grounds.approval and (held is None or held.id != admitted.grounds.approval):
            raise NotAdmitted(Reason.GRANT_OVER)
        said = msgspec.structs.replace(said, purpose=said.purpose or who.purpose, ticket=said.ticket or who.ticket)
        entries = SessionEntries(self._encoder, session_facts(admitted.who, said, target.connection, session))
        target.enter()
        try:
            journal = Journal(self._writer, entries, self._ids, open_stream=partial(self._open_stream, session, who))
        except BaseException as exc:
            target.leave()
            if isinstance(exc, QuotaReached):
                raise unrecorded(exc) from None
            raise
        try:
            started = journal.start(self.policies.digest, admitted)
            await journal.wait_durable(started)
            journal.proofs(started)
        except BaseException as exc:
            target.leave()
            journal.end(ending(exc))
            raise
        return Begun(admitted, session, journal, held)

    def lease(self, begun: Begun, connection: str, cut: Cut) -> Lease:
        """Have a session cut once its identity is over, or what was granted. Raises `NotAdmitted` where that was taken back meanwhile."""
        who, held = begun.admitted.who, begun.held
        if held is not None and not self.desk.holds(held, who, connection):
            raise NotAdmitted(Reason.GRANT_REVOKED)
        return self._leases.take(who.expires, held, cut)


def unrecorded(failure: Exception, hint: str = "") -> NotAdmitted:
    """What somebody is told whose doings could not be put on record: at a limit, or because the log cannot be written."""
    reason = Reason.RECORDINGS_FULL if isinstance(failure, QuotaReached) else Reason.LOG_UNAVAILABLE
    return NotAdmitted(reason, str(failure), hint)


def ending(failure: BaseException) -> str:
    """What `session.end` says of a session that could not begin."""
    return failure.reason.name if isinstance(failure, NotAdmitted) else type(failure).__name__
