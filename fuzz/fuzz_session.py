# ruff: noqa: INP001 - a script beside the package, not in it
"""Coverage-guided fuzzing of what stands behind the wire: `python fuzz/fuzz_session.py TARGET [libFuzzer options]`.

Targets: `statement` (understanding of SQL), `rewriting`, `conversation` (both sides of a session, in any order and cut anywhere), `values`,
`rows`, `copy`, `messages` (masking), `entry` (the verifier's reader of the log), `token`, `parameters`. Each states what must hold of
any bytes. Needs the package `atheris`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import atheris
from running import hold, main

with atheris.instrument_imports(include=["ostiary"]):
    from ostiary.audit import verify
    from ostiary.identity import jose
    from ostiary.kernel import copies, values
    from ostiary.kernel import rows as kernel_rows
    from ostiary.masking import plan as plans
    from ostiary.masking.mask import mask
    from ostiary.model.catalogue import Column, Function, Relation, Snapshot, Type
    from ostiary.model.connections import Protected, Strategy
    from ostiary.model.decisions import Grounds, Permit, Refusal
    from ostiary.model.duties import Duties
    from ostiary.model.errors import OstiaryError, PeerMisbehaved
    from ostiary.model.identity import Authentication, Kind, VerifiedIdentity
    from ostiary.model.proofs import Batch, Content, Denied, Intended
    from ostiary.protocols.postgres import encode
    from ostiary.protocols.postgres.operations import ProtectedColumns, View, study
    from ostiary.protocols.postgres.relay import PostgresRelay
    from ostiary.protocols.postgres.rewriting.conditions import caller_of
    from ostiary.protocols.postgres.understanding import Knowledge, Understanding
    from ostiary.recording import parameters as kept_parameters

ANA = VerifiedIdentity(
    issuer="https://idp.example", subject="ana", kind=Kind.HUMAN, name="Ana", email=None, groups=frozenset(), acting=(),
    initiator=None, task=None, mandate=None, auth=Authentication("oidc", "00" * 32, None, 1), expires=1 << 40,
    audience=frozenset(), digest=b"ana",
)  # fmt: skip
PROTECT = (Protected("public", "people", "card", "pci", Strategy.LAST4),)
DETECT = frozenset({"card", "email", "iban", "ssn", "secret"})
SECRET: Final = b"078-05-1120"


def relation(oid: int, name: str, kind: str, *columns: str, reads: tuple[tuple[int, tuple[int, ...]], ...] = ()) -> Relation:
    """A relation of text columns."""
    return Relation(
        oid=oid, schema="public", name=name, kind=kind,
        columns=tuple(Column(column, number, 25) for number, column in enumerate(columns, 1)),
        reads=reads, calls=(), read_calls=(), built_in_calls=(), built_in_read_calls=(), children=(), delete_cascades=(),
        update_cascades=(), guards=(), referenced_by=(), rules=False,
    )  # fmt: skip


RELATIONS = {
    each.oid: each
    for each in (
        relation(20000, "orders", "r", "id", "note"),
        relation(20001, "people", "r", "name", "card"),
        relation(20002, "shown", "v", "name", "card", reads=((20001, (1, 2)),)),
    )
}
FUNCTIONS = {
    1: Function(1, "pg_catalog", "lower", (25,), 25, "i", "f"),
    2: Function(2, "pg_catalog", "pg_read_file", (25,), 25, "v", "f"),
    20010: Function(20010, "public", "f", (25,), 25, "v", "f"),
}
TYPES = {
    oid: Type(oid, "pg_catalog", name, "b", 0, 0, 0, ())
    for oid, name in ((25, "text"), (23, "int4"), (16, "bool"), (20, "int8"))
}
SNAPSHOT = Snapshot(
    version=1, database="shop", server_version=150000, role="svc", superuser=False, search_path=("public",),
    writable_schemas=frozenset(), relations=RELATIONS,
    relation_oids={(each.schema, each.name): each.oid for each in RELATIONS.values()}, functions=FUNCTIONS,
    functions_named={(each.schema, each.name): (oid,) for oid, each in FUNCTIONS.items()}, operators_named={}, types=TYPES,
    type_oids={(each.schema, each.name): oid for oid, each in TYPES.items()}, user_casts={}, implicit_casts=frozenset(),
)  # fmt: skip
PROTECTED = ProtectedColumns(PROTECT, SNAPSHOT)


def statement(data: bytes) -> None:
    """Any text is understood, or objected to, and the objection is not that the gateway failed."""
    understood = study(data, View(SNAPSHOT.search_path), SNAPSHOT, PROTECTED)
    objection = understood.facts.objection
    hold(objection is None or objection.code != "XX000", "the judge failed")


DUTIES = Duties(5, (("public.orders", "note = ostiary.subject() OR id IN ('1', '2')"),), (), read_only=False, timeout=None, parameters=())


def rewriting(data: bytes) -> None:
    """Any text is rewritten to one that is judged to do what was demanded, or there is none; the deparser's C survives it."""
    understanding = Understanding(Knowledge(PROTECT), SNAPSHOT)
    if understanding.look(data, SNAPSHOT).facts.objection is None:
        text = understanding.rewrite(data, SNAPSHOT, (), DUTIES, caller_of(ANA))
        if isinstance(text, bytes):
            facts = understanding.look(text, SNAPSHOT).facts
            hold(facts.objection is None or facts.objection.code != "XX000", "the judge failed")
            hold(len(facts.filtered) < 2, "one relation is filtered")


