"""Cases of the corpus that take a conversation: terminals that lie, recordings that are flooded, hosts that lead on, paths that are swapped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from ostiary.cli.recordings import records
from ostiary.config.load import load
from ostiary.model.events import PayloadKind
from ostiary.recording.ssh_transcript import ssh_events
from ostiary.testing.sshd import SFTP_SERVER
from ostiary.vault.payload_reading import Record
from tests.ssh.conftest import Lab, make_lab
from tests.ssh.test_ssh_sessions import connected, of, replayed, until

PATIENCE = 60.0
ZMODEM = "**\\030B00000000000000\\r\\n"
HOSTILE = "\x1b]0;title\x07\x1b[2J\x1b]52;c;aGk=\x07\x1b]8;;http://evil/\x07link\x1b]8;;\x07\x1b[8m hid''den\x05\x1b[c"


def recorded(lab: Lab, session: str, kind: PayloadKind) -> list[Record]:
    return [each for each in records(load(str(lab.gateway.config)), session, None) if isinstance(each, Record) and each.kind is kind]


def kept(lab: Lab, session: str, kind: PayloadKind) -> bytes:
    return b"".join(each.data for each in recorded(lab, session, kind))


def shell(lab: Lab, *typed: str) -> tuple[str, str]:
    """(what the terminal showed, the session): each piece is typed at once, when the shell asks for the next one."""

    async def act() -> str:
        shown = ""
        async with await connected(lab, groups=["operators"]) as connection:
            process = await connection.create_process("", term_type="xterm")
            for number, each in enumerate(typed):
                process.stdin.write(f"{each}\necho ans''wer{number}\n")
                shown += await asyncio.wait_for(process.stdout.readuntil(re.compile(rf"answer{number}[^#$]*[#$] ")), PATIENCE)
            process.stdin.write("exit\n")
            shown += await asyncio.wait_for(process.stdout.read(), PATIENCE)
            await process.wait()
        return shown

    shown = asyncio.run(act())
    session = lab.last("session.start")["session"]
    until(lambda: of(lab, session, "session.end"), "the session's end is on record")
    return shown, session


def test_ssh_025_a_transfer_that_the_target_feigns_switches_nothing_off(lab: Lab) -> None:
    shown, session = shell(lab, f"printf '{ZMODEM}'", f"cat {lab.home}/note.txt", f"printf '{ZMODEM}'; cat {lab.home}/note.txt")
    assert shown.count("ssn ***********") == 2
    assert "078-05-1120" not in shown
    assert b"B00000000000000" in kept(lab, session, PayloadKind.RESULT)
    assert kept(lab, session, PayloadKind.TERMINAL).count(b"note.txt") == 2
    assert b"078-05" not in kept(lab, session, PayloadKind.RESULT)
    refused = lab.ssh(f"printf '{ZMODEM}'; cat {lab.srv}/flag")
    assert (refused.returncode, b"FLAG{" in refused.stdout) == (126, False)


def test_ssh_026_028_what_is_typed_unseen_or_pasted_at_once_is_on_record_and_no_list_of_commands_is_made_of_it(lab: Lab) -> None:
    gone = lab.home / "gone"
    gone.mkdir()
    _, session = shell(lab, "stty -echo", f"rmdir {gone}", "stty echo", f"ls /\nmkdir {gone}\nrmdir {gone}")
    typed = kept(lab, session, PayloadKind.TERMINAL)
    for each in ("stty -echo", f"rmdir {gone}", "ls /", f"mkdir {gone}"):
        assert each.encode() in typed
    (intent,) = of(lab, session, "intent")
    assert (intent["op"]["name"], intent["op"]["action"]) == ("shell", "opaque")
    shown = replayed(lab, session)
    assert f"typed: not shown on the screen: rmdir {gone}" in shown
    assert f"typed: mkdir {gone}" in shown
    assert lab.ssh(f"ls /\nrm -rf {gone}", groups=["staff"]).returncode == 126


def test_ssh_030_a_way_on_from_the_target_is_on_record_under_who_went_and_a_command_that_goes_on_is_refused(lab: Lab) -> None:
    onward = f"ssh -n -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -i {lab.server.client_key}"
    onward += f" -p {lab.server.port} {lab.server.user}@127.0.0.1"
    shown, session = shell(lab, f"{onward} cat {lab.home}/note.txt", f"{onward} echo on''ward")
    assert "onward" in shown
    assert "078-05-1120" not in shown
    assert {each["who"]["sub"] for each in of(lab, session, "intent")} == {"ana"}
    assert onward.encode() in kept(lab, session, PayloadKind.TERMINAL)
    for text in (f"{onward} id", "tmux new -d id", "screen -dm id", "mosh-server new", f"exec {onward}"):
        assert lab.ssh(text, groups=["staff"]).returncode == 126, text
    jumped = lab.ssh("id", options=("-W", f"127.0.0.1:{lab.server.port}"), groups=["operators"])
    assert jumped.returncode != 0
    assert lab.last("deny")["op"]["name"] == "direct-tcpip"


def test_ssh_031_a_recording_holds_what_was_shown_and_its_replay_drives_no_terminal(lab: Lab) -> None:
    (lab.home / "hostile.txt").write_text(HOSTILE.replace("''", ""))
    _, session = shell(lab, f"cat {lab.home}/hostile.txt")
    raw = kept(lab, session, PayloadKind.RESULT)
    for each in (b"\x1b]52;c;aGk=\x07", b"\x1b]0;title", b"\x1b[8m hidden", b"\x05"):
        assert each in raw
    for options in ((), ("-o", "json")):
        text = replayed(lab, session, *options)
        assert all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system of its own")
def test_ssh_033_a_recording_that_has_no_room_ends_the_session_before_anything_else_is_done(tmp_path: Path) -> None:
    with make_lab(tmp_path, state_bytes=12 << 20) as lab:

        shown = b""

        async def act() -> None:
            nonlocal shown
            connection = await connected(lab, groups=["operators"])
            process = await connection.create_process("", term_type="xterm", encoding=None)
            process.stdin.write(b"seq 1 9000000\n")
            with contextlib.suppress(asyncssh.Error, OSError):
                while more := await asyncio.wait_for(process.stdout.read(1 << 16), PATIENCE):
                    shown += more
                process.stdin.write(f"touch {lab.home}/done\n".encode())
            with contextlib.suppress(asyncssh.Error, OSError):
                await connection.run(f"touch {lab.home}/done")
            connection.abort()

        asyncio.run(act())
        session = lab.last("session.start")["session"]
        text = "".join(each.text for each in ssh_events(recorded(lab, session, PayloadKind.RESULT), ()) if each.kind == "output")
        assert len(shown) > 1 << 20
        assert text.startswith(shown.decode()), "nothing was shown that is not on record"
        lab.gateway.stop()
        assert not (lab.home / "done").exists()
        (log,) = [each for each in lab.gateway.logs() if "worker" in str(each)]
        done = lab.gateway.run("audit", "verify", str(log))
        assert done.returncode in {0, 2}, done.stdout + done.stderr
        assert done.returncode == 0 or "1 operations have no outcome" in done.stdout, "where there is no room to say how it ended, that is seen"


SWAPPING = """
import os, subprocess, sys, threading
home, srv = {home!r}, {srv!r}
server = subprocess.Popen([{server!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

def back():
    while data := os.read(server.stdout.fileno(), 65536):
        os.write(1, data)
    os._exit(0)

threading.Thread(target=back, daemon=True).start()
held = b""
while data := os.read(0, 65536):
    held += data
    while len(held) >= 4 and len(held) >= 4 + int.from_bytes(held[:4], "big"):
        size = 4 + int.from_bytes(held[:4], "big")
        packet, held = held[:size], held[size:]
        asks = packet[4] == 16
        if not asks and b"/x/" in packet and not os.path.islink(home + "/x"):
            os.rename(home + "/x", home + "/x.away")
            os.symlink(srv, home + "/x")
        server.stdin.write(packet)
        server.stdin.flush()
server.stdin.close()
server.wait()
"""


@pytest.fixture(scope="module")
def swapping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A host on which somebody puts a link in the place of a folder as soon as its path was resolved."""
    folder = tmp_path_factory.mktemp("swap")
    script = folder / "server.py"
    script.write_text(SWAPPING.format(home=str(folder / "home"), srv=str(folder / "srv"), server=SFTP_SERVER))
    with make_lab(folder, options=(f"ForceCommand {sys.executable} {script}",)) as made:
        yield made


@pytest.mark.parametrize("act", ["read", "write", "create", "list", "rename", "mkdir", "remove", "chmod"])
def test_ssh_044_a_folder_that_is_swapped_for_a_link_gives_nothing_away(swapping: Lab, act: str) -> None:
    lab, inside = swapping, swapping.home / "x"
    if inside.is_symlink():
        inside.unlink()
        (lab.home / "x.away").rename(inside)
    for folder in (inside, inside / "sub", lab.srv / "sub"):
        folder.mkdir(exist_ok=True)
    (inside / "flag").write_text("mine\n")
    (inside / "other").write_text("mine\n")
    (lab.srv / "other").write_text("theirs")
    shown: list[object] = []

    async def acts() -> None:
        async with await connected(lab) as connection, connection.start_sftp_client() as sftp:
            match act:
                case "read":
                    async with sftp.open(f"{inside}/flag") as file:
                        shown.append(await file.read())
                case "write" | "create":
                    async with sftp.open(f"{inside}/{'flag' if act == 'write' else 'new'}", "w") as file:
                        await file.write("evil")
                case "list":
                    shown.extend(await sftp.listdir(f"{inside}/sub"))
                case "rename":
                    await sftp.rename(f"{inside}/other", f"{lab.home}/taken")
                case "mkdir":
                    await sftp.mkdir(f"{inside}/made")
                case "remove":
                    await sftp.remove(f"{inside}/other")
                case _:
                    await sftp.chmod(f"{inside}/other", 0o777)

    with pytest.raises((asyncssh.Error, OSError)):
        asyncio.run(acts())
    assert shown == []
    assert (lab.srv / "flag").read_text() == "FLAG{sentinel}\n"
    assert not (lab.srv / "new").exists() or (lab.srv / "new").read_text() == ""
    session = lab.last("session.start")["session"]
    until(lambda: of(lab, session, "session.end"), "the session's end is on record")
    assert "the path led elsewhere" in [each["result"].get("tag") for each in of(lab, session, "outcome")]
    for each in (lab.srv / "new", lab.srv / "made", lab.home / "taken"):
        if each.exists():
            each.rmdir() if each.is_dir() else each.unlink()


def test_files_are_emptied_as_they_are_opened_where_nobody_swaps_anything(lab: Lab) -> None:
    (lab.home / "long.txt").write_text("x" * 1000)

    async def acts() -> None:
        async with await connected(lab) as connection, connection.start_sftp_client() as sftp:
            async with sftp.open(f"{lab.home}/long.txt", "w") as file:
                await file.write("short")
            async with sftp.open(f"{lab.home}/long.txt", "a") as file:
                await file.write("er")

    asyncio.run(acts())
    assert (lab.home / "long.txt").read_text() == "shorter"


def test_ssh_052_a_flood_of_signals_ends_the_channel(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            process = await connection.create_process("", term_type="xterm")
            process.stdin.write("trap '' USR1; echo rea''dy; sleep 600\n")
            await asyncio.wait_for(process.stdout.readuntil("ready"), PATIENCE)
            for _ in range(2500):
                process.send_signal("USR1")
            done = await asyncio.wait_for(process.wait(), PATIENCE)
            assert done.exit_status == 126
            assert "flood" in str(done.stdout) + str(done.stderr)
            assert (await connection.run("echo on")).stdout == "on\n"

    asyncio.run(act())
