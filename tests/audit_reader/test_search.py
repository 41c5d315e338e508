"""Whatever is in the WAL is found, by everything that stands in it and nothing that does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.audit import index, search, streams
from ostiary.audit.search import BadQuery, Query
from ostiary.model.printable import printable
from tests.audit_reader import makelog
from tests.audit_reader.makelog import WHO, Log


@pytest.fixture(scope="module")
def state_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("state")
    log = Log(state / "audit/worker-0/2026")
    log.add("anchor", anchor={"origin": log.signer.name})
    makelog.session(log, 20, number=1)
    makelog.session(log, 5, number=2, who={"iss": "i", "sub": "svc", "kind": "workload", "name": "CI", "groups": []})
    log.write()
    control = Log(state / "audit/control/2026", origin="gw1-00112233445566aa/control/2026", seed=3)
    control.count = 5000
    control.add(
        "login",
        login={"status": "denied", "reason": "BAD_TOKEN", "connection": "orders-db"},
        client={"address": "1.2.3.4:5"},
    )
    control.add(
        "login",
        login={"status": "admitted", "connection": "x\x1b[31m\u202e"},
        who={**WHO, "name": "Eve\x1b]0;owned\x07"},
    )
    control.write()
    return state


@pytest.fixture
def state(state_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(state_once, tmp_path / "state")
    return tmp_path / "state"


def count(state: Path, **terms: object) -> int:
    return len(list(search.search(state, Query(limit=1000, **terms))))  # type: ignore[arg-type]


def test_each_field_finds_what_it_should(state: Path) -> None:
    assert count(state) == 1 + (1 + 20 + 18 + 1) + (1 + 5 + 5 + 1) + 2
    assert count(state, person="ANA") == 41
    assert count(state, person="ana lima") == 40
    assert count(state, person="svc") == 12
    assert count(state, actor="helper", kind="intent") == 18
    assert count(state, actor="ana") == 0
    assert count(state, verdict="deny") == 3
    assert count(state, verdict="deny", connection="orders-db") == 3
    assert count(state, verdict="deny", connection="orders-db", kind="deny") == 2
    assert count(state, action="delete") == 2
    assert count(state, object="public.*", action="read") == 23
    assert count(state, object="public.order") == 0
    assert count(state, task="run-2", kind="outcome") == 5
    assert count(state, text="orders_3 select") == 4
    assert count(state, text="orders_* delete") == 2
    assert count(state, text="nowhere") == 0
    assert count(state, reason="bad_token") == 1


ASKED: dict[str, list[str | None]] = {
    "person": ["ana", "svc", "a*", "nobody", None, None],
    "kind": ["intent", "outcome", "s*", None, None],
    "action": ["read", "delete", None, None],
    "text": ["select", "orders_3", "orders_* from", None, None, None],
    "since": ["2026-11-21T00:00:05", "2026-11-21T00:00:0", None, None],
    "until": ["2026-11-21T00:00:10", "2026-12", None, None],
    "object": ["public.orders", "pub*", "*", None, None, None],
}


def fits(entry: dict[str, object], query: dict[str, str]) -> bool:
    """Whether an entry fits, looked at alone."""
    terms, said = index.terms(entry), index.words(entry).casefold().replace("*", " ").split()
    for name, wanted in query.items():
        if name == "text":
            if not all(any(word.startswith(term[:-1]) if term[-1] == "*" else word == term for word in said) for term in wanted.split()):
                return False
        elif name == "since":
            if str(entry["t"]) < wanted:
                return False
        elif name == "until":
            if str(entry["t"]) >= wanted:
                return False
        elif not any(field == name and (text.startswith(wanted[:-1]) if wanted[-1] == "*" else text == wanted) for field, text in terms):
            return False
    return True


@given(query=st.fixed_dictionaries({name: st.sampled_from(values) for name, values in ASKED.items()}), newest=st.booleans(), much=st.booleans())
def test_any_question_is_answered_as_by_looking_at_each_entry(
    state_once: Path, query: dict[str, str | None], *, newest: bool, much: bool
) -> None:
    asked = {name: wanted for name, wanted in query.items() if wanted is not None}
    everything = [entry["id"] for entry in search.search(state_once, Query(limit=1000, newest_first=newest))]
    by_id = {entry["id"]: entry for entry in search.search(state_once, Query(limit=1000))}
    with pytest.MonkeyPatch.context() as patch:
        if much:  # as if each beginning stood for more than is sorted, or merged, at once
            patch.setattr(streams, "_SORTED", 1)
        found = [entry["id"] for entry in search.search(state_once, Query(limit=1000, newest_first=newest, **asked))]  # type: ignore[arg-type]
    assert found == [each for each in everything if fits(by_id[each], asked)]


def test_a_beginning_of_very_many_terms_is_merged_or_sorted_alike(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = [entry["id"] for entry in search.search(state, Query(session="*", limit=1000))]
    assert len(want) == 52
    monkeypatch.setattr(streams, "_SORTED", 1)
    assert [entry["id"] for entry in search.search(state, Query(session="*", limit=1000))] == want
    monkeypatch.setattr(streams, "_MERGED", 1)
    assert [entry["id"] for entry in search.search(state, Query(session="*", limit=1000))] == want


def test_entries_of_one_microsecond_keep_their_order(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit/w/2026")
    same = [{"id": makelog.uuid7(n), "kind": "key", "t": "2026-11-21T09:00:00.000001Z", "v": 1} for n in range(3000)]
    log.entries = [makelog.jcs(entry) for entry in same]
    log.write()
    found = [entry["id"] for entry in search.search(tmp_path, Query(limit=5000, newest_first=False))]
    assert found == [entry["id"] for entry in same]


def test_times_bound_from_below_inclusively_and_from_above_exclusively(state: Path) -> None:
    times = sorted(entry["t"] for entry in search.search(state, Query(limit=1000)))
    assert count(state, since=times[5]) == len(times) - 5
    assert count(state, until=times[5]) == 5
    assert count(state, since="2026-11-21", until="2026-11-22") == len(times)
    assert count(state, since="2026-11-22") == 0
    for bad in ("yesterday", "20", "2026/11/21", "2026-11-21T08:01:02.1234567", "'; drop table entry"):
        with pytest.raises(BadQuery):
            count(state, since=bad)


def test_order_and_limit_are_kept_and_tail_reads_forwards(state: Path) -> None:
    newest = [e["t"] for e in search.search(state, Query(limit=7))]
    assert newest == sorted(newest, reverse=True)
    oldest = [e["t"] for e in search.search(state, Query(limit=7, newest_first=False))]
    assert oldest == sorted(oldest)
    assert [e["t"] for e in search.tail(state, 7)] == newest[::-1]
    with pytest.raises(BadQuery):
        count(state, text=" ")
    with pytest.raises(BadQuery):
        list(search.search(state, Query(limit=0)))


def test_what_was_just_written_is_found_and_half_a_frame_is_waited_for(state: Path) -> None:
    before = count(state)
    wal = max((state / "audit/worker-0/2026/wal").iterdir())
    whole = wal.read_bytes().rstrip(b"\0")
    entry = makelog.jcs({"v": 1, "id": makelog.uuid7(77_777), "kind": "key", "t": "2026-11-21T09:00:00.000000Z"})
    frame = len(entry).to_bytes(4, "little") + makelog.crc32c(entry).to_bytes(4, "little") + entry
    wal.write_bytes(whole + frame[:-5] + bytes(50))
    assert count(state) == before
    wal.write_bytes(whole + frame + bytes(50))
    assert count(state) == before + 1
    assert count(state) == before + 1
    found = search.show(state, makelog.uuid7(77_777).upper())
    assert found is not None
    assert (found.origin, found.entry["kind"]) == ("worker-0/2026", "key")
    assert search.show(state, "no such id") is None


def test_follow_tells_the_last_and_then_the_new(state: Path) -> None:
    stream = search.follow(state, Query(kind="key"), count=3)
    wal = max((state / "audit/worker-0/2026/wal").iterdir())
    data = wal.read_bytes().rstrip(b"\0")
    for n in range(2):
        entry = makelog.jcs(
            {"v": 1, "id": makelog.uuid7(90_000 + n), "kind": "key", "t": f"2026-11-21T09:00:0{n}.000000Z"}
        )
        data += len(entry).to_bytes(4, "little") + makelog.crc32c(entry).to_bytes(4, "little") + entry
        wal.write_bytes(data)
        assert next(stream)["id"] == makelog.uuid7(90_000 + n)
    stream.close()  # type: ignore[attr-defined]


def test_the_outcome_of_an_intent_is_found(state: Path) -> None:
    intent = next(search.search(state, Query(kind="intent")))
    found = search.outcome_of(state, intent["id"])
    assert found is not None
    assert found.entry["ref"] == intent["id"]


def test_dropping_and_rebuilding_gives_the_same_and_reports_progress(state: Path) -> None:
    before = [e["id"] for e in search.search(state, Query(limit=1000))]
    told: list[tuple[int, int]] = []
    assert index.rebuild(state, lambda done, total: told.append((done, total))) == len(before)
    assert told
    assert all(done <= total for done, total in told)
    assert [e["id"] for e in search.search(state, Query(limit=1000))] == before
    (state / index.FILE).write_bytes(b"not a database, but as long as one has to be to be looked at" * 100)
    for suffix in ("-wal", "-shm"):
        (state / f"{index.FILE}{suffix}").unlink(missing_ok=True)
    assert [e["id"] for e in search.search(state, Query(limit=1000))] == before
    assert (state / index.FILE).stat().st_mode & 0o777 == 0o600


def test_a_log_that_lost_its_end_is_indexed_anew(state: Path) -> None:
    before = count(state)
    wal = max((state / "audit/worker-0/2026/wal").iterdir())
    data = wal.read_bytes()
    last = data.rindex(b'{"boot"')
    wal.write_bytes(data[: last - 8] + bytes(500))
    assert count(state) == before - 1


def test_nothing_protected_is_in_the_index_and_the_payload_is_found_nowhere(state: Path) -> None:
    assert count(state) > 0
    for path in (p for p in state.rglob("*") if p.is_file()):
        assert makelog.PLANTED.encode() not in path.read_bytes(), path


def test_a_summary_cannot_drive_a_terminal(state: Path) -> None:
    lines = [search.summary(entry) for entry in search.search(state, Query(limit=1000))]
    assert all(line.isprintable() for line in lines)
    assert any("Eve\\x1b]0;owned\\x07" in line for line in lines)
    assert any("Ana Lima → helper" in line and "permit" in line for line in lines)


def test_a_query_is_no_sql_and_no_fts(state: Path) -> None:
    for text in ('"', "a AND", "NEAR(", "col:x", "^a", "a*b", "'; --", "\0x", "-x"):
        assert count(state, text=f"x{text}") >= 0
        assert count(state, person=text) == 0


@pytest.mark.parametrize(
    ("text", "safe"),
    [("plain", "plain"), ("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\u202eabc", "\\u202eabc"), ("a\\n", "a\\\\n"), ("é漢", "é漢"), ("\ud800", "\\ud800"), ("\x9b1m", "\\x9b1m"),
     ("a\u3164\ufe0f", "a\\u3164\\ufe0f"), ("\u034f", "\\u034f"), ("☎️", "☎️"), ("1️⃣", "1️⃣"), ("\U000e0100", "\\U000e0100")],
)  # fmt: skip
def test_strangers_text_is_spelled_out(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_entries_that_are_damaged_do_not_stop_a_search(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit/w/2026")
    log.entries = [
        b"garbage",
        b"[1]",
        b'{"kind":5,"who":[],"op":{"objects":[1,null]},"id":7}',
        makelog.jcs({"id": "x", "kind": "gap", "t": "2026"}),
    ]
    log.write()
    assert [json.dumps(e["id"]) for e in search.search(tmp_path, Query(kind="gap"))] == ['"x"']
    assert len(list(search.search(tmp_path, Query()))) >= 1
