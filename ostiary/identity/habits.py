"""How credentials are used, and what is unusual about a use: signs of a credential in the wrong hands.

A sign proves nothing, and what it is worth is the operator's to say (`[misuse]`): nothing, an entry in the log, a refusal, or the end of the
credential with all its sessions. What is remembered is in memory, for a day at most and bounded, so a restart forgets it.

* **another network**: one credential from two networks (/24, /64) within ten minutes;
* **another job**: a service account used by another workload, or for another initiator, than before;
* **interactive client**: a workload's or an agent's credential shown by a program that a person sits at;
* **another client**: a workload's or an agent's credential shown by another sort of program than before.

A credential is what everything else was made from: the issuer's token, or the delegation. The client's sort is what it says of itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from ostiary.model.identity import Kind, Said, VerifiedIdentity

Value = TypeVar("Value")

MAX_REMEMBERED: Final = 100_000
TWO_PLACES_SECONDS: Final = 600
DAY: Final = 86_400
INTERACTIVE: Final = frozenset(
    {"psql", "pgcli", "dbeaver", "datagrip", "pgadmin", "postico", "tableplus", "navicat", "azuredatastudio"}
)
SIGNS: Final = ("another_network", "another_job", "interactive_client", "another_client")


@dataclass(slots=True)
class _Seen:
    network: str
    client: str
    at: float


@dataclass(frozen=True, slots=True)
class Sign:
    """One unusual thing."""

    name: str
    """One of `SIGNS`."""
    detail: str


class Habits:
    """What was seen of each credential so far."""

    def __init__(self, reactions: Mapping[str, str]) -> None:
        self.reactions = dict(reactions)
        """What to do about each sign: `off`, `flag`, `refuse` or `stop`."""
        self._credentials: dict[str, _Seen] = {}
        self._flagged: dict[str, float] = {}
        self._accounts: dict[str, tuple[str, str, float]] = {}

    def notice(self, who: VerifiedIdentity, said: Said, now: float) -> list[Sign]:
        """Take a use, and say what is unusual about it, less what is `off`."""
        found = [*self._credential(who, said, now), *self._account(who, now)]
        return [
            sign
            for sign in found
            if self._matters(f"{sign.name} {credential(who)}", self.reactions.get(sign.name, "off"), now)
        ]

    def _matters(self, what: str, reaction: str, now: float) -> bool:
        """Whether a sign is to be acted on: what is merely flagged is flagged once in a while, not with every request."""
        if reaction != "flag":
            return reaction != "off"
        if now - self._flagged.get(what, float("-inf")) < TWO_PLACES_SECONDS:
            return False
        _keep(self._flagged, what, now)
        return True

    def _credential(self, who: VerifiedIdentity, said: Said, now: float) -> list[Sign]:
        name, network, client = credential(who), network_of(said.address), sort_of(said.application)
        before = self._credentials.get(name)
        _keep(self._credentials, name, _Seen(network, client, now))
        found = []
        if before is not None and before.network != network and now - before.at < TWO_PLACES_SECONDS:
            found.append(
                Sign("another_network", f"from {network}, and from {before.network} {int(now - before.at)} s before")
            )
        if who.kind is Kind.HUMAN and not who.acting:
            return found
        if client in INTERACTIVE:
            found.append(Sign("interactive_client", f"shown by {client}"))
        if before is not None and before.client != client and now - before.at < DAY:
            found.append(
                Sign("another_client", f"shown by {client or 'an unnamed client'}, before by {before.client or 'one'}")
            )
        return found

    def _account(self, who: VerifiedIdentity, now: float) -> list[Sign]:
        if who.account is None:
            return []
        job = f"{len(who.issuer)}:{who.issuer}{who.subject}"
        initiator = "" if who.initiator is None else who.initiator.sub
        before = self._accounts.get(who.account)
        _keep(self._accounts, who.account, (job, initiator, now))
        if before is None or before[:2] == (job, initiator) or now - before[2] > DAY:
            return []
        other = "workload" if before[0] != job else "initiator"
        return [Sign("another_job", f"the account {who.account} is used by another {other} than before")]


def credential(who: VerifiedIdentity) -> str:
    """Id hash of what everything that this identity holds was made from."""
    return who.auth.family[0] if who.auth.family else who.auth.token


def network_of(address: str) -> str:
    """The /24 or /64 that `host:port` is in; what is no address stands for itself."""
    host = address.rpartition(":")[0].strip("[]") or address
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((found, 24 if found.version == 4 else 64), strict=False))


def sort_of(application: str) -> str:
    """What sort of program a client says it is: the first word, without version."""
    words = application.lower().replace("/", " ").replace("-", "").split()
    return words[0][:64] if words else ""


def _keep(held: dict[str, Value], name: str, value: Value) -> None:
    """Remember the newest; the oldest go where there are too many."""
    held.pop(name, None)
    while len(held) >= MAX_REMEMBERED:
        del held[next(iter(held))]
    held[name] = value
