"""Commands, shells, files and forwards that wait for people; budgets and alerts that reach a session of SSH."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest

from ostiary.config.types import SshListener
from ostiary.driver.leases import Leases
from ostiary.driver.ssh_door import Door
from ostiary.driver.ssh_session import House, SshSession
from ostiary.model.errors import LogFailed, NotAdmitted, Reason
from ostiary.upstream.ssh_wire import Turn
from tests.approvals.world import Person, until
from tests.ssh.conftest import BY_PASSWORD, Lab, make_lab

MORE = """
@id("count-needs-ops") @approval("ops") @message("Counting is looked at.")
forbid (principal, action == Ostiary::Action::"execute", resource is Ostiary::Command)
  when { resource.program == "wc" } unless { context.approved_by.contains("ops") };
@id("held-files") @approval("ops")
forbid (principal, action == Ostiary::Action::"write", resource is Ostiary::File)
  when { resource.name like "@HOME@/held*" } unless { context.approved_by.contains("ops") };
@id("temps-shell") permit (principal in Ostiary::Group::"temps", action == Ostiary::Action::"opaque", resource == Ostiary::Connection::"web")
  when { context.name == "shell" };
@id("shell-is-asked") @approval("ops")
forbid (principal in Ostiary::Group::"temps", action == Ostiary::Action::"opaque", resource == Ostiary::Connection::"web")
  unless { context.approved_by.contains("ops") };
@id("forward-is-asked") @approval("ops")
forbid (principal in Ostiary::Group::"temps", action == Ostiary::Action::"transfer", resource is Ostiary::Endpoint)
  unless { context.approved_by.contains("ops") };
@id("temps-forward") permit (principal in Ostiary::Group::"temps", action == Ostiary::Action::"transfer", resource is Ostiary::Endpoint);
@id("granted") @approval("ops")
forbid (principal in Ostiary::Group::"guests", action == Ostiary::Action::"connect", resource)
  unless { context.approved_by.contains("ops") };
