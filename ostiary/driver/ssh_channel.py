"""One channel of an SSH session, driven: its commands carried out between asyncssh's channels, the log and the recording.

The path is the one of every session (`session/path.py`), driven by the same `Lane`s. asyncssh calls back with what it
understood; here that is written down as messages of RFC 4254 (`protocols/ssh/messages.py`) for the relay, and what the relay orders is
read back into calls. Back-pressure is the channels' windows: a lane that is parked, or a side that does not take what is written
to it, stops the reading of the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn, Protocol

import asyncssh
import structlog

from ostiary.audit.journal import Journal, Written
from ostiary.driver.session import NO_OPERATION, PENDING, Lane
from ostiary.driver.spawn import spawn
from ostiary.driver.ssh_question import Asking
from ostiary.driver.ssh_sides import TargetSide
from ostiary.model import commands as c
from ostiary.model.catalogue import NO_CATALOGUE
from ostiary.model.errors import LogFailed, NotAdmitted, OstiaryError, Reason
from ostiary.model.events import PayloadKind
from ostiary.model.restraints import Missing
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh import refusals
from ostiary.protocols.ssh.forwards import ForwardRelay
from ostiary.protocols.ssh.relay import ChannelRelay
from ostiary.recording.recorder import Recorder
from ostiary.session.path import Line, replies, requests
from ostiary.upstream.ssh import WINDOW
from ostiary.vault.payload_format import PayloadError

MAX_UNHEARD: Final = 1 << 20
"""Bytes that a parked lane keeps before its side is no longer read."""
PAUSE_SECONDS: Final = 0.03
"""How long the end of what came may be held back without anything following."""
STDERR: Final = asyncssh.EXTENDED_DATA_STDERR

_log = structlog.get_logger("ostiary")


class Upstream(Protocol):
    """What a channel needs of its session."""

    def connection(self) -> asyncssh.SSHClientConnection:
        """The connection to the target."""
        ...

    def cut(self, failure: BaseException) -> None:
        """End the whole session."""
        ...

    def left(self, channel: ChannelDriver) -> None:
        """That channel is over."""
        ...

    def stirred(self) -> None:
        """Something came from either side."""
        ...


class ChannelDriver:
    """Carries out the commands of one channel."""

    def __init__(
        self,
        *,
        line: Line,
        relay: ChannelRelay | ForwardRelay,
        journal: Journal,
        session: Upstream,
        asking: Asking,
        count: Callable[[c.Count], Missing | None],
    ) -> None:
        self.line = line
        self.asking = asking
        self._relay = relay
        self._journal = journal
        self._session = session
        self._recorder = Recorder(journal.stream if journal.is_full else None)
        self._nothing = Recorder(None)
        self._loop = asyncio.get_running_loop()
        self.client: Any = None
        self.target: Any = None
        self._early: list[bytes] | None = [] if isinstance(relay, ForwardRelay) else None
        """What a target said before the client's end of the forward was open; None: it is, or was from the start."""
        self._held: dict[str, set[str]] = {"client": set(), "target": set()}
        self._finished = False
        self._under_way: Written | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._status: int | None = None
        self._signal: tuple[str, bool, str, str] | None = None
        self.opened: asyncio.Future[bool] = self._loop.create_future()
        """Of a forward: whether it was permitted, and the target connected."""
        carry_out: dict[type, Callable[[Any], Any]] = {
            c.HearClient: self._hear_client,
            c.HearTarget: lambda _: self._replies.listen(),
            c.LookUp: lambda _: NO_CATALOGUE,
            c.Clock: lambda _: int(time.time()),
            c.Count: count,
            c.Settle: lambda _: None,
            c.AskHuman: lambda command: self._later(self._requests, self.asking.ask(command)),
            c.AwaitAnswer: lambda command: self._later(self._requests, self.asking.wait(command)),
            c.MakeDurable: self._make_durable,
            c.Keep: self._keep,
            c.Run: self._run,
            c.Record: self._record,
            c.Close: lambda command: self._journal.outcomes(command.outcomes),
            c.Outdate: lambda _: None,
            c.Send: self._send,
        }
        self._requests = Lane(requests(line), carry_out, self._requests_over)
        self._replies = Lane(replies(line), carry_out, self._replies_over)
        self._requests.resume(None)
        self._replies.resume(None)

    # --- what asyncssh says ------------------------------------------------------------------------------------------

    def heard(self, wire: bytes) -> None:
        """The client did something."""
        if self._finished:
            return
        self._session.stirred()
        self._requests.hear(wire)
        if self._requests.unheard_bytes > MAX_UNHEARD:
            self.hold("client", "unheard", on=True)

    def replied(self, wire: bytes) -> None:
        """The target did something."""
        if self._finished:
            return
        self._session.stirred()
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

    def met_client(self, channel: Any) -> None:
        """The client's channel is open: what a target has said already can be told."""
        self.client = channel
        early, self._early = self._early, None
        for wire in early or ():
            self.replied(wire)
        if early is not None and self.target is None and not self._finished:
            self.target_gone(None)

    def is_called_off(self) -> bool:
        """See `Driver.is_called_off`."""
        return self.asking.call_off("it was called off")

    def client_gone(self) -> None:
        """The client closed the channel: the target's is closed, too."""
        self.client = None
        if self.target is not None:
            self.target.close()
        else:
            self.finish()

    def target_gone(self, exc: Exception | None) -> None:
        """The target closed the channel."""
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
                channel.resume_reading()

    # --- commands ----------------------------------------------------------------------------------------------------

    def _hear_client(self, _command: c.HearClient) -> Any:
        if not self._requests.unheard and self._relay.is_stalled:
            return b""
        heard = self._requests.listen()
        if not self._requests.unheard:
            self.hold("client", "unheard", on=False)
        return heard

    def _make_durable(self, command: c.MakeDurable) -> Any:
        written = self._journal.write(command.decisions)
        if not self._journal.strict:
            return self._journal.proofs(written)
        self._under_way = written
        return self._later(self._requests, self._durable(written))

    async def _durable(self, written: Written) -> Any:
        await self._journal.wait_durable(written)
        self._under_way = None
        return self._journal.proofs(written)

    def _keep(self, command: c.Keep) -> None:
        stream = self._recorder.stream
        if stream is not None:
            stream.append(PayloadKind.COPY_IN, command.under.entry, self._journal.elapsed_us(), command.data)

    def _record(self, command: c.Record) -> Any:
        if self._recorder.stream is None or self._relay.is_bulk:
            return self._nothing.record(command.masked, 0, "")
        under = command.under
        return self._recorder.record(
            command.masked, self._journal.elapsed_us(), NO_OPERATION if under is None else under.entry
        )

    def _run(self, command: c.Run) -> Any:
        wire = command.order.wire
        if self.target is None:
            return self._later(self._requests, self._open(wire))
        for message in m.decode(wire):
            self._do(message)
        return None

    def _do(self, message: m.Message) -> None:
        target = self.target
        if target is None or target.is_closing():
            return
        match message:
            case m.Data(data):
                target.write(data)
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
        if self._finished:  # the client went while the target opened it
            if self.target is not None:
                self.target.close()
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
        if start.name == "direct-tcpip":
            host, port = reader.text(), reader.u32()
            await connection.create_connection(lambda: side, host, port, window=WINDOW)
        elif start.name == "direct-streamlocal@openssh.com":
            await connection.create_unix_connection(lambda: side, reader.text(), window=WINDOW)
        else:
            word = reader.text() if start.name in {"exec", "subsystem"} else None
            await connection.create_session(
                lambda: side,
                word if start.name == "exec" else None,
                subsystem=word if start.name == "subsystem" else None,
                encoding=None,
                window=WINDOW,
                request_pty="force" if "term_type" in asked else False,
                **asked,
            )

    def _send(self, command: c.Send) -> None:
        for message in m.decode(b"".join([each.frames for each in command.recorded])):
            self._tell(message)

    def _tell(self, message: m.Message) -> None:
        client = self.client
        if client is None:
            if not self.opened.done():
                self.opened.set_result(False)
            return
        match message:
            case m.Data(data, code):
                client.write(data, STDERR if code else None)
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

    def _later(self, lane: Lane, waiting: Coroutine[Any, Any, Any]) -> Any:
        async def wait() -> None:
            try:
                reply = await waiting
            except Exception as exc:  # noqa: BLE001 - the lane ends with it, and `_over` sorts it
                lane.fail(exc)
            else:
                lane.resume(reply)

        spawn(wait(), f"channel of {self._journal.session}")
        return PENDING

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
        try:
            if self._under_way is not None:
                self._journal.give_up(self._under_way)
            outcomes = self._relay.abandon()
            if outcomes:
                self._journal.outcomes(outcomes)
        except (OstiaryError, OSError) as exc:
            _log.error("a channel's end is not on record", session=self._journal.session, error=str(exc))
        for lane in (self._requests, self._replies):
            if not lane.is_over and not lane.busy:
                lane.is_over = True
        if self.client is not None and self.target is None and self._status is None and self._signal is None:
            self.client.close()
        self._session.left(self)


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
