"""SSH before two workers: whichever of them a connection comes to it is the same gateway, and what ends a session finds it there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import asyncssh
import httpx
import pytest

from ostiary.api.client import exchange
from ostiary.model.secrets import Secret
from ostiary.testing.gateway import ISSUER
from ostiary.testing.waiting import until
from tests.ssh.conftest import BY_PASSWORD, Lab, make_lab
from tests.ssh.test_ssh_sessions import PATIENCE, assert_verifies, connected, of

WORKERS = ("worker-1", "worker-2")
MOST = 64
"""Connections that are tried until one came to each worker: the kernel chooses, by the client's port."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with make_lab(tmp_path_factory.mktemp("workers"), sections={"gateway": {"workers": 2}}) as made:
        yield made


@dataclass
class Open:
    """A session that is open."""

    session: str
    connection: asyncssh.SSHClientConnection

    async def echoes(self, word: str) -> None:
        done = await asyncio.wait_for(self.connection.run(f"echo {word}"), PATIENCE)
        assert (done.exit_status, done.stdout) == (0, f"{word}\n")


@contextlib.asynccontextmanager
async def on_both(lab: Lab, **claims: Any) -> AsyncIterator[dict[str, Open]]:
    """A session on each worker, whose log it is in."""
    async with contextlib.AsyncExitStack() as stack:
        found: dict[str, Open] = {}
        for _ in range(MOST):
            before = starts(lab, claims["subject"])
            opened = Open("", await stack.enter_async_context(await connected(lab, **claims)))
            await opened.echoes("come")
            ((opened.session, where),) = starts(lab, claims["subject"]).items() - before.items()
            if found.setdefault(where, opened) is not opened:
                opened.connection.close()
            if len(found) == len(WORKERS):
                break
        assert sorted(found) == list(WORKERS)
        yield found


def starts(lab: Lab, subject: str) -> dict[str, str]:
    """Sessions that somebody has begun, and whose log each is in."""
    return {each["session"]: worker(each) for each in lab.entries("session.start") if each["who"]["sub"] == subject}


def worker(entry: dict[str, Any]) -> str:
    """In whose log an entry is."""
    return str(entry["gw"]).partition("/")[2]


def on_each(lab: Lab, act: Callable[[Open], Coroutine[Any, Any, None]], **claims: Any) -> dict[str, str]:
    """Do it in a session on each worker; their sessions."""

    async def both() -> dict[str, str]:
        async with on_both(lab, **claims) as found:
            for each in found.values():
                await asyncio.wait_for(act(each), PATIENCE)
            return {name: each.session for name, each in found.items()}

    return asyncio.run(both())


def test_openssh_logs_in_and_runs_a_command_whichever_worker_it_comes_to_and_knows_one_host(lab: Lab) -> None:
    known = lab.gateway.home / "known_hosts"
    strict = ("-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=accept-new")  # what is said first counts
    for number in range(MOST):
        done = lab.run("ssh", *strict, *BY_PASSWORD, "-p", str(lab.port), "web@127.0.0.1", f"echo of-{number}", subject="opal")
        assert (done.returncode, done.stdout) == (0, b"of-%d\n" % number), done.stderr
        came = {worker(each) for each in lab.entries("intent", name="exec") if each["who"]["sub"] == "opal"}
        if came == set(WORKERS):
            break
    assert came == set(WORKERS)
    assert len(known.read_text().splitlines()) == 1, "the host key of one worker is that of the other"


