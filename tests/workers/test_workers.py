"""Several workers in one gateway, before a real PostgreSQL: what one knows, all know, and each has a log of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ostiary.app.alerting import read_logs
from ostiary.config.load import parse
from ostiary.model.errors import ConfigError
from ostiary.testing.gateway import Gateway, GatewayDidNotStart, gateway, target
from ostiary.testing.peers import Peer, postgres_cluster
from ostiary.testing.pgclient import Closed, PgClient, ServerError
from tests.workers.spread import on_each

POLICY = """permit (principal, action, resource);
permit (principal, action in [Ostiary::Action::"opaque", Ostiary::Action::"transfer"], resource);"""
CANCELLED = "57014"


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with postgres_cluster() as found:
        yield found


@pytest.fixture(scope="module")
def gate(peer: Peer) -> Iterator[Gateway]:
    with two(peer) as found:
        yield found


@contextlib.contextmanager
def two(peer: Peer, *, workers: int = 2, **more: Any) -> Iterator[Gateway]:
    """A gateway with two workers."""
    with gateway(connections=more.pop("connections", {"db": target(peer)}), policy=POLICY, workers=workers, **more) as found:
        yield found


@contextlib.contextmanager
def on_both(gate: Gateway, *, token: str | None = None, of: int = 2) -> Iterator[dict[str, PgClient]]:
    """A session on each worker, of which there are so many."""
    with on_each(gate, token=token) as found:
        assert sorted(found) == [f"worker-{number}" for number in range(1, of + 1)]
        yield found


def workers(gate: Gateway) -> dict[str, int]:
    """Process ids of the workers, by writer: who has the lock of a log open."""
    found = {}
    for pid in gate.pids():
        with contextlib.suppress(OSError):
            if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                held = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
                found |= {m[1]: pid for each in held if (m := re.search(r"audit/(worker-\d+)/\d+[.\d]*/lock$", each))}
    return found


def patiently(true: Any, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return bool(true())


def verified(gate: Gateway) -> str:
    """Every log is whole; what the verifier said."""
    done = gate.run("audit", "verify", "--live")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sessions_come_to_both_workers_and_each_has_a_log_of_its_own(gate: Gateway) -> None:
    with on_both(gate) as clients:
        assert {client.query("SELECT 7").rows[0][0] for client in clients.values()} == {b"7"}
    starts = {e["gw"] for e in gate.entries() if e["kind"] == "config" and e["config"]["action"] == "start"}
    assert starts == {"gw-test/worker-1", "gw-test/worker-2"}
    listed = gate.run("sessions", "list", "-o", "json", "-c", str(gate.config))
    assert listed.returncode == 0, listed.stderr
    ids = {e["session"]: e["gw"] for e in gate.entries() if e["kind"] == "session.start"}
    shown = {number for number in ids if number in listed.stdout}
    assert {ids[number] for number in shown} == starts


def cancel(gate: Gateway, client: PgClient, key: bytes) -> None:
    """Send a CancelRequest, and wait until it was seen to."""
    with socket.create_connection((gate.host, gate.port), 10) as sock:
        sock.sendall((8 + 4 + len(key)).to_bytes(4, "big") + (80877102).to_bytes(4, "big") + client.cancel_key[:4] + key)
        assert sock.recv(1) == b""


def sleeps(client: PgClient) -> tuple[threading.Thread, list[Any]]:
    replies: list[Any] = []
    thread = threading.Thread(target=lambda: replies.append(client.query("SELECT pg_sleep(30)")), daemon=True)
    thread.start()
    return thread, replies


def is_asleep(peer: Peer) -> bool:
    return "1" in peer.psql("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'")


def test_a_cancel_reaches_its_session_whichever_worker_it_comes_to(gate: Gateway, peer: Peer) -> None:
    with on_both(gate) as clients:
        for client in clients.values():
            for _ in range(4):  # the kernel chooses the worker that each cancel comes to
                thread, replies = sleeps(client)
                assert patiently(lambda: is_asleep(peer))
                cancel(gate, client, client.cancel_key[4:])
                thread.join(20)
                assert replies[0].errors[0]["C"] == CANCELLED


def test_a_cancel_with_a_key_that_was_guessed_does_nothing_and_says_nothing(gate: Gateway, peer: Peer) -> None:
    with on_both(gate) as clients:
        for client in clients.values():
            thread, replies = sleeps(client)
            assert patiently(lambda: is_asleep(peer))
            right = client.cancel_key[4:]
            for guess in (bytes(len(right)), right[:-1] + bytes([right[-1] ^ 1]), bytes([right[0] ^ 128]) + right[1:], right + b"\0"):
                for _ in range(3):
                    cancel(gate, client, guess)
            assert is_asleep(peer)
            assert not replies
            cancel(gate, client, client.cancel_key[4:])
            thread.join(20)
            assert replies[0].errors[0]["C"] == CANCELLED


def test_who_notified_is_named_by_the_number_that_its_client_was_told_whichever_worker_has_it(gate: Gateway) -> None:
    with on_both(gate) as clients:
        for who, hears in (("worker-1", "worker-2"), ("worker-2", "worker-1")):
            clients[hears].query("LISTEN news")
            clients[who].query("NOTIFY news, 'x'")
            told = clients[hears].read_message()
            assert (told.tag, told.body[:4]) == (b"A", clients[who].cancel_key[:4])
            clients[hears].query("UNLISTEN news")


def test_what_changes_in_one_worker_is_known_to_the_other_before_its_next_statement(peer: Peer) -> None:
    protect = {"public.hidden.secret": {"class": "ssn", "mask": "redact"}}
    peer.psql("CREATE TABLE before (secret text); INSERT INTO before VALUES ('abc')")
    with two(peer, connections={"db": target(peer, protect=protect, catalogue_seconds=600)}) as gate, on_both(gate) as clients:
        one, other = clients.values()
        assert other.query("SELECT secret FROM before").rows == [(b"abc",)]
        assert not one.query("ALTER TABLE before RENAME TO hidden").errors
        masked = other.query("SELECT secret FROM hidden")
        assert not masked.errors
        assert len(masked.rows) == 1
        assert masked.rows != [(b"abc",)]
        assert not other.query("CREATE TABLE later (id int)").errors
        assert not one.query("SELECT id FROM later").errors


def test_no_more_sessions_are_open_on_a_connection_than_it_may_have_in_all_workers(peer: Peer) -> None:
    with two(peer, connections={"db": target(peer, max_sessions=5)}) as gate, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(gate.connect("db"))
        for _ in range(8):  # whichever worker it comes to
            with pytest.raises(ServerError, match="a limit on sessions was reached"):
                gate.connect("db")


def test_whoever_is_revoked_is_out_of_every_worker(gate: Gateway) -> None:
    token = gate.token("eve")
    with on_both(gate, token=token) as clients:
        assert httpx.post(f"http://127.0.0.1:{gate.api_port}/v1/revoke", data={"token": token}).status_code == 200
        for client in clients.values():
            with pytest.raises((Closed, OSError)):
                while not client.query("SELECT 1").closed:
                    pass
                raise Closed
    for _ in range(6):  # whichever worker it comes to
        with pytest.raises(ServerError):
            gate.connect("db", token=token)


def test_rules_hear_what_the_workers_wrote_in_the_order_in_which_it_happened(gate: Gateway) -> None:
    """Refusals in a row are in a row whichever worker each came to."""
    with on_both(gate) as clients:
        for _ in range(3):
            for client in clients.values():
                client.query("SELECT 1")
        heard = [each for each in read_logs(gate.state, {})[0] if each["kind"] == "intent"]
    assert {each["gw"] for each in heard} == {"gw-test/worker-1", "gw-test/worker-2"}
    assert [each["t"] for each in heard] == sorted(each["t"] for each in heard)


def test_policies_are_taken_by_all_workers_or_by_none(peer: Peer) -> None:
    with two(peer) as gate, on_both(gate) as clients:
        policy = gate.home / "policy.cedar"

        def reloads() -> list[dict[str, Any]]:
            return [e for e in gate.entries() if e["kind"] == "config" and e["config"]["action"] == "reload"]

        def reload(text: str) -> list[dict[str, Any]]:
            seen = {e["id"] for e in reloads()}
            policy.write_text(text)
            os.kill(gate.process.pid, signal.SIGHUP)
            assert patiently(lambda: len(reloads()) == len(seen) + 2)
            fresh = [e for e in reloads() if e["id"] not in seen]
            assert {e["gw"] for e in fresh} == {"gw-test/worker-1", "gw-test/worker-2"}
            return fresh

        def starts() -> list[str]:
            found = [e for e in gate.entries() if e["kind"] == "config" and e["config"]["action"] == "start"]
            return [e["config"]["policy"] for e in sorted(found, key=lambda e: e["id"])]

        taken = reload('forbid (principal, action == Ostiary::Action::"read", resource); permit (principal, action, resource);')
        (digest,) = {e["config"]["policy"] for e in taken}
        assert digest != starts()[0]
        for client in clients.values():
            assert patiently(lambda client=client: client.query("SELECT relname FROM pg_class LIMIT 1").errors)
        assert all("refused" in e["config"] for e in reload("permit (principal, action, resource) when { nonsense };"))
        # What is started now runs under what is in force, not under what stands in the file.
        os.kill(workers(gate)["worker-2"], signal.SIGKILL)
        assert patiently(lambda: len(starts()) == 3)
        assert starts()[-1] == digest


def test_a_worker_that_is_killed_takes_its_own_sessions_alone_and_is_back(gate: Gateway) -> None:
    with on_both(gate) as clients:
        pid = workers(gate)["worker-2"]
        os.kill(pid, signal.SIGKILL)
        assert clients["worker-1"].query("SELECT 1").rows == [(b"1",)]
        assert patiently(lambda: workers(gate).get("worker-2", pid) != pid)
        assert patiently(lambda: any("worker-2 process died" in line for line in gate.said))
        assert clients["worker-1"].query("SELECT 1").rows == [(b"1",)]
    with on_both(gate) as clients:
        assert len(clients) == 2
    verified(gate)


def with_workers(gate: Gateway, number: int) -> None:
    text = gate.config.read_text()
    gate.config.write_text(re.sub(r"\nworkers = \d+", f"\nworkers = {number}", text))


@pytest.mark.timeout(400)
def test_fewer_workers_leave_no_log_behind_that_is_not_whole_and_more_go_on_with_it(peer: Peer) -> None:
    with two(peer, workers=3) as gate:
        with on_both(gate, of=3):
            gate.kill()
        with_workers(gate, 1)
        gate.start()
        opened = {e["session"]: e["gw"] for e in gate.entries() if e["kind"] == "session.start"}
        ended = {e["session"] for e in gate.entries() if e["kind"] == "session.end"}
        assert "gw-test/worker-3" in opened.values()
        assert ended == set(opened)
        said = verified(gate)
        assert all(f"/worker-{number}/" in said for number in (1, 2, 3))
        assert gate.stop() == 0
        with_workers(gate, 3)
        gate.start()
        with on_both(gate, of=3):
            pass
        assert gate.stop() == 0
        verified(gate)


def test_several_workers_take_no_address_that_somebody_has(peer: Peer) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sections = {"listen.postgresql": {"address": f"127.0.0.1:{sock.getsockname()[1]}"}}
        with pytest.raises(GatewayDidNotStart, match="cannot listen"), two(peer, sections=sections):
            pass


# --- what is counted ---


def budget(**settings: Any) -> dict[str, list[dict[str, Any]]]:
    return {"budgets": [{"name": "b", "per": "day"} | settings]}


def allowed(clients: dict[str, PgClient], statement: str, times: int) -> int:
    """How many of these go through, by turns in one worker and the other."""
    both = list(clients.values())
    return sum(not both[n % 2].query(statement).is_refused for n in range(times))


def test_a_budget_is_had_once_whichever_worker_it_is_spent_in_and_outlives_workers_and_gateway(peer: Peer) -> None:
    with two(peer, tables=budget(of="operations", most=100)) as gate:
        token = gate.token("bea")
        with on_both(gate, token=token) as clients:
            spent = sum(e["kind"] == "intent" and "who" in e and e["who"]["sub"] == "bea" for e in gate.entries())
            assert allowed(clients, "SELECT 1", 120 - spent) == 100 - spent
        os.kill(workers(gate)["worker-1"], signal.SIGKILL)
        pid = workers(gate)["worker-2"]
        assert patiently(lambda: len(workers(gate)) == 2)
        os.kill(pid, signal.SIGKILL)
        assert patiently(lambda: workers(gate).get("worker-2", pid) != pid and len(workers(gate)) == 2)
        for _ in range(6):
            with gate.connect("db", token=token) as client:
                assert client.query("SELECT 1").is_refused
        assert gate.stop() == 0
        with_workers(gate, 1)  # what was spent is known to one worker, too
        gate.start()
        with gate.connect("db", token=token) as client:
            assert client.query("SELECT 1").is_refused


def test_rows_that_are_left_of_a_day_are_had_once_by_sessions_that_race(peer: Peer) -> None:
    with two(peer, tables=budget(of="rows", most=2_000)) as gate, on_both(gate, token=gate.token("rob")) as clients:
        came: list[int] = []

        def stream(client: PgClient) -> None:
            with contextlib.suppress(Closed, OSError):
                for _ in range(200):
                    reply = client.query("SELECT generate_series(1, 20)")
                    came.append(len(reply.rows))
                    if reply.is_refused or reply.closed:
                        return

        threads = [threading.Thread(target=stream, args=(client,)) for client in clients.values()]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        assert 1_700 <= sum(came) <= 2_000


def test_what_a_mandate_bounds_is_had_once_in_all_workers(gate: Gateway) -> None:
    details = [{"type": "ostiary", "id": "m-workers", "effects": {"calls": 100}}]
    token = gate.token("ana", act={"sub": "coder"}, authorization_details=details)
    with on_both(gate, token=token) as clients:
        spent = sum(e["kind"] == "intent" and e.get("who", {}).get("act") is not None for e in gate.entries())
        assert allowed(clients, "SELECT 1", 130) <= 100 - spent


def test_what_cannot_be_counted_over_several_workers_does_not_start(tmp_path: Path) -> None:
    base = f"""
[gateway]
name = "g"
state_dir = "{tmp_path}/state"
workers = 2
[policy]
files = ["p.cedar"]
"""
    (tmp_path / "p.cedar").write_text("permit (principal, action, resource);")
    for more, key in (
        ("[listen.postgresql]\naddress = '127.0.0.1:0'", "listen.postgresql.address"),
        ("[recordings]\nday_bytes = 10_000_000", "recordings.day_bytes"),
        ("[listen.http]\naddress = '127.0.0.1:5'\n[[budgets]]\nname='b'\nof='operations'\nmost=1\nper='session'", "budgets[0].per"),
        ("[connections.c]\ntype='http'\naddress='127.0.0.1:1'\ntls='disable'\nprefix='/c'\nmax_sessions = 1", "connections.c.max_sessions"),
    ):
        with pytest.raises(ConfigError) as raised:
            parse((base + more).encode(), tmp_path / "ostiary.toml")
        assert key in str(raised.value), raised.value
