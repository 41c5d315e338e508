"""The sealer signs what the log says, once, and cannot be talked into anything else."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import subprocess
from types import SimpleNamespace
from unittest import mock

import pytest

from ostiary.audit.keys import ensure_origin, init_state, instance_id, load_signer, read_origin
from ostiary.audit.note import Verifier, last_note, read_checkpoint
from ostiary.audit.recovery import last_checkpoint
from ostiary.audit.sealer import Sealer, seal_once, serve, start_sealer
from ostiary.audit.tiles import Publication, TileFolder
from ostiary.audit.tree import Frontier, leaf_hash
from ostiary.audit.wal import frames, segments
from ostiary.audit.writer import MESSAGE
from ostiary.model.errors import ConfigError
from ostiary.testing.waiting import wait_until as until


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def stored(house) -> list[bytes]:
    return [frame.entry for segment in segments(house.wal) for frame in frames(segment.path)]


def checked(house) -> int:
    """Check every published checkpoint against the entries, and the tiles against the last; returns its size."""
    verifier, entries = Verifier(house.origin.vkey), stored(house)
    text = (house.origin.folder / "log" / "checkpoints").read_text()
    sizes, roots, frontier = {}, {0: Frontier().root()}, Frontier()
    for entry in entries:
        frontier.append(leaf_hash(entry))
        roots[frontier.size] = frontier.root() if frontier.size % 7 == 0 or frontier.size > len(entries) - 2 else None
    while text:
        note = last_note(text)
        checkpoint = read_checkpoint(note, verifier)
        assert text.endswith(note)
        assert checkpoint.size not in sizes
        sizes[checkpoint.size] = checkpoint.root
        assert roots[checkpoint.size] in (None, checkpoint.root)
        text = text[: -len(note)]
    last = last_checkpoint(house.origin)
    assert (house.origin.folder / "log" / "checkpoint").read_text().startswith(f"{house.origin.name}\n{last.size}\n")
    tiles = TileFolder(house.origin.folder / "log")
    assert tiles.frontier(last.size, last.size).root() == last.root
    kept = [entry for number in range((last.size + 255) // 256) for entry in tiles.entries(number, last.size)]
    assert kept == entries[: last.size]
    assert max(sizes) == last.size
    return last.size


def test_a_running_log_is_signed_and_at_the_end_all_of_it(house, make, link):
    async def serving():
        ours, theirs = link
        log = house.open()
        child = start_sealer(house.origin, theirs.fileno(), interval=0.1)
        theirs.close()
        log.writer.attach_sealer(ours)
        session = make.OneSession()
        for _ in range(1500):
            intended, entry = session.intent()
            await log.writer.wait_durable(log.writer.append(entry))
            log.writer.append(session.outcome(intended), closing=True)
        await until(lambda: log.writer.signed > 1000)
        await log.writer.close()
        assert log.writer.signed == log.writer.durable == 3001
        assert await asyncio.to_thread(child.wait, 20) == 0

    run(serving())
    assert checked(house) == 3001


def test_a_killed_sealer_is_followed_by_another_on_the_same_socket(house, link):
    async def serving():
        ours, theirs = link
        log = house.open(unsigned=30.0)
        log.writer.attach_sealer(ours)
        for round_ in range(3):
            child = start_sealer(house.origin, theirs.fileno(), interval=0.01, entries=50)
            goal = log.writer.size + 400
            while log.writer.size < goal:
                await log.writer.wait_durable(log.writer.append(b'{"n":%d}' % log.writer.size))
            await until(lambda goal=goal: log.writer.signed > goal - 300)
            if round_ < 2:
                child.send_signal(signal.SIGKILL)
                await asyncio.to_thread(child.wait, 20)
        await log.writer.close()
        assert log.writer.signed == log.writer.durable
        theirs.close()
        assert await asyncio.to_thread(child.wait, 20) == 0

    run(serving())
    assert checked(house) == 1201


def fill(house, count):
    """Write so many entries more, which nobody signs."""

    async def write():
        log = house.open()
        for n in range(count):
            await log.writer.wait_durable(log.writer.append(b'{"n":%d}' % n))
        await log.writer.close()

    run(write())


def filled(house, count=700):
    fill(house, count - 1)  # the log begins with an anchor
    assert seal_once(house.origin) == 0
    assert checked(house) == count


def refused(capfd, what: str) -> bool:
    return what in capfd.readouterr().err


def say(house, what: bytes, size: int, fence: int = 99) -> subprocess.Popen[bytes]:
    """Start a sealer and tell it something as a writer would; the writer then goes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = start_sealer(house.origin, theirs.fileno())
    theirs.close()
    ours.send(MESSAGE.pack(what, size, fence))
    ours.close()
    child.wait(20)
    return child


def test_a_log_that_shrank_is_not_signed(house, capfd):
    filled(house)
    assert say(house, b"D", 600).returncode == 1
    assert refused(capfd, "700 entries were signed")
    assert checked(house) == 700


