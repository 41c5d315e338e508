"""A witness cosigns what only ever grew, remembers it before it answers, and its word stops a log that was rolled back or forked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.audit.consistency import consistency_proof, is_consistent, subtrees
from ostiary.audit.cosignature import WitnessKey, WitnessPolicy
from ostiary.audit.keys import load_signer
from ostiary.audit.note import Checkpoint, Signer
from ostiary.audit.sealer import check_witnesses, seal_once, start_sealer
from ostiary.audit.tiles import TileFolder
from ostiary.audit.tree import Frontier, leaf_hash, node_hash
from ostiary.audit.verify import Policy
from ostiary.audit.verify import verify as verify_log
from ostiary.audit.witness import Witness, make_witness
from ostiary.model.errors import ConfigError, LogFailed
from ostiary.testing.endpoint import Endpoint

LOG = Signer("log.example/1", bytes(32))


def naive(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(naive(leaves[:half]), naive(leaves[half:]))


LEAVES = [leaf_hash(b"%d" % n) for n in range(600)]


def proof_of(old: int, new: int) -> list[bytes]:
    return consistency_proof(old, new, lambda low, high: naive(LEAVES[low:high]))


def note_of(size: int, leaves: list[bytes] = LEAVES, signer: Signer = LOG) -> str:
    root = naive(leaves[:size]) if size else Frontier().root()
    return signer.sign(Checkpoint(signer.name, size, root).text())


def request(old: int, size: int, *, proof: list[bytes] | None = None, note: str = "") -> bytes:
    proof = proof_of(old, size) if proof is None else proof
    lines = [f"old {old}", *(base64.b64encode(each).decode() for each in proof), "", note or note_of(size)]
    return "\n".join(lines).encode()


@pytest.fixture
def known(tmp_path: Path) -> Path:
    path = tmp_path / "logs"
    path.write_text(f"log {LOG.vkey}\nquorum none\n")
    return path


@pytest.fixture
def witness(tmp_path: Path, known: Path) -> Iterator[Witness]:
    make_witness(tmp_path / "w", "witness.example/w1")
    opened = Witness(tmp_path / "w", known, clock=lambda: 1_800_000_000)
    yield opened
    opened.close()


def test_proofs_hold_for_every_pair_of_small_trees() -> None:
    for new in range(1, 40):
        for old in range(new + 1):
            old_root = naive(LEAVES[:old]) if old else Frontier().root()
            assert is_consistent(old, old_root, new, naive(LEAVES[:new]), proof_of(old, new))
            if 0 < old < new:
                forged = naive([leaf_hash(b"forged"), *LEAVES[1:old]])
                assert not is_consistent(old, forged, new, naive(LEAVES[:new]), proof_of(old, new))


@given(st.integers(1, 599), st.integers(1, 600), st.data())
def test_a_proof_with_a_changed_missing_or_further_hash_proves_nothing(old: int, new: int, data: st.DataObject) -> None:
    if old >= new:
        old, new = new, old
    if old == new:
        return
    proof = proof_of(old, new)
    at = data.draw(st.integers(0, len(proof) - 1))
    changed = [*proof[:at], bytes([proof[at][0] ^ 1]) + proof[at][1:], *proof[at + 1 :]]
    roots = naive(LEAVES[:old]), naive(LEAVES[:new])
    for wrong in (changed, proof[:at] + proof[at + 1 :], [*proof, proof[0]], []):
        assert not is_consistent(old, roots[0], new, roots[1], wrong)


def test_a_checkpoint_that_extends_the_last_one_is_cosigned(witness: Witness) -> None:
    key = WitnessKey(witness.vkey)
    for old, new in [(0, 3), (3, 3), (3, 300), (300, 600)]:
        answer = witness.add_checkpoint(request(old, new))
        assert answer.status == 200
        text = note_of(new).split("\n\n")[0] + "\n"
        assert key.is_signed(text, answer.body.removesuffix("\n"))


def test_a_cosignature_is_what_strangers_check_too(witness: Witness, known: Path) -> None:
    from ostiary.audit.verify import Checkpoint as Strangers

    answer = witness.add_checkpoint(request(0, 7))
    policy = Policy.parse(f"log {LOG.vkey}\nwitness w {witness.vkey}\nquorum w\n")
    read = Strangers.parse((note_of(7) + answer.body).encode())
    assert read.witnesses(policy) == {"w"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"old 01\n\n" + note_of(3).encode(), 400),
        (b"old 9\n\n" + note_of(3).encode(), 400),
        (b"old 0\n" + b"AAAA\n" + b"\n" + note_of(3).encode(), 400),
        (request(0, 3, proof=[bytes(32)] * 64), 400),
        (request(0, 3, note=note_of(3, signer=Signer("other.example", bytes(32)))), 404),
        (request(0, 3, note=note_of(3, signer=Signer(LOG.name, bytes([1]) * 32))), 403),
        (request(0, 3, proof=[bytes(32)]), 422),
        (b"\xff\xfe", 400),
    ],
)  # fmt: skip
def test_what_is_not_a_good_request_gets_the_specifications_status(witness: Witness, body: bytes, status: int) -> None:
    assert witness.add_checkpoint(body).status == status
    assert witness.add_checkpoint(request(0, 3)).status == 200


def test_another_old_size_is_answered_with_the_size_that_is_known(witness: Witness) -> None:
    witness.add_checkpoint(request(0, 300))
    for old, new in [(0, 400), (299, 400), (0, 10), (10, 10)]:
        answer = witness.add_checkpoint(request(old, new))
        assert (answer.status, answer.type, answer.body) == (409, "text/x.tlog.size", "300\n")


def test_aud_014_a_fork_is_refused_at_every_size(witness: Witness) -> None:
    witness.add_checkpoint(request(0, 300))
    other = [leaf_hash(b"forged"), *LEAVES[1:]]
    same = witness.add_checkpoint(request(300, 300, note=note_of(300, other)))
    assert same.status == 409
    assert same.type != "text/x.tlog.size"
    longer = consistency_proof(300, 400, lambda low, high: naive(other[low:high]))
    assert witness.add_checkpoint(request(300, 400, proof=longer, note=note_of(400, other))).status == 422
    assert witness.add_checkpoint(request(300, 400)).status == 200


def test_what_was_cosigned_is_remembered_by_the_next_process(tmp_path: Path, known: Path, witness: Witness) -> None:
    witness.add_checkpoint(request(0, 300))
    with pytest.raises(LogFailed, match="another witness"):
        Witness(tmp_path / "w", known)
    witness.close()
    state = next((tmp_path / "w").glob("*.notes"))
    whole = state.read_bytes()
    for torn in (b"", b"log.ex", note_of(400).encode()[:-20]):
        state.write_bytes(whole + torn)
        again = Witness(tmp_path / "w", known)
        assert again.add_checkpoint(request(0, 400)).body == "300\n"
        again.close()
        assert state.read_bytes() == whole
    state.write_bytes(whole.replace(b"300", b"bad"))
    again = Witness(tmp_path / "w", known)
    assert again.add_checkpoint(request(0, 400)).status == 503
    again.close()
    witness._lock = Witness(tmp_path / "w", known)._lock


def test_nothing_is_cosigned_that_cannot_be_remembered(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        assert witness.add_checkpoint(request(0, 3)).status == 503
    assert witness.add_checkpoint(request(0, 5)).status == 200


def test_a_policy_says_who_is_asked_and_how_many_must_answer(tmp_path: Path) -> None:
    keys = [make_witness(tmp_path / f"w{n}", f"w{n}.example") for n in range(3)]
    text = "\n".join(f"witness w{n} {key} http://127.0.0.1:{n}/" for n, key in enumerate(keys))
    policy = WitnessPolicy.parse(f"{text}\ngroup two 2 w0 w1 w2\nquorum two\n")
    assert [policy.is_satisfied(set(names)) for names in (["w0"], ["w0", "w2"], [])] == [False, True, False]
    assert policy.witnesses["w1"].url == "http://127.0.0.1:1"
    for wrong in (f"{text}\n", "quorum w9\n", f"{text}\nwitness again {keys[0]}\nquorum none\n", "witness a b\nquorum none"):
        with pytest.raises(ConfigError, match=r"audit\.witness_policy"):
            WitnessPolicy.parse(wrong)


# --- a gateway's log and real witnesses over HTTP -----------------------------------------------------------------------


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


@contextlib.contextmanager
def serving(folder: Path, logs: Path) -> Iterator[str]:
    """`ostiary witness serve`, as an operator starts it; yields its URL."""
    command = [sys.executable, "-m", "ostiary.cli.main", "witness", "serve", "--state", str(folder), "--logs", str(logs)]
    child = subprocess.Popen([*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        ready = child.stdout.readline()
        assert ready.startswith("ready: ")
        yield f"http://{ready.split()[-1]}"
    finally:
        child.terminate()
        child.wait(20)
        child.stdout.close()


def entry(n: int) -> bytes:
    return b'{"n":%d}' % n


def sealed(house, link, entries: int, witnesses: Path, **options) -> None:
    async def serve() -> None:
        ours, theirs = link
        log = house.open()
        child = start_sealer(house.origin, theirs.fileno(), interval=0.05, witnesses=witnesses, **options)
        theirs.close()
        log.writer.attach_sealer(ours)
        for n in range(entries):
            await log.writer.wait_durable(log.writer.append(entry(n)))
        await log.writer.close()
        assert await asyncio.to_thread(child.wait, 20) == 0

    run(serve())


@pytest.fixture
def watched(house, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A witness that knows the house's log, and the policy that names it."""
    vkey = make_witness(tmp_path / "w", "witness.example/w1")
    logs = tmp_path / "logs"
    logs.write_text(f"log {house.origin.vkey}\nquorum none\n")
    with serving(tmp_path / "w", logs) as url:
        policy = tmp_path / "witnesses"
        policy.write_text(f"witness w1 {vkey} {url}\nquorum w1\n")
        yield policy, vkey


