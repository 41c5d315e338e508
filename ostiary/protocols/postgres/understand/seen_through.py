"""Which columns of a view show which columns of what it reads, out of the rule as PostgreSQL keeps it (pg_rewrite.ev_action).

Theory of operation. The rule is a tree of nodes in text form (src/backend/nodes/outfuncs.c): names are resolved, `*` is written out, so
nothing of a search_path is left to guess, and reading it takes no lock, as pg_get_viewdef would. The tree is read without knowing its
nodes (`parse`): a node is a name and fields. Of the nodes those are known that say where a value comes from; any other is an expression,
and its value hangs on every column that stands anywhere in it.

What comes of a view is, for each of its columns, the columns that it shows as they are or has computed something of; and besides the
columns that decide which rows there are, or in which order. Whatever is not understood makes the whole `None`: then all columns of the
view are taken to show all that it reads, as they were before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

MAX_DEPTH: Final = 64

Source = tuple[int, int, bool]
"""(relation OID, column number, or 0 for all of them; whether the value is the column's own)."""
Label = frozenset[Source]
NOTHING: Final[Label] = frozenset()

_TOKEN: Final = re.compile(r"[{}()\[\]]|(?:\\.|[^\s{}()\[\]\\])+", re.DOTALL)
_TEXTS: Final = frozenset({"25", "1043"})
_SELECT, _UNION = "1", "1"
_RELATION, _SUBQUERY, _JOIN, _FUNCTION, _TABLE_FUNCTION, _VALUES, _CTE, _RESULT, _GROUP = "012345689"


class SeenThrough(msgspec.Struct, frozen=True):
    """What a view shows of what it reads."""

    columns: tuple[Label, ...]
    decides: Label
    """What its rows, or their order, hang on."""
    relations: frozenset[int]
    """OIDs of all that it reads, whether a column of it is shown or not."""


class _Strange(Exception):
    """Something that is not understood."""


class Node(dict[str, Any]):
    """One node: fields by name. `kind` is what PostgreSQL calls it."""

    kind = ""


def parse(text: str) -> Any:
    """The tree: nodes, lists, and atoms as text. Raises `_Strange`."""
    tokens = _TOKEN.findall(text)
    value, at = _value(tokens, 0, 0)
    if at != len(tokens):
        raise _Strange
    return value


def _value(tokens: list[str], at: int, depth: int) -> tuple[Any, int]:
    if at >= len(tokens) or depth > MAX_DEPTH * 4:
        raise _Strange
    word = tokens[at]
    if word == "{":
        return _node(tokens, at + 1, depth)
    if word in "([":
        end = ")" if word == "(" else "]"
        found: list[Any] = []
        at += 1
        while at < len(tokens) and tokens[at] != end:
            value, at = _value(tokens, at, depth + 1)
            found.append(value)
        return found, at + 1
    if word in ")]}":
        raise _Strange
    return word, at + 1


def _node(tokens: list[str], at: int, depth: int) -> tuple[Node, int]:
    node = Node()
    node.kind = tokens[at]
    at += 1
    while at < len(tokens) and tokens[at] != "}":
        name = tokens[at]
        if not name.startswith(":"):
            raise _Strange
        # A field has a value, which may look like a field's name: what a person called a column stands here.
        value, at = _value(tokens, at + 1, depth + 1)
        more: list[Any] = []
        while at < len(tokens) and tokens[at] != "}" and not tokens[at].startswith(":"):
            extra, at = _value(tokens, at, depth + 1)
            more.append(extra)
        if name in node:
            raise _Strange
        node[name] = [value, *more] if more else value
    if at >= len(tokens):
        raise _Strange
    return node, at + 1


@lru_cache(maxsize=256)
def seen_through(rule: str) -> SeenThrough | None:
    """What a view shows whose rule this is; None: it cannot be told."""
    try:
        tree = parse(rule)
        if not isinstance(tree, list) or len(tree) != 1:
            return None
        columns, decides = _Query(tree[0], ()).read()
        relations = frozenset(_relations(tree))
    except (_Strange, RecursionError, KeyError, IndexError, ValueError, AttributeError, TypeError):
        return None
    return SeenThrough(tuple(columns), decides, relations)


def _relations(value: Any) -> Iterator[int]:
    """The relations that stand in a FROM anywhere. The view itself stands in its own rule, in none."""
    if isinstance(value, list):
        for each in value:
            yield from _relations(each)
    elif isinstance(value, Node):
        if value.get(":rtekind") == _RELATION and value.get(":inFromCl") == "true":
            yield int(value[":relid"])
        for each in value.values():
            yield from _relations(each)


def _each(value: Any) -> list[Any]:
    """A list of nodes; `<>` is none."""
    if value == "<>":
        return []
    if not isinstance(value, list):
        raise _Strange
    return value


def _computed(labels: Iterable[Label]) -> Label:
    """What hangs on all of these is the value of none."""
    return frozenset((oid, number, False) for label in labels for oid, number, _ in label)


class _Query:
    """One query of the rule."""

    def __init__(self, node: Any, around: tuple[_Query, ...]) -> None:
        if not isinstance(node, Node) or node.kind != "QUERY" or node[":commandType"] != _SELECT or len(around) > MAX_DEPTH:
            raise _Strange
        if node.get(":hasRecursive", "false") != "false" or node.get(":hasModifyingCTE", "false") != "false":
            raise _Strange
        self.node = node
        self.around = around
        self.tables = _each(node[":rtable"])
        self.decides: set[Source] = set()
        self.known: dict[int, list[Label] | None] = {}
        self.with_queries = {cte[":ctename"]: cte for cte in _each(node[":cteList"])}
        self.read_ctes: dict[str, list[Label]] = {}

    def read(self) -> tuple[list[Label], Label]:
        """The labels of its columns, and what decides."""
        node = self.node
        labels: list[Label] = []
        by_reference: dict[str, Label] = {}
        for entry in _each(node[":targetList"]):
            label = self.value(entry[":expr"])
            by_reference[entry[":ressortgroupref"]] = label
            if node[":hasTargetSRFs"] == "true":
                self.decides |= _computed([label])  # it may say how many rows there are
            if entry[":resjunk"] == "false":
                labels.append(label)
        if node[":setOperations"] != "<>":
            labels = self.united(node[":setOperations"], len(labels))
        for name in (":groupClause", ":distinctClause", ":sortClause"):
            self.ordered(_each(node[name]), by_reference)
        for window in _each(node[":windowClause"]):
            self.ordered([*_each(window[":partitionClause"]), *_each(window[":orderClause"])], by_reference)
            self.decide(window.get(":startOffset", "<>"))
            self.decide(window.get(":endOffset", "<>"))
        for name in (":jointree", ":havingQual", ":limitOffset", ":limitCount", ":groupingSets"):
            self.decide(node[name])
        for number, table in enumerate(self.tables):
            self.entered(number + 1, table)
        return labels, frozenset(self.decides)

    def ordered(self, clauses: list[Any], by_reference: dict[str, Label]) -> None:
        """What is grouped, made distinct or sorted by decides."""
        for clause in clauses:
            self.decides |= _computed([by_reference[clause[":tleSortGroupRef"]]])

    def united(self, operation: Node, count: int) -> list[Label]:
        """The columns of a set operation: each may be that of any part."""
        parts: list[list[Label]] = []
        todo: list[Any] = [operation]
        distinct = False
        while todo:
            each = todo.pop()
            if each.kind == "SETOPERATIONSTMT":
                distinct |= each[":op"] != _UNION or each[":all"] != "true"
                todo += [each[":larg"], each[":rarg"]]
            elif each.kind == "RANGETBLREF":
                columns = self.columns(int(each[":rtindex"]))
                if columns is None or len(columns) < count:
                    raise _Strange
                parts.append(columns)
            else:
                raise _Strange
        labels = [frozenset[Source]().union(*(part[at] for part in parts)) for at in range(count)]
        if distinct:
            self.decides |= _computed(labels)
        return labels

    def entered(self, index: int, table: Node) -> None:
        """What a table of the FROM does to the rows beside being shown."""
        kind = table[":rtekind"]
        if kind in (_SUBQUERY, _CTE):
            self.columns(index)  # how many rows there are hangs on what decides there, whether a column is shown or not
        self.decide(table.get(":tablesample", "<>"))
        self.decide(table.get(":securityQuals", "<>"))
        if kind in (_FUNCTION, _TABLE_FUNCTION):
            self.decide(table.get(":functions", "<>"))
            self.decide(table.get(":tablefunc", "<>"))

    def decide(self, expression: Any) -> None:
        """All that stands in this expression decides."""
        self.decides |= _computed([self.value(expression)])

    # --- where a value comes from ---

    def value(self, expression: Any) -> Label:
        """What an expression hangs on; a column alone, or made a text, is that column's own value."""
        if isinstance(expression, Node):
            if expression.kind == "VAR":
                return self.variable(expression)
            if expression.kind == "RELABELTYPE" and expression[":resulttype"] in _TEXTS:
                inner = expression[":arg"]
                if isinstance(inner, Node) and inner.kind == "VAR" and inner[":vartype"] in _TEXTS:
                    return self.variable(inner)
        return _computed(self.within(expression))

    def within(self, value: Any) -> Iterator[Label]:
        """The labels of all columns that stand anywhere in it."""
        if isinstance(value, list):
            for each in value:
                yield from self.within(each)
        elif isinstance(value, Node):
            if value.kind == "VAR":
                yield self.variable(value)
            elif value.kind == "QUERY":
                labels, decides = _Query(value, (*self.around, self)).read()
                self.decides |= decides
                yield from labels
            else:
                for each in value.values():
                    yield from self.within(each)

    def variable(self, var: Node) -> Label:
        """What one column of a table of the FROM, here or further out, hangs on."""
        up = int(var[":varlevelsup"])
        if up:
            return self.around[-up].column(int(var[":varno"]), int(var[":varattno"]))
        return self.column(int(var[":varno"]), int(var[":varattno"]))

    def column(self, index: int, number: int) -> Label:
        """The label of that column; a whole row hangs on all of them."""
        table = self.tables[index - 1]
        if number < 0:
            return NOTHING  # ctid and the like
        if table[":rtekind"] == _RELATION:
            return frozenset({(int(table[":relid"]), number, number > 0)})
        columns = self.columns(index)
        if columns is None:
            return NOTHING
        if number == 0:
            return _computed(columns)
        return columns[number - 1] if number <= len(columns) else _computed(columns)

    def columns(self, index: int) -> list[Label] | None:
        """The columns of one that is no relation; None: it hangs on nothing."""
        if index not in self.known:
            self.known[index] = self.derived(self.tables[index - 1])
        return self.known[index]

    def derived(self, table: Node) -> list[Label] | None:
        """See `columns`."""
        kind = table[":rtekind"]
        if kind == _SUBQUERY:
            labels, decides = _Query(table[":subquery"], (*self.around, self)).read()
            self.decides |= decides
            return labels
        if kind == _JOIN:
            return [self.value(each) for each in _each(table[":joinaliasvars"])]
        if kind == _GROUP:
            return [self.value(each) for each in _each(table[":groupexprs"])]
        if kind == _VALUES:
            rows = [[self.value(each) for each in _each(row)] for row in _each(table[":values_lists"])]
            return [frozenset[Source]().union(*each) for each in zip(*rows, strict=True)]
        if kind in (_FUNCTION, _TABLE_FUNCTION):
            of = _computed(self.within([table.get(":functions", "<>"), table.get(":tablefunc", "<>")]))
            return [of]
        if kind == _CTE:
            return self.common(table[":ctename"], int(table[":ctelevelsup"]))
        if kind == _RESULT:
            return None
        raise _Strange

    def common(self, name: str, up: int) -> list[Label]:
        """The columns of a query of a WITH."""
        owner = self.around[-up] if up else self
        if name not in owner.read_ctes:
            cte = owner.with_queries[name]
            if cte[":cterecursive"] != "false" or cte.get(":search_clause", "<>") != "<>" or cte.get(":cycle_clause", "<>") != "<>":
                raise _Strange
            labels, decides = _Query(cte[":ctequery"], (*owner.around, owner)).read()
            owner.decides |= decides
            owner.read_ctes[name] = labels
        return owner.read_ctes[name]
