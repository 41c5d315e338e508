"""What a PL/pgSQL body holds beside the expressions that its compiler shows: so that nothing in it runs unseen.

Theory of operation. libpg_query shows the expressions of a body as JSON, and not all of them: a variable whose type it cannot know (RECORD,
a row, a domain, an enum) loses its default, and what a later version adds may be lost as well. So the body is read a second time, by its
tokens. An expression that is shown stands in the body as it is, but for what the compiler changes: PERFORM becomes SELECT, INTO and its
targets are taken out, WHEN of a CASE is wrapped in an IN, arguments of a cursor are strung together. Where one stands between what may stand
before an expression and what may stand after it, it is *covered*: it was read, whether here or elsewhere. What remains must be PL/pgSQL
that computes nothing: words, labels, types, parameters of cursors. The value behind an assignment that is not covered is a default that was
lost: it is found here and read. Anything else, and the body does more than is seen.

Types of variables run code as well, where they are domains with checks: these are found, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from ostiary.protocols.postgres.grammar import Token

MAX_COMPARED: Final = 2_000_000
"""Tokens that are compared for one body."""

STATEMENT, VALUE = 0, 2
"""RawParseMode (src/include/parser/parser.h): a statement, an expression; the others are assignments."""
BEFORE: Final = frozenset({
    ";", "begin", "then", "else", "loop", ":=", "=", "=>", "default", ",", "(", "..", "if", "elsif", "elseif", "while", "when", "return",
    "next", "query", "in", "reverse", "by", "array", "case", "for", "is", "using", "fetch", "move", "relative", "absolute", "forward",
    "backward", "execute", "assert",
})  # fmt: skip
"""What stands before an expression or a statement."""
AFTER: Final = frozenset({";", "then", "loop", ",", ")", "..", "by", "using", "into", "from", "in", "when"})
BEGINNING: Final = frozenset({";", "begin", "then", "else", "loop"})
"""What stands before a statement."""
STATEMENTS: Final = frozenset({
    "if", "elsif", "elseif", "else", "case", "when", "loop", "while", "for", "foreach", "exit", "continue", "return", "raise", "assert",
    "execute", "get", "open", "fetch", "move", "close", "null", "commit", "rollback", "begin", "declare", "end", "exception",
})  # fmt: skip
"""What begins a statement, or a part of one, that is not shown as a whole."""
ASSIGNING: Final = frozenset({":=", "=", "=>", "default"})
OPTIONS: Final = frozenset({"errcode", "message", "detail", "hint", "column", "constraint", "datatype", "table", "schema"})
"""Of RAISE ... USING."""
DIAGNOSTICS: Final = frozenset({
    "row_count", "pg_context", "pg_routine_oid", "pg_exception_context", "pg_exception_detail", "pg_exception_hint", "returned_sqlstate",
    "column_name", "constraint_name", "pg_datatype_name", "message_text", "table_name", "schema_name",
})  # fmt: skip
"""Items of GET DIAGNOSTICS."""
PLAIN: Final = frozenset({",", ";", ".", ".."})
ENDING: Final = frozenset({";", ",", ")"})
END_OF_TYPE: Final = frozenset({";", ":=", "=", "default", "not", "collate"})
NO_TYPE: Final = frozenset({"alias", "cursor", "no", "scroll"})
KNOWN: Final = frozenset({
    "record", "refcursor", "int", "integer", "bigint", "smallint", "text", "boolean", "bool", "numeric", "date", "timestamptz", "timestamp",
    "uuid", "json", "jsonb", "varchar", "interval", "bytea", "float8", "name", "oid", "regclass",
})  # fmt: skip
"""Types that run nothing of anybody's, or stand for none."""


class Shown(msgspec.Struct, frozen=True):
    """An expression that the compiler shows."""

    tokens: tuple[Token, ...]
    mode: int
    is_arguments: bool
    """Of a cursor: several, each perhaps with a name."""


class Unshown(msgspec.Struct, frozen=True):
    """What else there is."""

    values: tuple[tuple[int, int], ...]
    """Expressions: from where to where."""
    types: tuple[tuple[int, int], ...]
    """Names of types of variables."""
    columns: tuple[tuple[str, ...], ...]
    """Columns (%TYPE) and relations (%ROWTYPE) of whose types variables are: schema or nothing, relation, column or nothing."""
    is_all: bool
    """Nothing else is in the body that could compute."""


NOTHING_SEEN: Final = Unshown((), (), (), is_all=False)


