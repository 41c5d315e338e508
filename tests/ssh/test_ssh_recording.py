"""Shells as they are recorded, played, exported, searched, watched and ended: a real shell, and the commands that people use."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncssh
import pytest

from ostiary.api.client import exchange
from ostiary.audit.search import Query, search
from ostiary.cli.codes import ExitCode
from ostiary.cli.recordings import records, touched
from ostiary.config.load import load
from ostiary.model.events import PayloadKind
from ostiary.model.secrets import Secret
from ostiary.vault.payload_reading import Record
from tests.recording.test_drawing import PERMITTED
from tests.ssh.conftest import Lab
from tests.ssh.test_ssh_sessions import PATIENCE, connected, of, replayed, until

Shell = asyncssh.SSHClientProcess[str]
HOSTILE = r"\033]0;title\007\033]52;c;aGk=\007\033[6n\033[?1000h\033]8;;http://x\033\\link\033[8mhid\033[0m\033(0lqk\033(B\033P$q\033\\\033[3J\033[99t"


def shell(lab: Lab, act: Callable[[Shell], Awaitable[None]], *, size: tuple[int, int] = (90, 30)) -> str:
    """Open a shell, act in it, leave it; the session's id."""

    async def run() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            process = await connection.create_process(term_type="xterm-256color", term_size=size, env={})
            await act(process)
            process.stdin.write("exit\n")
            await asyncio.wait_for(process.wait(), PATIENCE)

    asyncio.run(run())
    session = str(lab.last("session.start")["session"])
    until(lambda: of(lab, session, "session.end"), "the session's end is on record")
    return session


async def said(process: Shell, text: str) -> str:
    return await asyncio.wait_for(process.stdout.readuntil(text), PATIENCE)


async def ready(process: Shell) -> None:
    """Wait for a prompt that nobody has typed."""
    process.stdin.write("PS1='ana@'web'$ '\n")
    await said(process, "ana@web$ ")


def cast(lab: Lab, session: str, *options: str) -> tuple[dict[str, Any], list[tuple[float, str, str]]]:
    header, *events = replayed(lab, session, "-o", "asciicast", *options).splitlines()
    return json.loads(header), [tuple(json.loads(each)) for each in events]


def kept(lab: Lab, session: str) -> list[Record]:
    return [each for each in records(load(lab.gateway.config), session, None) if isinstance(each, Record)]


@pytest.fixture(scope="module")
def used(lab: Lab) -> str:
    """A session in which most things happened."""

    async def act(process: Shell) -> None:
        await ready(process)
        process.change_terminal_size(100, 40)
        process.stdin.write("stty size\n")
        await said(process, "40 100")
        await said(process, "ana@web$ ")
        process.stdin.write("read -s -p 'Pass''word: ' x; echo; echo got ${#x}\n")
        await said(process, "Password: ")
        process.stdin.write("hunter2-typed\n")
        await said(process, "got 13")
        await said(process, "ana@web$ ")
        process.stdin.write("stty -echo\n")
        await said(process, "ana@web$ ")
        process.stdin.write("echo hid''den >/dev/null; stty echo\n")
        await said(process, "ana@web$ ")
        process.stdin.write(f"printf '{HOSTILE}'; printf 'tre\\033[31masu\\033[0mre\\n'; echo 078-05-1120\n")
        await said(process, "***********")
        await said(process, "ana@web$ ")

    return shell(lab, act)


def test_a_shell_is_an_asciicast_with_its_sizes_input_and_output(lab: Lab, used: str) -> None:
    header, events = cast(lab, used)
    assert (header["version"], header["width"], header["height"], header["env"]) == (2, 90, 30, {"TERM": "xterm-256color"})
    assert abs(header["timestamp"] - time.time()) < 3600
    assert [text for _, code, text in events if code == "r"] == ["100x40"]
    assert [at for at, _, _ in events] == sorted(at for at, _, _ in events)
    out = "".join(text for _, code, text in events if code == "o")
    assert "40 100" in out
    assert "stty size\n" in [text for _, code, text in events if code == "i"]


