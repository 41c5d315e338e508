"""PostgreSQL's own grammar (libpg_query 18, by way of postgast) behind our interface: text in, syntax trees out.

Theory of operation
-------------------
The server and the gateway must read the same text in the same way, so the gateway reads it with the server's own lexer
and grammar, compiled into `libpg_query`. Its assumptions hold only while the session keeps to them:
`standard_conforming_strings` on and `client_encoding` UTF8. `understand/settings.py` refuses statements that change
either.

Trees come as JSON: field names as in `src/include/nodes/parsenodes.h`; a field of type `Node` is wrapped in an object
with the node's type name as its only key, a field of a definite type is not; fields that are zero, empty or false are
left out.

The C code recurses once or twice for each level of the tree when it copies and prints it, and has no guard of its own:
with the 8 MiB stack of a main thread 50,000 levels still pass, with 256 KiB 1,000 levels do not. Depth in the tree
costs text: parentheses, function calls and everything else that is right-recursive runs into bison's own limit (10,000
symbols) and is refused cleanly; what is left-recursive (chains of operators, casts, joins, set operations) needs at
least two bytes a level. So a text of SMALL bytes is at most SMALL / 2 levels deep (measured worst case 330 bytes of
stack a level: 1.4 MiB), and a larger one is scanned first and measured: see `_is_too_deep`. Run this with at least 2
MiB of stack. The JSON decoder then refuses anything deeper than 1,024 levels, which is some 500 chained operators;
PostgreSQL itself takes several thousand. Those are refused here, with a clear error.
"""

from __future__ import annotations

import ctypes
import importlib
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec
import orjson

from ostiary.model.operations import Objection, Unjudgeable

# Imported like this because the package's type stubs do not parse, which would stop the type checker.
lib: Final[Any] = importlib.import_module("postgast.native").lib
ScanResult: Final[Any] = importlib.import_module("postgast.pg_query_pb2").ScanResult

MAX_TEXT: Final = 16 << 20
"""Bytes of one simple-query string or Parse: connectors.md, "Bounds"."""
MAX_TOKENS: Final = 400_000
"""Of one text: 1 MB of INSERT ... VALUES has about 80,000. A token costs about 60 bytes of JSON and 400 of Python."""
MAX_TREE: Final = 96 << 20
"""Bytes of JSON for one text."""
MAX_DEPTH: Final = 6_000
"""Upper bound of the levels in a tree that the C code is allowed to build."""
MAX_RESCAN: Final = 100_000_000
"""Of the squares of the lengths of runs of operator characters.

The lexer takes such a run whole, finds a comment or a sign in it, and puts the rest back, so `/*/*/*...` and `++++...` cost
the square of their length: 200 KB some minutes, at the server as well as here.
"""
SMALL: Final = 8_192
"""Bytes of text that cannot hold enough levels to matter."""

Node = dict[str, Any]
"""A syntax tree node as JSON: see above."""

WORDS: Final = re.compile(rb"[A-Za-z0-9_\x80-\xff]+|[^A-Za-z0-9_\s\x80-\xff]")
SIGNS: Final = re.compile(rb"[~!@#^&|`?+\-*/%<>=]{64,}")
QUOTES: Final = frozenset({"'", '"', "$"})
"""What a token ends with whose letters keep their case."""
STRINGS: Final = re.compile(rb"'[^'\\]*(?:''[^'\\]*)*'")


class Statement(msgspec.Struct, frozen=True):
    """One statement of a text."""

    kind: str
    """Node type: `SelectStmt`."""
    node: Node
    start: int
    """Byte offset of the statement in the text."""
    length: int
    """In bytes; 0: to the end of the text."""


class Token(msgspec.Struct, frozen=True):
    """One token of a text."""

    said: str
    """As it stands there; in small letters, unless it ends with a quotation mark."""
    start: int
    end: int
    """Byte offsets."""


class NotParsed(Exception):
    """The text has no tree. Never leaves `understand`."""

    def __init__(self, objection: Objection) -> None:
        super().__init__(objection.message)
        self.objection = objection


def parse(text: bytes) -> tuple[Statement, ...]:
    """Parse a whole simple-query string, or the text of a Parse message; empty for a text without statements.

    Raises `NotParsed` for everything else, and nothing but that, whatever the bytes are.
    """
    _check_size(text)
    result = lib.pg_query_parse(text)
    try:
        if result.error:
            error = result.error.contents
            raise NotParsed(_syntax_error(error.message or b"syntax error", error.cursorpos))
        tree = result.parse_tree
    finally:
        lib.pg_query_free_parse_result(result)
    if tree is None or len(tree) > MAX_TREE:
        raise NotParsed(_too_large())
    try:
        statements = orjson.loads(tree).get("stmts", ())
    except orjson.JSONDecodeError:
        # Two causes: deeper than 1,024 levels, or text that is no UTF-8 after its escapes were undone.
        raise NotParsed(_too_complex()) from None
    except RecursionError:
        raise NotParsed(_too_complex()) from None
    return tuple(_statement(raw) for raw in statements)


def scan(text: bytes) -> tuple[Token, ...]:
    """The tokens of a text, without comments. Raises `NotParsed` where it has none, or too many, or would take too long to read."""
    if sum(len(run) ** 2 for run in SIGNS.findall(text)) > MAX_RESCAN or _has_too_many(text):
        raise NotParsed(_too_complex())
    found = []
    for each in _scanned(text):
        said = text[each.start : each.end].decode("utf-8", "replace")
        if not said.startswith(("--", "/*")):
            found.append(Token(said if said[-1:] in QUOTES else said.lower(), each.start, each.end))
    return tuple(found)


