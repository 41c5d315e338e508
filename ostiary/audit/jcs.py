r"""Canonical JSON for entries: RFC 8785 over the subset that `docs/log-format.md`, 3 allows.

orjson writes strings as ECMAScript's `JSON.stringify` does (short escapes, lower-case `\u00xx`, nothing else escaped), which
is what RFC 8785, 3.2.2.2 asks for; a test holds it to an independent reference. Everything else is plain here: integers
below 2^53, members sorted by UTF-16 code units, no floats at all.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

MAX_INT: Final = (1 << 53) - 1
"""I-JSON (RFC 7493, 2.2): integers that every reader holds exactly."""
MAX_DEPTH: Final = 16

Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]


class NotCanonical(ValueError):
    """A value that has no place in an entry. A bug at whoever built it, never the peer's doing."""


def quoted(value: str) -> str:
    """Encode text as one JSON value: a string or, for what is no Unicode, `{"b64": …}` of the bytes it stands for.

    Lone surrogates come from bytes decoded with `surrogateescape`, or from hostile JSON; both are kept losslessly.
    """
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return f'{{"b64":"{base64.b64encode(_raw(value)).decode()}"}}'


def text(value: str) -> Json:
    """Shape text for `encode`: as `quoted`, but not encoded yet."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"b64": base64.b64encode(_raw(value)).decode()}
    return value


def _raw(value: str) -> bytes:
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def encode(value: Json) -> bytes:
    """Encode `value` canonically. Raises `NotCanonical` for floats, wide integers, lone surrogates, foreign types."""
    return written(value).encode()


def written(value: Json, depth: int = MAX_DEPTH) -> str:
    """Encode as `encode` does, into a string: pieces of entries are cached like this."""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return "null"
    if isinstance(value, str):
        try:
            return orjson.dumps(value).decode()
        except orjson.JSONEncodeError:
            raise NotCanonical("a string is no Unicode text") from None
    if isinstance(value, int):
        if not -MAX_INT <= value <= MAX_INT:
            raise NotCanonical("an integer does not fit in 53 bits")
        return int.__repr__(value)
    if depth == 0:
        raise NotCanonical("nested too deeply")
    if isinstance(value, Mapping):
        members = sorted(value.items(), key=_utf16)
        return "{" + ",".join(f"{written(k, 1)}:{written(v, depth - 1)}" for k, v in members) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(written(item, depth - 1) for item in value) + "]"
    raise NotCanonical(f"a {type(value).__name__} has no place in an entry")


def _utf16(member: tuple[str, Json]) -> bytes:
    # Big-endian UTF-16 sorts by code unit, bytewise: RFC 8785, 3.2.3.
    return member[0].encode("utf-16-be", "surrogatepass")
