"""TLS between memory BIOs, against OpenSSL's own client: records however they are cut, ends that are ends and ends that are cuts, back-pressure, both loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import subprocess
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.connections import Upstream
from ostiary.testing.peers import free_port
from ostiary.upstream.secured import MAX_RECORD, accept, connect
from ostiary.upstream.tls import client_context

pytestmark = pytest.mark.timeout(60)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
SECONDS = 20.0


class Contexts(NamedTuple):
    server: ssl.SSLContext
    client: ssl.SSLContext
    folder: Path


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    folder: Path = tmp_path_factory.mktemp("tls")
    authority, strange = trustme.CA(), trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    client.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which Python sets: a cut would look like an end
    strange.cert_pem.write_to_path(str(folder / "strange.pem"))
    return Contexts(server, client, folder)


@pytest.fixture(params=LOOPS, scope="module")
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:

        def in_time(work: Awaitable[Any]) -> Any:
            async def bounded() -> Any:
                async with asyncio.timeout(SECONDS):
                    return await work

            return runner.run(bounded())

        yield in_time


class Inner:
    """The protocol inside: notes what it is told, in order, and does what the test wants on data."""

    def __init__(self, on_data: Callable[[Inner, bytes], None] | None = None, *, stays: bool = False) -> None:
        self.told: list[str] = []
        self.heard = bytearray()
        self.why: Exception | None = None
        self.transport: Any = None
        self.changed = asyncio.Event()
        self._on_data = on_data
        self._stays = stays

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self.changed.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._tell("made")

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self._tell("data")
        if self._on_data is not None:
            self._on_data(self, data)

    def eof_received(self) -> bool:
        self._tell("end")
        return self._stays

    def connection_lost(self, exc: Exception | None) -> None:
        self.why = exc
        self._tell("lost")

    def pause_writing(self) -> None:
        self._tell("pause")

    def resume_writing(self) -> None:
        self._tell("resume")

    async def until(self, what: Callable[[Inner], bool]) -> None:
        while not what(self):
            self.changed.clear()
            await self.changed.wait()


class Outer:
    """A client by OpenSSL whose records the test can hold, cut, join and spoil: TLS here, bytes by hand."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.ended = False

    async def more(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def shake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send(self.outgoing.read())
                await self.more()
            else:
                await self.send(self.outgoing.read())
                return

    def sealed(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            self.tls.write(piece)
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    async def read(self, size: int) -> bytes:
        """That many bytes; fewer at a close_notify."""
        data = bytearray()
        while len(data) < size:
            try:
                piece = self.tls.read(size - len(data))
            except ssl.SSLWantReadError:
                await self.more()
                continue
            except ssl.SSLZeroReturnError:
                piece = b""
            if not piece:
                break
            data += piece
        return bytes(data)


@contextlib.asynccontextmanager
async def pair(contexts: Contexts, inner: Inner, version: str = "1.3") -> AsyncIterator[Outer]:
    """`inner` as the server inside TLS, and its client, shaken hands."""
    theirs, ours = await sockets()
    client = Outer(theirs, bounded(contexts.client, version))
    async with asyncio.TaskGroup() as both:
        both.create_task(client.shake())
        both.create_task(accept(ours, inner, contexts.server, SECONDS))
    try:
        yield client
    finally:
        theirs.close()
        await inner.until(lambda it: "lost" in it.told)


async def sockets() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    for sock in (theirs, ours):
        sock.setblocking(False)
    return theirs, ours


def bounded(context: ssl.SSLContext, version: str) -> ssl.SSLContext:
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, VERSIONS[version]
    return context


def echo(inner: Inner, data: bytes) -> None:
    inner.transport.write(data)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_said_comes_back_whatever_its_size(run, contexts, version):
    async def work():
        inner = Inner(echo)
        async with pair(contexts, inner, version) as client:
            assert client.tls.version() == f"TLSv{version}"
            for size in (1, 100, MAX_RECORD - 1, MAX_RECORD, MAX_RECORD + 1, 200_000):
                data = bytes(range(256)) * (size // 256) + bytes(size % 256)
                await client.send(client.sealed(data))
                assert await client.read(size) == data

    run(work())


@given(pieces=st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=12), cuts=st.lists(st.integers(1, 900), max_size=6))
def test_records_arrive_whole_and_in_order_however_the_stream_is_cut(contexts, pieces, cuts):
    # Also that none is left behind within OpenSSL: the last is answered although nothing comes after it.
    async def work():
        inner = Inner(echo)
        async with asyncio.timeout(SECONDS), pair(contexts, inner) as client:
            sealed = client.sealed(*pieces)
            at = 0
            for cut in cuts:
                await client.send(sealed[at : at + cut])
                await asyncio.sleep(0)
                at += cut
            if at < len(sealed):
                await client.send(sealed[at:])
            whole = b"".join(pieces)
            assert await client.read(len(whole)) == whole
        assert bytes(inner.heard) == whole

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


@pytest.mark.parametrize("version", VERSIONS)
def test_what_comes_in_one_segment_with_the_end_of_the_handshake_is_not_left_lying(run, contexts, version):
    async def work():
        inner = Inner()
        theirs, ours = await sockets()
        client = Outer(theirs, bounded(contexts.client, version))
        serving = asyncio.create_task(accept(ours, inner, contexts.server, SECONDS))
        if version == "1.2":
            await client.shake()  # the server speaks last
            await client.send(client.sealed(b"at once", b" and more"))
        else:
            while True:
                try:
                    client.tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await client.send(client.outgoing.read())
                    await client.more()
            await client.send(client.sealed(b"at once", b" and more"))  # with Finished before it
        await serving
        await inner.until(lambda it: it.heard == b"at once and more")
        theirs.close()
        await inner.until(lambda it: "lost" in it.told)

    run(work())


@pytest.mark.parametrize("version", VERSIONS)
def test_who_has_said_close_notify_still_gets_its_answer(run, contexts, version):
    async def work():
        inner = Inner(stays=True)
        async with pair(contexts, inner, version) as client:
            await client.send(client.sealed(b"question") + client.goodbye())
            await inner.until(lambda it: "end" in it.told)
            assert inner.told[-2:] == ["data", "end"]
            inner.transport.write(b"answer")
            inner.transport.close()
            assert await client.read(6) == b"answer"
        assert inner.why is None

    run(work())


def test_tcp_that_ends_behind_close_notify_still_takes_the_answer(run, contexts):
    async def work():
        inner = Inner(stays=True)
        async with pair(contexts, inner) as client:
            await client.send(client.sealed(b"question") + client.goodbye())
            client.sock.shutdown(socket.SHUT_WR)
            await inner.until(lambda it: "end" in it.told)
            await asyncio.sleep(0.05)
            inner.transport.write(b"answer")
            inner.transport.close()
            assert await client.read(6) == b"answer"

    run(work())


@pytest.mark.parametrize("version", VERSIONS)
def test_close_notify_ends_the_connection_if_nobody_wants_to_answer(run, contexts, version):
    async def work():
        inner = Inner()
        async with pair(contexts, inner, version) as client:
            await client.send(client.goodbye())
            assert await client.read(1) == b""
        assert inner.told == ["made", "end", "lost"]
        assert inner.why is None

    run(work())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_that_is_cut_is_a_loss_and_never_an_end(run, contexts, version):
    async def work():
        inner = Inner(stays=True)
        async with pair(contexts, inner, version) as client:
            await client.send(client.sealed(b"half of what I wanted to s"))
            client.sock.shutdown(socket.SHUT_WR)
            await inner.until(lambda it: "lost" in it.told)
        assert inner.told == ["made", "data", "lost"]
        assert isinstance(inner.why, ConnectionResetError)

    run(work())


def test_a_stream_that_is_cut_within_a_record_is_a_loss(run, contexts):
    async def work():
        inner = Inner(stays=True)
        async with pair(contexts, inner) as client:
            await client.send(client.sealed(b"first"))
            await client.send(client.sealed(b"second")[:-1])
            client.sock.shutdown(socket.SHUT_WR)
            await inner.until(lambda it: "lost" in it.told)
        assert bytes(inner.heard) == b"first"
        assert "end" not in inner.told

    run(work())


@given(at=st.integers(0, 60), flip=st.integers(1, 255))
def test_a_record_that_was_tampered_with_is_handed_on_to_nobody(contexts, at, flip):
    async def work():
        inner = Inner(echo, stays=True)
        async with asyncio.timeout(SECONDS), pair(contexts, inner) as client:
            await client.send(client.sealed(b"good"))
            assert await client.read(4) == b"good"
            record = bytearray(client.sealed(b"a record of some forty bytes, tampered with"))
            record[at] ^= flip
            await client.send(bytes(record))
            client.sock.shutdown(socket.SHUT_WR)
            await inner.until(lambda it: "lost" in it.told)
        assert bytes(inner.heard) == b"good"
        assert "end" not in inner.told
        assert inner.why is not None

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


def test_a_tampered_record_is_answered_with_an_alert(run, contexts):
    async def work():
        inner = Inner()
        async with pair(contexts, inner) as client:
            record = bytearray(client.sealed(b"a record"))
            record[-1] ^= 1
            await client.send(bytes(record))
            with pytest.raises(ssl.SSLError, match=r"(?i)alert bad record mac"):
                await client.read(1)
        assert isinstance(inner.why, ssl.SSLError)

    run(work())


def test_a_reader_that_pauses_gets_no_more_even_of_what_has_come_and_all_of_it_later(run, contexts):
    async def work():
        inner = Inner(lambda it, _: it.transport.pause_reading(), stays=True)
        async with pair(contexts, inner) as client:
            await client.send(client.sealed(b"one", b"two", b"three") + client.goodbye())
            for whole in (b"one", b"onetwo", b"onetwothree"):
                await inner.until(lambda it, whole=whole: bytes(it.heard) == whole)
                await asyncio.sleep(0.02)
                assert bytes(inner.heard) == whole
                assert "end" not in inner.told
                inner.transport.resume_reading()
            await inner.until(lambda it: "end" in it.told)
            inner.transport.close()

    run(work())


def test_an_end_of_the_stream_does_not_overtake_what_was_not_read(run, contexts):
    async def work():
        inner = Inner(lambda it, _: it.transport.pause_reading())
        async with pair(contexts, inner) as client:
            await client.send(client.sealed(b"one", b"two"))
            client.sock.close()
            await inner.until(lambda it: bool(it.heard))
            await asyncio.sleep(0.05)
            assert "lost" not in inner.told
            inner.transport.resume_reading()
            await inner.until(lambda it: bytes(it.heard) == b"onetwo")
            inner.transport.resume_reading()

    run(work())


def test_who_does_not_read_is_noticed_and_who_reads_again_too(run, contexts):
    async def work():
        inner = Inner()
        async with pair(contexts, inner) as client:
            sent = 0
            while "pause" not in inner.told:
                inner.transport.write(bytes(50_000))
                sent += 50_000
                assert sent < 50_000_000
                await asyncio.sleep(0)
            assert inner.transport.get_write_buffer_size() > 0
            assert await client.read(sent) == bytes(sent)
            await inner.until(lambda it: "resume" in it.told)
            assert inner.transport.get_write_buffer_size() == 0

    run(work())


@pytest.mark.parametrize("version", VERSIONS)
def test_close_comes_behind_all_that_was_written_and_is_a_clean_end(run, contexts, version):
    async def work():
        inner = Inner(lambda it, _: (it.transport.write(bytes(3_000_000)), it.transport.close()))
        async with pair(contexts, inner, version) as client:
            await client.send(client.sealed(b"go"))
            assert await client.read(1 << 30) == bytes(3_000_000)  # not ssl.SSLEOFError
            assert inner.transport.is_closing()
            inner.transport.write(b"nobody hears this")
        assert inner.why is None

    run(work())


def test_what_comes_behind_our_own_end_is_dropped_and_does_not_reset_the_answer(run, contexts):
    async def work():
        inner = Inner(lambda it, _: (it.transport.write(b"no"), it.transport.write_eof()))
        async with pair(contexts, inner) as client:
            await client.send(client.sealed(b"go"))
            await client.send(client.sealed(*[bytes(10_000)] * 50))
            assert await client.read(100) == b"no"
            assert inner.told == ["made", "data"]
            inner.transport.close()
        assert bytes(inner.heard) == b"go"

    run(work())


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_a_half_that_ends_does_not_cost_the_answer_that_is_on_its_way(run, contexts, says_goodbye):
    async def work():
        inner = Inner(lambda it, _: (it.transport.write(bytes(8_000_000)), it.transport.write_eof() if says_goodbye else None))
        async with pair(contexts, inner) as client:
            await client.send(client.sealed(b"go"))
            await inner.until(lambda it: bool(it.heard))
            assert inner.transport.get_write_buffer_size() > 0
            await client.send(client.goodbye() if says_goodbye else b"")
            client.sock.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.05)
            assert await client.read(8_000_000) == bytes(8_000_000)

    run(work())


def test_abort_ends_it_at_once(run, contexts):
    async def work():
        inner = Inner(lambda it, _: it.transport.abort())
        async with pair(contexts, inner) as client:
            await client.send(client.sealed(b"go", b"on"))
            with pytest.raises((ssl.SSLError, OSError)):
                await client.read(1)
        assert bytes(inner.heard) == b"go"

    run(work())


def test_a_protocol_that_fails_ends_its_connection_and_no_other(run, contexts):
    async def work():
        def fail(_inner: Inner, _data: bytes) -> None:
            raise RuntimeError("a bug")

        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context["exception"]))
        seen: list[BaseException] = []
        bad, good = Inner(fail), Inner(echo)
        async with pair(contexts, good) as friend:
            async with pair(contexts, bad) as client:
                await client.send(client.sealed(b"go"))
                await bad.until(lambda it: "lost" in it.told)
            await friend.send(friend.sealed(b"still here"))
            assert await friend.read(10) == b"still here"
        assert [str(each) for each in seen] == ["a bug"]
        asyncio.get_running_loop().set_exception_handler(None)

    run(work())


