"""Cedar text, cut into single policies, each with its line, its id and its annotations.

Cedar's own parser gives a whole file one verdict without a line. So the file is cut here at each `;` that stands
outside strings and comments, and every piece goes through Cedar's parser by itself: a fault then has a line and, where
the piece has one, an id. Only the cutting is ours; what a policy means is read by Cedar alone, and a piece that is not
exactly one policy is refused, so a wrong cut cannot change a meaning.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

import cedarpy
import msgspec

from ostiary.model.duties import Demand
from ostiary.model.errors import ConfigError
from ostiary.model.operations import Action
from ostiary.policy import demands

MAX_TEXT: Final = 16 << 20
"""Characters of the largest policy file: some ten thousand policies."""
MAX_LIMIT: Final = 2**53
MAX_TIMEOUT: Final = 2**31 - 1
"""Milliseconds: the largest `statement_timeout` of PostgreSQL."""
BY_NAME: Final = frozenset({Action.OPAQUE, Action.UNMASK, Action.INFER})
"""Actions that a permit must name in its head; `permit (principal, action, resource)` does not grant them."""

ANNOTATIONS: Final = {
    "id": "permit forbid",
    "message": "forbid",
    "approval": "forbid",
    "limit": "permit",
    "rows": "permit",
    "filter": "permit",
    "instead": "permit",
    "transactions": "permit",
    "timeout": "permit",
    "parameters": "permit",
    "read_only": "permit",
    "observe": "permit",
    "description": "permit forbid",
}
"""Known annotations, and on which effects they mean something."""

# A string, a comment, an end, or a run of anything else. A lone quote falls through to the last arm: Cedar refuses it.
_PIECE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n\r]*|;|[^";/]+|.', re.DOTALL)
_ID: Final = re.compile(r'@id\s*\(\s*"([^"\\]{1,200})"\s*\)')
_DURATION: Final = re.compile(r"([0-9]{1,9})(ms|s|min)")
_UNITS: Final = {"ms": 1, "s": 1000, "min": 60_000}
_APPROVAL: Final = re.compile(r"\s*([^\s,:]+)\s*(?::\s*([1-9][0-9]?))?\s*")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One policy, parsed and checked."""

    id: str
    place: str
    """File and line."""
    text: str
    est: dict[str, Any]
    """Cedar's JSON form of it."""
    permits: bool
    names: frozenset[str]
    """Actions that its head names; empty: it names none, and is about all of them."""
    message: str
    approval: tuple[tuple[str, int], ...]
    """(group, how many of it), sorted; empty: no approval lifts it."""
    limit: int | None
    """Rows."""
    rows: int | None
    """Rows that one statement may return; it is rewritten so that it returns no more."""
    filter: str
    """A condition, in the target's own language, on the rows that may be read; empty: none."""
    instead: tuple[str, str, str] | None
    """(`relation` or `function`, its name, the name of what takes its place)."""
    read_only: bool
    read_only_transactions: bool
    timeout: int | None
    """Milliseconds that a statement may take."""
    parameters: tuple[Demand, ...]
    """What the parameters of a call must be; it is rewritten so."""
    reads_clock: bool
    reads_client: bool
    """It looks at where the client comes from, or at what it says."""
    observes: bool
    """A permit that only watches: it lets through what the other policies would not, and the record says what they would have done."""
    mentions: tuple[tuple[str, str], ...]
    """Entities that it names: (type, id), sorted."""


def cut(text: str) -> list[tuple[int, str]]:
    """Cut `text` into policies: (line it begins on, its text). What follows the last `;` is a piece too, if not blank."""
    pieces: list[tuple[int, str]] = []
    line = 1
    begun = 0
    held: list[str] = []
    for found in _PIECE.finditer(text):
        lexeme = found[0]
        if lexeme.startswith("//"):
            continue  # comments end at a newline, which stays: lines do not shift
        if not begun and lexeme.strip():
            begun = line + lexeme[: len(lexeme) - len(lexeme.lstrip())].count("\n")
        line += lexeme.count("\n")
        held.append(lexeme)
        if lexeme == ";":
            pieces.append((begun, "".join(held).strip()))
            begun, held = 0, []
    if begun:
        pieces.append((begun, "".join(held).strip()))
    return pieces


