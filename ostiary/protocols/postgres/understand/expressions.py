"""Expressions: every node type that the grammar can put into one has a rule here; one that has none is an objection.

Walking an expression notes columns that are read, functions, operators and types, and gives the type of the value as
far as it can be told (see `names.Type`). What becomes of the value of a protected column that is met here is
`lineage.py`'s business.
"""

# ruff: noqa: SLF001 -- the tables of rules at the end name methods of the class above

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ostiary.model.catalogue import FIRST_NORMAL_OID, Column
from ostiary.model.operations import Action
from ostiary.protocols.postgres.grammar import Node
from ostiary.protocols.postgres.understand.builtins import (
    ADMINISTRATIVE,
    ADMINISTRATIVE_PREFIXES,
    BIT,
    BOOL,
    FLOAT8,
    INNOCENT,
    INT4,
    INT8,
    LARGE_OBJECTS,
    NAME,
    NUMERIC,
    POLYMORPHIC,
    RUNS_TEXT,
    RUNS_TYPES,
    STATISTICS_FUNCTIONS,
    TEXT,
    UNKNOWN,
)
from ostiary.protocols.postgres.understand.findings import unsupported
from ostiary.protocols.postgres.understand.ground import JOIN, WHOLE
from ostiary.protocols.postgres.understand.lineage import CARRYING, COMPARISONS, TEXTUAL, Lineage
from ostiary.protocols.postgres.understand.names import CATALOG, Type, strings
from ostiary.protocols.postgres.understand.scopes import Entry, Label, Scope
from ostiary.protocols.postgres.understand.settings import LIFTS, judge_setting
from ostiary.protocols.postgres.understand.shapes import bare_value, rows_of

SYSTEM_COLUMNS: Final = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"})
BETWEEN: Final = frozenset({"AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN", "AEXPR_BETWEEN_SYM", "AEXPR_NOT_BETWEEN_SYM"})
VALUE_FUNCTIONS: Final = {
    "SVFOP_CURRENT_DATE": 1082, "SVFOP_CURRENT_TIME": 1266, "SVFOP_CURRENT_TIMESTAMP": 1184, "SVFOP_LOCALTIME": 1083,
    "SVFOP_LOCALTIMESTAMP": 1114,
}  # fmt: skip
"""What they give, by OID; all others are names."""
INT4_MAX, INT8_MAX = 2**31 - 1, 2**63 - 1


