"""A SCIM user as it was sent, and what PATCH makes of it: RFC 7643, 2; RFC 7644, 3.5.2.

One attribute matters here, `active`, with those that say whose it is. So whatever may be meant for one of them is understood or refused:
in any case (RFC 7643, 2.1), under the schema's own name (RFC 7644, 3.10), in an object of that name, or twice. For all other attributes, paths that are not
understood change nothing: a provider whose `roles[display eq "x" and primary eq true]` is refused stops telling us who is disabled.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ostiary.identity.jose import strict_object

USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
MAX_TEXT: Final = 512
_SPELT: Final = {"active": "active", "username": "userName", "externalid": "externalId", "schemas": "schemas", "id": "id", "meta": "meta"}
_READ_ONLY: Final = frozenset({"id", "meta", "schemas"})
_NAME: Final = r"[A-Za-z$][\w$-]*"
_PLAIN: Final = re.compile(rf"({_NAME})(?:\.({_NAME}))?", re.ASCII)
_FILTERED: Final = re.compile(rf'({_NAME})\[\s*({_NAME})\s+eq\s+("[^"\\]*"|true|false)\s*\](?:\.({_NAME}))?', re.ASCII | re.IGNORECASE)
_ROOT: Final = re.compile(_NAME, re.ASCII)
_EXTENSION: Final = re.compile(rf"(urn:[^\[\]]+:User):({_NAME}(?:\.{_NAME})?)", re.ASCII | re.IGNORECASE)

Resource = dict[str, Any]


class ScimRefused(Exception):
    """RFC 7644, 3.12."""

    def __init__(self, status: int, detail: str, kind: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind


def read_object(body: bytes) -> Resource:
    """A request's JSON object, no name twice. Raises `ScimRefused`."""
    try:
        return strict_object(body)
    except ValueError as error:
        raise ScimRefused(400, str(error), "invalidSyntax") from None


def checked(given: Resource) -> Resource:
    """A user with its attributes under their own names. Raises `ScimRefused`."""
    user = _spelt(given)
    if USER not in (user["schemas"] if isinstance(user.get("schemas"), list) else []):
        raise ScimRefused(400, f"schemas does not name {USER}", "invalidValue")
    if not isinstance(user.get("userName"), str) or not 0 < len(user["userName"]) <= MAX_TEXT:
        raise ScimRefused(400, "userName is missing", "invalidValue")
    if "active" in user:
        user["active"] = _truth(user["active"])
    return user


def patched(user: Resource, asked: Resource) -> Resource:
    """`user` after the operations of a PatchOp. Raises `ScimRefused`."""
    operations = _folded(asked).get("operations")
    if not isinstance(operations, list) or not 0 < len(operations) <= 100:
        raise ScimRefused(400, "Operations is missing", "invalidSyntax")
    for operation in operations:
        _apply(user, operation)
    return checked(user)


def _folded(asked: Resource) -> Resource:
    """By names in lower case."""
    found = {name.lower(): value for name, value in asked.items()}
    if len(found) != len(asked):
        raise ScimRefused(400, "a name stands twice", "invalidSyntax")
    return found


def _spelt(given: Resource) -> Resource:
    user: Resource = {}
    for name, value in given.items():
        inner = value.items() if name.lower() == USER.lower() and isinstance(value, dict) else [(name, value)]
        for each, held in inner:
            bare = _bare(each)
            written = _SPELT.get(bare.lower(), bare)
            if written.lower() in {other.lower() for other in user}:
                raise ScimRefused(400, f"{written} stands twice", "invalidSyntax")
            user[written] = held
    return user


def _bare(name: str) -> str:
    """An attribute's name without the schema's before it: RFC 7644, 3.10."""
    return name[len(USER) + 1 :] if name.lower().startswith(f"{USER.lower()}:") else name


def _truth(active: object) -> bool:
    if isinstance(active, str) and active.lower() in ("true", "false"):
        return active.lower() == "true"  # one large provider sends text
    if not isinstance(active, bool):
        raise ScimRefused(400, "active is neither true nor false", "invalidValue")
    return active


