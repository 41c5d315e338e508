"""How credentials are used, and what is unusual about a use: signs of a credential in the wrong hands.

A sign proves nothing, and what it is worth is the operator's to say (`[misuse]`): nothing, an entry in the log, a refusal, or the end of the
credential with all its sessions, a demand that people approve of whatever is done with it. What is remembered is in memory, for a day at most and bounded, so a restart forgets it. Several workers remember
together (`SharedMemory`).

* **another network**: one credential from two networks (/24, /64) within ten minutes;
* **another job**: a service account used by another workload, or for another initiator, than before;
* **interactive client**: a workload's or an agent's credential shown by a program that a person sits at;
* **another client**: a workload's or an agent's credential shown by another sort of program than before;
* **ended job**: a token used after its job ended, as far as that was told (`ostiary.identity.standing`).

A use that is let in as it is, or merely flagged, is what the next one is measured by. One that is refused, or that people look at, is not: else
who tries twice would be in.

A credential is what everything else was made from: the issuer's token, or the delegation. The client's sort is what it says of itself.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ostiary.model.identity import Kind, Said, VerifiedIdentity
from ostiary.store.commons import Table, key_of

CREDENTIAL: Final = "credential"
ACCOUNT: Final = "account"
FLAGGED: Final = "flagged"
KINDS: Final = (CREDENTIAL, ACCOUNT, FLAGGED)
MAX_TEXT: Final = 64
"""Bytes of a network, or of a sort of client."""
_RECORD: Final = struct.Struct(f"={MAX_TEXT}s{MAX_TEXT}sd")
BODY: Final = _RECORD.size
RECORDS: Final = 1 << 17
MAX_REMEMBERED: Final = 100_000
TWO_PLACES_SECONDS: Final = 600
DAY: Final = 86_400
INTERACTIVE: Final = frozenset(
    {"psql", "pgcli", "dbeaver", "datagrip", "pgadmin", "postico", "tableplus", "navicat", "azuredatastudio"}
)
SIGNS: Final = ("another_network", "another_job", "interactive_client", "another_client", "ended_job")
LENIENT: Final = frozenset({"off", "flag"})
"""Reactions after which a use counts as usual."""


Seen = tuple[str, str, float]
"""A credential's network and sort of client, or an account's workload and initiator, and when that was, in seconds since 1970."""


class Memory:
    """What one worker alone has seen."""

    lock: AbstractContextManager[None] = nullcontext()

    def __init__(self) -> None:
        self._held: dict[str, dict[str, Seen]] = {kind: {} for kind in KINDS}

    def find(self, kind: str, name: str) -> Seen | None:
        """What was seen last."""
        return self._held[kind].get(name)

    def keep(self, kind: str, name: str, seen: Seen) -> None:
        """Remember the newest; the oldest go where there are too many."""
        held = self._held[kind]
        held.pop(name, None)
        while len(held) >= MAX_REMEMBERED:
            del held[next(iter(held))]
        held[name] = seen


class SharedMemory:
    """What all workers have seen: in the memory that they share."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.lock = table.lock

    def find(self, kind: str, name: str) -> Seen | None:
        """See `Memory.find`."""
        first, second, at = _RECORD.unpack_from(self._table.memory, self._place(kind, name))
        return (first.rstrip(b"\0").decode(), second.rstrip(b"\0").decode(), at) if at else None

    def keep(self, kind: str, name: str, seen: Seen) -> None:
        """See `Memory.keep`."""
        _RECORD.pack_into(self._table.memory, self._place(kind, name), seen[0].encode(), seen[1].encode(), seen[2])

    def _place(self, kind: str, name: str) -> int:
        """Where it stands. Where there is no room, what is older goes."""
        key, memory = key_of(kind, name), self._table.memory
        times: list[float] = []

        def is_old(at: int) -> bool:
            times.append(_RECORD.unpack_from(memory, at)[2])
            return times[-1] == 0.0

        found = self._table.place(key, is_old)
        if found is None:
            oldest = min(times)
            found = self._table.place(key, lambda at: _RECORD.unpack_from(memory, at)[2] <= oldest)
        assert found is not None  # noqa: S101 - the oldest has made room
        return found


@dataclass(frozen=True, slots=True)
class Sign:
    """One unusual thing."""

    name: str
    """One of `SIGNS`."""
    detail: str


