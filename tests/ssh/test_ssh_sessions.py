"""What is shown of sessions afterwards, what ends them from outside, and what is on record when something dies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.api.words import GRANT, JWT
from ostiary.cli.recordings import records
from ostiary.config.load import load
from ostiary.model.connections import SshConnection
from ostiary.model.events import PayloadKind, PayloadRef
from ostiary.protocols.ssh import messages as m
from ostiary.recording.ssh_transcript import ssh_events
from ostiary.recording.transcript import lines
from ostiary.testing.gateway import ISSUER
from ostiary.testing.peers import process_family
from ostiary.testing.waiting import until
from ostiary.vault.payload_reading import Gap, Record
from tests.docs.pages import blocks
from tests.house.trees import ROOT
from tests.ssh.conftest import Lab, make_lab

PAGE = ROOT / "docs" / "ssh.md"
PATIENCE = 60.0


async def connected(lab: Lab, token: str | None = None, **claims: Any) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        "127.0.0.1", lab.port, known_hosts=None, username="web", password=token or lab.gateway.token(**claims), client_keys=None, config=None
    )


def of(lab: Lab, session: str, kind: str) -> list[dict[str, Any]]:
    return [each for each in lab.entries(kind) if each["session"] == session]


def replayed(lab: Lab, session: str, *options: str) -> str:
    done = lab.gateway.run("sessions", "replay", session, "-c", str(lab.gateway.config), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_verifies(lab: Lab) -> None:
    for log in lab.gateway.logs():
        done = lab.gateway.run("audit", "verify", str(log))
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_loads_as_it_stands(tmp_path: Path) -> None:
    (policy,) = [each.text for each in blocks(PAGE) if each.language == "cedar"]
    (settings,) = [each.text for each in blocks(PAGE) if each.language == "toml"]
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBySBeUlSWVENtO9FJ6Yd8Dh5n0xTDlh7LTDI5VSzHc9"
    (tmp_path / "page.cedar").write_text(policy)
    check = [sys.executable, "-m", "ostiary.cli.main", "policy", "check", str(tmp_path / "page.cedar")]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (checked.returncode, "3 policies" in checked.stdout + checked.stderr) == (0, True), checked.stderr
    whole = f'[gateway]\nname = "gw"\nstate_dir = "{tmp_path}"\n[policy]\nfiles = ["page.cedar"]\n' + settings
    for example, real in (("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA...", key), ("/etc/ostiary/secrets/target-ca", str(tmp_path / "target-ca"))):
        assert example in whole
        whole = whole.replace(example, real)
    (tmp_path / "target-ca").touch(mode=0o600)
    (tmp_path / "ostiary.toml").write_text(whole)
    web = load(tmp_path / "ostiary.toml").connections["web"]
    assert isinstance(web, SshConnection)
    assert (web.account, web.home, web.classes) == ("deploy", "/home/deploy", {"secrets"})


def test_a_replay_tells_commands_their_output_files_forwards_and_how_they_ended(lab: Lab) -> None:
    done = lab.ssh(f"cat {lab.home}/note.txt; echo oops >&2; exit 3")
    assert done.returncode == 3
    session = lab.last("session.end")["session"]
    text = replayed(lab, session)
    assert f"> cat {lab.home}/note.txt; echo oops >&2; exit 3" in text
    assert "  ssn *********** card" in text
    assert "078-05-1120" not in text
    assert "errors of" in text
    assert "  oops" in text
    assert "exit: 3" in text
    assert "something is missing" not in text
    assert "1 of ssn masked" in text
    assert {json.loads(line)["kind"] for line in replayed(lab, session, "-o", "json").splitlines()} >= {"statement", "output", "errors", "exit"}

    lab.sftp(f"get {lab.home}/note.txt /dev/null\n")
    text = replayed(lab, lab.last("session.end")["session"])
    assert f"> open {lab.home}/note.txt" in text
    assert re.search(r"outcome: ok, 41 bytes, sha256 [0-9a-f]{64}", text)

    lab.ssh(f"cat {lab.srv}/flag")
    assert "refused: policy no-flag forbids read" in replayed(lab, lab.last("session.end")["session"])

    lab.ssh("true", options=("-o", "ExitOnForwardFailure=no", "-W", "127.0.0.1:1"))
    assert "> direct-tcpip" in replayed(lab, lab.last("session.end")["session"])


def test_hostile_output_drives_no_terminal_of_who_looks_at_it(lab: Lab) -> None:
    hostile = "\x1b]0;title\x07\x1b[2J\x1b]52;c;aGk=\x07\x1b[6n\x9b6n\u202eend\r\x08\x7f"
    (lab.home / "hostile").write_text(hostile)
    assert lab.ssh(f"cat {lab.home}/hostile").returncode == 0
    session = lab.last("session.end")["session"]
    for options in ((), ("-o", "json")):
        text = replayed(lab, session, *options)
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "52;c;aGk=" in text


def record(kind: PayloadKind, data: bytes, entry: str = "e", number: int = 0) -> Record:
    return Record(number, kind, entry, number, data, PayloadRef("", "", 0))


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5), st.integers(1, 9))
def test_messages_cut_anywhere_are_put_together(parts: list[bytes], size: int) -> None:
    wire = b"".join(m.encode(m.Data(each, number % 2)) for number, each in enumerate(parts))
    cut = [record(PayloadKind.RESULT, wire[at : at + size], "e", at) for at in range(0, len(wire), size)]
    whole = [record(PayloadKind.RESULT, wire)]

    def text(records: list[Record], kind: str) -> str:
        return "".join(each.text for each in ssh_events(records, ()) if each.kind == kind)

    assert [text(cut, kind) for kind in ("output", "errors", "gap")] == [text(whole, kind) for kind in ("output", "errors", "gap")]
    assert "something is missing" not in "".join(each.text for each in lines(ssh_events(cut, ())))


@given(st.lists(st.tuples(st.sampled_from(PayloadKind), st.binary(max_size=80) | st.builds(lambda tail: b"\x62\0\0\0\x0bexit-status" + tail, st.binary(max_size=9)))))
def test_reading_a_recording_of_anything_never_raises_nor_drives_a_terminal(held: list[tuple[PayloadKind, bytes]]) -> None:
    records = [record(kind, data, "e", number) for number, (kind, data) in enumerate(held)]
    entries = [{"kind": "outcome"}, {"kind": "deny", "t": 3, "decision": []}, {"kind": "session.end", "t": "soon", "result": {"status": "\x1b["}}]
    for line in lines(ssh_events([*records, Gap(0, "torn")], entries)):
        assert line.text.replace("\t", "").isprintable()


def test_a_revoked_token_and_an_isolated_person_lose_the_session_that_is_open(lab: Lab) -> None:
    async def ended(subject: str, stop: Callable[[str], Any]) -> None:
        token = lab.gateway.token(subject)
        async with await connected(lab, token) as connection:
            process = await connection.create_process("echo begun; sleep 600", encoding=None)
            assert await process.stdout.readexactly(6) == b"begun\n"
            assert await asyncio.to_thread(stop, token) == 200
            await asyncio.wait_for(connection.wait_closed(), PATIENCE)

    api = f"http://127.0.0.1:{lab.gateway.api_port}"
    asyncio.run(ended("rita", lambda token: httpx.post(f"{api}/v1/revoke", data={"token": token}).status_code))
    end = lab.last("session.end")
    assert (end["who"]["sub"], end["result"]["status"]) == ("rita", "REVOKED_TOKEN")
    form = {"grant_type": GRANT, "subject_token": lab.gateway.token("sam", groups=["chiefs"]), "subject_token_type": JWT, "audience": "web"}
    admin = {"authorization": "Bearer " + httpx.post(f"{api}/v1/token", data=form).json()["access_token"]}
    body = {"issuer": ISSUER, "subject": "wild", "reason": "it went wild"}
    asyncio.run(ended("wild", lambda _: httpx.post(f"{api}/v1/stops", json=body, headers=admin).status_code))
    end = lab.last("session.end")
    assert (end["who"]["sub"], end["result"]["status"]) == ("wild", "STOPPED_ACTOR")
    assert len(of(lab, end["session"], "intent")) == len(of(lab, end["session"], "outcome")) == 1
    assert lab.ssh("true", subject="wild").returncode == 5, "what sshpass says when a password is not accepted"


async def half_a_download(lab: Lab) -> tuple[asyncssh.SSHClientConnection, Any]:
    """A file of which some has come, and the rest has not."""
    connection = await connected(lab)
    process = await connection.create_process(f"cat {lab.home}/long", encoding=None, window=4096)
    assert len(await asyncio.wait_for(process.stdout.readexactly(2048), PATIENCE)) == 2048
    return connection, process


def assert_contiguous_up_to_the_cut(lab: Lab, session: str, *, least: int) -> None:
    """What is on record is the beginning of what would have come, without a hole."""
    kept = [each for each in records(load(str(lab.gateway.config)), session, None) if isinstance(each, Record) and each.kind is PayloadKind.RESULT]
    text = "".join(each.text for each in ssh_events(kept, ()) if each.kind == "output")
    assert len(text) >= least
    assert (lab.home / "long").read_text().startswith(text)


@pytest.mark.parametrize("who", ["target", "client"])
def test_whoever_goes_in_mid_file_leaves_a_record_that_is_whole_up_to_the_cut(lab: Lab, who: str) -> None:
    (lab.home / "long").write_text("".join(f"line {number}\n" for number in range(2_000_000)))

    async def act() -> None:
        connection, _ = await half_a_download(lab)
        if who == "target":
            for pid in process_family(lab.server.process.pid)[1:]:
                os.kill(pid, signal.SIGKILL)
            await asyncio.wait_for(connection.wait_closed(), PATIENCE)
        connection.abort()

    asyncio.run(act())
    session = lab.last("session.start")["session"]
    until(lambda: of(lab, session, "session.end"), "the session's end is on record")
    (outcome,) = of(lab, session, "outcome")
    assert outcome["result"]["status"] in {"unknown", "cut", "aborted"}
    assert_contiguous_up_to_the_cut(lab, session, least=2048)
    assert_verifies(lab)


def test_a_gateway_killed_in_mid_file_leaves_a_record_that_is_whole_up_to_the_cut(tmp_path: Path) -> None:
    with make_lab(tmp_path) as lab:
        (lab.home / "long").write_text("".join(f"line {number}\n" for number in range(2_000_000)))

        async def act() -> None:
            connection, _ = await half_a_download(lab)
            lab.gateway.kill()
            connection.abort()

        asyncio.run(act())
        lab.gateway.start()
        session = lab.last("session.start")["session"]
        until(lambda: of(lab, session, "outcome"), "the command's outcome is on record")
        assert [each["result"]["status"] for each in of(lab, session, "outcome")] == ["unknown"]
        assert_contiguous_up_to_the_cut(lab, session, least=2048)
        assert "> cat" in replayed(lab, session)
        assert_verifies(lab)


def test_a_mandate_that_bounds_effects_is_counted_over_ssh(lab: Lab) -> None:
    def bounded(name: str, **effects: int) -> dict[str, Any]:
        return {"authorization_details": [{"type": "ostiary", "id": name, "effects": effects}]}

    note = f"cat {lab.home}/note.txt"
    done = [lab.ssh(note, **bounded("calls", calls=2)).returncode for _ in range(3)]
    assert done[:2] == [0, 0]
    assert done[2] != 0
    assert "allows 2 calls in all" in lab.last("deny")["decision"]["message"]
    assert lab.ssh(note, **bounded("objects", objects=9)).returncode != 0
    assert "cannot be seen" in lab.last("deny")["decision"]["message"]
    assert lab.ssh(note, **bounded("rows", rows=9)).returncode != 0
    assert lab.ssh(note, **bounded("bytes", bytes=4)).stdout == b""
    assert lab.ssh(note, **bounded("bytes", bytes=4)).returncode != 0


def test_a_mandate_is_counted_over_files_and_forwards_too(lab: Lab) -> None:
    (lab.home / "first").write_bytes(b"x" * 4000)
    (lab.home / "second").write_bytes(b"y" * 4000)

    def bounded(name: str, **effects: int) -> dict[str, Any]:
        return {"authorization_details": [{"type": "ostiary", "id": name, "effects": effects}], "groups": ["operators"]}

    async def files() -> None:
        async with await connected(lab, **bounded("file calls", calls=3)) as connection, connection.start_sftp_client() as client:
            opened = 1  # the conversation itself
            with pytest.raises(asyncssh.SFTPError, match="allows 3 calls in all"):
                for _ in range(5):
                    await client.stat(f"{lab.home}/first")
                    opened += 1
            assert opened == 3
        async with await connected(lab, **bounded("file bytes", bytes=6000)) as connection, connection.start_sftp_client() as client:
            async with client.open(f"{lab.home}/first", "rb") as file:
                assert len(await file.read()) == 4000
            with pytest.raises((asyncssh.Error, OSError)):
                async with client.open(f"{lab.home}/second", "rb") as file:
                    await file.read()

    async def forwards() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", lab.echo_port)
        async with server:
            async with await connected(lab, **bounded("forward calls", calls=1)) as connection:
                assert await echoed(connection, b"hello") == b"HELLO"
                with pytest.raises(asyncssh.ChannelOpenError):
                    await echoed(connection, b"again")
            async with await connected(lab, **bounded("forward bytes", bytes=100)) as connection:
                assert await echoed(connection, b"hello") == b"HELLO"
                with pytest.raises((asyncssh.Error, OSError, AssertionError)):
                    assert await echoed(connection, b"again" * 20) == b"AGAIN" * 20

    async def echoed(connection: asyncssh.SSHClientConnection, sent: bytes) -> bytes:
        reader, writer = await connection.open_connection("127.0.0.1", lab.echo_port)
        writer.write(sent)
        writer.write_eof()
        return bytes(await asyncio.wait_for(reader.read(), PATIENCE))

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    asyncio.run(files())
    asyncio.run(forwards())
    assert lab.last("session.end")["result"]["status"] == "BUDGET_SPENT"
