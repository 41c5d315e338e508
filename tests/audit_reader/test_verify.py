"""The verifier never says "whole" of a log in which a byte was changed, moved, added or taken away."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.audit import verify as module
from ostiary.audit.verify import Policy, Report, Untrusted, main, verify
from tests.audit_reader import makelog
from tests.audit_reader.makelog import Log, Signer, jcs, small_log


def policy_of(log: Log) -> Policy:
    return Policy.parse(f"log {log.signer.vkey}\nquorum none\n")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A log with full and partial tiles: 300 and some entries in nine sessions."""
    return small_log(tmp_path_factory.mktemp("pristine") / "2026", sessions=9, operations=18)


@pytest.fixture
def log(tmp_path: Path, pristine: Log) -> Log:
    shutil.copytree(pristine.base, tmp_path / "2026")
    copy = Log(tmp_path / "2026")
    copy.entries, copy.sizes, copy.count = list(pristine.entries), list(pristine.sizes), pristine.count
    return copy


def checked(log: Log, **options: bool | int) -> Report:
    return verify(log.base, policy_of(log), **options)  # type: ignore[arg-type]


def rebuilt(log: Log, change: Callable[[list[bytes]], None]) -> Report:
    """What an attacker gets who rewrites everything but cannot sign: new tiles and WAL, the old checkpoints."""
    notes = {name: (log.base / "log" / name).read_bytes() for name in ("checkpoint", "checkpoints")}
    change(log.entries)
    shutil.rmtree(log.base / "log" / "tile")
    shutil.rmtree(log.base / "wal")
    log.sizes = [size for size in log.sizes if size <= len(log.entries)]
    log.write()
    for name, note in notes.items():
        (log.base / "log" / name).write_bytes(note)
    return checked(log)


def resigned(log: Log, change: Callable[[list[bytes]], None]) -> Report:
    """What a writer makes who has the key but breaks the rules of entries."""
    change(log.entries)
    shutil.rmtree(log.base / "log" / "tile")
    shutil.rmtree(log.base / "wal")
    log.sizes = [len(log.entries)]
    log.write()
    return checked(log)


def test_a_whole_log_is_whole(log: Log) -> None:
    report = checked(log, checksums=True)
    assert (report.status, report.problems, report.notes) == ("whole", [], [])
    assert report.size == len(log.entries) > 256
    assert report.checkpoints == len(log.sizes) == 9
    assert report.entries["session.start"] == report.entries["session.end"] == report.heads == 9


def signed_files(base: Path) -> list[Path]:
    return sorted(p for folder in ("log", "wal", "payloads") for p in (base / folder).rglob("*") if p.is_file())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_byte_is_changed_the_log_is_not_whole(pristine: Log, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(signed_files(pristine.base)), label="file")
    before = path.read_bytes()
    if path.suffix == ".osp":  # the key's id and the wrapped key are nobody's but the key's: re-wrapping changes them
        at = data.draw(st.integers(0, 25) | st.integers(94, len(before) - 1), label="offset")
    else:
        at = data.draw(st.integers(0, len(before) - 1), label="offset")
    changed = bytearray(before)
    changed[at] ^= data.draw(st.integers(1, 255), label="change")
    try:
        path.write_bytes(changed)
        report = verify(pristine.base, policy_of(pristine))
    finally:
        path.write_bytes(before)
    assert report.status != "whole"
    assert report.exit_code in {1, 2}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_file_is_cut_grown_or_taken_away_the_log_is_not_whole(pristine: Log, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(signed_files(pristine.base)), label="file")
    before = path.read_bytes()
    how = data.draw(st.sampled_from(["cut", "grow", "remove"]), label="how")
    unneeded = (".p" in path.parent.suffix and path.parent.with_suffix("").exists()) or path.name == f"{0:020d}.wal"
    cut = data.draw(st.integers(0, len(before) - 1), label="cut")
    if how == "remove" and (unneeded or path.parent.suffix == ".p"):
        return  # an old partial tile, or an old segment, may be gone
    if how == "cut" and path.suffix == ".wal" and not before[cut:].strip(b"\0"):
        return  # preallocated space
    if how == "grow" and (path.suffix == ".osp" or path.name == "checkpoints"):
        return  # an unfinished chunk, or note, at the end is a crash's, and told as a note
    try:
        path.unlink() if how == "remove" else path.write_bytes(before[:cut] if how == "cut" else before + b"x")
        report = verify(pristine.base, policy_of(pristine))
    finally:
        path.write_bytes(before)
    assert report.status != "whole"


