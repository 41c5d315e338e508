"""What the corpus asks of the trail (AUD-…), with a real gateway that wrote it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostiary.testing.gateway import Gateway
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import ServerError, query
from tests.attacks.lab import PASSWORD, guarded, target_with
from tests.attacks.logs import closes_every_intent, verifies, verify
from tests.attacks.runner import SENTINEL

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with target_with([{"id": "audit"}]) as running:
        yield running


@pytest.fixture(scope="module")
def gate(peer: Peer) -> Iterator[Gateway]:
    with guarded(peer, ["audit"]) as running:
        yield running


@pytest.fixture(scope="module")
def busy(peer: Peer) -> Iterator[Gateway]:
    """A gateway that has written a log and was stopped: what tampering is tried on."""
    with guarded(peer, ["audit"]) as running:
        for number in range(3):
            with running.connect("audit", token=running.token(f"worker-{number}")) as client:
                for _ in range(20):
                    assert client.query("SELECT id, name, secret FROM victim").rows
                client.query("DELETE FROM victim")
        running.stop()
        verifies(running)
        yield running


def by(gate: Gateway, subject: str, kind: str | None = None) -> list[dict[str, Any]]:
    mine = [e for e in gate.entries() if e.get("who", {}).get("sub") == subject]
    return [e for e in mine if kind in {None, e["kind"]}]


@pytest.mark.parametrize("name", ['x\n{"decision":"allow","actor":"bob"}', "\x1b]0;owned\x07", "a\r\nb"])
def test_aud_001_text_of_a_client_cannot_forge_an_entry(gate: Gateway, name: str) -> None:
    before = len(gate.entries())
    subject = f"forger-{name.encode().hex()[:8]}"
    token = gate.token(subject, name=name)
    with contextlib.suppress(ServerError), gate.connect("audit", token=token, application_name=name) as client:
        client.query("SELECT 1")  # a control character there may be refused, as it may be let in and escaped
    with contextlib.suppress(ServerError), gate.connect("audit", token=token, user=name) as client:
        client.query("SELECT 1")
    with gate.connect("audit", token=token) as client:
        client.query(f"SELECT 1 /* {name} */")
        client.query(f'SELECT "{name}" FROM victim')
    mine = by(gate, subject)
    assert mine
    assert not any(e.get("actor") == "bob" or e.get("decision") == "allow" for e in gate.entries()[before:])
    found = gate.run("audit", "search", "--person", subject, "-c", str(gate.config))
    assert "\x1b" not in found.stdout
    lines = gate.run("audit", "search", "--person", subject, "-o", "json", "-c", str(gate.config)).stdout.splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_aud_003_bytes_that_are_no_text_are_recorded_and_verify(gate: Gateway) -> None:
    with gate.connect("audit", token=gate.token("garbler")) as client:
        for statement in (b"SELECT '\xff\xfe'", b"SELECT '\xed\xa0\x80'", b"SELECT '\xc3\x28'"):
            assert client.query(statement).is_refused
    denied = by(gate, "garbler", "deny")
    assert denied
    assert all(e["stmt"]["len"] for e in denied)


def test_aud_005_a_statement_larger_than_an_entry_is_kept_whole_beside_it(gate: Gateway) -> None:
    text = "SELECT '" + "x" * (1 << 20) + "'"
    with gate.connect("audit", token=gate.token("verbose")) as client:
        assert client.query(text).rows
    (intent,) = by(gate, "verbose", "intent")
    assert intent["stmt"]["len"] == len(text)
    assert len(intent["stmt"]["head"]) <= 512
    assert len(intent["stmt"]["blob"]) == 64


def test_aud_007_a_claimed_name_is_kept_apart(gate: Gateway) -> None:
    with gate.connect("audit", token=gate.token("real-ana"), user="alice", application_name="not-ana") as client:
        client.query("SELECT 1")
    mine = by(gate, "real-ana")
    assert mine
    for entry in mine:
        assert entry["who"]["sub"] == "real-ana"
        assert "alice" not in json.dumps(entry["who"])
    assert any(e.get("client", {}).get("said", {}).get("user") == "alice" for e in mine)


def test_aud_022_the_same_secret_leaves_no_same_hash(gate: Gateway) -> None:
    with gate.connect("audit", token=gate.token("twice")) as client:
        for _ in range(2):
            client.extended("SELECT $1::text", [b"4111-1111"])
    commits = [e["params"]["commit"] for e in by(gate, "twice", "intent") if "params" in e]
    assert len(commits) == len(set(commits)) == 2


def test_aud_030_a_burst_loses_nothing(gate: Gateway) -> None:
    count = 3000
    with gate.connect("audit", token=gate.token("burst")) as client:
        client.send(b"".join(query(b"SELECT %d" % number) for number in range(count)))
        answered = sum(bool(client.read_reply().rows) for _ in range(count))
    assert answered == count
    assert len(by(gate, "burst", "intent")) == count
    closes_every_intent(gate)


def test_aud_032_a_password_in_a_statement_stands_in_no_leaf(gate: Gateway) -> None:
    word = "hunter2-sentinel"
    with gate.connect("audit", token=gate.token("setter")) as client:
        assert client.query(f"ALTER ROLE postgres PASSWORD '{word}'").is_refused
        assert client.query(f"CREATE USER MAPPING FOR postgres SERVER x OPTIONS (password '{word}')").is_refused
        client.query(f"SELECT '{word}'")
    assert by(gate, "setter", "deny")
    nowhere(gate, word)


def nowhere(gate: Gateway, word: str) -> None:
    """In no file that it wrote and no word that it said, apart from the secret's own file."""
    for path, content in gate.written():
        if path.parent.name != "secrets":
            assert word.encode() not in content, path


