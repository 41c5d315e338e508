"""What a call of DynamoDB lets its answer, its effect or its failure hang on: protected attributes that it does not merely show or set.

An attribute that is masked where it is shown can still be asked about: by a filter, a condition, a key, or by copying it to where
nothing hides it. Expressions are cut into tokens (Amazon DynamoDB Developer Guide, "Expressions"), and a token that can mean a
protected attribute is one, at whatever depth it stands; what cannot be cut means all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from ostiary.model.connections import AwsConnection
from ostiary.protocols.aws.models import Call

_ASKING: Final = frozenset({"FilterExpression", "ConditionExpression", "KeyConditionExpression"})
_NAMING: Final = frozenset({
    "Expected", "QueryFilter", "ScanFilter", "KeyConditions", "Key", "Keys", "ExclusiveStartKey",
})  # fmt: skip
"""Maps by attribute, or lists of them."""
PARTIQL: Final = frozenset({"ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"})
_TOKEN: Final = re.compile(r"\s*([#:]?[A-Za-z0-9_]+|<>|<=|>=|[=<>,().\[\]+-])")
_SECTIONS: Final = frozenset({"set", "remove", "add", "delete"})
MAX_DEPTH: Final = 32


def inferred(call: Call, connection: AwsConnection) -> tuple[str, ...]:
    """Data classes whose values decide what the call does or answers, sorted."""
    if call.service != "dynamodb":
        return ()
    protected: dict[str, set[str]] = {}
    for place, field in connection.hidden:
        if place.startswith("dynamodb:"):
            protected.setdefault(field.place.casefold(), set()).add(field.data_class)
    if not protected:
        return ()
    found: set[str] = set()
    if call.operation in PARTIQL:  # its conditions are not read
        return tuple(sorted(set().union(*protected.values())))
    for name in _asked(call.parameters, 0):
        found |= set().union(*protected.values()) if name is None else protected.get(name.casefold(), set())
    return tuple(sorted(found))


def _asked(given: Any, depth: int) -> Iterator[str | None]:
    """Every attribute that something hangs on; None: it cannot be told which."""
    if depth > MAX_DEPTH:
        yield None
    elif isinstance(given, list):
        for each in given:
            yield from _asked(each, depth + 1)
    elif isinstance(given, dict):
        names = given.get("ExpressionAttributeNames")
        known = names if isinstance(names, dict) else {}
        for key, value in given.items():
            if key in _ASKING or key == "UpdateExpression":
                yield from _expression(value, known, updates=key == "UpdateExpression")
            elif key in _NAMING:
                for each in value if isinstance(value, list) else [value]:
                    yield from each if isinstance(each, dict) else [None]
            elif key not in ("Item", "ExpressionAttributeValues", "AttributeUpdates"):
                yield from _asked(value, depth + 1)


def _expression(text: object, names: dict[Any, Any], *, updates: bool) -> Iterator[str | None]:
    """The attributes that an expression reads; of an update, those that it does not merely set or take away."""
    tokens = _tokens(text)
    if tokens is None:
        yield None
        return
    depth, sets, target = 0, True, updates
    for part in tokens:
        if part in "()":
            depth += 1 if part == "(" else -1
        elif updates and part.casefold() in _SECTIONS:
            sets, target = part.casefold() == "set", True
        elif part == "=":
            target = target and not sets
        elif part == ",":
            target = updates if depth == 0 else target
        elif not target and part[0] == "#":
            name = names.get(part)
            yield name if isinstance(name, str) else None
        elif not target and (part[0].isalpha() or part[0] == "_"):
            yield part


def _tokens(text: object) -> list[str] | None:
    if not isinstance(text, str):
        return None
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        found.append(match[1])
        at = match.end()
    return found
