"""SELECT, INSERT, UPDATE, DELETE, MERGE and their FROM: relations, scopes, and where the values of columns go.

A select list, RETURNING and VALUES show values: each output column gets a label (see `lineage.py`). WHERE, HAVING, ON, USING,
GROUP BY, ORDER BY, DISTINCT, LIMIT, set operations that compare rows, and functions in FROM decide: what they use is
inferred. INSERT, UPDATE and MERGE write values where nobody masks them.
"""

# ruff: noqa: SLF001 -- the tables of rules at the end name methods of the class above

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ostiary.model.catalogue import Column, Relation
from ostiary.model.operations import Action
from ostiary.protocols.postgres.grammar import Node
from ostiary.protocols.postgres.understand.builtins import UNKNOWN
from ostiary.protocols.postgres.understand.expressions import Expressions, constant_text
from ostiary.protocols.postgres.understand.filtered import condition_on, digest
from ostiary.protocols.postgres.understand.findings import unsupported
from ostiary.protocols.postgres.understand.ground import JOIN, WHOLE
from ostiary.protocols.postgres.understand.guarded import Guarded
from ostiary.protocols.postgres.understand.lineage import substitute
from ostiary.protocols.postgres.understand.names import DELETE, INSERT, SELECT, UPDATE, Target, Type, strings
from ostiary.protocols.postgres.understand.restricting import Reading
from ostiary.protocols.postgres.understand.scopes import (
    NOTHING,
    Cte,
    Entry,
    Label,
    Mark,
    Scope,
    distinct,
)
from ostiary.protocols.postgres.understand.shapes import input_of
from ostiary.protocols.postgres.understand.view import Made

OutputColumns = tuple[str, ...] | None


