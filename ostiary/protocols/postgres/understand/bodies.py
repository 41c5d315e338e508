"""The statements in the bodies of functions, as far as they stand there.

SQL is a list of statements. PL/pgSQL is read by PostgreSQL's own compiler for it (libpg_query): each expression and statement that
it would run is text for the SQL parser. What it makes up while it runs (EXECUTE) is not there to be read.

libpg_query's JSON is not always JSON (it closes once too often after variables of triggers), so texts are found by their key: inside of a
string a quote is escaped, so nothing in a text can look like one. It is C, so it reads no body that is large or holds a zero byte; what
cannot be read is not guessed. Nor does it show everything: see `unshown.py`.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

import msgspec

from ostiary.model.catalogue import Function
from ostiary.protocols.postgres.grammar import NotParsed, Token, lib, scan
from ostiary.protocols.postgres.understand.settings import READING
from ostiary.protocols.postgres.understand.unshown import STATEMENT, VALUE, Shown, unquoted, unshown

MAX_BODY: Final = 256 << 10
"""Bytes of a body that is read."""
MAX_TEXTS: Final = 10_000
"""Statements and expressions of one body."""
EXPRESSION: Final = re.compile(rb'(?:"(argquery)":\{)?"PLpgSQL_expr":\{"query":"((?:[^"\\]|\\.)*)","parseMode":(\d+)')
EXPRESSIONS: Final = re.compile(rb'"PLpgSQL_expr":\{')
MAKING_UP: Final = re.compile(rb'"(?:PLpgSQL_stmt_dynexecute|PLpgSQL_stmt_dynfors|dynquery)":')
RETURNS: Final = ("int", "void", "SETOF record")
"""What a body can be compiled as; it depends on it which forms of RETURN it may hold. Of triggers it is known."""
TRIGGERS: Final = {2279: "trigger", 3838: "event_trigger"}


class Body(msgspec.Struct, frozen=True):
    """What a function runs."""

    texts: tuple[bytes, ...]
    """Of SQL: each one or more statements."""
    makes_up: bool
    """It runs text that it makes up."""
    is_all: bool
    """Nothing else is in it that could compute."""
    columns: tuple[tuple[str, ...], ...] = ()
    """Relations, and columns of them, of whose types its variables are: schema or nothing, relation, column or nothing."""


def body_of(function: Function) -> Body | None:
    """What a function in SQL or PL/pgSQL runs; None: it cannot be read."""
    if any(each.partition("=")[0].lower() in READING for each in function.settings):
        return None  # its text is read in another way than ours
    if function.language == "sql":
        return Body((_as_statements(function),), makes_up=False, is_all=True)
    if function.language != "plpgsql" or len(function.body) > MAX_BODY or "\0" in function.body:
        return None
    return _compiled(function.body, function.names, TRIGGERS.get(function.result, ""))


@lru_cache(maxsize=4096)
def _compiled(body: str, names: tuple[str, ...], trigger: str) -> Body | None:
    try:
        tokens = scan(body.encode())
    except (NotParsed, UnicodeEncodeError):
        return None
    for returns in (trigger,) if trigger else RETURNS:
        found = _read(_definition(body, () if trigger else names, returns), body.encode(), tokens)
        if found is not None:
            return found
    return None


def _definition(body: str, names: tuple[str, ...], returns: str) -> bytes:
    """A definition of this body. Parameters are of a type that is not known, which serves for all."""
    tag, number = "$ostiary$", 0
    while tag in body:
        number += 1
        tag = f"$ostiary{number}$"
    quoted = ['"' + name.replace('"', '""') + '" ostiary_any' for name in dict.fromkeys(names) if name]
    return f"CREATE FUNCTION f({', '.join(quoted)}) RETURNS {returns} LANGUAGE plpgsql AS {tag}{body}{tag}".encode()


def _read(definition: bytes, body: bytes, tokens: tuple[Token, ...]) -> Body | None:
    result = lib.pg_query_parse_plpgsql(definition)
    try:
        written = None if result.error else result.plpgsql_funcs
    finally:
        lib.pg_query_free_plpgsql_parse_result(result)
    if written is None:
        return None
    found = EXPRESSION.findall(written)
    # One that is written in another way would be missed.
    if len(found) != len(EXPRESSIONS.findall(written)) or len(found) > MAX_TEXTS:
        return None
    try:
        read = [(json.loads(b'"' + text + b'"').encode(), int(mode), bool(kind)) for kind, text, mode in found]
        shown = [Shown(scan(text), mode, kind) for text, mode, kind in read]
        rest = unshown(tokens, shown)
    except (ValueError, NotParsed):
        return None
    texts = [each for (text, mode, _), by in zip(read, shown, strict=True) for each in _as_sql(text, mode, by.tokens)]
    texts += [b"SELECT " + body[start:end] for start, end in rest.values]
    texts += [b"SELECT NULL::" + body[start:end] for start, end in rest.types]
    return Body(tuple(dict.fromkeys(texts)), MAKING_UP.search(written) is not None, rest.is_all, rest.columns)


def _as_sql(text: bytes, mode: int, tokens: tuple[Token, ...]) -> list[bytes]:
    """What the SQL parser is to read of an expression."""
    if mode == STATEMENT:
        return [text]
    if mode == VALUE:
        return [b"SELECT " + text]
    # `target[index] := value`, or with `=`: the indexes are values, too.
    values, depth, start = [], 0, 0
    for each in tokens:
        if each.said == "[":
            depth += 1
            start = start if depth > 1 else each.end
        elif not depth and each.said in {":=", "="}:
            values.append(text[each.end :])
            break
        elif depth == 1 and each.said in {"]", ":"}:
            values.append(text[start : each.start])
            start = each.end
        depth -= each.said == "]"
    return [b"SELECT " + value for value in values if value.strip()] or [text]


def _as_statements(function: Function) -> bytes:
    """The statements of an SQL function's body. An SQL-standard one stands at the end of its definition."""
    text = function.body.strip().encode()
    if not text.startswith((b"CREATE OR REPLACE FUNCTION ", b"CREATE OR REPLACE PROCEDURE ")):
        return text
    try:
        tokens = scan(text)
    except NotParsed:
        return text
    if [unquoted(each.said) for each in tokens[4:7]] != [function.schema, ".", function.name]:
        return text  # it makes a function
    depth = 0
    for each, after in pairwise(tokens):
        depth += (each.said in {"(", "["}) - (each.said in {")", "]"})
        starts_line = text[: each.start].endswith(b"\n")
        if each.said == ";" and not depth:
            break
        if starts_line and not depth and each.said == "return":
            return b"SELECT " + text[each.end :]
        if starts_line and not depth and (each.said, after.said) == ("begin", "atomic"):
            return text[after.end :].removesuffix(b"END")
    return text
