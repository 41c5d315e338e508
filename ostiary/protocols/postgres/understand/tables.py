"""DDL on relations: making, changing, dropping and emptying them, and what each of these takes along."""

from __future__ import annotations

from typing import Final

from ostiary.model.catalogue import Relation
from ostiary.model.operations import Action
from ostiary.protocols.postgres.grammar import Node
from ostiary.protocols.postgres.understand.findings import unsupported
from ostiary.protocols.postgres.understand.ground import WHOLE
from ostiary.protocols.postgres.understand.names import (
    ADMIN,
    CATALOG,
    DEFINE,
    DELETE,
    INSERT,
    SELECT,
    TRUNCATE,
    Target,
    strings,
)
from ostiary.protocols.postgres.understand.queries import OutputColumns, Queries
from ostiary.protocols.postgres.understand.scopes import Entry, Scope
from ostiary.protocols.postgres.understand.view import TEMP, Made

DESTROYING: Final = frozenset({"AT_DropColumn", "AT_AlterColumnType", "AT_SetExpression", "AT_DropExpression"})
GUARDS_OFF: Final = frozenset(
    [
        "AT_ChangeOwner",
        "AT_DisableTrig",
        "AT_DisableTrigAll",
        "AT_DisableTrigUser",
        "AT_DisableRule",
        "AT_EnableReplicaTrig",
        "AT_EnableReplicaRule",
        "AT_EnableAlwaysTrig",
        "AT_EnableAlwaysRule",
        "AT_DisableRowSecurity",
        "AT_NoForceRowSecurity",
        "AT_EnableRowSecurity",
        "AT_ForceRowSecurity",
        "AT_EnableTrig",
        "AT_EnableTrigAll",
        "AT_EnableTrigUser",
        "AT_EnableRule",
        "AT_ReplicaIdentity",
        "AT_SetTableSpace",
    ]
)
FOLLOWED: Final = frozenset(["AT_AddColumn", "AT_DropColumn", "AT_ColumnDefault", "AT_SetNotNull", "AT_DropNotNull", "AT_AddConstraint", "AT_DropConstraint", "AT_AlterColumnType", "AT_SetExpression", "AT_DropExpression", "AT_SetStatistics", "AT_SetStorage", "AT_SetCompression", "AT_ChangeOwner", "AT_ValidateConstraint", "AT_AlterConstraint", "AT_SetOptions", "AT_ResetOptions", "AT_SetRelOptions", "AT_ResetRelOptions", "AT_ClusterOn", "AT_DropCluster", "AT_SetLogged", "AT_SetUnLogged", "AT_AddIdentity", "AT_SetIdentity", "AT_DropIdentity"])  # fmt: skip
"""What these change is known: the functions in them are noted, and columns are taken as unknown from then on."""
HOLDERS: Final = frozenset({"OBJECT_TABLE", "OBJECT_MATVIEW", "OBJECT_SEQUENCE", "OBJECT_FOREIGN_TABLE"})
"""What holds data: dropping it deletes."""
RELATIONS: Final = HOLDERS | {"OBJECT_VIEW", "OBJECT_INDEX"}
DROP_ADMINISTRATIVE: Final = frozenset(
    [
        "OBJECT_EXTENSION",
        "OBJECT_LANGUAGE",
        "OBJECT_EVENT_TRIGGER",
        "OBJECT_FDW",
        "OBJECT_FOREIGN_SERVER",
        "OBJECT_PUBLICATION",
        "OBJECT_POLICY",
        "OBJECT_ACCESS_METHOD",
        "OBJECT_CAST",
        "OBJECT_TRANSFORM",
        "OBJECT_TRIGGER",
        "OBJECT_RULE",
        "OBJECT_CONVERSION",
        "OBJECT_OPCLASS",
        "OBJECT_OPFAMILY",
    ]
)