def _apply(user: Resource, operation: object) -> None:
    said = _folded(operation) if isinstance(operation, dict) else {}
    op, path = said.get("op"), said.get("path")
    op = op.lower() if isinstance(op, str) else ""
    if op not in ("replace", "add", "remove"):
        raise ScimRefused(400, "op is none of replace, add, remove", "invalidSyntax")
    if path is None:
        if op == "remove":
            raise ScimRefused(400, "what is removed is not said", "noTarget")
        if not isinstance(said.get("value"), dict):
            raise ScimRefused(400, "value is not an object", "invalidValue")
        for name, value in _spelt(said["value"]).items():
            _at(user, op, name, value)
    elif isinstance(path, str):
        _at(user, op, _bare(path), said.get("value"))
    else:
        raise ScimRefused(400, "path is no text", "invalidPath")


def _at(user: Resource, op: str, path: str, value: object) -> None:
    """Do `op` at `path`, which is without the core schema's name."""
    if path.lower() == USER.lower():
        if op == "remove" or not isinstance(value, dict):
            raise ScimRefused(400, "that path is not understood", "invalidPath")
        for name, each in _spelt(value).items():
            _at(user, op, name, each)
        return
    extension = _EXTENSION.fullmatch(path)
    if extension is not None:
        schema = next((name for name in user if name.lower() == extension[1].lower()), extension[1])
        held = user.get(schema)
        inner = user[schema] = held if isinstance(held, dict) else {}
        _plain(inner, op, extension[2], value)
        return
    root = _ROOT.match(path)
    spelt = _SPELT.get(root[0].lower()) if root is not None else None
    if spelt in _READ_ONLY:
        return
    if spelt is not None:
        if path.lower() != spelt.lower():
            raise ScimRefused(400, "that path is not understood", "invalidPath")
        if op == "remove":
            raise ScimRefused(400, f"{spelt} is never without a value here", "mutability")
        user[spelt] = value
    elif (filtered := _FILTERED.fullmatch(path)) is not None:
        _filtered(user, op, filtered, value)
    elif _PLAIN.fullmatch(path) is not None or path.lower().startswith("urn:"):
        _plain(user, op, path, value)
    elif root is None:
        raise ScimRefused(400, "that path is not understood", "invalidPath")


def _written(holder: Resource, name: str) -> str:
    return next((key for key in holder if key.lower() == name.lower()), name)


def _plain(holder: Resource, op: str, path: str, value: object) -> None:
    """`name` or `name.sub`, or the whole of an extension."""
    name, dot, sub = (path, "", "") if path.lower().startswith("urn:") else path.partition(".")
    written = _written(holder, name)
    if dot:
        held = holder.get(written)
        inner = holder[written] = held if isinstance(held, dict) else {}
        _plain(inner, op, sub, value)
    elif op == "remove":
        holder.pop(written, None)
    elif isinstance(held := holder.get(written), dict) and isinstance(value, dict):
        held.update(value)
    elif op == "add" and isinstance(held, list):
        held.extend(each for each in (value if isinstance(value, list) else [value]) if each not in held)
    else:
        holder[written] = value


def _filtered(user: Resource, op: str, found: re.Match[str], value: object) -> None:
    """`emails[type eq "work"].value`; where nothing fits, what is set is new."""
    name, by, literal, sub = found.groups()
    written = _written(user, name)
    wanted: object = literal[1:-1] if literal.startswith('"') else literal.lower() == "true"
    held = user.get(written)
    items = held if isinstance(held, list) else []
    fitting = [each for each in items if isinstance(each, dict) and each.get(_written(each, by)) == wanted]
    if op == "remove" and sub is None:
        user[written] = [each for each in items if not any(each is fits for fits in fitting)]
        return
    if op != "remove" and not fitting:
        fitting = [{by: wanted}]
        items = [*items, *fitting]
    for each in fitting:
        if sub is not None:
            _plain(each, op, sub, value)
        elif isinstance(value, dict):
            each.update(value)
    user[written] = items
