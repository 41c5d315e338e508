"""Who touched a value: found in every way in which it was sent or shown, never where it was masked, and nowhere once it was erased."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from ostiary.audit.search import BadQuery, Query, search
from ostiary.cli.codes import ExitCode
from ostiary.cli.recordings import touched
from ostiary.config.load import load
from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import copy_data, packet, query

POLICY = '@id("everything") permit (principal, action, resource);'
MASKED = "12 Main Street"


@pytest.fixture(scope="module")
def gate(postgres: Peer) -> Iterator[Gateway]:
    postgres.psql(
        "create table touched(id int primary key, who uuid, note text, address text);"
        f"insert into touched select n, null, 'note '||n, '{MASKED}' from generate_series(1, 9000) n"
    )
    protect = {"public.touched.address": {"class": "address", "mask": "redact"}}
    with gateway(connections={"db": target(postgres, protect=protect)}, policy=POLICY) as running:
        yield running
    postgres.psql("drop table touched")


def session(gate: Gateway) -> str:
    (row,) = json.loads(gate.run("sessions", "list", "-o", "json", "--limit", "1").stdout)
    return str(row["session"])


def heads(gate: Gateway, *, cli: bool = False, **question: str) -> list[str]:
    """The statements that are found; by the command itself, or by what it calls."""
    if cli:
        done = gate.run("audit", "search", "-o", "json", *(part for name, text in question.items() for part in (f"--{name}", text)))
        assert done.returncode in {ExitCode.OK, ExitCode.NO}, done.stderr
        return [json.loads(line)["stmt"]["head"] for line in done.stdout.splitlines()]
    found = search(gate.state, Query(**question), touched(load(gate.config)))  # type: ignore[arg-type]
    return [entry["stmt"]["head"] for entry in found]


def test_a_value_is_found_however_it_was_sent_or_shown(gate: Gateway) -> None:
    with gate.connect("db") as db:
        db.query("select note from touched where id = 4711")
        db.extended("select note from touched where id = $1", [b"4712"])
        db.extended("select id, note from touched where id = $1", [b"4713"], mode="binary")
        db.extended("select 1 from touched where note = $1", [b"it's"])
        db.query("select 2 from touched where note = 'it''s'")
        rows = copy_data(b"70001\tcop") + copy_data(b"ied\n") + packet(b"c", b"")
        assert not db.ask(query(b"copy touched (id, note) from stdin") + rows).is_refused
        db.query("copy (select id, note from touched where id = 70001) to stdout")
        # While the session goes on, and again from its tokens when it has ended.
        assert heads(gate, value="4711") == ["select note from touched where id = ?"]
        assert len(heads(gate, value="note 4712")) == 1
    for _ in range(2):
        assert heads(gate, value="4711") == ["select note from touched where id = ?"]
        assert len(heads(gate, value="note 4711")) == 1
        assert len(heads(gate, value="4712")) == 1
        assert len(heads(gate, value="NOTE 4712")) == 1, "terms are compared without case"
        assert len(heads(gate, value="4713")) == 1
        assert len(heads(gate, value="note 4713")) == 1
        assert len(heads(gate, value="it's")) == 2
        assert len(heads(gate, value="copied")) == 2
        assert len(heads(gate, cli=True, row="touched/4711")) == 1
        assert len(heads(gate, row="public.touched/4711")) == 1
        assert heads(gate, row="touched/4714") == []
        assert heads(gate, row="elsewhere/4711") == []
        assert heads(gate, value="4711", person="nobody") == []


def test_what_was_masked_is_not_found_and_stands_nowhere(gate: Gateway) -> None:
    with gate.connect("db") as db:
        assert db.query("select id, address from touched where id < 3").rows != []
    assert heads(gate, value=MASKED) == []
    for path, data in gate.written():
        assert MASKED.encode() not in data, path
        assert b"note 4711" not in data, path


def test_an_operation_with_more_values_than_get_tokens_is_found_all_the_same(gate: Gateway) -> None:
    with gate.connect("db") as db:
        assert len(db.query("select id, note from touched").rows) >= 9000
    assert "select id, note from touched" in heads(gate, value="note 8999")


def test_a_password_in_a_statement_has_no_token(gate: Gateway) -> None:
    with gate.connect("db") as db:
        db.query("create role touched_role password 'correct horse'")
        db.query("drop role touched_role")
    assert heads(gate, value="correct horse") == []


def test_looking_for_a_value_is_on_record_and_the_value_is_not(gate: Gateway) -> None:
    heads(gate, cli=True, value="someone's secret")
    (last,) = gate.run("audit", "search", "--kind", "replay", "-o", "json", "--limit", "1").stdout.splitlines()
    assert json.loads(last)["replay"] == {"how": "searched"}
    assert all(b"someone's secret" not in data for _, data in gate.written())


def test_what_was_erased_is_found_no_more_and_the_index_forgets_it(gate: Gateway) -> None:
    with gate.connect("db") as db:
        db.query("select 'to stay' from touched where id = 1")
    with gate.connect("db") as db:
        db.query("select 'to be erased' from touched where id = 1")
    assert len(heads(gate, value="to be erased")) == 1
    erased = session(gate)
    done = gate.run("audit", "redact", erased, "--reason", "asked for")
    assert done.returncode == ExitCode.OK, done.stderr
    with closing(sqlite3.connect(gate.state / "index.sqlite")) as db:
        sql = "SELECT count(*) FROM token WHERE entry IN (SELECT entry FROM posting JOIN value v ON v.n = value WHERE v.text = ?)"
        assert db.execute(sql, (erased,)).fetchone() == (0,)
    assert heads(gate, value="to be erased") == []
    assert gate.run("audit", "index", "rebuild", "--values").returncode == ExitCode.OK
    assert heads(gate, value="to be erased") == []
    assert len(heads(gate, value="to stay")) == 1


def test_what_is_on_a_legal_hold_is_not_erased_until_it_is_released(gate: Gateway) -> None:
    with gate.connect("db") as db:
        db.query("select 'held' from touched where id = 1")
    kept = session(gate)
    held = gate.run("audit", "hold", "set", "case-17", "--session", kept, "--reason", "court order")
    assert held.returncode == ExitCode.OK, held.stderr
    assert "case-17" in gate.run("audit", "hold", "list").stdout
    done = gate.run("audit", "redact", kept, "--reason", "asked for")
    assert done.returncode == ExitCode.NO
    assert "legal hold case-17" in done.stderr
    assert gate.run("audit", "hold", "release", "case-17", "--reason", "settled").returncode == ExitCode.OK
    assert gate.run("audit", "redact", kept, "--reason", "asked for").returncode == ExitCode.OK
    entries = [entry["config"] for entry in gate.entries() if entry["kind"] == "config" and entry["config"]["action"] in {"hold", "release"}]
    assert entries == [
        {"action": "hold", "name": "case-17", "reason": "court order", "session": kept},
        {"action": "release", "name": "case-17", "reason": "settled"},
    ]


def test_holds_that_are_set_at_once_are_all_kept(gate: Gateway) -> None:
    names = [f"at-once-{number}" for number in range(4)]

    def hold(name: str) -> int:
        return gate.run("audit", "hold", "set", name, "--person", "nobody", "--reason", "court order").returncode

    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(hold, names)) == [ExitCode.OK] * len(names)
    told = gate.run("audit", "hold", "list").stdout
    assert all(name in told for name in names)
    for name in names:
        assert gate.run("audit", "hold", "release", name, "--reason", "settled").returncode == ExitCode.OK


def test_nothing_is_pruned_until_the_configuration_says_how_long_entries_are_kept(gate: Gateway) -> None:
    done = gate.run("audit", "prune")
    assert done.returncode == ExitCode.CONFIG
    assert "audit.keep_days" in done.stderr


def test_a_recording_whose_key_is_not_here_is_said_to_be_left_out(gate: Gateway) -> None:
    with gate.connect("db") as db:
        db.query("select 'behind the key' from touched where id = 1")
    key = gate.state / "keys" / "kek-1.key"
    held = key.read_bytes()
    (gate.state / "index.sqlite").unlink(missing_ok=True)
    key.unlink()
    try:
        done = gate.run("audit", "search", "--value", "4711")
        assert done.returncode == ExitCode.INCOMPLETE
        assert "could not be read" in done.stderr
    finally:
        key.touch(mode=0o600)
        key.write_bytes(held)
    assert len(heads(gate, value="behind the key")) == 1


def test_a_row_is_a_table_and_a_key(gate: Gateway) -> None:
    for wrong in ("orders", "/1", "orders/"):
        with pytest.raises(BadQuery, match="write the table and the key"):
            heads(gate, row=wrong)