class Tables(Queries):
    """Walks DDL on relations."""

    def ddl(self, name: str) -> None:
        """Note that this is DDL."""
        self.found.names.append(name)
        self.found.invalidates = True
        self.found.harmless = False

    def statement(self, kind: str, node: Node) -> None:
        """Judge one statement: in utility.py."""
        raise NotImplementedError

    # --- making relations ---

    def make(
        self,
        range_var: Node,
        columns: OutputColumns,
        *,
        sort: str = "relation",
        action: Action = Action.DEFINE,
        classes: tuple[str, ...] = (),
        reads: bool = False,
    ) -> None:
        """Note that a relation is made, and what the session knows of it from then on."""
        name = range_var.get("relname", "")
        schema = self.home(range_var)
        before = dict.fromkeys(k[1] for k in self.found.resources if k[0] == "function" and k[2] is Action.EXECUTE)
        self.found.touch("relation", f"{schema}.{name}", action)
        made = Made(
            schema=schema,
            name=name,
            sort=sort,
            columns=columns,
            calls=tuple(before),
            classes=classes,
            reads=(self.found.facts(""),) if reads else (),
            opaque=False,
        )
        self.effect("make", made=made)

    def home(self, range_var: Node) -> str:
        """The schema in which a new relation will be."""
        schema = range_var.get("schemaname")
        if range_var.get("relpersistence") == "t" or (schema or "").startswith(TEMP):
            return TEMP
        if schema:
            return str(schema)
        known = {s for s, _ in self.snapshot.relation_oids} | self.snapshot.writable_schemas | {"public"}
        return next((s for s in self.path if s in known and s != CATALOG), self.path[0] if self.path else "public")

    def changed(self, target: Target, *, opaque: bool) -> None:
        """Note that a relation is not any more as the snapshot, or the session, knows it.

        What the statement may run (a default, a check, a trigger's function), touching the relation may run from now on.
        `opaque`: it changed in a way that is not followed.
        """
        calls = {k[1] for k in self.found.resources if k[0] == "function" and k[2] is Action.EXECUTE}
        made = Made(
            schema=target.schema,
            name=target.name,
            sort="relation",
            columns=None,
            calls=tuple(sorted(calls.union(target.calls if isinstance(target, Made) else ()))),
            classes=target.classes if isinstance(target, Made) else (),
            reads=target.reads if isinstance(target, Made) else (),
            opaque=opaque or (isinstance(target, Made) and target.opaque),
        )
        self.effect("make", made=made)

    def into(self, clause: Node, columns: OutputColumns) -> None:
        """SELECT ... INTO, CREATE TABLE AS: a relation is made of the result."""
        self.found.invalidates = True
        names = tuple(strings(clause.get("colNames", ())))
        if names:
            columns = None if columns is None else (*names, *columns[len(names) :])
        self.make(clause["rel"], columns, classes=tuple(sorted(self.found.unmask)))
        self.found.harmless = False

    def _create_table_as(self, node: Node) -> None:
        self.ddl("CREATE TABLE AS" if node.get("objtype") != "OBJECT_MATVIEW" else "CREATE MATERIALIZED VIEW")
        ((kind, query),) = node["query"].items()
        if kind == "ExecuteStmt":
            self.statement(kind, query)
            for r in tuple(self.found.resources.items()):
                self.found.unmask.update(r[1][1])
            columns: OutputColumns = None
        else:
            columns = self.query({kind: query}, None)
            self.write(self.every)
        self.found.unmask |= self.found.infer
        self.into(node["into"], columns)

    def _create_view(self, node: Node) -> None:
        self.ddl("CREATE VIEW")
        columns = self.query(node["query"], None)
        self.write(self.every)
        self.found.unmask |= self.found.infer
        names = tuple(strings(node.get("aliases", ())))
        if names:
            columns = None if columns is None else (*names, *columns[len(names) :])
        self.make(node["view"], columns, classes=tuple(sorted(self.found.unmask)), reads=True)

    def _create_foreign_table(self, node: Node) -> None:
        self.found.touch("server", node.get("servername", WHOLE), Action.ADMINISTER)
        self._create_table(node["base"])

    def _create_table(self, node: Node) -> None:
        self.ddl("CREATE TABLE")
        scope = Scope()
        scope.entries.append(Entry("", None, None, None, None))
        columns: list[str] | None = []
        for element in node.get("tableElts", ()):
            if "ColumnDef" in element and columns is not None:
                columns.append(element["ColumnDef"].get("colname", ""))
            elif "TableLikeClause" in element:
                columns = None
            self._table_element(element, scope)
        for each in node.get("constraints", ()):
            self._table_element(each, scope)
        for parent in node.get("inhRelations", ()):
            columns = None
            for target in self.relation(parent["RangeVar"]):
                self._joins_family(target, partition="partbound" in node)
        if "ofTypename" in node:
            columns = None
            self.type_name(node["ofTypename"])
        self._partitioning(node, scope)
        self.make(node["relation"], tuple(columns) if columns is not None else None)

    def _joins_family(self, target: Target, *, partition: bool) -> None:
        """A new child shows its rows in its parent's, and takes its triggers and constraints."""
        self.touch_relation(target, DEFINE)
        if isinstance(target, Relation):
            classes = self.protected.of_relation.get(target.oid)
            if classes:
                # Its columns would not be known as protected until the catalogue is read again.
                self.found.unmask.update(classes)
            if partition:
                self.run_functions(target.calls)

    def _partitioning(self, node: Node, scope: Scope) -> None:
        for each in node.get("partspec", {}).get("partParams", ()):
            self.expression(each["PartitionElem"].get("expr"), scope)
        bound = node.get("partbound", {})
        for key in ("listdatums", "lowerdatums", "upperdatums"):
            for each in bound.get(key, ()):
                if "PartitionRangeDatum" not in each and "ColumnRef" not in each:
                    self.expression(each, scope)

    def _table_element(self, element: Node, scope: Scope) -> None:
        ((kind, inner),) = element.items()
        if kind == "ColumnDef":
            self._column_definition(inner, scope)
        elif kind == "Constraint":
            self._constraint(inner, scope)
        elif kind == "TableLikeClause":
            for target in self.relation(inner["relation"]):
                self.touch_relation(target, SELECT)
        else:
            raise unsupported(f"the gateway has no rule for {kind} in a table definition")

    def _column_definition(self, node: Node, scope: Scope) -> None:
        parts = strings(node.get("typeName", {}).get("names", ()))
        if not parts or parts[-1] not in {"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"}:
            self.type_name(node.get("typeName"))
        self.expression(node.get("raw_default"), scope)
        for each in node.get("constraints", ()):
            self._constraint(each["Constraint"], scope)

    def _constraint(self, node: Node, scope: Scope) -> None:
        self.expression(node.get("raw_expr"), scope)
        self.expression(node.get("where_clause"), scope)
        for each in node.get("exclusions", ()):
            for item in each["List"].get("items", ()):
                if "IndexElem" in item:
                    self._index_element(item["IndexElem"], scope, compares=True)
        if "pktable" in node:
            for target in self.find_relation(node["pktable"]):
                self.touch_relation(target, DEFINE)
                for name in strings(node.get("pk_attrs", ())):
                    self._uses(target, name)
                if {node.get("fk_del_action", "a"), node.get("fk_upd_action", "a")} & {"c", "n", "d"}:
                    # Deletes and updates there reach here; the catalogue will say so once it is read again.
                    self.changed(target, opaque=True)
        for name in (*strings(node.get("fk_attrs", ())), *strings(node.get("keys", ()))):
            self._bare(name, scope)

    def _uses(self, target: Target, name: str) -> None:
        if isinstance(target, Relation):
            entry = self.entry(target, "", (), None)
            if entry.columns is not None and name in entry.columns:
                self.use(entry, entry.columns[name], name)

    def _create_sequence(self, node: Node) -> None:
        self.ddl("CREATE SEQUENCE")
        self.make(node["sequence"], None)

    def _create_index(self, node: Node) -> None:
        self.ddl("CREATE INDEX")
        scope = self._over(node["relation"])
        for each in (*node.get("indexParams", ()), *node.get("indexIncludingParams", ())):
            self._index_element(each["IndexElem"], scope, compares="unique" in node)
        self.expression(node.get("whereClause"), scope)
        self._changed(node["relation"])
        if node.get("idxname"):
            self._made_index(node["idxname"], {target.schema for target in self.find_relation(node["relation"])})

    def _made_index(self, name: str, schemas: set[str]) -> None:
        """An index lives where its table does; no snapshot holds it before it is committed, nor one in pg_temp ever."""
        for schema in sorted(schemas):
            made = Made(
                schema=schema, name=name, sort="relation", columns=None, calls=(), classes=(), reads=(), opaque=False
            )
            self.effect("make", made=made)

    def _over(self, range_var: Node) -> Scope:
        """Define something on a relation: its columns are in scope. Afterwards it is `changed`."""
        scope = Scope()
        for target in self.relation(range_var):
            self.touch_relation(target, DEFINE)
            if isinstance(target, Relation):
                self.run_functions(target.calls)
            scope.entries.append(self.entry(target, "", (), None))
        return scope

    def _changed(self, range_var: Node, *, opaque: bool = False) -> None:
        for target in self.find_relation(range_var):
            self.changed(target, opaque=opaque)

    def _index_element(self, node: Node, scope: Scope, *, compares: bool) -> None:
        """`compares`: it fails where two rows hold the same value, and so tells of it."""
        self.expression(node.get("expr"), scope)
        if compares and "name" in node:
            self._bare(node["name"], scope)
        if node.get("opclass"):
            name = ".".join(strings(node["opclass"]))
            self.found.touch("other", f"operator class {name}", Action.DEFINE)

    def _create_statistics(self, node: Node) -> None:
        self.ddl("CREATE STATISTICS")
        for each in node.get("relations", ()):
            if "RangeVar" not in each:
                raise unsupported("statistics over anything but one table are not supported")
            scope = self._over(each["RangeVar"])
            for item in node.get("exprs", ()):
                element = item["StatsElem"]
                self.expression(element.get("expr"), scope)
                if "name" in element:
                    self._bare(element["name"], scope)
            self._changed(each["RangeVar"])

    def _refresh(self, node: Node) -> None:
        self.ddl("REFRESH MATERIALIZED VIEW")
        for target in self.relation(node["relation"]):
            self.touch_relation(target, INSERT)
            if isinstance(target, Relation):
                self.found.unmask.update(self.protected.of_relation.get(target.oid, ()))
                for oid, _ in target.reads:
                    if oid in self.snapshot.relations:
                        self.touch_relation(self.snapshot.relations[oid], SELECT)

    # --- changing and dropping ---

    def _alter_table(self, node: Node) -> None:
        objtype = node.get("objtype", "OBJECT_TABLE")
        self.ddl("ALTER " + objtype.removeprefix("OBJECT_").replace("_", " "))
        targets = self.find_relation(node["relation"])
        if not targets and not node.get("missing_ok"):
            targets = self.relation(node["relation"])
        if not targets:
            name = f"{self.home(node['relation'])}.{node['relation'].get('relname', '')}"
            self.found.touch("relation", name, Action.DEFINE)
            self.found.touch("relation", name, Action.DELETE)
        scope = Scope()
        for target in targets:
            self.touch_relation(target, DEFINE, inherit=node["relation"].get("inh", False))
            if isinstance(target, Relation):
                self.run_functions(target.calls)
            scope.entries.append(self.entry(target, "", (), None))
        for each in node.get("cmds", ()):
            self._alter(each["AlterTableCmd"], targets, scope)
        followed = all(each["AlterTableCmd"]["subtype"] in FOLLOWED for each in node.get("cmds", ()))
        for target in targets:
            self.changed(target, opaque=not followed)

    def _alter(self, command: Node, targets: tuple[Target, ...], scope: Scope) -> None:
        subtype = command["subtype"]
        definition = command.get("def", {})
        if subtype in DESTROYING:
            for target in targets:
                self.touch_relation(target, DELETE)
        if subtype in GUARDS_OFF:
            for target in targets:
                self.touch_relation(target, ADMIN)
        if subtype in {"AT_AlterColumnType", "AT_SetExpression", "AT_SetNotNull"}:
            self._bare(command.get("name", ""), scope)
        self._alter_definition(definition, scope)
        if subtype in {"AT_AddInherit", "AT_DropInherit", "AT_AttachPartition", "AT_DetachPartition"}:
            for target in targets:
                self._joins_family(target, partition=True)

    def _alter_definition(self, definition: Node, scope: Scope) -> None:
        if not definition:
            return
        ((kind, inner),) = definition.items()
        match kind:
            case "ColumnDef" | "Constraint":
                self._table_element(definition, scope)
            case "RangeVar":
                for target in self.relation(inner):
                    self._joins_family(target, partition=True)
                    self.changed(target, opaque=True)
            case "PartitionCmd":
                for target in self.relation(inner["name"]):
                    self._joins_family(target, partition=True)
                    self.changed(target, opaque=True)
                self._partitioning({"partbound": inner.get("bound", {})}, scope)
            case "TypeName":
                self.type_name(inner)
            case "List" | "DefElem" | "String" | "Integer" | "RoleSpec" | "ReplicaIdentityStmt" | "ATAlterConstraint":
                pass
            case "AlterSeqStmt" | "CreateSeqStmt" | "IndexStmt" | "CreateStatsStmt":
                self.found.harmless = False
            case _:
                self.expression(definition, scope)

    def _drop(self, node: Node) -> None:
        what = node["removeType"]
        self.ddl("DROP " + what.removeprefix("OBJECT_").replace("_", " "))
        cascade = node.get("behavior") == "DROP_CASCADE"
        for each in node.get("objects", ()):
            parts = object_name(each)
            if what in RELATIONS:
                self._drop_relation(parts, what, cascade=cascade, missing_ok=node.get("missing_ok", False))
            elif what == "OBJECT_SCHEMA":
                self._drop_schema(parts[-1] if parts else "", cascade=cascade)
            elif what in DROP_ADMINISTRATIVE:
                self.found.touch(
                    "other", f"{what.removeprefix('OBJECT_').lower()} {'.'.join(parts)}", Action.ADMINISTER
                )
                self._drop_part_of_table(what, parts)
            else:
                self._drop_other(what, parts, cascade=cascade)

    def _drop_other(self, what: str, parts: list[str], *, cascade: bool) -> None:
        kind = (
            "function"
            if what in {"OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_AGGREGATE", "OBJECT_ROUTINE"}
            else "other"
        )
        if what in {"OBJECT_TYPE", "OBJECT_DOMAIN"}:
            kind = "type"
        self.found.touch(kind, ".".join(parts), Action.DEFINE)
        if cascade:
            # DROP TYPE, DOMAIN, FUNCTION ... CASCADE takes columns with it; which, only the server knows.
            self.found.touch(kind, ".".join(parts), Action.DELETE)
            self.found.cannot_see("CASCADE drops what depends on it, which may hold data")

    def _drop_part_of_table(self, what: str, parts: list[str]) -> None:
        if what not in {"OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY"} or len(parts) < 2:
            return
        range_var = {"relname": parts[-2], "inh": True} | ({"schemaname": parts[-3]} if len(parts) > 2 else {})
        for target in self.find_relation(range_var):
            self.touch_relation(target, ADMIN)
            self.changed(target, opaque=False)

    def _drop_relation(self, parts: list[str], what: str, *, cascade: bool, missing_ok: bool) -> None:
        range_var: Node = {"relname": parts[-1], "inh": True}
        if len(parts) > 1:
            range_var["schemaname"] = parts[-2]
        targets = self.find_relation(range_var)
        if not targets and not missing_ok and not self.view.fog:
            word = what.removeprefix("OBJECT_").replace("_", " ").lower().replace("matview", "materialized view")
            raise self.missing(f'{word} "{".".join(parts)}" does not exist', "42P01", None)
        if not targets:
            # IF EXISTS: it may exist by the time the statement runs.
            name = f"{self.home(range_var)}.{parts[-1]}"
            self.found.touch("relation", name, Action.DEFINE)
            self.found.touch("relation", name, Action.DELETE)
        for target in targets:
            # It keeps its meaning here: the drop may be rolled back, and what else its name means is known anyhow.
            self._dropped(target, cascade=cascade, seen=set())

    def _dropped(self, target: Target, *, cascade: bool, seen: set[int]) -> None:
        self.touch_relation(target, DEFINE)
        if isinstance(target, Made):
            self.found.touch("relation", f"{target.schema}.{target.name}", Action.DELETE)
            return
        if target.oid in seen:
            return
        seen.add(target.oid)
        if target.kind not in "viI":
            # Not `touch_relation`: dropping fires no triggers and no foreign keys.
            self.found.touch("relation", f"{target.schema}.{target.name}", Action.DELETE)
            if target.oid in self.protected.of_relation:
                self.found.touches_protected = True
            for parent in self.ground.parents.get(target.oid, ()):
                known = self.snapshot.relations[parent]
                self.found.touch("relation", f"{known.schema}.{known.name}", Action.DELETE)
        for oid in target.children if (cascade or target.kind == "p") else ():
            if oid in self.snapshot.relations:
                self._dropped(self.snapshot.relations[oid], cascade=cascade, seen=seen)
        if cascade:
            for oid in self.ground.views_over.get(target.oid, ()):
                self._dropped(self.snapshot.relations[oid], cascade=True, seen=seen)
            for oid in target.referenced_by:
                if oid in self.snapshot.relations:
                    self.touch_relation(self.snapshot.relations[oid], DEFINE)

    def _drop_schema(self, name: str, *, cascade: bool) -> None:
        self.found.touch("schema", name, Action.DEFINE)
        self.found.touch("schema", name, Action.DELETE)
        for oid in self.ground.in_schema.get(name, ()):
            self._dropped(self.snapshot.relations[oid], cascade=cascade, seen=set())
        if cascade:
            self.found.cannot_see("CASCADE drops what depends on it, which may hold data")

    def _drop_database(self, node: Node) -> None:
        self.ddl("DROP DATABASE")
        self.found.touch("database", node.get("dbname", WHOLE), Action.DELETE)
        self.found.touch("database", node.get("dbname", WHOLE), Action.ADMINISTER)

    def _drop_owned(self, _node: Node) -> None:
        self.ddl("DROP OWNED")
        self.found.touch("relation", WHOLE, Action.DELETE)
        self.found.touch("role", WHOLE, Action.ADMINISTER)

    def _truncate(self, node: Node) -> None:
        self.found.names.append("TRUNCATE TABLE")
        self.found.has_where = False
        cascade = node.get("behavior") == "DROP_CASCADE"
        for each in node.get("relations", ()):
            range_var = each["RangeVar"]
            for target in self.relation(range_var):
                self._truncated(target, cascade=cascade, inherit=range_var.get("inh", False), seen=set())

    def _truncated(self, target: Target, *, cascade: bool, inherit: bool, seen: set[int]) -> None:
        self.touch_relation(target, TRUNCATE, inherit=inherit)
        if isinstance(target, Made) or target.oid in seen:
            return
        seen.add(target.oid)
        members = [target]
        members += (
            [self.snapshot.relations[c] for c in target.children if c in self.snapshot.relations] if inherit else []
        )
        for member in members:
            for oid in member.referenced_by if cascade else ():
                if oid in self.snapshot.relations:
                    self._truncated(self.snapshot.relations[oid], cascade=True, inherit=True, seen=seen)
            if member is not target:
                self._truncated(member, cascade=cascade, inherit=True, seen=seen)


def object_name(node: Node) -> list[str]:
    """The parts of the name of what a statement is about, in whichever node the grammar put it."""
    if not node:
        return []
    ((kind, inner),) = node.items()
    match kind:
        case "List":
            return strings(inner.get("items", ()))
        case "String":
            return [inner.get("sval", "")]
        case "ObjectWithArgs":
            return strings(inner.get("objname", ()))
        case "TypeName":
            return strings(inner.get("names", ()))
        case _:
            return []
