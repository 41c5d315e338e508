"""Says the same in other words: multiplies the corpus's statements by what a lexer, a parser or a protocol may trip over.

Two kinds. `spellings` keep what a statement means: case, white space, comments at token gaps, forms of literals and of
identifiers, how the bytes arrive. What must be refused must still be refused, and a control must still pass unharmed. `wrappers`
put a statement into another: it may then do nothing at all, but it must not do or show what it must not.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.attacks.more import WIRE, Case

DATABASE = "mutated"
TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>--[^\n]*|/\*)
    | (?P<string>'[^'\\]*(?:''[^'\\]*)*')
    | (?P<prefixed>(?:[eE]|[bBxXnN]|[uU]&)'[^']*(?:''[^']*)*'|[uU]&"[^"]*")
    | (?P<quoted>"[^"]*(?:""[^"]*)*")
    | (?P<dollar>\$[A-Za-z_]*\$.*?\$[A-Za-z_]*\$)
    | (?P<word>[A-Za-z_][A-Za-z0-9_$]*)
    | (?P<number>[0-9][0-9.eE_]*)
    | (?P<sign>::|:=|\.\.|(?:(?!--|/\*)[-+*/<>=~!@\#%^&|`?])+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
OURS = frozenset({"victim", "other", "secret", "wipe"})
"""Identifiers that may be written in other forms."""
COMMENTS = ("/**/", "/* ; drop */", "/* /* nested */ */", "--\n", "-- ' \" $$ /*\n", "/*'*/")
SPACES = (" ", "\t", "\n", "\r\n", "\f", "  ")

Token = tuple[str, str]
Steps = tuple[Any, ...]


def tokens(sql: str) -> list[Token]:
    """The tokens of a statement; what stands in dollar quotes is one, and so is a comment with those inside of it."""
    found, at = [], 0
    while (match := TOKEN.match(sql, at)) is not None:
        at = comment_end(sql, at) if match.group() == "/*" else match.end()
        found.append((match.lastgroup or "", sql[match.start() : at]))
    return found


def comment_end(sql: str, at: int) -> int:
    """Where the comment that begins there ends: comments nest (PostgreSQL 18, 4.1.5)."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", sql[at:]):
        depth += 1 if mark.group() == "/*" else -1
        if not depth:
            return at + mark.end()
    return len(sql)


def respelt(sql: str, dice: random.Random, how: str) -> str:
    """The same statement in other words."""
    change = {"case": _case, "space": _space, "comment": _comment, "literal": _literal, "identifier": _identifier}
    chosen = list(change) if how == "all" else [how]
    out: list[str] = []
    behind = ""
    for kind, text in tokens(sql):
        ends, behind = ("\n" if behind.startswith("--") else ""), text
        for each in chosen:
            kind, text = change[each](kind, text, dice)  # noqa: PLW2901 - one change upon another
        # What ends a comment of one line still has to end it.
        out.append(text if text.startswith("\n") else ends + text)
    return "".join(out)


def _case(kind: str, text: str, dice: random.Random) -> Token:
    if kind != "word":
        return kind, text
    return kind, "".join(c.upper() if dice.random() < 0.5 else c.lower() for c in text)


def _space(kind: str, text: str, dice: random.Random) -> Token:
    return (kind, "".join(dice.choices(SPACES, k=dice.randint(1, 3)))) if kind == "space" else (kind, text)


def _comment(kind: str, text: str, dice: random.Random) -> Token:
    # Beside a sign a comment may become an operator, so only gaps are filled.
    return (kind, text + dice.choice(COMMENTS) + " ") if kind == "space" else (kind, text)


def _literal(kind: str, text: str, dice: random.Random) -> Token:
    if kind != "string":
        return kind, text
    value = text[1:-1].replace("''", "'")
    forms = [text]
    if value.isascii():
        forms.append("E'" + "".join(f"\\x{ord(c):02x}" for c in value) + "'")
        forms.append("U&'" + "".join(f"\\{ord(c):04x}" for c in value) + "'")
    if "$" not in value:
        forms += [f"$${value}$$", f"$q${value}$q$"]
    return "prefixed", dice.choice(forms)