def unshown(body: Sequence[Token], shown: Sequence[Shown]) -> Unshown:
    """What a body holds beside these."""
    covered = _covered(body, shown)
    return _Walk([each.said for each in body], body, covered).walk() if covered is not None else NOTHING_SEEN


# --- what is covered ---


def _covered(body: Sequence[Token], shown: Sequence[Shown]) -> dict[int, int] | None:
    """Where an expression begins that is shown, and where it ends; None: that would take too long."""
    said = [each.said for each in body]
    places: dict[str, list[int]] = {}
    for at, word in enumerate(said):
        if at and said[at - 1] in BEFORE:
            places.setdefault("select" if word == "perform" else word, []).append(at)
    covered: dict[int, int] = {}
    left = MAX_COMPARED
    for words, mode in dict.fromkeys(part for each in shown for part in _parts(each) if part[0]):
        for start in places.get(words[0], ()):
            end, compared = _match(said, start, words, mode)
            left -= compared
            if end and end < len(said) and said[end] in AFTER:
                covered[start] = max(covered.get(start, 0), end)
        if left < 0:
            return None
    return covered


def _parts(shown: Shown) -> Iterator[tuple[tuple[str, ...], int]]:
    """An expression as it stood in the body."""
    words = tuple(each.said for each in shown.tokens)
    if not words:
        return
    if words[0].startswith('"__Case__Variable_') and words[1:3] == ("in", "("):
        yield words[3:-1], VALUE
    elif shown.is_arguments:
        depth, start = 0, 0
        for at, word in enumerate((*words, ",")):
            depth += (word in {"(", "["}) - (word in {")", "]"})
            if word == "," and not depth:
                part = words[start:at]
                yield part, VALUE
                if len(part) > 2 and part[-2] == "as":
                    yield part[:-2], VALUE
                start = at + 1
    else:
        yield words, shown.mode


def _match(said: Sequence[str], start: int, words: Sequence[str], mode: int) -> tuple[int, int]:
    """Where these words end that begin there, or 0; and how many were compared."""
    at = start
    for count, word in enumerate(words):
        if mode == STATEMENT and at < len(said) and said[at] == "into" != word:
            at = _behind_targets(said, at + 1)
        if at >= len(said) or (said[at] != word and not (at == start and said[at] == "perform")):
            return 0, count + 1
        at += 1
    return at, len(words)


def _behind_targets(said: Sequence[str], at: int) -> int:
    """Behind `[STRICT] target, ...` of an INTO, each a name with dots."""
    end = len(said)
    if at < end and said[at] == "strict":
        at += 1
    while at < end and _is_word(said[at]):
        at += 1
        if at < end and said[at] in {".", ","}:
            at += 1
        else:
            break
    return at


# --- what remains ---


