"""The line between the control process and its workers: news one way, questions and their replies the other.

Theory of operation
-------------------
The control process listens on a Unix socket in the state folder (0700, and only this user's processes are heard). A worker connects,
says the last sequence number it heard, gets everything since, and then each piece of news as it becomes durable. So a worker that was
away, or was started anew, misses nothing; and because control writes to the socket in the same turn in which the disk
said yes, a revocation reaches every session within milliseconds.

The server says `beat` twice a second. A worker that has heard nothing for `SILENCE_SECONDS`, or whose line is down, is not
`is_current`: it does not know who was revoked, so it lets nobody in; sessions that are open go on (ARCHITECTURE, Processes). It
dials again until it is closed.

Messages are JSON, one a line, of at most `MAX_LINE` bytes; each is one of the structs below. Both ends are of one version, being
children of one supervisor.

A path in `sun_path` holds 108 bytes and a state folder may be deeper, so both ends go through `/proc/self/fd`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from ostiary.model.errors import OstiaryError
from ostiary.store.news import News, NewsBoard

MAX_LINE: Final = 1 << 20
MAX_UNREAD: Final = 64 << 20
"""Bytes that wait for an end that does not read; then it is cut off, and asks anew when it is back."""
BEAT_SECONDS: Final = 0.5
SILENCE_SECONDS: Final = 3.0
"""Six beats: a control process that is stopped, not dead, is noticed too."""
REDIAL_SECONDS: Final = 0.1
MAX_ASKED: Final = 10_000
"""Questions of one worker that wait for a reply."""
NAME: Final = "control.sock"

Spawn = Callable[[Coroutine[Any, Any, Any], str], object]
"""Starts a task that is held and heard: the driver's."""
Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Answers one topic's questions. What it raises as `OstiaryError` is told to the worker as a sentence."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A worker begins: it knows the news up to `seq`."""

    seq: int


class Told(msgspec.Struct, frozen=True, tag="news"):
    """A piece of news."""

    news: News


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """The server is there, and everything up to `seq` has been told."""

    seq: int


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """A worker's question."""

    number: int
    topic: str
    body: dict[str, Any]


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """What became of it. `failed`: a sentence, and there is no body."""

    number: int
    body: dict[str, Any]
    failed: str = ""


Message = Hello | Told | Beat | Ask | Reply


class LinkDown(OstiaryError):
    """The control process cannot be asked, or said no. The sentence is fit for the caller."""


class _Lines(asyncio.Protocol):
    """One end of the line: whole messages in and out."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while (end := self._buffer.find(b"\n")) >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self.heard(self._decoder.decode(line))
        except (ValueError, msgspec.MsgspecError):
            self.hang_up()
        if len(self._buffer) > MAX_LINE:
            self.hang_up()

    def heard(self, message: Message) -> None:
        raise NotImplementedError

    def say(self, message: Message) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(msgspec.json.encode(message) + b"\n")
            if self.transport.get_write_buffer_size() > MAX_UNREAD:
                self.hang_up()

    def hang_up(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class LinkServer:
    """The control process's end."""

    def __init__(self, board: NewsBoard, answers: dict[str, Answer], spawn: Spawn) -> None:
        """`answers`: who answers the questions of each topic."""
        self._board = board
        self._answers = answers
        self._spawn = spawn
        self._workers: set[_Worker] = set()
        self._server: asyncio.Server | None = None
        self._beats: asyncio.TimerHandle | None = None
        board.listen(self._tell)

    async def start(self, folder: Path) -> None:
        """Listen in `folder`. A socket that a killed predecessor left there is replaced."""
        with contextlib.suppress(FileNotFoundError):
            (folder / NAME).unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short(folder, NAME) as path:
            sock.bind(path)
        (folder / NAME).chmod(0o600)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Worker(self), sock=sock)
        self._beat()

    async def close(self) -> None:
        """Hang up on everybody."""
        if self._beats is not None:
            self._beats.cancel()
        if self._server is not None:
            self._server.close()
        for worker in list(self._workers):
            worker.hang_up()

    def _beat(self) -> None:
        for worker in self._workers:
            worker.say(Beat(self._board.latest))
        self._beats = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def _tell(self, news: News) -> None:
        for worker in self._workers:
            worker.say(Told(news))

    def welcome(self, worker: _Worker, seq: int) -> None:
        """Tell a worker what it missed, and everything from now on."""
        for news in self._board.since(seq):
            worker.say(Told(news))
        self._workers.add(worker)
        worker.say(Beat(self._board.latest))

    @property
    def heard_by(self) -> int:
        """How many workers hear what is told."""
        return len(self._workers)

    def leave(self, worker: _Worker) -> None:
        """A worker has gone."""
        self._workers.discard(worker)

    def asked(self, worker: _Worker, ask: Ask) -> None:
        """Answer a worker's question."""
        self._spawn(self._answer(worker, ask), f"answer {ask.topic}")

    async def _answer(self, worker: _Worker, ask: Ask) -> None:
        answer = self._answers.get(ask.topic)
        if answer is None:
            worker.say(Reply(ask.number, {}, f"nobody answers questions about {ask.topic}"))
            return
        try:
            worker.say(Reply(ask.number, await answer(ask.body)))
        except OstiaryError as exc:
            worker.say(Reply(ask.number, {}, str(exc) or type(exc).__name__))
        except Exception:
            worker.say(Reply(ask.number, {}, "a fault in the control process"))
            raise