def test_a_password_is_nowhere_on_record_and_a_hidden_command_is(lab: Lab, used: str) -> None:
    assert not [each for each in kept(lab, used) if b"hunter2" in each.data]
    assert not [each for each in kept(lab, used) if each.kind is PayloadKind.COPY_IN]
    text = replayed(lab, used)
    assert "typed: something that the screen did not show: withheld" in text
    assert re.search(r"typed: not shown on the screen: echo hid''den >/dev/null; stty echo", text), "SSH-026"
    assert "typed: stty -echo" in text
    assert "hunter2" not in text


def test_what_was_typed_goes_through_the_detectors(lab: Lab, used: str) -> None:
    typed = b"".join(each.data for each in kept(lab, used) if each.kind is PayloadKind.TERMINAL)
    assert b"echo ***********" in typed
    assert b"078-05-1120" not in typed


def test_a_transcript_has_the_screen_and_not_what_drives_it(lab: Lab, used: str) -> None:
    text = replayed(lab, used)
    assert "terminal: xterm-256color, 90 columns, 30 rows" in text
    assert "resize: 100 columns, 40 rows" in text
    assert "linkhid\u250c\u2500\u2510treasure" in text
    assert "  ana@web$ stty size" in text
    assert "  40 100" in text
    assert all(char.isprintable() or char == "\n" for char in text)
    raw = [json.loads(line) for line in replayed(lab, used, "-o", "json").splitlines()]
    assert any("\x1b]52;c;aGk=\x07" in each["text"] for each in raw if each["kind"] == "drawn"), "for programs, it is all there"


@pytest.mark.parametrize("options", [("--speed", "0"), ("--speed", "1000", "--idle-limit", "0.01")])
def test_a_terminal_is_played_and_draws_only(lab: Lab, used: str, options: tuple[str, ...]) -> None:
    out = replayed(lab, used, *options)
    assert PERMITTED.fullmatch(out), [each for each in out.split("\x1b") if not PERMITTED.fullmatch("\x1b" + each)]
    assert "tre\x1b[31masu\x1b[0mre" in out
    assert "40 100" in out


def test_a_part_can_be_played(lab: Lab, used: str) -> None:
    _, events = cast(lab, used)
    (at,) = [at for at, code, _ in events if code == "r"]
    before, after = replayed(lab, used, "--speed", "0", "--to", str(at)), replayed(lab, used, "--speed", "0", "--from", str(at))
    assert "40 100" not in before
    assert "ana@web$" in before
    assert "40 100" in after
    assert lab.gateway.run("sessions", "replay", used, "--from", "soon").returncode == ExitCode.USAGE
    assert lab.gateway.run("sessions", "replay", used, "--speed", "0", "--terminal", "2").returncode == ExitCode.NO


def test_an_export_is_a_new_file_of_ones_own_and_goes_on_record(lab: Lab, used: str) -> None:
    path = lab.gateway.home / "used.cast"
    done = [lab.gateway.run("sessions", "replay", used, "-o", "asciicast", "--idle-limit", "2", "--file", str(path)) for _ in range(2)]
    assert [each.returncode for each in done] == [ExitCode.OK, ExitCode.USAGE], "what is there is not overwritten"
    assert path.stat().st_mode & 0o777 == 0o600
    header, *events = path.read_text().splitlines()
    assert json.loads(header)["idle_time_limit"] == 2
    assert PERMITTED.fullmatch("".join(json.loads(each)[2] for each in events if json.loads(each)[1] == "o"))
    assert {"how": "exported", "session": used} in [entry["replay"] for entry in lab.entries("replay")]


def test_a_session_without_a_terminal_has_no_asciicast_and_is_printed(lab: Lab) -> None:
    assert lab.ssh("echo here").returncode == 0
    session = lab.last("session.end")["session"]
    assert lab.gateway.run("sessions", "replay", session, "-o", "asciicast").returncode == 1
    assert "  here" in replayed(lab, session, "--speed", "0")


