r"""Names of parameters and of a form's fields as services read them, and what some of them ask for: another method, or GraphQL.

A name has more spellings than one: percent signs (`%5fmethod`; `%u005fmethod` in ASP), quoted pairs (`name="_\method"`: RFC 9110, 5.6.4) and
single quotation marks in the parts of a form, and PHP makes `_` of a dot, a blank and an open bracket, drops blanks before a name and ends it
at a NUL. Here all of them are one name. What no two readers agree on (a name in pieces, RFC 2231; an encoded word in it, RFC 2047) counts
as asking for another method.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]  # it is there, and not in typeshed
from typing import Any, Final
from urllib.parse import unquote_to_bytes

MAX_FIELDS: Final = 4096
"""Fields of a form that are looked at; one with more, in which something could stand, is not seen through."""
MAX_ESCAPES: Final = 1 << 16
"""Letters of ASCII that a form writes as percent signs, for no reason; one with more is not seen through."""
MAX_LOOK: Final = 4096
"""Bytes of a field that are looked at for GraphQL."""
MAX_MEMBERS: Final = 256 * 1024
"""Bytes of a JSON text that is taken apart member by member; one that is larger, in which something seems to stand, is not seen through."""

_METHODS: Final = frozenset({"_method", "_httpmethod", "x_http_method", "x_http_method_override", "x_method_override"})
"""Parameters by which frameworks (Rails, Laravel, Symfony, ASP.NET, Spring and their kin) take another method than the request's own."""
_SPACED: Final = re.compile(r"[ .\[-]")
_WIDE_ESCAPE: Final = re.compile(rb"%[uU]00([0-9A-Fa-f]{2})")
_LETTER: Final = re.compile(rb"%(?:[uU]00)?([4-7][0-9A-Fa-f])")
_WORDS: Final = (b"method", b"query", b"operations")
"""Without one of them nothing in a form asks for anything."""
_PART: Final = re.compile(rb"(?i)(?<![a-z0-9_])name(\*)?[ \t]*=[ \t]*(\"(?:[^\"\\\r\n]|\\.)*+\"|'[^'\r\n]*+'|[^\s;]*+)")
_CODED: Final = re.compile(rb"(?i)(?<![a-z0-9_])name[ \t]*(?:\*[0-9]|\*?[ \t]*=[ \t\"']*=\?)")
"""A name in pieces, or with an encoded word in it."""
_JSON_METHOD: Final = rb'"(?:_method|_httpmethod|x-http-method|x-http-method-override|x-method-override)"\s*:'
_METHOD_MEMBER: Final = re.compile(rb"(?i)" + _JSON_METHOD)
JSON_TELLING: Final = re.compile(rb"(?i)query|" + _JSON_METHOD)
"""What stands in JSON that asks for another method, or is GraphQL."""
_JSON_QUERY: Final = re.compile(r'(?i)"' + "".join(rf"(?:{char}|\\u00(?:{ord(char):02x}|{ord(char.upper()):02x}))" for char in "query") + r'"\s*:\s*"')
_IGNORED: Final = r"[\s,\ufeff]*+(?:#[^\r\n]*+[\s,\ufeff]*+)*+"
"""What may stand before anything in GraphQL, and says nothing: its specification, 2.1.7."""
_GRAPHQL: Final = re.compile(
    rf'{_IGNORED}(?:(?:"""(?:[^"]|"{{1,2}}(?!"))*+"""|"(?:[^"\\\r\n]|\\.)*+"){_IGNORED})?(?:\{{|(?:query|mutation|subscription|fragment)\b)'
)


class Unseen(Exception):
    """It is too much to be seen through."""


def asks_another(name: str) -> bool:
    """Whether a parameter of that name asks for another method."""
    return _SPACED.sub("_", name.split("\0", 1)[0].lstrip(" ")).lower() in _METHODS


