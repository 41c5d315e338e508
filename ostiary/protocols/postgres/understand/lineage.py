"""Where values come from: which protected columns the value of an expression hangs on.

Theory of operation
-------------------
A *mark* is a data class, with the strategy of the column while the value is still that column's own (carried), or without
one once it was computed with. A *label* is the set of marks of one output column. While an expression is walked whose
value will be shown (a select list, RETURNING, VALUES), marks gather in `sink` and become the label of that column; a derived
table or a common table expression hands its labels on to whoever reads it. Where there is no sink (a predicate, an
ordering, a grouping, a join, the arguments of a function in FROM) what is used decides which rows come, or in which order, and
that is inference: `Finding.infer`.

What is computed is masked whole and becomes NULL whatever its type: the length of a text, or whether there is one, says as much as
the text itself. It tells nothing then, unless it fails: whether `1 / (length(secret) - 11)`
raises an error is a predicate. So functions, operators and casts of a masked expression must be *total*, that is never fail
by what they are given; else the expression counts as inference. What may store or send a value (a function of somebody's own,
a volatile one) needs the right to see it in clear.

What is not seen: memory that runs out by doubling a text again and again, and time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from ostiary.model.catalogue import FIRST_NORMAL_OID, Function
from ostiary.model.connections import Strategy
from ostiary.model.operations import Origin
from ostiary.protocols.postgres.grammar import Node
from ostiary.protocols.postgres.understand.builtins import BPCHAR, NAME, NUMBERS, RUNS_TEXT, TEXT, UNKNOWN, VARCHAR
from ostiary.protocols.postgres.understand.names import CATALOG, Names, Type
from ostiary.protocols.postgres.understand.scopes import NOTHING, Label, Mark, Scope
from ostiary.protocols.postgres.understand.shapes import GATHERING

RAISES: Final[Mark] = ("", None)
"""Not a class: reading the column may raise an error, as a planner may move its expression to where it is read."""
SYMBOL: Final = "\0"
"""Begins the stand-in for the classes of a recursive query, while it is being walked."""

TEXTUAL: Final = frozenset({TEXT, VARCHAR, BPCHAR, NAME})

CARRYING: Final = frozenset({"ColumnRef", "CollateClause", "TypeCast", "SubLink", "ResTarget"})
"""Nodes whose value may be a column's own. (The rules of casts and subqueries say when it is not.)"""

TOTAL: Final = frozenset({
    "lower", "upper", "initcap", "length", "char_length", "character_length", "octet_length", "bit_length", "md5",
    "btrim", "ltrim", "rtrim", "reverse", "translate", "strpos", "position", "starts_with", "ascii", "concat", "concat_ws",
    "quote_literal", "quote_nullable", "quote_ident", "hashtext", "to_json", "to_jsonb", "row_to_json",
    "array_to_json", "array_to_string", "cardinality", "array_length", "num_nulls", "num_nonnulls", "pg_typeof", "left", "right",
    "count", "min", "max", "string_agg", "array_agg", "json_agg", "jsonb_agg", "bool_and", "bool_or", "every",
    "row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "first_value", "last_value", "lag", "lead",
    "json_typeof", "jsonb_typeof", "jsonb_pretty", "json_strip_nulls", "jsonb_strip_nulls", "now", "current_database",
    "current_user", "session_user", "version", "pg_backend_pid", "text", "name",
})  # fmt: skip
"""Built-in functions that never fail by the values that they are given, change nothing, and give one row for one."""
TOTAL_BY_NUMBER: Final = frozenset({"substr", "substring", "split_part", "lpad", "rpad", "overlay"})
"""And these, where every argument but the first is a small positive number, or a literal that is no other number.

Not `repeat`: repeated again, a text fails by how long it is.
"""
TOTAL_OF_NUMBERS: Final = frozenset({"sum", "avg"})
"""And these of numbers. An interval or an amount of money overflows once it is summed often enough."""
TOTAL_ALONE: Final = frozenset({"varchar", "bpchar"})
"""And these with one argument. With a length they may be told to fail where a text is longer."""
TOTAL_BY_KEY: Final = frozenset({"json_build_object", "jsonb_build_object"})
"""And these, where the keys are literals."""
COMPARISONS: Final = frozenset({"=", "<>", "!=", "<", ">", "<=", ">=", "~~", "!~~", "~~*", "!~~*", "~", "!~", "~*", "!~*"})
TOTAL_OPERATORS: Final = frozenset({"->", "->>", "#>", "#>>"})
MOST: Final = 1_000
_NUMBER: Final = re.compile(r"[+-]?[0-9][0-9A-Za-z_]*", re.ASCII)
"""Whatever some version of PostgreSQL reads as an integer, and more."""