def test_checkpoints_are_published_with_their_cosignatures(house, link, watched) -> None:
    policy, vkey = watched
    sealed(house, link, 40, policy)
    trusted = Policy.parse(f"log {house.origin.vkey}\nwitness w1 {vkey}\nquorum w1\n")
    report = verify_log(house.origin.folder, trusted)
    assert report.cosignatures == ["w1"]
    assert not [problem for problem in report.problems if "witness" in problem.what]
    assert check_witnesses(house.origin, policy) == 0


def test_aud_010_a_log_that_was_rolled_back_or_deleted_is_found_at_the_start(house, link, watched, tmp_path, capfd) -> None:
    policy, _ = watched
    async def some() -> None:
        log = house.open()
        for n in range(20):
            await log.writer.wait_durable(log.writer.append(entry(n)))
        await log.writer.close()

    run(some())
    assert seal_once(house.origin) == 0
    shutil.copytree(house.origin.folder, tmp_path / "before")
    sealed(house, link, 20, policy)
    shutil.rmtree(house.origin.folder)
    shutil.copytree(tmp_path / "before", house.origin.folder)
    assert check_witnesses(house.origin, policy) == 1
    assert "rolled back: witness w1 knows 41 entries, the disk has 21" in capfd.readouterr().err
    for gone in ("wal", "log"):
        shutil.rmtree(house.origin.folder / gone)
        (house.origin.folder / gone).mkdir()
    assert check_witnesses(house.origin, policy) == 1
    assert "the disk has 0" in capfd.readouterr().err