def test_planted_secrets_are_nowhere(gate: Gateway) -> None:
    with gate.connect("audit", token=gate.token("planter")) as client:
        client.query("SELECT id, secret FROM victim")
        client.query("COPY victim TO STDOUT")
        client.query(f"SELECT count(*) FROM victim WHERE name = '{SENTINEL}'")
        client.query(f"SELECT '{SENTINEL}'::int")
        client.query(f"DELETE FROM victim WHERE secret = '{SENTINEL}'")
    for arguments in (("search",), ("export",)):
        done = gate.run("audit", *arguments, "-o", "json", "-c", str(gate.config))
        assert SENTINEL not in done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
    nowhere(gate, SENTINEL)
    nowhere(gate, PASSWORD)
    for pid in gate.pids():
        assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert PASSWORD.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def test_the_whole_log_verifies_and_every_intent_is_closed(gate: Gateway) -> None:
    closes_every_intent(gate)
    verifies(gate)


# --- tampering --------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(busy: Gateway, tmp_path: Path) -> Path:
    """A copy of a worker's origin, to be tampered with: the one that has the most of the three sessions, where there are several."""
    origins = [log.parent for log in busy.logs() if "/worker-" in str(log)]
    fullest = max(origins, key=lambda origin: len(list((origin / "payloads").glob("*.osp"))))
    return Path(shutil.copytree(fullest, tmp_path / "origin"))


def a_bundle(origin: Path) -> Path:
    return max(
        (origin / "log" / "tile" / "entries").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0
    )


def test_aud_011_one_changed_byte_is_found_and_named(busy: Gateway, copy: Path) -> None:
    path = a_bundle(copy)
    data = bytearray(path.read_bytes())
    at = data.index(b"gw-test/worker-", len(data) // 2)
    data[at : at + 15] = b"gw-test/walker-"
    path.write_bytes(bytes(data))
    done = verify(busy, copy)
    assert done.returncode == 1
    assert any(character.isdigit() for character in done.stdout + done.stderr)


def test_aud_012_swapped_entries_are_found(busy: Gateway, copy: Path) -> None:
    path = a_bundle(copy)
    entries = cut(path.read_bytes())
    entries[3], entries[4] = entries[4], entries[3]
    path.write_bytes(b"".join(len(e).to_bytes(2, "big") + e for e in entries))
    assert verify(busy, copy).returncode == 1


def test_aud_012_a_doubled_entry_is_found(busy: Gateway, copy: Path) -> None:
    path = a_bundle(copy)
    entries = cut(path.read_bytes())
    entries[4] = entries[3]
    path.write_bytes(b"".join(len(e).to_bytes(2, "big") + e for e in entries))
    assert verify(busy, copy).returncode == 1


def test_aud_025_a_swapped_recording_is_found(busy: Gateway, copy: Path) -> None:
    first, second, *_ = sorted((copy / "payloads").glob("*.osp"))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert verify(busy, copy).returncode == 1


def test_a_missing_recording_is_said(busy: Gateway, copy: Path) -> None:
    next(iter(sorted((copy / "payloads").glob("*.osp")))).unlink()
    assert verify(busy, copy).returncode in {1, 2}


def test_aud_010_a_log_that_is_gone_does_not_verify(busy: Gateway, copy: Path) -> None:
    shutil.rmtree(copy / "log")
    assert verify(busy, copy).returncode != 0


def test_aud_017_another_key_does_not_verify_it(busy: Gateway, copy: Path, gate: Gateway) -> None:
    done = busy.run("audit", "verify", str(copy), "-c", str(gate.config))
    assert done.returncode != 0


def cut(bundle: bytes) -> list[bytes]:
    """Entries of a bundle (C2SP tlog-tiles): u16be length, entry."""
    entries, at = [], 0
    while at < len(bundle):
        length = int.from_bytes(bundle[at : at + 2], "big")
        entries.append(bundle[at + 2 : at + 2 + length])
        at += 2 + length
    return entries
