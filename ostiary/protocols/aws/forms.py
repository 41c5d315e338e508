"""Forms of the `query` and `ec2` protocols, read by the model, whole (Smithy, "AWS query protocol", "AWS EC2 query protocol").

    Filter.1.Name=… Filter.1.Value.1=…          a flattened list of structures, and all lists of EC2
    Tags.member.1.Key=…                         any other list
    Attributes.entry.1.key=… .value=…           a map

Each place has one spelling, and each name of the form is one place: an index with zeros before it, a list that is written as one value,
a place that is a value and a structure at once could be read in two ways, so it is no call. Nothing of a form is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from ostiary.model.errors import OstiaryError

MAX_FORM: Final = 20_000
"""Parameters of a form."""
MAX_DEPTH: Final = 32
_INDEX: Final = re.compile(r"[1-9][0-9]{0,4}")
_VALUE: Final = ""
"""The name, in a node, of the value that stands right there. No part of a name is empty."""

Node = dict[str, Any]
Shapes = dict[str, dict[str, Any]]


class Misread(OstiaryError):
    """A form that is not the model's. The text says what of it."""


def read(shapes: Shapes, shape: dict[str, Any], form: dict[str, str], *, ec2: bool) -> dict[str, Any]:
    """The parameters of a form by the model's names. Raises `Misread`."""
    root: Node = {}
    for key, value in form.items():
        if key not in ("Action", "Version"):
            _put(root, key, value)
    return _Reader(shapes, ec2=ec2).structure(shape, root, "")


def _put(root: Node, key: str, value: str) -> None:
    parts = key.split(".")
    if not all(parts) or len(parts) > MAX_DEPTH:
        raise Misread(f"the parameter {key[:64]!r} is none that is known here")
    node = root
    for part in parts:
        if _VALUE in node:
            raise Misread(f"{key[:64]!r} is written in two ways")
        node = node.setdefault(part, {})
    if node:
        raise Misread(f"{key[:64]!r} is written in two ways")
    node[_VALUE] = value


class _Reader:
    def __init__(self, shapes: Shapes, *, ec2: bool) -> None:
        self._shapes = shapes
        self._ec2 = ec2

    def structure(self, shape: dict[str, Any], node: Node, place: str) -> dict[str, Any]:
        known = {spelled: name for name, member in shape["members"].items() for spelled in self.spellings(name, member)}
        found: dict[str, Any] = {}
        for spelled, below in node.items():
            name = known.get(spelled)
            if name is None:
                raise Misread(f"the parameter {(place + spelled)[:64]!r} is not in the model of the operation that is known here")
            if name in found:
                raise Misread(f"{(place + spelled)[:64]!r} is written in two ways")
            found[name] = self._any(shape["members"][name], below, place + spelled)
        return found

    def spellings(self, name: str, member: dict[str, Any]) -> list[str]:
        if self._ec2:
            named = member.get("queryName") or member.get("locationName", name)
            return [named[0].upper() + named[1:]]
        inner = self._shapes[member["shape"]]
        spelled = member.get("locationName", name)
        if inner["type"] == "list" and _is_flat(member, inner):
            return [inner["member"].get("locationName", spelled), spelled]
        return [spelled]

    def _any(self, member: dict[str, Any], node: Node, place: str) -> Any:
        shape = self._shapes[member["shape"]]
        read: dict[str, Callable[[], Any]] = {
            "structure": lambda: self.structure(shape, node, place + "."),
            "list": lambda: self._list(member, shape, node, place),
            "map": lambda: self._map(member, shape, node, place),
        }
        made = read.get(shape["type"])
        if made is None:
            if set(node) != {_VALUE}:
                raise Misread(f"{place[:64]!r} is one value, and is written as more")
            return node[_VALUE]
        if _VALUE in node:
            if node[_VALUE]:
                raise Misread(f"{place[:64]!r} is a list or a structure, and is written as one value")
            return [] if shape["type"] == "list" else {}  # how an empty one is written
        return made()

    def _list(self, member: dict[str, Any], shape: dict[str, Any], node: Node, place: str) -> list[Any]:
        if not (self._ec2 or _is_flat(member, shape)):
            node = self._only(node, shape["member"].get("locationName", "member"), place)
        return [self._any(shape["member"], below, f"{place}.{number}") for number, below in self._numbered(node, place)]

    def _map(self, member: dict[str, Any], shape: dict[str, Any], node: Node, place: str) -> dict[str, Any]:
        if not _is_flat(member, shape):
            node = self._only(node, "entry", place)
        key_name, value_name = shape["key"].get("locationName", "key"), shape["value"].get("locationName", "value")
        found: dict[str, Any] = {}
        for number, pair in self._numbered(node, place):
            if set(pair) - {key_name, value_name} or key_name not in pair:
                raise Misread(f"'{place[:64]}.{number}' is no entry of a map")
            key = self._any(shape["key"], pair[key_name], place)
            if key in found:
                raise Misread(f"{place[:64]!r} has a key twice")
            found[key] = self._any(shape["value"], pair[value_name], place) if value_name in pair else ""
        return found

    def _only(self, node: Node, name: str, place: str) -> Node:
        if set(node) != {name} or _VALUE in node[name]:
            raise Misread(f"{place[:64]!r} is not written as its model says ({name}.1 and so on)")
        below: Node = node[name]
        return below

    def _numbered(self, node: Node, place: str) -> Iterator[tuple[str, Node]]:
        if not all(_INDEX.fullmatch(each) for each in node):
            raise Misread(f"{place[:64]!r} has an index that is none")
        yield from sorted(node.items(), key=lambda each: int(each[0]))


def _is_flat(member: dict[str, Any], shape: dict[str, Any]) -> bool:
    return bool(shape.get("flattened") or member.get("flattened"))


# --- and written ------------------------------------------------------------------------------------------------------


def write(shapes: Shapes, shape: dict[str, Any], parameters: dict[str, Any], *, ec2: bool) -> dict[str, str]:
    """The form of parameters by the model's names: what `read` reads as them."""
    return dict(_Writer(shapes, ec2=ec2).structure(shape, parameters, ""))


class _Writer:
    def __init__(self, shapes: Shapes, *, ec2: bool) -> None:
        self._shapes = shapes
        self._ec2 = ec2
        self._reader = _Reader(shapes, ec2=ec2)

    def structure(self, shape: dict[str, Any], held: dict[str, Any], before: str) -> Iterator[tuple[str, str]]:
        for name, value in held.items():
            member = shape["members"][name]
            yield from self._any(member, value, before + self._reader.spellings(name, member)[0])

    def _any(self, member: dict[str, Any], value: Any, place: str) -> Iterator[tuple[str, str]]:
        shape = self._shapes[member["shape"]]
        if not isinstance(value, dict | list):
            yield place, value
        elif not value:
            yield place, ""
        elif isinstance(value, dict) and shape["type"] == "structure":
            yield from self.structure(shape, value, place + ".")
        elif isinstance(value, list):
            if not (self._ec2 or _is_flat(member, shape)):
                place += "." + shape["member"].get("locationName", "member")
            for number, each in enumerate(value, 1):
                yield from self._any(shape["member"], each, f"{place}.{number}")
        else:
            place += "" if _is_flat(member, shape) else ".entry"
            for number, (key, each) in enumerate(value.items(), 1):
                yield f"{place}.{number}.{shape['key'].get('locationName', 'key')}", key
                yield from self._any(shape["value"], each, f"{place}.{number}.{shape['value'].get('locationName', 'value')}")