def test_aud_014_two_histories_with_the_same_key_are_found(house, link, watched, tmp_path, capfd) -> None:
    policy, _ = watched
    sealed(house, link, 20, policy)
    other = tmp_path / "other"
    shutil.copytree(house.origin.folder, other)
    # The clone's history: other entries, signed with the same key.
    for gone in ("wal", "log"):
        shutil.rmtree(other / gone)
        (other / gone).mkdir()
    clone = house.origin._replace(folder=other)
    from ostiary.audit.recovery import write_entries
    from ostiary.audit.wal import Segments

    out = Segments(other / "wal", 0, 1 << 18)
    write_entries(out, [entry(n + 1000) for n in range(30)])
    out.close()
    assert seal_once(clone) == 0
    assert check_witnesses(clone, policy) == 1
    assert "forked" in capfd.readouterr().err


class Silent(Endpoint):
    """A witness that answers what it is told to."""

    answer: Callable[[], tuple[int, bytes]]

    def do_POST(self) -> None:  # noqa: N802 - as http.server calls it
        self.say(*type(self).answer())


@contextlib.contextmanager
def pretending(answer: Callable[[], tuple[int, bytes]]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Silent,), {"answer": staticmethod(answer)}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("answer", [(200, b""), (200, "\u2014 witness.example/w1 AAAA\n".encode()), (500, b"no"), (404, b"")])
def test_flt_012_a_witness_that_fails_or_lies_holds_nothing_up_and_is_told(house, link, tmp_path, capfd, answer) -> None:
    vkey = make_witness(tmp_path / "w", "witness.example/w1")
    policy = tmp_path / "witnesses"
    with pretending(lambda: answer) as url:
        policy.write_text(f"witness w1 {vkey} {url}\nquorum w1\n")
        sealed(house, link, 10, policy)
        assert "witness w1" in capfd.readouterr().err
        trusted = Policy.parse(f"log {house.origin.vkey}\nwitness w1 {vkey}\nquorum w1\n")
        report = verify_log(house.origin.folder, trusted)
        assert report.exit_code == 1  # the entries of this test are no real ones
        assert any("too few witnesses" in problem.what for problem in report.problems)


