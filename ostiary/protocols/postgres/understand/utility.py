"""Statements that are no queries: one rule for each node type; a type without a rule is an objection."""

# ruff: noqa: SLF001 -- the tables of rules at the end name methods of the class above

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ostiary.model.catalogue import Function, Relation, Snapshot
from ostiary.model.connections import Strategy
from ostiary.model.operations import Action, Facts, Shown
from ostiary.protocols.postgres.grammar import Node, NotParsed, parse
from ostiary.protocols.postgres.understand.bodies import body_of
from ostiary.protocols.postgres.understand.definitions import Definitions, tag
from ostiary.protocols.postgres.understand.expressions import constant_text, split_name
from ostiary.protocols.postgres.understand.findings import Finding, Objected, unsupported
from ostiary.protocols.postgres.understand.ground import WHOLE
from ostiary.protocols.postgres.understand.names import ADMIN, INSERT, SELECT, strings
from ostiary.protocols.postgres.understand.queries import Queries
from ostiary.protocols.postgres.understand.scopes import Scope
from ostiary.protocols.postgres.understand.settings import judge_setting, note_mode
from ostiary.protocols.postgres.understand.shapes import most_rows
from ostiary.protocols.postgres.understand.view import LONGEST_KEPT, Path, Prepared

FALSE: Final = frozenset({"off", "false", "0"})
SHOWN_TO_ADMINS: Final = frozenset({
    "config_file", "hba_file", "ident_file", "data_directory", "external_pid_file", "primary_conninfo",
    "archive_command", "restore_command", "ssl_key_file", "ssl_passphrase_command", "all",
})  # fmt: skip


SHOWING: Final = frozenset({
    "SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "ExplainStmt", "PrepareStmt", "ExecuteStmt",
    "DeclareCursorStmt", "FetchStmt", "CopyStmt",
})  # fmt: skip
"""Statements that run a query, and leave nothing behind that shows again what it hung on."""


FILTERED: Final = SHOWING - {"ExplainStmt"} | {"CreateTableAsStmt"}
"""Statements in which a condition on rows holds. A plan tells how many rows a condition kept back; what is defined by a query
shows its rows to others, later."""