def _identifier(kind: str, text: str, dice: random.Random) -> Token:
    if kind != "word" or text.lower() not in OURS:
        return kind, text
    name = text.lower()
    forms = [f'"{name}"', 'U&"' + "".join(f"\\{ord(c):04x}" for c in name) + '"', f'U&"\\+{ord(name[0]):06x}{name[1:]}"']
    return "quoted", dice.choice(forms)


# --- wrappers ---------------------------------------------------------------------------------------------------------


def _quoted(sql: str) -> str:
    return "'" + sql.replace("'", "''") + "'"


def _in_other_bytes(sql: str) -> bytes:
    """The statement with what another encoding would read as one character with the mark behind it: 0x81 and a quote, say."""
    return sql.encode().replace(b"'", b"'\x81'", 1) if "'" in sql else b"/* \x95\x5c */ " + sql.encode()


WRAPPERS: dict[str, Callable[[str], Steps]] = {
    "cte": lambda sql: (f"WITH w AS ({sql}) SELECT * FROM w",),
    "cte-materialized": lambda sql: (f"WITH w AS MATERIALIZED ({sql}) SELECT * FROM w, w AS again",),
    "cte-recursive": lambda sql: (f"WITH RECURSIVE w AS ({sql}) TABLE w",),
    "explain": lambda sql: (f"EXPLAIN ANALYZE {sql}",),
    "explain-options": lambda sql: (f"EXPLAIN (ANALYZE, VERBOSE, FORMAT json) {sql}",),
    "prepare": lambda sql: (f"PREPARE p AS {sql}", "EXECUTE p"),
    "prepare-at-once": lambda sql: (f"PREPARE p AS {sql}; EXECUTE p",),
    "execute-into": lambda sql: (f"PREPARE p AS {sql}", "CREATE TEMP TABLE taken AS EXECUTE p", "SELECT * FROM taken"),
    "do": lambda sql: (f"DO $do$ BEGIN EXECUTE {_quoted(sql)}; END $do$",),
    "do-raise": lambda sql: (f"DO $do$ DECLARE r text; BEGIN {sql} INTO r; RAISE NOTICE '%', r; END $do$",),
    "function": lambda sql: (f"CREATE FUNCTION pg_temp.f() RETURNS SETOF text LANGUAGE sql AS {_quoted(sql)}", "SELECT pg_temp.f()"),
    "cursor": lambda sql: (f"BEGIN; DECLARE c CURSOR FOR {sql}", "FETCH ALL FROM c", "ROLLBACK"),
    "cursor-hold": lambda sql: (f"DECLARE c CURSOR WITH HOLD FOR {sql}", "FETCH FORWARD 2 FROM c", "CLOSE c"),
    "copy": lambda sql: (f"COPY ({sql}) TO STDOUT",),
    "copy-csv": lambda sql: (f"COPY ({sql}) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)",),
    "copy-binary": lambda sql: (f"COPY ({sql}) TO STDOUT (FORMAT binary)",),
    "subquery": lambda sql: (f"SELECT * FROM ({sql}) AS q",),
    "row": lambda sql: (f"SELECT row_to_json(q) FROM ({sql}) AS q",),
    "whole-row": lambda sql: (f"SELECT q::text FROM ({sql}) AS q",),
    "aggregate": lambda sql: (f"SELECT json_agg(q) FROM ({sql}) AS q",),
    "union": lambda sql: (f"{sql} UNION ALL {sql}",),
    "lateral": lambda sql: (f"SELECT q.* FROM (SELECT 1) AS one, LATERAL ({sql}) AS q",),
    "array": lambda sql: (f"SELECT ARRAY({sql})",),
    "exists": lambda sql: (f"SELECT EXISTS ({sql})",),
    "insert": lambda sql: ("CREATE TEMP TABLE kept(a text)", f"INSERT INTO kept {sql}", "SELECT * FROM kept"),
    "create-as": lambda sql: (f"CREATE TEMP TABLE kept AS {sql}", "SELECT * FROM kept"),
    "view": lambda sql: (f"CREATE TEMP VIEW kept AS {sql}", "SELECT * FROM kept"),
    "batch": lambda sql: (f"SELECT 1; {sql}; SELECT 2",),
    "transaction": lambda sql: ("BEGIN", "SAVEPOINT s", sql, "ROLLBACK TO s", sql, "ROLLBACK"),
    "binary": lambda sql: (("binary", sql),),
    "describe-first": lambda sql: (("describe_then_execute", sql),),
    "suspended": lambda sql: (("portal_suspend", sql),),
    **{name: lambda sql, name=name: ((name, sql),) for name in WIRE},
    "encoding": lambda sql: ("SET client_encoding TO 'LATIN1'", sql),
    "encoding-names": lambda sql: ("SET NAMES 'SJIS'", sql, "RESET client_encoding", sql),
    "encoding-set-config": lambda sql: (f"SELECT set_config('client_encoding', 'BIG5', false); {sql}", sql),
    "encoding-local": lambda sql: ("BEGIN", "SET LOCAL client_encoding = 'SQL_ASCII'", sql, "ROLLBACK"),
    "encoding-of-copy": lambda sql: (f"COPY ({sql}) TO STDOUT (ENCODING 'LATIN1')",),
    "encoding-of-bytes": lambda sql: (_in_other_bytes(sql),),
    "role": lambda sql: (f"SET ROLE NONE; {sql}", f"SET SESSION AUTHORIZATION DEFAULT; {sql}"),
    "path": lambda sql: ("SET search_path = pg_temp, public, pg_catalog", sql),
    "strings": lambda sql: ("SET standard_conforming_strings = off", sql),
    "view-in-view": lambda sql: (f"CREATE TEMP VIEW one AS {sql}", "CREATE TEMP VIEW two AS TABLE one", "SELECT two::text FROM two"),
    "prepare-in-view": lambda sql: (f"PREPARE p AS {sql}", "EXPLAIN (ANALYZE, VERBOSE) EXECUTE p", f"COPY ({sql}) TO STDOUT"),
    "do-cursor": lambda sql: (
        f"DO $do$ DECLARE r record; BEGIN FOR r IN {sql} LOOP RAISE NOTICE '%', r; END LOOP; END $do$",
    ),
    "xml": lambda sql: (f"SELECT query_to_xml({_quoted(sql)}, true, true, '')",),
    "cast": lambda sql: (f"SELECT ({sql})::text::int",),
    "window": lambda sql: (f"SELECT q, lag(q) OVER () FROM ({sql}) AS q",),
    "tablesample": lambda sql: (f"SELECT string_agg(q::text, ',') FROM ({sql}) AS q",),
    "ordered": lambda sql: (f"SELECT 1 FROM ({sql}) AS q ORDER BY q",),
}
SPELLINGS = ("case", "space", "comment", "literal", "identifier", "all")
KEEPING = frozenset({"drip"})
"""Wrappers that change nothing of what a statement does."""