def test_flt_012_without_a_quorum_for_too_long_nothing_new_is_taken(house, link, tmp_path) -> None:
    vkey = make_witness(tmp_path / "w", "witness.example/w1")
    policy = tmp_path / "witnesses"
    policy.write_text(f"witness w1 {vkey} http://127.0.0.1:1\nquorum w1\n")

    async def serve() -> None:
        ours, theirs = link
        log = house.open(unsigned=0.3)
        child = start_sealer(house.origin, theirs.fileno(), interval=0.02, witnesses=policy, witness_lag=0.2)
        theirs.close()
        log.writer.attach_sealer(ours)
        with pytest.raises(LogFailed, match="not being signed"):
            for n in range(2000):
                await log.writer.wait_durable(log.writer.append(entry(n)))
                await asyncio.sleep(0.01)
        await log.writer.close()
        await asyncio.to_thread(child.wait, 20)

    run(serve())


def test_a_witness_that_comes_back_is_asked_again_for_what_it_missed(house, link, watched, tmp_path) -> None:
    policy, vkey = watched
    text = policy.read_text()
    policy.write_text(text.replace("http://127.0.0.1:", "http://127.0.0.1:1/"))

    async def unwatched() -> None:
        log = house.open()
        for n in range(700):
            await log.writer.wait_durable(log.writer.append(entry(n)))
        await log.writer.close()

    run(unwatched())
    assert seal_once(house.origin) == 0
    policy.write_text(text)
    sealed(house, link, 10, policy)
    trusted = Policy.parse(f"log {house.origin.vkey}\nwitness w1 {vkey}\nquorum w1\n")
    assert verify_log(house.origin.folder, trusted).cosignatures == ["w1"]


def test_subtrees_of_published_tiles_are_those_of_the_leaves(house) -> None:
    async def fill() -> None:
        log = house.open()
        for n in range(699):
            log.writer.append(entry(n))
        await log.writer.close()

    run(fill())
    assert seal_once(house.origin) == 0
    tiles = TileFolder(house.origin.folder / "log")
    leaves = [leaf for number in range(3) for leaf in tiles.hashes(0, number, 700)]
    for old in (1, 2, 255, 256, 257, 511, 512, 699):
        proof = consistency_proof(old, 700, subtrees(tiles, 700))
        assert is_consistent(old, naive(leaves[:old]), 700, naive(leaves), proof)
    assert load_signer(house.origin.key_file).name == house.origin.name