def nodes(node: Any) -> Iterator[tuple[str, Node]]:
    """Every node of a tree with its kind, at any depth, in no order."""
    todo = [node]
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            for key, value in each.items():
                if isinstance(value, dict):
                    yield key, value
                todo.append(value)
        elif isinstance(each, list):
            todo += each


def _statement(raw: Node) -> Statement:
    ((kind, node),) = raw["stmt"].items()
    return Statement(kind, node, raw.get("stmt_location", 0), raw.get("stmt_len", 0))


def _check_size(text: bytes) -> None:
    if len(text) > MAX_TEXT:
        raise NotParsed(_too_large())
    if 0 in text:
        # C strings end there: what follows would be run by nobody, or judged by nobody.
        raise NotParsed(Objection(Unjudgeable.BAD_TEXT, "a statement must not hold a zero byte", "", "22021", None))
    try:
        text.decode()
    except UnicodeDecodeError as error:
        byte = text[error.start]
        message = f'invalid byte sequence for encoding "UTF8": 0x{byte:02x}'
        raise NotParsed(Objection(Unjudgeable.BAD_TEXT, message, "", "22021", None)) from None
    if len(text) > SMALL:
        _check_tokens(text)


def _check_tokens(text: bytes) -> None:
    """Bound what the parser will build, before it does.

    Every token starts a run of word characters or is punctuation, so counting those is an upper bound that needs no
    lexer. Only if plain string literals make it too large are they taken out first; that is an estimate, which the real scanner
    then checks.
    """
    if sum(len(run) ** 2 for run in SIGNS.findall(text)) > MAX_RESCAN:
        raise NotParsed(_too_complex())
    if _has_too_many(text) and _has_too_many(STRINGS.sub(b"?", text)):
        raise NotParsed(_too_complex())
    if _is_too_deep(_scanned(text)):
        raise NotParsed(_too_complex())


def _scanned(text: bytes) -> Any:
    """What the lexer makes of a text."""
    result = lib.pg_query_scan(text)
    try:
        if result.error:
            error = result.error.contents
            raise NotParsed(_syntax_error(error.message or b"syntax error", error.cursorpos))
        if result.pbuf.len > MAX_TOKENS * 16:
            raise NotParsed(_too_complex())
        found = ScanResult.FromString(ctypes.string_at(result.pbuf.data, result.pbuf.len)).tokens
    finally:
        lib.pg_query_free_scan_result(result)
    if len(found) > MAX_TOKENS:
        raise NotParsed(_too_complex())
    return found


def _has_too_many(text: bytes) -> bool:
    return len(text) > MAX_TOKENS and next(islice(WORDS.finditer(text), MAX_TOKENS, None), None) is not None


_OPEN: Final = frozenset(b"([")
_CLOSE: Final = frozenset(b")]")
_COMMA: Final = ord(",")
_SEMICOLON: Final = ord(";")


def _is_too_deep(tokens: Any) -> bool:
    """Whether the tree could be deeper than MAX_DEPTH.

    A level is opened by a bracket, or by a token that chains to what stands before it. A comma ends a chain at its
    bracket level (lists are flat in the tree), except that of set operations, whose arms hold commas of their own. AND and OR
    are flat as well, but are counted with the rest: an IN list is the better way to write 3,000 of them.
    """
    depth = chain = arms = 0
    outer: list[tuple[int, int]] = []
    for token in tokens:
        kind = token.token
        if kind == _COMMA:
            depth -= chain
            chain = 0
        elif kind in _OPEN:
            outer.append((chain, arms))
            depth += 1
            chain = arms = 0
        elif kind in _CLOSE:
            depth -= chain + arms + 1
            chain, arms = outer.pop() if outer else (0, 0)
        elif kind == _SEMICOLON and not outer:
            depth = chain = arms = 0
        elif kind in _SET_OPERATIONS:
            arms += 1
            depth += 1 - chain
            chain = 0
        else:
            chain += 1
            depth += 1
        if depth > MAX_DEPTH:
            return True
    return False


def _syntax_error(message: bytes, position: int) -> Objection:
    text = message.decode("utf-8", "replace")
    if "memory exhausted" in text or "stack depth" in text:
        return _too_complex()
    if text.startswith("invalid byte sequence"):
        return Objection(Unjudgeable.BAD_TEXT, text, "", "22021", None)
    return Objection(Unjudgeable.UNPARSABLE, text, "", "42601", position or None)


def _too_complex() -> Objection:
    return Objection(
        Unjudgeable.TOO_COMPLEX,
        "the statement is nested too deeply, or has too many tokens, to be judged",
        "Split it, or use an IN list, VALUES, COPY or parameters.",
        "54001",
        None,
    )


def _too_large() -> Objection:
    return Objection(
        Unjudgeable.OVERSIZE,
        f"a statement may be {MAX_TEXT >> 20} MiB long",
        "Send large values as parameters, or with COPY.",
        "54000",
        None,
    )


def _token_numbers() -> frozenset[int]:
    numbers = []
    for word in (b"union", b"intersect", b"except"):
        result = lib.pg_query_scan(word)
        try:
            scan = ScanResult.FromString(ctypes.string_at(result.pbuf.data, result.pbuf.len))
            numbers.append(int(scan.tokens[0].token))
        finally:
            lib.pg_query_free_scan_result(result)
    return frozenset(numbers)


_SET_OPERATIONS: Final = _token_numbers()