class Habits:
    """What was seen of each credential so far."""

    def __init__(
        self, reactions: Mapping[str, str], ended: Callable[[VerifiedIdentity], str] = lambda _: "", memory: Memory | SharedMemory | None = None
    ) -> None:
        """`ended`: that somebody's job has ended, in words; empty: it has not. `memory`: where uses are remembered; None: here."""
        self.reactions = {sign: reactions[sign] for sign in SIGNS}
        """What to do about each sign: `off`, `flag`, `approve`, `refuse` or `stop`."""
        self._ended = ended
        self._memory = memory or Memory()

    def notice(self, who: VerifiedIdentity, said: Said, now: float) -> list[Sign]:
        """Take a use, and say what is unusual about it, less what is `off`. Raises `CommonsBusy` where that cannot be known."""
        with self._memory.lock:
            return self._notice(who, said, now)

    def _notice(self, who: VerifiedIdentity, said: Said, now: float) -> list[Sign]:
        found = [*self._credential(who, said, now), *self._account(who, now)]
        if (over := self._ended(who)) != "":
            found.append(Sign("ended_job", over))
        if all(self.reactions[sign.name] in LENIENT for sign in found):
            self._learn(who, said, now)
        return [
            sign
            for sign in found
            if self._matters(f"{sign.name} {credential(who)}", self.reactions.get(sign.name, "off"), now)
        ]

    def _learn(self, who: VerifiedIdentity, said: Said, now: float) -> None:
        """Take a use as what is usual."""
        self._memory.keep(CREDENTIAL, credential(who), (fit(network_of(said.address)), fit(sort_of(said.application)), now))
        if who.account is not None:
            self._memory.keep(ACCOUNT, who.account, (*_job(who), now))

    def _matters(self, what: str, reaction: str, now: float) -> bool:
        """Whether a sign is to be acted on: what is merely flagged is flagged once in a while, not with every request."""
        if reaction != "flag":
            return reaction != "off"
        before = self._memory.find(FLAGGED, what)
        if before is not None and now - before[2] < TWO_PLACES_SECONDS:
            return False
        self._memory.keep(FLAGGED, what, ("", "", now))
        return True

    def _credential(self, who: VerifiedIdentity, said: Said, now: float) -> list[Sign]:
        network, client = fit(network_of(said.address)), fit(sort_of(said.application))
        before = self._memory.find(CREDENTIAL, credential(who))
        found = []
        if before is not None and before[0] != network and now - before[2] < TWO_PLACES_SECONDS:
            found.append(Sign("another_network", f"from {network}, and from {before[0]} {int(now - before[2])} s before"))
        if who.kind is Kind.HUMAN and not who.acting:
            return found
        if client in INTERACTIVE:
            found.append(Sign("interactive_client", f"shown by {client}"))
        if before is not None and before[1] != client and now - before[2] < DAY:
            found.append(Sign("another_client", f"shown by {client or 'an unnamed client'}, before by {before[1] or 'one'}"))
        return found

    def _account(self, who: VerifiedIdentity, now: float) -> list[Sign]:
        if who.account is None:
            return []
        job, initiator = _job(who)
        before = self._memory.find(ACCOUNT, who.account)
        if before is None or before[:2] == (job, initiator) or now - before[2] > DAY:
            return []
        other = "workload" if before[0] != job else "initiator"
        return [Sign("another_job", f"the account {who.account} is used by another {other} than before")]


def _job(who: VerifiedIdentity) -> tuple[str, str]:
    """What stands for the workload, and for whom it works."""
    return key_of(who.issuer, who.subject).hex(), "" if who.initiator is None else key_of(who.initiator.sub).hex()


def fit(text: str) -> str:
    """What stands for `text` and is no longer than is remembered of it."""
    data = text.encode("utf-8", "replace").replace(b"\0", b"?")
    return data.decode() if len(data) <= MAX_TEXT else key_of(text).hex()


def credential(who: VerifiedIdentity) -> str:
    """Id hash of what everything that this identity holds was made from."""
    return who.auth.family[0] if who.auth.family else who.auth.token


def network_of(address: str) -> str:
    """The /24 or /64 that `host:port` is in; what is no address stands for itself."""
    return _network(address.rpartition(":")[0].strip("[]") or address)


@lru_cache(maxsize=1024)
def _network(host: str) -> str:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((found, 24 if found.version == 4 else 64), strict=False))


def sort_of(application: str) -> str:
    """What sort of program a client says it is: the first word, without version."""
    words = application.lower().replace("/", " ").replace("-", "").split()
    return words[0][:64] if words else ""
