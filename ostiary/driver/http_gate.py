"""HTTP's listener: from an accepted socket to exchanges, each in the session of its token on its connection.

A connection of a client is only a way in: every request on it shows its own token and names its own connection. A session (token,
connection, address) begins with its first request and ends when it was idle too long, when its identity ends or may not go on, or
with the gateway. What a client has to do in time (a head, a body, another request) is watched by one sweep a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Callable
from typing import Final, cast

import structlog

from ostiary.approvals.desk import Desk
from ostiary.config.types import HttpListener, is_loopback
from ostiary.driver.admission import Begun, Counter, Reception, WhyNot
from ostiary.driver.http_actor import ActorLines
from ostiary.driver.http_exchange import Exchange
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.leases import Lease
from ostiary.driver.spawn import spawn
from ostiary.listener.accept import accept_forever, server_tls
from ostiary.masking.http import ReplyMasker
from ostiary.model.errors import LogFailed, Misdeed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason
from ostiary.model.identity import Claims, Said, VerifiedIdentity
from ostiary.model.printable import printable
from ostiary.model.restraints import Restraint
from ostiary.model.secrets import Secret
from ostiary.policy.policies import Policies
from ostiary.protocols.http import encode, refusals
from ostiary.protocols.http.decode import read_request
from ostiary.protocols.http.login import glimpsed_host, glimpsed_token, shown_token
from ostiary.protocols.http.messages import RequestHead, values
from ostiary.protocols.http.operations import path_below
from ostiary.protocols.http.paths import Ambiguous, authority_of, read_target
from ostiary.protocols.http.relay import HttpRelay
from ostiary.vault.payload_format import PayloadError

MAX_AHEAD: Final = 256 * 1024
"""Bytes that a client may send ahead of the request that is under way before it is not read any more."""
LINGER_SECONDS: Final = 5.0
MIN_BODY: Final = 1024
"""Bytes that a client has to send of a body within `body_seconds`, as long as we hold it."""

_log = structlog.get_logger("ostiary")


class HttpSession:
    """A token on a connection."""

    def __init__(
        self, begun: Begun, destination: HttpDestination, actor: ActorLines | None, now: float, desk: Desk, count: Counter
    ) -> None:
        self.begun = begun
        self.lease: Lease | None = None
        self.admitted = begun.admitted
        self.who: VerifiedIdentity = begun.admitted.who
        self.journal = begun.journal
        self.id = begun.session
        self.destination = destination
        self.used = now
        self.count = count
        self.restraint: Restraint | None = None
        self.granted = begun.granted
        self.desk = desk
        self.under_way: set[Exchange] = set()
        self._actor = actor

    def masker(self, relay: HttpRelay) -> ReplyMasker:
        """See `ostiary.driver.http_exchange.Session`."""
        del relay  # what is protected is the same for every request
        connection = self.destination.connection
        return ReplyMasker(connection.detect, self.destination.rules(), connection.pass_types)

    def service(self, relay: HttpRelay) -> HttpDestination:
        """There is one."""
        del relay
        return self.destination

    def ready(self) -> bytes | None:
        """The configured credential, if it can be had at once."""
        return self.destination.shown.ready()

    async def fetch(self) -> bytes:
        """The configured credential."""
        return await self.destination.shown.fetch()

    def lines(self, relay: HttpRelay, shown: bytes) -> bytes:
        """The credential, and header lines that tell the service who acts, signed."""
        del relay
        return shown if self._actor is None else shown + self._actor.lines(time.time())


class HttpGate:
    """One HTTP listener."""

    key = "listen.http"

    def __init__(
        self, reception: Reception, settings: HttpListener, destinations: list[HttpDestination], signer: object
    ) -> None:
        self._reception = reception
        self.settings = settings
        self._signer = signer
        self._tls = server_tls(self.key, settings, ["http/1.1"])
        self._by_host = {host: each for each in destinations for host in each.connection.hosts}
        self._by_prefix = {each.connection.prefix: each for each in destinations if each.connection.prefix}
        own = {settings.host.lower(), *(name.lower() for name in settings.names)}
        if is_loopback(settings.host):
            own |= {"127.0.0.1", "localhost", "[::1]"}
        self._names = frozenset(name.encode() for name in own)
        self._sessions: dict[tuple[bytes, str], HttpSession] = {}
        self._beginning: dict[tuple[bytes, str], asyncio.Future[HttpSession]] = {}
        self._clients: set[ClientLink] = set()
        self._closing = False

    @property
    def policies(self) -> Policies:
        """The policies in force."""
        return self._reception.policies

    async def serve(self, sock: socket.socket) -> None:
        """Accept clients until cancelled."""
        sweeping = spawn(self._sweep(), "sweep http")
        try:
            await accept_forever(sock, self._came)
        finally:
            sweeping.cancel()

    def use(self, policies: Policies) -> None:
        """Each request is decided under the policies that the reception holds; one that waits for people, under these."""
        for session in self._sessions.values():
            for exchange in session.under_way:
                exchange.line.policies = policies

    def stop(self, why_not: WhyNot) -> None:
        """End the sessions whose identity may not go on."""
        for key, session in list(self._sessions.items()):
            if (why := why_not(session.who)) is not None:
                self._end(key, session, why.reason.name)

    def restrain(self, restrained: Callable[[VerifiedIdentity, Restraint | None], Restraint | None]) -> None:
        """See `Alertable.restrain`."""
        for session in self._sessions.values():
            session.restraint = restrained(session.who, session.restraint)
            for exchange in session.under_way:
                exchange.line.restraint = session.restraint

    def end(self, session: str, why: NotAdmitted) -> None:
        """See `Alertable.end`."""
        for key, each in list(self._sessions.items()):
            if each.id == session:
                self._end(key, each, why.reason.name)

    def close(self) -> None:
        """Let nobody in any more, and end every session."""
        self._closing = True
        for key, session in list(self._sessions.items()):
            self._end(key, session, "ended")
        for client in list(self._clients):
            client.cut()

    def _came(self, sock: socket.socket, address: str) -> None:
        if self._closing or len(self._clients) >= self.settings.max_connections:
            sock.close()
            return
        spawn(self._accept(sock, address), f"http {address}")

    async def _accept(self, sock: socket.socket, address: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: ClientLink(self, address), sock, ssl=self._tls,
                ssl_handshake_timeout=self.settings.login_seconds if self._tls else None,
            )  # fmt: skip
        except OSError as exc:  # an SSLError is one
            _log.debug("client went away", client=address, error=str(exc))
            sock.close()

    # --- sessions ---

    def destination(self, head: RequestHead) -> HttpDestination:
        """Which service a request is for. Raises `Ambiguous` and `NotAdmitted`."""
        hosts = values(head.headers, b"host")
        if len(hosts) != 1:
            raise Ambiguous("a request has exactly one Host")
        named = authority_of(hosts[0])
        if named is None:
            raise Ambiguous("Host is not a host name")
        if not head.target.startswith(b"/"):
            target = read_target(head.target)
            if target.authority is None or authority_of(target.authority) != named:
                raise Ambiguous("the request target names another host than Host does")
        host = named[0].decode("ascii")
        found = self._by_host.get(host)
        if found is None and named[0] in self._names:
            path = head.target.partition(b"?")[0].decode("ascii")
            if not path.startswith("/"):
                path = read_target(head.target).path
            found = self._by_prefix.get("/" + path.split("/", 2)[1]) or next(
                (each for prefix, each in self._by_prefix.items() if path_below(path, prefix) is not None), None
            )
        if found is None:
            raise NotAdmitted(Reason.NO_SUCH_CONNECTION, printable(host[:64]), "`ostiary connections list` names them")
        return found

    def session(self, token: bytes, destination: HttpDestination) -> HttpSession | None:
        """The session of that token there, if it is open."""
        found = self._sessions.get((token, destination.connection.name))
        if found is not None and found.who.expires <= time.time():
            self._end((token, destination.connection.name), found, Reason.EXPIRED_TOKEN.name)
            return None
        return found

    async def begin(self, key: bytes, claims: Claims, destination: HttpDestination) -> HttpSession:
        """Begin the session of a token on a connection; who asks for the same one meanwhile waits for it."""
        place = (key, claims.connection)
        under_way = self._beginning.get(place)
        if under_way is not None:
            return await asyncio.shield(under_way)
        future: asyncio.Future[HttpSession] = asyncio.get_running_loop().create_future()
        self._beginning[place] = future
        try:
            session = await self._begin(claims, destination)
            self._sessions[place] = session
            self._still_stands(place, session)
        except BaseException as exc:
            future.set_exception(exc if isinstance(exc, Exception) else ConnectionResetError())
            future.exception()  # it is heard here, whoever else waits or not
            raise
        else:
            future.set_result(session)
            return session
        finally:
            del self._beginning[place]

    def _still_stands(self, place: tuple[bytes, str], session: HttpSession) -> None:
        try:
            self._reception.still_stands(session.who)
            session.lease = self._reception.lease(
                session.begun, session.destination.connection.name, lambda why: self._end(place, session, why.reason.name)
            )
        except NotAdmitted as exc:
            self._end(place, session, exc.reason.name)
            raise

    async def _begin(self, claims: Claims, destination: HttpDestination) -> HttpSession:
        reception = self._reception
        who = await reception.identify(claims)
        self._make_room(destination)
        try:
            destination.rules()
            target = reception.target(claims.connection, type(destination), self.settings, len(self._sessions))
            begun = await reception.begin(reception.admit(who, target, claims.said), claims.said, target)
        except NotAdmitted as exc:
            await reception.turn_away(claims, who, exc)
            raise
        _log.info("session", session=begun.session, connection=claims.connection, who=who.subject)
        session = self.opened(begun, destination)
        session.restraint = reception.restraint(who, destination.connection)
        return session

    def opened(self, begun: Begun, destination: HttpDestination) -> HttpSession:
        """A session that has begun."""
        actor = ActorLines.made(begun, destination.connection, self._signer)
        return HttpSession(
            begun, destination, actor, asyncio.get_running_loop().time(), self._reception.desk, self._reception.count
        )

    # --- what other listeners on top of HTTP do otherwise ---

    def token(self, head: RequestHead) -> Secret:
        """The token that a request shows."""
        return shown_token(head.headers)

    def is_ready(self, head: RequestHead) -> bool:
        """Whether it can be judged at once; else `prepare` first."""
        del head
        return True

    async def prepare(self, head: RequestHead, destination: HttpDestination) -> None:
        """Fetch what judging it needs."""

    def relay(self, head: RequestHead, session: HttpSession, fault: str) -> HttpRelay:
        """What reads a request."""
        return HttpRelay(head, session.destination.understanding, fault)

    def failed(self, head: RequestHead | None, why: Exception) -> refusals.Said:
        """The answer to what came in no session."""
        del head
        return refusals.failed(why)

    def _make_room(self, destination: HttpDestination) -> None:
        """Where a limit on sessions is reached, the one that was idle longest makes room: a token per request is no attack on others."""
        mine = [item for item in self._sessions.items() if item[1].destination is destination]
        if len(mine) < destination.connection.max_sessions and len(self._sessions) < self.settings.max_sessions:
            return
        idle = [item for item in mine if not item[1].under_way]
        if idle:
            key, session = min(idle, key=lambda item: item[1].used)
            self._end(key, session, Reason.IDLE.name)

    async def turn_away(self, claims: Claims, why: NotAdmitted) -> None:
        """Put on record what came in no session."""
        await self._reception.turn_away(claims, None, why)

    def _end(self, key: tuple[bytes, str], session: HttpSession, status: str) -> None:
        if self._sessions.pop(key, None) is None:
            return
        if session.lease is not None:
            session.lease.close()
        for exchange in list(session.under_way):
            exchange.abandon()
        try:
            session.journal.end(status)
        except (OstiaryError, OSError) as exc:
            _log.error("a session's end is not on record", session=session.id, error=str(exc))
        session.destination.leave()

    async def _sweep(self) -> None:
        """Once a second: what took too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            for client in list(self._clients):
                client.look_at_clock(now)
            for key, session in list(self._sessions.items()):
                if not session.under_way and now - session.used > self.settings.session_seconds:
                    self._end(key, session, Reason.IDLE.name)

    def joined(self, client: ClientLink) -> None:
        """A client is connected."""
        self._clients.add(client)

    def left(self, client: ClientLink) -> None:
        """A client has gone."""
        self._clients.discard(client)


