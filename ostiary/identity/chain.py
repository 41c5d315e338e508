"""Who acts for whom, and within which bounds: `act`, `may_act` and mandates, read and narrowed, never widened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ostiary.identity.jose import bad_token
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import MAX_CHAIN, Actor, Budget, Kind, Mandate, VerifiedIdentity
from ostiary.model.printable import is_visible

MAX_TEXT: Final = 512
"""Characters of a subject, group or name. OpenID Connect Core, 2 says 255 for `sub`; some CI issuers pass it."""
MAX_MANDATE: Final = 256
"""Entries in one dimension of a mandate."""
MANDATE_TYPE: Final = "ostiary"
_MANDATE_KEYS: Final = frozenset({"type", "id", "connections", "actions", "resources", "effects"})
_DIMENSIONS: Final = ("connections", "actions", "resources")
_EFFECTS: Final = ("calls", "rows", "bytes", "objects")
MAX_EFFECT: Final = 1 << 53
MAX_BUDGETS: Final = 9
"""One for the first mandate, and one for each link of the chain that narrowed it."""
_ACTOR_KINDS: Final = frozenset({Kind.AGENT, Kind.WORKLOAD})


def text_of(value: object, what: str) -> str:
    """`value` as a non-empty printable string of at most 512 characters, or `NotAdmitted`.

    Printable: control characters, lone surrogates and whatever cannot be seen and makes two names look like one, blanks at the
    ends among it, are out.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not is_visible(value) or value != value.strip():
        bad_token(f"{what} is not a short printable string")
    return value


