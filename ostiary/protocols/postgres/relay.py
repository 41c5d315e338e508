"""One PostgreSQL session's engine: the client's half and the target's half, over one conversation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from ostiary.model.catalogue import Snapshot
from ostiary.model.commands import Order
from ostiary.model.connections import Look
from ostiary.model.decisions import Permit, Refusal
from ostiary.model.duties import Duties
from ostiary.model.operations import Facts, Objection, Operation, is_reading
from ostiary.model.proofs import Batch, Content, Denied, Intended, Masked, Outcome
from ostiary.model.restraints import Place
from ostiary.protocols.postgres import refusals
from ostiary.protocols.postgres.answering import Answering, Plans
from ostiary.protocols.postgres.asking import Asking
from ostiary.protocols.postgres.conversation import IDLE, IN_BLOCK, Conversation
from ostiary.protocols.postgres.understanding import Understanding
from ostiary.protocols.relay import Ask, Relay, Streamed

ENDING: Final = frozenset({"COMMIT", "ROLLBACK", "PREPARE"})
"""What ends a transaction, as facts name it: END and ABORT have these names too, PREPARE is PREPARE TRANSACTION."""
_SETTING: Final = frozenset({"setting", "role"})


def changes_state(facts: Facts) -> bool:
    """Whether an operation may change what later ones mean: a setting, a role, or something that cannot be seen through."""
    return (
        bool(facts.opaque)
        or any(resource.kind in _SETTING for resource in facts.resources)
        or any("set_config" in function for function in facts.functions)
        or facts.name.startswith(("SET", "RESET", "DISCARD"))
    )


class PostgresRelay(Relay):
    """See `ostiary.protocols.relay.Relay`."""

    __slots__ = ("_answering", "_asking", "_changes", "_talk", "_understanding", "_watched")

    def __init__(
        self,
        understanding: Understanding,
        *,
        detect: Look,
        plans: Plans,
        process_ids: Mapping[bytes, bytes] | None = None,
        shown: Mapping[bytes, bytes] | None = None,
        comment: bytes = b"",
    ) -> None:
        """`process_ids`: of this gateway's sessions on the target, there and as their clients were told; in network order.

        `shown`: ParameterStatus messages of the target, to those that the client hears in their place. `comment`: see `Asking`.
        """
        talk = self._talk = Conversation()
        self._understanding = understanding
        self._watched = False
        """Somebody was asked about an operation of this session: what changes settings from now on is remembered."""
        self._changes = b""
        protects = understanding.protects
        self._asking = Asking(talk, understanding, describes=bool(protects or detect), comment=comment)
        self._answering = Answering(
            talk, understanding, detect=detect, plans=plans, process_ids=process_ids or {}, shown=shown or {}
        )

    def asks(self, data: bytes, snapshot: Snapshot) -> Iterable[Ask]:
        """See `Relay.asks`."""
        return self._asking.take(data, snapshot)

    def decided(self, ask: Ask, decision: Permit | Refusal) -> bool:
        """See `Relay.decided`."""
        if self._watched and ask.takes_effect and isinstance(decision, Permit) and changes_state(decision.operation.facts):
            self._changes = hashlib.sha256(self._changes + decision.operation.statement).digest()
        return self._asking.decided(ask, decision)

    @property
    def is_complete(self) -> bool:
        """See `Relay.is_complete`."""
        return self._asking.is_complete

    @property
    def is_inside(self) -> bool:
        """See `Relay.is_inside`."""
        talk = self._talk
        return self._asking.has_begun or talk.unsynced or talk.status != IDLE or bool(talk.pending)

    @property
    def is_settling(self) -> bool:
        """Whether answers are outstanding that will come without another word of the client's."""
        return bool(self._talk.pending) and not self._talk.unsynced

    def state(self) -> bytes:
        """See `Relay.state`."""
        self._watched = True
        return hashlib.sha256(self._understanding.fingerprint() + self._changes).digest()

    def means(self, ask: Ask, snapshot: Snapshot) -> Facts:
        """See `Relay.means`."""
        return self._asking.means(ask, snapshot)

    def obey(self, permit: Permit, duties: Duties, snapshot: Snapshot) -> Operation | Objection:
        """See `Relay.obey`."""
        return self._asking.obey(permit, duties, snapshot)

    def notice(self, text: str, hint: str) -> Batch:
        """See `Relay.notice`."""
        return Batch(refusals.notice_response(text, hint=hint), Content.CONTROL, None, 0, strip=False)

    def order(self, proofs: tuple[Intended | Denied, ...]) -> Order:
        """See `Relay.order`."""
        return self._asking.order(proofs)

    def streamed(self) -> Iterable[Streamed]:
        """See `Relay.streamed`."""
        return self._asking.streamed()

    def answers(self) -> Iterable[Batch]:
        """See `Relay.answers`."""
        return self._asking.answers()

    def results(self, data: bytes) -> Iterable[tuple[Batch, Intended | None]]:
        """See `Relay.results`."""
        return self._answering.take(data)

    def masked(self, masked: Masked) -> None:
        """See `Relay.masked`."""
        self._answering.masked(masked)

    def flowed(self) -> int:
        """See `Relay.flowed`."""
        was, self._talk.flowed = self._talk.flowed, 0
        return was

    def changed(self) -> int:
        """See `Relay.changed`."""
        was, self._talk.changed = self._talk.changed, 0
        return was

    def place(self) -> Place:
        """See `Relay.place`. A portal may be fetched from in parts, but what it changes is done with the first.

        An end of the transaction that was asked for, or only bound, is half done until ReadyForQuery tells how things stand.
        """
        talk = self._talk
        is_quiet = not (
            talk.uncounted
            or any(turn.work is not None for turn in talk.pending)
            or any(not is_reading(work.facts) or not ENDING.isdisjoint(work.facts.name.split("; ")) for work in talk.open_works)
        )
        return Place(talk.status == IN_BLOCK, is_quiet)

    def outcomes(self) -> tuple[Outcome, ...]:
        """See `Relay.outcomes`."""
        return self._talk.outcomes()

    def outdated(self) -> bool:
        """See `Relay.outdated`."""
        was, self._talk.outdated = self._talk.outdated, False
        return was

    def abandon(self) -> tuple[Outcome, ...]:
        """See `Relay.abandon`."""
        return self._talk.abandon()

    @property
    def is_stalled(self) -> bool:
        """Client bytes wait for an answer of the target: hear the client again, with no bytes, once one came."""
        return self._asking.stalled

    @property
    def is_leaving(self) -> bool:
        """The client said goodbye."""
        return self._asking.leaving

    @property
    def has_farewell(self) -> bool:
        """The target said that it ends the session, and the client has heard it."""
        return self._talk.farewell

    @property
    def outstanding(self) -> int:
        """Messages whose answer has not come."""
        return len(self._talk.pending)
