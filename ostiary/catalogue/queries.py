"""What is asked of a database's catalogue. PostgreSQL 13 to 18.

A query with a scope is a function: it is handed a condition for the column that names the object its rows belong to, which
is `true` where everything is read.
"""

# ruff: noqa: S608 -- what is put into these queries is constants, and oids that the target itself gave

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ostiary.model.catalogue import FIRST_NORMAL_OID, LONGEST_RULE

BUCKETS: Final = 1024
"""Objects are stamped in so many groups, by oid. More: less to read after a change; fewer: a shorter stamp."""
SYSTEM: Final = -1
"""The group of PostgreSQL's own objects."""

Within = Callable[[str], str]
"""The name of a column that holds an oid, to a condition on it."""

SESSION: Final = """
select current_database() as database, current_setting('server_version_num')::int as version, current_user::text as role,
       (select rolsuper from pg_catalog.pg_roles where rolname = current_user) as superuser,
       to_json(pg_catalog.current_schemas(false)::text[]) as path
"""
SCHEMAS: Final = """
select oid, nspname::text as name, has_schema_privilege(oid, 'CREATE') as writable from pg_namespace
where nspname !~ '^pg_(toast_)?temp_' order by oid
"""

MOMENT: Final = """
select case when pg_is_in_recovery() then '' else pg_current_snapshot()::text end as moment
"""
"""What was over when the transaction began to read: while that is the same, nothing was committed. A standby does not say it all."""

# --- stamps -----------------------------------------------------------------------------------------------------------


def _bucket(column: str) -> str:
    return f"case when {column} < {FIRST_NORMAL_OID} then {SYSTEM} else {column}::int8 % {BUCKETS} end"


_STAMPED: Final = (
    # section, table, the object that a row belongs to, which rows
    ("relation", "pg_class", "oid", "true"),
    ("relation", "pg_attribute", "attrelid", "attnum > 0"),
    ("relation", "pg_rewrite", "ev_class", "true"),
    ("relation", "pg_trigger", "tgrelid", "true"),
    ("relation", "pg_constraint", "conrelid", "conrelid <> 0"),
    ("relation", "pg_constraint", "confrelid", "confrelid <> 0"),
    ("relation", "pg_attrdef", "adrelid", "true"),
    ("relation", "pg_policy", "polrelid", "true"),
    ("relation", "pg_index", "indrelid", "true"),
    ("relation", "pg_inherits", "inhrelid", "true"),
    ("relation", "pg_inherits", "inhparent", "true"),
    ("function", "pg_proc", "oid", "true"),
    ("type", "pg_type", "oid", "true"),
    ("type", "pg_range", "rngtypid", "true"),
    ("type", "pg_constraint", "contypid", "contypid <> 0"),
    ("rest", "pg_operator", "0::oid", "true"),
    ("rest", "pg_cast", "0::oid", "true"),
    ("rest", "pg_opclass", "0::oid", "true"),
    ("rest", "pg_amproc", "0::oid", "true"),
)
STAMPS: Final = (
    "select section, string_agg(bucket || ':' || stamp, ' ') as stamps from (select section, bucket, sum(s)::text as stamp from ("
    + " union all ".join(
        # A row that is changed gets another place, and a new xmin.
        f"select '{section}' as section, {_bucket(owner)} as bucket, "
        f"hashtextextended(xmin::text || ctid::text, {number}) as s from pg_catalog.{table} where {which}"
        for number, (section, table, owner, which) in enumerate(_STAMPED)
    )
    + ") rows group by section, bucket) buckets group by section"
)
"""For each section, and in it for each bucket, a number that differs when a row of it does. What pg_depend says changes with these."""

# --- operators, casts and what stands behind types: read whole --------------------------------------------------------