class _Worker(_Lines):
    def __init__(self, server: LinkServer) -> None:
        super().__init__()
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # it comes back, or not
        self._server.leave(self)

    def heard(self, message: Message) -> None:
        match message:
            case Hello():
                self._server.welcome(self, message.seq)
            case Ask():
                self._server.asked(self, message)
            case _:
                self.hang_up()


class Link:
    """A worker's end."""

    def __init__(self, folder: Path, spawn: Spawn) -> None:
        self._folder = folder
        self._spawn = spawn
        self._told: list[Callable[[News], object]] = []
        self._line: _Line | None = None
        self._seq = 0
        self._beaten = float("-inf")
        """When the last beat came: after everything that had been told before it. Never since the line broke: minus infinity."""
        self._dialled = 0.0
        self._number = 0
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._closed = False
        self._first = asyncio.Event()

    def listen(self, told: Callable[[News], object]) -> None:
        """Call `told` with every piece of news, in order. Before `start`, so that it hears all."""
        self._told.append(told)

    async def start(self, wait_seconds: float) -> None:
        """Begin dialling, and wait until the news has been heard; no longer than so many seconds."""
        self._spawn(self._keep_dialling(), "link")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._first.wait(), wait_seconds)

    @property
    def is_current(self) -> bool:
        """Whether everything that was told has been heard here, but for the last moments."""
        return self._line is not None and asyncio.get_running_loop().time() - self._beaten < SILENCE_SECONDS

    async def ask(self, topic: str, body: dict[str, Any], seconds: float = 5.0) -> dict[str, Any]:
        """Ask the control process; its reply. Raises `LinkDown`.

        A question whose line broke may have been heard: what it asks for must bear being asked twice.
        """
        if self._line is None or len(self._asked) >= MAX_ASKED:
            raise LinkDown("the control process cannot be reached now; try again")
        self._number += 1
        number, waiting = self._number, asyncio.get_running_loop().create_future()
        self._asked[number] = waiting
        try:
            self._line.say(Ask(number, topic, body))
            return cast("dict[str, Any]", await asyncio.wait_for(waiting, seconds))
        except TimeoutError:
            raise LinkDown("the control process did not answer in time; try again") from None
        finally:
            del self._asked[number]

    def close(self) -> None:
        """Hang up, for good."""
        self._closed = True
        if self._line is not None:
            self._line.hang_up()

    async def _keep_dialling(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closed:
            if self._line is None:
                with contextlib.suppress(OSError), short(self._folder, NAME) as path:
                    await loop.create_unix_connection(lambda: _Line(self), path)
            elif loop.time() - max(self._beaten, self._dialled) > SILENCE_SECONDS:
                self._line.hang_up()
            await asyncio.sleep(REDIAL_SECONDS)

    def up(self, line: _Line) -> None:
        """The line stands."""
        self._line = line
        self._dialled = asyncio.get_running_loop().time()
        line.say(Hello(self._seq))

    def down(self) -> None:
        """The line broke."""
        self._line = None
        self._beaten = float("-inf")
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(LinkDown("the control process went away; try again"))

    def heard(self, message: Message) -> None:
        """Take one message of the server's."""
        match message:
            case Told(news=news):
                self._seq = max(self._seq, news.seq)
                for told in self._told:
                    told(news)
            case Beat():
                self._beaten = asyncio.get_running_loop().time()
                self._first.set()
            case Reply(number=number, body=body, failed=failed):
                waiting = self._asked.get(number)
                if waiting is not None and not waiting.done():
                    if failed:
                        waiting.set_exception(LinkDown(failed))
                    else:
                        waiting.set_result(body)
            case _:
                raise ValueError("not a server's message")


class _Line(_Lines):
    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._link.up(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # the link dials again
        self._link.down()

    def heard(self, message: Message) -> None:
        self._link.heard(message)


@contextlib.contextmanager
def short(folder: Path, name: str) -> Iterator[str]:
    """A path of a socket in `folder` that is short, for as long as it is needed."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
