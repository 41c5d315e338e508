"""Entries that are laid from kept pieces are what canonical JSON makes of their members, whatever these are and whenever they come."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.audit import entries, jcs
from ostiary.audit.drafts import ROOM, Draft
from ostiary.audit.entries import MAX_ENTRY, EntryTooLarge
from ostiary.model.decisions import Grounds, Permit, Refusal
from ostiary.model.events import NOTHING_KEPT, Kept, PayloadRef
from ostiary.model.operations import Action, Operation, Parameters, Resource
from ostiary.model.proofs import Intended, Outcome

SECOND = 1_000_000_000
ID = "01930000-0000-7000-8000-0123456789ab"
NEXT_ID = "01930000-0000-7000-8000-0123456789ac"
WORDS = st.text(max_size=30) | st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
NUMBERS = st.integers(0, 2**53 - 1) | st.integers(0, 70).map(lambda power: min(10**power // 10**17, 2**53 - 1)) | st.integers(0, 1001)
MOMENTS = st.builds(
    lambda second, beside: second * SECOND + beside,
    st.integers(1_795_247_990, 1_795_248_010) | st.integers(1, 4_000_000_000),
    st.integers(0, SECOND - 1) | st.sampled_from([-1, 0, 1, 999, 1000, SECOND - 1001, SECOND - 1000, SECOND - 1]),
)
REFS = st.none() | st.builds(PayloadRef, st.binary(min_size=32, max_size=32).map(bytes.hex), st.just("bb" * 32), NUMBERS)
COLUMNS = st.lists(st.tuples(WORDS, st.integers(0, 2**32 - 1)), max_size=4).map(tuple) | st.integers(100, 900).map(
    lambda wide: tuple((f"column {number}", 25) for number in range(wide))
)
OUTCOMES = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["ok", "error", "skipped", "rolled back", "closed", "unknown"]),
        "tag": WORDS | st.just("\x01" * 4000),
        "rows": NUMBERS | st.just(-1),
        "bytes": NUMBERS,
        "error": WORDS | st.just("\x01" * 3000),
        "error_text": WORDS | st.just("é\x01" * 900),
        "masked": st.just(()) | st.dictionaries(st.text(max_size=8), NUMBERS, max_size=3).map(lambda found: tuple(sorted(found.items()))),
        "columns": COLUMNS,
    }
)


def moment(t: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=t // SECOND):%Y-%m-%dT%H:%M:%S}.{t // 1000 % 1_000_000:06d}Z"


def common(session, kind, entry_id, t, mono):
    """What each entry of a session has, for `jcs`."""
    facts, encoder = session.entries.facts, session.encoder
    named = {"connection": facts.connection, "type": facts.type, "address": facts.address, "database": facts.database}
    return {
        "v": 1, "id": entry_id, "kind": kind, "gw": encoder.gw, "boot": encoder.boot, "t": moment(t), "mono": mono // 1000,
        "session": facts.session, "target": named | {"account": facts.account}, "task": facts.identity.task,
        "who": entries.proved(facts.identity)["who"],
    }  # fmt: skip


def place(ref):
    return {} if ref is None else {"blob": ref.blob, "commit": ref.commit}


def asking(session, kind, verdict, decision, entry_id, t, mono, kept):
    operation, facts, free = decision.operation, session.entries.facts, session.encoder.free
    stmt = {"head": free(operation.facts.head), "len": len(operation.statement)} | place(kept.statement)
    if operation.asked is not None:
        stmt["asked"] = {"len": len(operation.asked)} | place(kept.asked)
    members = common(session, kind, entry_id, t, mono) | {
        "auth": entries.proved(facts.identity)["auth"], "client": session.encoder.client(facts.said), "stmt": stmt,
        "op": entries._op(operation.facts, free), "decision": entries._decision(operation.facts, decision.grounds, verdict, free),
    }  # fmt: skip
    if operation.parameters is not None:
        members["params"] = {"count": len(operation.parameters.values)} | place(kept.parameters)
        if kept.parameters is not None:
            members["params"]["len"] = kept.parameters.length
    return jcs.encode(members)


def cut(text, size):
    raw = text.encode("utf-8", "surrogatepass")
    return text if len(raw) <= size else raw[:size].decode("utf-8", "ignore")


def ending(session, said, entry_id, t, mono, short=False):
    free = session.encoder.free
    tag, words = cut(said.tag, 64) if short else said.tag, cut(said.error_text, 1024)
    result = {"bytes": said.bytes, "rows": said.rows, "status": said.status, "us": max(0, mono - said.intended.began) // 1000}
    for name, value in (("tag", tag), ("error", cut(said.error, 64)), ("text", words)):
        if value:
            result[name] = free(value)
    if words != said.error_text:
        result["cut"] = True
    if said.masked:
        result["masked"] = dict(said.masked)
    if said.columns and short:
        result["omitted"] = len(said.columns)
    elif said.columns:
        result["columns"] = [[free(name), oid] for name, oid in said.columns]
    made = jcs.encode(common(session, "outcome", entry_id, t, mono) | {"ref": said.intended.entry, "result": result})
    return made if short or len(made) <= MAX_ENTRY else ending(session, said, entry_id, t, mono, short=True)


@pytest.fixture(scope="module")
def session(make):
    return make.OneSession()


@given(
    moments=st.lists(st.tuples(MOMENTS, NUMBERS), min_size=1, max_size=4),
    words=st.tuples(WORDS, WORDS, WORDS),
    bound=st.none() | st.lists(st.none() | st.binary(max_size=3), max_size=12).map(tuple),
    kept=st.just(NOTHING_KEPT) | st.builds(Kept, REFS, REFS, REFS),
    original=st.none() | st.binary(max_size=30),
    statement=st.binary(max_size=1200),
)
def test_what_is_asked_is_laid_as_it_is_encoded(make, session, moments, words, bound, kept, original, statement):
    head, name, message = words
    facts = make.facts(head=head, name=name, resources=(Resource("relation", name, Action.READ, (head,), ("pci",)),), opaque=words)
    parameters = None if bound is None else Parameters((), bound)
    operation = Operation(facts, statement, parameters, b"wire", original)
    who, refused = session.entries.facts.identity, Grounds((), "cd" * 32, frozenset(), None, message, "")
    permit, refusal = Permit(who, operation, make.GROUNDS), Refusal(who, operation, refused)
    for t, mono in moments:
        made = session.entries.intent(permit, ID, t, mono, kept)
        assert made == asking(session, "intent", "permit", permit, ID, t, mono, kept)
        made = session.entries.deny(refusal, ID, t, mono, kept)
        assert made == asking(session, "deny", "deny", refusal, ID, t, mono, kept)


@given(st.lists(st.tuples(OUTCOMES, MOMENTS, NUMBERS), min_size=1, max_size=4), NUMBERS)
def test_how_it_ended_is_laid_as_it_is_encoded(make, session, ends, began):
    intended = Intended(Permit(session.entries.facts.identity, make.operation(), make.GROUNDS), ID, began)
    for fields, t, mono in ends:
        said = Outcome(intended=intended, **fields)
        assert session.entries.outcome(said, NEXT_ID, t, mono) == ending(session, said, NEXT_ID, t, mono)


@given(st.lists(MOMENTS, max_size=20))
def test_a_time_is_written_as_it_is_whatever_came_before_it(session, times):
    assert [session.encoder.stamp(t) for t in times] == [moment(t) for t in times]


def test_an_entry_may_be_as_long_as_an_entry_may_be_and_no_byte_longer(make, session):
    intended = Intended(Permit(session.entries.facts.identity, make.operation(), make.GROUNDS), ID, 0)

    def made(width):
        return session.entries.outcome(make.outcome(intended, columns=(("c" * width, 25),)), NEXT_ID, SECOND, SECOND)

    most = MAX_ENTRY - len(made(0))
    assert len(made(most)) == MAX_ENTRY
    assert json.loads(made(most))["result"]["columns"] == [["c" * most, 25]]
    assert json.loads(made(most + 1))["result"]["omitted"] == 1
    opaque = tuple("o" * 1000 for _ in range(20))
    who = session.entries.facts.identity
    permit = Permit(who, Operation(make.facts(opaque=opaque), b"", None, b""), make.GROUNDS)
    assert "digest" in json.loads(session.entries.intent(permit, ID, SECOND, SECOND))["op"]
    grounds = Grounds(("p" * MAX_ENTRY,), "cd" * 32, frozenset(), None, "", "")
    with pytest.raises(EntryTooLarge, match="more than 16384"):
        session.entries.intent(Permit(who, make.operation(), grounds), ID, SECOND, SECOND)


@given(st.lists(st.binary(max_size=ROOM + 9) | st.integers(-(2**62), 2**62) | st.integers(-11, 11), max_size=8))
def test_what_a_draft_has_no_room_for_is_counted(pieces):
    draft = Draft()
    for _ in range(2):
        draft.begin(b"")
        said = b""
        for piece in pieces:
            if isinstance(piece, bytes):
                draft.lay(piece)
            else:
                draft.number(piece)
            said += piece if isinstance(piece, bytes) else b"%d" % piece
        assert draft.size == len(said)
        assert len(said) > ROOM or draft.taken() == said


def test_a_draft_lays_numbers_with_as_many_digits_as_are_asked_for():
    draft = SimpleNamespace(made=Draft())
    draft.made.begin(b"at ")
    draft.made.digits(12345, 6)
    assert draft.made.taken() == b"at 012345"
