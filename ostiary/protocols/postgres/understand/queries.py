"""SELECT, INSERT, UPDATE, DELETE, MERGE and their FROM: relations, scopes, and which columns are merely shown.

A protected column is *shown* where RowDescription will name its origin, so that masking finds it: a bare column
reference, or a star, in the select list of a plain SELECT (no set operation, DISTINCT or grouping) or of RETURNING,
over a base relation that stands directly in FROM. Everywhere else it is *used*, and its class goes into `unmask`.
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
from ostiary.protocols.postgres.understand.findings import unsupported
from ostiary.protocols.postgres.understand.ground import WHOLE
from ostiary.protocols.postgres.understand.names import DELETE, INSERT, SELECT, UPDATE, Target, Type, strings
from ostiary.protocols.postgres.understand.scopes import Cte, Entry, Scope, distinct
from ostiary.protocols.postgres.understand.view import Made

OutputColumns = tuple[str, ...] | None


class Queries(Expressions):
    """Walks queries and DML."""

    def query(self, node: Node, outer: Scope | None, *, plain: bool = False) -> OutputColumns:
        """Walk a query (wrapped node); gives the names of its columns, or None where they cannot be told."""
        ((kind, inner),) = node.items()
        if kind == "SelectStmt":
            return self.select(inner, outer, plain=plain)
        dml = DML.get(kind)
        if dml is None:
            raise unsupported(f"the gateway has no rule for {kind} as a query")
        return dml(self, inner, outer, plain=plain)

    # --- SELECT ---

    def select(self, node: Node, outer: Scope | None, *, plain: bool) -> OutputColumns:
        """Walk a SelectStmt (not wrapped)."""
        scope = Scope(outer)
        self._with(node, scope)
        if node.get("op", "SETOP_NONE") != "SETOP_NONE":
            return self._set_operation(node, scope)
        self.outputs = ()
        if "valuesLists" in node:
            width = 0
            for row in node["valuesLists"]:
                self.expression(row, scope)
                width = len(row.get("List", {}).get("items", ()))
            self._order_and_limit(node, scope, plain=False)
            self.outputs = ()
            return tuple(f"column{i + 1}" for i in range(width))
        for item in node.get("fromClause", ()):
            self.from_item(item, scope)
        scope.targets = node.get("targetList", [])
        plain = plain and not any(k in node for k in ("distinctClause", "groupClause", "havingClause", "intoClause"))
        columns = self.target_list(scope.targets, scope, plain=plain)
        outputs = self.outputs
        self.expression(node.get("whereClause"), scope)
        self._group(node, scope)
        self.expression(node.get("havingClause"), scope)
        for window in node.get("windowClause", ()):
            self.window(window["WindowDef"], scope)
        for each in node.get("distinctClause", ()):
            self._output_or_expression(each, scope)
        self._order_and_limit(node, scope, plain=plain)
        self._locking(node, scope)
        if "intoClause" in node:
            self.into(node["intoClause"], columns)
        self.outputs = outputs
        return columns

    def into(self, clause: Node, columns: OutputColumns) -> None:
        """SELECT ... INTO, CREATE TABLE AS: a relation is made of the result."""
        raise NotImplementedError

    def _set_operation(self, node: Node, scope: Scope) -> OutputColumns:
        columns = self.select(node["larg"], scope, plain=False)
        self.select(node["rarg"], scope, plain=False)
        # ORDER BY of a set operation names output columns, all of which are used already.
        self._order_and_limit(node, scope, plain=False)
        self._locking(node, scope)
        self.outputs = ()
        return columns

    def _with(self, node: Node, scope: Scope) -> None:
        clause = node.get("withClause")
        if not clause:
            return
        recursive = clause.get("recursive", False)
        ctes = [each["CommonTableExpr"] for each in clause.get("ctes", ())]
        if recursive:
            # WITH RECURSIVE: each sees itself and all others, also those behind it.
            for cte in ctes:
                scope.ctes[cte["ctename"]] = Cte(cte["ctename"], None)
        for cte in ctes:
            inner = Scope(scope)
            columns = self.query(cte["ctequery"], inner)
            types = () if recursive else self.outputs
            names = tuple(strings(cte.get("aliascolnames", ())))
            if names:
                columns = None if columns is None else (*names, *columns[len(names) :])
            if "search_clause" in cte or "cycle_clause" in cte:
                self._search_and_cycle(cte, inner)
                columns = None
            scope.ctes[cte["ctename"]] = Cte(cte["ctename"], columns, types)

    def _search_and_cycle(self, cte: Node, scope: Scope) -> None:
        cycle = cte.get("cycle_clause", {})
        self.expression(cycle.get("cycle_mark_value"), scope)
        self.expression(cycle.get("cycle_mark_default"), scope)

    def target_list(self, targets: Sequence[Node], scope: Scope, *, plain: bool) -> OutputColumns:
        """Walk a select list or RETURNING; gives the output columns' names."""
        names: list[str] = []
        types: list[Type] = []
        known = True
        for target in targets:
            inner = target["ResTarget"]
            value = inner["val"]
            column = value.get("ColumnRef")
            if column is not None and "A_Star" in column["fields"][-1]:
                entries = self.star(strings(column["fields"]), scope)
                for entry in entries:
                    self.use_row(entry, plain=plain)
                    if entry.columns is None:
                        known = False
                    else:
                        names += entry.columns
                        types += [entry.type_of(name) for name in entry.columns]
                known = known and bool(entries)
                continue
            type_: Type = None
            if column is None or not (plain and self._show(column, scope)):
                type_ = self.expression(value, scope)
            types.append(type_)
            names.append(inner.get("name") or _figure_name(value))
        # A literal of unknown type becomes text on its way out of a subquery.
        told = known and not scope.merged
        self.outputs = tuple(None if each == UNKNOWN else each for each in types) if told else ()
        return tuple(names) if known else None

    def _show(self, column: Node, scope: Scope) -> bool:
        """A bare column reference of this very level, found in exactly one entry: it is shown, not used."""
        parts = strings(column["fields"])
        if len(parts) != len(column["fields"]) or not parts:
            return False
        name = parts[-1]
        hits: list[Entry] = []
        self.spend(len(scope.entries))
        for entry in scope.entries:
            if len(parts) == 1 and entry.hidden:
                continue
            if len(parts) > 1 and entry.alias != parts[-2]:
                continue
            if len(parts) > 2 and entry.schema != parts[-3]:
                continue
            if entry.columns is None:
                return False
            if name in entry.columns:
                hits.append(entry)
        if len(hits) != 1:
            return False
        columns = hits[0].columns
        if columns is not None:
            self.use(hits[0], columns[name], name, plain=True)
        return True

    def _group(self, node: Node, scope: Scope) -> None:
        for each in node.get("groupClause", ()):
            self._output_or_expression(each, scope)

    def _order_and_limit(self, node: Node, scope: Scope, *, plain: bool) -> None:
        del plain
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
        """An output column by number. Where a star's width is not known, all from it on are meant."""
        if number in scope.ordered:
            return
        scope.ordered.add(number)
        self.spend(len(scope.targets))
        left = number
        exact = True
        for target in scope.targets:
            value = target["ResTarget"]["val"]
            column = value.get("ColumnRef")
            if column is not None and "A_Star" in column["fields"][-1]:
                for entry in self.star(strings(column["fields"]), scope):
                    exact = exact and entry.columns is not None and not scope.merged
                    self.spend(len(entry.columns or ()))
                    for name, each in (entry.columns or {}).items():
                        left -= 1
                        if left == 0 or not exact:
                            self.use(entry, each, name)
            else:
                left -= 1
                if left == 0 or not exact:
                    self._use_target(value, scope)

    def _use_named_output(self, name: str, scope: Scope) -> None:
        if name in scope.ordered:
            return
        scope.ordered.add(name)
        self.spend(len(scope.targets))
        for target in scope.targets:
            inner = target["ResTarget"]
            if inner.get("name") == name:
                self._use_target(inner["val"], scope)

    def _use_target(self, value: Node, scope: Scope) -> None:
        """What was shown is used now. Any other expression was used when the select list was walked.

        To walk it again would double the time for each level of subqueries that are ordered so.
        """
        if "ColumnRef" in value:
            self.expression(value, scope)

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
        entries = rule(self, inner, scope)
        self.spend(len(scope.entries))
        scope.entries += [e for e in entries if e not in scope.entries]
        return entries

    def _range_var(self, node: Node, scope: Scope) -> list[Entry]:
        name = node.get("relname", "")
        alias, names = _alias(node)
        if "schemaname" not in node:
            cte = scope.cte(name)
            if cte is not None:
                return [_derived(alias or name, cte.columns, names, cte.types)]
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
            return Entry(alias or target.name, target.schema, None, made, touched, plain=False)
        shown = distinct((*names, *(column.name for column in target.columns[len(names) :])))
        columns: dict[str, Column | None] = dict(zip(shown, target.columns, strict=False))
        return Entry(alias or target.name, None if alias else target.schema, target, columns, touched, plain=True)

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
            # Through the alias of a join, columns keep no origin that we rely on; renamed ones cannot be told apart.
            for entry in (*left, *right):
                if names:
                    self.use_row(entry)
                    entry.columns = None
                scope.entries.append(
                    Entry(alias, None, entry.relation, entry.columns, entry.touched, plain=False, hidden=True)
                )
                # The alias of a join hides the names inside: they mean what is outside now.
                entry.plain, entry.alias, entry.schema = False, "", None
        if merged:
            scope.entries.append(Entry(merged.get("aliasname", ""), None, None, None, None, plain=False, hidden=True))
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
        columns = self.query(node["subquery"], sees)
        alias, names = _alias(node)
        return [_derived(alias, columns, names, self.outputs)]

    def _range_function(self, node: Node, scope: Scope) -> list[Entry]:
        single = ""
        for item in node.get("functions", ()):
            call, *definitions = item["List"].get("items", ())
            self.expression(call, scope)
            single = _figure_name(call)
            for definition in definitions:
                self._column_definitions(definition)
        for definition in node.get("coldeflist", ()):
            self._column_definitions(definition)
        alias, names = _alias(node)
        return [_derived(alias or single, None, names)]

    def _column_definitions(self, node: Node) -> None:
        if "List" in node:
            for each in node["List"].get("items", ()):
                self._column_definitions(each)
        elif "ColumnDef" in node:
            self.type_name(node["ColumnDef"].get("typeName"))

    def _range_table_sample(self, node: Node, scope: Scope) -> list[Entry]:
        entries = self.from_item(node["relation"], scope)
        self._call(strings(node.get("method", ())), [None])
        self.expressions(node.get("args", ()), scope)
        self.expression(node.get("repeatable"), scope)
        return entries

    def _range_table_func(self, node: Node, scope: Scope) -> list[Entry]:
        self.expression(node.get("docexpr"), scope)
        self.expression(node.get("rowexpr"), scope)
        self.expressions(node.get("namespaces", ()), scope)
        for each in node.get("columns", ()):
            column = each["RangeTableFuncCol"]
            self.type_name(column.get("typeName"))
            self.expression(column.get("colexpr"), scope)
            self.expression(column.get("coldefexpr"), scope)
        alias, names = _alias(node)
        return [_derived(alias or "xmltable", None, names)]

    def _json_table(self, node: Node, scope: Scope) -> list[Entry]:
        self.json_value(node.get("context_item"), scope)
        self._json_path(node, scope)
        self.expressions(node.get("passing", ()), scope)
        self.json_behavior(node.get("on_error"), scope)
        for each in node.get("columns", ()):
            self._json_table_column(each["JsonTableColumn"], scope)
        alias, names = _alias(node)
        return [_derived(alias or "json_table", None, names)]

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
        for target in self.relation(range_var):
            self.touch_relation(target, operation, inherit=range_var.get("inh", False))
            # Columns that are read of it are noted apart from those that are written.
            entries.append(self.entry(target, alias, names, None))
        scope.entries += entries
        return entries

    def _reads_of(self, entries: list[Entry]) -> None:
        """From here on, columns of the target that are met are read, not written."""
        for entry in entries:
            if entry.relation is not None:
                entry.touched = self.touch_relation(entry.relation, SELECT)

    def _written(self, entry: Entry, names: Sequence[str], action: Action) -> None:
        if entry.relation is None:
            return
        name = f"{entry.relation.schema}.{entry.relation.name}"
        columns, classes = self.found.touch("relation", name, action, names)
        del columns
        wanted = set(names)
        for column in entry.relation.columns:
            if WHOLE in wanted or column.name in wanted:
                self.touch_type(column.type_oid)
                protection = self.protected.by_column.get((entry.relation.oid, column.number))
                if protection is not None:
                    classes.add(protection[0])

    def insert(self, node: Node, outer: Scope | None, *, plain: bool = False) -> OutputColumns:
        """Walk an InsertStmt (not wrapped)."""
        scope = Scope(outer)
        self._with(node, scope)
        if "selectStmt" in node:
            self.query(node["selectStmt"], scope)
        entries = self.target(node, INSERT, scope)
        names = [c["ResTarget"].get("name", "") for c in node.get("cols", ())] or [WHOLE]
        for entry in entries:
            self._written(entry, names, Action.WRITE)
        for column in node.get("cols", ()):
            self._subscripts(column["ResTarget"], scope)
        conflict = node.get("onConflictClause")
        if conflict:
            self._on_conflict(conflict, entries, scope)
        return self._returning(node, entries, scope, plain=plain)

    def _subscripts(self, target: Node, scope: Scope) -> None:
        for step in target.get("indirection", ()):
            if "A_Indices" in step:
                self.expression(step["A_Indices"].get("lidx"), scope)
                self.expression(step["A_Indices"].get("uidx"), scope)

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
        excluded = [Entry("excluded", None, None, None, None, plain=False, hidden=True)]
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
            self.expression(inner.get("val"), scope)
        for entry in entries:
            self._written(entry, names, Action.WRITE)

    def update(self, node: Node, outer: Scope | None, *, plain: bool = False) -> OutputColumns:
        """Walk an UpdateStmt (not wrapped)."""
        scope = Scope(outer)
        self._with(node, scope)
        entries = self.target(node, UPDATE, scope)
        self._reads_when_needed(node, entries)
        for item in node.get("fromClause", ()):
            self.from_item(item, scope)
        self._assignments(node.get("targetList", ()), entries, scope)
        self._where(node, scope)
        return self._returning(node, entries, scope, plain=plain)

    def _reads_when_needed(self, node: Node, entries: list[Entry]) -> None:
        """As PostgreSQL asks for SELECT on a target only where its columns are read; nearly every WHERE does."""
        if any(k in node for k in ("whereClause", "fromClause", "usingClause", "returningClause")):
            self._reads_of(entries)
            return
        values = [t["ResTarget"].get("val", {}) for t in node.get("targetList", ())]
        if any(constant_text(v) is None and "ParamRef" not in v for v in values):
            self._reads_of(entries)

    def _where(self, node: Node, scope: Scope) -> None:
        if "whereClause" in node:
            self.expression(node["whereClause"], scope)
        else:
            self.found.has_where = False

    def delete(self, node: Node, outer: Scope | None, *, plain: bool = False) -> OutputColumns:
        """Walk a DeleteStmt (not wrapped)."""
        scope = Scope(outer)
        self._with(node, scope)
        entries = self.target(node, DELETE, scope)
        self._reads_when_needed(node, entries)
        for item in node.get("usingClause", ()):
            self.from_item(item, scope)
        self._where(node, scope)
        return self._returning(node, entries, scope, plain=plain)

    def merge(self, node: Node, outer: Scope | None, *, plain: bool = False) -> OutputColumns:
        """Walk a MergeStmt (not wrapped)."""
        scope = Scope(outer)
        self._with(node, scope)
        range_var = node["relation"]
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
        return self._returning(node, entries, scope, plain=plain)

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
        if operation == INSERT:
            self.expressions(when.get("values", ()), scope)
            names = [c["ResTarget"].get("name", "") for c in when.get("targetList", ())] or [WHOLE]
            for entry in entries:
                self._written(entry, names, Action.WRITE)
        elif operation == UPDATE:
            self._assignments(when.get("targetList", ()), entries, scope)

    def _returning(self, node: Node, entries: list[Entry], scope: Scope, *, plain: bool) -> OutputColumns:
        clause = node.get("returningClause")
        if not clause:
            return ()
        self._reads_of(entries)
        names = {"old", "new"}
        for option in clause.get("options", ()):
            names.add(option["ReturningOption"].get("value", ""))
        for name in names:
            # WITH (OLD AS o): the row before and after. Their columns are used: what RowDescription says of them was not tried.
            for entry in entries:
                scope.entries.append(
                    Entry(name, None, entry.relation, entry.columns, entry.touched, plain=False, hidden=True)
                )
        return self.target_list(clause.get("exprs", ()), scope, plain=plain)


def _alias(node: Node) -> tuple[str, tuple[str, ...]]:
    alias = node.get("alias")
    if not alias:
        return "", ()
    return alias.get("aliasname", ""), tuple(strings(alias.get("colnames", ())))


def _derived(alias: str, columns: OutputColumns, names: tuple[str, ...], types: Sequence[Type] = ()) -> Entry:
    known: dict[str, Column | None] | None = None
    if columns is not None:
        known = dict.fromkeys(distinct((*names, *columns[len(names) :])))
    entry = Entry(alias, None, None, known, None, plain=False)
    if known is not None and len(types) == len(known):
        entry.types = dict(zip(known, types, strict=True))
    return entry


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