class Lineage(Names):
    """What the walk of expressions and queries notes of where values go."""

    sink: set[Mark] | None = None
    """Where marks of a value that will be shown gather; None: the value decides something instead."""
    raised = 0
    """How many things were met that may fail by the values that they are given."""
    outputs: tuple[Type, ...] = ()
    """Types of the output columns of the query walked last; empty: not known."""
    labels: tuple[Label, ...] = ()
    """Their labels, one a column where its columns are known."""
    every: Label = NOTHING
    """All of them in one: what any column of it hangs on."""
    recursions = 0
    input_rows: int | None = 1
    """How many rows the FROM gives, at most, of the query at hand."""
    calls_aggregate = False
    """The function called last is an aggregate, whichever it is."""

    def expression(self, node: Node | None, scope: Scope) -> Type:
        """Walk one expression: `expressions.py`."""
        raise NotImplementedError

    # --- marks ---

    def flow(self, marks: Iterable[Mark]) -> None:
        """Note that a value with these marks is used here."""
        given = set(marks)
        if not given:
            return
        if RAISES in given:
            given.discard(RAISES)
            self.raised += 1
        if self.sink is None:
            self.found.infer.update(name for name, _ in given)
        else:
            self.sink |= given

    def tells(self) -> None:
        """Note that code is run here which may give back whatever is protected."""
        if self.protected.classes:
            self.found.touches_protected = True
            if self.sink is None:
                self.found.infer.update(self.protected.classes)
            else:
                self.told.update((name, None) for name in self.protected.classes)

    def infer(self, marks: Iterable[Mark]) -> None:
        """Note that what comes back, or in which order, hangs on values with these marks."""
        self.found.infer.update(name for name, _ in marks if name)

    def write(self, marks: Iterable[Mark]) -> None:
        """Note that values with these marks are put where nobody masks them."""
        self.found.unmask.update(name for name, _ in marks if name)

    def computed(self) -> None:
        """What has gathered is no column's own value any more."""
        if self.sink:
            names = {name for name, _ in self.sink}
            self.sink.clear()
            self.sink.update((name, None) for name in names)

    # --- values ---

    def value(self, node: Node | None, scope: Scope) -> tuple[Type, Label]:
        """Walk an expression whose value goes somewhere, and give its type and label."""
        raised, foreign = self.raised, self.foreign
        outer, self.sink = self.sink, set()
        told_outside, self.told = self.told, set()
        try:
            type_ = self.expression(node, scope)
            marks, told = self.sink, self.told
        finally:
            self.sink, self.told = outer, told_outside
        return type_, self._closed(marks, raised=self.raised != raised, foreign=self.foreign != foreign) | told

    def values(self, nodes: Iterable[Node], scope: Scope) -> tuple[list[Type], Label]:
        """The same of several, in one label: nothing is said of which of them a mark is of."""
        types: list[Type] = []
        marks: set[Mark] = set()
        for node in nodes:
            type_, label = self.value(node, scope)
            types.append(type_)
            marks |= label
        return types, frozenset(marks)

    def _closed(self, marks: set[Mark], *, raised: bool, foreign: bool) -> Label:
        if marks and raised:
            self.infer(marks)
        if marks and foreign:
            self.write(marks)
        if raised:
            marks.add(RAISES)
        return frozenset(marks) if marks else NOTHING

    def decides(self, node: Node | None, scope: Scope) -> Type:
        """Walk an expression that decides which rows come, or in which order, wherever it stands."""
        outer, self.sink = self.sink, None
        try:
            return self.expression(node, scope)
        finally:
            self.sink = outer

    def condition(self, node: Node | None, scope: Scope) -> Type:
        """Walk what is compared or tested, in an expression that is shown: it decides, and what comes of it is masked as well."""
        type_, label = self.value(node, scope)
        self.infer(label)
        self.flow(label)
        return type_

    # --- what is gathered ---

    def gathers(self, rows: int | None) -> None:
        """Note that so many rows are put into one value, if it is one that is shown."""
        if self.sink is not None:
            self.found.constants |= rows is not None
            self.found.gather(rows)

    def note_aggregates(self, candidates: Sequence[Function], made: Sequence[str]) -> None:
        """Note what a call does with the rows of its query, or with a relation that it is told by name."""
        self.calls_aggregate = bool(candidates) and not made and all(each.kind == "a" for each in candidates)
        if any(each.kind == "a" and (each.oid >= FIRST_NORMAL_OID or each.name in GATHERING) for each in candidates):
            self.gathers(self.input_rows)
        if any(each.oid < FIRST_NORMAL_OID and each.name in RUNS_TEXT for each in candidates):
            self.found.gather(None)

    def is_plain(self, parts: list[str]) -> bool:
        """Whether a function of that name is PostgreSQL's own, and makes its rows of what it is given."""
        name = parts[-1]
        is_named = (CATALOG, name) in self.snapshot.functions_named and parts[:-1] in ([], [CATALOG])
        return is_named and name not in self.ground.overloaded | RUNS_TEXT and not self.view.made_named("function", name)

    def is_one_row(self, node: Node) -> bool:
        """Whether a SelectStmt that has been walked shows aggregates over all its rows, and nothing else."""
        targets = [each["ResTarget"].get("val", {}) for each in node.get("targetList", ())]
        return bool(targets) and "groupClause" not in node and all(id(each.get("FuncCall")) in self.aggregates for each in targets)

    # --- what may fail ---

    def note_function(
        self, name: str, volatility: str, arguments: Sequence[Node], types: Sequence[Type], *, innocent: bool
    ) -> None:
        """Note what a built-in function may do with what it is given."""
        if volatility == "v" and not innocent:
            self.foreign += 1
        if name in TOTAL_BY_NUMBER or name in TOTAL_BY_KEY:
            self.found.constants = True
        if name not in TOTAL and not _is_total(name, arguments, types):
            self.raised += 1

    def note_operator(self, name: str, left: Type, right: Type) -> None:
        """The same, of an operator. What is compared is inferred already."""
        if name not in TOTAL_OPERATORS and not (name == "||" and self._joins_texts(left, right)):
            self.raised += 1

    def _joins_texts(self, left: Type, right: Type) -> bool:
        """Whether `||` makes a text of these. Of arrays and JSON it fails where they do not fit together."""
        return not TEXTUAL.isdisjoint((left, right)) and all(
            each == UNKNOWN or each in TEXTUAL or (each is not None and self.element(each) is None)
            for each in (left, right)
        )

    def element(self, array: Type) -> Type:
        """The type of an array's elements: `expressions.py`."""
        raise NotImplementedError

    def note_cast(self, node: Node, given: Type, wanted: Type) -> None:
        """A cast to text cannot fail, and between texts it leaves the value what it was, unless it cuts it."""
        name = node.get("typeName", {})
        carries = given in TEXTUAL and wanted in {TEXT, VARCHAR} and not name.get("typmods")
        if not carries:
            self.computed()
        literal = "A_Const" in node.get("arg", {})
        if wanted not in TEXTUAL and not literal and given != wanted:
            self.raised += 1

    # --- recursive queries ---

    def symbol(self) -> Mark:
        """A stand-in for the classes of a recursive query that is about to be walked."""
        self.recursions += 1
        return (f"{SYMBOL}{self.recursions}", None)

    def resolve(self, symbol: Mark, marks: Iterable[Mark]) -> None:
        """The recursive query has been walked: what was noted of the stand-in holds of what it stood for."""
        names = {name for name, _ in marks if name and name != symbol[0]}
        for noted in (self.found.infer, self.found.unmask):
            if symbol[0] in noted:
                noted.discard(symbol[0])
                noted.update(names)

    def outcome(self, names: tuple[str, ...] | None) -> None:
        """The query walked last is what the statement shows: keep its lineage."""
        known = names is not None and len(names) == len(self.labels)
        columns = None
        if names is not None and known:
            types = self.outputs if len(self.outputs) == len(names) else (None,) * len(names)
            columns = tuple(
                origin_of(name, type_, label) for name, type_, label in zip(names, types, self.labels, strict=True)
            )
        self.found.shows(columns, classes_of(self.every))