def test_keys_pause_seek_and_end_a_replay_and_the_terminal_is_as_before(lab: Lab, used: str) -> None:
    child, fd = pty.fork()
    if child == 0:
        command = [sys.executable, "-m", "ostiary.cli.main", "sessions", "replay", used, "-c", str(lab.gateway.config), "--idle-limit", "1"]
        os.execvpe(command[0], command, lab.gateway.environment | {"TERM": "xterm"})
    out = b""

    def until_seen(text: bytes, what: str) -> None:
        nonlocal out
        while text not in out:
            more = b""
            with contextlib.suppress(OSError):
                more = os.read(fd, 65536)
            assert more, what
            out += more

    until_seen(b"space: pause", "the keys are named")
    os.write(fd, b" ..\x1b[D")
    until_seen(b"\x1b[H\x1b[2J", "it begins anew")
    os.write(fd, b"q")
    until_seen(b"\x1b[?25h\r", "everything is put in its place")
    assert os.waitpid(child, 0)[1] == 0
    os.close(fd)


@contextlib.contextmanager
def running(lab: Lab, *words: str) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], str]]]:
    """A command of ours that goes on, and a way to wait for what it prints."""
    command = [sys.executable, "-m", "ostiary.cli.main", *words, "-c", str(lab.gateway.config)]
    with subprocess.Popen(command, env=lab.gateway.environment, cwd=lab.gateway.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []

        def wait(text: str) -> str:
            while not any(text in line for line in lines):
                line = process.stdout.readline()  # type: ignore[union-attr]
                assert line, (text, lines)
                lines.append(line)
            return "".join(lines)

        try:
            yield process, wait
        finally:
            process.kill()


def log_in(lab: Lab, subject: str, *groups: str) -> None:
    """What `ostiary login` leaves."""
    url = f"http://127.0.0.1:{lab.gateway.api_port}"
    granted = exchange(url, Secret(lab.gateway.token(subject, groups=[*groups])))
    keep = f"from ostiary.cli.held import keep; from ostiary.model.secrets import Secret; keep({url!r}, Secret({granted.token.reveal()!r}), 600)"
    subprocess.run([sys.executable, "-c", keep], env=lab.gateway.environment, check=True)


def test_who_may_looks_on_while_a_session_runs_and_ends_it(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            process = await connection.create_process(term_type="xterm", term_size=(80, 24))
            await ready(process)
            session = str(lab.last("session.start")["session"])
            with running(lab, "sessions", "watch", session) as (_, wait):
                await asyncio.to_thread(wait, "typed: PS1=")  # what was before
                process.stdin.write("echo liv''e\n")
                await asyncio.to_thread(wait, "  live")
                assert {"how": "watched", "session": session} in [entry["replay"] for entry in lab.entries("replay")]
                log_in(lab, "ann", "staff")
                done = await asyncio.to_thread(lab.gateway.run, "sessions", "end", session, "--reason", "no")
                assert done.returncode not in {0, 1}, "who is no administrator ends nothing"
                assert not of(lab, session, "session.end")
                log_in(lab, "sam", "chiefs")
                done = await asyncio.to_thread(lab.gateway.run, "sessions", "end", session, "--reason", "lunch")
                assert done.returncode == 0, done.stderr
                await asyncio.wait_for(connection.wait_closed(), PATIENCE)
                await asyncio.to_thread(wait, "has ended")
            (end,) = of(lab, session, "session.end")
            assert end["result"]["status"] == "ENDED_BY_OPERATOR"
            assert any(session in entry["login"].get("detail", "") and "lunch" in entry["login"]["detail"] for entry in lab.entries("login"))
            for command in (("watch", session), ("end", session, "--reason", "again")):
                done = lab.gateway.run("sessions", *command)
                assert (done.returncode, "has ended" in done.stderr) == (1, True)

    asyncio.run(act())


def test_a_watcher_that_does_not_read_slows_nothing(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            process = await connection.create_process(term_type="xterm", term_size=(80, 24))
            await ready(process)
            session = str(lab.last("session.start")["session"])
            with running(lab, "sessions", "watch", session) as (watcher, _):
                process.stdin.write("seq 100000; echo do''ne\n")
                await said(process, "done")
                assert watcher.poll() is None, "it stands there with a full pipe"

    asyncio.run(act())


def test_keystrokes_are_echoed_without_anything_behind_them(lab: Lab) -> None:
    async def act(process: Shell) -> None:
        await ready(process)
        for key in "echo 4111-visible@a":
            process.stdin.write(key)
            assert key in await said(process, key)
        process.stdin.write("\x15")

    shell(lab, act)


def shown_in(lab: Lab, text: str) -> set[str]:
    """The sessions in which it was on a screen."""
    values = touched(load(lab.gateway.config))
    found = {str(entry["session"]) for entry in search(lab.gateway.state, Query(screen=text), values)}
    assert values.closed == []
    return found


@pytest.mark.timeout(400)  # each of its searches draws every screen of this module anew
def test_text_that_was_on_the_screen_is_found_until_it_is_erased(lab: Lab, used: str) -> None:
    async def act(process: Shell) -> None:
        await ready(process)
        drawn = "".join(f"\\033[5;{at}H{char}" for at, char in reversed([*enumerate("galleon", 3)]))
        process.stdin.write(f"printf '\\033[2J{drawn}\\033[9;86Hfrigates\\n'; printf gall; printf 'eys\\n'; cat {lab.home}/note.txt; stty -echo; echo ask''ed; read x; stty echo\n")
        await said(process, "asked")
        process.stdin.write("unseen-caravel\n")
        await said(process, "ana@web$ ")
        session = str(lab.last("session.start")["session"])
        found = shown_in(lab, "galleon frigates")
        assert session in found, "while it goes on"

    session = shell(lab, act)
    assert lab.ssh("printf 'ship''wreck\\n'").returncode != 0, "this is no permitted command"
    assert lab.ssh("echo ship''wreck").returncode == 0
    command = lab.last("session.end")["session"]
    for text in ("galleon", "GALLEON", "frigates galleys", "galleys"):
        assert session in shown_in(lab, text), text
    assert shown_in(lab, "shipwreck") == {command}
    assert shown_in(lab, "galleon shipwreck") == set()
    for text in ("078-05-1120", "unseen-caravel", "caravel"):
        assert session not in shown_in(lab, text), f"{text} was not on its screen"
    assert used in shown_in(lab, "treasure")
    listed = lab.gateway.run("sessions", "list", "--screen", "galleon", "-o", "json")
    assert [each["session"] for each in json.loads(listed.stdout)] == [session]
    entries = [json.loads(line) for line in lab.gateway.run("audit", "search", "--screen", "galleon", "-o", "json").stdout.splitlines()]
    assert [(each["session"], each["kind"], each["op"]["name"]) for each in entries] == [(session, "intent", "shell")]

    assert lab.gateway.run("audit", "redact", session, "--reason", "asked for").returncode == 0
    assert session not in shown_in(lab, "galleon")
    with contextlib.closing(sqlite3.connect(lab.gateway.state / "index.sqlite")) as db:
        number = "SELECT e.n FROM entry e WHERE e.id = ?"
        (entry,) = db.execute(number, (bytes.fromhex(entries[0]["id"].replace("-", "")),)).fetchone()
        assert db.execute("SELECT count(*) FROM token WHERE entry = ?", (entry,)).fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM token").fetchone() > (0,)


def test_a_session_is_one_time_line(lab: Lab) -> None:
    async def run() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            process = await connection.create_process(term_type="xterm", term_size=(80, 24))
            await ready(process)
            process.stdin.write("echo bef''ore\n")
            await said(process, "before")
            await said(process, "ana@web$ ")
            await connection.run("echo com''mand", check=True)
            async with connection.start_sftp_client() as files, files.open(f"{lab.home}/note.txt") as file:
                await file.read()
            with contextlib.suppress(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", lab.echo_port)
            process.stdin.write("echo aft''er; exit\n")
            await said(process, "after")
            await asyncio.wait_for(process.wait(), PATIENCE)

    asyncio.run(run())
    session = lab.last("session.start")["session"]
    until(lambda: of(lab, session, "session.end"), "the session's end is on record")
    text = replayed(lab, session)
    order = ["> (a shell)", "terminal: xterm", "  before\n", "> echo com''mand", "  command\n", f"> open {lab.home}/note.txt", "> direct-tcpip", "  after\n", "end: ended"]
    assert [each for each in order if each not in text] == [], text
    places = [text.index(each) for each in order]
    assert places == sorted(places), text
    shown = lab.gateway.run("sessions", "show", session).stdout
    places = [shown.index(each) for each in ("shell", "echo", "open", "direct-tcpip")]
    assert places == sorted(places), shown