class Utility(Definitions):
    """Walks whole statements."""

    source: bytes = b""
    """The text of the statement at hand."""

    def statement(self, kind: str, node: Node) -> None:
        """Judge one statement."""
        rule = STATEMENTS.get(kind)
        if rule is None:
            raise unsupported(f"the gateway has no rule for {kind}")
        self._types.clear()
        foreign = self.foreign + self.foreign_inside
        found = self.found
        bares, found.bares = found.bares, found.bares or kind not in FILTERED
        rule(self, node)
        self.run_casts()
        found.bares = bares
        if kind not in SHOWING or self.foreign + self.foreign_inside != foreign:
            # What is defined by it stays; and a function of somebody's own may keep or send whatever it is given.
            self.found.unmask |= self.found.infer

    # --- queries at the top ---

    def top_query(self, kind: str, node: Node) -> None:
        """A query that is a statement of its own."""
        self.found.names.append(tag(kind))
        self.outcome(self.query({kind: node}, None))
        self.found.returns(1 if self.is_one_row(node) else most_rows(kind, node))

    def _select(self, node: Node) -> None:
        self.top_query("SelectStmt", node)

    def _insert(self, node: Node) -> None:
        self.top_query("InsertStmt", node)

    def _update(self, node: Node) -> None:
        self.top_query("UpdateStmt", node)

    def _delete(self, node: Node) -> None:
        self.top_query("DeleteStmt", node)

    def _merge(self, node: Node) -> None:
        self.top_query("MergeStmt", node)

    # --- a query inside of something ---

    def apart(self, kind: str, node: Node) -> Facts:
        """Facts of an inner statement alone."""
        outer, touched, bodies = self.found, self._touched, self._bodies
        # What is alone must say for itself what the functions in it do; those whose bodies this stands in are being read.
        self.found, self._touched, self._bodies = Finding(), set(), set(self._reading)
        try:
            self.top_query(kind, node)
            self.run_casts()
            inner = self.found
            inner.step()
        finally:
            self.found, self._touched, self._bodies = outer, touched, bodies
        outer.cacheable &= inner.cacheable
        outer.constants |= inner.constants
        return inner.facts("")

    def read_body(self, function: Function, behind: str) -> None:
        """Note what the statements of a function in SQL or PL/pgSQL touch.

        Names are resolved as if they stood in the statement at hand, or by the search_path that the function sets for itself. What
        it makes up while it runs, or cannot be judged, is opaque. Of a variable nothing is known.
        """
        if not function.body:
            return
        self.spend(len(function.body) // 8)
        body = body_of(function)
        if body is None or body.makes_up or not body.is_all:
            why = "cannot be read" if body is None else "runs text that it makes up" if body.makes_up else "does more than can be seen"
            self.found.cannot_see(f"{function.schema}.{function.name} {why}")
        if body is None:
            return
        around, self.sink = self.sink, None
        given, self.parameter_types = self.parameter_types, ()
        path = self.path
        outer, touched = self.found, self._touched
        self.found, self._touched = Finding(), set()
        self.found.behind = behind
        self._reading.append((function.oid, behind))
        try:
            self._set_path(_path_of(function, self.snapshot, path))
            for text in body.texts:
                self._read_text(text, function)
            self._touch_types_of(body.columns)
            inner = self.found
            inner.gathers = inner.gathers if function.oid == 0 else 1  # what is there already gives back one value, whatever is in it
        finally:
            self._reading.pop()
            self.found, self._touched = outer, touched
            self.sink, self.parameter_types = around, given
            self._set_path(path)
        if any(each.verb == "path" for each in inner.effects):
            # What stands behind it in the text was read with the path that held before.
            outer.touch("setting", "search_path", Action.ADMINISTER)
        if inner.resources:
            outer.add(inner.facts(""))
        outer.effects += inner.effects
        outer.cacheable &= inner.cacheable

    def _read_text(self, text: bytes, function: Function) -> None:
        try:
            for each in parse(text):
                if each.kind == "TransactionStmt":
                    continue
                self.statement(each.kind, each.node)
        except (NotParsed, Objected):
            self.found.cannot_see(f"{function.schema}.{function.name} does something that cannot be judged")

    def _touch_types_of(self, columns: Iterable[tuple[str, ...]]) -> None:
        """Note that variables are of the types of these columns, or rows."""
        for schema, name, column in columns:
            for target in self.find_relation({"relname": name} | ({"schemaname": schema} if schema else {})):
                for each in target.columns if isinstance(target, Relation) else ():
                    if column in {"", each.name}:
                        self.touch_type(each.type_oid)

    def _explain(self, node: Node) -> None:
        rows = self.found.rows
        self._explained(node)
        self.found.rows = rows
        # A plan holds what the text holds, and how many rows came: no values.
        self.found.shown = None

    def _explained(self, node: Node) -> None:
        self.found.names.append("EXPLAIN")
        ((kind, query),) = node["query"].items()
        analyze = False
        for each in node.get("options", ()):
            option = each["DefElem"]
            self.found.constants = True
            if option["defname"].lower() in {"analyze", "analyse"}:
                analyze = analyze or not _is_false(option.get("arg"))
        if kind in {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"} and not analyze:
            facts = self.apart(kind, query)
            self._planned(facts)
            return
        if analyze:
            if kind == "DeclareCursorStmt":
                ((kind, query),) = query["query"].items()
            self.statement(kind, query)
            # How much memory a sort took, or how many bytes came, tells how long a computed value was, or whether there was one.
            self.found.infer.update(_computed(self.found.shown))
            return
        if kind == "ExecuteStmt":
            for facts in self._executed(query):
                self._planned(facts)
        elif kind in {"CreateTableAsStmt", "DeclareCursorStmt", "RefreshMatViewStmt"}:
            ((inner_kind, inner),) = query.get("query", {"": {}}).items()
            if inner_kind == "ExecuteStmt":
                for facts in self._executed(inner):
                    self._planned(facts)
            elif inner_kind:
                self._planned(self.apart(inner_kind, inner))
        else:
            raise unsupported(f"the gateway has no rule for EXPLAIN of {kind}")

    def _planned(self, facts: Facts) -> None:
        """EXPLAIN does not run the query; but planning runs functions on constants, so those stay."""
        for r in facts.resources:
            if r.kind == "relation" and r.name != WHOLE:
                self.found.touch("relation", r.name, Action.READ, r.columns, r.classes)
            elif r.kind not in {"channel", "setting", "large_object"}:
                self.found.touch(r.kind, r.name, r.action, r.columns, r.classes)
        self.found.functions.update(facts.functions)
        self.found.opaque.update(dict.fromkeys(facts.opaque))
        self.found.unmask.update(facts.unmask)
        self.found.infer.update(facts.infer)
        self.found.lifts.update(facts.lifts)
        self.found.touches_protected |= facts.touches_protected

    def _prepare(self, node: Node) -> None:
        ((kind, query),) = node["query"].items()
        for each in node.get("argtypes", ()):
            self.type_name(each.get("TypeName"))
        facts = self.apart(kind, query)
        self.found.add(facts)
        self.found.names.append("PREPARE")
        self.found.touch("connection", "", Action.CONNECT)
        sql = self.source if len(self.source) <= LONGEST_KEPT else b""
        self.effect("prepare", name=node["name"], facts=facts, sql=sql)

    def _executed(self, node: Node) -> tuple[Facts, ...]:
        self.expressions(node.get("params", ()), Scope())
        self.found.cacheable = False
        name = node["name"]
        facts: tuple[Facts, ...] = ()
        for each in self.view.prepared.get(name, ()):
            facts += (each.facts, *self._meant_now(name, each))
        if not facts:
            if not self.view.fog:
                raise self.missing(f'prepared statement "{name}" does not exist', "26000", None)
            self.found.cannot_see(f"prepared statement {name} is not known to the gateway")
        if self.view.crowded:
            self.found.cannot_see(f"prepared statement {name} may mean too many things")
        return facts

    def _meant_now(self, name: str, prepared: Prepared) -> tuple[Facts, ...]:
        """What its text means now: the server resolves its names anew when search_path or a relation changed."""
        if not prepared.sql:
            if self.view.made or len(self.view.paths) > 1:
                self.found.cannot_see(f"prepared statement {name} may mean something else by now")
            return ()
        for each in parse(prepared.sql):
            kind, node = each.kind, each.node
            if kind == "PrepareStmt":
                ((kind, node),) = node["query"].items()
            return (self.apart(kind, node),)
        return ()

    def _execute(self, node: Node) -> None:
        self.found.names.append("EXECUTE")
        executed = self._executed(node)
        self.found.returns(0 if executed else None)
        for facts in executed:
            self.found.add(facts)
            self._shows(facts)
            self.found.returns(facts.rows)

    def _shows(self, facts: Facts) -> None:
        """What a statement or cursor shows that was made before."""
        shown = facts.shown[0] if facts.shown else None
        if shown is None:
            self.found.shows(None, ())
        else:
            self.found.shows(shown.columns, shown.every)

    def _deallocate(self, node: Node) -> None:
        self._session("DEALLOCATE")
        self.found.cacheable = False
        if node.get("isall") or "name" not in node:
            for name in tuple(self.view.prepared):
                self.effect("deallocate", name=name)
        else:
            self.effect("deallocate", name=node["name"])

    def _declare(self, node: Node) -> None:
        ((kind, query),) = node["query"].items()
        facts = self.apart(kind, query)
        self.found.add(facts)
        self.found.names.append("DECLARE CURSOR")
        self.found.harmless = False
        self.effect("declare", name=node["portalname"], facts=facts)

    def _fetch(self, node: Node) -> None:
        self.found.names.append("MOVE" if node.get("ismove") else "FETCH")
        self.found.cacheable = False
        self.found.returns(most_rows("FetchStmt", node))
        name = node["portalname"]
        facts = self.view.cursors.get(name, ())
        for each in facts:
            self.found.add(each.facts)
            self._shows(each.facts)
        self.found.harmless = False
        if not facts:
            if not self.view.fog:
                raise self.missing(f'cursor "{name}" does not exist', "34000", None)
            self.found.cannot_see(f"cursor {name} is not known to the gateway")
        elif self.view.crowded:
            self.found.cannot_see(f"cursor {name} may mean too many things")

    def _close(self, _node: Node) -> None:
        self._session("CLOSE CURSOR")

    # --- code ---

    def _do(self, node: Node) -> None:
        self.found.names.append("DO")
        del node
        self.found.cannot_see("DO runs code that is not looked into")
        self.found.invalidates = True
        self.found.unmask.update(self.protected.classes)
        self.effect("fog")

    def _call_statement(self, node: Node) -> None:
        self.found.names.append("CALL")
        self.found.returns(1)
        call = node["funccall"]
        _, label = self.value({"FuncCall": call}, Scope())
        self.write(label - {(name, None) for name in self.protected.classes})
        self.found.shows(None, self.protected.classes)
        self.found.touch("function", self._called(strings(call["funcname"])), Action.EXECUTE)
        self.found.cannot_see("CALL runs a procedure that is not looked into")
        self.found.invalidates = True
        self.effect("fog")

    def _called(self, parts: list[str]) -> str:
        candidates, _ = self.functions(parts, [])
        for function in candidates:
            return f"{function.schema}.{function.name}"
        return ".".join(parts)

    # --- COPY ---

    def _copy(self, node: Node) -> None:
        self.found.names.append("COPY")
        self.found.harmless = False
        incoming = node.get("is_from", False)
        if "filename" in node or node.get("is_program"):
            self.found.touch(
                "file", WHOLE if node.get("is_program") else node.get("filename", WHOLE), Action.ADMINISTER
            )
        self.found.touch("connection", "", Action.TRANSFER)
        self.found.typed = True
        masked = "filename" not in node and not node.get("is_program")
        if "query" in node:
            ((kind, query),) = node["query"].items()
            self.outcome(self.query({kind: query}, None))
            self.found.returns(1 if self.is_one_row(query) else most_rows(kind, query))
        elif incoming:
            self._copy_in(node)
        else:
            self._copy_out(node)
            self.found.returns(None)
        if not masked and self.found.shown is not None:
            # It goes into a file of the server's.
            self.found.unmask.update(self.found.shown.every)
        for each in node.get("options", ()):
            option = each["DefElem"]
            if option["defname"] == "encoding":
                value = _word(option.get("arg"))
                if value.lower() not in {"utf8", "utf-8", "unicode"}:
                    raise unsupported("COPY in another encoding than UTF8 is not supported")

    def _copy_in(self, node: Node) -> None:
        scope = Scope()
        entries = self.target(node, INSERT, scope)
        names = strings(node.get("attlist", ())) or [WHOLE]
        for entry in entries:
            self._written(entry, names, Action.WRITE)
        if "whereClause" in node:
            self._reads_of(entries)
            self.expression(node["whereClause"], scope)

    def _copy_out(self, node: Node) -> None:
        range_var = node["relation"]
        self.holds(node)
        for target in self.relation(range_var):
            # COPY of a table does not read its children; but who reads the parent may read them.
            entry = self.entry(target, "", (), self.touch_relation(target, SELECT))
            names = strings(node.get("attlist", ()))
            listed = [{"String": {"sval": name}} for name in names] or [{"A_Star": {}}]
            targets = [{"ResTarget": {"val": {"ColumnRef": {"fields": [field]}}}} for field in listed]
            self.outcome(self.target_list(targets, Scope(None, [entry])))

    # --- the session ---

    def _session(self, name: str) -> None:
        self.found.names.append(name)
        self.found.harmless = False
        self.found.touch("connection", "", Action.CONNECT)

    def _transaction(self, node: Node) -> None:
        kind = node["kind"].removeprefix("TRANS_STMT_")
        self.found.names.append(kind.replace("_", " "))
        self.found.touch("connection", "", Action.CONNECT)
        self.found.harmless &= kind in {"BEGIN", "START"}
        if kind in {"BEGIN", "START"}:
            self.effect("begin", depends=False)
            for each in node.get("options", ()):
                name, value = each["DefElem"]["defname"], _word(each["DefElem"].get("arg"))
                note_mode(self, name, value, local=True)
                if name == "transaction_read_only" and value != "1":
                    self.found.lifts.add("read_only")
        elif kind in {"PREPARE", "COMMIT_PREPARED", "ROLLBACK_PREPARED"}:
            self.found.touch("database", self.snapshot.database, Action.ADMINISTER)
            # What was prepared, by whomever, may be DDL.
            self.found.invalidates |= kind == "COMMIT_PREPARED"

    def _set(self, node: Node) -> None:
        kind, name = node["kind"], node.get("name", "")
        self.found.names.append("RESET" if "RESET" in kind else "SET")
        self.found.harmless = False
        self.found.constants = True
        if kind == "VAR_SET_MULTI":
            self._set_transaction(node)
        elif kind == "VAR_RESET_ALL":
            self.found.touch("connection", "", Action.CONNECT)
            self.effect("path", path=self.snapshot.search_path)
        elif kind in {"VAR_SET_DEFAULT", "VAR_RESET"}:
            judge_setting(self, name, None, local=node.get("is_local", False))
        elif kind == "VAR_SET_VALUE":
            values = [_setting_value(each) for each in node.get("args", ())]
            if any(v is None for v in values):
                raise unsupported(f"the gateway cannot read the value of {name}")
            judge_setting(self, name, [v for v in values if v is not None], local=node.get("is_local", False))
        elif kind == "VAR_SET_CURRENT":
            raise unsupported("SET ... FROM CURRENT is not supported here")
        else:
            raise unsupported(f"the gateway has no rule for {kind}")

    def _set_transaction(self, node: Node) -> None:
        if node.get("name") == "TRANSACTION SNAPSHOT":
            self.found.touch("connection", "", Action.CONNECT)
            return
        for each in node.get("args", ()):
            name, value = each["DefElem"]["defname"], _word(each["DefElem"].get("arg"))
            judge_setting(self, name, [value], local=True)
            if node.get("name") == "SESSION CHARACTERISTICS":
                note_mode(self, name, value, local=False)

    def _show_setting(self, node: Node) -> None:
        self.found.names.append("SHOW")
        if node.get("name", "").lower() in SHOWN_TO_ADMINS - {"all"}:
            self.found.touch("setting", node["name"].lower(), Action.READ)
        self.found.touch("connection", "", Action.CONNECT)

    def _discard(self, node: Node) -> None:
        self._session("DISCARD")
        if node.get("target") == "DISCARD_ALL":
            for name in tuple(self.view.prepared):
                self.effect("deallocate", name=name)
            self.effect("path", path=self.snapshot.search_path)

    def _set_constraints(self, _node: Node) -> None:
        self._session("SET CONSTRAINTS")

    def _listen(self, node: Node) -> None:
        self._session("LISTEN")
        self.found.touch("channel", node["conditionname"], Action.READ)

    def _unlisten(self, _node: Node) -> None:
        self._session("UNLISTEN")

    def _notify(self, node: Node) -> None:
        self.found.names.append("NOTIFY")
        self.found.touch("channel", node["conditionname"], Action.WRITE)

    def _lock(self, node: Node) -> None:
        self.found.names.append("LOCK TABLE")
        for each in node.get("relations", ()):
            for target in self.relation(each["RangeVar"]):
                self.touch_relation(target, ADMIN)

    def _vacuum(self, node: Node) -> None:
        self.found.names.append("VACUUM" if node.get("is_vacuumcmd") else "ANALYZE")
        self.found.touch("database", self.snapshot.database, Action.ADMINISTER)
        for each in node.get("rels", ()):
            relation = each["VacuumRelation"].get("relation")
            for target in self.relation(relation) if relation else ():
                self.touch_relation(target, ADMIN)

    def _setting_of_role(self, node: Node) -> None:
        """ALTER ROLE/DATABASE ... SET, ALTER SYSTEM: all are an administrator's; some are nobody's."""
        inner = node.get("setstmt", {})
        inner = inner.get("VariableSetStmt", inner)
        self.found.names.append("ALTER SYSTEM" if "setstmt" in node and "role" not in node else "ALTER ROLE")
        self.found.harmless = False
        if inner.get("kind") == "VAR_SET_VALUE":
            values = [_setting_value(each) for each in inner.get("args", ())]
            if inner.get("name", "").lower() in {"standard_conforming_strings", "client_encoding"}:
                judge_setting(self, inner["name"], [v or "" for v in values], local=False)
        self.found.touch("setting", inner.get("name", WHOLE), Action.ADMINISTER)
        self.found.touch("database", self.snapshot.database, Action.ADMINISTER)


def _computed(shown: Shown | None) -> Iterable[str]:
    """Classes that values hang on of which nothing is shown, not even a length."""
    if shown is None or shown.columns is None:
        return () if shown is None else shown.every
    return {name for origin in shown.columns if origin.strategy is Strategy.NULL for name in origin.classes}


def _path_of(function: Function, snapshot: Snapshot, path: Path) -> Path:
    """The search_path under which a function runs."""
    for each in function.settings:
        name, _, value = each.partition("=")
        if name.lower() == "search_path":
            parts = [split_name(part) if part.strip() != '"$user"' else [snapshot.role] for part in value.split(",") if part.strip()]
            return tuple(part[0] for part in parts if len(part) == 1)
    return path


def _is_false(node: Node | None) -> bool:
    return bool(node) and _word(node).lower() in FALSE


def _word(node: Node | None) -> str:
    """The text of an option's value."""
    if not node:
        return ""
    for kind, key in (("String", "sval"), ("Integer", "ival"), ("Float", "fval"), ("Boolean", "boolval")):
        if kind in node:
            value = node[kind].get(key, 0 if kind == "Integer" else "")
            return str(value) if kind != "Boolean" else str(bool(value)).lower()
    if "A_Const" in node:
        return constant_text(node) or ""
    return ""


def _setting_value(node: Node) -> str | None:
    if "TypeCast" in node:  # SET TIME ZONE INTERVAL '1' HOUR
        return constant_text(node["TypeCast"].get("arg", {}))
    return constant_text(node)


Rule = Callable[[Utility, Node], None]
_U = Utility
STATEMENTS: Final[dict[str, Rule]] = {
    "SelectStmt": _U._select,
    "InsertStmt": _U._insert,
    "UpdateStmt": _U._update,
    "DeleteStmt": _U._delete,
    "MergeStmt": _U._merge,
    "ExplainStmt": _U._explain,
    "PrepareStmt": _U._prepare,
    "ExecuteStmt": _U._execute,
    "DeallocateStmt": _U._deallocate,
    "DeclareCursorStmt": _U._declare,
    "FetchStmt": _U._fetch,
    "ClosePortalStmt": _U._close,
    "DoStmt": _U._do,
    "CallStmt": _U._call_statement,
    "CopyStmt": _U._copy,
    "TransactionStmt": _U._transaction,
    "VariableSetStmt": _U._set,
    "VariableShowStmt": _U._show_setting,
    "DiscardStmt": _U._discard,
    "ConstraintsSetStmt": _U._set_constraints,
    "ListenStmt": _U._listen,
    "UnlistenStmt": _U._unlisten,
    "NotifyStmt": _U._notify,
    "LockStmt": _U._lock,
    "VacuumStmt": _U._vacuum,
    "AlterRoleSetStmt": _U._setting_of_role,
    "AlterDatabaseSetStmt": _U._setting_of_role,
    "AlterSystemStmt": _U._setting_of_role,
    **Definitions.rules(),
}
"""Node type to rule. What is not here is refused."""

__all__ = ["STATEMENTS", "Queries", "Utility"]
