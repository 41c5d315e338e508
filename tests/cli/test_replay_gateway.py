"""A recorded session is run again on a sandbox only, in order and with its parameters, under policy; what differs is shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from ostiary.cli.codes import ExitCode
from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import SYNC, bind, copy_data, execute, packet, parse, query

POLICY = """
@id("everything") permit (principal, action, resource);
@id("no-drops") forbid (principal, action == Ostiary::Action::"define", resource in Ostiary::Label::"sandbox=true");
@id("not-eve") forbid (principal, action, resource in Ostiary::Label::"sandbox=true") when { principal.subject == "eve" };
"""
TABLES = "create table goods(id int primary key, name text, made timestamptz); insert into goods values (1, 'a', now()), (2, 'b', now());"


@pytest.fixture(scope="module")
def gate(postgres: Peer) -> Iterator[Gateway]:
    for name in ("played", "box"):
        postgres.psql(f"create database {name}")
        postgres.psql(f"{TABLES} update goods set made = '2026-01-02 03:04:05.6+00'", database=name)
    connections = {
        "played": target(postgres, database="played"),
        "box": target(postgres, database="box", labels={"sandbox": "true"}),
        "prod": target(postgres, database="box", labels={"env": "sandbox"}),
    }
    with gateway(connections=connections, policy=POLICY) as running:
        running.environment["OSTIARY_SUBJECT_TOKEN"] = running.token()
        yield running
    for name in ("played", "box"):
        postgres.psql(f"drop database {name} with (force)")


def recorded(gate: Gateway) -> str:
    (row,) = json.loads(gate.run("sessions", "list", "-o", "json", "--limit", "1", "--connection", "played").stdout)
    return str(row["session"])


def again(gate: Gateway, session: str, against: str = "box") -> subprocess.CompletedProcess[str]:
    return gate.run("sessions", "replay", session, "--against", against, "-o", "json")


def test_a_session_is_run_again_in_order_with_its_parameters(gate: Gateway, postgres: Peer) -> None:
    with gate.connect("played") as db:
        db.query("begin")
        db.extended("insert into goods (id, name) values ($1, $2)", [b"3", b"it's"])
        db.extended("select id, name, made from goods where id < $1 order by id", [b"3"], mode="binary")
        db.extended("select name from goods where id = $1", [b"3"], mode="describe_then_execute")
        db.query("commit")
        rows = copy_data(b"4\tcop") + copy_data(b"ied\n") + packet(b"c", b"")
        assert not db.ask(query(b"copy goods (id, name) from stdin") + rows).is_refused
        db.query("copy (select id, name from goods order by id) to stdout")
        db.query("select 1/0")
        db.query("")
        db.query("select count(*) from goods; select 2")
    done = again(gate, recorded(gate))
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    assert "0 with another result" in done.stderr
    ran = [json.loads(line)["statement"].split(" ")[0] for line in done.stdout.splitlines()]
    assert [word for word in ran if word] == ["begin", "insert", "select", "select", "commit", "copy", "copy", "select", "select"]
    assert postgres.psql("select name from goods order by id", database="box").split() == ["a", "b", "it's", "copied"]
    entries = gate.entries()
    (begun,) = [entry for entry in entries if entry["kind"] == "replay"]
    assert begun["replay"] == {"connection": "box", "how": "run", "session": recorded(gate)}
    of_replay = [entry for entry in entries if entry.get("target", {}).get("connection") == "box" and entry["kind"] == "intent"]
    assert len(of_replay) == len(ran)
    assert {entry["who"]["sub"] for entry in of_replay} == {"ana"}


@pytest.mark.parametrize(("number", "values"), [(9, b"9\textended\n"), (10, b"")], ids=["rows", "nothing"])
@pytest.mark.timeout(60)
def test_a_copy_of_the_extended_protocol_is_run_again(
    gate: Gateway, postgres: Peer, number: int, values: bytes
) -> None:
    begun = parse(b"", b"copy goods (id, name) from stdin") + bind(b"", b"") + execute(b"")
    data = copy_data(values) if values else b""
    with gate.connect("played") as db:
        assert not db.ask(begun + data + packet(b"c", b"") + SYNC).is_refused
        db.query(f"select count(*) from goods where id = {number}")
    done = again(gate, recorded(gate))
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    assert [json.loads(line)["statement"].split(" ")[0] for line in done.stdout.splitlines()] == ["copy", "select"]
    there = postgres.psql(f"select name from goods where id = {number}", database="box").strip()
    assert there == ("extended" if values else "")


@pytest.mark.timeout(60)
def test_a_copy_of_the_extended_protocol_that_fails_ends_too(gate: Gateway) -> None:
    begun = parse(b"", b"copy goods (id, name) from stdin") + bind(b"", b"") + execute(b"")
    with gate.connect("played") as db:
        assert db.ask(begun + copy_data(b"no number\tx\n") + packet(b"c", b"") + SYNC).is_refused
        assert db.ask(begun + packet(b"f", b"given up\0") + SYNC).is_refused
        db.query("select 1")
    done = again(gate, recorded(gate))
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_what_differs_is_shown_and_the_rest_goes_on(gate: Gateway, postgres: Peer) -> None:
    with gate.connect("played") as db:
        db.query("select name from goods where id < 3 order by id")
        db.query("select id from goods where id < 3 order by name")
        db.query("create table made_there(id int)")
        db.query("select count(*) from goods where id = 1")
    postgres.psql("update goods set name = case id when 1 then 'z' else name end", database="box")
    done = again(gate, recorded(gate))
    assert done.returncode == ExitCode.NO
    first, second, third, last = (json.loads(line) for line in done.stdout.splitlines())
    assert first["differences"] == ["row 1: then (a), now (z)"]
    assert second["differences"] == ["rows: the same in another order"]
    assert any("no-drops" in line for line in third["differences"]), "policy judges it anew"
    assert last["same"]
    shown = gate.run("sessions", "replay", recorded(gate), "--against", "box")
    assert "DIFFERS  select name from goods" in shown.stdout
    assert "row 1: then (a), now (z)" in shown.stdout


def test_what_was_refused_then_is_not_asked_now(gate: Gateway) -> None:
    with gate.connect("played") as db:
        db.query("select 1")
        db.query("alter system set work_mem = '1GB'; select nonsense(")
    done = again(gate, recorded(gate))
    assert [json.loads(line)["statement"] for line in done.stdout.splitlines()] == ["select 1"]


@pytest.mark.parametrize("name", ["played", "prod"])
def test_no_other_connection_than_a_sandbox_is_replayed_on(gate: Gateway, name: str) -> None:
    with gate.connect("played") as db:
        db.query("select 1")
    before = len(gate.entries())
    done = again(gate, recorded(gate), name)
    assert done.returncode == ExitCode.NO
    assert "is no sandbox" in done.stderr
    assert done.stdout == ""
    assert len(gate.entries()) == before, "nothing was asked, and nothing is on record as if it had been"
    assert "there is no such connection" in again(gate, recorded(gate), "elsewhere").stderr


def test_whoever_policy_does_not_let_onto_the_sandbox_replays_nothing(gate: Gateway) -> None:
    with gate.connect("played") as db:
        db.query("select 1")
    gate.environment["OSTIARY_SUBJECT_TOKEN"] = gate.token("eve")
    try:
        done = again(gate, recorded(gate))
    finally:
        gate.environment["OSTIARY_SUBJECT_TOKEN"] = gate.token()
    assert done.returncode == ExitCode.NOT_ADMITTED
    assert done.stdout == ""