def read(name: str, text: str) -> list[Policy]:
    """Parse the policies of one file; `ConfigError` names file, line and policy."""
    if len(text) > MAX_TEXT:
        raise ConfigError(name, f"is larger than {MAX_TEXT >> 20} MiB; split it")
    policies = [_policy(name, number, line, piece) for number, (line, piece) in enumerate(cut(text), 1)]
    _check_cut(name, text, policies)
    return policies


def _check_cut(name: str, text: str, policies: list[Policy]) -> None:
    """Hold our cutting against Cedar's own reading of the whole: not one policy more, fewer or other."""
    try:
        whole = msgspec.json.decode(cedarpy.policies_to_json_str(text))["staticPolicies"].values()
    except (ValueError, RecursionError) as exc:
        raise ConfigError(name, f"is not valid Cedar: {exc}") from None
    if sorted(map(_canonical, whole)) != sorted(_canonical(policy.est) for policy in policies):
        raise ConfigError(name, "cannot be cut into single policies; look for odd line endings or quotes")


def _canonical(est: dict[str, Any]) -> bytes:
    return msgspec.json.encode(est, order="sorted")


def _policy(name: str, number: int, line: int, text: str) -> Policy:
    found = _ID.search(text)
    place = f"{name} line {line}" + (f", policy `{found[1]}`" if found else "")
    try:
        parsed = msgspec.json.decode(cedarpy.policies_to_json_str(text))
    except (ValueError, RecursionError) as exc:
        raise ConfigError(place, f"is not valid Cedar: {exc}") from None
    if parsed["templates"]:
        raise ConfigError(place, "is a template (?principal or ?resource); write a group or a connection instead")
    if len(parsed["staticPolicies"]) != 1:
        raise ConfigError(place, "is not one policy; end each with a semicolon")
    (est,) = parsed["staticPolicies"].values()
    annotations = {key: value or "" for key, value in est.get("annotations", {}).items()}
    permits = est["effect"] == "permit"
    _check_annotations(place, annotations, permits=permits)
    return Policy(
        id=annotations.get("id") or f"{name}:{number}",
        place=place,
        text=text,
        est=est,
        permits=permits,
        names=_named_actions(est["action"]),
        message=" ".join(annotations.get("message", "").split()),
        approval=_approval(place, annotations.get("approval")),
        limit=_limit(place, "limit", annotations.get("limit")),
        rows=_limit(place, "rows", annotations.get("rows")),
        filter=_filter(place, annotations.get("filter"), _named_actions(est["action"])),
        instead=_instead(place, annotations.get("instead"), est),
        read_only_transactions=_transactions(place, annotations.get("transactions"), _named_actions(est["action"])),
        timeout=_timeout(place, annotations.get("timeout"), _named_actions(est["action"])),
        parameters=demands.read(place, annotations.get("parameters")),
        read_only="read_only" in annotations,
        reads_clock=_reads(est, CLOCK),
        reads_client=_reads(est, CLIENT),
        observes="observe" in annotations,
        mentions=tuple(sorted(set(_mentions(est)))),
    )


def _check_annotations(place: str, annotations: dict[str, str], *, permits: bool) -> None:
    effect = "permit" if permits else "forbid"
    for key in annotations:
        if key not in ANNOTATIONS:
            near = difflib.get_close_matches(key, ANNOTATIONS, 1)
            known = f"did you mean @{near[0]}?" if near else f"known: {', '.join('@' + each for each in ANNOTATIONS)}"
            raise ConfigError(place, f"unknown annotation @{key}; {known}")
        if effect not in ANNOTATIONS[key]:
            raise ConfigError(
                place, f"@{key} means nothing on a {effect}; remove it, or put it on a {ANNOTATIONS[key]}"
            )
    if "id" in annotations and not annotations["id"].strip():
        raise ConfigError(place, '@id is empty; give the policy a name: @id("agents-read-orders")')


