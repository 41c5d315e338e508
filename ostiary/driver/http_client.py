"""One client's connection of HTTP/1.1: one exchange at a time; what is pipelined waits."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from ostiary.driver.http2_link import Http2Link
from ostiary.driver.http_asker import Asker, Gate
from ostiary.driver.http_exchange import Exchange
from ostiary.identity.bound import certificate_key
from ostiary.listener.accept import peer_certificate
from ostiary.model.errors import PeerMisbehaved
from ostiary.model.identity import Said
from ostiary.protocols.http import encode, refusals
from ostiary.protocols.http.decode import read_request
from ostiary.protocols.http.http2 import PREFACE
from ostiary.protocols.http.messages import MAX_KEPT, RequestHead

MAX_AHEAD: Final = 256 * 1024
"""Bytes that a client may send ahead of the request that is under way before it is not read any more."""
LINGER_SECONDS: Final = 5.0
NEVER: Final = float("inf")


class ClientLink(Asker):
    """An `asyncio.Protocol`, though no subclass of it: see above. One that turns out to speak HTTP/2 is handed over before anything of it was read."""

    def __init__(self, gate: Gate, address: str) -> None:
        super().__init__(gate, Said(address=address), None)
        self._transport: asyncio.Transport | None = None
        self._held = bytearray()
        self._known: RequestHead | None = None
        """Of its last request: the next one says mostly the same."""
        self._deadline = self._loop.time() + gate.settings.head_seconds
        self._keep_seconds = gate.settings.keep_seconds
        self._full = False
        """The client does not take what was sent, of this exchange or of one before it."""
        self._may_turn = False
        """Nothing has come yet, so it may still be HTTP/2 with prior knowledge: RFC 9113, 3.3."""

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is up, TLS too."""
        self._transport = cast(asyncio.Transport, transport)
        shown = peer_certificate(transport)
        self._certificate = None if shown is None else certificate_key(shown)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            self._hand_over(b"")
            return
        self._may_turn = tls is None and self._gate.speaks_http2
        self._gate.joined(self)

    def _hand_over(self, early: bytes) -> None:
        transport = cast(asyncio.Transport, self._transport)
        link = Http2Link(self._gate, self._said, self._certificate)
        self._gate.left(self)
        transport.set_protocol(link)
        link.connection_made(transport)
        if early:
            link.data_received(early)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        exchange = self._exchange
        self._silent_since = self._loop.time()
        if self._ends:
            return
        if exchange is not None and exchange.relay.takes_more():
            self._slow_bytes += len(data)
            exchange.client_sent(data)
            return
        known = self._known
        if known is not None and exchange is None and not self._held and not self._opening and known.raw == data:
            self._deadline = NEVER
            self._arrived(known)
            return
        self._held += data
        if self._may_turn:
            begun = bytes(self._held[: len(PREFACE)])
            if begun == PREFACE:
                self._hand_over(bytes(self._held))
                return
            if PREFACE.startswith(begun):
                return
            self._may_turn = False
        if exchange is None and not self._opening:
            self._next()
        elif len(self._held) > MAX_AHEAD:
            self.read(on=False, why="ahead")

    def eof_received(self) -> bool:
        """The client sends no more; what it asked for is answered."""
        if self._exchange is None and not self._opening:
            return False
        exchange = self._exchange
        if exchange is not None:
            exchange.client_ended()
        self._ends = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        del exc  # why is the same to us
        self._ends = True
        self._gate.left(self)
        if self._exchange is not None:
            self._exchange.left()

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self._full = True
        if self._exchange is not None:
            self._exchange.client_full(full=True)

    def resume_writing(self) -> None:
        """It does again."""
        self._full = False
        if self._exchange is not None:
            self._exchange.client_full(full=False)

    # --- requests ---

    @property
    def is_gone(self) -> bool:
        """See `Asker`."""
        return self._transport is None or self._transport.is_closing()

    def _next(self) -> None:
        """Begin the next request, if its head is here."""
        loop = self._loop
        try:
            head = read_request(self._held, self._known)
        except PeerMisbehaved as exc:
            raw = bytes(self._held)
            self._held.clear()
            self._malformed(raw, str(exc))
            return
        if head is None:
            if len(self._held) and self._deadline > loop.time() + self._gate.settings.head_seconds:
                self._deadline = loop.time() + self._gate.settings.head_seconds
            return
        del self._held[: len(head.raw)]
        self._known = head if len(head.raw) <= MAX_KEPT else None
        self._deadline = NEVER
        self._arrived(head)

    def _begin(self, exchange: Exchange) -> None:
        if self._paused:
            self.read(on=True, why="ahead")
        if self._full:
            exchange.client_full(full=True)
        early = b""
        if not exchange.relay.body.is_done and self._held:
            early = bytes(self._held)
            self._held.clear()
        exchange.begin(early)

    def _say_no(self, said: refusals.Said) -> None:
        self.answer(said, bodiless=self._head is not None and self._head.method == b"HEAD")
        self._hang_up()

    # --- what an exchange asks for ---

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is not None and not self._transport.is_closing() and data:
            self._transport.write(data)

    def go_on(self) -> None:
        """RFC 9110, 10.1.1."""
        self.write(encode.CONTINUE)

    def answer(self, said: refusals.Said, *, bodiless: bool) -> None:
        """Send a whole answer of the gateway's own, the last on this connection."""
        tail = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(said.body)
        self.write(encode.response_head(said.head.status, said.head.headers) + tail + (b"" if bodiless else said.body))

    def read(self, *, on: bool, why: str) -> None:
        """Stop or go on reading."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if on:
            if why in self._paused:
                self._paused.discard(why)
                if not self._paused:
                    transport.resume_reading()
        else:
            if not self._paused:
                transport.pause_reading()
            self._paused.add(why)

    def opened(self) -> None:
        """It is a WebSocket from now on: what was sent ahead is part of it."""
        early = bytes(self._held)
        self._held.clear()
        self.read(on=True, why="ahead")
        if early and self._exchange is not None:
            self._exchange.client_sent(early)

    def over(self, exchange: Exchange, goes_on: bool) -> None:
        """An exchange has ended."""
        if not self._let_go(exchange):
            return
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not goes_on or self._ends:
            self._ends = True
            if exchange.broke_off:
                transport.abort()
            else:
                self._hang_up()
            return
        if exchange.relay.rest:
            self._held[:0] = exchange.relay.rest
        self._deadline = exchange.moved_at + self._keep_seconds
        if self._paused:
            for why in ("ahead", "crowded", "unheard"):
                self.read(on=True, why=why)
        if self._held:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._exchange is None and not self._opening and not self._ends:
            self._silent_since = self._loop.time()
            self._next()

    def _hang_up(self) -> None:
        """Close behind what is written. What the client still sends is read and dropped for a while, so that it can hear: RFC 9112, 9.6."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        loop = self._loop
        self._deadline = loop.time() + self._gate.settings.body_seconds  # for who does not take what was written
        if transport.can_write_eof():
            transport.write_eof()
            loop.call_later(LINGER_SECONDS, transport.close)
        else:
            transport.close()

    def cut(self) -> None:
        """The gateway ends."""
        if self._transport is not None:
            self._transport.close()

    def look_at_clock(self, now: float) -> None:
        """Cut what takes too long."""
        transport = self._transport
        if transport is None:
            return
        if self._exchange is not None:
            self._watch(self._exchange, now, transport.abort)
        elif now > self._deadline:
            transport.abort()