def classes_of(marks: Iterable[Mark]) -> tuple[str, ...]:
    """The data classes of a label, in order."""
    return tuple(sorted({name for name, _ in marks if name}))


def origin_of(name: str, type_: Type, label: Label) -> Origin:
    """What masking must know of an output column."""
    classes = classes_of(label)
    strategies = {strategy for mark, strategy in label if mark}
    only = strategies.pop() if len(strategies) == 1 and len(classes) == 1 else None
    return Origin(name.rstrip("\0"), type_ or 0, classes, only or Strategy.NULL)


def substitute(label: Label, symbol: Mark, marks: Label) -> Label:
    """A label with a stand-in replaced by what it stood for."""
    return (label - {symbol}) | marks if symbol in label else label


def _is_total(name: str, arguments: Sequence[Node], types: Sequence[Type]) -> bool:
    if name in TOTAL_OF_NUMBERS:
        return NUMBERS.issuperset(types)
    if name in TOTAL_BY_NUMBER:
        return all(_is_small(each) for each in arguments[1:])
    if name in TOTAL_ALONE:
        return len(arguments) == 1
    return name in TOTAL_BY_KEY and len(arguments) % 2 == 0 and all(_is_plain_literal(each) for each in arguments[::2])


def _is_small(node: Node) -> bool:
    constant = node.get("A_Const", {})
    if "ival" in constant:
        return 0 < int(constant["ival"].get("ival", 0)) <= MOST
    # A quoted number is a number where the function wants one.
    text = str(constant.get("sval", {}).get("sval", "")).strip()
    if _NUMBER.fullmatch(text) is not None:
        return text.isdigit() and 0 < int(text) <= MOST
    return _is_plain_literal(node)


def _is_plain_literal(node: Node | None) -> bool:
    text = (node or {}).get("A_Const", {}).get("sval")
    return text is not None and "\\" not in str(text.get("sval", "")) and len(str(text.get("sval", ""))) <= MOST