def test_no_more_is_signed_than_the_newest_writer_says_is_durable(tmp_path):
    # What is there, which writer says so, and when: the second knows less of the log than the first said, and more than was signed.
    said = iter([(1100, 1, 10.0), (2800, 1, 10.1), (2400, 2, 10.2), (2400, 2, 10.4)])
    link = SimpleNamespace(durable=0, fence=-1, asked=False, gone=False, say=lambda size: None)
    sealer = SimpleNamespace(size=0)
    now, goals = [10.0], []

    def listen(seconds):
        try:
            link.durable, link.fence, now[0] = next(said)
        except StopIteration:
            link.gone = True

    def seal(goal):
        sealer.size = goal
        goals.append((goal, link.durable))
        yield goal

    link.listen, sealer.seal = listen, seal
    with mock.patch("ostiary.audit.sealer.time", SimpleNamespace(monotonic=lambda: now[0])):
        serve(sealer, link, tmp_path, 1.0, 1024, SimpleNamespace(is_short=False, is_over=False))
    assert goals == [(1024, 1100), (2304, 2400), (2400, 2400)]


def test_entries_that_are_not_there_are_not_signed(house, capfd):
    filled(house)
    assert say(house, b"D", 701).returncode == 1
    assert refused(capfd, "entry 700")
    assert checked(house) == 700


def test_a_log_that_forks_from_what_was_signed_is_not_signed(house, capfd):
    filled(house)
    path = segments(house.wal)[-1].path
    data = bytearray(path.read_bytes())
    import struct

    import google_crc32c

    forged = b'{"n":9}'
    last = list(frames(path))
    start = last[-2].end
    path.write_bytes(bytes(data[:start]) + 2 * (struct.pack("<II", len(forged), google_crc32c.value(forged)) + forged))
    assert seal_once(house.origin) == 1
    assert refused(capfd, "does not hold the entry that was signed")


def test_tiles_that_were_changed_are_found_before_anything_is_signed(house, capfd):
    filled(house)
    tile = next((house.origin.folder / "log" / "tile" / "0").glob("*.p/*"))
    data = bytearray(tile.read_bytes())
    data[0] ^= 1
    tile.write_bytes(bytes(data))
    assert seal_once(house.origin) == 1
    assert refused(capfd, "root that was signed")


def test_a_checkpoint_taken_from_the_list_is_missed(house, capfd):
    filled(house)
    (house.origin.folder / "log" / "checkpoints").write_bytes(b"")
    assert seal_once(house.origin) == 1
    assert refused(capfd, "lacks one that was published")


def test_a_writer_that_was_fenced_off_is_not_signed_for(house, capfd):
    filled(house)
    assert say(house, b"D", 700, fence=0).returncode in {0, 1}
    (house.origin.folder / "fence").write_text("5\n")

    async def more():
        log = house.open()
        await log.writer.wait_durable(log.writer.append(b'{"n":1}'))
        await log.writer.close()

    run(more())
    capfd.readouterr()
    assert say(house, b"D", 701, fence=5).returncode == 1
    assert refused(capfd, "fenced off")
    assert say(house, b"D", 701, fence=6).returncode == 0
    assert checked(house) == 701


def test_a_note_cut_short_by_a_crash_is_mended(house):
    filled(house)
    listed = house.origin.folder / "log" / "checkpoints"
    whole = listed.read_text()
    for torn in ("gw1", f"{house.origin.name}\n900\nAAAA\n\n\u2014 {house.origin.name} AAAA"):
        listed.write_text(whole + torn)
        assert seal_once(house.origin) == 0
        assert listed.read_text() == whole


def test_a_first_note_cut_short_by_a_crash_is_mended_too(house):
    listed = house.origin.folder / "log" / "checkpoints"
    listed.write_text(f"{house.origin.name}\n58\nAAAA")
    filled(house)
    assert listed.read_text().startswith(f"{house.origin.name}\n700\n")


def test_the_sealer_refuses_a_key_that_others_may_read(house):
    house.origin.key_file.chmod(0o644)
    assert seal_once(house.origin) == 2


def test_partial_tiles_go_once_their_full_tile_is_there(house):
    filled(house, 200)
    assert list((house.origin.folder / "log").rglob("*.p"))
    fill(house, 56)
    assert seal_once(house.origin) == 0
    names = {str(path.relative_to(house.origin.folder / "log")) for path in (house.origin.folder / "log").rglob("*.p")}
    assert names == {"tile/1/000.p"}


def test_a_row_of_the_tree_that_did_not_grow_is_not_written_again(house):
    filled(house, 300)
    fill(house, 10)
    sealer = Sealer(house.origin.folder, load_signer(house.origin.key_file))
    written, add = [], Publication.add

    def noted(publication, name, data):
        written.append(name)
        add(publication, name, data)

    with mock.patch.object(Publication, "add", noted):
        assert list(sealer.seal(310)) == [310]
    assert written == ["tile/0/001.p/54", "tile/entries/001.p/54", "checkpoint"]
    assert checked(house) == 310


