"""One channel of an SSH session, driven: its commands carried out between asyncssh's channels, the log and the recording.

The path is the one of every session (`session/path.py`), driven by the same `Lane`s. asyncssh calls back with what it
understood; here that is written down as messages of RFC 4254 (`protocols/ssh/messages.py`) for the relay, and what the relay orders is
read back into calls. Back-pressure is the channels' windows: a lane that is parked, or a side that does not take what is written
to it, stops the reading of the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn, Protocol

import asyncssh
import structlog

from ostiary.audit.journal import Journal
from ostiary.driver.lane import MAX_UNHEARD, Counting, Lane, LogWorld
from ostiary.driver.ssh_question import Asking
from ostiary.driver.ssh_sides import ClientSide, TargetSide
from ostiary.masking.mask import mask
from ostiary.model import commands as c
from ostiary.model.catalogue import NO_CATALOGUE, Snapshot
from ostiary.model.commands import Order
from ostiary.model.errors import LogFailed, NotAdmitted, OstiaryError, Reason
from ostiary.model.events import PayloadKind
from ostiary.model.proofs import Intended, Masked, Recorded
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh import refusals
from ostiary.protocols.ssh.forwards import INBOUND, LISTENERS, ForwardRelay
from ostiary.protocols.ssh.messages import alone, data_head
from ostiary.protocols.ssh.relay import ChannelRelay
from ostiary.recording.recorder import Recorder
from ostiary.session.path import Line, replies, requests
from ostiary.upstream.ssh import WINDOW
from ostiary.upstream.ssh_packets import write, write_all
from ostiary.upstream.ssh_wire import MAX_PACKET, Turn, unlogged
from ostiary.vault.payload_format import PayloadError

PAUSE_SECONDS: Final = 0.03
"""How long the end of what came may be held back without anything following."""
MAX_AT_ONCE: Final = 256 * 1024
"""Bytes of a channel that go through the line together: what one read of a socket holds."""
MIN_PACKET: Final = 256
"""Bytes in one packet that a side must at least take: with less, a megabyte of output were a flood of packets. Everybody takes 4 KB or more."""
STDERR: Final = asyncssh.EXTENDED_DATA_STDERR

_log = structlog.get_logger("ostiary")


class Upstream(Protocol):
    """What a channel needs of its session."""

    def connection(self) -> asyncssh.SSHClientConnection:
        """The connection to the target."""
        ...

    async def listen(self, start: m.Request, driver: ChannelDriver) -> Any:
        """Have the target listen; what stands for it in place of a channel."""
        ...

    async def reach(self, start: m.Request, side: ClientSide) -> None:
        """Open a channel to the client for whoever came to a listener."""
        ...

    def met(self, channel: Any) -> None:
        """A channel for a command, a shell or a subsystem is open on the target; nothing has been asked on it yet."""
        ...

    def cut(self, failure: BaseException) -> None:
        """End the whole session."""
        ...

    def left(self, channel: ChannelDriver) -> None:
        """That channel is over."""
        ...


class Came:
    """Bytes of one side, of one stream."""

    __slots__ = ("code", "pieces", "size")

    def __init__(self, code: int) -> None:
        self.code = code
        self.pieces: list[bytes] = []
        self.size = 0


class ChannelDriver(LogWorld):
    """Carries out the commands of one channel: the world of its path."""

    def __init__(
        self,
        *,
        line: Line,
        relay: ChannelRelay | ForwardRelay,
        journal: Journal,
        session: Upstream,
        asking: Asking,
        counting: Counting,
        turn: Turn,
    ) -> None:
        super().__init__(journal)
        self._turn = turn
        self._came: dict[str, Came] = {}
        """By the side: bytes that were taken in, and not carried on yet."""
        self.line = line
        self.asking = asking
        self._relay = relay
        self._session = session
        self._nothing = Recorder(None)
        self._loop = asyncio.get_running_loop()
        self.client: Any = None
        self.target: Any = None
        self._early: list[bytes] | None = [] if isinstance(relay, ForwardRelay) else None
        """What a target said before the client's end of the forward was open; None: it is, or was from the start."""
        self._held: dict[str, set[str]] = {"client": set(), "target": set()}
        self._came_in = False
        """The target opened it, for whoever came to a listener: the client's end is opened by its order."""
        self._has_met = False
        """And the target's end is there, too."""
        self._unsaid: list[bytes] = []
        """What was ordered before it was."""
        self._finished = False
        self._pause: asyncio.TimerHandle | None = None
        self._status: int | None = None
        self._signal: tuple[str, bool, str, str] | None = None
        self.opened: asyncio.Future[bool] = self._loop.create_future()
        """Of a forward: whether it was permitted, and the target connected."""
        carry_out: dict[type, Callable[[Any], Any]] = {
            c.HearClient: self._hear_client,
            c.HearTarget: lambda _: self._replies.listen(),
            c.LookUp: lambda _: NO_CATALOGUE,
            **counting,
            c.Settle: lambda _: None,
            c.AskHuman: lambda command: self._requests.later(self.asking.ask(command)),
            c.AwaitAnswer: lambda command: self._requests.later(self.asking.wait(command)),
            c.AwaitDurable: self.park,
            c.AwaitRun: self.park,
            c.Keep: self.keep,
        }
        name = f"channel of {journal.session}"
        self._requests = self.lane = Lane(requests(line, self), carry_out, self._requests_over, name)
        self._replies = Lane(replies(line, self), carry_out, self._replies_over, name)
        self._requests.resume(None)
        self._replies.resume(None)

    # --- what asyncssh says ------------------------------------------------------------------------------------------

    def came(self, side: str, data: bytes, code: int) -> None:
        """Bytes came. What comes in the same turn goes through the line with them."""
        if not self._turn.is_on and not self._came:
            wire = data_head(len(data), code) + data
            if side == "client":
                self.heard(wire)
            else:
                self.replied(wire)
            return
        waits = self._came.get(side)
        if waits is not None and waits.code != code:
            self._carry_on(side)
            waits = None
        if waits is None:
            waits = self._came[side] = Came(code)
            if self._turn.is_on:
                self._turn.later(partial(self._carry_on, side))
        waits.pieces.append(data)
        waits.size += len(data)
        if not self._turn.is_on or waits.size >= MAX_AT_ONCE:
            self._carry_on(side)

    def _carry_on(self, side: str) -> None:
        """What was taken in goes through the line."""
        waits = self._came.pop(side, None)
        if waits is None:
            return
        wire = b"".join((data_head(waits.size, waits.code), *waits.pieces))
        if side == "client":
            self.heard(wire)
        else:
            self.replied(wire)

    def heard(self, wire: bytes) -> None:
        """The client did something."""
        if self._came:
            self._carry_on("client")
        if self._finished:
            return
        self._turn.stirred_at = self._loop.time()
        self._requests.hear(wire)
        if self._requests.unheard_bytes > MAX_UNHEARD:
            self.hold("client", "unheard", on=True)

    def replied(self, wire: bytes) -> None:
        """The target did something."""
        if self._came:
            self._carry_on("target")
        if self._finished:
            return
        self._turn.stirred_at = self._loop.time()
        if self._early is not None:
            self._early.append(wire)  # at most a window of it: it is read again only by a client
            return
        self._replies.hear(wire)
        if self._relay.is_stalled and self._requests.waits:
            self._requests.hear(b"")
        if self._relay.is_holding and self._pause is None:
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._paused)

    def _paused(self) -> None:
        """Nothing may follow for a while: what is held back and may go, goes."""
        self._pause = None
        if not self._finished and self._replies.waits:
            self._replies.hear(b"")

    def _prepare(self, channel: Any) -> None:
        """A channel is there."""
        unlogged(channel)
        channel.set_write_buffer_limits(2 * MAX_AT_ONCE, MAX_AT_ONCE)
        if is_small(channel):
            self._loop.call_soon(channel.abort)

    def met_client(self, channel: Any) -> None:
        """The client's channel is open: what a target has said already can be told."""
        self.client = channel
        self._prepare(channel)
        early, self._early = self._early, None
        if self._came_in:
            self.hold("client", "the target waits", on=True)
            return
        for wire in early or ():
            self.replied(wire)
        if early is not None and self.target is None and not self._finished:
            self.target_gone(None)

    def met_target(self, channel: Any) -> None:
        """The target's channel is open."""
        self.target = channel
        self._prepare(channel)
        if isinstance(self._relay, ChannelRelay):
            self._session.met(channel)
        if self._finished:  # the client went while it was opened
            self._loop.call_soon(channel.close)
        elif self._came_in:
            self._has_met = True
            unsaid, self._unsaid = b"".join(self._unsaid), []
            for message in m.decode(unsaid):
                self._do(message)
            self.hold("client", "the target waits", on=False)

    def count_one(self) -> None:
        """Somebody came to this listener."""
        if isinstance(self._relay, ForwardRelay):
            self._relay.came += 1

    def is_called_off(self) -> bool:
        """See `Driver.is_called_off`."""
        return self.asking.call_off("it was called off")

    def client_gone(self) -> None:
        """The client closed the channel: the target's is closed, too."""
        self._carry_on("client")
        self.client = None
        if self.target is not None:
            self.target.close()
        else:
            self.finish()

    def target_gone(self, exc: Exception | None) -> None:
        """The target closed the channel."""
        self._carry_on("target")
        self.target = None
        if self._early is not None and exc is None and self.opened.done() and self.opened.result():
            return  # the client hears of it once its end is open
        if not self._finished:
            if exc is None:
                self._replies.hear(m.encode(m.Close()))
            self._replies.lose()
        self.finish()

    def hold(self, side: str, why: str, *, on: bool) -> None:
        """Read one side no more, or again."""
        channel = self.client if side == "client" else self.target
        reasons = self._held[side]
        if on:
            if not reasons and channel is not None:
                channel.pause_reading()
            reasons.add(why)
        elif why in reasons:
            reasons.discard(why)
            if not reasons and channel is not None:
                self._turn.take(channel.resume_reading)

    # --- commands ----------------------------------------------------------------------------------------------------

    def _hear_client(self, _command: c.HearClient) -> Any:
        if not self._requests.unheard and self._relay.is_stalled:
            return b""
        heard = self._requests.listen()
        if not self._requests.unheard:
            self.hold("client", "unheard", on=False)
        return heard

    def known(self) -> Snapshot | None:
        """See `World.known`."""
        return NO_CATALOGUE

    def clock(self) -> int:
        """See `World.clock`."""
        return int(time.time())

    def outdate(self) -> None:
        """See `World.outdate`. There is no catalogue here."""

    def record(self, masked: Masked, under: Intended | None) -> Recorded:
        """See `World.record`."""
        return self._nothing.record(masked, 0, "") if self._relay.is_bulk else LogWorld.record(self, masked, under)

    def _note(self) -> None:
        """Put on record what is to be known of the client's terminal."""
        for under, batch in self._relay.noted():
            stream = self._journal.stream if self._journal.is_full else None
            if stream is not None:
                noted = mask(under.permit.grounds.clear, batch, self.line.connection.detect)
                stream.append(PayloadKind.TERMINAL, under.entry, self._journal.elapsed_us(), noted.frames)

    def run(self, order: Order) -> bool:
        """See `World.run`."""
        self._note()
        wire = order.wire
        if self._came_in and not self._has_met:
            self._unsaid.append(wire)  # it is held, and can say no more than that it will say nothing
            return True
        if self.target is None:
            self._requests.later(self._open(wire))
            return False
        data = alone(wire)
        if data is not None:
            write(self.target, data)
        else:
            for message in m.decode(wire):
                self._do(message)
        if self._relay.settle():
            self._note()
        return True

    def _do(self, message: m.Message) -> None:
        target = self.target
        if target is None:
            return
        match message:
            case m.Data(data):
                write(target, data)
            case m.Eof():
                target.write_eof()
            case m.Close():
                target.close()
            case m.Request("window-change", body):
                reader = m.Reader(body)
                target.change_terminal_size(reader.u32(), reader.u32(), reader.u32(), reader.u32())
            case m.Request("signal", body):
                target.send_signal(m.Reader(body).text())
            case m.Request("break", body):
                target.send_break(m.Reader(body).u32())
            case _:
                _unknown(message)

    async def _open(self, wire: bytes) -> None:
        """Open the target's channel as was ordered, and do what follows in the order."""
        messages = list(m.decode(wire))
        asked: dict[str, Any] = {"env": {}}
        later: list[m.Message] = []
        start: m.Request | None = None
        for message in messages:
            if start is not None or not isinstance(message, m.Request):
                later.append(message)
            elif message.name in {"env", "pty-req", "window-change"}:
                _prepare(asked, message)
            else:
                start = message
        if start is None:
            return  # nothing was ordered before the target's channel was there: it has gone
        try:
            await self._create(start, asked)
        except (asyncssh.Error, OSError) as exc:
            if not self.opened.done():
                self.opened.set_result(False)
            raise NotAdmitted(Reason.TARGET_REFUSED, f"it did not open the channel ({type(exc).__name__})") from exc
        if self._finished:  # one side went while the other opened it
            for channel in (self.target, self.client):
                if channel is not None:
                    channel.close()
            return
        if not self.opened.done():
            self.opened.set_result(True)
        if self._held["target"] and self.target is not None:
            self.target.pause_reading()
        for message in later:
            self._do(message)

    async def _create(self, start: m.Request, asked: dict[str, Any]) -> None:
        connection = self._session.connection()
        reader = m.Reader(start.body)
        side = TargetSide(self)
        if start.name in LISTENERS:
            self._early = None
            self.target = await self._session.listen(start, self)
        elif start.name in INBOUND:
            self._came_in = True
            await self._session.reach(start, ClientSide(self))
        elif start.name == "direct-tcpip":
            host, port = reader.text(), reader.u32()
            await connection.create_connection(lambda: side, host, port, window=WINDOW, max_pktsize=MAX_PACKET)
        elif start.name == "direct-streamlocal@openssh.com":
            await connection.create_unix_connection(lambda: side, reader.text(), window=WINDOW, max_pktsize=MAX_PACKET)
        else:
            word = reader.text() if start.name in {"exec", "subsystem"} else None
            await connection.create_session(
                lambda: side,
                word if start.name == "exec" else None,
                subsystem=word if start.name == "subsystem" else None,
                encoding=None,
                window=WINDOW, max_pktsize=MAX_PACKET,
                request_pty="force" if "term_type" in asked else False,
                **asked,
            )

    def send(self, recorded: tuple[Recorded, ...]) -> None:
        """See `World.send`."""
        self._note()
        waits: list[bytes] = []
        """Of a message, whose end may stand in the next."""
        flows: list[bytes | memoryview] = []
        """What goes out together."""
        for each in recorded:
            data = None if waits or self.client is None else alone(each.frames)
            if data is None:
                waits.append(each.frames)
            else:
                flows.append(data)
        if flows:
            write_all(self.client, flows)
        for message in m.decode(b"".join(waits)):
            self._tell(message)
        if self._relay.settle():
            self._note()

    def _tell(self, message: m.Message) -> None:
        client = self.client
        if client is None:
            if not self.opened.done():
                self.opened.set_result(False)
            return
        match message:
            case m.Data(data, code):
                if not code:
                    write(client, data)
                elif not client.is_closing():  # it has the end of output already, or is closed: nothing can follow
                    client.write(data, STDERR)
            case m.Eof():
                client.write_eof()
            case m.Request("exit-status", body):
                self._status = m.Reader(body).u32()
            case m.Request("exit-signal", body):
                reader = m.Reader(body)
                self._signal = (reader.text(), bool(reader.byte()), reader.text(), reader.text())
            case m.Close():
                self._goodbye()
            case _:
                _unknown(message)

    def _goodbye(self) -> None:
        client = self.client
        if client is None:
            return
        if self._signal is not None and hasattr(client, "exit_with_signal"):
            client.exit_with_signal(*self._signal)
        elif self._status is not None and hasattr(client, "exit"):
            client.exit(self._status)
        else:
            client.close()

    # --- the end -----------------------------------------------------------------------------------------------------

    def _requests_over(self, failure: BaseException | None) -> None:
        if failure is not None:
            self._fail(failure)

    def _replies_over(self, failure: BaseException | None) -> None:
        if failure is not None:
            self._fail(failure)

    def _fail(self, failure: BaseException) -> None:
        """End the channel, say why on it; what is no fault of this channel alone ends the session."""
        if not self.opened.done():
            self.opened.set_result(False)
        if not is_of_channel(failure):
            if not isinstance(failure, OstiaryError):
                _log.error("bug in a channel", session=self._journal.session, exc_info=failure)
            self._session.cut(failure)
            return
        if self.client is not None and isinstance(self._relay, ChannelRelay):
            for message in m.decode(refusals.notice(f"ostiary: {failure}\n", terminal=self._relay.has_terminal)):
                self._tell(message)
            self._status = refusals.EXIT
        self._goodbye()
        if self.target is not None:
            self.target.abort()
        self.finish()

    def cut(self) -> None:
        """The session ends."""
        for channel in (self.client, self.target):
            if channel is not None:
                channel.abort()
        self.finish()

    def finish(self) -> None:
        """Put on record how everything ended that is still open. Runs once."""
        if self._finished:
            return
        self._finished = True
        self.asking.leave()
        if self._pause is not None:
            self._pause.cancel()
        if not self.opened.done():
            self.opened.set_result(False)
        for put in (self.give_up, lambda: self._journal.outcomes(self._relay.abandon()), self._note):
            try:
                put()
            except Exception as exc:  # noqa: BLE001 - whatever one of them fails of, the others are put on record
                _log.error("a part of a channel's end is not on record", session=self._journal.session, error=str(exc))
        for lane in (self._requests, self._replies):
            if not lane.is_over and not lane.busy:
                lane.is_over = True
        if self.client is not None and self.target is None and self._status is None and self._signal is None:
            self.client.close()
        self._session.left(self)


