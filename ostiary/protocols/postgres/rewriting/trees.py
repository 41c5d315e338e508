"""Syntax trees back to text, by PostgreSQL's own grammar (libpg_query's deparser, by way of postgast).

A deparser is code of its own and may be wrong. So what it wrote is parsed again, and unless that gives the very tree that was to
be written, place by place, there is no text.

It is C, too, and reads options (`DefElem`) by their names without looking at what they hold: `COPY ... (FORMAT)` crashes it. So
only options stand in what it is given that are known to hold what it expects. Everything else in a query has its form from the
grammar; `fuzz/fuzz_session.py rewriting` is there to say otherwise.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ostiary.protocols.postgres.grammar import Node, NotParsed, lib, nodes, parse
from ostiary.protocols.postgres.understand.filtered import bare

MAX_TEXT: Final = 256 << 10
"""Bytes of a statement that is rewritten. Larger ones are data, not questions: about a second's work."""
MAX_DEPTH: Final = 1_000
"""Levels of a tree."""
VERSION: Final = 180_000

# Imported like this because neither has stubs that type-check; protobuf is what postgast itself reads trees with.
_json: Final[Any] = importlib.import_module("google.protobuf.json_format")
_native: Final[Any] = importlib.import_module("postgast.native")
_ParseResult: Final[Any] = importlib.import_module("postgast.pg_query_pb2").ParseResult


def write(statements: Sequence[tuple[str, Node]]) -> bytes | None:
    """Write statements (node type, node) as text that parses to exactly them; None: that cannot be done."""
    wanted = [{kind: bare(node)} for kind, node in statements]
    if not all(_is_known(name, option) for name, option in options(wanted)):
        return None
    tree = {"version": VERSION, "stmts": [{"stmt": each} for each in wanted]}
    try:
        message = _json.ParseDict(tree, _ParseResult(), max_recursion_depth=MAX_DEPTH)
        text = _deparsed(message.SerializeToString())
        back = [{each.kind: bare(each.node)} for each in parse(text)] if text is not None else None
    except (_json.ParseError, RecursionError, NotParsed, ValueError):
        return None
    return text if back == wanted else None


def options(tree: Any) -> Iterator[tuple[str, Node]]:
    """Every DefElem at any depth, with its name."""
    for kind, node in nodes(tree):
        if kind == "DefElem":
            yield node.get("defname", ""), node


def _is_known(name: str, option: Node) -> bool:
    argument = option.get("arg", {})
    if name in TEXTS:
        return "String" in argument
    if name in MODES:
        return "A_Const" in argument
    if name == "header":
        return not argument or "String" in argument or "Boolean" in argument
    if name == "force_quote":
        return "A_Star" in argument or all("String" in each for each in argument.get("List", {}).get("items", ({},)))
    return False


TEXTS: Final = frozenset({"format", "delimiter", "null", "quote", "escape", "encoding"})
"""Options of COPY that hold a text."""
MODES: Final = frozenset({"transaction_isolation", "transaction_read_only", "transaction_deferrable"})


def _deparsed(data: bytes) -> bytes | None:
    buffer = ctypes.create_string_buffer(data, len(data))
    held = _native.PgQueryProtobuf(len=len(data), data=ctypes.cast(buffer, ctypes.c_void_p).value)
    result = lib.pg_query_deparse_protobuf(held)
    try:
        return None if result.error else bytes(result.query)
    finally:
        lib.pg_query_free_deparse_result(result)