def test_what_the_disk_had_no_room_for_is_published_from_the_beginning_once_it_has(house):
    fill(house, 599)
    sealer = Sealer(house.origin.folder, load_signer(house.origin.key_file))
    failing = iter([errno.ENOSPC])
    written, add, sync = [], Publication.add, TileFolder.sync

    def noted(publication, name, data):
        if name == "tile/entries/001" and len(written) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(name)
        add(publication, name, data)

    def synced(folder, fds, folders=()):
        for code in failing:
            raise OSError(code, "No space left on device")
        sync(folder, fds, folders)

    with (
        mock.patch.object(Publication, "add", noted), mock.patch.object(TileFolder, "sync", synced), mock.patch("time.sleep"),
    ):  # fmt: skip
        assert list(sealer.seal(600)) == [600]
    whole = ["tile/0/000", "tile/entries/000", "tile/0/001", "tile/entries/001"]
    once = [*whole, "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/002.p/88"]
    assert written == [*whole[:3], *once, *once, "checkpoint"]
    assert not list(house.origin.folder.rglob(".tmp-*"))
    assert checked(house) == 600


def sealing(house, link, durable: int, **options) -> tuple[list[int], list[str]]:
    """A sealer that is told of so many entries: which sizes it says it signed, and what partial tiles there were after the first."""
    ours, theirs = link
    ours.settimeout(20)
    child = start_sealer(house.origin, theirs.fileno(), **options)
    theirs.close()
    ours.send(MESSAGE.pack(b"D", durable, 99))
    sizes, partials = [], None
    while not sizes or sizes[-1] < durable:
        sizes.append(MESSAGE.unpack(ours.recv(64))[1])
        if sizes[-1] and partials is None:
            partials = sorted(str(path.parent.relative_to(house.origin.folder / "log")) for path in house.origin.folder.rglob("*.p/*"))
    ours.close()
    assert child.wait(20) == 0
    return sizes, partials


def test_a_checkpoint_for_the_number_alone_ends_with_a_whole_tile_and_the_rest_is_signed_in_its_time(house, link):
    fill(house, 999)
    sizes, partials = sealing(house, link, 1000, interval=2.0, entries=500)
    assert sizes == [0, 768, 1000]
    assert partials == ["tile/1/000.p"]
    assert checked(house) == 1000


def test_fewer_entries_than_a_tile_are_signed_for_their_number_too(house, link):
    fill(house, 199)
    sizes, _ = sealing(house, link, 200, interval=60.0, entries=100)
    assert sizes == [0, 200]
    assert checked(house) == 200


def test_init_makes_private_keys_and_never_makes_them_again(tmp_path):
    state = tmp_path / "state"
    instance = init_state(state, "gw1")
    assert instance_id(state) == instance
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    for path in before:
        assert path.stat().st_mode & 0o777 == 0o600, path
    for folder in (state, state / "keys", state / "keys" / "signers", state / "audit"):
        assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigError, match="never overwritten"):
        init_state(state, "gw1")
    (state / "instance").unlink()
    with pytest.raises(ConfigError, match="restore"):
        init_state(state, "gw1")
    assert all(path.read_bytes() == data for path, data in before.items() if path.name != "instance")


def test_an_origin_is_certified_by_the_root_and_stands_in_the_policy(house):
    again = ensure_origin(house.state, "gw1", "w0", 2026)
    assert again == house.origin == read_origin(house.state, "gw1", "w0", 2026)
    assert load_signer(again.key_file).vkey == again.vkey
    other = ensure_origin(house.state, "gw1", "w1", 2026)
    policy = (house.state / "policy").read_text().splitlines()
    assert [line for line in policy if line.startswith("log ")] == [f"log {again.vkey}", f"log {other.vkey}"]
    assert policy[-1] == "quorum none"


def test_what_operators_wrote_into_the_policy_stays(house):
    policy = house.state / "policy"
    policy.write_text(policy.read_text().replace("quorum none", "witness w1 w1+aa+bb\nquorum w1"))
    ensure_origin(house.state, "gw1", "w1", 2026)
    lines = policy.read_text().splitlines()
    assert lines[-2:] == ["witness w1 w1+aa+bb", "quorum w1"]
    assert len([line for line in lines if line.startswith("log ")]) == 2


def test_a_certificate_that_was_tampered_with_is_refused(house):
    certificate = house.origin.folder / "origin"
    other = load_signer(ensure_origin(house.state, "gw1", "w1", 2026).key_file)
    certificate.write_text(certificate.read_text().replace(house.origin.vkey, other.vkey))
    with pytest.raises(ConfigError, match="not good"):
        read_origin(house.state, "gw1", "w0", 2026)


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b", "a+b", "x" * 65, ".x"])
def test_names_that_could_leave_their_place_are_refused(house, name):
    for gateway, writer in ((name, "w0"), ("gw1", name)):
        with pytest.raises(ConfigError):
            ensure_origin(house.state, gateway, writer, 2026)
