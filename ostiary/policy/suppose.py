"""Operations that nobody asked for: what tests, simulations and explanations put to policy.

Nothing here is a proof of anything. A supposed identity is made by whoever is asked to (`Believe`), because identities are
minted in one place only; a supposed operation carries no bytes that could be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ostiary.model.connections import Connection
from ostiary.model.identity import Actor, Initiator, Kind, Mandate, VerifiedIdentity
from ostiary.model.operations import Action, Facts, Operation, Resource, facts_digest
from ostiary.policy.decide import connect_operation
from ostiary.policy.entities import KINDS

SOMEWHERE: Final = "https://idp.example.com"
"""Issuer of those for whom none is named."""


class Supposition(Exception):
    """What is supposed makes no sense. The sentence says what to write."""


class SupposedActor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One link of an acting chain."""

    name: str
    kind: Kind = Kind.AGENT
    issuer: str = SOMEWHERE
    subject: str = ""


class Supposed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Somebody to ask about."""

    subject: str = "someone"
    issuer: str = SOMEWHERE
    kind: Kind = Kind.HUMAN
    name: str = ""
    email: str | None = None
    groups: tuple[str, ...] = ()
    acting: tuple[SupposedActor, ...] = ()
    """The one at the keyboard first."""
    initiator: Initiator | None = None
    task: str | None = None
    mandate: Mandate | None = None

    def actors(self) -> tuple[Actor, ...]:
        """Return the chain as identities hold it."""
        return tuple(Actor(each.issuer, each.subject or each.name, each.kind, each.name) for each in self.acting)


Believe = Callable[[Supposed], VerifiedIdentity]
"""Makes an identity of a supposed one, for questions in this process alone."""


class SupposedFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What of a statement's facts policy can see, where it is not the ordinary."""

    name: str = ""
    has_where: bool = True
    functions: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()
    infer: tuple[str, ...] = ()
    arguments: dict[str, tuple[str, ...]] = {}


def action_named(text: str) -> Action:
    """Return the action of that name; `Supposition` names those that there are."""
    try:
        return Action(text)
    except ValueError:
        known = ", ".join(each.value for each in Action if each not in {Action.UNMASK, Action.INFER})
        raise Supposition(f"there is no action {text!r}; there are {known}") from None


def resource_named(text: str, *, otherwise: Action | None = None) -> Resource:
    """Read `ACTION KIND NAME` (`delete relation public.orders`), or with colons; without an action, `otherwise`."""
    parts = text.replace(" ", ":", 2 if otherwise is None else 0).split(":", 2)
    actions = {each.value for each in Action}
    if len(parts) == 3 and parts[0] in actions:
        action, kind, name = Action(parts[0]), parts[1], parts[2]
    elif otherwise is not None:
        kind, _, name = text.partition(":")
        action = otherwise
    else:
        raise Supposition(
            f"write what it does as ACTION KIND NAME, for example `delete relation public.orders`, not {text!r}"
        )
    if kind not in KINDS or not name:
        raise Supposition(f"write a resource as KIND:NAME with a kind of {', '.join(sorted(KINDS))}, not {text!r}")
    return Resource(kind, name.strip(), action, (), ())


_GRAVITY: Final = (
    Action.OPAQUE, Action.ADMINISTER, Action.DEFINE, Action.DELETE, Action.WRITE, Action.TRANSFER, Action.EXECUTE,
    Action.READ, Action.CONNECT, Action.INFER, Action.UNMASK,
)  # fmt: skip


def supposed_operation(connection: Connection, touched: tuple[Resource, ...], facts: SupposedFacts) -> Operation:
    """Return an operation on these resources; without any, the one that opens a session."""
    asked = connect_operation(connection)
    if not touched and facts == SupposedFacts():
        return asked
    gravest = min((each.action for each in touched), key=_GRAVITY.index, default=Action.READ)
    name = facts.name or gravest.value.upper()
    arguments = tuple(facts.arguments.items())
    seen = (facts.has_where, facts.functions, facts.opaque, facts.unmask, arguments, facts.infer, facts.session)
    made: Facts = msgspec.structs.replace(
        asked.facts, action=gravest, name=name, resources=touched, has_where=facts.has_where, functions=facts.functions,
        opaque=facts.opaque, session=facts.session, unmask=facts.unmask, infer=facts.infer, arguments=arguments,
        digest=facts_digest(gravest, name, touched, seen),
    )  # fmt: skip
    return Operation(made, asked.statement, asked.parameters, asked.wire)


def supposed_from(value: Mapping[str, Any], place: str) -> Supposed:
    """Read `who` of a test file; `Supposition` names the place."""
    try:
        return msgspec.convert(dict(value), Supposed, strict=True)
    except msgspec.ValidationError as exc:
        raise Supposition(f"{place}: {exc}") from None