GROUNDS = Grounds(("p",), "00" * 32, frozenset(), None, "no", "no")


def conversation(data: bytes) -> None:
    """Two peers say anything, in pieces: nothing but misbehaviour comes of it, and the target hears nothing that was refused."""
    provider = atheris.FuzzedDataProvider(data)
    relay = PostgresRelay(Understanding(Knowledge(PROTECT), SNAPSHOT), detect=DETECT, plans=plans)
    try:
        while provider.remaining_bytes():
            piece = provider.ConsumeBytes(provider.ConsumeIntInRange(1, 200))
            if provider.ConsumeBool():
                _client(relay, piece, refuse=provider.ConsumeBool())
            else:
                for batch, _under in relay.results(piece):
                    relay.masked(mask(frozenset(), batch, DETECT))
                relay.outcomes()
                if relay.is_stalled:
                    _client(relay, b"", refuse=False)
    except OstiaryError:
        pass
    relay.abandon()


def _client(relay: PostgresRelay, data: bytes, *, refuse: bool) -> None:
    decisions: list[Permit | Refusal] = []
    for ask in relay.asks(data, SNAPSHOT):
        judged = _decision(ask.operation, refuse=refuse or ask.operation.facts.objection is not None)
        if relay.decided(ask, judged):
            decisions.append(judged)
    proofs = tuple(Intended(d, "e", 0) if isinstance(d, Permit) else Denied(d, "e") for d in decisions)
    order = relay.order(proofs)
    for each in decisions:
        if isinstance(each, Refusal) and len(each.operation.wire) > 12:
            hold(each.operation.wire not in order.wire, "what was refused is sent")
    list(relay.streamed())
    list(relay.answers())


def _decision(operation: object, *, refuse: bool) -> Permit | Refusal:
    kind = Refusal if refuse else Permit
    return kind(ANA, operation, GROUNDS)  # type: ignore[arg-type]


def detectors(data: bytes) -> None:
    """A value is looked at in every family, in bounds."""
    for family in range(12):
        values.hits(data, family, 0xFF)


def _split(data: bytes) -> tuple[bytes, bytes, bytes]:
    count = 1 + (data[0] & 7 if data else 0)
    treatments = bytes(each % 5 for each in data[1 : 1 + count].ljust(count, b"\1"))
    families = bytes(each % 12 for each in data[1 + count : 1 + 2 * count].ljust(count, b"\0"))
    return treatments, families, data[1 + 2 * count :]


def _held(walk: Callable[[], tuple[bytes, tuple[int, ...]]]) -> None:
    try:
        walk()
    except PeerMisbehaved:
        return


def masked_rows(data: bytes) -> None:
    """Rows, of whatever shape, are masked or are misbehaviour."""
    treatments, families, rest = _split(data)
    _held(lambda: kernel_rows.mask_rows(encode.frame(b"D", rest), treatments, families, 0xFF))
    _held(lambda: kernel_rows.mask_copy_rows(encode.frame(b"d", rest), treatments, families, 0xFF))


def masked_copy(data: bytes) -> None:
    """Rows of COPY in text and CSV, with any delimiter and quote, likewise."""
    treatments, families, rest = _split(data)
    delimiter, quote, escape = (rest[n : n + 1] or b"," for n in range(3))
    frame = encode.frame(b"d", rest[3:])
    _held(lambda: copies.mask_copy_text(frame, treatments, families, 0xFF, delimiter=delimiter, null=b"\\N", header=b""))
    _held(
        lambda: copies.mask_copy_csv(
            frame, treatments, families, 0xFF, delimiter=delimiter, quote=quote, escape=escape, null=b"", header=b""
        )
    )


def messages(data: bytes) -> None:
    """Errors, notices, notifications and settings: whole frames come out, and what is to be found is gone."""
    frame = encode.frame(b"ENAS"[len(data) % 4 :][:1], data[:40] + SECRET + data[40:])
    try:
        out = mask(frozenset(), Batch(frame, Content.MESSAGE, None, 0, strip=len(data) % 3 == 0), DETECT)
    except PeerMisbehaved:
        return
    hold(len(out.frames) == 1 + int.from_bytes(out.frames[1:5], "big"), "not a whole frame")


def entry(data: bytes) -> None:
    """An entry is read, or is at fault."""
    try:
        verify.parse_entry(data)
    except ValueError:
        return


def token(data: bytes) -> None:
    """A token is read, or is refused."""
    try:
        jose.parse_compact(data.decode("utf-8", "replace"))
    except OstiaryError:
        return


def parameters(data: bytes) -> None:
    """Parameters of the recording are read, or are refused."""
    try:
        kept_parameters.decode_parameters(data)
    except OstiaryError:
        return


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "statement": statement,
    "rewriting": rewriting,
    "conversation": conversation,
    "values": detectors,
    "rows": masked_rows,
    "copy": masked_copy,
    "messages": messages,
    "entry": entry,
    "token": token,
    "parameters": parameters,
}


if __name__ == "__main__":
    main(TARGETS)
