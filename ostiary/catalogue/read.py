"""Reads a database's catalogue over one side connection into a `Snapshot`. PostgreSQL 13 to 18.

Theory of operation
-------------------
All queries run in one REPEATABLE READ READ ONLY transaction with an empty search_path, so that the snapshot is of one
moment and no name in them can be hijacked. The work is a dozen scans of system catalogues; what belongs together is put
together here, not in SQL. System objects (OIDs below 16384) are in as well: statements name them, and their volatility
counts.

What is not seen: dependencies on system objects are not recorded in pg_depend, so a view that somebody made over
pg_authid reads nothing here. Temporary objects belong to sessions, which know their own
(`protocols/postgres/understand/view.py`).
"""

# ruff: noqa: S608 -- the only thing put into these queries is a constant of PostgreSQL

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, Protocol

from ostiary.model.catalogue import FIRST_NORMAL_OID, Column, Function, Operator, Relation, Snapshot, Type

SESSION: Final = """
select current_database() as database, current_setting('server_version_num')::int as version, current_user::text as role,
       (select rolsuper from pg_catalog.pg_roles where rolname = current_user) as superuser,
       to_json(pg_catalog.current_schemas(false)::text[]) as path
"""
SCHEMAS: Final = """
select oid, nspname::text as name, has_schema_privilege(oid, 'CREATE') as writable from pg_namespace
where nspname !~ '^pg_(toast_)?temp_'
"""
RELATIONS: Final = """
select oid, relnamespace as schema, relname::text as name, relkind::text as kind from pg_class where relpersistence <> 't'
"""
COLUMNS: Final = """
select a.attrelid as relation, a.attname::text as name, a.attnum as number, a.atttypid as type
from pg_attribute a join pg_class c on c.oid = a.attrelid
where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'v', 'm', 'f', 'p', 'c', 't') and c.relpersistence <> 't'
order by a.attrelid, a.attnum
"""
FUNCTIONS: Final = """
select oid, pronamespace as schema, proname::text as name, proargtypes::oid[] as arguments, prorettype as result,
       provolatile::text as volatility, prokind::text as kind
from pg_proc
"""
OPERATORS: Final = """
select oid, oprnamespace as schema, oprname::text as name, oprleft as left, oprright as right, oprcode::oid as function
from pg_operator
"""
TYPES: Final = f"""
select t.oid, t.typnamespace as schema, t.typname::text as name, t.typtype::text as kind,
       case when t.typcategory = 'A' then t.typelem else 0 end as element, t.typbasetype as base, t.typrelid as relation,
       array(select f from unnest(array[t.typinput::oid, t.typoutput::oid, t.typreceive::oid, t.typsend::oid,
             t.typmodin::oid, t.typmodout::oid, t.typanalyze::oid, r.rngsubdiff::oid, r.rngcanonical::oid]) f
             where f >= {FIRST_NORMAL_OID}) as calls,
       coalesce(r.rngsubtype, 0) as subtype
from pg_type t left join pg_range r on r.rngtypid = t.oid
"""
SUPPORT: Final = f"""
select p.amproclefttype as type, p.amproc::oid as function
from pg_opclass c
join pg_amproc p on p.amprocfamily = c.opcfamily and p.amproclefttype = c.opcintype
where c.opcdefault and p.amproc::oid >= {FIRST_NORMAL_OID}
"""
CASTS: Final = f"""
select castsource as source, casttarget as target, castfunc as function, castcontext::text as context from pg_cast
where oid >= {FIRST_NORMAL_OID}
"""
INHERITS: Final = "select inhparent as parent, inhrelid as child from pg_inherits order by inhparent, inhseqno"
FOREIGN_KEYS: Final = """
select conrelid as referencing, confrelid as referenced, confdeltype::text as on_delete, confupdtype::text as on_update
from pg_constraint where contype = 'f'
"""
VIEWS: Final = """
select r.ev_class as view, d.refobjid as relation, d.refobjsubid as number
from pg_rewrite r
join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
where r.ev_type = '1' and d.refobjid <> r.ev_class and d.deptype = 'n'
"""
RULES: Final = "select distinct ev_class as relation from pg_rewrite where ev_type <> '1'"
TRIGGERS: Final = f"""
select tgrelid as relation, tgfoid as function from pg_trigger where tgfoid >= {FIRST_NORMAL_OID}
"""
DEPENDENCIES: Final = f"""
with parts(class, object, relation, reading) as (
    select 'pg_rewrite'::regclass, oid, ev_class, ev_type = '1' from pg_rewrite
    union all select 'pg_attrdef'::regclass, oid, adrelid, false from pg_attrdef
    union all select 'pg_constraint'::regclass, oid, conrelid, false from pg_constraint where conrelid <> 0
    union all select 'pg_policy'::regclass, oid, polrelid, true from pg_policy
    union all select 'pg_trigger'::regclass, oid, tgrelid, false from pg_trigger
    union all select 'pg_class'::regclass, indexrelid, indrelid, true from pg_index
    union all select 'pg_class'::regclass, oid, oid, true from pg_class where relkind in ('p', 'r', 'f')
)
select p.relation, p.reading, d.refclassid::regclass::text as class, d.refobjid as object
from parts p join pg_depend d on d.classid = p.class and d.objid = p.object
where d.refobjid >= {FIRST_NORMAL_OID}
  and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass)
"""
DOMAINS: Final = f"""
select c.contypid as type, d.refclassid::regclass::text as class, d.refobjid as object
from pg_constraint c join pg_depend d on d.classid = 'pg_constraint'::regclass and d.objid = c.oid
where c.contypid <> 0 and d.refobjid >= {FIRST_NORMAL_OID}
  and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass)
"""
CLASS_SUPPORT: Final = f"""
select c.oid as class, p.amproc::oid as function from pg_opclass c join pg_amproc p on p.amprocfamily = c.opcfamily
where c.oid >= {FIRST_NORMAL_OID} and p.amproc::oid >= {FIRST_NORMAL_OID}
"""
NEVER_WRITABLE: Final = frozenset({"public", "pg_catalog", "information_schema", "pg_toast"})