OPERATORS: Final = """
select oid, oprnamespace as schema, oprname::text as name, oprleft as left, oprright as right, oprcode::oid as function
from pg_operator order by oid
"""
CASTS: Final = f"""
select castsource as source, casttarget as target, castfunc as function, castcontext::text as context from pg_cast
where oid >= {FIRST_NORMAL_OID}
"""
SUPPORT: Final = f"""
select p.amproclefttype as type, p.amproc::oid as function
from pg_opclass c
join pg_amproc p on p.amprocfamily = c.opcfamily and p.amproclefttype = c.opcintype
where c.opcdefault and p.amproc::oid >= {FIRST_NORMAL_OID}
"""
CLASS_SUPPORT: Final = f"""
select c.oid as class, p.amproc::oid as function from pg_opclass c join pg_amproc p on p.amprocfamily = c.opcfamily
where c.oid >= {FIRST_NORMAL_OID} and p.amproc::oid >= {FIRST_NORMAL_OID}
"""
REST: Final = {"operators": OPERATORS, "casts": CASTS, "support": SUPPORT, "class_support": CLASS_SUPPORT}

# --- functions and types ----------------------------------------------------------------------------------------------


def functions(within: Within) -> str:
    """Functions, procedures and aggregates. An SQL-standard body is shown by its definition alone (PostgreSQL 14 and newer).

    One in the language `internal` is another name of one of PostgreSQL's own, which it runs.
    """
    return f"""
select p.oid, p.pronamespace as schema, p.proname::text as name, p.proargtypes::oid[] as arguments, p.prorettype as result,
       p.provolatile::text as volatility, p.prokind::text as kind, l.lanname::text as language,
       case when p.oid < {FIRST_NORMAL_OID} or l.lanname in ('c', 'internal') then ''
            when p.prosrc = '' and p.prokind in ('f', 'p') then pg_get_functiondef(p.oid) else p.prosrc end as body,
       to_json(coalesce(p.proconfig, '{{}}'::text[])) as settings,
       to_json(case when l.lanname = 'plpgsql' then coalesce(p.proargnames, '{{}}'::text[]) else '{{}}'::text[] end) as names,
       array(select f from unnest(array[a.aggtransfn::oid, a.aggfinalfn::oid, a.aggcombinefn::oid, a.aggserialfn::oid,
             a.aggdeserialfn::oid, a.aggmtransfn::oid, a.aggminvtransfn::oid, a.aggmfinalfn::oid]) f
             where f <> 0 and p.oid >= {FIRST_NORMAL_OID})
       || case when p.pronargdefaults > 0 then array(select distinct found[1]::oid from regexp_matches(p.proargdefaults::text,
             ':(?:funcid|opfuncid) (\\d+)', 'g') found where found[1]::oid <> 0) end
       || case when l.lanname = 'internal' and p.prokind = 'f' and p.oid >= {FIRST_NORMAL_OID} then array(select own.oid from pg_proc own
             where own.oid < {FIRST_NORMAL_OID} and own.prosrc = p.prosrc and own.prolang = p.prolang) end as runs
from pg_proc p join pg_language l on l.oid = p.prolang left join pg_aggregate a on a.aggfnoid = p.oid where {within("p.oid")}
"""


def types(within: Within) -> str:
    """Types, and the functions not built in that using them runs."""
    return f"""
select t.oid, t.typnamespace as schema, t.typname::text as name, t.typtype::text as kind,
       case when t.typcategory = 'A' then t.typelem else 0 end as element, t.typbasetype as base, t.typrelid as relation,
       array(select f from unnest(array[t.typinput::oid, t.typoutput::oid, t.typreceive::oid, t.typsend::oid,
             t.typmodin::oid, t.typmodout::oid, t.typanalyze::oid, r.rngsubdiff::oid, r.rngcanonical::oid]) f
             where f >= {FIRST_NORMAL_OID}) as calls,
       coalesce(r.rngsubtype, 0) as subtype
from pg_type t left join pg_range r on r.rngtypid = t.oid where {within("t.oid")}
"""


def domains(within: Within) -> str:
    """What checks of domains depend on."""
    return f"""
select c.contypid as type, d.refclassid::regclass::text as class, d.refobjid as object
from pg_constraint c join pg_depend d on d.classid = 'pg_constraint'::regclass and d.objid = c.oid
where c.contypid <> 0 and d.refobjid >= {FIRST_NORMAL_OID} and {within("c.contypid")}
  and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass)
"""