def mutants(items: list[dict[str, Any]], dice: random.Random) -> Iterator[Case]:
    """Mutants without end: of a random item, in a random way."""
    usable = [item for item in items if _is_usable(item)]
    for number in range(1_000_000):
        item = dice.choice(usable)
        outcome = {"DENY": "deny", "ALLOW": "allow"}.get(re.split(r"\W", item["required_outcome"])[0], "no-leak")
        texts = tuple(step["sql"] for step in item["steps"])
        how = dice.choice((*SPELLINGS, *WRAPPERS))
        if how in SPELLINGS:
            steps: Steps = tuple(respelt(text, dice, how) for text in texts)
        else:
            texts = tuple(respelt(text, dice, dice.choice(SPELLINGS)) if dice.random() < 0.5 else text for text in texts)
            *before, last = texts
            steps = (*before, *WRAPPERS[how](last.rstrip().rstrip(";")))
            if how not in KEEPING:
                if outcome == "allow":
                    continue
                outcome = "no-leak"
        yield Case(f"{number}-{item['id']}-{how}", outcome, steps, DATABASE)


def _is_usable(item: dict[str, Any]) -> bool:
    """Items that need nothing but their statements, and whose outcome can be told on a database that others use, too."""
    if item["profile"] != "pg-base" or item.get("setup") or not item["required_outcome"].startswith(("DENY", "NO-LEAK", "ALLOW")):
        return False
    return all(step["op"] == "q" and "@" not in step["sql"] for step in item["steps"])
