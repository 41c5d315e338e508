"""How channels end: each side hears of the other's end when it comes, in its order, and everything that was open has its outcome."""

from __future__ import annotations

import asyncio
import json
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ostiary.audit.entries import SessionEntries
from ostiary.audit.journal import Journal
from ostiary.audit.wal import frames, segments
from ostiary.driver.ssh_channel import MAX_AT_ONCE, ChannelDriver
from ostiary.driver.ssh_sides import ClientSide, TargetSide
from ostiary.model.connections import Durability, Recording, SshConnection, SshUpstream
from ostiary.model.decisions import Permit
from ostiary.model.events import PayloadKind
from ostiary.policy.decide import connect_operation, decide
from ostiary.policy.policies import Policies
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh import sftp
from ostiary.protocols.ssh.forwards import ForwardRelay
from ostiary.protocols.ssh.operations import Ground
from ostiary.protocols.ssh.relay import ChannelRelay, ChannelSettings
from ostiary.protocols.ssh.sftp import Asking, Kind
from ostiary.session.path import Line
from ostiary.upstream.ssh_wire import Turn
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.payload_format import QuotaReached, StreamFailed
from ostiary.vault.payload_reading import Record, read_stream
from ostiary.vault.payloads import PayloadStream
from tests.audit_writer.conftest import House, session_facts
from tests.session.test_path import ANA
from tests.ssh.conftest import BY_PASSWORD, Lab, make_lab
from tests.ssh.test_ssh_sessions import PATIENCE, connected, until

OPAQUE = """
@id("opaque") permit (principal in Ostiary::Group::"operators", action == Ostiary::Action::"opaque", resource is Ostiary::Command);
"""
EVERYTHING = 'permit (principal, action, resource);\npermit (principal, action == Ostiary::Action::"opaque", resource);'
CONNECTION = SshConnection(
    name="web", labels=(), durability=Durability.BUFFERED, recording=Recording.FULL, detect=frozenset(), max_sessions=1,
    upstream=SshUpstream(host="web", port=22, connect_timeout=1.0, user="u", password=None, key=None, authority=None, host_keys=(), host_authorities=(), tls="disable", ca_file=None, cert_file=None, key_file=None),
    home=None, accept_env=(), keep_files=False, masks_files=False, refuses_files=False, protect=(),
)  # fmt: skip
NEVER = "never"
GROUND = Ground(connection="web", home=None, protected=())
SETTINGS = ChannelSettings(ground=GROUND, accept_env=(), detects=False, keeps_files=False, links=False)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with make_lab(tmp_path_factory.mktemp("ends"), more_policy=OPAQUE) as made:
        try:
            yield made
        finally:
            (made.home / NEVER).touch()  # what waits for it in vain while the tests run ends then


def silent(lab: Lab, mark: Path) -> str:
    """A command that gives up its output, and goes on until somebody makes that file."""
    return f"exec >&- 2>&-; until test -e {mark}; do sleep 0.1; done; exit 3"


