"""The commands against a real gateway before a real PostgreSQL: from a token to a proof that stands alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from ostiary.cli.codes import ExitCode
from ostiary.testing.gateway import ISSUER, Gateway, gateway, target
from ostiary.testing.peers import Peer

POLICY = """
@id("everything") permit (principal, action, resource);
@id("no-deletes") @message("Orders stay.") forbid (principal, action == Ostiary::Action::"delete", resource);
"""
CARD = "4111111111111111"


@pytest.fixture(scope="module")
def gate(postgres: Peer) -> Iterator[Gateway]:
    postgres.psql(
        f"create table if not exists cli_orders(id int, card text); insert into cli_orders values (1, '{CARD}')"
    )
    with gateway(connections={"db": target(postgres)}, policy=POLICY) as running:
        running.environment["OSTIARY_SUBJECT_TOKEN"] = running.token()
        psql = ["psql", "-X", "-c", "select * from cli_orders", "-c", "delete from cli_orders"]
        done = running.run("connect", "db", "--", *psql)
        assert CARD not in done.stdout
        assert "1 row" in done.stdout
        assert "policy no-deletes forbids delete on relation public.cli_orders: Orders stay." in done.stderr
        assert done.returncode == 1, "the client's own exit code"
        yield running
    postgres.psql("drop table cli_orders")


def told(gate: Gateway, *arguments: str, code: int = ExitCode.OK) -> str:
    done = gate.run(*arguments)
    assert done.returncode == code, done.stderr
    return done.stdout


def denied(gate: Gateway) -> str:
    (line,) = told(gate, "audit", "search", "--kind", "deny", "-o", "json").splitlines()
    return str(json.loads(line)["id"])


def test_a_token_is_minted_for_one_connection(gate: Gateway) -> None:
    found = json.loads(told(gate, "token", "db", "-o", "json"))
    assert found["access_token"].count(".") == 2
    assert 0 < found["expires_in"] <= 3600
    done = gate.run("token", "no-such-db")
    assert done.returncode == ExitCode.NOT_ADMITTED
    assert done.stderr.count("\n") == 1


def test_a_statement_is_explained_by_the_targets_own_catalogue(gate: Gateway) -> None:
    found = json.loads(told(gate, "policy", "explain", "db", "--sql", "select card from cli_orders", "-o", "json"))
    assert found["resources"][0]["name"] == "public.cli_orders"
    assert found["resources"][0]["columns"] == ["card"]
    refused = told(gate, "policy", "explain", "db", "--sql", "delete from cli_orders", code=ExitCode.NO)
    assert "no-deletes" in refused
    assert told(gate, "policy", "explain", "db", "--sql", "delete frm x", code=ExitCode.NO).startswith("DENY")


def test_the_session_is_listed_shown_and_replayed_masked(gate: Gateway) -> None:
    (row,) = json.loads(told(gate, "sessions", "list", "-o", "json", "--connection", "db", "--person", "ana"))
    assert (row["who"], row["status"], row["operations"]) == ("Ana", "ended", 1)
    shown = json.loads(told(gate, "sessions", "show", row["session"], "-o", "json"))
    assert [entry["kind"] for entry in shown] == ["session.start", "intent", "outcome", "deny", "session.end"]
    replayed = told(gate, "sessions", "replay", row["session"])
    assert "> select * from cli_orders" in replayed
    assert "****" in replayed
    assert CARD not in replayed
    events = [json.loads(line) for line in told(gate, "sessions", "replay", row["session"], "-o", "json").splitlines()]
    assert "row" in {event["kind"] for event in events}
    assert "gap" not in {event["kind"] for event in events}


def test_the_log_is_found_shown_verified_and_exported_once(gate: Gateway) -> None:
    entry = denied(gate)
    assert "cli_orders" in told(gate, "audit", "search", "cli_orders", "--action", "delete")
    assert told(gate, "audit", "tail", "-n", "3").count("\n") == 3
    assert json.loads(told(gate, "audit", "show", entry, "-o", "json"))["entry"]["decision"]["policies"] == [
        "no-deletes"
    ]
    assert {report["status"] for report in json.loads(told(gate, "audit", "verify", "-o", "json"))} == {"whole"}
    first = told(gate, "audit", "export", "--cursor", "cursor.json").splitlines()
    assert entry in {json.loads(line)["entry"]["id"] for line in first}
    again = told(gate, "audit", "export", "--cursor", "cursor.json").splitlines()
    assert not {json.loads(line)["entry"]["id"] for line in again} & {json.loads(line)["entry"]["id"] for line in first}


def test_a_proof_stands_alone_and_a_changed_one_proves_nothing(gate: Gateway) -> None:
    refused = denied(gate)
    deadline = time.monotonic() + 60
    while gate.run("audit", "prove", refused, "--file", "proof.txt").returncode:  # until a checkpoint covers it
        assert time.monotonic() < deadline
    assert told(gate, "audit", "verify", "proof.txt").startswith("PROVED")
    proof = (gate.home / "proof.txt").read_text()
    line = proof.splitlines()[1]
    (gate.home / "bad.txt").write_text(proof.replace(line, line[:40] + ("B" if line[40] == "A" else "A") + line[41:]))
    told(gate, "audit", "verify", "bad.txt", code=ExitCode.NO)


def test_connect_binds_its_token_to_a_key_where_policy_wants_that(postgres: Peer) -> None:
    demand = '@id("bound") forbid (principal, action, resource) unless { context.bound };'
    with gateway(connections={"db": target(postgres)}, policy="permit (principal, action, resource);" + demand) as running:
        running.environment["OSTIARY_SUBJECT_TOKEN"] = running.token("ana")
        psql = ["--", "psql", "-At", "-c", "SELECT 6 * 7"]
        assert running.run("connect", "db", "-c", str(running.config), *psql).returncode == 2
        done = running.run("connect", "db", "--bound", "-c", str(running.config), *psql)
        assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
        twice = "psql -At -c 'SELECT 1'; psql -At -c 'SELECT 2'"
        done = running.run("connect", "db", "--bound", "-c", str(running.config), "--", "sh", "-c", twice)
        assert (done.returncode, done.stdout) == (2, "1\n"), "the proof is good for one login"


def test_a_delegation_is_given_listed_and_ended(gate: Gateway) -> None:
    place = gate.home / "ana.token"
    place.touch(mode=0o600)
    place.write_text(told(gate, "token", "db").strip())
    mine = ["--from", f"file:{place}"]
    bounds = ["--to-issuer", ISSUER, "--connection", "db", "--action", "read", "--ticket", "OPS-42"]
    given = json.loads(told(gate, "delegate", "create", "coder", *bounds, *mine, "-o", "json"))
    (row,) = json.loads(told(gate, "delegate", "list", *mine, "-o", "json"))
    assert (row["id"], row["to_sub"], row["state"], row["ticket"]) == (given["id"], "coder", "open", "OPS-42")
    assert "revoked" in gate.run("delegate", "revoke", given["id"][:12], *mine).stderr
    assert "ended" in told(gate, "delegate", "list", *mine)
    assert gate.run("delegate", "create", "coder", "--to-issuer", ISSUER, *mine).returncode != ExitCode.OK