def _limit(place: str, name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > MAX_LIMIT:
        raise ConfigError(place, f'@{name} must be a number of rows: @{name}("100")')
    return int(text)


def _filter(place: str, text: str | None, actions: frozenset[str]) -> str:
    if text is None:
        return ""
    if not text.strip():
        raise ConfigError(place, """@filter is empty; give a condition on the rows: @filter("region = 'eu'")""")
    if actions != {Action.READ}:
        raise ConfigError(place, '@filter stands on a permit of reading alone: action == Ostiary::Action::"read"')
    return text.strip()


def _instead(place: str, text: str | None, est: dict[str, Any]) -> tuple[str, str, str] | None:
    """What takes the place of the one relation or function that the permit is about."""
    if text is None:
        return None
    entity = est["resource"].get("entity", {}) if est["resource"].get("op") == "==" else {}
    kind = _REPLACED.get(entity.get("type", ""))
    if kind is None or not (actions := _named_actions(est["action"])) or not actions <= kind[1]:
        raise ConfigError(
            place, '@instead stands on a permit to read, write or delete one relation (resource == Ostiary::Relation::"…"), or to '
            'execute one function (resource == Ostiary::Function::"…")',
        )  # fmt: skip
    name = str(entity["id"]).partition("/")[2]
    if any(len(parts) != 2 or not all(parts) for parts in (text.split("."), name.split("."))):
        raise ConfigError(place, '@instead must name what takes its place with its schema: @instead("public.customers_safe")')
    if kind[0] == "function" and name.startswith("pg_catalog."):
        # Of most of them policy is not asked: they are known to be harmless.
        raise ConfigError(place, "@instead replaces functions of somebody's own; PostgreSQL's own can only be forbidden")
    if text == name:
        raise ConfigError(place, f"@instead puts {name} in its own place")
    return kind[0], name, text


_REPLACED: Final = {
    "Ostiary::Relation": ("relation", frozenset({Action.READ, Action.WRITE, Action.DELETE})),
    "Ostiary::Function": ("function", frozenset({Action.EXECUTE})),
}


def _transactions(place: str, text: str | None, actions: frozenset[str]) -> bool:
    if text is None:
        return False
    if text != "read only":
        raise ConfigError(place, '@transactions must be @transactions("read only")')
    _check_connects(place, "transactions", actions)
    return True


def _timeout(place: str, text: str | None, actions: frozenset[str]) -> int | None:
    if text is None:
        return None
    found = _DURATION.fullmatch(text)
    if found is None or not int(found[1]) or (time := int(found[1]) * _UNITS[found[2]]) > MAX_TIMEOUT:
        raise ConfigError(place, '@timeout must be a time of at most 24 days: @timeout("30s"), "500ms" or "5min"')
    _check_connects(place, "timeout", actions)
    return time


def _check_connects(place: str, name: str, actions: frozenset[str]) -> None:
    """What holds for a session is demanded where it is opened."""
    if Action.CONNECT not in actions:
        raise ConfigError(
            place, f'@{name} holds for a whole session, so its permit must name Ostiary::Action::"connect"'
        )


def _approval(place: str, text: str | None) -> tuple[tuple[str, int], ...]:
    if text is None:
        return ()
    groups: dict[str, int] = {}
    for part in text.split(","):
        found = _APPROVAL.fullmatch(part)
        if found is None or found[1] in groups:
            raise ConfigError(
                place, '@approval must name groups, once each: @approval("dba") or @approval("dba:2,security:1")'
            )
        groups[found[1]] = int(found[2] or 1)
    return tuple(sorted(groups.items()))


def _named_actions(scope: dict[str, Any]) -> frozenset[str]:
    entities = scope.get("entities") or ([scope["entity"]] if "entity" in scope else [])
    return frozenset(entity["id"] for entity in entities)


CLOCK: Final = frozenset({"now", "weekday"})
CLIENT: Final = frozenset({"said", "address"})


def _reads(node: Any, attributes: frozenset[str]) -> bool:
    """Whether it can see one of these attributes of the context: it names one, or uses the context as a whole."""
    match node:
        case {".": {"left": {"Var": "context"}, "attr": str(attribute)}}:
            return attribute in attributes
        case {"has": {"left": {"Var": "context"}, "attr": str(attribute)}}:
            return attribute in attributes
        case {"Var": "context"}:
            return True
        case dict():
            return any(_reads(inner, attributes) for inner in node.values())
        case list():
            return any(_reads(inner, attributes) for inner in node)
        case _:
            return False


def _mentions(node: Any) -> list[tuple[str, str]]:
    match node:
        case {"type": str(kind), "id": str(name)}:
            return [(kind, name)]
        case dict():
            return [found for inner in node.values() for found in _mentions(inner)]
        case list():
            return [found for inner in node for found in _mentions(inner)]
        case _:
            return []
