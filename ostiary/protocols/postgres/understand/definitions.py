"""DDL: what defines, what destroys, and what is an administrator's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from ostiary.model.catalogue import Function, Relation
from ostiary.model.operations import Action, Facts
from ostiary.protocols.postgres.grammar import Node
from ostiary.protocols.postgres.understand.bodies import TRIGGERS
from ostiary.protocols.postgres.understand.findings import Finding
from ostiary.protocols.postgres.understand.ground import READABLE, WHOLE
from ostiary.protocols.postgres.understand.names import (
    ADMIN,
    DEFINE,
    UPDATE,
    Target,
    strings,
)
from ostiary.protocols.postgres.understand.scopes import Entry, Scope
from ostiary.protocols.postgres.understand.settings import READING
from ostiary.protocols.postgres.understand.tables import RELATIONS, Tables, object_name
from ostiary.protocols.postgres.understand.view import Made

ADMINISTRATIVE: Final = {
    "GrantRoleStmt": "role", "AlterDefaultPrivilegesStmt": "other", "CreateRoleStmt": "role",
    "AlterRoleStmt": "role", "DropRoleStmt": "role", "ReassignOwnedStmt": "role", "CreatePublicationStmt": "other",
    "AlterPublicationStmt": "other", "CreateSubscriptionStmt": "other", "AlterSubscriptionStmt": "other",
    "DropSubscriptionStmt": "other", "CreateFdwStmt": "server", "AlterFdwStmt": "server",
    "CreateForeignServerStmt": "server", "AlterForeignServerStmt": "server", "CreateUserMappingStmt": "server",
    "AlterUserMappingStmt": "server", "DropUserMappingStmt": "server", "ImportForeignSchemaStmt": "server",
    "CreateExtensionStmt": "extension", "AlterExtensionStmt": "extension", "AlterExtensionContentsStmt": "extension",
    "CreatePLangStmt": "other", "CreateEventTrigStmt": "other", "AlterEventTrigStmt": "other", "SecLabelStmt": "other",
    "CreatePolicyStmt": "other", "AlterPolicyStmt": "other", "CreateTableSpaceStmt": "other",
    "DropTableSpaceStmt": "other", "AlterTableSpaceOptionsStmt": "other", "AlterTableMoveAllStmt": "other",
    "CreateAmStmt": "other", "CreatedbStmt": "database", "AlterDatabaseStmt": "database",
    "AlterDatabaseRefreshCollStmt": "database", "CheckPointStmt": "database", "ClusterStmt": "database",
    "ReindexStmt": "database", "LoadStmt": "file", "CreateConversionStmt": "other", "CreateTransformStmt": "other",
    "AlterOwnerStmt": "other", "ReplicaIdentityStmt": "relation", "CreateCastStmt": "type",
    "CreateOpClassStmt": "type", "CreateOpFamilyStmt": "type", "AlterOpFamilyStmt": "type",
}  # fmt: skip
"""Statements that are an administrator's as a whole, and the kind of what they are about."""

BY_ADDRESS: Final = frozenset({"c", "internal"})
"""Languages in which a function is machine code, which may do anything."""

_SCHEMA_ORDER: Final = {
    kind: at
    for at, kind in enumerate(("CreateSeqStmt", "CreateStmt", "ViewStmt", "IndexStmt", "CreateTrigStmt", "GrantStmt"))
}
"""Elements of CREATE SCHEMA."""

PLAIN: Final = {
    "AlterCollationStmt": "other", "AlterEnumStmt": "type", "AlterTypeStmt": "type",
    "AlterFunctionStmt": "function", "AlterOperatorStmt": "other", "AlterObjectDependsStmt": "other",
    "AlterSeqStmt": "relation",
    "AlterStatsStmt": "other", "AlterTSDictionaryStmt": "other", "AlterTSConfigurationStmt": "other",
    "CreateEnumStmt": "type", "CreateRangeStmt": "type", "CompositeTypeStmt": "type",
}  # fmt: skip
"""Statements that define something, and no more."""

Rule = Callable[[Any, Node], None]