def test_a_protocol_that_fails_on_what_waited_ends_its_connection(run, contexts):
    async def work():
        def once(inner: Inner, _data: bytes) -> None:
            if len(inner.heard) > 3:
                raise RuntimeError("a bug")
            inner.transport.pause_reading()

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        inner = Inner(once)
        async with pair(contexts, inner) as client:
            await client.send(client.sealed(b"one", b"two"))
            await inner.until(lambda it: bool(it.heard))
            inner.transport.resume_reading()
            await inner.until(lambda it: "lost" in it.told)
        assert isinstance(inner.why, RuntimeError)
        asyncio.get_running_loop().set_exception_handler(None)

    run(work())


def test_a_protocol_may_hand_over_to_another_in_the_middle(run, contexts):
    async def work():
        second = Inner(echo)

        def hand_over(inner: Inner, _data: bytes) -> None:
            second.transport = inner.transport
            inner.transport.set_protocol(second)
            inner.told.append("lost")

        first = Inner(hand_over)
        async with pair(contexts, first) as client:
            await client.send(client.sealed(b"one", b"two"))
            assert await client.read(3) == b"two"
            assert (bytes(first.heard), bytes(second.heard)) == (b"one", b"two")
            assert first.transport.get_protocol() is second
        await second.until(lambda it: "lost" in it.told)

    run(work())


