"""What a target says of itself, as one immutable snapshot: the ground on which statements are resolved.

Read by `ostiary.catalogue` over a side connection; used by `ostiary.protocols.postgres` to tell what a statement
really touches. OIDs below 16384 are PostgreSQL's own (`FirstNormalObjectId`, src/include/access/transam.h).
"""

from __future__ import annotations

from typing import Final

import msgspec

LONGEST_RULE: Final = 64 << 10
"""Characters of a view's rule that are kept; of a larger one it is not known which column shows what."""
FIRST_NORMAL_OID: Final = 16384


class Column(msgspec.Struct, frozen=True):
    """One column: pg_attribute."""

    name: str
    number: int
    type_oid: int
    made_of: tuple[int, ...] = ()
    """Of a generated column: the columns that it is computed from."""


class Guard(msgspec.Struct, frozen=True):
    """A rule about values of a relation, which a change may break: the error then tells of values that are there."""

    kind: str
    """`u`: no two rows are alike in these columns (unique indexes, exclusion constraints); `c`: a check; `f`: a foreign key."""
    columns: tuple[int, ...]
    """That it is about. 0: the whole row."""
    other: int
    """Of a foreign key: the relation in which the values must be; else 0."""
    other_columns: tuple[int, ...]
    cascades: bool
    """Of a foreign key: deleting what it refers to deletes its rows."""


class Relation(msgspec.Struct, frozen=True, kw_only=True):
    """A table, view, materialised view, sequence, foreign table, index or partition: pg_class."""

    oid: int
    schema: str
    name: str
    kind: str
    """pg_class.relkind."""
    columns: tuple[Column, ...]
    reads: tuple[tuple[int, tuple[int, ...]], ...]
    """Of a view: (relation oid, column numbers it depends on; empty: the whole)."""
    calls: tuple[int, ...]
    """Functions not built in that touching it may run: view bodies, triggers, defaults, checks, policies, indexes."""
    read_calls: tuple[int, ...]
    """Those of `calls` that reading alone may run: view bodies, row security, types of columns."""
    built_in_calls: tuple[int, ...]
    """PostgreSQL's own functions that touching it runs: in the same places."""
    built_in_read_calls: tuple[int, ...]
    """Those of them that reading alone runs."""
    children: tuple[int, ...]
    """Partitions and inheriting tables: oids."""
    delete_cascades: tuple[int, ...]
    """Tables whose rows change when rows here are deleted (ON DELETE CASCADE, SET NULL, SET DEFAULT)."""
    update_cascades: tuple[int, ...]
    guards: tuple[Guard, ...]
    """Rules that a change of its rows may break."""
    referenced_by: tuple[int, ...]
    """Tables with a foreign key to this one: TRUNCATE ... CASCADE empties them."""
    rules: bool
    """It has rewrite rules apart from a view's own SELECT rule."""
    rule: str = ""
    """Of a view: its SELECT rule as PostgreSQL keeps it (pg_rewrite.ev_action), unless that is PostgreSQL's own or very long."""


class Function(msgspec.Struct, frozen=True):
    """A function, procedure, aggregate or window function: pg_proc."""

    oid: int
    schema: str
    name: str
    arguments: tuple[int, ...]
    """Input argument types: OIDs."""
    result: int
    volatility: str
    """pg_proc.provolatile: `i`, `s` or `v`."""
    kind: str
    """pg_proc.prokind: `f p a w`."""
    language: str = "internal"
    """pg_language.lanname."""
    body: str = ""
    """Its source, of functions that are not PostgreSQL's own and no machine code. Of an SQL function, SQL statements."""
    settings: tuple[str, ...] = ()
    """`name=value` that hold while it runs: pg_proc.proconfig."""
    names: tuple[str, ...] = ()
    """Of its parameters, of all sorts, where they have any: pg_proc.proargnames."""
    runs: tuple[int, ...] = ()
    """All that an aggregate of somebody's own is made of, that defaults of parameters call, and what a function in `internal` is another name of."""


class Operator(msgspec.Struct, frozen=True):
    """An operator: pg_operator."""

    oid: int
    schema: str
    name: str
    left: int
    right: int
    function: int


class Type(msgspec.Struct, frozen=True):
    """A type: pg_type, with what using it may run."""

    oid: int
    schema: str
    name: str
    kind: str
    """pg_type.typtype: `b c d e p r m`."""
    element: int
    base: int
    """Of a domain: the type under it."""
    relation: int
    """Of a row type: its pg_class oid."""
    calls: tuple[int, ...]
    """Functions not built in that input, output, casts or domain checks may run."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The whole catalogue of one database at one moment."""

    version: int
    """Grows by one with every change; facts made under another version are not used. Two snapshots of one version say the same."""
    database: str
    server_version: int
    """server_version_num: 150018."""
    role: str
    """The role the gateway logs in as: `current_user`."""
    superuser: bool
    search_path: tuple[str, ...]
    """Of a new session of that role, resolved (`$user`), without the implicit pg_catalog."""
    writable_schemas: frozenset[str]
    """Schemas apart from `public` in which that role may create, for the search_path rule."""
    relations: dict[int, Relation]
    relation_oids: dict[tuple[str, str], int]
    """(schema, name) to oid."""
    functions: dict[int, Function]
    functions_named: dict[tuple[str, str], tuple[int, ...]]
    operators_named: dict[str, tuple[Operator, ...]]
    types: dict[int, Type]
    type_oids: dict[tuple[str, str], int]
    user_casts: dict[tuple[int, int], int]
    """(source type, target type) to function, of casts not built in; 0: by way of the types' own functions."""
    implicit_casts: frozenset[tuple[int, int]]
    """Those of `user_casts` that PostgreSQL applies by itself in expressions."""


NO_CATALOGUE: Final = Snapshot(
    version=0, database="", server_version=0, role="", superuser=False, search_path=(), writable_schemas=frozenset(),
    relations={}, relation_oids={}, functions={}, functions_named={}, operators_named={}, types={}, type_oids={},
    user_casts={}, implicit_casts=frozenset(),
)  # fmt: skip
"""What a target that has none says of itself."""
