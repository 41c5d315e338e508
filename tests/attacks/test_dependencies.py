"""What the gateway leans on goes away, or is shared: the corpus's AUD-008, FLT-011, FLT-013 and FLT-025."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.testing.gateway import Gateway
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import Closed, ServerError
from tests.attacks.lab import guarded, target_with
from tests.attacks.logs import closes_every_intent, verifies
from tests.attacks.test_faults import patiently

pytestmark = pytest.mark.timeout(int(os.environ.get("OSTIARY_TEST_SECONDS", "300")))

CHURN = int(os.environ.get("OSTIARY_CHURN", "200"))
"""Sessions that come and go: the corpus asks for 10,000, which `make soak` sets."""
AT_ONCE = int(os.environ.get("OSTIARY_CHURN_AT_ONCE", "20"))


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with target_with([{"id": "fault"}]) as running:
        yield running


@pytest.fixture(scope="module")
def gate(peer: Peer) -> Iterator[Gateway]:
    with guarded(peer, ["fault"]) as running:
        yield running


# --- one token for three agents ---


def logins(gate: Gateway, status: str) -> list[dict[str, object]]:
    return [entry["login"] for entry in gate.entries() if entry["kind"] == "login" and entry["login"]["status"] == status]


def test_aud_008_a_token_that_three_agents_share_is_refused_or_every_use_is_marked(peer: Peer) -> None:
    strict = {"misuse": {"another_client": "refuse"}}
    with guarded(peer, ["fault"], issuer={"kind": "agent"}, sections=strict) as gate:
        token = gate.token("shared-agent")
        with gate.connect("fault", token=token, application_name="planner 1") as first:
            assert first.query("SELECT 1").rows
        for other in ("coder 1", "tester 1"):
            with pytest.raises(ServerError, match="unusual"):
                gate.connect("fault", token=token, application_name=other)
        denied = logins(gate, "denied")
        assert [each["reason"] for each in denied] == ["MISUSED_TOKEN"] * 2
        # Whatever is let in says which token it was, so what was done with one token is found by it.
        marks = {entry["auth"]["token"] for entry in gate.entries() if entry.get("who", {}).get("sub") == "shared-agent" and "auth" in entry}
        assert len(marks) == 1


def test_aud_008_where_policy_wants_tokens_bound_a_copy_without_the_key_opens_nothing(peer: Peer) -> None:
    with guarded(peer, ["fault"], issuer={"kind": "agent"}) as gate:
        policy = gate.home / "policy.cedar"
        policy.write_text(policy.read_text() + '\n@id("bound") forbid (principal, action, resource) unless { context.bound };\n')
        gate.stop()
        gate.start()
        for _ in range(3):
            with pytest.raises(ServerError, match="not permit"):
                gate.connect("fault", token=gate.token("shared-agent"))
        assert len(logins(gate, "denied")) == 3


# --- a store that the log is sent to ---


class Store:
    """Somebody else's store, over TCP: it takes so many bytes and then resets the connection."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.got = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        client, _ = self.listener.accept()
        with client:
            while len(self.got) < self.takes and (more := client.recv(min(4096, self.takes - len(self.got)))):
                self.got += more
            if len(self.got) >= self.takes:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST

    def send_to(self, gate: Gateway) -> int:
        """Export to it, as far as it goes; returns the command's exit code."""
        command = [sys.executable, "-m", "ostiary.cli.main", "audit", "export", "--cursor", "cursor.json", "-c", str(gate.config)]
        with socket.create_connection(self.listener.getsockname()) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            done = subprocess.run(command, env=gate.environment, cwd=gate.home, stdout=line, stderr=subprocess.PIPE, check=False, timeout=60)
        self.thread.join(30)
        self.listener.close()
        return done.returncode


def test_flt_011_a_store_that_is_down_holds_nothing_up_and_catches_up_with_each_entry_once(gate: Gateway) -> None:
    with gate.connect("fault") as client:
        for _ in range(100):  # more than sockets hold
            assert client.query("SELECT 1").rows
        down = Store(takes=3000)
        assert down.send_to(gate) != 0
        assert not (gate.home / "cursor.json").exists(), "it remembers only what went out whole"
        for _ in range(30):  # the local log goes on
            assert client.query("SELECT count(*) FROM other").rows
    closes_every_intent(gate)
    back = Store(takes=1 << 30)
    assert back.send_to(gate) == 0
    told = Counter(json.loads(line)["entry"]["id"] for line in back.got.splitlines())
    kept = {entry["id"] for entry in gate.entries()}
    assert set(told) == kept
    assert set(told.values()) == {1}
    again = Store(takes=1 << 30)
    assert again.send_to(gate) == 0
    assert not {json.loads(line)["entry"]["id"] for line in again.got.splitlines()} & set(told)


# --- the process that keeps approvals, grants and revocations ---


def control_of(gate: Gateway) -> int:
    (found,) = [pid for pid in gate.pids() if b"\0control\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def test_flt_013_while_the_control_process_is_deaf_nobody_new_is_let_in_and_open_sessions_go_on(gate: Gateway) -> None:
    with gate.connect("fault") as client:
        control = control_of(gate)
        os.kill(control, signal.SIGSTOP)
        try:

            def refused() -> bool:
                try:
                    gate.connect("fault").close()
                except ServerError as exc:
                    return "cannot check the token now" in str(exc)
                return False

            assert patiently(refused), "somebody is let in whose revocation could not be heard of"
            assert client.query("SELECT count(*) FROM other").rows, "an open session goes on"
        finally:
            os.kill(control, signal.SIGCONT)

        def admitted() -> bool:
            with contextlib.suppress(ServerError, Closed, OSError), gate.connect("fault") as another:
                return bool(another.query("SELECT 1").rows)
            return False

        assert patiently(admitted)
    assert "CONTROL_UNREACHABLE" in {each["reason"] for each in logins(gate, "denied")}


# --- very many sessions ---


def test_flt_025_sessions_that_come_and_go_in_crowds_are_all_on_record(gate: Gateway) -> None:
    done: list[str] = []
    failed: list[str] = []

    def come_and_go(worker: int) -> None:
        for n in range(worker, CHURN, AT_ONCE):
            subject = f"crowd-{n}"
            try:
                with gate.connect("fault", token=gate.token(subject)) as client:
                    assert client.query("SELECT 1").rows
                done.append(subject)
            except (ServerError, Closed, OSError) as exc:
                failed.append(str(exc))

    workers = [threading.Thread(target=come_and_go, args=(n,)) for n in range(AT_ONCE)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert len(done) == CHURN, failed[:3]
    closes_every_intent(gate)

    def counted(kind: str) -> Counter[str]:
        return Counter(entry["who"]["sub"] for entry in gate.entries() if entry["kind"] == kind and entry["who"]["sub"].startswith("crowd-"))

    assert patiently(lambda: len(counted("session.end")) == CHURN)
    for kind in ("session.start", "intent", "outcome", "session.end"):
        assert counted(kind) == Counter(done), kind
    verifies(gate)