class Expressions(Lineage):
    """Walks expressions."""

    parameter_types: tuple[int, ...] = ()

    # --- to be supplied by queries.py ---

    def query(self, node: Node, outer: Scope | None) -> tuple[str, ...] | None:
        """Walk a query (wrapped node); gives the names of its columns, or None where they cannot be told."""
        raise NotImplementedError

    # --- dispatch ---

    def expression(self, node: Node | None, scope: Scope) -> Type:
        """Walk one expression (wrapped node; None and an empty node are no expression)."""
        if not node:
            return None
        ((kind, inner),) = node.items()
        rule = RULES.get(kind)
        if rule is None:
            raise unsupported(f"the gateway has no rule for {kind} in an expression")
        type_ = rule(self, inner, scope)
        if self.sink and kind not in CARRYING:
            self.computed()
        return type_

    def expressions(self, nodes: Iterable[Node], scope: Scope) -> None:
        """Walk several."""
        for node in nodes:
            self.expression(node, scope)

    # --- leaves ---

    def _constant(self, node: Node, _scope: Scope) -> Type:
        if "ival" in node:
            return INT4
        if "fval" in node:
            digits = str(node["fval"].get("fval", ""))
            return INT8 if digits.isdigit() and int(digits) <= INT8_MAX else NUMERIC
        if "boolval" in node:
            return BOOL
        return BIT if "bsval" in node else UNKNOWN

    def _parameter(self, node: Node, _scope: Scope) -> Type:
        number = node.get("number", 0)
        if 0 < number <= len(self.parameter_types) and self.parameter_types[number - 1]:
            oid: int = self.parameter_types[number - 1]
            self.touch_type(oid)
            return oid
        return UNKNOWN

    def _nothing(self, _node: Node, _scope: Scope) -> Type:
        return None

    def _value_function(self, node: Node, _scope: Scope) -> Type:
        return VALUE_FUNCTIONS.get(node.get("op", "").removesuffix("_N"), NAME)

    # --- columns ---

    def _column(self, node: Node, scope: Scope) -> Type:
        fields = node.get("fields", [])
        last = fields[-1]
        parts = strings(fields)
        if "A_Star" in last:
            # `count(t.*)`, `ROW(t.*)`: all columns, used
            self._star_used(parts, scope)
            return None
        if len(parts) == 1:
            return self._bare(parts[0], scope)
        return self._qualified(parts, scope)

    def _bare(self, name: str, scope: Scope | None) -> Type:
        """An unqualified name: the innermost level that has it wins; a level that may have it does not end the search."""
        level = scope
        while level is not None:
            self.spend(len(level.entries))
            types: list[Type] = []
            certain = False
            for entry in level.entries:
                if entry.hidden:
                    continue
                if entry.columns is None:
                    self._use_any(entry, name)
                elif name in entry.columns:
                    types.append(self.use(entry, entry.columns[name], name))
                    certain = True
            if certain:
                return types[0] if len(types) == 1 else None
            if name in SYSTEM_COLUMNS and level.entries:
                return None
            level = level.outer
        # Not a column: then it is a whole row.
        level = scope
        while level is not None:
            self.spend(len(level.entries))
            for entry in level.entries:
                if entry.alias == name:
                    self.use_row(entry)
                    self.computed()
            level = level.outer
        return None

    def _qualified(self, parts: list[str], scope: Scope | None) -> Type:
        table, name = parts[-2], parts[-1]
        schema = parts[-3] if len(parts) > 2 else None
        level = scope
        while level is not None:
            self.spend(len(level.entries))
            hits = [e for e in level.entries if e.alias == table and (schema is None or e.schema == schema)]
            if hits:
                return self._column_of(hits, name)
            level = level.outer
        if schema is None:
            # `column.field` without parentheses is no PostgreSQL, but `table.function` of an outer row is
            self._bare(table, scope)
        return None

    def _column_of(self, entries: list[Entry], name: str) -> Type:
        types: list[Type] = []
        for entry in entries:
            if entry.columns is None:
                self._use_any(entry, name)
                types.append(None)
            elif name in entry.columns:
                types.append(self.use(entry, entry.columns[name], name))
        if not types and name not in SYSTEM_COLUMNS:
            # `t.f` may be the function f of the row t (PostgreSQL 18, 8.16.5)
            for entry in entries:
                self.use_row(entry)
            self.computed()
            self._call([name], [None])
        return types[0] if len(types) == 1 else None

    def use(self, entry: Entry, column: Column | None, name: str) -> Type:
        """Note that a column is read, and where its value goes."""
        if entry.touched is not None:
            entry.touched.add(column.name if column is not None else name)
        if entry.relation is None or column is None:
            self.flow(entry.label_of(name))
            return entry.types.get(name)
        self.touch_type(column.type_oid)
        protection = self.protected.by_column.get((entry.relation.oid, column.number))
        if protection is not None:
            self.found.touches_protected = True
            classes = protection[0].split(JOIN)
            self.note_classes(entry, classes)
            self.flow((name, protection[1]) for name in classes)
        return column.type_oid

    def column(self, entry: Entry, name: str) -> tuple[Type, Label]:
        """Read one known column of an entry as a value of its own: its type and label."""
        outer, self.sink = self.sink, set()
        try:
            type_ = self.use(entry, (entry.columns or {})[name], name)
            return type_, frozenset(self.sink)
        finally:
            self.sink = outer

    def row(self, entry: Entry) -> Label:
        """Read all columns of an entry: their labels in one."""
        outer, self.sink = self.sink, set()
        try:
            self.use_row(entry)
            return frozenset(self.sink)
        finally:
            self.sink = outer

    def note_classes(self, entry: Entry, classes: Sequence[str]) -> None:
        """Put classes on the resource of the entry's relation."""
        if entry.relation is not None:
            name = f"{entry.relation.schema}.{entry.relation.name}"
            self.found.touch("relation", name, Action.READ, (), classes)

    def _use_any(self, entry: Entry, name: str) -> None:
        if entry.touched is not None:
            entry.touched.add(name)
        self.flow(entry.every)

    def use_row(self, entry: Entry) -> None:
        """Note that all columns are read."""
        if entry.columns is None:
            self._use_any(entry, WHOLE)
            return
        self.spend(len(entry.columns))
        for name, column in entry.columns.items():
            self.use(entry, column, name)

    def star(self, parts: Sequence[str], scope: Scope) -> list[Entry]:
        """The entries that `*` or `t.*` stands for."""
        self.spend(len(scope.entries))
        if not parts:
            return [entry for entry in scope.entries if not entry.hidden]
        level: Scope | None = scope
        while level is not None:
            self.spend(len(level.entries))
            hits = [e for e in level.entries if e.alias == parts[-1]]
            if hits:
                return hits
            level = level.outer
        return []

    def _star_used(self, parts: Sequence[str], scope: Scope) -> None:
        for entry in self.star(parts, scope):
            self.use_row(entry)
        self.computed()

    # --- operators ---

    def _operation(self, node: Node, scope: Scope) -> Type:
        kind = node["kind"]
        parts = strings(node.get("name", ()))
        compares = kind != "AEXPR_OP" or parts[-1] in COMPARISONS
        walk = self.condition if compares else self.expression
        left = walk(node.get("lexpr"), scope)
        right_node = node.get("rexpr")
        if kind in BETWEEN:
            for item in _items(right_node):
                bound = walk(item, scope)
                for sign in ("<=", ">=", "<", ">"):
                    self.operator([sign], left, bound)
            return BOOL
        if kind == "AEXPR_IN" and right_node is not None and "List" in right_node:
            for other in {walk(item, scope) for item in _items(right_node)}:
                self.operator(parts, left, other)
            return BOOL
        right = walk(right_node, scope)
        if not compares:
            self.note_operator(parts[-1], left, right)
        if kind in {"AEXPR_OP_ANY", "AEXPR_OP_ALL"}:
            self.operator(parts, left, self.element(right))
            return BOOL
        result = self.operator(parts, left, right, unary="lexpr" not in node)
        return left if kind == "AEXPR_NULLIF" else result

    def element(self, array: Type) -> Type:
        """The type of an array's elements; None: it is no array, or not known."""
        if array is None or array == UNKNOWN:
            return array
        type_ = self.snapshot.types.get(array)
        return (type_.element or None) if type_ is not None else None

    def _boolean(self, node: Node, scope: Scope) -> Type:
        for each in node.get("args", ()):
            self.condition(each, scope)
        return BOOL

    def _test(self, node: Node, scope: Scope) -> Type:
        self.condition(node.get("arg"), scope)
        return BOOL

    def _sublink(self, node: Node, scope: Scope) -> Type:
        bare = bare_value(node)
        if bare is not None:
            return self.expression(bare, scope)
        left = self.condition(node.get("testexpr"), scope)
        foreign = self.foreign
        self.query(node["subselect"], scope)
        if self._reading:
            # What a function gives back is masked where it is called.
            self.foreign_inside += self.foreign - foreign
            self.foreign = foreign
        kind = node.get("subLinkType")
        if kind != "EXISTS_SUBLINK":
            self.flow(self.every)
        if "testexpr" in node:
            self.infer(self.every)
        if kind != "EXPR_SUBLINK":
            self.computed()
        if kind == "ARRAY_SUBLINK":
            self.gathers(rows_of(node["subselect"], self.is_plain))
        if kind in {"ANY_SUBLINK", "ALL_SUBLINK"}:
            right = self.outputs[0] if len(self.outputs) == 1 else None
            self.operator(strings(node.get("operName", ())) or ["="], left, right)
        return BOOL if kind in {"ANY_SUBLINK", "ALL_SUBLINK", "EXISTS_SUBLINK"} else None

    def _case(self, node: Node, scope: Scope) -> Type:
        tested = self.condition(node.get("arg"), scope)
        types: set[Type] = set()
        for when in node.get("args", ()):
            inner = when["CaseWhen"]
            value = self.condition(inner.get("expr"), scope)
            if "arg" in node:
                self.operator(["="], tested, value)
            types.add(self.expression(inner.get("result"), scope))
        if "defresult" in node:
            types.add(self.expression(node["defresult"], scope))
        return _common(types)

    def _same_types(self, node: Node, scope: Scope) -> Type:
        return _common({self.expression(item, scope) for item in node.get("args", ())})

    def _array(self, node: Node, scope: Scope) -> Type:
        types = {self.expression(item, scope) for item in node.get("elements", ())}
        known = types - {UNKNOWN}
        if len(known) == 1:
            element = known.pop()
            return self.ground.arrays.get(element) if element is not None else None
        return self.ground.arrays.get(TEXT) if types == {UNKNOWN} else None

    def _row(self, node: Node, scope: Scope) -> Type:
        self.expressions(node.get("args", ()), scope)
        return None

    def _list(self, node: Node, scope: Scope) -> Type:
        self.expressions(node.get("items", ()), scope)
        return None

    def _indirection(self, node: Node, scope: Scope) -> Type:
        arg = node.get("arg")
        base = self.expression(arg, scope)
        for step in node.get("indirection", ()):
            if "A_Indices" in step:
                self.expression(step["A_Indices"].get("lidx"), scope)
                self.expression(step["A_Indices"].get("uidx"), scope)
                base = self.element(base)
            elif "String" in step:
                # `(x).f`: a field, or the function f of a composite x
                self._call([str(step["String"].get("sval", ""))], [None], only_foreign=True)
                base = None
            else:
                base = None
        return base

    # --- types ---

    def _cast(self, node: Node, scope: Scope) -> Type:
        given = self.expression(node.get("arg"), scope)
        wanted = self.type_name(node.get("typeName"))
        self.note_cast(node, given, wanted)
        return wanted

    def _collate(self, node: Node, scope: Scope) -> Type:
        return self.expression(node.get("arg"), scope)

    # --- functions ---

    def function_call(self, node: Node, scope: Scope) -> Type:
        """Walk a FuncCall: its arguments, then what its name may run."""
        parts = strings(node.get("funcname", ()))
        arguments = node.get("args", ())
        types, label = self.values(arguments, scope)
        foreign = self.foreign
        if node.get("agg_distinct"):
            self.infer(label)
        for sort in node.get("agg_order", ()):
            value = self.condition(sort, scope)
            if node.get("agg_within_group"):
                types.append(value)
        self.condition(node.get("agg_filter"), scope)
        if "over" in node:
            self.window(node["over"], scope)
        if node.get("func_variadic"):
            types = [None] * (len(types))
        if self.sites is not None:
            candidates, made = self.functions(parts, types)
            self.sites.calls.append((node, frozenset([*(f"{each.schema}.{each.name}" for each in candidates), *made])))
        result = self._call(parts, types, arguments=arguments)
        if self.calls_aggregate and "over" not in node:
            self.aggregates.add(id(node))
        if self.foreign != foreign:
            self.write(label)
        self.flow(label)
        return result

    def _call(
        self,
        parts: list[str],
        types: Sequence[Type],
        *,
        arguments: Sequence[Node] = (),
        only_foreign: bool = False,
    ) -> Type:
        candidates, made = self.functions(parts, types)
        self.note_aggregates(candidates, made)
        for name in made:
            self.run_made(name)
            self.found.functions.add(name)
            self.found.cacheable = False
            self.foreign += 1
        if made:
            self.tells()
        results: set[int] = set()
        for function in candidates:
            if function.oid >= FIRST_NORMAL_OID:
                self.run_functions((function.oid,))
                if function.oid in self.protected.telling:
                    self.tells()
                for wanted in function.arguments:
                    self.touch_type(wanted)
            elif not only_foreign or function.name in RUNS_TEXT:
                self.found.functions.add(f"{function.schema}.{function.name}")
                self._builtin(function.name, function.volatility, arguments)
                innocent = function.name in INNOCENT
                self.note_function(function.name, function.volatility, arguments, types, innocent=innocent)
            results.add(function.result)
        if not candidates and not made and not only_foreign:
            self._no_function(parts, types)
        if len(results) == 1:
            result = results.pop()
            return None if result in POLYMORPHIC else result
        return None

    def _no_function(self, parts: list[str], types: Sequence[Type]) -> None:
        """`text(x)` is a cast; what is neither that nor a function is for the server to refuse, or was made unseen."""
        if len(types) == 1:
            oid = self.find_type(parts)
            if oid is not None:
                self.touch_type(oid)
                self.raised += oid not in TEXTUAL
                return
        name = ".".join(parts)
        self.foreign += 1
        self.tells()
        self.found.touch("function", name, Action.EXECUTE)
        self.found.functions.add(name)

    def _builtin(self, name: str, volatility: str, arguments: Sequence[Node]) -> None:
        if name == "set_config":
            self._set_config(arguments)
        elif name in {"nextval", "setval", "currval"}:
            self._sequence(name, arguments)
        elif name == "pg_notify":
            channel = constant_text(arguments[0]) if arguments else None
            self.found.constants = True
            self.found.touch("channel", channel if channel is not None else WHOLE, Action.WRITE)
        elif name in ADMINISTRATIVE or name.startswith(ADMINISTRATIVE_PREFIXES):
            self.found.touch("function", f"{CATALOG}.{name}", Action.ADMINISTER)
        elif name in RUNS_TEXT:
            self.foreign += 1
            self.found.cannot_see(f"{name} runs statements or reads relations that are named in values")
            self.found.unmask.update(self.protected.classes)
        elif name in LARGE_OBJECTS:
            self._large_object(name)
        elif name in STATISTICS_FUNCTIONS:
            self.found.unmask.update(self.protected.classes)
        elif name in RUNS_TYPES or (volatility == "v" and name not in INNOCENT):
            self.found.touch("function", f"{CATALOG}.{name}", Action.EXECUTE)

    def _large_object(self, name: str) -> None:
        reads = name in {"lo_get", "loread", "lo_open", "lo_close", "lo_lseek", "lo_lseek64", "lo_tell", "lo_tell64"}
        self.found.harmless = False
        self.found.touch("large_object", WHOLE, Action.READ)
        if not reads or name == "lo_open":
            self.found.touch("large_object", WHOLE, Action.DELETE if "unlink" in name else Action.WRITE)

    def _set_config(self, arguments: Sequence[Node]) -> None:
        self.found.constants = True
        values = [constant_text(a) for a in arguments[:2]]
        if len(values) < 2 or values[0] is None or values[1] is None:
            self.found.touch("setting", WHOLE, Action.ADMINISTER)
            self.found.lifts.update(LIFTS.values())
            return
        local = len(arguments) > 2 and constant_text(arguments[2]) in {"true", "t", "on", "1"}
        parts = [values[1]]
        if values[0].lower() == "search_path":
            # One text holds the whole list, and its names are folded (`SplitIdentifierString`).
            parts = []
            for each in values[1].split(","):
                name = split_name(each) if each.strip() != '"$user"' else ["$user"]
                if len(name) != 1 and values[1].strip():
                    self.found.touch("setting", "search_path", Action.ADMINISTER)
                    return
                parts += name
        judge_setting(self, values[0], parts, local=local)
        if values[0].lower() == "search_path":
            # It may be called for no row, or for many: afterwards the old path is as likely as the new one.
            self.found.cacheable = False

    def _sequence(self, name: str, arguments: Sequence[Node]) -> None:
        self.found.constants = True
        self.found.harmless = False
        action = Action.READ if name == "currval" else Action.WRITE
        given = constant_text(arguments[0]) if arguments else None
        if given is None:
            self.found.touch("relation", WHOLE, action)
            return
        parts = split_name(given)
        target = (
            self.find_relation(dict(zip(("relname", "schemaname"), reversed(parts), strict=False))) if parts else ()
        )
        for each in target:
            self.found.touch("relation", f"{each.schema}.{each.name}", action)
        if not target:
            self.found.touch("relation", given, action)

    # --- windows and sorting ---

    def window(self, node: Node, scope: Scope) -> None:
        """Walk a WindowDef."""
        for each in node.get("partitionClause", ()):
            self.decides(each, scope)
        for sort in node.get("orderClause", ()):
            self.decides({"SortBy": sort["SortBy"]}, scope)
        self.decides(node.get("startOffset"), scope)
        self.decides(node.get("endOffset"), scope)

    def sort(self, node: Node, scope: Scope) -> Type:
        """Walk a SortBy (wrapped) whose expression is no output column."""
        inner = node["SortBy"]
        value = self.expression(inner.get("node"), scope)
        using = strings(inner.get("useOp", ()))
        if using:
            self.operator(using, value, value)
        return value

    def _sort_by(self, node: Node, scope: Scope) -> Type:
        return self.sort({"SortBy": node}, scope)

    # --- XML and JSON ---

    def _xml(self, node: Node, scope: Scope) -> Type:
        self.raised += 1
        self.expressions(node.get("args", ()), scope)
        self.expressions(node.get("named_args", ()), scope)
        return None

    def _xml_serialize(self, node: Node, scope: Scope) -> Type:
        self.raised += 1
        self.expression(node.get("expr"), scope)
        return self.type_name(node.get("typeName"))

    def _result_target(self, node: Node, scope: Scope) -> Type:
        return self.expression(node.get("val"), scope)

    def json_value(self, node: Node | None, scope: Scope) -> None:
        """Walk a JsonValueExpr (not wrapped)."""
        if node:
            self.expression(node.get("raw_expr"), scope)
            self.expression(node.get("formatted_expr"), scope)

    def json_behavior(self, node: Node | None, scope: Scope) -> None:
        """Walk a JsonBehavior (not wrapped)."""
        if node:
            self.expression(node.get("expr"), scope)

    def _json(self, node: Node, scope: Scope) -> Type:
        """All JSON constructors and query functions: walk what they hold.

        Before PostgreSQL 16 and 17 these were no syntax, but calls of functions that anybody could make.
        """
        self.raised += 1
        output = node.get("output")
        type_ = self.type_name(output.get("typeName")) if output else None
        for key in ("exprs", "passing"):
            self.expressions(node.get(key, ()), scope)
        for key in ("context_item", "arg", "expr"):
            inner = node.get(key)
            if inner is not None:
                self._json_inner(inner, scope)
        self.expression(node.get("pathspec"), scope)
        if "query" in node:
            self.query(node["query"], scope)
            self.flow(self.every)
            self.gathers(rows_of(node["query"], self.is_plain))
        for key in ("on_empty", "on_error"):
            self.json_behavior(node.get(key), scope)
        if "constructor" in node:
            self._json_aggregate(node["constructor"], scope)
        return type_

    def _json_inner(self, inner: Node, scope: Scope) -> None:
        if "raw_expr" in inner or "formatted_expr" in inner or not inner:
            self.json_value(inner, scope)
        elif "key" in inner:
            self._json_pair(inner, scope)
        else:
            self.expression(inner, scope)

    def _json_pair(self, node: Node, scope: Scope) -> Type:
        self.expression(node.get("key"), scope)
        self.json_value(node.get("value"), scope)
        return None

    def _json_value(self, node: Node, scope: Scope) -> Type:
        self.json_value(node, scope)
        return None

    def _json_argument(self, node: Node, scope: Scope) -> Type:
        self.json_value(node.get("val"), scope)
        return None

    def _json_aggregate(self, node: Node, scope: Scope) -> None:
        self.gathers(self.input_rows)
        if "output" in node:
            self.type_name(node["output"].get("typeName"))
        self.condition(node.get("agg_filter"), scope)
        for sort in node.get("agg_order", ()):
            self.condition(sort, scope)
        if "over" in node:
            self.window(node["over"], scope)

    def _json_object(self, node: Node, scope: Scope) -> Type:
        self._call(["json_object"], [None] * len(node.get("exprs", ())), only_foreign=True)
        return self._json(node, scope)

    def _json_array(self, node: Node, scope: Scope) -> Type:
        self._call(["json_array"], [None] * len(node.get("exprs", ())), only_foreign=True)
        return self._json(node, scope)

    def _json_arrayagg(self, node: Node, scope: Scope) -> Type:
        self._call(["json_arrayagg"], [None], only_foreign=True)
        return self._json(node, scope)

    def _json_scalar(self, node: Node, scope: Scope) -> Type:
        self._call(["json_scalar"], [None], only_foreign=True)
        return self._json(node, scope)

    def _json_parse(self, node: Node, scope: Scope) -> Type:
        self._call(["json"], [None], only_foreign=True)
        return self._json(node, scope)

    def _json_serialize(self, node: Node, scope: Scope) -> Type:
        self._call(["json_serialize"], [None], only_foreign=True)
        return self._json(node, scope)

    def _json_query(self, node: Node, scope: Scope) -> Type:
        for name in ("json_exists", "json_query", "json_value"):
            self._call([name], [None] * 2, only_foreign=True)
        return self._json(node, scope)

    def _json_test(self, node: Node, scope: Scope) -> Type:
        self.expression(node.get("expr"), scope)
        return BOOL

    def _named_argument(self, node: Node, scope: Scope) -> Type:
        return self.expression(node.get("arg"), scope)

    def _multi(self, node: Node, scope: Scope) -> Type:
        if node.get("colno", 1) == 1:
            self.expression(node.get("source"), scope)
        return None

    def _grouping(self, node: Node, scope: Scope) -> Type:
        self.expressions(node.get("args", ()), scope)
        return INT4

    def _grouping_set(self, node: Node, scope: Scope) -> Type:
        self.expressions(node.get("content", ()), scope)
        return None

    def _merge_support(self, _node: Node, _scope: Scope) -> Type:
        self._call(["merge_action"], [], only_foreign=True)
        return TEXT