def test_a_client_without_input_hears_of_the_end_of_output_when_it_comes_and_of_the_status_later(lab: Lab) -> None:
    mark, asks = lab.home / "go-on", lab.home.parent / "asks"
    asks.write_text('#!/bin/sh\necho "$SSHPASS"\n')  # sshpass would hold the output open itself
    asks.chmod(0o700)
    environment = lab.environment(groups=["operators"]) | {"SSH_ASKPASS": str(asks), "SSH_ASKPASS_REQUIRE": "force"}
    command = ["ssh", *BY_PASSWORD, "-p", str(lab.port), "web@127.0.0.1", silent(lab, mark)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        try:
            assert client.stdout is not None
            assert select.select([client.stdout], [], [], PATIENCE)[0], "its output has ended"
            assert client.stdout.read() == b""
            assert client.poll() is None, "the command goes on"
            mark.touch()
            assert client.wait(PATIENCE) == 3
        finally:
            mark.touch()
            client.kill()


def test_what_cannot_be_said_behind_the_end_of_output_ends_that_channel_alone(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab, groups=["operators"]) as connection:
            process = await connection.create_process(silent(lab, lab.home / NEVER), encoding=None)
            assert await asyncio.wait_for(process.stdout.read(), PATIENCE) == b""
            for _ in range(2100):  # more than is borne: the channel ends, and nobody can be told why on it
                process.channel.send_signal("WINCH")
            await asyncio.wait_for(process.wait_closed(), PATIENCE)
            assert (await connection.run("echo others go on")).stdout == "others go on\n"

    asyncio.run(act())


def test_a_signal_behind_the_end_of_input_reaches_the_host(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab) as connection:
            process = await connection.create_process("echo begun; sleep 600")
            assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == "begun\n"
            process.stdin.write_eof()
            process.send_signal("TERM")
            await asyncio.to_thread(until, lambda: lab.server.log().count("session_signal_req") > before, "the host hears of it")

    before = lab.server.log().count("session_signal_req")  # which it carries out only for others than root
    asyncio.run(act())


def test_requests_for_files_that_come_with_the_end_of_input_are_answered(lab: Lab) -> None:
    asked = [
        Asking(kind=Kind.INIT, id=3),
        Asking(kind=Kind.LSTAT, id=7, paths=(f"{lab.home}/note.txt".encode(),)),
        Asking(kind=Kind.MKDIR, id=8, paths=(f"{lab.home}/made".encode(),), tail=m.u32(0)),
    ]

    async def act() -> bytes:
        async with await connected(lab) as connection:
            process = await connection.create_process(subsystem="sftp", encoding=None)
            process.stdin.write(b"".join(sftp.write_request(each, each.id) for each in asked))
            process.stdin.write_eof()
            return await asyncio.wait_for(process.stdout.read(), PATIENCE)

    answers = [sftp.read_answer(raw) for raw in sftp.cut(bytearray(asyncio.run(act())))]
    assert [(each.kind, each.id) for each in answers] == [(Kind.VERSION, 3), (Kind.ATTRS, 7), (Kind.STATUS, 8)]
    assert (lab.home / "made").is_dir()




@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


class Channel:
    """Stands for a channel of asyncssh's: what was called, in order."""

    def __init__(self, said: list[str], name: str) -> None:
        self._said, self._name = said, name

    def is_closing(self) -> bool:
        return False

    def __getattr__(self, call: str) -> Any:
        return lambda *values: self._said.append(" ".join([self._name, call, *map(str, values)]))


KEK = KeyEncryptionKey.from_bytes(bytes(32))


class World:
    """A channel's driver over the real path, policy and log, with stand-ins for asyncssh's channels."""

    def __init__(self, house: House, relay: ChannelRelay | ForwardRelay) -> None:
        policies = Policies.load({"policy.cedar": EVERYTHING})
        admitted = decide(policies, ANA, connect_operation(CONNECTION), CONNECTION)
        assert isinstance(admitted, Permit)
        self.house, self.log = house, house.open()
        facts = session_facts(durability=Durability.BUFFERED)
        self.stream = PayloadStream.create(house.origin.folder / "payloads" / "s.osp", facts.session, KEK)
        journal = Journal(self.log.writer, SessionEntries(self.log.encoder, facts), self.log.ids, open_stream=lambda: self.stream)
        self.said: list[str] = []
        made: Any = SimpleNamespace
        session = made(met=lambda _: None, left=lambda _: None, connection=lambda: self, reach=self.reach, cut=lambda failure: self.said.append(str(failure)))
        line = Line(admitted=admitted, connection=CONNECTION, policies=policies, relay=relay)
        asking = made(leave=lambda: None, call_off=lambda _: False)
        self.turn = Turn()
        self.driver = ChannelDriver(line=line, relay=relay, journal=journal, session=session, asking=asking, counting={}, turn=self.turn)

    def noted(self) -> list[bytes]:
        """What is in the recording by now of what was typed: CHANNEL_DATA messages, and not the CHANNEL_REQUEST for a terminal."""
        notes = [each for each in read_stream(self.stream.path, KEK) if isinstance(each, Record) and each.kind is PayloadKind.TERMINAL]
        return [each.data for each in notes if each.data[0] == 94]

    async def stored(self) -> list[dict[str, Any]]:
        """What is on record."""
        await self.log.writer.close()
        return [json.loads(each.entry) for segment in segments(self.house.wal) for each in frames(segment.path)]

    async def reach(self, *_: Any) -> None:
        self.driver.met_client(Channel(self.said, "client"))

    async def create_session(self, factory: Any, *_: Any, **asked: Any) -> None:
        self.said.append(f"size {asked.get('term_size')}")
        self.driver.met_target(Channel(self.said, "target"))


def test_an_end_that_a_client_says_before_the_targets_channel_is_there_reaches_the_target(house: House) -> None:
    async def act() -> list[str]:
        world = World(house, ForwardRelay(GROUND))
        place, origin = m.string(b"127.0.0.1") + m.u32(80), m.string(b"127.0.0.1") + m.u32(4000)
        world.driver.heard(m.encode(m.Request("forwarded-tcpip", place + origin)))
        assert await world.driver.opened
        world.driver.heard(m.encode(m.Eof()))
        world.driver.met_target(Channel(world.said, "target"))
        return world.said

    said = asyncio.run(act())
    assert said[-2:] == ["target write_eof", "client resume_reading"], said


def terminal(house: House, *sizes: tuple[int, int], notes: bool = True) -> tuple[World, ClientSide]:
    """A shell that is asked for as clients do, its window of those sizes one after another."""
    world = World(house, ChannelRelay(msgspec.structs.replace(SETTINGS, notes=notes)))
    side = ClientSide(world.driver)
    side.connection_made(Channel(world.said, "client"))
    world.driver.client.get_environment_bytes = dict
    side.pty_requested("xterm", (*sizes[0], 0, 0), {})
    for size in sizes[1:]:
        side.terminal_size_changed(*size, 0, 0)
    side.shell_requested()
    side.session_started()
    return world, side


def test_a_window_that_changes_before_the_shell_is_asked_for_has_that_size(house: House) -> None:
    async def act() -> list[str]:
        world, _ = terminal(house, (80, 24), (90, 30), (100, 40))
        await world.driver.opened
        return world.said

    assert "size (100, 40, 0, 0)" in asyncio.run(act())


@pytest.mark.parametrize("failure", [QuotaReached("full"), StreamFailed("the disk"), ZeroDivisionError("a bug")])
def test_what_ran_has_its_outcome_though_its_notes_find_no_place(house: House, failure: Exception) -> None:
    def no(*_: Any) -> None:
        raise failure

    async def act() -> list[dict[str, Any]]:
        world, side = terminal(house, (80, 24))
        await world.driver.opened
        side.data_received(b"half a line", None)
        world.driver._relay = SimpleNamespace(noted=no, abandon=world.driver._relay.abandon)  # type: ignore[assignment]
        world.driver.finish()
        return await world.stored()

    assert [each["result"]["status"] for each in asyncio.run(act()) if each["kind"] == "outcome"] == ["unknown"]


def test_what_comes_in_one_turn_goes_on_together_and_in_order(house: House) -> None:
    async def act() -> tuple[list[str], list[str]]:
        world, side = terminal(house, (80, 24))
        await world.driver.opened
        target = TargetSide(world.driver)
        began = len(world.said)
        world.turn.take(lambda: [side.data_received(each, None) for each in (b"a", b"b", b"c")])  # type: ignore[arg-type, return-value]
        typed, began = world.said[began:], len(world.said)

        def comes() -> None:
            for data, code in ((b"1", None), (b"2", None), (b"oh", 1), (b"3", None)):
                target.data_received(data, code)
            target.eof_received()
            assert world.said[began:] == [f"client write b'{each}'{code}" for each, code in (("12", ""), ("oh", " 1"), ("3", ""))] + ["client write_eof"]

        world.turn.take(comes)
        world.driver.finish()
        return typed, world.said[began:]

    typed, back = asyncio.run(act())
    assert typed == ["target write b'abc'"]
    assert len([each for each in back if each.startswith("client write ")]) == 3, "and nothing goes twice"


@pytest.mark.parametrize("size", [1, 3])
def test_no_more_waits_for_the_end_of_a_turn_than_goes_through_at_once(house: House, size: int) -> None:
    async def act() -> list[int]:
        world, _ = terminal(house, (80, 24))
        await world.driver.opened
        target, found = TargetSide(world.driver), []

        def comes() -> None:
            for _ in range(size * 4):
                target.data_received(bytes(MAX_AT_ONCE // 4), None)
            found.append(len([each for each in world.said if each.startswith("client write ")]))

        world.turn.take(comes)
        world.driver.finish()
        return found

    assert asyncio.run(act()) == [size]


@pytest.mark.parametrize("notes", [True, False])
def test_a_line_is_noted_once_it_was_echoed_and_without_a_recording_nobody_looks(house: House, notes: bool) -> None:
    async def act() -> list[bytes]:
        world, side = terminal(house, (80, 24), notes=notes)
        await world.driver.opened
        target = TargetSide(world.driver)
        target.data_received(b"$ ", None)
        side.data_received(b"ls\r", None)
        assert world.said[-1] == "target write b'ls\\r'"
        assert not world.noted(), "it may be a password yet"
        target.data_received(b"ls\r\n", None)
        world.driver.finish()
        return world.noted()

    assert asyncio.run(act()) == ([m.encode(m.Data(b"ls\r"))] if notes else [])


def test_a_line_that_comes_a_letter_at_a_time_is_noted_as_one_that_comes_at_once(house: House) -> None:
    async def act() -> list[bytes]:
        world, side = terminal(house, (80, 24))
        await world.driver.opened
        target = TargetSide(world.driver)
        target.data_received(b"$ ", None)
        for key in (b"l", b"s", b" ", b"-", b"a"):
            side.data_received(key, None)
            target.data_received(key, None)
        side.data_received(b"\r", None)
        assert not world.noted()
        target.data_received(b"\r\nPassword: ", None)
        noted = world.noted()
        for key in (b"o", b"h"):
            side.data_received(key, None)
        world.driver.finish()
        return noted + world.noted()[len(noted) :]

    first, *others = asyncio.run(act())
    assert first == m.encode(m.Data(b"ls -a\r")), "and at once, when its echo is there"
    assert not [each for each in others if b"oh" in each], "what was not echoed is not"
