r"""The head of a statement for the log: its tokens without literals and comments, at most MAX_HEAD bytes.

Works on text that does not parse as well, so it has a small lexer of its own, by the rules of PostgreSQL's `scan.l`.
Nothing is decided on it. Where it loses its way (an unterminated literal) it drops all that follows.
"""

from __future__ import annotations

import re
from typing import Final

from ostiary.model.operations import MAX_HEAD

_TOKEN: Final = re.compile(
    r"""
      (?P<space>[ \t\n\r\f\v]+|--[^\n\r]*)
    | (?P<comment>/\*)
    | (?P<escaped>[eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*')
    | (?P<string>(?:[bBxXnN]|[uU]&)?'[^']*(?:''[^']*)*')
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z_0-9\x80-\U0010ffff]*)?\$)
    | (?P<quoted>(?:[uU]&)?"[^"]*(?:""[^"]*)*")
    | (?P<parameter>\$[0-9]+)
    | (?P<number>0[xXoObB][0-9A-Fa-f_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z_0-9$\x80-\U0010ffff]*)
    | (?P<sign>[^'"$])
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN_NAME: Final = re.compile(r'"[^\W\d][\w $.-]{0,62}"')
_BLOCK: Final = re.compile(r"/\*|\*/")
LONGEST: Final = 65_536
"""Characters of text that are looked at."""


def head_of(text: bytes) -> str:
    """The head of a text, whatever its bytes are."""
    source = text[:LONGEST].decode("utf-8", "replace").replace("\0", " ")
    pieces: list[str] = []
    length = position = 0
    while position < len(source) and length < MAX_HEAD:
        match = _TOKEN.match(source, position)
        if match is None:
            break
        position = match.end()
        kind = match.lastgroup
        if kind == "comment":
            position = _after_comment(source, position)
        elif kind == "dollar":
            position = _after_dollar(source, match.group(), position)
        if kind in {"space", "comment"}:
            if pieces and pieces[-1] != " ":
                pieces.append(" ")
                length += 1
            continue
        piece = _shown(kind or "", match.group())
        pieces.append(piece)
        length += len(piece)
    return _cut("".join(pieces).strip())


def _shown(kind: str, token: str) -> str:
    if kind in {"escaped", "string", "number", "dollar"}:
        return "?"
    if kind == "quoted" and not _PLAIN_NAME.fullmatch(token):
        return '"?"'
    return token


def _after_comment(source: str, position: int) -> int:
    """Block comments nest."""
    depth = 1
    while depth:
        match = _BLOCK.search(source, position)
        if match is None:
            return len(source)
        position = match.end()
        depth += 1 if match.group() == "/*" else -1
    return position


def _after_dollar(source: str, tag: str, position: int) -> int:
    end = source.find(tag, position)
    return len(source) if end < 0 else end + len(tag)


def _cut(text: str) -> str:
    data = text.encode("utf-8", "replace")
    return text if len(data) <= MAX_HEAD else data[:MAX_HEAD].decode("utf-8", "ignore")