class Queries(Expressions):
    """Walks queries and DML."""

    def query(self, node: Node, outer: Scope | None) -> OutputColumns:
        """Walk a query (wrapped node); gives the names of its columns, or None where they cannot be told.

        `outputs`, `labels` and `every` then say their types and what they hang on.
        """
        ((kind, inner),) = node.items()
        dml = DML.get(kind)
        if kind != "SelectStmt" and dml is None:
            raise unsupported(f"the gateway has no rule for {kind} as a query")
        around, self.sink = self.sink, None
        try:
            return self.select(inner, outer) if dml is None else dml(self, inner, outer)
        finally:
            self.sink = around

    # --- SELECT ---

    def select(self, node: Node, outer: Scope | None) -> OutputColumns:
        """Walk a SelectStmt (not wrapped)."""
        scope = Scope(outer)
        self._with(node, scope)
        if node.get("op", "SETOP_NONE") != "SETOP_NONE":
            return self._set_operation(node, scope)
        if "valuesLists" in node:
            return self._values(node, scope)
        for item in node.get("fromClause", ()):
            self.from_item(item, scope)
        around, self.input_rows = self.input_rows, input_of(node, self.is_plain)
        columns = self.target_list(node.get("targetList", ()), scope)
        result = self._keep(columns, scope)
        gathers = self.found.gathers
        self.expression(node.get("whereClause"), scope)
        self._group(node, scope)
        self.expression(node.get("havingClause"), scope)
        for window in node.get("windowClause", ()):
            self.window(window["WindowDef"], scope)
        if node.get("distinctClause") == [{}]:
            self.infer(scope.every)
        else:
            for each in node.get("distinctClause", ()):
                self._output_or_expression(each, scope)
        self._order_and_limit(node, scope)
        self._locking(node, scope)
        self.input_rows, self.found.gathers = around, gathers  # what decides is not shown
        if "intoClause" in node:
            self.write(scope.every)
            self.into(node["intoClause"], columns)
        self.outputs, self.labels, self.every = result
        return columns

    def _keep(self, columns: OutputColumns, scope: Scope) -> tuple[tuple[Type, ...], tuple[Label, ...], Label]:
        """Let clauses that name output columns find them, and give what is to be said of the query in the end."""
        scope.every = self.every
        known = columns is not None and len(columns) == len(self.labels)
        scope.shown = tuple(zip(columns or (), self.labels, strict=True)) if known else None
        return self.outputs, self.labels, self.every

    def _values(self, node: Node, scope: Scope) -> OutputColumns:
        labels: list[Label] = []
        for row in node["valuesLists"]:
            items = row.get("List", {}).get("items", ())
            labels += [NOTHING] * (len(items) - len(labels))
            for at, item in enumerate(items):
                labels[at] |= self.value(item, scope)[1]
        names = tuple(f"column{i + 1}" for i in range(len(labels)))
        self.outputs, self.labels, self.every = (), tuple(labels), NOTHING.union(*labels)
        result = self._keep(names, scope)
        self._order_and_limit(node, scope)
        self.outputs, self.labels, self.every = result
        return names

    def into(self, clause: Node, columns: OutputColumns) -> None:
        """SELECT ... INTO, CREATE TABLE AS: a relation is made of the result."""
        raise NotImplementedError

    def _set_operation(self, node: Node, scope: Scope) -> OutputColumns:
        columns = self.select(node["larg"], scope)
        left, every = self.labels, self.every
        self.select(node["rarg"], scope)
        self.every |= every
        self.outputs = ()
        if len(left) == len(self.labels):
            self.labels = tuple(one | other for one, other in zip(left, self.labels, strict=True))
        else:
            self.labels, columns = (), None
        if node["op"] != "SETOP_UNION" or not node.get("all"):
            # Rows are compared: which of them come back tells which are equal.
            self.infer(self.every)
        result = self._keep(columns, scope)
        self._order_and_limit(node, scope)
        self._locking(node, scope)
        if "intoClause" in node:
            self.write(scope.every)
            self.into(node["intoClause"], columns)
        self.outputs, self.labels, self.every = result
        return columns

    def _with(self, node: Node, scope: Scope) -> None:
        clause = node.get("withClause")
        if not clause:
            return
        recursive = clause.get("recursive", False)
        ctes = [each["CommonTableExpr"] for each in clause.get("ctes", ())]
        symbol = self.symbol()
        if recursive:
            # WITH RECURSIVE: each sees itself and all others, also those behind it.
            for cte in ctes:
                scope.ctes[cte["ctename"]] = Cte(cte["ctename"], None, every=frozenset({symbol}))
        for cte in ctes:
            inner = Scope(scope)
            columns = self.query(cte["ctequery"], inner)
            types = () if recursive else self.outputs
            labels, every = self.labels, self.every
            names = tuple(strings(cte.get("aliascolnames", ())))
            if names:
                columns = None if columns is None else (*names, *columns[len(names) :])
            if "search_clause" in cte or "cycle_clause" in cte:
                self._search_and_cycle(cte, inner)
                self.infer(every)
                columns, labels = None, ()
            scope.ctes[cte["ctename"]] = Cte(cte["ctename"], columns, types, labels, every)
        if recursive:
            self._close_recursion(symbol, [scope.ctes[cte["ctename"]] for cte in ctes])

    def _close_recursion(self, symbol: Mark, ctes: list[Cte]) -> None:
        """What any of them shows, all may show that read one of them before it was known."""
        marks = NOTHING.union(*(cte.every for cte in ctes)) - {symbol}
        gone = frozenset((name, None) for name, _ in marks if name)
        self.resolve(symbol, gone)
        for cte in ctes:
            cte.every = substitute(cte.every, symbol, gone)
            cte.labels = tuple(substitute(label, symbol, gone) for label in cte.labels)

    def _search_and_cycle(self, cte: Node, scope: Scope) -> None:
        cycle = cte.get("cycle_clause", {})
        self.expression(cycle.get("cycle_mark_value"), scope)
        self.expression(cycle.get("cycle_mark_default"), scope)

    def target_list(self, targets: Sequence[Node], scope: Scope) -> OutputColumns:
        """Walk a select list or RETURNING; gives the output columns' names."""
        names: list[str] = []
        types: list[Type] = []
        labels: list[Label] = []
        every = NOTHING
        known = True
        for target in targets:
            inner = target["ResTarget"]
            value = inner["val"]
            column = value.get("ColumnRef")
            if column is not None and "A_Star" in column["fields"][-1]:
                entries = self.star(strings(column["fields"]), scope)
                known = known and bool(entries) and not scope.merged
                for entry in entries:
                    if entry.columns is None:
                        every |= self.row(entry)
                        known = False
                        continue
                    names += entry.columns
                    self.spend(len(entry.columns))
                    for name in entry.columns:
                        type_, label = self.column(entry, name)
                        types.append(type_)
                        labels.append(label)
                continue
            type_, label = self.value(value, scope)
            types.append(type_)
            labels.append(label)
            names.append(inner.get("name") or _figure_name(value))
        # A literal of unknown type becomes text on its way out of a subquery.
        self.outputs = tuple(None if each == UNKNOWN else each for each in types) if known else ()
        self.labels = tuple(labels) if known else ()
        self.every = every.union(*labels)
        return tuple(names) if known else None

    def _group(self, node: Node, scope: Scope) -> None:
        for each in node.get("groupClause", ()):
            self._output_or_expression(each, scope)

    def _order_and_limit(self, node: Node, scope: Scope) -> None:
        for each in node.get("sortClause", ()):
            inner = each["SortBy"]
            value = self._output_or_expression(inner.get("node", {}), scope)
            using = strings(inner.get("useOp", ()))
            if using:
                self.operator(using, value, value)
        for key in ("limitCount", "limitOffset"):
            if key in node:
                self.found.constants = True
                self.expression(node[key], scope)

    def _output_or_expression(self, node: Node, scope: Scope) -> Type:
        """ORDER BY, GROUP BY and DISTINCT ON take an output column's number or name, or an expression."""
        if "GroupingSet" in node:
            for each in node["GroupingSet"].get("content", ()):
                self._output_or_expression(each, scope)
            return None
        constant = node.get("A_Const")
        if constant is not None:
            self.found.constants = True
            if "ival" in constant:
                self._use_output(constant["ival"].get("ival", 0), scope)
            return None
        column = node.get("ColumnRef")
        if column is not None and len(column["fields"]) == 1 and "String" in column["fields"][0]:
            self._use_named_output(str(column["fields"][0]["String"].get("sval", "")), scope)
        return self.expression(node, scope)

    def _use_output(self, number: int, scope: Scope) -> None:
        """An output column by number. Where it cannot be told which that is, it may be any."""
        if scope.shown is None:
            self.infer(scope.every)
        elif 0 < number <= len(scope.shown):
            self.infer(scope.shown[number - 1][1])

    def _use_named_output(self, name: str, scope: Scope) -> None:
        if scope.shown is None:
            self.infer(scope.every)
            return
        self.spend(len(scope.shown))
        for shown, label in scope.shown:
            if shown == name:
                self.infer(label)

    def _locking(self, node: Node, scope: Scope) -> None:
        """FOR UPDATE and its kin write to the rows' headers and need UPDATE on the table: they count as a write."""
        for each in node.get("lockingClause", ()):
            rels = each["LockingClause"].get("lockedRels", ())
            names = {r["RangeVar"].get("relname", "") for r in rels}
            for entry in scope.entries:
                if entry.relation is not None and (not names or entry.alias in names):
                    self.lock_rows(entry.relation)
            self.found.harmless = False

    # --- FROM ---

    def from_item(self, node: Node, scope: Scope) -> list[Entry]:
        """Walk one item of FROM and put what it adds into the scope."""
        ((kind, inner),) = node.items()
        rule = FROM.get(kind)
        if rule is None:
            raise unsupported(f"the gateway has no rule for {kind} in FROM")
        if kind == "RangeVar" and self.sites is not None and not self._is_cte(inner, scope):
            self.sites.shown.append((node, self.find_relation(inner)))
        entries = rule(self, inner, scope)
        self.spend(len(scope.entries))
        scope.entries += [e for e in entries if e not in scope.entries]
        return entries

    def _is_cte(self, node: Node, scope: Scope) -> bool:
        return "schemaname" not in node and scope.cte(node.get("relname", "")) is not None

    def _range_var(self, node: Node, scope: Scope) -> list[Entry]:
        name = node.get("relname", "")
        alias, names = _alias(node)
        if "schemaname" not in node:
            cte = scope.cte(name)
            if cte is not None:
                return [_derived(alias or name, cte.columns, names, cte.types, (cte.labels, cte.every))]
        inherit = node.get("inh", False)
        return [
            self.entry(target, alias, names, self.touch_relation(target, SELECT, inherit=inherit))
            for target in self.relation(node)
        ]

    def entry(self, target: Target, alias: str, names: tuple[str, ...], touched: set[str] | None) -> Entry:
        """Make a scope's entry of a relation."""
        if isinstance(target, Made):
            made: dict[str, Column | None] | None = None
            if target.columns is not None and not target.opaque:
                made = dict.fromkeys(distinct((*names, *target.columns[len(names) :])))
            return Entry(alias or target.name, target.schema, None, made, touched)
        shown = distinct((*names, *(column.name for column in target.columns[len(names) :])))
        columns: dict[str, Column | None] = dict(zip(shown, target.columns, strict=False))
        return Entry(alias or target.name, None if alias else target.schema, target, columns, touched)

    def _join(self, node: Node, scope: Scope) -> list[Entry]:
        left = self.from_item(node["larg"], scope)
        right = self.from_item(node["rarg"], scope)
        scope.merged = scope.merged or "usingClause" in node or node.get("isNatural", False)
        for name in self._joined_columns(node, left, right):
            self.operator(["="], self._joined(left, name), self._joined(right, name))
        self.expression(node.get("quals"), _narrow(scope, left, right))
        alias, names = _alias(node)
        merged = node.get("join_using_alias")
        if not alias and not merged:
            return [*left, *right]
        if alias:
            # Columns that the alias renames cannot be told apart.
            for entry in (*left, *right):
                if names:
                    entry.every = self.row(entry)
                    entry.columns, entry.relation = None, None
                scope.entries.append(
                    Entry(
                        alias, None, entry.relation, entry.columns, entry.touched,
                        hidden=True, types=entry.types, labels=entry.labels, every=entry.every,
                    )
                )  # fmt: skip
                # The alias of a join hides the names inside: they mean what is outside now.
                entry.alias, entry.schema = "", None
        if merged:
            every = NOTHING.union(*(self.row(entry) for entry in (*left, *right)))
            scope.entries.append(Entry(merged.get("aliasname", ""), None, None, None, None, hidden=True, every=every))
        return [*left, *right]

    def _joined(self, entries: list[Entry], name: str) -> Type:
        """Note that a join compares the column of that name on one side, and give its type."""
        types: set[Type] = set()
        for entry in entries:
            if entry.columns is None:
                self._use_any(entry, name)
                types.add(None)
            elif name in entry.columns:
                types.add(self.use(entry, entry.columns[name], name))
        return types.pop() if len(types) == 1 else None

    def _joined_columns(self, node: Node, left: list[Entry], right: list[Entry]) -> set[str]:
        if "usingClause" in node:
            return set(strings(node["usingClause"]))
        if not node.get("isNatural"):
            return set()
        if any(e.columns is None for e in (*left, *right)):
            return {name for e in (*left, *right) for name in e.columns or ()}
        return {n for e in left for n in e.columns or ()} & {n for e in right for n in e.columns or ()}

    def _range_subselect(self, node: Node, scope: Scope) -> list[Entry]:
        # Only LATERAL sees what stands left of it; without, names go straight to the levels around.
        sees = scope if node.get("lateral") else Scope(scope.outer, [], scope.ctes)
        filtered = condition_on(node)
        if filtered is not None:
            return self._range_filtered(node, *filtered, sees)
        columns = self.query(node["subquery"], sees)
        alias, names = _alias(node)
        return [_derived(alias, columns, names, self.outputs, (self.labels, self.every))]

    def _range_filtered(self, node: Node, wrapped: Node, condition: Node, sees: Scope) -> list[Entry]:
        """A relation seen through a condition: as the relation itself, of which the rest of the statement sees fewer rows."""
        relation = wrapped["RangeVar"]
        if self.sites is not None:
            self.sites.shown.append((wrapped, self.find_relation(relation)))
        self.found.constants = True
        around, self.found.through = self.found.through, digest(condition)
        inner = self._range_var(relation, sees)
        named = self._range_var({**relation, "alias": node["alias"]}, sees)
        self.found.through = around
        self.expression(condition, Scope(sees.outer, inner, sees.ctes))
        return named

    def _range_function(self, node: Node, scope: Scope) -> list[Entry]:
        single = ""
        marks = NOTHING
        for item in node.get("functions", ()):
            call, *definitions = item["List"].get("items", ())
            marks |= self.value(call, scope)[1]
            single = _figure_name(call)
            for definition in definitions:
                self._column_definitions(definition)
        for definition in node.get("coldeflist", ()):
            self._column_definitions(definition)
        alias, names = _alias(node)
        return [self._made_of(alias or single, names, marks)]

    def _made_of(self, alias: str, names: tuple[str, ...], marks: Label) -> Entry:
        """Rows that something in FROM makes of a value: how many there are says something of it."""
        self.infer(marks)
        return _derived(alias, None, names, (), ((), _computed(marks)))

    def _column_definitions(self, node: Node) -> None:
        if "List" in node:
            for each in node["List"].get("items", ()):
                self._column_definitions(each)
        elif "ColumnDef" in node:
            self.type_name(node["ColumnDef"].get("typeName"))

    def _range_table_sample(self, node: Node, scope: Scope) -> list[Entry]:
        around, self.sites = self.sites, None  # a subquery cannot be sampled
        entries = self.from_item(node["relation"], scope)
        self.sites = around
        self._call(strings(node.get("method", ())), [None])
        self.expressions(node.get("args", ()), scope)
        self.expression(node.get("repeatable"), scope)
        return entries

    def _range_table_func(self, node: Node, scope: Scope) -> list[Entry]:
        marks = self.value(node.get("docexpr"), scope)[1] | self.value(node.get("rowexpr"), scope)[1]
        self.expressions(node.get("namespaces", ()), scope)
        for each in node.get("columns", ()):
            column = each["RangeTableFuncCol"]
            self.type_name(column.get("typeName"))
            marks |= self.value(column.get("colexpr"), scope)[1] | self.value(column.get("coldefexpr"), scope)[1]
        alias, names = _alias(node)
        return [self._made_of(alias or "xmltable", names, marks)]

    def _json_table(self, node: Node, scope: Scope) -> list[Entry]:
        around, self.sink = self.sink, set()
        try:
            self.json_value(node.get("context_item"), scope)
            self._json_path(node, scope)
            self.expressions(node.get("passing", ()), scope)
            self.json_behavior(node.get("on_error"), scope)
            for each in node.get("columns", ()):
                self._json_table_column(each["JsonTableColumn"], scope)
            marks = frozenset(self.sink)
        finally:
            self.sink = around
        alias, names = _alias(node)
        return [self._made_of(alias or "json_table", names, marks)]

    def _json_table_column(self, node: Node, scope: Scope) -> None:
        self.type_name(node.get("typeName"))
        self._json_path(node, scope)
        self.json_behavior(node.get("on_empty"), scope)
        self.json_behavior(node.get("on_error"), scope)
        for each in node.get("columns", ()):
            self._json_table_column(each["JsonTableColumn"], scope)

    def _json_path(self, node: Node, scope: Scope) -> None:
        path = node.get("pathspec")
        if path:
            self.expression(path.get("string"), scope)

    # --- DML ---

    def target(self, node: Node, operation: str, scope: Scope) -> list[Entry]:
        """Resolve what DML writes to, never a CTE, and put it into the scope."""
        range_var = node["relation"]
        alias, names = _alias(range_var)
        entries = []
        self.holds(node)
        for target in self.relation(range_var):
            self.touch_relation(target, operation, inherit=range_var.get("inh", False))
            # Columns that are read of it are noted apart from those that are written.
            entries.append(self.entry(target, alias, names, None))
        scope.entries += entries
        return entries

    def holds(self, node: Node) -> None:
        """Note that the `relation` of a statement is what it writes to or copies."""
        if self.sites is not None:
            self.sites.held.append((node, self.find_relation(node["relation"])))

    def _reads_of(self, entries: list[Entry]) -> None:
        """From here on, columns of the target that are met are read, not written."""
        for entry in entries:
            if entry.relation is not None:
                entry.touched = self.touch_relation(entry.relation, SELECT)

    def _written(self, entry: Entry, names: Sequence[str], action: Action, *, updates: bool = False) -> None:
        if entry.relation is None:
            return
        # What fails may tell what is there: `guarded.py`.
        self.found.tested.update(Guarded(self.snapshot, self.protected).by_change(entry.relation, names, updates=updates))
        name = f"{entry.relation.schema}.{entry.relation.name}"
        columns, classes = self.found.touch("relation", name, action, names)
        del columns
        wanted = set(names)
        for column in entry.relation.columns:
            if WHOLE in wanted or column.name in wanted:
                self.touch_type(column.type_oid)
                protection = self.protected.by_column.get((entry.relation.oid, column.number))
                if protection is not None:
                    classes.update(protection[0].split(JOIN))

    def insert(self, node: Node, outer: Scope | None) -> OutputColumns:
        """Walk an InsertStmt (not wrapped)."""
        scope = Scope(outer)
        self._with(node, scope)
        if "selectStmt" in node:
            self.query(node["selectStmt"], scope)
            self.write(self.every)
        entries = self.target(node, INSERT, scope)
        names = [c["ResTarget"].get("name", "") for c in node.get("cols", ())] or [WHOLE]
        for entry in entries:
            self._written(entry, names, Action.WRITE)
        for column in node.get("cols", ()):
            self._subscripts(column["ResTarget"], scope)
        conflict = node.get("onConflictClause")
        if conflict:
            if "infer" not in conflict:
                # Any unique column may be what it does nothing for: whether the row is there says whether the value is.
                self._compares(entries, names)
            self._on_conflict(conflict, entries, scope)
        return self._returning(node, entries, scope)

    def _subscripts(self, target: Node, scope: Scope) -> None:
        for step in target.get("indirection", ()):
            if "A_Indices" in step:
                self.expression(step["A_Indices"].get("lidx"), scope)
                self.expression(step["A_Indices"].get("uidx"), scope)

    def _compares(self, entries: list[Entry], names: Sequence[str]) -> None:
        """Values that are written to these columns are compared with those that are there."""
        for entry in entries:
            for name in entry.columns or () if WHOLE in names else names:
                if entry.relation is not None and name in (entry.columns or {}):
                    self.infer(self.column(entry, name)[1])

    def _on_conflict(self, node: Node, entries: list[Entry], scope: Scope) -> None:
        infer = node.get("infer", {})
        self._reads_of(entries)
        inner = Scope(scope, list(entries))
        for element in infer.get("indexElems", ()):
            index = element["IndexElem"]
            self._operator_class(index)
            if "name" in index:
                self._bare(index["name"], inner)
            self.expression(index.get("expr"), inner)
        self.expression(infer.get("whereClause"), inner)
        if node.get("action") != "ONCONFLICT_UPDATE":
            return
        # What `excluded` holds came with this very statement, and was judged where it came from.
        excluded = [Entry("excluded", None, None, None, None, hidden=True)]
        inner.entries += excluded
        for entry in entries:
            if entry.relation is not None:
                self.touch_relation(entry.relation, UPDATE)
        self._assignments(node.get("targetList", ()), entries, inner)
        self.expression(node.get("whereClause"), inner)

    def _operator_class(self, index: Node) -> None:
        if index.get("opclass"):
            self.found.harmless = False

    def _assignments(self, targets: Sequence[Node], entries: list[Entry], scope: Scope) -> None:
        names = []
        for each in targets:
            inner = each["ResTarget"]
            names.append(inner.get("name", ""))
            self._subscripts(inner, scope)
            self.write(self.value(inner.get("val"), scope)[1])
        for entry in entries:
            self._written(entry, names, Action.WRITE, updates=True)

    def update(self, node: Node, outer: Scope | None) -> OutputColumns:
        """Walk an UpdateStmt (not wrapped)."""
        scope = Scope(outer)
        self._with(node, scope)
        entries = self.target(node, UPDATE, scope)
        self._reads_when_needed(node, entries)
        for item in node.get("fromClause", ()):
            self.from_item(item, scope)
        self._assignments(node.get("targetList", ()), entries, scope)
        self._where(node, scope, entries)
        return self._returning(node, entries, scope)

    def _reads_when_needed(self, node: Node, entries: list[Entry]) -> None:
        """As PostgreSQL asks for SELECT on a target only where its columns are read; nearly every WHERE does."""
        if any(k in node for k in ("whereClause", "fromClause", "usingClause", "returningClause")):
            self._reads_of(entries)
            return
        values = [t["ResTarget"].get("val", {}) for t in node.get("targetList", ())]
        if any(constant_text(v) is None and "ParamRef" not in v for v in values):
            self._reads_of(entries)

    def _where(self, node: Node, scope: Scope, entries: list[Entry]) -> None:
        self.expression(node.get("whereClause"), scope)
        self._picked((node.get("whereClause"),), entries, scope)

    def _picked(self, conditions: tuple[Node | None, ...], entries: list[Entry], scope: Scope) -> None:
        """Note whether one of these conditions picks rows of what is changed."""
        reading = Reading(entries, [each for each in scope.entries if each not in entries])
        picked = [reading.picks(each) for each in conditions]
        self.found.has_where &= any(picked)
        self.found.constants |= reading.constants

    def delete(self, node: Node, outer: Scope | None) -> OutputColumns:
        """Walk a DeleteStmt (not wrapped)."""
        scope = Scope(outer)
        self._with(node, scope)
        entries = self.target(node, DELETE, scope)
        self._deleted(entries)
        self._reads_when_needed(node, entries)
        for item in node.get("usingClause", ()):
            self.from_item(item, scope)
        self._where(node, scope, entries)
        return self._returning(node, entries, scope)

    def _deleted(self, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.relation is not None:
                self.found.tested.update(Guarded(self.snapshot, self.protected).by_delete(entry.relation))

    def merge(self, node: Node, outer: Scope | None) -> OutputColumns:
        """Walk a MergeStmt (not wrapped)."""
        scope = Scope(outer)
        self._with(node, scope)
        range_var = node["relation"]
        self.holds(node)
        alias, names = _alias(range_var)
        entries = [
            self.entry(t, alias, names, self.touch_relation(t, SELECT, inherit=range_var.get("inh", False)))
            for t in self.relation(range_var)
        ]
        scope.entries += entries
        self.from_item(node["sourceRelation"], scope)
        self.expression(node.get("joinCondition"), scope)
        for each in node.get("mergeWhenClauses", ()):
            self._merge_when(each["MergeWhenClause"], node, scope, entries)
        return self._returning(node, entries, scope)

    def _merge_when(self, when: Node, node: Node, scope: Scope, entries: list[Entry]) -> None:
        self.expression(when.get("condition"), scope)
        command = when.get("commandType")
        operation = {"CMD_INSERT": INSERT, "CMD_UPDATE": UPDATE, "CMD_DELETE": DELETE}.get(str(command))
        if operation is None:
            if command != "CMD_NOTHING":
                raise unsupported(f"the gateway has no rule for {command} in MERGE")
            return
        for target in self.relation(node["relation"]):
            self.touch_relation(target, operation)
        if operation != INSERT:
            # What no row of the source matches, the condition of the join does not pick.
            joined = None if when.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE" else node.get("joinCondition")
            self._picked((when.get("condition"), joined), entries, scope)
        if operation == INSERT:
            self.write(self.values(when.get("values", ()), scope)[1])
            names = [c["ResTarget"].get("name", "") for c in when.get("targetList", ())] or [WHOLE]
            for entry in entries:
                self._written(entry, names, Action.WRITE)
        elif operation == DELETE:
            self._deleted(entries)
        else:
            self._assignments(when.get("targetList", ()), entries, scope)

    def _returning(self, node: Node, entries: list[Entry], scope: Scope) -> OutputColumns:
        clause = node.get("returningClause")
        if not clause:
            self.outputs, self.labels, self.every = (), (), NOTHING
            return ()
        self._reads_of(entries)
        names = {"old", "new"}
        for option in clause.get("options", ()):
            names.add(option["ReturningOption"].get("value", ""))
        for name in names:
            # WITH (OLD AS o): the row before and after.
            for entry in entries:
                scope.entries.append(Entry(name, None, entry.relation, entry.columns, entry.touched, hidden=True))
        return self.target_list(clause.get("exprs", ()), scope)


def _alias(node: Node) -> tuple[str, tuple[str, ...]]:
    alias = node.get("alias")
    if not alias:
        return "", ()
    return alias.get("aliasname", ""), tuple(strings(alias.get("colnames", ())))


def _derived(
    alias: str,
    columns: OutputColumns,
    names: tuple[str, ...],
    types: Sequence[Type],
    lineage: tuple[tuple[Label, ...], Label],
) -> Entry:
    known: dict[str, Column | None] | None = None
    if columns is not None:
        known = dict.fromkeys(distinct((*names, *columns[len(names) :])))
    labels, every = lineage
    entry = Entry(alias, None, None, known, None, every=every)
    if known is not None and len(labels) == len(known):
        entry.labels = dict(zip(known, labels, strict=True))
    if known is not None and len(types) == len(known):
        entry.types = dict(zip(known, types, strict=True))
    return entry


def _computed(marks: Label) -> Label:
    return frozenset((name, None) for name, _ in marks)


def _narrow(scope: Scope, left: list[Entry], right: list[Entry]) -> Scope:
    """What ON sees: both sides of its join, and the levels around, but not what else stands in FROM."""
    return Scope(scope.outer, [*left, *right], scope.ctes)


def _figure_name(node: Node) -> str:
    """The name that PostgreSQL gives an output column without AS (`FigureColname`), near enough.

    Where in doubt it gives none, as a name that is not there would hide one that is.
    """
    if "ColumnRef" in node:
        parts = strings(node["ColumnRef"]["fields"])
        return parts[-1] if parts else "?column?"
    if "FuncCall" in node:
        return strings(node["FuncCall"].get("funcname", ()))[-1]
    if "TypeCast" in node and node["TypeCast"].get("arg", {}).keys() & {"ColumnRef", "FuncCall"}:
        return _figure_name(node["TypeCast"]["arg"])
    return "?column?"


Dml = Callable[..., OutputColumns]
DML: Final[dict[str, Dml]] = {
    "InsertStmt": Queries.insert,
    "UpdateStmt": Queries.update,
    "DeleteStmt": Queries.delete,
    "MergeStmt": Queries.merge,
}

FROM: Final[dict[str, Callable[[Queries, Node, Scope], list[Entry]]]] = {
    "RangeVar": Queries._range_var,
    "JoinExpr": Queries._join,
    "RangeSubselect": Queries._range_subselect,
    "RangeFunction": Queries._range_function,
    "RangeTableSample": Queries._range_table_sample,
    "RangeTableFunc": Queries._range_table_func,
    "JsonTable": Queries._json_table,
}

__all__ = ["OutputColumns", "Queries", "Relation"]
