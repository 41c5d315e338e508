"""One client's connection of HTTP/2 (RFC 9113): its streams, each a request in the session of its token; frames are `h2`'s.

Theory of operation. A stream is an `Asker` as a connection of HTTP/1.1 is one: it is let in, decided, recorded and answered in the same way,
and its body is handed on as the chunks that HTTP/1.1 would bring (`ostiary/protocols/http/http2.py`). What is peculiar to HTTP/2 is what a
client can make us do or hold, and all of it is bounded:

* streams whose work is not over (`MAX_STREAMS`), those that it has reset among them, and resets in a while (CVE-2023-44487; a reset that a
  client provokes counts as its own: CVE-2025-8671);
* what is remembered to pack answers' fields: 4 KiB, however much a client allows (RFC 7541, 4.2);
* frames: 16 KiB; fields: 128 KiB packed, in 64 frames, 64 KiB unpacked (CVE-2024-27316, HPACK bombs); frames that ask for nothing (SETTINGS, PING, PRIORITY, empty DATA, windows opened by crumbs) in a
  while (CVE-2019-9512, 9515, 9518); what waits to be sent (CVE-2019-9517);
* bodies: a stream's window is opened again only as what came is taken, so the service's pace is the client's; what is held until it is decided
  has a limit over all streams (`MAX_BODIES`); an answer is read from the
  service only as the client's window lets it out, and who keeps a window shut is reset after `body_seconds` (CVE-2019-9511, 9517).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any, Final, cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from ostiary.driver.http_asker import Asker, Gate
from ostiary.driver.http_exchange import Exchange
from ostiary.driver.spawn import spawn
from ostiary.model.errors import LogFailed, NotAdmitted, PeerMisbehaved, Reason
from ostiary.model.identity import Claims, Said
from ostiary.model.proofs import Recorded
from ostiary.model.secrets import Secret
from ostiary.protocols.http import encode, refusals
from ostiary.protocols.http.http2 import MAX_FRAME, Frames, Unfit, answer_fields, request_of
from ostiary.protocols.http.relay import HttpRelay
from ostiary.vault.payload_format import PayloadError

MAX_STREAMS: Final = 100
"""RFC 9113, 6.5.2 recommends no fewer."""
WINDOW: Final = 256 * 1024
"""Bytes of a body that a client may send ahead, a stream."""
CONNECTION_WINDOW: Final = 1 << 20
"""The same over all streams of a connection."""
MAX_BODIES: Final = 16 << 20
"""Bytes of bodies that are held until something is decided, over all streams of a connection."""
MAX_FIELDS_SIZE: Final = 64 * 1024
MAX_RESETS: Final = 100
MAX_IDLE_FRAMES: Final = 1000
WINDOWS_A_FRAME: Final = 10
"""A client may open windows so many times for each frame of a body that it was sent; what is more asks for nothing."""
MAX_TABLE: Final = 4096
"""Bytes of the table by which answers' fields are packed: RFC 9113, 6.5.2."""
WHILE_SECONDS: Final = 10.0
"""In which those two are counted."""
CROWDED: Final = 256 * 1024
"""Bytes of an answer that wait for the client's window before the service is not read any more."""
ROOMY: Final = 64 * 1024
MAX_UNSENT: Final = 4 << 20
"""Bytes that wait for the socket; a client that makes us write more does not read on purpose: of bodies no more waits there than the socket
asks for."""
MAX_BATCH: Final = 64 * 1024
"""Bytes of bodies that are written at once: what the socket says of them counts before there are more."""

_Code = h2.errors.ErrorCodes