def is_graphql(name: str, text: str) -> bool:
    """Whether a parameter of that name, with that text, is a GraphQL operation."""
    return name.casefold() in ("query", "operations") and _GRAPHQL.match(text) is not None


def form_asks(body: bytes, *, in_parts: bool) -> tuple[bool, bool]:
    """Whether a field of a form asks for another method, and whether one is GraphQL. `in_parts`: it is of the kind multipart.

    Raises `Unseen`.
    """
    another = in_parts and _CODED.search(body) is not None
    graphql = False
    for name, text in _fields(body, in_parts=in_parts) if _holds_word(body) else ():
        another = another or asks_another(name)
        graphql = graphql or is_graphql(name, text)
    return another, graphql


def _holds_word(body: bytes) -> bool:
    plain, escapes = _LETTER.subn(lambda found: bytes([int(found[1], 16)]), body.replace(b"\\", b""), MAX_ESCAPES + 1)
    if escapes > MAX_ESCAPES:
        raise Unseen
    lower = plain.lower()
    return any(word in lower for word in _WORDS)


def _fields(body: bytes, *, in_parts: bool) -> Iterator[tuple[str, str]]:
    """(name, beginning of its text) of each field."""
    if in_parts:
        for number, found in enumerate(_PART.finditer(body)):
            if number == MAX_FIELDS:
                raise Unseen
            yield _part_name(found), _part_text(body, found.end())
        return
    if body.count(b"&") + body.count(b";") >= MAX_FIELDS:
        raise Unseen
    for part in re.split(rb"[&;]", body):
        name, _, value = part.partition(b"=")
        yield _decoded(name.strip(b"\r\n")), _decoded(value[:MAX_LOOK])


def _decoded(raw: bytes) -> str:
    """A name or a value of `application/x-www-form-urlencoded`."""
    return unquote_to_bytes(_WIDE_ESCAPE.sub(rb"%\1", raw).replace(b"+", b" ")).decode("utf-8", "backslashreplace")


def _part_name(found: re.Match[bytes]) -> str:
    written = found[2]
    if written[:1] in (b'"', b"'"):
        written = re.sub(rb"\\(.)", rb"\1", written[1:-1])
    return _decoded((written.rpartition(b"'")[2] if found[1] else written).replace(b"+", b"%2B"))


def _part_text(body: bytes, at: int) -> str:
    """The beginning of what follows the head of a part."""
    ends = [place + len(mark) for mark in (b"\n\r\n", b"\n\n") if (place := body.find(mark, at, at + MAX_LOOK)) >= 0]
    return body[min(ends) : min(ends) + MAX_LOOK].decode("utf-8", "replace") if ends else ""


def json_asks(body: bytes, plain: bytes) -> tuple[bool, bool]:
    r"""As `form_asks`, of JSON: of an object, or objects in an array. `plain`: it, with `\u00XX` of ASCII written out.

    Every member counts, be it of the same name as another: readers differ in which of them they take, and in whether case counts.
    Raises `Unseen`, ValueError and RecursionError.
    """
    may_ask = _METHOD_MEMBER.search(plain) is not None
    if not may_ask and not _may_be_graphql(body.decode("utf-8")):
        return False, False
    if len(body) > MAX_MEMBERS:
        raise Unseen
    whole = json.loads(body, object_pairs_hook=_Members)
    members = [each for item in (whole if type(whole) is list else [whole]) if isinstance(item, _Members) for each in item]
    return any(asks_another(name) for name, _ in members), any(isinstance(text, str) and is_graphql(name, text) for name, text in members)


class _Members(list[tuple[str, Any]]):
    """An object, with every member as it is written."""


def _may_be_graphql(text: str) -> bool:
    """Whether something in a JSON text, however deep, is a GraphQL operation by its name and its text."""
    for number, found in enumerate(_JSON_QUERY.finditer(text)):
        if number == MAX_FIELDS or _GRAPHQL.match(scanstring(text, found.end(), False)[0]) is not None:
            return True
    return False