def is_small(channel: Any) -> bool:
    """Whether the other side takes so little in one packet that it is a flood to write anything."""
    size = channel._send_pktsize  # noqa: SLF001 - asyncssh does not tell
    return isinstance(size, int) and size < MIN_PACKET


def is_of_channel(failure: BaseException) -> bool:
    """Whether a failure ends one channel, and the session goes on."""
    if isinstance(failure, NotAdmitted):
        return failure.reason is not Reason.BUDGET_SPENT
    return isinstance(failure, OstiaryError) and not isinstance(failure, LogFailed | PayloadError)


def _unknown(message: m.Message) -> NoReturn:
    """Nothing that the relay writes is unknown here: this is a fault of ours, and says which."""
    raise RuntimeError(f"no call for {message!r:.80}")


def _prepare(asked: dict[str, Any], message: m.Request) -> None:
    """What is asked for in front of a command: environment, terminal, its size."""
    reader = m.Reader(message.body)
    match message.name:
        case "env":
            name, value = reader.text(), reader.text()
            asked["env"][name] = value
        case "pty-req":
            asked["term_type"] = reader.text()
            asked["term_size"] = (reader.u32(), reader.u32(), reader.u32(), reader.u32())
            modes, asked["term_modes"] = reader.string(), {}
            for at in range(0, len(modes) - 4, 5):
                asked["term_modes"][modes[at]] = int.from_bytes(modes[at + 1 : at + 5], "big")
        case _:
            asked["term_size"] = (reader.u32(), reader.u32(), reader.u32(), reader.u32())