def test_a_connection_leaves_nothing_to_collect(run, contexts):
    async def work() -> weakref.ref[Inner]:
        inner = Inner(echo)
        async with pair(contexts, inner) as client:
            await client.send(client.sealed(b"hello"))
            assert await client.read(5) == b"hello"
        inner.transport = None
        return weakref.ref(inner)

    gc.collect()
    gc.disable()
    try:
        assert run(work())() is None
    finally:
        gc.enable()


NO_HANDSHAKES: Sequence[tuple[str, bytes]] = (
    ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("nothing", b""),
    ("half a record", b"\x16\x03\x01\x02\x00\x01"),
    ("a record too long", b"\x16\x03\x01\xff\xff" + bytes(70_000)),
    ("data before it", b"\x17\x03\x03" + struct.pack("!H", 20) + bytes(20)),
)


@pytest.mark.parametrize("said", [said for _, said in NO_HANDSHAKES], ids=[name for name, _ in NO_HANDSHAKES])
def test_what_is_no_handshake_is_an_error_and_nobody_hears_of_it(run, contexts, said):
    async def work():
        inner = Inner()
        theirs, ours = await sockets()
        serving = asyncio.create_task(accept(ours, inner, contexts.server, SECONDS))
        await asyncio.get_running_loop().sock_sendall(theirs, said)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError):
            await serving
        theirs.close()
        assert inner.told == []

    run(work())