def test_a_shell_runs_on_either_worker_and_is_in_its_recording(lab: Lab) -> None:
    async def act(opened: Open) -> None:
        shell = await opened.connection.create_process(term_type="xterm", encoding=None)
        shell.stdin.write(b"echo al''ive; exit\n")
        assert b"alive" in await shell.stdout.readuntil(b"alive")
        await shell.wait()

    for session in on_each(lab, act, subject="olaf", groups=["operators"]).values():
        until(lambda session=session: of(lab, session, "session.end"), "the session's end is on record")
        (opened,) = [each for each in of(lab, session, "intent") if each["op"]["name"] == "shell"]
        assert worker(opened) == worker(of(lab, session, "session.start")[0])
        done = lab.gateway.run("sessions", "replay", session, "-c", str(lab.gateway.config))
        assert (done.returncode, "alive" in done.stdout) == (0, True), done.stderr


def test_files_come_and_go_over_either_worker(lab: Lab) -> None:
    async def act(opened: Open) -> None:
        content = f"of {opened.session}\n" * 20_000
        async with opened.connection.start_sftp_client() as client:
            async with client.open(f"{lab.home}/{opened.session}", "w") as file:
                await file.write(content)
            async with client.open(f"{lab.home}/{opened.session}", "r") as file:
                assert await file.read() == content
            with pytest.raises(asyncssh.SFTPError):
                await client.stat(f"{lab.srv}/flag")

    for name, session in on_each(lab, act, subject="fay").items():
        assert (lab.home / session).read_text() == f"of {session}\n" * 20_000
        assert {worker(each) for each in of(lab, session, "deny")} == {name}


def operator(lab: Lab, what: str, body: dict[str, str]) -> None:
    """Have an administrator do it."""
    api = f"http://127.0.0.1:{lab.gateway.api_port}"
    admin = exchange(api, Secret(lab.gateway.token("sam", groups=["chiefs"]))).token.reveal()
    done = httpx.post(f"{api}{what}", json=body, headers={"authorization": f"Bearer {admin}"}, trust_env=False)
    assert done.status_code == 200, done.text


@pytest.mark.parametrize("where", WORKERS)
def test_an_operator_ends_the_session_that_was_meant_and_no_other_on_whichever_worker_it_lives(lab: Lab, where: str) -> None:
    async def act() -> str:
        async with on_both(lab, subject="edna") as found:
            meant = found.pop(where)
            (other,) = found.values()
            busy = await meant.connection.create_process("echo begun; sleep 600", encoding=None)
            assert await asyncio.wait_for(busy.stdout.readexactly(6), PATIENCE) == b"begun\n"
            await asyncio.to_thread(operator, lab, "/v1/sessions/end", {"session": meant.session, "reason": "a look"})
            await asyncio.wait_for(meant.connection.wait_closed(), PATIENCE)
            await other.echoes(f"still-{where}")
            return meant.session

    session = asyncio.run(act())
    until(lambda: of(lab, session, "session.end"), "the session's end is on record")
    (end,) = of(lab, session, "session.end")
    assert (worker(end), end["result"]["status"]) == (where, "ENDED_BY_OPERATOR")
    assert len(of(lab, session, "intent")) == len(of(lab, session, "outcome"))


def test_whoever_is_stopped_is_out_of_both_workers_and_comes_into_neither(lab: Lab) -> None:
    async def act() -> list[str]:
        async with on_both(lab, subject="wilma") as found:
            body = {"issuer": ISSUER, "subject": "wilma", "reason": "it went wild"}
            await asyncio.to_thread(operator, lab, "/v1/stops", body)
            for each in found.values():
                await asyncio.wait_for(each.connection.wait_closed(), PATIENCE)
            for _ in range(8):  # whichever worker it comes to
                with pytest.raises(asyncssh.PermissionDenied):
                    await connected(lab, subject="wilma")
            return [each.session for each in found.values()]

    for session in asyncio.run(act()):
        until(lambda session=session: of(lab, session, "session.end"), "the session's end is on record")
        assert [each["result"]["status"] for each in of(lab, session, "session.end")] == ["STOPPED_ACTOR"]


def test_the_log_of_each_worker_is_whole(lab: Lab) -> None:
    on_each(lab, lambda opened: opened.echoes("whole"), subject="vera")
    assert_verifies(lab)
