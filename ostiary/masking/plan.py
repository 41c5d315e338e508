"""How the columns of a result are masked: made once for each description, used for every batch.

Which columns hold a protected value is known twice over: by the table OID and column number that the target says of a plain
column, and by the lineage that the judge of the statement made (`Shown`), never by a label: an alias changes a label. Both
hold; where it cannot be told how many columns there are, any that the target names no table of may be protected.

What is protected takes its strategy if its type is text, and becomes NULL if not: a star is no integer. What was computed
with a protected value becomes NULL whatever it is. What is not protected is looked at by the detectors if its type can hold
what they find.

What the types of a result can hold, by OID (src/include/catalog/pg_type.dat; OIDs of built-in types never change):

* nothing (`_PLAIN`): booleans, integers of up to 32 bits, floating point, dates and times, UUIDs, network addresses,
  geometry, bit strings, and arrays of these. These pass. (A double prints card numbers as `4.111111111111111e+15`.)
* text (`_TEXT`): the bytes are the text in both formats, and matches are starred in place.
* int8, numeric: a number that is a card number by range, length and check digit becomes NULL. About one in twenty-five
  random 16-digit keys that begin with 4 to 6 is such a number: leave `card` out where keys look like that.
* anything else: in text format matches are starred in place, which may leave a text that is no value of the type (an
  enum, say), but never a broken array or row; in binary format a match makes the value NULL.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import structs

from ostiary.kernel.substitutes import HASH, NUMBERS, PARTIAL, TOKEN, Substitute
from ostiary.kernel.values import BPCHAR, BYTEA, INT8, JSON, JSONB, LITERAL, NUMBER, NUMERIC, OPAQUE, TEXT
from ostiary.masking.detectors import wanted
from ostiary.model.connections import Look, Strategy
from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.model.operations import Shown
from ostiary.model.proofs import RowPlan, Treatment
from ostiary.model.results import ColumnDescription, CopyPlan

Protection = Mapping[tuple[int, int], tuple[str, Strategy]]
"""(table OID, column number) to the column's data class and strategy."""

_BPCHAR_OID: Final = 1042
_JSON_OID: Final = 114
_JSONB_OID: Final = 3802
_INT8_OID: Final = 20
_NUMERIC_OID: Final = 1700
_BYTEA_OID: Final = 17

# text varchar name unknown cstring
_TEXT: Final = frozenset({25, 1043, 19, 705, 2275})

# xml refcursor: text in both formats, but no place for a strategy's stars
_LITERAL: Final = frozenset({142, 1790})

# int8[] numeric[] int8range numrange and their multiranges: a star in them is no number
_NUMBERS: Final = frozenset({1016, 1231, 3926, 3906, 4536, 4532})

_PLAIN: Final = frozenset(
    {
        16, 18, 21, 22, 23, 26, 27, 28, 29, 30,  # bool "char" int2 int2vector int4 oid tid xid cid oidvector
        600, 601, 602, 603, 604, 628, 718,  # geometry
        650, 774, 829, 869,  # cidr macaddr8 macaddr inet
        700, 701, 790,  # float4 float8 money
        1082, 1083, 1114, 1184, 1186, 1266,  # date time timestamp timestamptz interval timetz
        1560, 1562, 2950, 2278, 3220, 5069,  # bit varbit uuid void pg_lsn xid8
        1000, 1005, 1007, 1021, 1022, 1028,  # bool[] int2[] int4[] float4[] float8[] oid[]
        1115, 1182, 1183, 1185, 1187, 1270, 2951,  # timestamp[] date[] time[] timestamptz[] interval[] timetz[] uuid[]
        3904, 3908, 3910, 3912,  # int4range tsrange tstzrange daterange
    }
)  # fmt: skip

_TREATMENTS: Final = {
    Strategy.REDACT: Treatment.REDACT,
    Strategy.LAST4: Treatment.LAST4,
    Strategy.NULL: Treatment.NULL,
    Strategy.PARTIAL: Treatment.SUBSTITUTE,
    Strategy.HASH: Treatment.SUBSTITUTE,
    Strategy.TOKEN: Treatment.SUBSTITUTE,
}
_MADE: Final = {Strategy.HASH: HASH, Strategy.TOKEN: TOKEN, Strategy.PARTIAL: PARTIAL}


class Means(msgspec.Struct, frozen=True):
    """What masks are made with on one connection."""

    key: bytes = b""
    """Of hashes and tokens. Without one, what should be hashed becomes NULL."""
    ends: Mapping[str, tuple[int, int]] = {}
    """Data class to how many characters `partial` leaves at the beginning and at the end."""


NO_MEANS: Final = Means()
JOIN: Final = "+"
"""Between the names of several data classes of one column. No name of a class holds it."""
_TEXTUAL: Final = frozenset({TEXT, BPCHAR, JSON, JSONB})


