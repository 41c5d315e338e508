"""Request targets: one spelling, or none (RFC 3986, 6; RFC 9112, 3.2).

A rule about `/admin` must hold whatever spelling the target would take for it. So a path is decoded once, refused where another
decoder could see something else in it, and written anew; what is decided, recorded and sent is that.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote, unquote_to_bytes

import msgspec

MAX_SEGMENTS: Final = 64
MAX_ARGUMENTS: Final = 64

_SAFE: Final = "/!$&'()*+,:=@-._~"
"""`pchar` of RFC 3986, 3.3, less `;` (path parameters)."""
_RAW: Final = re.compile(rb"(?:[A-Za-z0-9!$&'()*+,:=@\-._~/]|%[0-9A-Fa-f]{2})*")
_TWICE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_~/!$&'()*+,=@-]+(?:\.[A-Za-z0-9_~/!$&'()*+,=@-]+)*/?")
_QUERY: Final = re.compile(rb"(?:[A-Za-z0-9!$&'()*+,:=@\-._~/?;\[\]{}|^`\"<>]|%[0-9A-Fa-f]{2})*")
_AUTHORITY: Final = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?)(?::([0-9]{1,5}))?")


class Ambiguous(Exception):
    """The target can be read in more than one way, or in none. Its text says how, and quotes nothing."""


class Target(msgspec.Struct, frozen=True):
    """A request target that can be read in one way."""

    path: str
    """Decoded: for rules, policy and people. Begins with `/`."""
    wire: bytes
    """The path as it is sent: encoded in the one way."""
    query: bytes
    """As it came, without `?`."""
    authority: bytes | None
    """Of an absolute-form target; None: origin-form."""


def read_target(target: bytes) -> Target:
    """Read a request target in origin-form or absolute-form. Raises `Ambiguous`."""
    authority = None
    if not target.startswith(b"/"):
        scheme, mark, rest = target.partition(b"://")
        if not mark or scheme.lower() not in (b"http", b"https"):
            raise Ambiguous("the request target is neither a path nor a URL")
        authority, slash, path = rest.partition(b"/")
        if authority_of(authority) is None:
            raise Ambiguous("the request target's authority is not a host name with a port")
        target = slash + path if slash else b"/"
    path, _, query = target.partition(b"?")
    if _QUERY.fullmatch(query) is None:
        raise Ambiguous("the query holds a character that must be percent-encoded")
    text = read_path(path)
    return Target(text, quote(text, safe=_SAFE).encode(), query, authority)


def read_path(raw: bytes) -> str:
    """Decode a path, once. Raises `Ambiguous`."""
    if b"//" in raw:
        raise Ambiguous("the path has an empty segment (`//`)")
    if _PLAIN.fullmatch(raw) is not None and b"/." not in raw and b"./" not in raw:
        text = raw.decode()
    else:
        if _RAW.fullmatch(raw) is None:
            raise Ambiguous("the path holds a character that must not stand there")
        text = _decoded(raw)
        for segment in text.split("/"):
            _check_segment(segment)
    if text.count("/") > MAX_SEGMENTS:
        raise Ambiguous(f"the path has more than {MAX_SEGMENTS} segments")
    return text


def _decoded(raw: bytes) -> str:
    if raw.count(b"/") != unquote_to_bytes(raw).count(b"/"):
        raise Ambiguous("the path has an encoded slash")
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Ambiguous("the path is not UTF-8") from None
    if any(char < " " or char in "\\;?#\x7f" for char in text):
        raise Ambiguous("the path has an encoded delimiter, a backslash, a semicolon or a control character")
    if _TWICE.search(text) is not None:
        raise Ambiguous("the path is encoded twice")
    if not text.isascii() and any(_passes_for_ascii(char) for char in text):
        raise Ambiguous("the path has a character that some take for an ASCII one")
    return text


def _passes_for_ascii(char: str) -> bool:
    """Whether normalising it, or changing its case, makes ASCII of it: U+FF41, a wide `a`; U+212A, the sign for Kelvin; U+0131."""
    if char.isascii():
        return False
    forms = (unicodedata.normalize("NFKC", char), char.casefold(), char.upper(), char.lower())
    return unicodedata.category(char) in ("Cc", "Cf", "Zs", "Zl", "Zp") or any(
        form.isascii() or any(c in "/\\.%;" for c in form) for form in forms
    )


def _check_segment(segment: str) -> None:
    if segment in (".", ".."):
        raise Ambiguous("the path has a dot segment")
    if segment and (segment[-1] in ". " or segment[0] == " " or "::$" in segment):
        raise Ambiguous("a segment of the path begins or ends in what some servers drop")


def authority_of(raw: bytes) -> tuple[bytes, int | None] | None:
    """(host in lower case, port) of a `Host` header or an authority; None: it is none. No user information, ever."""
    found = _AUTHORITY.fullmatch(raw)
    if found is None or (found[2] is not None and not 0 < int(found[2]) < 65536):
        return None
    return found[1].lower().rstrip(b"."), None if found[2] is None else int(found[2])


def read_arguments(query: bytes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """A query's parameters by name, sorted. Raises `Ambiguous` where there are too many.

    Some end a parameter at a semicolon, and some do not: each has its values of both readings, and an empty one where it is in one of them alone.
    """
    found = _arguments(query, b"&")
    if b";" in query:
        other = _arguments(query, b"[&;]")
        found = {
            name: found[name] if found.get(name) == other.get(name) else sorted({*found.get(name, [""]), *other.get(name, [""])})
            for name in {**found, **other}
        }
    return tuple((name, tuple(sorted(found[name]))) for name in sorted(found))


def _arguments(query: bytes, ends: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    parts = re.split(ends, query, maxsplit=MAX_ARGUMENTS) if query else []
    if len(parts) > MAX_ARGUMENTS:
        raise Ambiguous(f"the query has more than {MAX_ARGUMENTS} parameters")
    for part in parts:
        name, _, value = part.partition(b"=")
        found.setdefault(_plus(name), []).append(_plus(value))
    return found


def _plus(raw: bytes) -> str:
    return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8", "backslashreplace")