class Stream(Asker):
    """One request."""

    def __init__(self, link: Http2Link, number: int, gate: Gate, said: Said, certificate: str | None) -> None:
        super().__init__(gate, said, certificate)
        self._link = link
        self.number = number
        self.is_closed = False
        """Nothing more is sent on it."""
        self.is_whole = False
        """All of the request has come."""
        self._early: list[bytes] = []
        self._owed = 0
        """Bytes of the client's window that are not given back yet."""
        self._chunked = False
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._finishes = False
        self._crowded = False
        self.stuck_since: float | None = None
        """Since when something waits for the client's window."""

    # --- the request ---

    def ask(self, fields: list[tuple[bytes, bytes]], *, ends: bool) -> None:
        """Its fields have come."""
        self.is_whole = ends
        try:
            head = request_of(fields, ends=ends)
        except Unfit as exc:
            self._malformed(exc.raw, str(exc))
            return
        self._chunked = any(name == b"Transfer-Encoding" for name, _ in head.headers)
        self._silent_since = self._loop.time()
        self._arrived(head)

    def heard(self, data: bytes, cost: int) -> None:
        """More of its body has come, `cost` bytes of the window."""
        self._silent_since = asyncio.get_running_loop().time()
        self._slow_bytes += len(data)
        self._owed += cost
        if data and self._exchange is not None and self._exchange.held_bytes and self._link.held_bytes > MAX_BODIES:
            self._exchange.fail(NotAdmitted(Reason.TOO_MUCH_AT_ONCE, hint="Send fewer requests at a time."), by_client=True)
        elif data:
            self._take(encode.chunk(data) if self._chunked else data)
        if not self._paused and (self._exchange is not None or not self.works):
            self._give_back()

    def ended(self) -> None:
        """Its body is whole."""
        if self.is_whole:
            return
        self.is_whole = True
        if self._chunked:
            self._take(encode.LAST_CHUNK)
        elif self._exchange is not None and not self._exchange.relay.body.is_done:
            self._exchange.client_ended()

    def _take(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            if self._opening:
                self._early.append(data)
        elif exchange.relay.takes_more():
            exchange.client_sent(data)

    def left(self) -> None:
        """The client has reset it, or gone."""
        self.is_closed = True
        self._waiting.clear()
        self._size = 0
        self._give_back()
        if self._exchange is not None:
            self._exchange.left()

    @property
    def works(self) -> bool:
        """Whether something goes on for it."""
        return self._opening or self._exchange is not None

    @property
    def is_gone(self) -> bool:
        """See `Asker`."""
        return self.is_closed

    @property
    def is_read(self) -> bool:
        """See `Asker`. Other streams can have shut the connection's window."""
        return not self._paused and self._link.has_room(self.number)

    @property
    def held_bytes(self) -> int:
        """Of its body, as long as nothing is decided."""
        return self._exchange.held_bytes if self._exchange is not None else sum(map(len, self._early))

    def _begin(self, exchange: Exchange) -> None:
        early = b"".join(self._early)
        self._early.clear()
        exchange.begin(early)
        if not self._paused:
            self._give_back()

    def _give_back(self) -> None:
        owed, self._owed = self._owed, 0
        self._link.give_back(self.number, owed)

    def _say_no(self, said: refusals.Said) -> None:
        self._early.clear()
        self.answer(said, bodiless=self._head is not None and self._head.method == b"HEAD")
        self._give_back()
        self._link.done(self)

    # --- what an exchange asks for ---

    def framed(self, relay: HttpRelay, recorded: Recorded, length: int | None, is_head: bool, has_body: bool) -> bytes:
        """See `Client`. Heads go out as fields at once, and what follows them waits for the client's window."""
        del relay, has_body  # a stream ends by itself
        if not is_head:
            return recorded.frames
        self._link.send_fields(self, answer_fields(recorded.frames, length))
        return b""

    def ending(self, relay: HttpRelay) -> bytes:
        """See `Client`."""
        del relay
        self._finishes = True
        return b""

    def write(self, data: bytes) -> None:
        """Send bytes of a body."""
        if self.is_closed:
            return
        if data:
            self._waiting.append(data)
            self._size += len(data)
        self._link.pump(self)
        self._weigh()

    def go_on(self) -> None:
        """RFC 9110, 10.1.1."""
        self._link.send_fields(self, [(b":status", b"100")], interim=True)

    def answer(self, said: refusals.Said, *, bodiless: bool) -> None:
        """Send a whole answer of the gateway's own."""
        fields = [(b":status", b"%d" % said.head.status), *((name.lower(), value) for name, value in said.head.headers)]
        self._link.send_fields(self, [*fields, (b"content-length", b"%d" % len(said.body))])
        self._finishes = True
        self.write(b"" if bodiless else said.body)

    def read(self, *, on: bool, why: str) -> None:
        """Stop or go on reading: the client's window stays shut, or opens."""
        if on:
            self._paused.discard(why)
            if not self._paused and self._exchange is not None:
                self._give_back()
        else:
            self._paused.add(why)

    def opened(self) -> None:
        """There are no WebSockets over HTTP/2 here."""
        raise AssertionError("a WebSocket on a stream")

    def over(self, exchange: Exchange, goes_on: bool) -> None:
        """Its exchange has ended."""
        del goes_on  # there is one exchange on a stream
        self._let_go(exchange)
        self._paused.clear()
        self._give_back()
        if self.stuck_since is not None:  # what is left has as long as any other piece had
            self.stuck_since = asyncio.get_running_loop().time()
        if exchange.broke_off:
            self._link.reset(self, _Code.INTERNAL_ERROR)
        self._link.done(self)

    # --- to the client ---

    def next_piece(self, room: int) -> tuple[bytes, bool] | None:
        """At most `room` bytes that may go out now, and whether the stream ends with them; None: nothing."""
        if not self._waiting:
            return (b"", True) if self._finishes else None
        if room <= 0:
            return None
        piece = self._waiting.popleft()
        if len(piece) > room:
            self._waiting.appendleft(piece[room:])
            piece = piece[:room]
        self._size -= len(piece)
        return piece, self._finishes and not self._waiting

    def _weigh(self) -> None:
        """Tell the exchange whether the client keeps up."""
        now = asyncio.get_running_loop().time()
        self.stuck_since = (self.stuck_since or now) if self._waiting else None
        full = self._size > (ROOMY if self._crowded else CROWDED)
        if full is not self._crowded:
            self._crowded = full
            if self._exchange is not None:
                self._exchange.client_full(full=full)

    def sent(self) -> None:
        """Some of it went out."""
        self._weigh()

    def look_at_clock(self, now: float) -> None:
        """Reset it if it takes too long."""
        if self._exchange is not None:
            self._watch(self._exchange, now, self._cut)
        if self.stuck_since is not None and now - self.stuck_since > self._gate.settings.body_seconds and self._exchange is None:
            self._cut()

    def _cut(self) -> None:
        self._link.reset(self, _Code.CANCEL)
        self.left()


class Http2Link(asyncio.Protocol):
    """One connection."""

    def __init__(self, gate: Gate, said: Said, certificate: str | None) -> None:
        self._gate = gate
        self._said = said
        self._certificate = certificate
        self._transport: asyncio.Transport | None = None
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=True, normalize_inbound_headers=False)
        )
        self._frames = Frames()
        self._streams: dict[int, Stream] = {}
        self._ends = False
        self._full = False
        """The socket takes no more for now."""
        self._busy = False
        """In the middle of what came: it is written out once, at the end."""
        self._batch = 0
        """Bytes of bodies that `h2` has, and the socket has not."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + gate.settings.head_seconds
        """Until when a request must be under way."""
        self._resets = self._idle_frames = self._windows = 0
        self._counting_since = loop.time()

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is up, and HTTP/2."""
        self._transport = cast(asyncio.Transport, transport)
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(client=False, initial_values={
            codes.MAX_CONCURRENT_STREAMS: MAX_STREAMS, codes.INITIAL_WINDOW_SIZE: WINDOW, codes.MAX_HEADER_LIST_SIZE: MAX_FIELDS_SIZE,
            codes.ENABLE_CONNECT_PROTOCOL: 0,
        })  # fmt: skip
        self._h2.max_inbound_frame_size = MAX_FRAME
        self._h2.decoder.max_header_list_size = MAX_FIELDS_SIZE
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        self._gate.joined(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._ends:
            return
        self._busy = True
        try:
            events = self._read(data)
            for event in events:
                self._heed(event)
        except h2.exceptions.ProtocolError as exc:
            self._misbehaved(type(exc).__name__)
            return
        finally:
            self._busy = False
        self._pump_all()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        del exc  # why is the same to us
        self._ends = True
        self._gate.left(self)
        for stream in list(self._streams.values()):
            stream.left()
        self._streams.clear()

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self._full = True

    def resume_writing(self) -> None:
        """It does again."""
        self._full = False
        self._pump_all()
        self._flush()

    # --- what came ---

    def _read(self, data: bytes) -> list[Any]:
        """What h2 makes of it. Raises `h2.exceptions.ProtocolError`."""
        try:
            self._frames.check(data)
            return cast(list[Any], self._h2.receive_data(data))
        except PeerMisbehaved as exc:
            raise h2.exceptions.ProtocolError(str(exc)) from exc
        except (ValueError, LookupError, AttributeError) as exc:  # what h2 and hpack have let out of hostile bytes before
            raise h2.exceptions.ProtocolError(type(exc).__name__) from exc

    def _heed(self, event: Any) -> None:
        match event:
            case h2.events.RequestReceived():
                self._ask(event.stream_id, event.headers, ends=event.stream_ended is not None)
            case h2.events.DataReceived():
                if not event.data and event.stream_ended is None:
                    self._count_idle()
                stream = self._streams.get(event.stream_id)
                if stream is None:
                    self.give_back(event.stream_id, event.flow_controlled_length)
                else:
                    stream.heard(event.data, event.flow_controlled_length)
            case h2.events.StreamEnded():
                if (stream := self._streams.get(event.stream_id)) is not None:
                    stream.ended()
            case h2.events.StreamReset():
                self._count_reset()
                if (stream := self._streams.get(event.stream_id)) is not None:
                    stream.left()
                    self._forget(stream)
            case h2.events.ConnectionTerminated():
                self._deadline = 0.0  # once what is under way has ended
            case h2.events.WindowUpdated():
                self._count_window()  # what may go out now is looked at below
            case h2.events.TrailersReceived():
                pass  # read and dropped, as in HTTP/1.1
            case h2.events.RemoteSettingsChanged():
                # What we remember for the client is searched for each field, so it is no more than by default, whatever the client would have.
                self._h2.encoder.header_table_size = min(self._h2.encoder.header_table_size, MAX_TABLE)
                self._count_idle()
            case _:
                self._count_idle()

    def _ask(self, number: int, fields: list[tuple[bytes, bytes]], *, ends: bool) -> None:
        if self._deadline == 0.0 or len(self._streams) >= MAX_STREAMS:
            self._h2.reset_stream(number, _Code.REFUSED_STREAM)
            self._count_reset()
            return
        stream = Stream(self, number, self._gate, self._said, self._certificate)
        self._streams[number] = stream
        stream.ask(fields, ends=ends)

    def _count_reset(self) -> None:
        self._age()
        self._resets += 1
        if self._resets > MAX_RESETS:
            raise h2.exceptions.DenialOfServiceError("streams are opened and reset")

    def _count_idle(self) -> None:
        self._age()
        self._idle_frames += 1
        if self._idle_frames > MAX_IDLE_FRAMES:
            raise h2.exceptions.DenialOfServiceError("frames that ask for nothing")

    def _count_window(self) -> None:
        self._windows -= 1
        if self._windows < 0:
            self._windows = 0
            self._count_idle()

    def _age(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._counting_since > WHILE_SECONDS:
            self._counting_since, self._resets, self._idle_frames = now, 0, 0

    def _misbehaved(self, why: str) -> None:
        """What breaks the protocol is on record, as garbage on a connection of HTTP/1.1 is; and it ends."""
        self._ends = True
        for stream in list(self._streams.values()):
            stream.left()
        self._streams.clear()
        with contextlib.suppress(h2.exceptions.ProtocolError):  # it has said goodbye already
            self._h2.close_connection(_Code.ENHANCE_YOUR_CALM if why == "DenialOfServiceError" else _Code.PROTOCOL_ERROR)

        async def note() -> None:
            try:
                claims = Claims(connection="", token=Secret(""), said=self._said)
                await self._gate.turn_away(claims, NotAdmitted(Reason.MALFORMED, f"HTTP/2: {why}"))
            except (LogFailed, PayloadError):
                pass  # nothing came of it, and nothing will
            self._flush()
            self.cut()

        spawn(note(), f"refusal to {self._said.address}")

    # --- what streams ask for ---

    @property
    def held_bytes(self) -> int:
        """Of the bodies of all streams, as long as nothing is decided."""
        return sum(stream.held_bytes for stream in self._streams.values())

    def has_room(self, number: int) -> bool:
        """Whether the client may send something on that stream."""
        try:
            return self._h2.remote_flow_control_window(number) > 0
        except h2.exceptions.ProtocolError:  # it is closed
            return True

    def give_back(self, number: int, size: int) -> None:
        """Open the client's window again by `size` bytes that were taken; of a stream that is closed, the connection's alone."""
        if not size or self._ends:
            return
        with contextlib.suppress(h2.exceptions.ProtocolError):  # the stream went meanwhile
            self._h2.acknowledge_received_data(size, number)
        self._flush()

    def send_fields(self, stream: Stream, fields: list[tuple[bytes, bytes]], *, interim: bool = False) -> None:
        """Send an answer's head; of an interim one, whatever becomes of it."""
        if stream.is_closed or self._ends:
            return
        try:
            self._h2.send_headers(stream.number, fields)
        except h2.exceptions.ProtocolError:
            if not interim:
                self.reset(stream, _Code.INTERNAL_ERROR)
        self._flush()

    def pump(self, stream: Stream) -> None:
        """Send what the windows have room for; in the middle of what came, that is done at its end."""
        while not self._busy and self._pump_one(stream):
            pass
        self._flush()

    def _pump_all(self) -> None:
        """The same for every stream, a frame each in turn."""
        waiting = list(self._streams.values())
        while waiting and not self._full:
            waiting = [stream for stream in waiting if self._pump_one(stream)]

    def _pump_one(self, stream: Stream) -> bool:
        if stream.is_closed or self._ends or self._full:
            return False
        try:
            room = min(self._h2.local_flow_control_window(stream.number), self._h2.max_outbound_frame_size)
            found = stream.next_piece(room)
            if found is None:
                return False
            piece, ends = found
            self._h2.send_data(stream.number, piece, end_stream=ends)
        except h2.exceptions.ProtocolError:  # the client has closed it, or never opened it so far
            stream.left()
            self._forget(stream)
            return False
        self._batch += len(piece)
        self._windows = min(self._windows + WINDOWS_A_FRAME, MAX_IDLE_FRAMES * WINDOWS_A_FRAME)
        if self._batch >= MAX_BATCH:
            self._flush()
        stream.sent()
        if ends:
            if not stream.is_whole:  # RFC 9113, 8.1: the rest of the request is not wanted
                self._h2.reset_stream(stream.number, _Code.NO_ERROR)
            stream.is_closed = True
            self._forget(stream)
        return not ends

    def reset(self, stream: Stream, code: h2.errors.ErrorCodes) -> None:
        """End it at once: the client must not take it for whole."""
        if not stream.is_closed and not self._ends:
            stream.is_closed = True
            try:
                self._h2.reset_stream(stream.number, code)
                self._count_reset()
            except h2.exceptions.DenialOfServiceError:
                self._misbehaved("DenialOfServiceError")
            except h2.exceptions.ProtocolError:
                pass  # it is closed already
        self._forget(stream)
        self._flush()

    def done(self, stream: Stream) -> None:
        """Its exchange is over; what is left of its answer goes out as it can."""
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        if not stream.is_closed or stream.works or self._streams.pop(stream.number, None) is None:
            return
        if not self._streams and self._deadline != 0.0:
            self._deadline = asyncio.get_running_loop().time() + self._gate.settings.keep_seconds
        if self._deadline == 0.0 and not self._streams:
            self._flush()
            self.cut()

    def _flush(self) -> None:
        transport = self._transport
        if self._busy or transport is None or transport.is_closing():
            return
        self._batch = 0
        if data := self._h2.data_to_send():
            transport.write(data)
            if transport.get_write_buffer_size() > MAX_UNSENT:
                transport.abort()

    # --- the listener ---

    def cut(self) -> None:
        """The gateway ends, or this connection does."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not self._ends:
            self._ends = True
            self._h2.close_connection()
            self._flush()
        transport.close()

    def look_at_clock(self, now: float) -> None:
        """Cut what takes too long."""
        for stream in list(self._streams.values()):
            stream.look_at_clock(now)
            self._forget(stream)
        if not self._streams and now > self._deadline:
            self.cut()
        transport = self._transport
        if self._ends and transport is not None and transport.is_closing() and transport.get_write_buffer_size():
            transport.abort()  # it does not even take the goodbye
