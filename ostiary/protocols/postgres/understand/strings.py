"""Whether a statement would mean the same with other strings in it: its strings tell when they are read.

Theory of operation
-------------------
What a statement does mostly hangs on what it names, not on the values that it compares with. Where it does hang on them (`set_config('role', …)`,
`WHERE 'a' = 'a'`), whoever judges it reads them. So before it is judged each string in its tree is replaced by one that notes being read. A
list of the places that read strings would have to be kept whole by hand, and a place forgotten there would let a statement through as
another one. An object that is no `str` cannot be read in any way but those below: another is an AttributeError or TypeError, and the
statement is refused as one that the gateway failed to judge. The one way around is to ask whether a value is a `str` before it was made one.

Only strings that stand in the text as such count, each where it begins (`extract(year FROM …)` has one in the tree that is a word in the text,
and the grammar makes some of its own, which stand nowhere), and only in statements that leave nothing of their text behind for later.
"""

from __future__ import annotations

from typing import Final

from ostiary.protocols.postgres.grammar import Statement, nodes

KINDS: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt"})
_APOSTROPHE: Final = 0x27


class Strings:
    """The strings of one text."""

    def __init__(self, text: bytes, statements: tuple[Statement, ...]) -> None:
        self.are_read = False
        self._begin: set[int] = set()
        self._may_differ = all(each.kind in KINDS for each in statements)
        if _APOSTROPHE in text:
            for statement in statements:
                for kind, node in nodes(statement.node):
                    if kind == "A_Const" and "sval" in node:
                        node["sval"] = {"sval": Unread(str(node["sval"].get("sval", "")), self)}
                        at = node.get("location", 0)
                        if at >= 0 and text[at] == _APOSTROPHE:
                            self._begin.add(at)

    @property
    def unread(self) -> int:
        """How many there are; -1: what was found hangs on what they say, or may."""
        return len(self._begin) if self._may_differ and not self.are_read else -1


class Unread:
    """A string of a statement, which tells when it is read."""

    __slots__ = ("_strings", "_text")

    def __init__(self, text: str, strings: Strings) -> None:
        self._text = text
        self._strings = strings

    def __str__(self) -> str:
        self._strings.are_read = True
        return self._text

    def __eq__(self, other: object) -> bool:
        return str(self) == (str(other) if isinstance(other, Unread) else other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __bool__(self) -> bool:
        return bool(str(self))

    def __repr__(self) -> str:
        return repr(str(self))