class _Walk:
    """Goes through what is not covered."""

    def __init__(self, said: Sequence[str], body: Sequence[Token], covered: dict[int, int]) -> None:
        self.said = [*said, ";", ";"]
        self.body = body
        self.covered = covered
        self.values: list[tuple[int, int]] = []
        self.types: list[tuple[int, int]] = []
        self.columns: list[tuple[str, ...]] = []
        self.depth = 0
        """Of parameters of cursors."""
        self.declares = False

    def walk(self) -> Unshown:
        """See `unshown`."""
        at, is_all = 0, True
        while at < len(self.body) and is_all:
            if at in self.covered:
                at = self.covered[at]
                continue
            behind = self._step(at)
            is_all = behind > at
            at = behind
        return Unshown(tuple(self.values), tuple(self.types), tuple(dict.fromkeys(self.columns)), is_all)

    def _step(self, at: int) -> int:
        """Behind what stands there; there, if it may compute."""
        word = self.said[at]
        if word in ASSIGNING:
            is_known = self.declares or self.said[at - 1] in OPTIONS or self.said[at + 1] in DIAGNOSTICS
            return self._assigned(at + 1) if is_known else at
        if word == "(":
            return self._opened(at)
        if word == ")" and self.depth:
            self.depth -= 1
            return at + 1
        if word == "[":
            inside = at + 1 if self.said[at + 1] == "]" else at + 2
            return inside + 1 if self.said[inside] == "]" and (inside == at + 1 or self.said[at + 1].isdigit()) else at
        if word == "%":
            return at + 2 if self.said[at + 1] in {"type", "rowtype"} else at
        if word == "<<":
            return at + 3 if at + 2 < len(self.body) and _is_word(self.said[at + 1]) and self.said[at + 2] == ">>" else at
        if word == "#":
            return at + 1 if at + 1 < len(self.body) and _is_word(self.said[at + 1]) and (at == 0 or _is_word(self.said[at - 1])) else at
        self._declared(at, word)
        return at + 1 if word in PLAIN or (_is_plain(word) and not self._is_more(at, word)) else at

    def _is_more(self, at: int, word: str) -> bool:
        """Whether a word begins what should have been shown: a statement in SQL, an assignment, the query of a cursor."""
        before = self.said[at - 1] if at else ""
        if self.declares:
            return word in {"for", "is"} and before != "alias" and at + 1 not in self.covered
        begins = before in BEGINNING and self.said[max(at - 2, 0) : at] != ["end", "loop"]
        return begins and word not in STATEMENTS

    def _assigned(self, at: int) -> int:
        """Behind what is assigned there."""
        if at in self.covered:
            return at
        end = at + 1 if _is_plain(self.said[at]) else at
        while end > at and self.said[end] == "." and _is_word(self.said[end - 1]) and _is_word(self.said[end + 1]):
            end += 2
        if end > at and self.said[end] in ENDING:
            return end
        end, depth = at, 0
        while end < len(self.body) and (depth or self.said[end] != ";"):
            depth += (self.said[end] in {"(", "["}) - (self.said[end] in {")", "]"})
            end += 1
        if end > at:
            self.values.append((self.body[at].start, self.body[end - 1].end))
        return end

    def _opened(self, at: int) -> int:
        """Behind a bracket, or all of it, where it belongs to a type or to a cursor."""
        if not self.declares:
            return self._arguments(at)
        if self.said[at - 1] == "cursor":
            self.depth += 1
            return at + 1
        end = at + 1
        while end < len(self.body) and (self.said[end].isdigit() or self.said[end] in {",", "-"}):
            end += 1
        return end + 1 if _is_word(self.said[at - 1]) and self.said[end] == ")" and end > at + 1 else at

    def _arguments(self, at: int) -> int:
        """Behind the arguments of a cursor that is opened, all of which are covered; there, if it is something else."""
        opened = at - 1
        while opened > 1 and self.said[opened - 1] == ".":
            opened -= 2
        if opened < 1 or not _is_word(self.said[opened]) or self.said[opened - 1] not in {"open", "in"}:
            return at
        end = at
        while self.said[end] in {"(", ","} and end < len(self.body):
            named = end + 3 if self.said[end + 2 : end + 3] and self.said[end + 2] in {":=", "=>"} else end + 1
            if named not in self.covered:
                return at
            end = self.covered[named]
        return end + 1 if self.said[end] == ")" and self.said[end + 1] in {";", "loop"} else at

    def _declared(self, at: int, word: str) -> None:
        """Note of what type a variable is that is declared there."""
        if word in {"declare", "begin"}:
            self.declares = word == "declare"
        elif self.declares and at and self.said[at - 1] in {";", "declare"}:
            start = at + 2 if self.said[at + 1] == "constant" else at + 1
            end = start
            while self.said[end] not in END_OF_TYPE:
                end += 1
            words = self.said[start:end]
            if end == len(self.body) or not words or words[0] in NO_TYPE:
                return
            if "%" in words:
                self._like(words)
            elif words[0] not in KNOWN or "." in words:
                self.types.append((self.body[start].start, self.body[end - 1].end))

    def _like(self, words: list[str]) -> None:
        """`relation%ROWTYPE`, `relation.column%TYPE`; with one name, `%TYPE` is that of another variable."""
        at = words.index("%")
        names = [unquoted(each) for each in words[:at:2]]
        if words[at + 1 : at + 2] == ["rowtype"]:
            self.columns.append((names[-2] if len(names) > 1 else "", names[-1], ""))
        elif len(names) > 1:
            self.columns.append((names[-3] if len(names) > 2 else "", names[-2], names[-1]))


def unquoted(said: str) -> str:
    """A name as it is meant."""
    return said[1:-1].replace('""', '"') if said.startswith('"') else said


def _is_word(said: str) -> bool:
    return said[:1].isalpha() or said[:1] in {"_", '"'} or not said.isascii()


def _is_plain(said: str) -> bool:
    """A word, a constant, or a parameter."""
    return _is_word(said) or said[:1].isdigit() or said[:1] in {"'", "$", "."}
