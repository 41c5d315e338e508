"""Who is slow: a client that is read and says nothing, or next to nothing. One that nobody reads is not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import h2.config
import h2.connection

from ostiary.config.types import HttpListener
from ostiary.driver.http2_link import CONNECTION_WINDOW, WINDOW, Http2Link
from ostiary.driver.http_asker import MIN_BODY, Asker, Gate
from ostiary.driver.http_exchange import Exchange
from ostiary.model.identity import Said
from ostiary.model.secrets import Secret

SECONDS = 5.0


class Link(Asker):
    """A client whose body is under way."""

    def __init__(self) -> None:
        super().__init__(Gate(cast(HttpListener, SimpleNamespace(body_seconds=SECONDS)), speaks_http2=True), Said(address="here"), None)
        relay = SimpleNamespace(body=SimpleNamespace(is_done=False))
        self.under_way = cast(Exchange, SimpleNamespace(relay=relay, is_judging=True))
        self.begun = self._silent_since = self._slow_since = asyncio.get_running_loop().time()

    def is_slow(self, after: float) -> bool:
        """As the gateway sees it, so many seconds after it began."""
        return self._is_slow(self.under_way, self.begun + after)

    def pause(self, *, on: bool) -> None:
        (self._paused.add if on else self._paused.discard)("crowded")

    def say(self, size: int, after: float) -> None:
        self._silent_since, self._slow_bytes = self.begun + after, self._slow_bytes + size


def with_link(talk: Any) -> None:
    async def run() -> None:
        talk(Link())

    asyncio.run(run())


def test_a_client_that_was_not_read_has_its_time_anew() -> None:
    def talk(link: Link) -> None:
        link.pause(on=True)
        assert not any(link.is_slow(after) for after in range(1, 60))
        link.pause(on=False)
        assert not link.is_slow(59.5)
        assert not link.is_slow(59 + SECONDS)
        assert any(link.is_slow(59 + SECONDS + after) for after in (1, 2))

    with_link(talk)


def test_a_client_that_says_nothing_or_next_to_nothing_is_slow() -> None:
    def silent(link: Link) -> None:
        assert not link.is_slow(SECONDS)
        assert any(link.is_slow(SECONDS + after) for after in (1, 2))

    def dripping(link: Link) -> None:
        assert not any((link.say(1, after), link.is_slow(after))[1] for after in range(1, 6))
        assert link.is_slow(SECONDS + 1)

    def steady(link: Link) -> None:
        assert not any((link.say(MIN_BODY, after), link.is_slow(after))[1] for after in range(1, 60))

    for each in (silent, dripping, steady):
        with_link(each)


class Pipe:
    """The transport of a connection, in memory."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class Door(Gate):
    """A listener whose sessions take for ever to open."""

    def __init__(self) -> None:
        settings = SimpleNamespace(head_seconds=SECONDS, body_seconds=SECONDS, keep_seconds=SECONDS)
        super().__init__(cast(HttpListener, settings), speaks_http2=True)

    def joined(self, _: object) -> None:
        pass

    def destination(self, _: object) -> Any:
        return SimpleNamespace(connection=SimpleNamespace(name="app"))

    def session(self, *_: object) -> None:
        return None

    def token(self, _: object) -> Secret:
        return Secret("t")

    def is_ready(self, _: object) -> bool:
        return False

    async def prepare(self, *_: object) -> None:
        await asyncio.Event().wait()


def test_a_stream_that_others_leave_no_room_for_is_not_read_and_so_is_not_slow() -> None:
    """The window of a connection is one for all of its streams: who may send nothing is not silent."""

    async def talk() -> None:
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        pipe, link = Pipe(), Http2Link(Door(), Said(address="here:1"), None)

        def exchange() -> None:
            if out := client.data_to_send():
                link.data_received(out)
            client.receive_data(bytes(pipe.written))
            pipe.written.clear()

        client.initiate_connection()
        link.connection_made(cast(asyncio.BaseTransport, pipe))
        exchange()
        head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"app")]
        numbers = range(1, 2 * (CONNECTION_WINDOW // WINDOW) + 2, 2)
        for number in numbers:
            client.send_headers(number, head)
            exchange()
        assert all(link._streams[number].is_read for number in numbers)
        for number in numbers[:-1]:
            for _ in range(WINDOW // 16_384):
                client.send_data(number, b"x" * 16_384)
                exchange()
        assert client.local_flow_control_window(numbers[-1]) == 0
        assert not any(link._streams[number].is_read for number in numbers)

    asyncio.run(talk())