# --- relations --------------------------------------------------------------------------------------------------------


def relations(within: Within) -> str:
    """Tables, views, indexes and what else is in pg_class. Those of sessions are left out: they know their own."""
    return f"""
select oid, relnamespace as schema, relname::text as name, relkind::text as kind from pg_class
where relpersistence <> 't' and {within("oid")}
"""


def columns(within: Within) -> str:
    """Columns, in order."""
    return f"""
select a.attrelid as relation, a.attname::text as name, a.attnum as number, a.atttypid as type
from pg_attribute a join pg_class c on c.oid = a.attrelid
where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'v', 'm', 'f', 'p', 'c', 't') and c.relpersistence <> 't'
  and {within("a.attrelid")}
order by a.attrelid, a.attnum
"""


def generated(within: Within) -> str:
    """Generated columns, and the columns that each is computed from. Version 14 and older note that of the column, newer ones of its default."""
    return f"""
select distinct a.attrelid as relation, a.attnum as number, d.refobjsubid as base
from pg_attribute a left join pg_attrdef f on f.adrelid = a.attrelid and f.adnum = a.attnum
join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid > 0 and d.refobjsubid <> a.attnum
  and ((d.classid = 'pg_attrdef'::regclass and d.objid = f.oid) or
       (d.classid = 'pg_class'::regclass and d.objid = a.attrelid and d.objsubid = a.attnum))
where a.attgenerated <> '' and not a.attisdropped and {within("a.attrelid")}
order by 1, 2, 3
"""


def views(within: Within) -> str:
    """What views read, as pg_depend has it: relations that are not PostgreSQL's own, with columns."""
    return f"""
select r.ev_class as view, d.refobjid as relation, d.refobjsubid as number
from pg_rewrite r
join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
where r.ev_type = '1' and d.refobjid <> r.ev_class and d.deptype = 'n' and {within("r.ev_class")}
"""


def system_reads(within: Within) -> str:
    """What views read of PostgreSQL's own relations: dependencies on these are not in pg_depend, so out of the parsed rule."""
    return f"""
select distinct r.ev_class as view, found[1]::oid as relation, 0 as number
from pg_rewrite r, regexp_matches(r.ev_action::text, ':relid (\\d+)', 'g') found
where r.ev_type = '1' and r.ev_class >= {FIRST_NORMAL_OID} and found[1]::oid <> r.ev_class
  and found[1]::oid between 1 and {FIRST_NORMAL_OID - 1} and {within("r.ev_class")}
"""


def view_rules(within: Within) -> str:
    """What views are, as PostgreSQL keeps it: read as it stands, since pg_get_viewdef would lock what they read."""
    return f"""
select ev_class as view, ev_action::text as rule from pg_rewrite
where ev_type = '1' and ev_class >= {FIRST_NORMAL_OID} and length(ev_action::text) <= {LONGEST_RULE} and {within("ev_class")}
"""


def built_in_calls(within: Within) -> str:
    """Functions of PostgreSQL's own that touching a relation runs, out of parsed expressions, for the same reason.

    `reading`: reading it does, not only writing it.
    """
    return f"""
select distinct relation, reading, found[1]::oid as function from (
    select ev_class as relation, true as reading, ev_action::text as parsed from pg_rewrite where {within("ev_class")}
    union all select adrelid, false, adbin::text from pg_attrdef where {within("adrelid")}
    union all select conrelid, false, conbin::text from pg_constraint where conbin is not null and {within("conrelid")}
    union all select polrelid, true, polqual::text from pg_policy where {within("polrelid")}
    union all select polrelid, false, polwithcheck::text from pg_policy where {within("polrelid")}
    union all select tgrelid, false, tgqual::text from pg_trigger where tgqual is not null and {within("tgrelid")}
) each, regexp_matches(parsed, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\\d+)', 'g') found
where relation >= {FIRST_NORMAL_OID} and found[1]::oid between 1 and {FIRST_NORMAL_OID - 1}
"""


def rules(within: Within) -> str:
    """Relations with rules that somebody made."""
    return f"select distinct ev_class as relation from pg_rewrite where ev_type <> '1' and {within('ev_class')}"


