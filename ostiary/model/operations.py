"""What a caller asks for, in policy's words, with the very bytes that asked.

`Facts` say what a statement does; they are interned by the statement cache, so a repeated statement costs a dictionary
look-up. An `Operation` is one asking: facts, the message's bytes and the parameters.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Final

import msgspec

from ostiary.model.connections import Strategy
from ostiary.model.nouns import number, same, shown

MAX_HEAD: Final = 512
"""Bytes of normalised statement that may stand in a log entry: `audit-log.md`, "Entry"."""


class Action(enum.StrEnum):
    """The closed set of things that can be asked, in every protocol."""

    CONNECT = "connect"
    """Open a session, and what belongs to having one: transaction control, harmless settings, EXPLAIN-free SHOW."""
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    DEFINE = "define"
    ADMINISTER = "administer"
    EXECUTE = "execute"
    TRANSFER = "transfer"
    OPAQUE = "opaque"
    """What cannot be seen through; policy must permit it by name."""
    UNMASK = "unmask"
    """See values of a data class in clear, store them or pass them on. Asked of policy, never by a client."""
    INFER = "infer"
    """Let values of a data class decide which rows come, or in which order. Asked of policy, never by a client."""


_READING: Final = frozenset({Action.CONNECT, Action.READ})


class Resource(msgspec.Struct, frozen=True):
    """One thing that an operation touches, and how."""

    kind: str
    """One of `ostiary.policy.entities.KINDS`: `connection`; `relation column function …` of a database; `path` of an HTTP
    service; `arn` of AWS; `other`."""
    name: str
    """As policy writes it: `public.orders`, `pg_catalog.lower(text)`, `search_path`, `/orders/17`; the connection's name for
    itself."""
    action: Action
    columns: tuple[str, ...]
    """Columns read or written, sorted; `*` when it cannot be told which."""
    classes: tuple[str, ...]
    """Data classes of protected columns among them, sorted."""


class Objection(msgspec.Struct, frozen=True):
    """The statement cannot be judged, or may never run here, whatever policy says."""

    reason: Unjudgeable
    message: str
    """For the caller. Must hold no protected value; may quote what the caller typed."""
    hint: str
    code: str
    """The protocol's own: SQLSTATE, an HTTP status."""
    position: int | None
    """1-based character position of the fault in the statement, as PostgreSQL counts."""


class Unjudgeable(enum.Enum):
    """Why a statement is refused before policy is asked. The log stores these names; never reuse one."""

    UNPARSABLE = "the statement does not parse"
    OVERSIZE = "the statement is larger than can be judged"
    TOO_COMPLEX = "the statement is nested too deeply, or has too many tokens, to be judged"
    BAD_TEXT = "the statement's bytes are not valid text"
    UNKNOWN_OBJECT = "the statement names something that the target's catalogue does not hold"
    UNSUPPORTED = "the statement uses something that the gateway cannot judge"
    UNSAFE_SETTING = "the statement changes how statements are read"
    NOT_REWRITTEN = "policy demands that the statement be rewritten, and that cannot be done"


class Origin(msgspec.Struct, frozen=True):
    """One column of a result, and what its values hang on."""

    name: str
    type_oid: int
    """0: not known."""
    classes: tuple[str, ...]
    """Data classes of the protected columns among it, sorted; empty: nothing protected."""
    strategy: Strategy
    """How it is masked: as its column is while it is that column's own value, else `null`."""


class Shown(msgspec.Struct, frozen=True):
    """The lineage of what one statement shows."""

    columns: tuple[Origin, ...] | None
    """None: it cannot be told how many columns there are, or in which order. Then any may hang on `every`."""
    every: tuple[str, ...]