"""
TABLES: dict[str, list[dict[str, object]]] = {
    "budgets": [
        {"name": "few", "of": "operations", "most": 3, "per": "session", "groups": ["frugal"]},
        {"name": "small", "of": "bytes", "most": 50_000, "per": "session", "groups": ["light"]},
    ],
    "alerts": [
        {"name": "probing", "when": "refusals", "count": 2, "do": ["end-session"], "groups": ["nosy"]},
        {"name": "asks", "when": "refusals", "count": 2, "do": ["demand-approval"], "approvers": ["ops"], "groups": ["watched"]},
    ],
}
SECTIONS: dict[str, dict[str, object]] = {"approvals": {"max_open": 20, "max_per_hour": 1000, "wait_seconds": 120.0, "grant_groups": ["ops"]}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with make_lab(tmp_path_factory.mktemp("asked"), more_policy=MORE, tables=TABLES, sections=SECTIONS) as made:
        yield made


@pytest.fixture
def olga(lab: Lab) -> Person:
    return Person(lab.gateway, "olga", "ops")


@contextmanager
def running(lab: Lab, *words: str, options: tuple[str, ...] = (), **claims: Any) -> Iterator[subprocess.Popen[bytes]]:
    command = ["sshpass", "-e", "ssh", *BY_PASSWORD, *options, "-p", str(lab.port), "web@127.0.0.1", *words]
    environment = lab.environment(**claims)
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


async def connected(lab: Lab, **claims: Any) -> asyncssh.SSHClientConnection:
    token = lab.gateway.token(**claims)
    return await asyncssh.connect(
        "127.0.0.1", lab.port, known_hosts=None, username="web", password=token, client_keys=None, config=None
    )


def test_a_command_waits_says_so_on_stderr_and_runs_once_it_is_approved(lab: Lab, olga: Person) -> None:
    with running(lab, f"wc -c {lab.home}/note.txt") as process:
        question = olga.wait_question()
        shown = olga.show(question["id"])
        assert shown["statement"] == f"wc -c {lab.home}/note.txt"
        assert not [e for e in lab.entries("intent", name="exec") if "wc" in e["op"].get("head", "")]
        assert olga.approve(question, reason="fine").json()["state"] == "approved"
        out, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.startswith(b"41 ")
    assert question["id"].encode() in said
    assert b"ostiary approvals approve" in said
    assert lab.last("intent")["decision"]["approval"] == question["id"]


def test_a_denied_command_never_runs_and_the_client_hears_who_and_why(lab: Lab, olga: Person) -> None:
    with running(lab, f"wc -c {lab.home}/note.txt") as process:
        olga.deny(olga.wait_question(), reason="not today")
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (126, b"")
    assert b"not today" in said


def test_a_client_that_goes_leaves_nothing_to_approve(lab: Lab, olga: Person) -> None:
    with running(lab, f"wc -c {lab.home}/note.txt") as process:
        question = olga.wait_question()
        process.kill()
        until(lambda: olga.show(question["id"])["state"] in {"cancelled", "orphaned"})
        assert olga.approve(question).status_code == 403


def test_an_answer_is_for_the_channel_that_asked_and_one_channel_that_waits_holds_no_other(lab: Lab, olga: Person) -> None:
    async def act() -> None:
        async with await connected(lab) as connection:
            first, second = [await connection.create_process(f"wc -c {lab.home}/note.txt") for _ in range(2)]
            assert (await connection.run("echo beside")).stdout == "beside\n"
            asked = await asyncio.to_thread(until, lambda: olga.questions() if len(olga.questions()) == 2 else None)
            assert len({each["digest"] for each in asked}) == 2
            first.close()
            await asyncio.to_thread(until, lambda: len(olga.questions()) == 1)
            (left,) = olga.questions()
            await asyncio.to_thread(olga.approve, left)
            await asyncio.wait_for(second.wait(), 60)
            assert second.exit_status == 0

    asyncio.run(act())


def test_a_shell_opens_once_it_is_approved_and_ctrl_c_calls_a_question_off(lab: Lab, olga: Person) -> None:
    async def act() -> None:
        async with await connected(lab, subject="tess", groups=["temps"]) as connection:
            off = await connection.create_process(term_type="xterm", encoding=None)
            question = await asyncio.to_thread(olga.wait_question)
            off.stdin.write(b"\x03")
            await asyncio.wait_for(off.wait(), 60)
            assert off.exit_status == 126
            assert olga.show(question["id"])["state"] == "cancelled"

            shell = await connection.create_process(term_type="xterm", encoding=None)
            question = await asyncio.to_thread(olga.wait_question)
            shell.stdin.write(b"echo al''ive; exit\n")
            assert question["id"].encode() in await asyncio.wait_for(shell.stdout.readuntil(b"\r\n"), 60)
            await asyncio.to_thread(olga.approve, question)
            assert b"alive" in await asyncio.wait_for(shell.stdout.read(), 60)

    asyncio.run(act())


def test_a_file_waits_and_the_approver_sees_what_is_asked_of_it(lab: Lab, olga: Person) -> None:
    (lab.home / "held").write_text("x")

    async def act() -> None:
        async with await connected(lab) as connection, connection.start_sftp_client() as sftp:
            change = asyncio.ensure_future(sftp.chmod(str(lab.home / "held"), 0o640))
            question = await asyncio.to_thread(olga.wait_question)
            shown = olga.show(question["id"])
            assert "mode 640" in shown["statement"]
            assert (lab.home / "held").stat().st_mode & 0o777 != 0o640
            await asyncio.to_thread(olga.approve, question)
            await asyncio.wait_for(change, 60)

    asyncio.run(act())
    assert (lab.home / "held").stat().st_mode & 0o777 == 0o640


def test_a_forward_opens_once_it_is_approved_and_nothing_of_a_server_that_speaks_first_is_lost(lab: Lab, olga: Person) -> None:
    place = f"127.0.0.1:{lab.server.port}"

    async def act() -> None:
        async with await connected(lab, subject="tess", groups=["temps"]) as connection:
            opening = asyncio.ensure_future(connection.open_connection("127.0.0.1", lab.server.port))
            question = await asyncio.to_thread(olga.wait_question)
            assert place in olga.show(question["id"])["statement"]
            await asyncio.to_thread(olga.approve, question)
            reader, writer = await asyncio.wait_for(opening, 60)
            assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"SSH-2.0-OpenSSH")
            writer.close()

            opening = asyncio.ensure_future(connection.open_connection("127.0.0.1", lab.server.port))
            await asyncio.to_thread(olga.deny, await asyncio.to_thread(olga.wait_question))
            with pytest.raises(asyncssh.ChannelOpenError):
                await asyncio.wait_for(opening, 60)

    asyncio.run(act())


def test_refused_forwards_take_no_room_from_the_session(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab) as connection:
            for _ in range(70):  # more than max_channels
                with pytest.raises(asyncssh.ChannelOpenError):
                    await connection.open_connection("127.0.0.1", 1)
            assert (await connection.run("echo still")).stdout == "still\n"

    asyncio.run(act())


def test_a_budget_is_one_for_all_channels_of_a_session(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab, subject="fay", groups=["frugal"]) as connection:
            done = [await connection.run("true") for _ in range(5)]
            assert [each.exit_status for each in done] == [0, 0, 0, 126, 126]

        async with await connected(lab, subject="lin", groups=["light"]) as connection:
            await connection.run("seq 5000")
            with pytest.raises((asyncssh.Error, OSError)):
                while True:
                    await connection.run("seq 5000", check=True)

    asyncio.run(act())
    assert lab.last("session.end")["result"]["status"] == "BUDGET_SPENT"


def test_alerts_end_a_session_or_make_it_ask(lab: Lab, olga: Person) -> None:
    async def act() -> None:
        async with await connected(lab, subject="nick", groups=["nosy"]) as connection:
            with pytest.raises((asyncssh.Error, OSError)):
                for _ in range(2):
                    assert (await connection.run(f"cat {lab.srv}/flag")).exit_status == 126
                await asyncio.wait_for(connection.wait_closed(), 60)
                await connection.run("true")

        async with await connected(lab, subject="wim", groups=["watched"]) as connection:
            for _ in range(2):
                assert (await connection.run(f"cat {lab.srv}/flag")).exit_status == 126
            await asyncio.to_thread(until, lambda: [e for e in lab.gateway.entries() if e.get("config", {}).get("rule") == "asks"])
            await asyncio.sleep(0.5)  # the news is on its way to the worker
            asking = asyncio.ensure_future(connection.run("echo asked"))
            await asyncio.to_thread(lambda: olga.approve(olga.wait_question()))
            assert (await asyncio.wait_for(asking, 60)).stdout == "asked\n"

    asyncio.run(act())
    assert "ENDED_BY_ALERT" in {e["result"]["status"] for e in lab.entries("session.end")}


def test_a_grant_lets_in_for_its_time(lab: Lab, olga: Person) -> None:
    guest = Person(lab.gateway, "gus", "guests")
    assert lab.ssh("true", subject="gus", groups=["guests"]).returncode != 0
    number = guest.post("/v1/grants", {"connection": "web", "minutes": 1, "reason": "a look"}).json()["id"]
    assert olga.approve(olga.show(number)).status_code == 200
    until(lambda: lab.ssh("true", subject="gus", groups=["guests"]).returncode == 0)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_grant_that_ends_between_login_and_session_is_on_record_and_who_had_it_is_sent_away(recorded: bool) -> None:
    made: Any = SimpleNamespace
    turned: list[Any] = []
    said: list[str] = []

    async def begin(*_: Any) -> None:
        raise NotAdmitted(Reason.GRANT_OVER)

    async def turn_away(claims: Any, who: Any, why: NotAdmitted) -> None:
        turned.append((claims, who, why.reason))
        if not recorded:
            raise LogFailed("full")

    async def act() -> None:
        commons = made(tally=lambda _: made(total=0, add=lambda _: None, leave=lambda: None))
        door = Door(House(made(begin=begin, turn_away=turn_away, commons=commons), SshListener()), "192.0.2.1:1")
        door._connection = made(disconnect=lambda _, text: said.append(text))
        door._admitted = (made(who="gus"), made(), made(said="said"))
        door._opening = asyncio.get_running_loop().create_future()
        with contextlib.suppress(LogFailed):
            await door._open()
        assert door._opening.cancelled()

    asyncio.run(act())
    assert [(who, why) for _, who, why in turned] == [("gus", Reason.GRANT_OVER)]
    assert said == [f"ostiary: {Reason.GRANT_OVER.value}"]


@pytest.mark.parametrize(
    ("settings", "token", "grant", "reason"),
    [
        (SshListener(), 3600.0, 0.05, "GRANT_OVER"),
        (SshListener(), 0.05, 3600.0, "EXPIRED_TOKEN"),
        (SshListener(idle_seconds=0.05), 3600.0, None, "IDLE"),
    ],
)
def test_a_session_ends_with_its_grant_its_token_and_its_idleness(
    settings: SshListener, token: float, grant: float | None, reason: str
) -> None:
    now, ended = time.time(), list[str]()
    made: Any = SimpleNamespace
    held = None if grant is None else made(id="g", until=now + grant, groups=frozenset())
    desk = made(granted=lambda *_: held, leave=lambda _: None)
    lease = lambda _begun, _name, cut: Leases().take(now + token, held, cut)  # noqa: E731 - a stand-in
    begun = made(admitted=made(who=made(expires=now + token)), session="s", journal=made(end=ended.append, is_full=False), held=held)
    connection = made(name="web", home=None, protect=(), masks_files=False, refuses_files=False, accept_env=(), detect=(), keep_files=False)
    target = made(connection=connection)

    async def act() -> None:
        over = asyncio.Event()
        target.leave = over.set
        commons = made(tally=lambda _: made(total=0, add=lambda _: None, leave=lambda: None))
        house = House(made(desk=desk, restraint=lambda *_: None, lease=lease, commons=commons), settings)
        session = SshSession(house, begun, target, made(disconnect=lambda *_: None), made(), Turn())
        session.end_in_time()
        await over.wait()

    asyncio.run(asyncio.wait_for(act(), 60))
    assert ended == [reason]
