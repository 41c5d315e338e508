"""Sockets in and out: who comes is handed over whatever else happens, and a target is reached or says why not."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest
import uvloop

from ostiary.listener import accept as accepting
from ostiary.listener.accept import accept_forever, bind
from ostiary.upstream.reach import dial

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request):
    def go(coroutine):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(coroutine, 20))

    return go


class Troubled(socket.socket):
    """A listening socket whose first accepts fail."""

    failures: list[int]

    def accept(self):
        if self.failures:
            raise OSError(self.failures.pop(0), "no")
        return super().accept()


def troubled(*failures: int) -> Troubled:
    plain = bind("127.0.0.1", 0, shared=False)
    sock = Troubled(fileno=plain.detach())
    sock.setblocking(False)
    sock.failures = list(failures)
    return sock


async def meet(sock, clients: int) -> list[str]:
    """How many come are handed over, by address."""
    came: list[str] = []
    all_here = asyncio.Event()

    def take(peer, address):
        assert not peer.getblocking()
        came.append(address)
        peer.close()
        if len(came) == clients:
            all_here.set()

    task = asyncio.ensure_future(accept_forever(sock, take))
    there = [socket.create_connection(sock.getsockname()) for _ in range(clients)]
    waiting = asyncio.ensure_future(all_here.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    names = sorted(f"127.0.0.1:{each.getsockname()[1]}" for each in there)
    for each in there:
        each.close()
    if task.done():
        await task
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(came) == names
    return came


def test_everybody_who_comes_is_handed_over_and_nobody_after_the_end(run):
    async def story():
        with bind("127.0.0.1", 0, shared=False) as sock:
            await meet(sock, 20)
            assert not asyncio.get_running_loop().remove_reader(sock), "it is watched no more"

    run(story())


def test_whoever_left_meanwhile_or_finds_no_descriptor_keeps_nobody_out(run, monkeypatch):
    monkeypatch.setattr(accepting, "_PAUSE_SECONDS", 0.01)

    async def story():
        with troubled(errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.EPROTO) as sock:
            await meet(sock, 5)
            assert not sock.failures

    run(story())


def test_a_socket_that_cannot_be_listened_on_ends_it(run):
    async def story():
        with troubled(errno.EINVAL) as sock:
            await meet(sock, 1)

    with pytest.raises(OSError, match="no"):
        run(story())


class Upstream:
    host, connect_timeout = "localhost", 5.0

    def __init__(self, port: int) -> None:
        self.port = port


def test_a_target_is_reached_and_who_refuses_is_said_to(run):
    async def story():
        with bind("127.0.0.1", 0, shared=False) as sock:
            port = sock.getsockname()[1]
            reached = await dial(Upstream(port))
            assert reached.getpeername()[1] == port
            assert not reached.getblocking()
            assert reached.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            reached.close()
        with pytest.raises(ConnectionRefusedError):
            await dial(Upstream(port))

    run(story())