Arguments = tuple[tuple[str, tuple[str, ...]], ...]
"""(name, values) sorted by name."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What one unit of work (a statement, or a whole simple-query string) would do."""

    action: Action
    """The gravest of the resources' actions, for people; policy looks at every resource."""
    name: str
    """In the protocol's own words: `SELECT`, `DROP TABLE`; of several statements joined with `; `."""
    resources: tuple[Resource, ...]
    has_where: bool
    """False when some UPDATE or DELETE of it has no WHERE (or none is there at all to need one: True)."""
    functions: tuple[str, ...]
    opaque: tuple[str, ...]
    """What could not be seen through, one phrase each."""
    unmask: tuple[str, ...]
    """Data classes whose protected columns it puts where nobody masks them: only with `unmask` may it run."""
    harmless: bool
    """Proven free of effects: only reads, and every function, operator and type built in and not volatile."""
    touches_protected: bool
    """It reads or writes a relation with protected columns: its errors lose DETAIL, HINT, CONTEXT and internal query."""
    head: str
    """The normalised statement without literals, at most MAX_HEAD bytes of UTF-8."""
    objection: Objection | None
    invalidates_catalogue: bool
    """It is DDL: once it ran, the catalogue snapshot is stale."""
    digest: bytes
    """SHA-256 over all that policy can see: see `facts_digest`."""
    meaning: bytes = b""
    """The same but for whether a transaction is open, which an approval is not bound to: it may be given inside one and used outside. Empty: it
    is `digest`."""
    infer: tuple[str, ...] = ()
    """Data classes on whose protected columns it hangs which rows come, in which order, or whether it fails: inference."""
    shown: tuple[Shown | None, ...] = ()
    """Of each statement, the lineage of its result; None: nothing protected in it. Empty: in none of them."""
    counts_changes: bool = False
    """It is one plain change of one relation, and the target will tell how many rows it changed."""
    arguments: Arguments = ()
    """What was passed by name, for policies that look at it: query parameters, parameters of an API call, shell words. Names and
    values that policy may see and the log may hold, so never what is protected. Part of `digest`."""
    rows: int | None = None
    """The most rows that one statement of it can return, as far as its text says so; None: there is no bound."""
    gathers: int | None = 1
    """The most rows of which values stand together in one row of it (`json_agg`), as far as its text says so; None: there is no bound."""
    filtered: tuple[tuple[str, str], ...] = ()
    """Relations whose rows it sees through one condition only, each with that condition's digest, sorted."""
    reached: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Relations and functions (`relation public.orders`) that it does not just name, each with what its text names to reach them,
    sorted: the view over a relation, the table with a trigger; itself, where it is named too."""
    session: tuple[str, ...] = ()
    """What of the session's state may give the statement another meaning or effect than in a new session, sorted: `search_path=a,b`, `role=x`,
    `temporary objects`, `unseen work`, `transaction`, `isolation=serializable`, `datestyle=sql`, …. Part of `digest`."""
    lifts: tuple[str, ...] = ()
    """What a session may be held to that it lifts (`read_only`, `timeout`), sorted. What is opaque may lift anything."""


def is_reading(facts: Facts) -> bool:
    """Whether an operation changes nothing that outlasts the session. Data in bulk (COPY TO) is read, if nothing else is done to it."""
    return all(
        resource.action in _READING or (resource.action is Action.TRANSFER and resource.kind == "connection")
        for resource in facts.resources
    )


def facts_digest(action: Action, name: str, resources: tuple[Resource, ...], rest: tuple[object, ...]) -> bytes:
    """SHA-256 over the canonical form of what policy sees of an operation: half of a decision's cache key."""
    return hashlib.sha256(msgspec.json.encode((action, name, resources, rest), order="deterministic")).digest()


def plain_facts(
    *,
    action: Action,
    name: str,
    resources: tuple[Resource, ...],
    head: str = "",
    arguments: Arguments = (),
    opaque: tuple[str, ...] = (),
    objection: Objection | None = None,
    infer: tuple[str, ...] = (),
) -> Facts:
    """Facts in a protocol that has no statements, no catalogue and no protected columns to compute with."""
    return Facts(
        action=action,
        name=name,
        resources=resources,
        has_where=True,
        functions=(),
        opaque=opaque,
        unmask=(),
        harmless=False,
        touches_protected=True,
        head=head,
        objection=objection,
        invalidates_catalogue=False,
        digest=facts_digest(action, name, resources, (arguments, opaque, infer) if infer else (arguments, opaque)),
        arguments=arguments,
        infer=infer,
    )


class _Value:
    """See `ostiary.model.nouns`."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __hash__(self) -> int:
        return number(self)

    def __repr__(self) -> str:
        return shown(self)


class Parameters(_Value):
    """Bound parameters as the client sent them."""

    __slots__ = ("formats", "types", "values")

    def __init__(self, formats: tuple[int, ...], values: tuple[bytes | None, ...], types: tuple[int, ...] = ()) -> None:
        self.formats: Final = formats
        """0 text, 1 binary; empty: all text; one: for all."""
        self.values: Final = values
        self.types: Final = types
        """OIDs of types that the client gave; 0, or none: what the target makes of the statement."""


class Operation(_Value):
    """One asking. What was judged is what is sent: `wire` is the very message."""

    __slots__ = ("asked", "facts", "parameters", "statement", "wire")

    def __init__(
        self, facts: Facts, statement: bytes, parameters: Parameters | None, wire: bytes, asked: bytes | None = None
    ) -> None:
        self.facts: Final = facts
        self.statement: Final = statement
        """The statement's own bytes, for the record."""
        self.parameters: Final = parameters
        self.wire: Final = wire
        """The message's frames as they will go out, byte for byte."""
        self.asked: Final = asked
        """What the caller sent, where the gateway rewrote it to `statement`."""