def test_a_handshake_that_takes_too_long_is_cut(run, contexts):
    async def work():
        inner = Inner()
        theirs, ours = await sockets()
        with pytest.raises(TimeoutError):
            await accept(ours, inner, contexts.server, 0.05)
        assert await asyncio.get_running_loop().sock_recv(theirs, 100) == b""
        assert inner.told == []
        theirs.close()

    run(work())


async def served(contexts: Contexts, inner: Inner, context: ssl.SSLContext, host: str, answering: Inner | None = None) -> Any:
    """A client of ours by `context`, with a server of ours; the transport."""
    theirs, ours = await sockets()
    serving = asyncio.create_task(accept(ours, answering or Inner(echo), contexts.server, SECONDS))
    try:
        return await connect(theirs, inner, context, host, SECONDS)
    finally:
        with contextlib.suppress(OSError):
            await serving


def test_as_a_client_it_is_told_whom_it_speaks_to(run, contexts):
    async def work():
        inner = Inner()
        transport = await served(contexts, inner, bounded(contexts.client, "1.3"), "localhost")
        assert transport is inner.transport
        assert transport.get_extra_info("ssl_object").getpeercert()["subjectAltName"] == (("DNS", "localhost"),)
        assert transport.get_extra_info("socket").fileno() >= 0
        transport.writelines([b"he", b"llo"])
        await inner.until(lambda it: it.heard == b"hello")
        transport.close()
        await inner.until(lambda it: "lost" in it.told)

    run(work())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_of_another_name_or_of_a_stranger_is_refused_before_anything_is_said(run, contexts, version):
    async def work():
        strange = ssl.create_default_context(cafile=str(contexts.folder / "strange.pem"))
        for context, host, why in (
            (contexts.client, "elsewhere.example", "Hostname mismatch"), (strange, "localhost", "unable to get local issuer certificate"),
        ):  # fmt: skip
            inner, answering = Inner(), Inner()
            with pytest.raises(ssl.SSLCertVerificationError, match=why):
                await served(contexts, inner, bounded(context, version), host, answering)
            assert inner.told == []
            assert not answering.heard

    run(work())