def triggers(within: Within) -> str:
    """Functions not built in that are triggers."""
    return f"""
select tgrelid as relation, tgfoid as function from pg_trigger where tgfoid >= {FIRST_NORMAL_OID} and {within("tgrelid")}
"""


def inherits(within: Within) -> str:
    """Partitions and children, in order."""
    return f"""
select inhparent as parent, inhrelid as child from pg_inherits where {within("inhparent")} order by inhparent, inhseqno
"""


def foreign_keys(within: Within) -> str:
    """Keys, by the relation that they refer to."""
    return f"""
select conrelid as referencing, confrelid as referenced, confdeltype::text as on_delete, confupdtype::text as on_update
from pg_constraint where contype = 'f' and {within("confrelid")}
"""


def guards(within: Within) -> str:
    """What a change may break: unique indexes and exclusion constraints, with the columns of their expressions; checks; foreign keys."""
    return f"""
select i.indrelid as relation, 'u' as kind, 0::oid as other, '{{}}'::int2[] as other_columns, false as cascades, array(
    select distinct n from (
        select unnest(i.indkey::int2[])::int as n union all
        select d.refobjsubid from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
           and d.refclassid = 'pg_class'::regclass and d.refobjid = i.indrelid
    ) named where n > 0) as columns
from pg_index i where (i.indisunique or i.indisexclusion) and i.indrelid >= {FIRST_NORMAL_OID} and {within("i.indrelid")}
union all
select conrelid, contype::text, confrelid, coalesce(confkey, '{{}}'), confdeltype = 'c', coalesce(conkey, '{{}}')::int[]
from pg_constraint where contype in ('c', 'f') and conrelid <> 0 and {within("conrelid")}
"""


def dependencies(within: Within) -> str:
    """Functions, operators and operator classes not built in that a relation depends on: bodies, defaults, checks, policies, indexes."""
    return f"""
with parts(class, object, relation, reading) as (
    select 'pg_rewrite'::regclass, oid, ev_class, ev_type = '1' from pg_rewrite where {within("ev_class")}
    union all select 'pg_attrdef'::regclass, oid, adrelid, false from pg_attrdef where {within("adrelid")}
    union all select 'pg_constraint'::regclass, oid, conrelid, false from pg_constraint where conrelid <> 0 and {within("conrelid")}
    union all select 'pg_policy'::regclass, oid, polrelid, true from pg_policy where {within("polrelid")}
    union all select 'pg_trigger'::regclass, oid, tgrelid, false from pg_trigger where {within("tgrelid")}
    union all select 'pg_class'::regclass, indexrelid, indrelid, true from pg_index where {within("indrelid")}
    union all select 'pg_class'::regclass, oid, oid, true from pg_class where relkind in ('p', 'r', 'f') and {within("oid")}
)
select p.relation, p.reading, d.refclassid::regclass::text as class, d.refobjid as object
from parts p join pg_depend d on d.classid = p.class and d.objid = p.object
where d.refobjid >= {FIRST_NORMAL_OID}
  and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass)
"""


TYPES: Final = {"types": types, "domains": domains}
ABOUT_RELATIONS: Final = {
    "columns": columns,
    "views": views,
    "system_reads": system_reads,
    "view_rules": view_rules,
    "generated": generated,
    "built_in_calls": built_in_calls,
    "rules": rules,
    "triggers": triggers,
    "inherits": inherits,
    "foreign_keys": foreign_keys,
    "guards": guards,
    "dependencies": dependencies,
}


def everything(_column: str) -> str:
    """No condition."""
    return "true"


def of(oids: list[int]) -> Within:
    """Rows of these objects."""
    listed = "'{" + ",".join(map(str, oids)) + "}'::oid[]"
    return lambda column: f"{column} = any({listed})"


def in_buckets(buckets: set[int]) -> Within:
    """Rows of the objects in these buckets."""
    listed = "'{" + ",".join(map(str, sorted(buckets))) + "}'::int8[]"
    return lambda column: f"({column} >= {FIRST_NORMAL_OID} and {column}::int8 % {BUCKETS} = any({listed}))"
