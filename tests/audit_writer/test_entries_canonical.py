"""Entries are canonical, complete and never cut silently, whatever the text in them is."""

from __future__ import annotations

import base64
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.audit import jcs
from ostiary.audit.entries import MAX_ENTRY, Encoder, EntryTooLarge
from ostiary.audit.ids import Ids
from ostiary.model.identity import Said
from ostiary.model.operations import Action, Objection, Resource, Unjudgeable

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def units(name: str) -> list[int]:
    raw = name.encode("utf-16-le")
    return [int.from_bytes(raw[at : at + 2], "little") for at in range(0, len(raw), 2)]


def reference(value: object) -> str:
    """RFC 8785 by another road: the standard library's strings, members sorted as lists of UTF-16 code units."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{reference(k)}:{reference(value[k])}" for k in sorted(value, key=units)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(reference, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@given(JSON)
def test_any_value_is_encoded_as_the_reference_encodes_it(value):
    assert jcs.encode(value) == reference(value).encode()


def test_members_are_sorted_by_utf16_code_units_as_rfc_8785_shows():
    names = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert list(json.loads(jcs.encode(names)).values()) == [2, 4, 6, 7, 1, 5, 3]


@pytest.mark.parametrize("value", [1.5, 2**53, -(2**53), b"x", {"a": float("nan")}, "\ud800", {1: 2}, {"\udc00": 1}])
def test_what_is_no_i_json_is_refused(value):
    with pytest.raises((jcs.NotCanonical, AttributeError)):
        jcs.encode(value)


def test_nesting_is_bounded():
    deep = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(jcs.NotCanonical):
        jcs.encode(deep)


@given(st.binary())
def test_bytes_that_are_no_utf8_come_back_from_their_text(raw):
    read = json.loads(jcs.quoted(raw.decode("utf-8", "surrogateescape")))
    assert (base64.b64decode(read["b64"]) if isinstance(read, dict) else read.encode()) == raw


def all_entries(session) -> list[bytes]:
    start, started = session.start()
    intended, intent = session.intent()
    said = Said(address="127.0.0.1:5", user="bob")
    return [
        started,
        intent,
        session.outcome(
            intended, masked=(("pci", 2), ("\U0001f600", 1), ("\ufb33", 3)), error="42P01", error_text="no"
        ),
        session.deny(),
        session.end(start),
        session.encoder.login(
            *session.now(), said=said, connection="orders-db", who=None, reason="BAD_TOKEN", detail="no"
        ),
        session.encoder.login(*session.now(), said=said, connection="orders-db", who=session.entries.facts.identity),
    ]


def test_every_entry_is_canonical_and_has_what_every_entry_has(make):
    for entry in all_entries(make.OneSession()):
        read = json.loads(entry)
        assert jcs.encode(read) == entry
        assert reference(read).encode() == entry
        assert {"v", "id", "kind", "gw", "boot", "t", "mono"} <= set(read)
        assert read["v"] == 1
        assert len(read["t"]) == 27


def test_an_intent_says_who_for_whom_what_and_why(make):
    _, entry = make.OneSession().intent()
    read = json.loads(entry)
    assert read["who"]["act"] == [{"iss": "https://idp.example", "kind": "agent", "name": "coder", "sub": "agent-1"}]
    assert read["who"]["groups"] == ["dba", "support"]
    assert read["who"]["mandate"] == {"connections": ["orders-db"], "id": "m1", "resources": []}
    assert read["op"]["objects"][0] == {
        "action": "read", "classes": ["pci"], "columns": ["id", "total"], "kind": "relation", "name": "public.orders",
    }  # fmt: skip
    assert read["stmt"] == {"blob": "aa" * 32, "commit": "bb" * 32, "head": make.facts().head, "len": 41}
    assert read["params"] == {"blob": "aa" * 32, "commit": "bb" * 32, "count": 2, "len": 41}
    assert read["decision"] == {
        "clear": ["pci"],
        "limit": 100,
        "policies": ["p1"],
        "policy": "cd" * 32,
        "verdict": "permit",
    }
    assert "user" not in read["who"]
    assert read["client"]["said"]["user"] == "bob"


def test_an_outcome_refers_to_its_intent(make):
    session = make.OneSession()
    intended, intent = session.intent()
    read = json.loads(session.outcome(intended))
    assert read["ref"] == json.loads(intent)["id"]
    assert read["session"] == json.loads(intent)["session"]
    assert read["result"]["columns"] == [["id", 23], ["total", 1700]]


HOSTILE = st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@given(HOSTILE, HOSTILE, HOSTILE)
def test_hostile_text_changes_nothing_but_its_own_member(make, said, head, name):
    session = make.OneSession(said=Said(address="127.0.0.1:5", user=said, application=said))
    resources = (Resource("relation", name, Action.READ, (name,), ()),)
    intended, entry = session.intent(head=head, name=name, resources=resources)
    read = json.loads(entry)
    assert jcs.encode(read) == entry
    for given_text, kept in ((said, read["client"].get("said", {}).get("user", "")), (name, read["op"]["name"])):
        if isinstance(kept, dict):
            raw = base64.b64decode(kept["b64"])
            assert raw in (_bytes(given_text, "surrogateescape"), _bytes(given_text, "surrogatepass"))
        else:
            assert kept == given_text
    assert set(read) == {
        "auth", "boot", "client", "decision", "gw", "id", "kind", "mono", "op", "params", "session", "stmt", "t", "target",
        "task", "v", "who",
    }  # fmt: skip
    result = session.outcome(intended, error_text=said, tag=name, columns=((name, 25),), error=head)
    assert jcs.encode(json.loads(result)) == result


def _bytes(text: str, how: str) -> bytes:
    try:
        return text.encode("utf-8", how)
    except UnicodeEncodeError:
        return b""


def test_a_planted_secret_reaches_no_leaf(make):
    secret = "4111111111111111"
    session = make.OneSession(
        scrub=lambda value: value.replace(secret, "[card]"),
        said=Said(address="127.0.0.1:5", user=secret, application=secret, purpose=f"for {secret}", ticket=secret),
    )
    start, started = session.start()
    resources = (Resource("relation", secret, Action.READ, (secret,), ()),)
    planted = {
        "head": f"SELECT {secret}",
        "name": secret,
        "resources": resources,
        "opaque": (secret,),
        "functions": (secret,),
    }
    intended, intent = session.intent(**planted)
    objection = Objection(Unjudgeable.UNPARSABLE, f"syntax error at {secret} or hunter2", "", "42601", 3)
    entries = [
        started,
        intent,
        session.deny(**planted),
        session.deny(**planted, objection=objection),
        session.outcome(intended, tag=secret, error=secret, error_text=secret, columns=((secret, 25),)),
        session.end(start),
        session.encoder.login(
            *session.now(),
            said=Said(address="a", user=secret),
            connection=secret,
            who=None,
            reason="BAD_TOKEN",
            detail=secret,
        ),
    ]
    for entry in entries:
        assert secret.encode() not in entry
        assert b"hunter2" not in entry


def test_an_operation_on_too_many_objects_is_said_in_short_with_a_digest_of_them_all(make):
    session = make.OneSession()
    resources = tuple(Resource("relation", f"public.t{n}", Action.DELETE, ("a", "b"), ()) for n in range(1000))
    _, entry = session.intent(resources=resources)
    short = json.loads(entry)
    assert short["op"]["omitted"] == 1000
    assert len(short["op"]["digest"]) == 64
    read = json.loads(session.deny(resources=resources, name="DELETE; " * 1000))
    assert read["op"]["omitted"] == 1000
    assert read["op"]["effects"] == ["delete"]
    assert "objects" not in read["op"]
    assert read["stmt"]["blob"] == "aa" * 32


def test_an_outcome_is_written_however_wide_the_result_is(make):
    session = make.OneSession()
    intended, _ = session.intent()
    columns = tuple((f"column_{n:04d}_" + "x" * 50, 25) for n in range(1600))
    entry = session.outcome(intended, columns=columns, error_text="\x01" * 5000, error="\x01" * 5000, tag="\x01" * 9000)
    read = json.loads(entry)
    assert len(entry) <= MAX_ENTRY
    assert read["result"]["omitted"] == 1600
    assert read["result"]["cut"] is True


def test_a_session_whose_claims_would_fill_entries_is_not_let_in(make):
    with pytest.raises(EntryTooLarge):
        make.OneSession(said=Said(address="127.0.0.1:5", application="x" * 20_000))


def test_a_refused_login_is_written_however_long_its_claims_are():
    encoder = Encoder("gw1/w0", Ids().next(), str)
    said = Said(address="127.0.0.1:5", user="\x01" * 10_000)
    entry = encoder.login(Ids().next(), 1, 1, said=said, connection="c" * 9000, who=None, reason="NO_TOKEN")
    read = json.loads(entry)
    assert read["client"]["said"] == {"omitted": 19_000}
    assert read["login"] == {"reason": "NO_TOKEN", "status": "denied"}


def test_a_login_belongs_to_the_task_of_who_was_proved(make):
    encoder = Encoder("gw1/w0", Ids().next(), str)
    about = {"said": Said(address="127.0.0.1:5"), "connection": "orders-db", "reason": "NOT_PERMITTED"}
    read = json.loads(encoder.login(Ids().next(), 1, 1, who=make.identity(), **about))
    assert read["task"] == "run-7"
    assert "task" not in json.loads(encoder.login(Ids().next(), 1, 1, who=make.identity(task=None), **about))


def test_ids_grow_and_never_repeat_even_when_the_clock_goes_back():
    ids = Ids()
    made = [
        ids.next(now)
        for now in (5_000_000, 5_000_000, 9_000_000, 1_000_000, 9_000_000, 10_000_000)
        for _ in range(1000)
    ]
    assert made == sorted(set(made))
    assert all(one[14] == "7" and one[19] in "89ab" and len(one) == 36 for one in made)


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_an_id_holds_its_time_and_random_bits_that_were_used_once(times, dice):
    drawn = []

    def random(size):
        drawn.append(dice.randbytes(size))
        return drawn[-1]

    ids, latest, turns, counter = Ids(random), -1, 0, 0
    for now in times:
        made = ids.next(now)
        if now // 1_000_000 > latest:
            latest = now // 1_000_000
            noise, turns = drawn[0][10 * turns : 10 * turns + 10], turns + 1
            counter = int.from_bytes(noise[:6], "big") & ((1 << 47) - 1)
        else:
            counter += 1
        shaped = 7 << 76 | (int.from_bytes(noise[6:8], "big") & 0xFFF) << 64 | 2 << 62 | (int.from_bytes(noise[8:], "big") & 0x3FFF) << 48
        assert made == str(uuid.UUID(int=(latest & (1 << 48) - 1) << 80 | shaped | counter))


def test_ids_go_on_growing_when_the_random_bytes_are_used_up():
    ids = Ids()
    made = [ids.next(millisecond * 1_000_000) for millisecond in range(5000)]
    assert made == sorted(set(made))
    assert len({one[-12:] for one in made}) == len({one[14:23] + one[-12:] for one in made}) == 5000


def test_ids_go_on_growing_when_a_millisecond_has_no_more():
    ids = Ids(lambda size: b"\xff" * size)
    first = ids.next(0)
    ids._counter = (1 << 48) - 1
    assert ids.next(0) > first
    assert ids.next(0) > first


def test_times_are_written_in_microseconds_of_utc():
    encoder = Encoder("gw1/w0", "b", str)
    assert encoder.stamp(0) == "1970-01-01T00:00:00.000000Z"
    assert encoder.stamp(1_795_247_999_999_999_999) == "2026-11-21T07:59:59.999999Z"