def tag(kind: str) -> str:
    """A statement's name in PostgreSQL's words: `DropStmt` is refined by its rule, the rest reads well enough."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.removesuffix("Stmt"))
    return words.upper()


class Definitions(Tables):
    """Walks all other DDL."""

    @staticmethod
    def rules() -> dict[str, Rule]:
        """Node type to rule."""
        table: dict[str, Rule] = {kind: _administrative(kind, about) for kind, about in ADMINISTRATIVE.items()}
        table |= {kind: _plain(kind, about) for kind, about in PLAIN.items()}
        table |= {
            "CreateStmt": Definitions._create_table,
            "CreateForeignTableStmt": Definitions._create_foreign_table,
            "CreateTableAsStmt": Definitions._create_table_as,
            "ViewStmt": Definitions._create_view,
            "RefreshMatViewStmt": Definitions._refresh,
            "AlterTableStmt": Definitions._alter_table,
            "DropStmt": Definitions._drop,
            "DropdbStmt": Definitions._drop_database,
            "DropOwnedStmt": Definitions._drop_owned,
            "TruncateStmt": Definitions._truncate,
            "IndexStmt": Definitions._create_index,
            "CreateStatsStmt": Definitions._create_statistics,
            "CreateFunctionStmt": Definitions._create_function,
            "CreateTrigStmt": Definitions._create_trigger,
            "RuleStmt": Definitions._create_rule,
            "CreateDomainStmt": Definitions._create_domain,
            "DefineStmt": Definitions._define,
            "CreateSeqStmt": Definitions._create_sequence,
            "CreateSchemaStmt": Definitions._create_schema,
            "RenameStmt": Definitions._rename,
            "AlterObjectSchemaStmt": Definitions._move,
            "CommentStmt": Definitions._comment,
            "AlterDomainStmt": Definitions._alter_domain,
            "GrantStmt": Definitions._grant,
        }
        return table

    # --- naming and remarks ---

    def _rename(self, node: Node) -> None:
        what = node["renameType"].removeprefix("OBJECT_")
        self.ddl("ALTER " + what.replace("_", " ") + " RENAME")
        new = node.get("newname", "")
        if "relation" in node:
            whole = what not in {"COLUMN", "ATTRIBUTE", "TABCONSTRAINT", "TRIGGER", "RULE", "POLICY"}
            for target in self.find_relation(node["relation"]) or self._absent(node):
                self._renamed(target, target.schema, new if whole else target.name)
            if what in {"TRIGGER", "RULE", "POLICY"}:
                self.found.touch("other", f"{what.lower()} {node.get('subname', '')}", Action.ADMINISTER)
            return
        if what == "SCHEMA":
            schema = node.get("subname", "")
            self.found.touch("schema", schema, Action.DEFINE)
            self.found.touch("schema", new, Action.DEFINE)
            for oid in self.ground.in_schema.get(schema, ()):
                self._renamed(self.snapshot.relations[oid], new, self.snapshot.relations[oid].name)
        elif what in {"ROLE", "DATABASE", "TABLESPACE"}:
            self.found.touch("role" if what == "ROLE" else "database", node.get("subname", ""), Action.ADMINISTER)
        else:
            self.found.touch("other", f"{what.lower()} {'.'.join(object_name(node.get('object', {})))}", Action.DEFINE)
        # The new name means something that the snapshot knows under another.
        self.effect("fog")

    def _renamed(self, target: Target, schema: str, name: str) -> None:
        """What the operator protected is known by its name, so a new name needs the right to see it in clear."""
        self.touch_relation(target, DEFINE)
        self.changed(target, opaque=True)
        if isinstance(target, Relation):
            self.found.unmask.update(self.protected.of_relation.get(target.oid, ()))
        if (schema, name) != (target.schema, target.name):
            known = self.protected.of_relation.get(target.oid, ()) if isinstance(target, Relation) else target.classes
            self.make({"schemaname": schema, "relname": name}, None, classes=tuple(sorted(known)))
            self.effect("fog")

    def _absent(self, node: Node) -> tuple[Target, ...]:
        return () if node.get("missing_ok") else self.relation(node["relation"])

    def _move(self, node: Node) -> None:
        """ALTER ... SET SCHEMA."""
        what = node["objectType"].removeprefix("OBJECT_")
        self.ddl("ALTER " + what.replace("_", " ") + " SET SCHEMA")
        if "relation" in node:
            for target in self.find_relation(node["relation"]) or self._absent(node):
                self._renamed(target, node.get("newschema", ""), target.name)
            return
        self.found.touch("other", f"{what.lower()} {'.'.join(object_name(node.get('object', {})))}", Action.DEFINE)
        self.found.touch("schema", node.get("newschema", ""), Action.DEFINE)
        self.effect("fog")

    def _comment(self, node: Node) -> None:
        what = node["objtype"]
        self.ddl("COMMENT")
        parts = object_name(node.get("object", {}))
        inner = what in {"OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY"}
        if inner:
            parts = parts[:-1]
        if (inner or what in RELATIONS) and parts:
            for target in self.find_relation(dict(zip(("relname", "schemaname"), reversed(parts), strict=False))):
                self.touch_relation(target, DEFINE)
                return
        self.found.touch("other", f"{what.removeprefix('OBJECT_').lower()} {'.'.join(parts)}", Action.DEFINE)

    def _alter_domain(self, node: Node) -> None:
        self.ddl("ALTER DOMAIN")
        parts = strings(node.get("typeName", ()))
        scope = Scope()
        scope.entries.append(Entry("", None, None, None, None))
        definition = node.get("def", {})
        if "Constraint" in definition:
            self._constraint(definition["Constraint"], scope)
        else:
            self.expression(definition, scope)
        self.found.touch("type", self._made_name(parts, "type", opaque=True), Action.DEFINE)

    def _grant(self, node: Node) -> None:
        self.ddl("GRANT" if node.get("is_grant") else "REVOKE")
        self.found.touch("other", WHOLE, Action.ADMINISTER)
        for each in node.get("objects", ()):
            if "RangeVar" in each:
                for target in self.find_relation(each["RangeVar"]):
                    self.touch_relation(target, ADMIN)

    # --- code and types ---

    def _made_name(
        self, parts: list[str], sort: str, *, calls: tuple[str, ...] = (), reads: tuple[Facts, ...] = (), opaque: bool = False
    ) -> str:
        schema = parts[-2] if len(parts) > 1 else self.home({})
        made = Made(
            schema=schema, name=parts[-1], sort=sort, columns=None, calls=calls, classes=(), reads=reads, opaque=opaque
        )
        self.effect("make", made=made)
        return f"{schema}.{parts[-1]}"

    def _create_function(self, node: Node) -> None:
        self.ddl("CREATE PROCEDURE" if node.get("is_procedure") else "CREATE FUNCTION")
        scope = Scope()
        scope.entries.append(Entry("", None, None, None, None))
        for each in node.get("parameters", ()):
            parameter = each["FunctionParameter"]
            self.type_name(parameter.get("argType"))
            self.expression(parameter.get("defexpr"), scope)
        if _language(node) in BY_ADDRESS:
            self._shell_type(node.get("returnType"))
        self.type_name(node.get("returnType"))
        name = self._made_name(strings(node["funcname"]), "function", reads=self._said(node))
        self.found.touch("function", name, Action.DEFINE)
        self._body(node.get("sql_body"), scope)
        for each in node.get("options", ()):
            option = each["DefElem"]
            if option["defname"] in {"security", "set"}:
                self.found.touch("function", name, Action.ADMINISTER)
            elif option["defname"] == "as" and self.protected.tells(_language(node), "\n".join(object_name(option["arg"]))):
                # What it reads it may store or send, whoever calls it.
                self.found.unmask.update(self.protected.classes)
        if _language(node) in BY_ADDRESS:
            self.found.touch("function", name, Action.ADMINISTER)

    def _said(self, node: Node) -> tuple[Facts, ...]:
        """What the statements of a new function do: whoever calls it before the catalogue is read again does that."""
        options = {each["DefElem"]["defname"]: each["DefElem"].get("arg", {}) for each in node.get("options", ())}
        body = "\n".join(object_name(options.get("as", {})))
        if "sql_body" in node or _language(node) not in READABLE or not body:
            return ()
        names = tuple(each["FunctionParameter"].get("name", "") for each in node.get("parameters", ()))
        returned = (strings(node.get("returnType", {}).get("names", ())) or [""])[-1]
        result = next((oid for oid, name in TRIGGERS.items() if name == returned), 0)
        made = strings(node["funcname"])
        # Whatever is set of these, the text is read in another way.
        sets = [each["DefElem"]["arg"].get("VariableSetStmt", {}) for each in node.get("options", ()) if each["DefElem"]["defname"] == "set"]
        settings = tuple(f"{each['name'].lower()}=" for each in sets if each.get("name", "").lower() in READING)
        schema = made[-2] if len(made) > 1 else self.home({})
        function = Function(0, schema, made[-1], (), result, "v", "f", _language(node), body, settings, names)
        outer, touched = self.found, self._touched
        self.found, self._touched = Finding(), set()
        try:
            self.read_body(function, f"function {function.schema}.{function.name}")
            return (self.found.facts(""),) if self.found.resources else ()
        finally:
            self.found, self._touched = outer, touched

    def _shell_type(self, node: Node | None) -> None:
        """A type that is not there yet is made, to be filled in later (CREATE FUNCTION, "rettype")."""
        parts = strings((node or {}).get("names", ()))
        if parts and self.find_type(parts) is None:
            self.found.touch("type", self._made_name(parts, "type"), Action.DEFINE)

    def _body(self, node: Node | None, scope: Scope) -> None:
        """BEGIN ATOMIC ... END: judged as if its statements ran, so that nobody defines what they may not do."""
        if not node:
            return
        ((kind, inner),) = node.items()
        if kind == "List":
            for each in inner.get("items", ()):
                self._body(each, scope)
        elif kind == "ReturnStmt":
            self.expression(inner.get("returnval"), scope)
        elif kind in {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}:
            self.query(node, scope)
            self.write(self.every)
        else:
            self.statement(kind, inner)

    def _create_trigger(self, node: Node) -> None:
        self.ddl("CREATE TRIGGER")
        scope = self._over(node["relation"])
        for name in ("old", "new"):
            scope.entries += [
                Entry(name, None, e.relation, e.columns, None, hidden=True) for e in scope.entries if not e.hidden
            ]
        self.expression(node.get("whenClause"), scope)
        self._call(strings(node["funcname"]), [])
        for target in self.find_relation(node["relation"]):
            if isinstance(target, Relation):
                # The function is given whole rows, and built-in ones copy columns or tell whether they changed.
                self.found.unmask.update(self.protected.of_relation.get(target.oid, ()))
        self._changed(node["relation"])

    def _create_rule(self, node: Node) -> None:
        self.ddl("CREATE RULE")
        for target in self.relation(node["relation"]):
            self.touch_relation(target, ADMIN)
        scope = self._over(node["relation"])
        for name in ("old", "new"):
            scope.entries += [
                Entry(name, None, e.relation, e.columns, None, hidden=True) for e in scope.entries if not e.hidden
            ]
        self.expression(node.get("whereClause"), scope)
        for each in node.get("actions", ()):
            ((kind, inner),) = each.items()
            if kind == "NotifyStmt":
                self.found.touch("channel", inner["conditionname"], Action.WRITE)
            else:
                self.query(each, scope)
        self._changed(node["relation"], opaque=True)

    def _create_domain(self, node: Node) -> None:
        self.ddl("CREATE DOMAIN")
        scope = Scope()
        scope.entries.append(Entry("", None, None, None, None))
        self.type_name(node.get("typeName"))
        for each in node.get("constraints", ()):
            self._constraint(each["Constraint"], scope)
        calls = tuple(k[1] for k in self.found.resources if k[0] == "function" and k[2] is Action.EXECUTE)
        self.found.touch("type", self._made_name(strings(node["domainname"]), "type", calls=calls), Action.DEFINE)

    def _define(self, node: Node) -> None:
        what = node["kind"].removeprefix("OBJECT_")
        self.ddl("CREATE " + what.replace("_", " "))
        parts = strings(node.get("defnames", ()))
        if what == "OPERATOR":
            calls = tuple(
                ".".join(object_name(d["DefElem"].get("arg", {})))
                for d in node.get("definition", ())
                if d["DefElem"]["defname"] in {"function", "procedure"}
            )
            name = self._made_name(parts, "operator", calls=calls)
            self.found.touch("other", f"operator {name}", Action.DEFINE)
        elif what == "AGGREGATE":
            calls = tuple(
                ".".join(object_name(d["DefElem"].get("arg", {})))
                for d in node.get("definition", ())
                if d["DefElem"]["defname"].endswith("func")
            )
            self.found.touch("function", self._made_name(parts, "function", calls=calls), Action.DEFINE)
        elif what == "TYPE":
            self.found.touch("type", self._made_name(parts, "type", opaque=True), Action.DEFINE)
        else:
            self.found.touch("other", f"{what.lower()} {'.'.join(parts)}", Action.DEFINE)

    def _create_schema(self, node: Node) -> None:
        self.ddl("CREATE SCHEMA")
        self.found.touch("schema", node.get("schemaname", WHOLE), Action.DEFINE)
        if "authrole" in node:
            self.found.touch("role", WHOLE, Action.ADMINISTER)
        elements = [next(iter(each.items())) for each in node.get("schemaElts", ())]
        path = self.path
        # The server runs them in this order, with the new schema in front of the search_path.
        self._set_path((node.get("schemaname", ""), *path))
        for kind, inner in sorted(elements, key=lambda each: _SCHEMA_ORDER.get(each[0], len(_SCHEMA_ORDER))):
            for key in ("relation", "view", "sequence"):
                if key in inner and "schemaname" not in inner[key]:
                    inner[key]["schemaname"] = node.get("schemaname", "")
            self.statement(kind, inner)
        self._set_path(path)


def _administrative(kind: str, about: str) -> Rule:
    def rule(self: Definitions, node: Node) -> None:
        self.ddl(tag(kind))
        self.found.touch(about, _subject(node), Action.ADMINISTER)
        if kind == "CreateCastStmt":
            self.effect("fog")

    return rule


def _plain(kind: str, about: str) -> Rule:
    def rule(self: Definitions, node: Node) -> None:
        self.ddl(tag(kind))
        range_var = node.get("relation") or node.get("sequence")
        targets = self.find_relation(range_var) if range_var else ()
        for target in targets:
            self.touch_relation(target, DEFINE)
            self.changed(target, opaque=False)
        if not targets:
            self.found.touch(about, _subject(node), Action.DEFINE)
        if about == "type":
            parts = strings(node.get("typeName", ())) or [node.get("typevar", {}).get("relname", "")]
            altered = kind.startswith("Alter")
            self._made_name(parts, "type", opaque=altered or kind == "CreateRangeStmt")
            if kind == "CreateRangeStmt":
                self._made_name(_multirange(parts, node), "type", opaque=True)

    return rule


def _multirange(parts: list[str], node: Node) -> list[str]:
    """The name of the multirange type that comes with a range: as it is said, else as `makeMultirangeTypeName` makes it."""
    for each in node.get("params", ()):
        if each["DefElem"]["defname"] == "multirange_type_name":
            return strings(each["DefElem"].get("arg", {}).get("TypeName", {}).get("names", ()))
    name = parts[-1]
    made = name.replace("range", "multirange", 1) if "range" in name else name + "_multirange"
    return [*parts[:-1], made.encode()[:63].decode(errors="ignore")]


def _language(node: Node) -> str:
    """The language of CREATE FUNCTION, in small letters. Said twice, the server refuses it."""
    said = [each["DefElem"] for each in node.get("options", ())]
    names = [each.get("arg", {}).get("String", {}).get("sval", "") for each in said if each["defname"] == "language"]
    return names[-1].lower() if names else "sql"


def _subject(node: Node) -> str:
    """The name of what a statement is about, as far as it has one in plain sight. Never a value of an option."""
    for key in ("role", "servername", "extname", "pubname", "subname", "dbname", "plname", "trigname", "policy_name",
                "tablespacename", "fdwname"):  # fmt: skip
        value = node.get(key)
        if isinstance(value, str):
            return value
    for key in ("typeName", "funcname", "objname", "domainname"):
        value = node.get(key)
        if isinstance(value, list):
            return ".".join(strings(value))
    return WHOLE


__all__ = ["UPDATE", "Definitions", "tag"]
