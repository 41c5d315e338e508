"""Unit tests of policies: `ostiary policy test`. A case says who does what, where and when, and what must come of it.

A test file is TOML or JSON: `policies` names Cedar files beside it, `given` holds what its cases share, and each `[[test]]`
is a case. A key that is not known is an error, and so is a case that expects nothing: a test that cannot fail is none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ostiary.model.connections import Connection
from ostiary.model.decisions import NeedsApproval, Permit
from ostiary.model.errors import ConfigError
from ostiary.model.identity import Said
from ostiary.policy.decide import decide
from ostiary.policy.policies import Policies
from ostiary.policy.suppose import (
    Believe,
    Supposed,
    SupposedFacts,
    Supposition,
    resource_named,
    supposed_operation,
)

MAX_CASES: Final = 10_000
VERDICTS: Final = ("permit", "deny", "ask")


class SupposedConnection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The connection at hand."""

    name: str = "somewhere"
    labels: dict[str, str] = {}


class SupposedWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the client says of itself."""

    user: str = ""
    application: str = ""
    purpose: str = ""
    ticket: str = ""


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One case. What is None is not looked at."""

    name: str
    expect: str
    """`permit`, `deny`, or `ask`: it waits for people."""
    who: Supposed = Supposed()
    connection: SupposedConnection = SupposedConnection()
    does: tuple[str, ...] = ()
    """`ACTION KIND NAME`, one for each thing touched; none: it opens a session."""
    facts: SupposedFacts = SupposedFacts()
    at: dt.datetime | None = None
    """The time; 2026-01-01 at noon, a Thursday, if none is given."""
    address: str = ""
    """Where the client's connection comes from."""
    said: SupposedWords = SupposedWords()
    approved_by: tuple[str, ...] = ()
    because: tuple[str, ...] | None = None
    """Ids of the policies that must have decided, neither more nor fewer."""
    limit: int | None = None
    rows: int | None = None
    filters: tuple[str, ...] | None = None
    instead: dict[str, str] | None = None
    """What each relation or function is replaced by."""
    approvers: dict[str, int] | None = None
    clear: tuple[str, ...] | None = None
    would: str | None = None
    """Under an observing policy: what the others would have said."""


class Suite(msgspec.Struct, frozen=True):
    """A test file, read."""

    place: str
    policies: tuple[str, ...]
    """Cedar files, as written; empty: those of the configuration."""
    cases: tuple[Case, ...]


class Result(msgspec.Struct, frozen=True):
    """What came of a case."""

    place: str
    name: str
    faults: tuple[str, ...]
    """What is not as expected, a sentence each; empty: it holds."""


def read_suite(place: str, document: Mapping[str, Any]) -> Suite:
    """Check a test file that was parsed; `ConfigError` names the file and the case."""
    unknown = sorted(document.keys() - {"policies", "given", "test"})
    if unknown:
        raise ConfigError(place, f"unknown key `{unknown[0]}`; known: policies, given, test")
    given = document.get("given", {})
    written = document.get("test", [])
    if not isinstance(given, dict) or not isinstance(written, list) or not all(isinstance(c, dict) for c in written):
        raise ConfigError(place, "must hold `given`, a table, and `test`, a list of tables: [[test]]")
    if not written:
        raise ConfigError(place, "holds no [[test]]")
    if len(written) > MAX_CASES:
        raise ConfigError(place, f"holds more than {MAX_CASES} cases; split it")
    cases = tuple(_case(f"{place} test {number}", {**given, **case}) for number, case in enumerate(written, 1))
    try:
        policies = msgspec.convert(document.get("policies", []), tuple[str, ...], strict=True)
    except msgspec.ValidationError:
        raise ConfigError(place, "`policies` must be a list of Cedar files") from None
    return Suite(place, policies, cases)


def _case(place: str, written: Mapping[str, Any]) -> Case:
    try:
        case = msgspec.convert(dict(written), Case, strict=True)
    except msgspec.ValidationError as exc:
        raise ConfigError(place, str(exc)) from None
    if case.expect not in VERDICTS:
        raise ConfigError(f"{place} ({case.name})", f"`expect` must be one of: {', '.join(VERDICTS)}")
    if case.at is not None and case.at.tzinfo is None:
        raise ConfigError(f"{place} ({case.name})", "`at` needs a time zone: 2026-11-25T09:30:00Z")
    try:
        for text in case.does:
            resource_named(text)
    except Supposition as exc:
        raise ConfigError(f"{place} ({case.name})", str(exc)) from None
    return case


_NOON: Final = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def run(suite: Suite, policies: Policies, template: Connection, believe: Believe) -> list[Result]:
    """Put every case to `policies`. `template` is a connection whose name and labels each case replaces."""
    return [Result(suite.place, case.name, _faults(case, policies, template, believe)) for case in suite.cases]


def _faults(case: Case, policies: Policies, template: Connection, believe: Believe) -> tuple[str, ...]:
    connection = msgspec.structs.replace(
        template,
        name=case.connection.name,
        labels=tuple(sorted(f"{key}={value}" for key, value in case.connection.labels.items())),
    )
    words = case.said
    said = Said(
        address=f"{case.address}:0" if case.address else "local",
        user=words.user, application=words.application, purpose=words.purpose, ticket=words.ticket,
    )  # fmt: skip
    operation = supposed_operation(connection, tuple(resource_named(text) for text in case.does), case.facts)
    decision = decide(
        policies, believe(case.who), operation, connection,
        approved_by=frozenset(case.approved_by), now=int((case.at or _NOON).timestamp()), said=said,
    )  # fmt: skip
    match decision:
        case Permit():
            verdict = "permit"
        case NeedsApproval():
            verdict = "ask"
        case _:
            verdict = "deny"
    grounds = decision.grounds
    duties = grounds.duties
    faults = []
    if verdict != case.expect:
        why = f": {grounds.message}" if grounds.message else f" by {', '.join(grounds.because)}"
        faults.append(f"expected {case.expect}, and it is {verdict}{why}")
    asked = decision.approvers if isinstance(decision, NeedsApproval) else ()
    found: tuple[tuple[str, object, object], ...] = (
        ("because", case.because if case.because is None else sorted(case.because), list(grounds.because)),
        ("limit", case.limit, grounds.row_limit),
        ("rows", case.rows, None if duties is None else duties.rows),
        ("filters", case.filters, () if duties is None else tuple(condition for _, condition in duties.filters)),
        ("instead", case.instead, {} if duties is None else {name: other for _, name, other in duties.instead}),
        ("approvers", case.approvers, dict(asked)),
        ("clear", case.clear if case.clear is None else sorted(case.clear), sorted(grounds.clear)),
        ("would", case.would, "" if grounds.noted is None else grounds.noted.verdict),
    )
    faults += [
        f"expected {name} {want}, and it is {have}" for name, want, have in found if want is not None and want != have
    ]
    return tuple(faults)