Rows = list[Any]
Calls = dict[int, set[int]]


STAMPED: Final = (
    "pg_class", "pg_attribute", "pg_proc", "pg_type", "pg_operator", "pg_cast", "pg_rewrite", "pg_trigger", "pg_constraint",
    "pg_attrdef", "pg_policy", "pg_inherits", "pg_namespace", "pg_opclass", "pg_amproc", "pg_index", "pg_range",
)  # fmt: skip
STAMP: Final = (
    "select sum(s) as stamp, sum(n) as rows from ("
    + " union all ".join(
        # A row that is changed gets another place, and a new xmin.
        f"select sum(hashtextextended(xmin::text || ctid::text, {number})::numeric) as s, count(*) as n from pg_catalog.{table}"
        for number, table in enumerate(STAMPED)
    )
    + ") parts"
)
"""One number that differs when any catalogue does that a snapshot is made of."""


class Link(Protocol):
    """A connection of the gateway's own to a target (`ostiary.driver.side`)."""

    @property
    def is_closed(self) -> bool:
        """Whether it can be used no more."""
        ...

    async def fetch(self, sql: str) -> list[dict[str, Any]]:
        """Run one statement; its rows."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


async def read_stamp(link: Link) -> object:
    """Read what tells whether the catalogue changed."""
    (row,) = await link.fetch(STAMP)
    (session,) = await link.fetch(SESSION)
    return tuple(row.values()), tuple(tuple(v) if isinstance(v, list) else v for v in session.values())


async def read_snapshot(link: Link, version: int) -> Snapshot:
    """Read the whole catalogue through an open connection."""
    await link.fetch("begin isolation level repeatable read read only")
    try:
        (session,) = await link.fetch(SESSION)
        await link.fetch("set local search_path = pg_catalog")
        rows = {name: await link.fetch(query) for name, query in QUERIES.items()}
    finally:
        await link.fetch("rollback")
    return _Reading(rows).snapshot(session, version)


QUERIES: Final = {
    "schemas": SCHEMAS,
    "relations": RELATIONS,
    "columns": COLUMNS,
    "functions": FUNCTIONS,
    "operators": OPERATORS,
    "types": TYPES,
    "support": SUPPORT,
    "casts": CASTS,
    "inherits": INHERITS,
    "foreign_keys": FOREIGN_KEYS,
    "views": VIEWS,
    "rules": RULES,
    "triggers": TRIGGERS,
    "dependencies": DEPENDENCIES,
    "domains": DOMAINS,
    "class_support": CLASS_SUPPORT,
}


class _Reading:
    """Puts rows together."""

    def __init__(self, rows: dict[str, Rows]) -> None:
        self._rows = rows
        self._schemas: dict[int, str] = {r["oid"]: r["name"] for r in rows["schemas"]}
        self._operator_functions: dict[int, int] = {r["oid"]: r["function"] for r in rows["operators"]}
        self._class_functions: Calls = _grouped((r["class"], r["function"]) for r in rows["class_support"])

    def snapshot(self, session: Any, version: int) -> Snapshot:
        functions = self._functions()
        relations = self._relations()
        types = self._types()
        operators: dict[str, list[Operator]] = defaultdict(list)
        for r in self._rows["operators"]:
            schema = self._schemas.get(r["schema"], "")
            operators[r["name"]].append(Operator(r["oid"], schema, r["name"], r["left"], r["right"], r["function"]))
        named: dict[tuple[str, str], list[int]] = defaultdict(list)
        for f in functions.values():
            named[f.schema, f.name].append(f.oid)
        casts = self._rows["casts"]
        return Snapshot(
            version=version,
            database=session["database"],
            server_version=session["version"],
            role=session["role"],
            superuser=session["superuser"],
            search_path=tuple(session["path"]),
            writable_schemas=frozenset(
                r["name"] for r in self._rows["schemas"] if r["writable"] and r["name"] not in NEVER_WRITABLE
            ),
            relations=relations,
            relation_oids={(r.schema, r.name): r.oid for r in relations.values()},
            functions=functions,
            functions_named={key: tuple(oids) for key, oids in named.items()},
            operators_named={name: tuple(each) for name, each in operators.items()},
            types=types,
            type_oids={(t.schema, t.name): t.oid for t in types.values()},
            user_casts={(r["source"], r["target"]): r["function"] for r in casts},
            implicit_casts=frozenset((r["source"], r["target"]) for r in casts if r["context"] == "i"),
        )

    def _functions(self) -> dict[int, Function]:
        return {
            r["oid"]: Function(
                r["oid"], self._schemas[r["schema"]], r["name"], tuple(r["arguments"]), r["result"], r["volatility"],
                r["kind"],
            )
            for r in self._rows["functions"]
            if r["schema"] in self._schemas
        }  # fmt: skip

    def _behind(self, row: Any) -> Iterable[int]:
        """The functions that depending on an object can run."""
        match row["class"]:
            case "pg_proc":
                return (row["object"],)
            case "pg_operator":
                return (self._operator_functions.get(row["object"], row["object"]),)
            case _:
                return self._class_functions.get(row["object"], ())

    def _types(self) -> dict[int, Type]:
        calls: Calls = _grouped((r["type"], r["function"]) for r in self._rows["support"])
        for row in self._rows["domains"]:
            calls[row["type"]].update(self._behind(row))
        for row in self._rows["types"]:
            calls[row["oid"]].update(row["calls"])
        types = {}
        for r in self._rows["types"]:
            if r["schema"] not in self._schemas:
                continue
            own = calls[r["oid"]] | calls.get(r["subtype"], set())
            types[r["oid"]] = Type(
                r["oid"], self._schemas[r["schema"]], r["name"], r["kind"], r["element"], r["base"], r["relation"],
                tuple(sorted(own)),
            )  # fmt: skip
        return types

    def _relations(self) -> dict[int, Relation]:
        rows = self._rows
        columns: dict[int, list[Column]] = defaultdict(list)
        for r in rows["columns"]:
            columns[r["relation"]].append(Column(r["name"], r["number"], r["type"]))
        reads: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        for r in rows["views"]:
            reads[r["view"]][r["relation"]].add(r["number"])
        calls: Calls = _grouped((r["relation"], r["function"]) for r in rows["triggers"])
        read_calls: Calls = defaultdict(set)
        for r in rows["dependencies"]:
            calls[r["relation"]].update(self._behind(r))
            if r["reading"]:
                read_calls[r["relation"]].update(self._behind(r))
        children = _listed((r["parent"], r["child"]) for r in rows["inherits"])
        keys = rows["foreign_keys"]
        deletes = _listed((r["referenced"], r["referencing"]) for r in keys if r["on_delete"] in "cnd")
        updates = _listed((r["referenced"], r["referencing"]) for r in keys if r["on_update"] in "cnd")
        referenced = _listed((r["referenced"], r["referencing"]) for r in keys)
        rules = {r["relation"] for r in rows["rules"]}
        return {
            oid: Relation(
                oid=oid,
                schema=self._schemas[r["schema"]],
                name=r["name"],
                kind=r["kind"],
                columns=tuple(columns.get(oid, ())),
                reads=tuple((base, () if 0 in n else tuple(sorted(n))) for base, n in reads.get(oid, {}).items()),
                calls=tuple(sorted(calls.get(oid, ()))),
                read_calls=tuple(sorted(read_calls.get(oid, ()))),
                children=children.get(oid, ()),
                delete_cascades=deletes.get(oid, ()),
                update_cascades=updates.get(oid, ()),
                referenced_by=referenced.get(oid, ()),
                rules=oid in rules,
            )
            for r in rows["relations"]
            if r["schema"] in self._schemas
            for oid in (r["oid"],)
        }


def _grouped(pairs: Iterable[tuple[int, int]]) -> Calls:
    grouped: Calls = defaultdict(set)
    for key, value in pairs:
        grouped[key].add(value)
    return grouped


def _listed(pairs: Iterable[tuple[int, int]]) -> dict[int, tuple[int, ...]]:
    listed: dict[int, dict[int, None]] = defaultdict(dict)
    for key, value in pairs:
        listed[key][value] = None
    return {key: tuple(values) for key, values in listed.items()}