def plan_rows(
    columns: tuple[ColumnDescription, ...],
    protected: Protection,
    clear: frozenset[str],
    detect: Look,
    formats: tuple[int, ...],
    shown: Shown | None = None,
    means: Means = NO_MEANS,
) -> RowPlan:
    """Plan the rows of one result.

    `clear` holds the data classes that the reader may see (and detectors that do not run for them); `detect` the
    connection's detectors. `formats` are the result formats that Bind asked for: none (all text), one for all, or one a
    column (PostgreSQL 18, 54.7 `Bind`); any other number raises PeerMisbehaved, since no target sends such rows. `shown` is the
    lineage of the statement's result; None: nothing in it hangs on anything protected but plain columns.
    """
    count = len(columns)
    if len(formats) > 1 and len(formats) != count:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "result formats")
    each = (formats * count)[:count] if len(formats) == 1 else formats or (0,) * count
    if any(form not in (0, 1) for form in each):
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "result format")
    bits = wanted(detect, clear)
    treatments = bytearray()
    families = bytearray()
    substitutes: list[Substitute | None] = []
    classes: list[str | None] = []
    for at, (column, form) in enumerate(zip(columns, each, strict=True)):
        kind = family(column.type_oid, form)
        treatment = Treatment.SCAN if bits and column.type_oid not in _PLAIN else Treatment.KEEP
        of, strategy = _protection(column, at, count, protected, shown)
        hidden = tuple(name for name in of if name not in clear)
        if of:
            # In clear is in clear: the detectors do not take back what policy grants by name.
            treatment = _treatment(strategy, kind, column.type_oid, means) if hidden else Treatment.KEEP
        substitutes.append(
            _substitute(strategy, kind, column.type_oid, form, hidden[0], means)
            if treatment is Treatment.SUBSTITUTE
            else None
        )
        treatments.append(treatment)
        families.append(kind)
        classes.append(JOIN.join(hidden or of) or None)
    active = any(treatments)
    made = tuple(substitutes) if any(substitutes) else ()
    return RowPlan(bytes(treatments), tuple(classes), active, bytes(families), made)


def _protection(
    column: ColumnDescription, at: int, count: int, protected: Protection, shown: Shown | None
) -> tuple[tuple[str, ...], Strategy]:
    """Data classes of one column, and how it is masked."""
    known = protected.get((column.table_oid, column.column)) if column.table_oid else None
    own = () if known is None else tuple(known[0].split(JOIN))
    strategy = Strategy.NULL if known is None else known[1]
    if shown is None:
        return own, strategy
    if shown.columns is None or len(shown.columns) != count:
        # A column that the target names the table of is that table's own: nothing else is known of any other.
        return (own, strategy) if column.table_oid else (shown.every, Strategy.NULL)
    origin = shown.columns[at]
    if not own or own == origin.classes:
        return origin.classes, origin.strategy if known is None else strategy
    return tuple(sorted({*own, *origin.classes})), strategy if not origin.classes else Strategy.NULL


def plan_copy(
    columns: tuple[ColumnDescription, ...],
    protected: Protection,
    clear: frozenset[str],
    detect: Look,
    copy: CopyPlan | None,
    shown: Shown | None = None,
    means: Means = NO_MEANS,
) -> RowPlan:
    """Plan the rows of COPY ... TO STDOUT: `columns` in the order in which they are copied; `copy` None: binary format.

    Columns whose type nobody knows have type OID 0.
    """
    plan = plan_rows(columns, protected, clear, detect, (1 if copy is None else 0,), shown, means)
    if copy is not None:
        copy = structs.replace(copy, names=tuple(column.name for column in columns))
    return structs.replace(plan, copy=copy)


def family(type_oid: int, form: int) -> int:
    """How the bytes of a column of this type are to be read in this format (0 text, 1 binary)."""
    if type_oid in _TEXT:
        return TEXT
    if type_oid == _BPCHAR_OID:
        return BPCHAR
    if type_oid == _JSON_OID:
        return JSON
    if type_oid in _LITERAL:
        return LITERAL
    if form == 1:
        return {_JSONB_OID: JSONB, _INT8_OID: INT8, _NUMERIC_OID: NUMERIC}.get(type_oid, OPAQUE)
    if type_oid in _NUMBERS:
        return NUMBER
    return {_JSONB_OID: JSON, _INT8_OID: NUMBER, _NUMERIC_OID: NUMBER, _BYTEA_OID: BYTEA}.get(type_oid, LITERAL)


def _treatment(strategy: Strategy, kind: int, type_oid: int, means: Means) -> Treatment:
    treatment = _TREATMENTS[strategy]
    if treatment is not Treatment.SUBSTITUTE:
        return treatment if kind in _TEXTUAL else Treatment.NULL
    if strategy is Strategy.PARTIAL:
        if kind in {JSON, JSONB}:
            return Treatment.REDACT
        return treatment if kind in _TEXTUAL else Treatment.NULL
    return treatment if means.key and (kind in _TEXTUAL or type_oid in NUMBERS) else Treatment.NULL


def _substitute(strategy: Strategy, kind: int, type_oid: int, form: int, data_class: str, means: Means) -> Substitute:
    key = hmac.digest(means.key, data_class.encode(), "sha256")
    first, last = means.ends.get(data_class, (0, 0))
    number = type_oid if type_oid in NUMBERS else 0
    return Substitute(_MADE[strategy], key, kind, number, form == 1, first, last)


def text_substitute(strategy: Strategy, data_class: str, means: Means) -> Substitute | None:
    """What makes the masks of a text that is in no column; None: the strategy needs none, or has no key, and nothing is left."""
    if _treatment(strategy, TEXT, 0, means) is not Treatment.SUBSTITUTE:
        return None
    return _substitute(strategy, TEXT, 0, 0, data_class, means)


class Planner:
    """The two plans, with one connection's means."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def plan_rows(
        self,
        columns: tuple[ColumnDescription, ...],
        protected: Protection,
        clear: frozenset[str],
        detect: Look,
        formats: tuple[int, ...],
        shown: Shown | None = None,
    ) -> RowPlan:
        """See `plan_rows`."""
        return plan_rows(columns, protected, clear, detect, formats, shown, self._means)

    def plan_copy(
        self,
        columns: tuple[ColumnDescription, ...],
        protected: Protection,
        clear: frozenset[str],
        detect: Look,
        copy: CopyPlan | None,
        shown: Shown | None = None,
    ) -> RowPlan:
        """See `plan_copy`."""
        return plan_copy(columns, protected, clear, detect, copy, shown, self._means)