def test_a_server_that_speaks_no_tls_or_hangs_up_is_an_error(run, contexts):
    async def work():
        for said in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b""):
            theirs, ours = await sockets()
            connecting = asyncio.create_task(connect(theirs, Inner(), contexts.client, "localhost", SECONDS))
            loop = asyncio.get_running_loop()
            await loop.sock_recv(ours, 1 << 16)
            if said:
                await loop.sock_sendall(ours, said)
            ours.close()
            with pytest.raises(OSError):
                await connecting

    run(work())


def test_a_target_that_wants_to_negotiate_anew_is_left(contexts, tmp_path):
    """OpenSSL's own server asks for it (TLS 1.2) when it is told `r`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    port, ca = free_port(), str(tmp_path / "ca.pem")
    there = Upstream(host="localhost", port=port, tls="verify-full", ca_file=ca, cert_file=None, key_file=None, connect_timeout=SECONDS)
    context = client_context(there, "http/1.1")
    assert context is not None

    async def work():
        server = await asyncio.create_subprocess_exec(
            "openssl", "s_server", "-accept", str(port), "-cert", str(tmp_path / "server.pem"), "-tls1_2",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        await server.stdout.readuntil(b"ACCEPT")
        inner = Inner()
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        transport = await connect(sock, inner, context, "localhost", SECONDS)
        transport.write(b"before\n")
        await server.stdout.readuntil(b"before")
        server.stdin.write(b"r\n")
        await server.stdin.drain()
        await inner.until(lambda it: "lost" in it.told)
        assert not inner.heard
        server.kill()
        await server.wait()

    async def in_time():
        async with asyncio.timeout(SECONDS):
            await work()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(in_time())


def test_keys_that_the_other_side_has_changed_are_used(contexts, tmp_path):
    """OpenSSL's own client can ask for new keys (RFC 8446, 4.6.3), ours in Python cannot: `K` makes it send KeyUpdate, and want one back."""

    async def work() -> bytes:
        inner = Inner(echo)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            client = await asyncio.create_subprocess_exec(
                "openssl", "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", "-tls1_3",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            ours, _ = await asyncio.get_running_loop().sock_accept(listener)
            await accept(ours, inner, contexts.server, SECONDS)
            for line in (b"before\n", b"K\n", b"after\n", b"K\n", b"and again\n"):
                client.stdin.write(line)
                await client.stdin.drain()
                if line != b"K\n":
                    await inner.until(lambda it, line=line: it.heard.endswith(line))
                await asyncio.sleep(0.2)  # it reads what it is told as a command only if that comes alone
            client.stdin.write(b"Q\n")
            said, _ = await client.communicate()
            await inner.until(lambda it: "lost" in it.told)
        assert bytes(inner.heard) == b"before\nafter\nand again\n"
        return said

    async def in_time() -> bytes:
        async with asyncio.timeout(SECONDS):
            return await work()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        said = runner.run(in_time())
    assert said.count(b"KEYUPDATE") == 2
    for line in (b"before\n", b"after\n", b"and again\n"):
        assert line in said