def group_of(value: object) -> str:
    """A group's name, or `NotAdmitted`: only compared with what policy names, so that blanks at its ends lock nobody out."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        bad_token("a group is not a short printable string")
    return value


def acting_from(
    act: object, *, subject: tuple[str, str], issuer: str, trusted: tuple[str, ...], kind: Kind
) -> tuple[Actor, ...]:
    """RFC 8693, 4.1: the nested `act` as a tuple, the current actor first.

    `subject` is (iss, sub) of who is acted for. An actor's `iss` is the token's unless stated, and only one of
    `trusted` beside it: an issuer speaks for its own names. Refused: more than `MAX_CHAIN` links, the same actor twice,
    a link without `sub`. Claims of a link other than `iss sub name` say nothing about acting and are not read.
    """
    links: list[Actor] = []
    while act is not None:
        if len(links) == MAX_CHAIN:
            bad_token(f"more than {MAX_CHAIN} actors")
        if not isinstance(act, dict):
            bad_token("act is not an object")
        sub = text_of(act.get("sub"), "act.sub")
        iss = text_of(act.get("iss", issuer), "act.iss")
        if iss != issuer and iss not in trusted:
            bad_token("act names an actor of an issuer that this one does not speak for")
        links.append(Actor(iss=iss, sub=sub, kind=kind, name=display_name(act.get("name"), sub)))
        if "act" in act and act["act"] is None:
            bad_token("act is not an object")
        act = act.get("act")
    chain = tuple(links)
    check_chain(subject, chain)
    return chain


def display_name(value: object, fallback: str) -> str:
    """`value` where it can be shown, else `fallback`: a name is a label and admits nobody, so it refuses nobody."""
    is_good = isinstance(value, str) and 0 < len(value) <= MAX_TEXT and is_visible(value) and value == value.strip()
    return str(value) if is_good else fallback


def check_chain(subject: tuple[str, str], chain: Iterable[Actor]) -> None:
    """Raise `NotAdmitted` for a chain that is too deep or in which somebody stands twice, the subject included."""
    seen = {subject}
    for depth, actor in enumerate(chain, start=1):
        if depth > MAX_CHAIN:
            bad_token(f"more than {MAX_CHAIN} actors")
        if (actor.iss, actor.sub) in seen:
            bad_token("the acting chain is a loop")
        seen.add((actor.iss, actor.sub))


def delegate(subject: VerifiedIdentity, may_act: object, actor: VerifiedIdentity) -> tuple[Actor, ...]:
    """The chain after `actor` takes over from whoever acts for `subject` now: RFC 8693, 4.1 and 4.4.

    `may_act` is the subject token's claim; it must name the actor by `sub`, and by `iss` where the actor's is not the
    subject's. Nobody else is let in, and only agents and workloads act. The actor's own chain goes in front: whoever
    drives the actor is at the keyboard.
    """
    if actor.kind not in _ACTOR_KINDS:
        bad_token("the actor is neither an agent nor a workload")
    if not isinstance(may_act, dict):
        bad_token("the subject token names nobody who may act")
    named = (may_act.get("iss", subject.issuer), may_act.get("sub"))
    if named != (actor.issuer, actor.subject):
        bad_token("the subject token names somebody else who may act")
    link = Actor(iss=actor.issuer, sub=actor.subject, kind=actor.kind, name=actor.name)
    chain = (*actor.acting, link, *subject.acting)
    check_chain((subject.issuer, subject.subject), chain)
    return chain


def mandate_from(details: object, *, fallback_id: str, own: bool = False, issuer: str = "") -> Mandate | None:
    """The one `authorization_details` object (RFC 9396, 2) of type `ostiary`, as a mandate; None: the claim is absent.

    A restriction that is not understood is not dropped: an unknown member, details of other types alone, or several
    of ours (their union is no product of dimensions) are refused. `own`: it stands in a token of the gateway's, which
    may also say `within`, the budgets of the mandates that it was narrowed from. `issuer`: whose token it stands in otherwise; what is
    spent is counted for its ids apart, as another issuer may use the same.
    """
    if details is None:
        return None
    if not isinstance(details, list) or not all(isinstance(item, dict) for item in details):
        bad_token("authorization_details is not a list of objects")
    ours = [item for item in details if item.get("type") == MANDATE_TYPE]
    if len(ours) != 1:
        bad_token("authorization_details holds not exactly one object of type ostiary")
    item: Mapping[str, Any] = ours[0]
    if not item.keys() <= (_MANDATE_KEYS | {"within"} if own else _MANDATE_KEYS):
        bad_token("authorization_details has members that are not understood")
    name = text_of(item.get("id", fallback_id), "authorization_details.id")
    counted = hashlib.sha256(f"{len(issuer)}:{issuer}{name}".encode()).hexdigest()[:32] if issuer else name
    budgets = [_budget(counted, item["effects"])] if "effects" in item else []
    return Mandate(
        id=name,
        connections=_dimension(item, "connections"),
        actions=_dimension(item, "actions"),
        resources=_dimension(item, "resources"),
        budgets=(*budgets, *_within(item.get("within", []))),
    )


def _dimension(item: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    if name not in item:
        return None
    value = item[name]
    if not isinstance(value, list) or len(value) > MAX_MANDATE:
        bad_token(f"authorization_details.{name} is not a list of at most {MAX_MANDATE}")
    return tuple(sorted({text_of(entry, f"authorization_details.{name}") for entry in value}))


def _budget(name: str, effects: object) -> Budget:
    if not isinstance(effects, dict) or not effects or not effects.keys() <= set(_EFFECTS):
        bad_token(f"authorization_details.effects is not an object with some of {', '.join(_EFFECTS)}")
    for what, most in effects.items():
        if type(most) is not int or not 0 <= most <= MAX_EFFECT:
            bad_token(f"authorization_details.effects.{what} is not a whole number from 0 to 2^53")
    return Budget(id=name, **effects)


def _within(held: object) -> list[Budget]:
    if not isinstance(held, list) or len(held) > MAX_BUDGETS:
        bad_token("authorization_details.within is not a short list")
    found = []
    for each in held:
        if not isinstance(each, dict) or "id" not in each:
            bad_token("authorization_details.within holds something else than budgets")
        effects = {name: most for name, most in each.items() if name != "id"}
        found.append(_budget(text_of(each["id"], "authorization_details.within.id"), effects))
    return found


def details_of(mandate: Mandate) -> list[dict[str, object]]:
    """`mandate` as `authorization_details`, the inverse of `mandate_from` with `own`."""
    item: dict[str, object] = {"type": MANDATE_TYPE, "id": mandate.id}
    for name in _DIMENSIONS:
        value = getattr(mandate, name)
        if value is not None:
            item[name] = list(value)
    within = []
    for budget in mandate.budgets:
        effects = {name: most for name in _EFFECTS if (most := getattr(budget, name)) is not None}
        if budget.id == mandate.id:
            item["effects"] = effects
        else:
            within.append({"id": budget.id} | effects)
    if within:
        item["within"] = within
    return [item]


def narrow_mandate(held: Mandate | None, asked: Mandate | None) -> Mandate | None:
    """`asked` if it lies within `held`; `held` where nothing is asked. Raises `NotAdmitted` for a wider one.

    Entries are compared as text, so a pattern never proves that it lies within another one. What is spent under it is spent
    under every mandate that it was made of, too: a budget that is larger than what is left there grants nothing.
    """
    if asked is None or held is None:
        return asked if held is None else held
    dimensions: dict[str, tuple[str, ...] | None] = {}
    for name in _DIMENSIONS:
        have: tuple[str, ...] | None = getattr(held, name)
        want: tuple[str, ...] | None = getattr(asked, name)
        if have is not None and want is not None and not set(want) <= set(have):
            beyond = ", ".join(sorted(set(want) - set(have))[:3])
            raise NotAdmitted(
                Reason.BAD_TOKEN, f"the mandate asked for is wider in {name} than the one held ({beyond})"
            )
        dimensions[name] = have if want is None else want
    _check_budgets(held, asked)
    return Mandate(id=asked.id, **dimensions, budgets=_joined(asked, held))


def _check_budgets(held: Mandate, asked: Mandate) -> None:
    for mine in asked.budgets:
        for theirs in held.budgets:
            for name in _EFFECTS:
                want, have = getattr(mine, name), getattr(theirs, name)
                if want is not None and have is not None and want > have:
                    raise NotAdmitted(
                        Reason.BAD_TOKEN,
                        f"the mandate asked for is wider in {name} than the one held ({want} > {have})",
                    )


def _joined(one: Mandate, other: Mandate) -> tuple[Budget, ...]:
    budgets: dict[str, Budget] = {}
    for budget in (*other.budgets, *one.budgets):
        held = budgets.get(budget.id)
        budgets[budget.id] = budget if held is None else Budget(budget.id, **{name: _less(budget, held, name) for name in _EFFECTS})
    if len(budgets) > MAX_BUDGETS:
        bad_token("the mandate was narrowed too often")
    return tuple(budgets.values())


def _less(one: Budget, other: Budget, what: str) -> int | None:
    return min((most for each in (one, other) if (most := getattr(each, what)) is not None), default=None)


def common_mandate(one: Mandate | None, other: Mandate | None) -> Mandate | None:
    """What both permit, under the first one's id: for a token made from two."""
    if one is None or other is None:
        return other if one is None else one
    dimensions: dict[str, tuple[str, ...] | None] = {}
    for name in _DIMENSIONS:
        a: tuple[str, ...] | None = getattr(one, name)
        b: tuple[str, ...] | None = getattr(other, name)
        dimensions[name] = b if a is None else a if b is None else tuple(sorted(set(a) & set(b)))
    return Mandate(id=one.id, **dimensions, budgets=_joined(one, other))