def _common(types: set[Type]) -> Type:
    """The type of what may be a value of any of these, where that is plain."""
    known = types - {UNKNOWN}
    return known.pop() if len(known) == 1 else None


def _items(node: Node | None) -> Sequence[Node]:
    if not node:
        return ()
    if "List" in node:
        items: Sequence[Node] = node["List"].get("items", ())
        return items
    return (node,)


def constant_text(node: Node) -> str | None:
    """The text of a constant, also under casts to text and the like; None for anything else."""
    if "TypeCast" in node:
        name = strings(node["TypeCast"].get("typeName", {}).get("names", ()))
        if name and name[-1] in {"text", "regclass", "bool", "varchar", "name", "cstring"}:
            return constant_text(node["TypeCast"].get("arg", {}))
        return None
    constant = node.get("A_Const")
    if constant is None or constant.get("isnull"):
        return None
    for key in ("sval", "ival", "fval", "boolval"):
        if key in constant:
            value = constant[key].get(key, 0 if key == "ival" else "")
            if key == "boolval":
                return "true" if value is True else "false"
            return str(value)
    return None


def split_name(text: str) -> list[str]:
    """The parts of a name as `regclass` reads them; empty when it is not plain."""
    parts: list[str] = []
    for part in text.strip().split("."):
        if len(part) > 1 and part[0] == part[-1] == '"':
            parts.append(part[1:-1])
        elif part.replace("_", "a").replace("$", "a").isalnum():
            parts.append(part.lower())
        else:
            return []
    return parts if len(parts) <= 2 else []