class ClientLink(asyncio.Protocol):
    """One client's connection: one exchange at a time; what is pipelined waits."""

    def __init__(self, gate: HttpGate, address: str) -> None:
        self._gate = gate
        self._said = Said(address=address)
        self._from = address.rpartition(":")[0].encode() + b"\n"
        """A session is of one address: another is another login, which policy and the watch over credentials see."""
        self._transport: asyncio.Transport | None = None
        self._held = bytearray()
        self._exchange: Exchange | None = None
        self._head: RequestHead | None = None
        """Of the request that came last."""
        self._opening = False
        self._ends = False
        """Nothing more is read: it closes once the answer under way is out."""
        self._paused: set[str] = set()
        self._deadline = asyncio.get_running_loop().time() + gate.settings.head_seconds
        self._silent_since = 0.0
        self._slow_since = 0.0
        """When a stretch of a body began, of which `_slow_bytes` have come."""
        self._slow_bytes = 0

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is up, TLS too."""
        self._transport = cast(asyncio.Transport, transport)
        self._gate.joined(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        exchange = self._exchange
        self._silent_since = asyncio.get_running_loop().time()
        if self._ends:
            return
        if exchange is not None and exchange.relay.takes_more:
            self._slow_bytes += len(data)
            exchange.client_sent(data)
            return
        self._held += data
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
        if self._exchange is not None:
            self._exchange.client_full(full=True)

    def resume_writing(self) -> None:
        """It does again."""
        if self._exchange is not None:
            self._exchange.client_full(full=False)

    # --- exchanges ---

    def _next(self) -> None:
        """Begin the next request, if its head is here."""
        loop = asyncio.get_running_loop()
        try:
            head = read_request(self._held)
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
        self._head = head
        self._deadline = float("inf")
        try:
            destination = self._gate.destination(head)
        except Ambiguous as exc:
            self._malformed(head.raw, str(exc))
            return
        except NotAdmitted as exc:
            self._turn_away(values(head.headers, b"host")[0].decode("latin-1"), exc)
            return
        self._admit(head, destination)

    def _admit(self, head: RequestHead, destination: HttpDestination, fault: str = "") -> None:
        token = glimpsed_token(head.raw) if fault else self._gate.token(head)
        key = hashlib.sha256(self._from + token.reveal().encode("latin-1", "replace")).digest()
        session = self._gate.session(key, destination)
        if session is not None and self._gate.is_ready(head):
            self._start(head, session, fault)
            return
        claims = Claims(connection=destination.connection.name, token=token, said=self._said)
        self._opening = True

        async def open_it() -> None:
            try:
                await self._gate.prepare(head, destination)
                session = self._gate.session(key, destination) or await self._gate.begin(key, claims, destination)
            except (OstiaryError, OSError) as exc:
                self._opening = False
                self._refuse(exc if isinstance(exc, OstiaryError) else NotAdmitted(Reason.LOG_UNAVAILABLE))
            else:
                self._opening = False
                if self._transport is not None and not self._transport.is_closing():
                    self._start(head, session, fault)

        spawn(open_it(), f"session of {self._said.address}")

    def _start(self, head: RequestHead, session: HttpSession, fault: str) -> None:
        relay = self._gate.relay(head, session, fault)
        exchange = Exchange(self, session, relay, self._gate.policies, self._said)
        self._exchange = exchange
        self._slow_since, self._slow_bytes = asyncio.get_running_loop().time(), 0
        session.under_way.add(exchange)
        self.read(on=True, why="ahead")
        if not relay.body.is_done and self._held:
            early = bytes(self._held)
            self._held.clear()
            exchange.requests.hear(early)
        exchange.begin()

    def _malformed(self, raw: bytes, why: str) -> None:
        """What is no request is on record too: under whose token it came, if it can be told, and refused."""
        self._ends = True
        head = RequestHead(b"-", b"", 1, (), raw)
        named = authority_of(glimpsed_host(raw))
        try:
            found = None
            if named is not None and glimpsed_token(raw).reveal():
                found = self._gate.destination(RequestHead(b"GET", _glimpsed_path(raw), 1, ((b"host", glimpsed_host(raw)),), raw))
        except (Ambiguous, NotAdmitted):
            found = None
        if found is None:
            self._turn_away("" if named is None else named[0].decode("latin-1"), NotAdmitted(Reason.MALFORMED, why))
        else:
            self._admit(head, found, why)

    def _turn_away(self, connection: str, why: NotAdmitted) -> None:
        self._ends = True
        claims = Claims(connection=connection, token=shown_token(()), said=self._said)

        async def note() -> None:
            told: Exception = why
            try:
                await self._gate.turn_away(claims, why)
            except (LogFailed, PayloadError):
                told = NotAdmitted(Reason.LOG_UNAVAILABLE)
            self._refuse(told)

        spawn(note(), f"refusal to {self._said.address}")

    def _refuse(self, why: Exception) -> None:
        """Say no to what came in no session, and close."""
        self._ends = True
        said = self._gate.failed(self._head, why)
        tail = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(said.body)
        self.write(encode.response_head(said.head.status, said.head.headers) + tail + said.body)
        self._hang_up()

    # --- what an exchange asks for ---

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is not None and not self._transport.is_closing() and data:
            self._transport.write(data)

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

    def over(self, exchange: Exchange, *, goes_on: bool) -> None:
        """An exchange has ended."""
        session = cast(HttpSession, exchange.session)
        session.under_way.discard(exchange)
        loop = asyncio.get_running_loop()
        session.used = loop.time()
        if exchange is not self._exchange:
            return
        self._exchange = None
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
        self._deadline = loop.time() + self._gate.settings.keep_seconds
        self.read(on=True, why="ahead")
        self.read(on=True, why="crowded")
        self.read(on=True, why="unheard")
        if self._held:
            loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._exchange is None and not self._opening and not self._ends:
            self._next()

    def _hang_up(self) -> None:
        """Close behind what is written. What the client still sends is read and dropped for a while, so that it can hear: RFC 9112, 9.6."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        loop = asyncio.get_running_loop()
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
        exchange, settings = self._exchange, self._gate.settings
        if exchange is None:
            if now > self._deadline and self._transport is not None:
                self._transport.abort()
            return
        if self._is_slow(exchange, now):
            exchange.fail(PeerMisbehaved(Misdeed.TOO_SLOW, "the body of the request"))
        elif exchange.is_stuck(now, settings.body_seconds) and self._transport is not None:
            self._transport.abort()
        elif exchange.is_silent(now, settings.session_seconds):
            exchange.fail(NotAdmitted(Reason.IDLE))
        elif exchange.is_late(now):
            exchange.fail(NotAdmitted(Reason.TARGET_UNREACHABLE, "it did not answer in time"))

    def _is_slow(self, exchange: Exchange, now: float) -> bool:
        """Whether the client is silent in a body; or drips, while we hold what it sends. One that we do not read is neither."""
        seconds = self._gate.settings.body_seconds
        if exchange.relay.body.is_done:
            return False
        if self._paused or now - self._slow_since > seconds:
            drips = not self._paused and exchange.is_judging and self._slow_bytes < MIN_BODY
            self._slow_since, self._slow_bytes = now, 0
            return drips
        return now - self._silent_since > seconds


def _glimpsed_path(raw: bytes) -> bytes:
    """The first path that malformed bytes name, for where the refusal is recorded; never for where anything goes."""
    start = raw.find(b" /")
    piece = raw[start + 1 : start + 64].split(b" ", 1)[0] if start >= 0 else b"/"
    return piece if piece.isascii() and piece.startswith(b"/") else b"/"
