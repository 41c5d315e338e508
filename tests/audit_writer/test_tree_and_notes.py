"""The tree is RFC 6962's, the tiles are tlog-tiles', the notes are signed-note's."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import ssl
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.audit import tree
from ostiary.audit.note import BadNote, Checkpoint, Signer, Verifier, last_note, read_checkpoint
from ostiary.audit.tiles import TileFolder, tile_file, tile_path, unbundle
from ostiary.audit.tree import Frontier, leaf_hash
from ostiary.audit.wal import Damaged
from ostiary.kernel.entries import bundle


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 700, 1025])
def test_the_root_is_rfc_6962s_at_every_size(size):
    frontier, leaves = Frontier(), [b"%d" % n for n in range(size)]
    for leaf in leaves:
        frontier.append(leaf_hash(leaf))
    assert frontier.root() == naive_root(leaves)


@given(st.lists(st.binary(max_size=300), max_size=9), st.integers(0, 16_384))
def test_many_hashes_are_what_each_is_alone(entries, size):
    entries.append(b"x" * size)
    assert tree.leaf_hashes(entries) == [hashlib.sha256(b"\0" + entry).digest() for entry in entries]


@given(st.integers(0, 8), st.binary(min_size=32, max_size=32))
def test_the_root_over_a_power_of_two_is_the_naive_one(height, seed):
    leaves = [hashlib.sha256(seed + bytes([n])).digest() for n in range(1 << height)]
    row = leaves
    while len(row) > 1:
        row = [hashlib.sha256(b"\1" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=True)]
    assert tree.full_root(leaves) == row[0]


def test_no_build_goes_without_openssls_own_functions_unnoticed():
    if not tree.__file__.endswith((".so", ".pyd")):
        pytest.skip("uncompiled, hashlib is used")
    if ssl.OPENSSL_VERSION_INFO < (3, 0):
        pytest.skip("an OpenSSL before 3.0: hashlib is used")
    assert tree.IS_DIRECT


def test_without_openssls_own_functions_hashes_are_the_same():
    path = str(Path(tree.__file__).with_name("tree.py"))
    spec = importlib.util.spec_from_file_location("plain_tree", path, loader=SourceFileLoader("plain_tree", path))
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    assert not plain.IS_DIRECT
    leaves = [b"%d" % n for n in range(256)]
    assert plain.leaf_hashes(leaves) == tree.leaf_hashes(leaves)
    assert plain.full_root(plain.leaf_hashes(leaves)) == tree.full_root(tree.leaf_hashes(leaves))
    with pytest.raises(IndexError):
        plain.evp.part(plain._digest, b"\0", b"abc", 1, 3)


def test_known_answers_of_the_reference_tree():
    # Leaves and roots of RFC 6962's well-known reference implementation tests.
    leaves = [bytes.fromhex(x) for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    }
    frontier = Frontier()
    for n, leaf in enumerate(leaves, 1):
        frontier.append(leaf_hash(leaf))
        assert n not in roots or frontier.root().hex() == roots[n]


def grow(folder: TileFolder, frontier: Frontier, leaves: list[bytes], kept: list[bytes]) -> None:
    files = []
    for leaf in leaves:
        kept.append(leaf)
        files += [tile_file(tile) for tile in frontier.append(leaf_hash(leaf))]
        if not len(kept) % 256:
            files.append((tile_path("entries", len(kept) // 256 - 1), bundle(kept[-256:])))
    files += [tile_file(tile) for tile in frontier.partial()]
    rest = len(kept) % 256
    if rest:
        files.append((tile_path("entries", len(kept) // 256, rest), bundle(kept[-rest:])))
    folder.publish(files)


def test_the_frontier_read_back_from_tiles_is_the_one_that_was_written(tmp_path):
    folder, frontier, kept = TileFolder(tmp_path), Frontier(), []
    for step in (1, 254, 1, 1, 255, 300, 65_000, 400):
        grow(folder, frontier, [b"entry %d" % n for n in range(len(kept), len(kept) + step)], kept)
        again = folder.frontier(len(kept), len(kept))
        assert again.root() == frontier.root()
        assert again.size == len(kept)
    # An earlier size that is a multiple of a tile can be read from the same tiles.
    half = Frontier()
    for entry in kept[:512]:
        half.append(leaf_hash(entry))
    assert folder.frontier(512, len(kept)).root() == half.root()


def test_a_tree_of_seventy_thousand_has_the_tiles_that_the_specification_counts(tmp_path):
    folder, frontier = TileFolder(tmp_path), Frontier()
    grow(folder, frontier, [b"%d" % n for n in range(70_000)], [])
    tiles = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("tile/[0-9]/**/*") if path.is_file())
    assert len([name for name in tiles if name.startswith("tile/0/") and ".p" not in name]) == 273
    assert "tile/0/273.p/112" in tiles
    assert [name for name in tiles if name.startswith(("tile/1/", "tile/2/"))] == [
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]


def test_a_missing_or_shortened_tile_is_damage(tmp_path):
    folder, frontier = TileFolder(tmp_path), Frontier()
    grow(folder, frontier, [b"%d" % n for n in range(300)], [])
    (tmp_path / "tile/0/001.p/44").write_bytes(b"x")
    with pytest.raises(Damaged):
        folder.frontier(300, 300)
    (tmp_path / "tile/entries/001.p/44").unlink()
    with pytest.raises(Damaged):
        folder.entries(1, 300)


@pytest.mark.parametrize(
    ("number", "width", "path"),
    [(0, 256, "tile/0/000"), (1_234_067, 256, "tile/0/x001/x234/067"), (1000, 5, "tile/0/x001/000.p/5")],
)
def test_tile_paths_are_the_specifications(number, width, path):
    assert tile_path(0, number, width) == path


@given(st.lists(st.binary(max_size=300), max_size=20), st.binary(max_size=3))
def test_bundles_come_back_and_tails_do_not(entries, tail):
    assert unbundle(bundle(entries)) == entries
    try:
        again = unbundle(bundle(entries) + tail)
    except ValueError:
        return
    assert bundle(again) == bundle(entries) + tail


def test_publishing_leaves_no_temporary_files_and_sweeping_removes_a_crashs(tmp_path):
    folder = TileFolder(tmp_path)
    folder.publish([("checkpoint", b"x"), ("tile/0/000.p/1", b"y" * 32)])
    assert not list(tmp_path.rglob(".tmp*"))
    (tmp_path / "tile" / ".tmp-9-9").write_bytes(b"half")
    folder.sweep()
    assert not list(tmp_path.rglob(".tmp*"))


SEED = bytes(range(32))


def test_the_specifications_own_note_verifies():
    # The example of C2SP signed-note, with the key that its Go documentation names.
    vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    note = f"{text}\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    assert Verifier(vkey).text(note) == text


def test_a_note_comes_back_from_its_signers_vkey_and_no_other():
    signer = Signer("gw1-0/w0/2026", SEED)
    note = signer.sign("gw1-0/w0/2026\n7\nx\n")
    assert Verifier(signer.vkey).text(note) == "gw1-0/w0/2026\n7\nx\n"
    for other in (Signer("gw1-0/w1/2026", SEED), Signer("gw1-0/w0/2026", bytes(32))):
        with pytest.raises(BadNote):
            Verifier(other.vkey).text(note)


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_note_does_not_verify(at, change):
    signer = Signer("gw1-0/w0/2026", SEED)
    note = bytearray(signer.sign(Checkpoint("gw1-0/w0/2026", 7, bytes(32)).text()).encode())
    at %= len(note)
    note[at] ^= change
    try:
        read = read_checkpoint(bytes(note).decode(errors="replace"), Verifier(signer.vkey))
    except (BadNote, ValueError):
        return
    # Base64 has unused bits in its last character: the signature may be spelled in another way, nothing else.
    assert read == Checkpoint("gw1-0/w0/2026", 7, bytes(32))


@pytest.mark.parametrize("size", ["07", "-1", "+7", "\u0667", "", "7 "])
def test_a_size_that_is_no_plain_decimal_is_refused(size):
    signer = Signer("gw1-0/w0/2026", SEED)
    note = signer.sign(f"gw1-0/w0/2026\n{size}\n{base64.b64encode(bytes(32)).decode()}\n")
    with pytest.raises(BadNote):
        read_checkpoint(note, Verifier(signer.vkey))


def test_a_checkpoint_with_more_lines_or_another_origin_is_refused():
    signer = Signer("gw1-0/w0/2026", SEED)
    root = base64.b64encode(bytes(32)).decode()
    for text in (f"gw1-0/w0/2026\n7\n{root}\nmore\n", f"gw1-0/w0/2025\n7\n{root}\n", f"gw1-0/w0/2026\n7\n{root[:8]}\n"):
        with pytest.raises(BadNote):
            read_checkpoint(signer.sign(text), Verifier(signer.vkey))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b"])
def test_names_that_notes_cannot_hold_are_refused(name):
    with pytest.raises(ValueError, match="key name"):
        Signer(name, SEED)


def test_a_signer_shows_no_secret_and_is_not_pickled():
    import pickle

    signer = Signer("gw1-0/w0/2026", SEED)
    assert SEED.hex() not in repr(signer.__dict__)
    with pytest.raises(TypeError):
        pickle.dumps(signer)


@given(st.integers(0, 10_000))
def test_the_last_whole_note_is_found_wherever_the_file_was_cut(cut):
    signer = Signer("gw1-0/w0/2026", SEED)
    notes = [signer.sign(Checkpoint(signer.name, n, bytes([n]) * 32).text()) for n in range(1, 6)]
    whole = "".join(notes)
    cut %= len(whole) + 1
    complete = sum(1 for n in range(5) if sum(map(len, notes[: n + 1])) <= cut)
    assert last_note(whole[:cut]) == ("" if not complete else notes[complete - 1])