Rule = Callable[[Expressions, Node, Scope], Type]
_E = Expressions
RULES: Final[dict[str, Rule]] = {
    "A_Const": _E._constant,
    "ParamRef": _E._parameter,
    "ColumnRef": _E._column,
    "A_Expr": _E._operation,
    "BoolExpr": _E._boolean,
    "NullTest": _E._test,
    "BooleanTest": _E._test,
    "SubLink": _E._sublink,
    "FuncCall": _E.function_call,
    "TypeCast": _E._cast,
    "CollateClause": _E._collate,
    "CaseExpr": _E._case,
    "CoalesceExpr": _E._same_types,
    "MinMaxExpr": _E._same_types,
    "A_ArrayExpr": _E._array,
    "RowExpr": _E._row,
    "List": _E._list,
    "A_Indirection": _E._indirection,
    "SQLValueFunction": _E._value_function,
    "SetToDefault": _E._nothing,
    "CurrentOfExpr": _E._nothing,
    "NamedArgExpr": _E._named_argument,
    "MultiAssignRef": _E._multi,
    "GroupingFunc": _E._grouping,
    "GroupingSet": _E._grouping_set,
    "MergeSupportFunc": _E._merge_support,
    "XmlExpr": _E._xml,
    "XmlSerialize": _E._xml_serialize,
    "ResTarget": _E._result_target,
    "JsonObjectConstructor": _E._json_object,
    "JsonArrayConstructor": _E._json_array,
    "JsonArrayQueryConstructor": _E._json,
    "JsonObjectAgg": _E._json,
    "JsonArrayAgg": _E._json_arrayagg,
    "JsonParseExpr": _E._json_parse,
    "JsonScalarExpr": _E._json_scalar,
    "JsonSerializeExpr": _E._json_serialize,
    "JsonFuncExpr": _E._json_query,
    "JsonIsPredicate": _E._json_test,
    "JsonKeyValue": _E._json_pair,
    "JsonValueExpr": _E._json_value,
    "JsonArgument": _E._json_argument,
    "SortBy": _E._sort_by,
}
"""Node type to rule. What is not here cannot stand in an expression of a raw parse tree, or is refused."""

__all__ = ["FLOAT8", "Expressions", "constant_text", "split_name"]