@pytest.mark.parametrize("index", [0, 17, 255, 256, 300])
def test_the_first_bad_entry_is_named(log: Log, index: int) -> None:
    bundle = log.base / "log/tile/entries" / ("000" if index < 256 else f"001.p/{len(log.entries) - 256}")
    data = bytearray(bundle.read_bytes())
    entry = log.entries[index]
    at = bytes(data).index(entry)
    data[at + len(entry) // 2] ^= 1
    bundle.write_bytes(data)
    report = checked(log)
    assert (report.status, report.first_bad) == ("tampered", index)
    assert report.exit_code == 1


def swap(a: int, b: int) -> Callable[[list[bytes]], None]:
    def change(entries: list[bytes]) -> None:
        entries[a], entries[b] = entries[b], entries[a]

    return change


def edit(index: int, **members: object) -> Callable[[list[bytes]], None]:
    def change(entries: list[bytes]) -> None:
        entry = json.loads(entries[index])
        entries[index] = jcs({k: v for k, v in {**entry, **members}.items() if v is not None})

    return change


REWRITES: dict[str, Callable[[list[bytes]], None]] = {
    "reordered": swap(20, 21),
    "inserted": lambda entries: entries.insert(20, entries[0]),
    "duplicated": lambda entries: entries.insert(21, entries[20]),
    "deleted": lambda entries: entries.pop(20),
    "edited": edit(20, task="another"),
    "cut short": lambda entries: entries.__delitem__(slice(300, None)),
    "appended": lambda entries: entries.append(entries[-1]),
}


@pytest.mark.parametrize("how", REWRITES)
def test_a_history_rewritten_without_the_key_is_refused(log: Log, how: str) -> None:
    assert rebuilt(log, REWRITES[how]).status != "whole"


def intents(entries: list[bytes]) -> list[int]:
    return [i for i, e in enumerate(entries) if b'"kind":"intent"' in e]


BROKEN_RULES: dict[str, tuple[Callable[[list[bytes]], None], str, str]] = {
    "white space": (lambda e: e.__setitem__(20, e[20].replace(b":", b": ", 1)), "tampered", "canonical"),
    "members out of order": (lambda e: e.__setitem__(20, b'{"v":1,' + e[20][1:].replace(b',"v":1', b"", 1)), "tampered", "out of order"),
    "a member twice": (lambda e: e.__setitem__(20, b'{"boot":"x",' + e[20][1:]), "tampered", "repeated"),
    "a float": (lambda e: e.__setitem__(20, e[20].replace(b'"v":1', b'"v":1.0')), "tampered", "not an integer"),
    "a large integer": (edit(20, mono=1 << 53), "tampered", "2^53"),
    "another escape": (lambda e: e.__setitem__(20, e[20].replace(b"support", b"\\u0073upport")), "tampered", "canonical"),
    "no JSON": (lambda e: e.__setitem__(20, b"garbage"), "tampered", "Expecting"),
    "deep nesting": (lambda e: e.__setitem__(20, b"[" * 9000), "tampered", "nested"),
    "too large": (edit(20, task="x" * 17_000), "tampered", "larger"),
    "no UTF-8": (lambda e: e.__setitem__(20, e[20].replace(b"support", b"supp\xffrt")), "tampered", "utf-8"),
    "an unknown kind": (edit(20, kind="other"), "tampered", "kind"),
    "another version": (edit(20, v=2), "tampered", "version"),
    "a repeated id": (lambda e: edit(20, id=json.loads(e[5])["id"])(e), "tampered", "its id is that of entry 5"),
    "a clock set back": (edit(20, mono=3), "tampered", "forward"),
    "an outcome twice": (lambda e: e.insert(len(e), jcs({**json.loads(e[3]), "id": makelog.uuid7(999_999), "mono": 10**9})), "tampered", "closes nothing that is open"),
    "no outcome": (lambda e: e.pop(intents(e)[4] + 1), "incomplete", "have no outcome"),
    "an outcome of another session": (edit(3, session=makelog.uuid7(7)), "tampered", "another session"),
    "a gap": (edit(0, kind="gap"), "incomplete", "may be missing"),
    "another blob": (lambda e: e.__setitem__(2, e[2].replace(json.loads(e[2])["stmt"]["blob"].encode(), b"0" * 64)), "tampered", "payloads that entries name"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_RULES)
def test_entries_that_break_the_rules_are_found_even_if_signed(log: Log, what: str) -> None:
    change, status, words = BROKEN_RULES[what]
    report = resigned(log, change)
    assert report.status == status
    assert any(words in p.what for p in report.problems), report.problems


def test_another_key_and_a_fork_are_refused(log: Log, tmp_path: Path) -> None:
    other = Log(tmp_path / "other" / "2026", seed=2)
    other.entries = list(log.entries)
    other.write()
    shutil.copytree(log.base / "payloads", other.base / "payloads", dirs_exist_ok=True)
    assert checked(other).status == "whole"
    report = verify(other.base, policy_of(log))
    assert (report.status, report.exit_code) == ("tampered", 1)
    # A fork: the right key signed two histories of the same size, and one of them is shown after the other.
    fork = makelog.root_of([makelog.leaf_hash(b"other")] * log.sizes[-1])
    with (log.base / "log/checkpoints").open("ab") as file:
        file.write(log.signer.note(log.sizes[-1], fork))
    assert checked(log).status == "tampered"


def test_a_root_that_was_signed_once_and_is_not_that_of_the_entries_is_told(log: Log) -> None:
    notes = b""
    leaves = [makelog.leaf_hash(entry) for entry in log.entries]
    for n, size in enumerate(log.sizes):
        notes += log.signer.note(size, bytes(32) if n == 4 else makelog.root_of(leaves[:size]))
    (log.base / "log/checkpoints").write_bytes(notes)
    report = checked(log)
    assert (report.status, report.first_bad) == ("tampered", log.sizes[3])


def test_checkpoints_may_be_one_ahead_of_the_newest_and_no_more(log: Log) -> None:
    notes = (log.base / "log/checkpoints").read_bytes().split(b"\n" + log.signer.name.encode())
    leaves = [makelog.leaf_hash(entry) for entry in log.entries]
    older = [log.signer.note(size, makelog.root_of(leaves[:size])) for size in log.sizes]
    assert len(notes) == len(older)
    (log.base / "log/checkpoint").write_bytes(older[-2])
    assert checked(log).status == "whole"
    (log.base / "log/checkpoint").write_bytes(older[-3])
    assert checked(log).status == "tampered"


def test_a_note_cut_short_at_the_end_was_never_published(log: Log) -> None:
    with (log.base / "log/checkpoints").open("ab") as file:
        file.write(log.signer.note(9999, bytes(32))[:50])
    report = checked(log)
    assert report.status == "whole"
    assert "cut short" in report.notes[0]


def test_no_key_is_taken_from_the_directory_unasked(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(log.base)]) == 2
    assert "--trust-on-first-use" in capsys.readouterr().out
    assert main([str(log.base), "--trust-on-first-use"]) == 0
    assert main([str(log.base), "--vkey", log.signer.vkey]) == 0
    assert main([str(log.base.parent), "--policy", str(log.base / "policy"), "--output", "json"]) == 0
    (report,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["status"], report["size"]) == ("whole", len(log.entries))


def test_a_root_vouches_for_the_key_of_an_origin(log: Log, tmp_path: Path) -> None:
    root = Signer("gw1-00112233445566aa/root", seed=9)
    text = f"ostiary-origin/v1\n{log.signer.name}\n{log.signer.vkey}\n2026-11-21T08:00:00.000000Z\n".encode()
    (log.base / "origin").write_bytes(text + b"\n" + root.line(text))
    (tmp_path / "root.vkey").write_text(root.vkey + "\n")
    assert main([str(log.base), "--root", str(tmp_path / "root.vkey")]) == 0
    (tmp_path / "root.vkey").write_text(Signer(root.name, seed=8).vkey)
    assert main([str(log.base), "--root", str(tmp_path / "root.vkey")]) == 2
    (log.base / "origin").write_bytes((text + b"\n" + root.line(text)).replace(b"2026-11", b"2025-11"))
    (tmp_path / "root.vkey").write_text(root.vkey)
    assert main([str(log.base), "--root", str(tmp_path / "root.vkey")]) == 2


def cosigned(note: bytes, witness: Signer, when: int = 1_800_000_000) -> bytes:
    text = note[: note.index(b"\n\n") + 1]
    key_id = hashlib.sha256(witness.name.encode() + b"\n\x04" + witness.raw[1:]).digest()[:4]
    signature = witness.key.sign(b"cosignature/v1\ntime %d\n" % when + text)
    blob = base64.b64encode(key_id + struct.pack(">Q", when) + signature)
    return note + f"— {witness.name} ".encode() + blob + b"\n"


def test_aud_016_what_a_stolen_key_signs_lacks_the_quorum_that_the_policy_asks_for(log: Log) -> None:
    witnesses = [Signer(f"w{n}.example", seed=20 + n) for n in range(3)]
    lines, four = [f"log {log.signer.vkey}"], b"\x04"
    for n, w in enumerate(witnesses):
        key_id = hashlib.sha256(w.name.encode() + b"\n\x04" + w.raw[1:]).digest()[:4]
        lines.append(f"witness W{n} {w.name}+{key_id.hex()}+{base64.b64encode(four + w.raw[1:]).decode()}")
    policy = Policy.parse("\n".join([*lines, "group all 2 W0 W1 W2", "quorum all"]))
    path = log.base / "log/checkpoint"
    assert verify(log.base, policy).status == "incomplete"
    path.write_bytes(cosigned(path.read_bytes(), witnesses[2]))
    assert verify(log.base, policy).status == "incomplete"
    path.write_bytes(cosigned(path.read_bytes(), witnesses[0]))
    report = verify(log.base, policy)
    assert (report.status, report.cosignatures) == ("whole", ["W0", "W2"])


@pytest.mark.parametrize(
    "text",
    [
        "log x",
        "log a+00000000+AAAA",
        "quorum nobody",
        "group g 1 nobody",
        "witness",
        "huh",
        "quorum none\nquorum none",
        "group none any",
        "",
        "log \x0b",
    ],
)
def test_a_policy_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(Untrusted, match="line"):
        Policy.parse(text)


def test_what_is_under_way_is_incomplete_unless_a_gateway_is_writing(tmp_path: Path) -> None:
    log = Log(tmp_path / "2026")
    makelog.session(log, 3, end=False)
    log.entries.pop()
    log.write()
    report = checked(log)
    assert (report.status, len(report.open_intents), len(report.open_sessions)) == ("incomplete", 1, 1)
    assert checked(log, live=True).status == "whole"


def test_unsigned_entries_in_the_wal_are_told(log: Log) -> None:
    wal = max((log.base / "wal").iterdir())
    data = wal.read_bytes().rstrip(b"\0")
    entry = jcs({"v": 1})
    wal.write_bytes(data + struct.pack("<II", len(entry), makelog.crc32c(entry)) + entry + bytes(40))
    report = checked(log)
    assert (report.status, report.unsigned) == ("incomplete", 1)
    assert checked(log, live=True).status == "whole"
    wal.write_bytes(data + struct.pack("<II", 500, 7) + b"torn")
    report = checked(log)
    assert report.status == "whole"
    assert "cut or malformed" in report.notes[-1]


def test_payloads_missing_or_cut_are_incomplete_and_changed_ones_tampered(log: Log) -> None:
    path = min((log.base / "payloads").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert checked(log).status == "incomplete"
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    assert checked(log).status == "tampered"
    path.unlink()
    assert checked(log).status == "incomplete"


def test_a_hole_in_the_payloads_is_a_note_where_no_entry_names_it_and_incomplete_where_one_does(log: Log) -> None:
    path = min((log.base / "payloads").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(64) + b"what was kept of a later write")
    report = checked(log)
    assert report.status == "whole", report.problems
    assert any("has a hole" in note for note in report.notes)
    for start, stop in ((94, 130), (300, 4500), (len(whole) // 2, len(whole) // 2 + 700)):
        path.write_bytes(whole[:start] + bytes(stop - start) + whole[stop:])
        assert checked(log).status == "incomplete"
    path.write_bytes(whole + b"\1\0\0\0" + b"never written by us")
    assert checked(log).status == "tampered"


@pytest.mark.parametrize("which", ["log/checkpoint", "log/checkpoints", "log/tile/0/000", "log/tile/entries/000", "payloads/*.osp", "wal/*.wal"])
@pytest.mark.parametrize("made", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to(path.name), Path.mkdir])
def test_what_never_ends_in_the_place_of_a_file_ends_the_verifier(log: Log, which: str, made: Callable[[Path], object]) -> None:
    for path in sorted(log.base.glob(which)):
        path.unlink()
        made(path)
    assert checked(log).status != "whole"


def test_a_file_of_holes_is_not_read_to_its_end(log: Log) -> None:
    os.truncate(max((log.base / "wal").iterdir()), 1 << 42)
    report = checked(log)
    assert (report.status, [problem.where for problem in report.problems]) == ("tampered", ["wal"])


def test_a_log_that_the_policy_names_and_that_was_taken_away_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """AUD-010, of one log among several: nothing of it is left that could be wrong."""
    logs = [small_log(tmp_path / "audit" / writer / "2026", sessions=1, operations=2) for writer in ("worker-0", "control")]
    others = Signer("gw1-00112233445566aa/control/2026", 2), Signer("gw9-99/worker-0/2026", 3)
    shutil.rmtree(logs[1].base.parent)
    known = tmp_path / "policy"
    for lines, code in (([], 0), ([others[0].vkey], 2), ([others[1].vkey], 0)):
        known.write_text("".join(f"log {vkey}\n" for vkey in (logs[0].signer.vkey, *lines)) + "quorum none\n")
        for options in (["--policy", str(known)], ["--vkey", logs[0].signer.vkey, "--expect", str(known)]):
            assert main([str(tmp_path / "audit"), *options]) == code
            assert ("the policy names it, and it is not there" in capsys.readouterr().out) is (code == 2)
        assert main([str(logs[0].base), "--policy", str(known)]) == 0, "one log alone is asked for alone"


def test_pruned_entries_are_whole_only_when_the_caller_allows_it(log: Log) -> None:
    (log.base / "log/tile/entries/000").unlink()
    shutil.rmtree(log.base / "log/tile/entries/000.p")
    shutil.rmtree(log.base / "wal")
    report = checked(log)
    assert report.status == "incomplete"
    report = checked(log, min_index=256)
    assert [p for p in report.problems if p.tampered] == []


def test_a_published_log_is_checked_by_itself(log: Log, tmp_path: Path) -> None:
    shutil.copytree(log.base / "log", tmp_path / "published")
    report = verify(tmp_path / "published", policy_of(log))
    assert report.status == "whole"
    assert "neither WAL nor payloads" in report.notes[0]


def test_the_verifier_runs_as_one_file_without_the_package(log: Log, tmp_path: Path) -> None:
    shutil.copy(module.__file__, tmp_path / "alone.py")
    done = subprocess.run(
        [sys.executable, "-I", str(tmp_path / "alone.py"), str(log.base), "--policy", str(log.base / "policy")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("WHOLE")


def test_nothing_there_is_not_whole(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2
    (tmp_path / "log").mkdir()
    assert main([str(tmp_path), "--vkey", Signer("x").vkey]) == 2


# RFC 6962 has no vectors of its own; these are the ones that Certificate Transparency's reference code is tested with.
CT_INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_roots_are_those_of_certificate_transparency() -> None:
    tree = module._Tree(lambda *_: None)
    assert tree.root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for data, root in zip(CT_INPUTS, CT_ROOTS, strict=True):
        tree.append(hashlib.sha256(b"\0" + bytes.fromhex(data)).digest())
        assert tree.root().hex() == root


def test_the_streaming_tree_and_its_tiles_are_those_of_the_definition() -> None:
    tiles: dict[tuple[int, int], list[bytes]] = {}
    tree = module._Tree(lambda level, number, hashes: tiles.__setitem__((level, number), list(hashes)))
    leaves = [hashlib.sha256(bytes([0, n & 255, n >> 8])).digest() for n in range(1000)]
    for n, leaf in enumerate(leaves, 1):
        tree.append(leaf)
        if n % 97 == 0:
            assert tree.root() == makelog.root_of(leaves[:n])
    tree.finish()
    assert list(itertools.chain(*(tiles[0, n] for n in range(4)))) == leaves
    assert tiles[1, 0] == [makelog.root_of(leaves[n : n + 256]) for n in (0, 256, 512)]


def test_tile_paths_and_checksums_are_those_of_the_specifications() -> None:
    assert module.tile_path(1_234_067) == "x001/x234/067"
    assert module.tile_path(0) == "000"
    assert module.crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('{"\\ud800\\udc00":1}', False),
        ('{"\U00010000":1,"\uffff":2}', True),  # UTF-16 order: D800 before FFFF
        ('{"\uffff":2,"\U00010000":1}', False),
        ('{"a":"\\u001f\\b\\n\\"\\\\/\u007f"}', True),
        ('{"a":"\\u001F"}', False),
        ('{"a":"\\/"}', False),
        ('{"a":-0}', False),
        ('{"a":01}', False),
        ('{"a":9007199254740991}', True),
        ('{"a":9007199254740992}', False),
        ('{"a":NaN}', False),
        ('{"a":"\\ud800"}', False),
        ('{"a":1} ', False),
        ('\ufeff{"a":1}', False),
        ("[]", False),
    ],
)
def test_only_the_canonical_spelling_of_an_entry_is_taken(text: str, good: bool) -> None:
    try:
        module.parse_entry(text.encode())
        taken = True
    except ValueError:
        taken = False
    assert taken is good


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_parsing_an_entry_fails_in_one_way_only(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        module.parse_entry(data)


ODD = [None, True, [], {}, [[]], -1, 1 << 52, "", "x", "2026-19-39T29:59:69.000000Z", {"blob": []}, {"chunks": 1, "bytes": 0, "head": []}]


def test_whatever_a_writer_with_the_key_puts_into_an_entry_is_told_and_never_raised(log: Log) -> None:
    """Every member of every kind of entry, and what stands in it, with values of every form."""
    kinds = {json.loads(entry)["kind"]: entry for entry in log.entries}
    odd: list[bytes] = []
    for entry in kinds.values():
        said = json.loads(entry) | {"redact": {"below": 1, "origin": []}, "recording": {}, "stmt": {}}
        for name, value in itertools.product(said, ODD):
            odd.append(jcs(said | {name: value}))
            if isinstance(said[name], dict):
                odd += [jcs(said | {name: said[name] | {inner: value}}) for inner in [*said[name], "blob", "chunks", "bytes", "head", "below"]]
    report = resigned(log, lambda entries: entries.extend(odd))
    assert report.status == "tampered"
    assert report.size == len(log.entries)


@pytest.mark.parametrize("line", ["\u2014 a\x0bb AAAA\n", "\u2014 a\x85b AAAAAAAA\n", "\u2014 a\u2028b AAAA\n", "\u2014 a\rb AAAA\n"])
def test_a_signature_line_is_cut_at_newlines_alone(log: Log, line: str) -> None:
    shown = log.base / "log" / "checkpoint"
    note = shown.read_text()
    shown.write_text(note + line)
    assert checked(log).status in {"whole", "tampered"}
    with contextlib.suppress(module.Fault):
        assert len(module.Checkpoint.parse(shown.read_bytes()).signatures) == 2


def test_no_file_of_a_log_is_read_without_a_bound(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_it(path: Path) -> bytes:
        raise AssertionError(f"{path.name} is read whole, however long it is")

    with (log.base / "log" / "tile" / "entries" / "000").open("ab") as file:
        file.write(b"more")
    monkeypatch.setattr(Path, "read_bytes", all_of_it)
    assert checked(log).status == "tampered"


DAY = {"what": "entries", "below": 256, "keep_days": 1}


def folder_with_orders(tmp_path: Path, folder: str, orders: str, target: str = "gw1-00112233445566aa/worker-0/2026", **said: object) -> list[str]:
    """A log without its first bundle, and beside it in `folder` one of the name `orders` that says that it was pruned."""
    pruned = small_log(tmp_path / "audit" / "worker-0" / "2026", sessions=9, operations=18)
    (pruned.base / "log" / "tile" / "entries" / "000").unlink()
    shutil.rmtree(pruned.base / "wal")
    other = Log(tmp_path / "audit" / folder / "2026", orders, seed=2)
    other.add("anchor", anchor={"origin": orders})
    other.add("redact", redact=DAY | {"origin": target} | said, t=said.get("t", "2026-12-24T00:00:00.000000Z"))
    other.write()
    lines = [(log.base / "policy").read_text().split("\n")[0] for log in (pruned, other)]
    (tmp_path / "policy").write_text("\n".join([*lines, "quorum none", ""]))
    return [str(tmp_path / "audit"), "--policy", str(tmp_path / "policy"), "--output", "json"]


@pytest.mark.parametrize("folder", ["operator", "anything", "worker-9"])
def test_the_operators_log_orders_a_prune_whatever_its_folder(tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(folder_with_orders(tmp_path, folder, "gw1-00112233445566aa/operator/2026"))
    (report,) = [each for each in json.loads(capsys.readouterr().out) if "worker-0" in each["origin"]]
    assert (report["status"], report["pruned"]) == ("whole", 256), report["problems"]


@pytest.mark.parametrize(
    "name",
    ["gw1-00112233445566aa/worker-2/2026", "gw1-ffffffffffffffff/operator/2026", "gw2-00112233445566aa/operator/2026", "operator/operator/2026",
     "gw1-00112233445566aa/operators/2026", "gw1-00112233445566aa/worker-2/operator/2026"],
)  # fmt: skip
def test_nobody_but_the_gateways_own_operator_orders_a_prune(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(folder_with_orders(tmp_path, "operator", name)) != 0
    (report,) = [each for each in json.loads(capsys.readouterr().out) if "worker-0" in each["origin"]]
    assert report["pruned"] == 0
    assert "is missing" in report["problems"][0]["what"]


@pytest.mark.parametrize(
    "said", [{"keep_days": 1_000_000}, {"keep_days": 36_501}, {"keep_days": 0}, {"keep_days": "1"}, {"keep_days": []}, {"t": "2026-19-39T29:59:69.000000Z"}]
)
def test_a_prune_by_days_or_times_that_there_are_not_is_no_prune(
    tmp_path: Path, said: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(folder_with_orders(tmp_path, "operator", "gw1-00112233445566aa/operator/2026", **said)) == 1
    (report,) = [each for each in json.loads(capsys.readouterr().out) if "worker-0" in each["origin"]]
    assert report["status"] == "tampered"
