"""HTTP's listener: from an accepted socket to exchanges, each in the session of its token on its connection.

A connection of a client is only a way in: every request on it shows its own token and names its own connection. A session (token,
connection, address) begins with its first request and ends when it was idle too long, when its identity ends or may not go on, or
with the gateway. What a client has to do in time (a head, a body, another request) is watched by one sweep a second.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final, cast

import structlog

from ostiary.config.types import HttpListener
from ostiary.config.words import is_loopback
from ostiary.driver.admission import Begun, Reception, WhyNot, unrecorded
from ostiary.driver.http_actor import ActorLines
from ostiary.driver.http_asker import Gate, Linked
from ostiary.driver.http_client import ClientLink
from ostiary.driver.http_exchange import Session
from ostiary.driver.http_session import HttpSession
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.spawn import spawn
from ostiary.listener.accept import accept_forever, server_tls
from ostiary.model.errors import NotAdmitted, OstiaryError, Reason
from ostiary.model.identity import Claims, VerifiedIdentity
from ostiary.model.printable import printable
from ostiary.model.restraints import Restraint
from ostiary.model.secrets import Secret
from ostiary.policy.policies import Policies
from ostiary.protocols.http import refusals
from ostiary.protocols.http.login import shown_token
from ostiary.protocols.http.messages import RequestHead
from ostiary.protocols.http.operations import path_below
from ostiary.protocols.http.paths import Ambiguous, authority_of, read_target
from ostiary.protocols.http.relay import HttpRelay

_log = structlog.get_logger("ostiary")
_time: Final = time.time


class HttpGate(Gate):
    """One HTTP listener."""

    key = "listen.http"
    offers_http2 = True

    def __init__(
        self, reception: Reception, settings: HttpListener, destinations: list[HttpDestination], signer: object
    ) -> None:
        super().__init__(settings, speaks_http2=self.offers_http2)
        self._reception = reception
        self._signer = signer
        self._tls = server_tls(self.key, settings, ["h2", "http/1.1"] if self.speaks_http2 else ["http/1.1"])
        self._by_host = {host: each for each in destinations for host in each.connection.hosts}
        self._by_prefix = {each.connection.prefix: each for each in destinations if each.connection.prefix}
        own = {settings.host.lower(), *(name.lower() for name in settings.names)}
        if is_loopback(settings.host):
            own |= {"127.0.0.1", "localhost", "[::1]"}
        self._names = frozenset(name.encode() for name in own)
        self._sessions: dict[tuple[bytes, str], HttpSession] = {}
        self._beginning: dict[tuple[bytes, str], asyncio.Future[HttpSession]] = {}
        self._clients: set[Linked] = set()
        protocol = self.key.partition(".")[2]
        self._connected = reception.commons.tally(f"waiting {protocol}")
        self._open = reception.commons.tally(f"open {protocol}")
        self._closing = False

    def in_force(self) -> Policies:
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
        if self._closing or self._connected.total >= self.settings.max_connections:
            sock.close()
            return
        spawn(self._accept(sock, address), f"http {address}")

    async def _accept(self, sock: socket.socket, address: str) -> None:
        self._connected.add(1)  # who shakes hands is connected
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: cast(asyncio.Protocol, ClientLink(self, address)), sock, ssl=self._tls,
                ssl_handshake_timeout=self.settings.login_seconds if self._tls else None,
            )  # fmt: skip
        except OSError as exc:  # an SSLError is one
            _log.debug("client went away", client=address, error=str(exc))
            sock.close()
        finally:
            self._connected.leave()  # from here on `joined` counts it

    # --- sessions ---

    def destination(self, head: RequestHead) -> HttpDestination:
        """Which service a request is for. Raises `Ambiguous` and `NotAdmitted`."""
        fields = head.fields
        service = fields.service
        if service is not None and service[0] == head.target:
            known: HttpDestination = service[1]
            return known
        found = self._destination(head)
        fields.service = head.target, found
        return found

    def _destination(self, head: RequestHead) -> HttpDestination:
        named = head.fields.host or _host_of(head)
        if not head.target.startswith(b"/"):
            target = read_target(head.target)
            if target.authority is None or authority_of(target.authority) != named:
                raise Ambiguous("the request target names another host than Host does")
        host = named[0].decode("ascii")
        found, shown = self._by_host.get(host), host
        if found is None and named[0] in self._names:
            path = head.target.partition(b"?")[0].decode("ascii")
            if not path.startswith("/"):
                path = read_target(head.target).path
            shown = "/" + path.split("/", 2)[1]
            found = self._by_prefix.get(shown) or next(
                (each for prefix, each in self._by_prefix.items() if path_below(path, prefix) is not None), None
            )
        if found is None:
            raise NotAdmitted(Reason.NO_SUCH_CONNECTION, printable(shown[:64]), "`ostiary connections list` names them")
        return found

    def session(self, token: bytes, destination: HttpDestination, last: Session | None = None) -> HttpSession | None:
        """The session of that token there, if it is open. `last`: one that was found before, and may be it."""
        if isinstance(last, HttpSession) and last.is_open and last.token == token and last.destination is destination:
            found: HttpSession | None = last
        else:
            found = self._sessions.get((token, destination.connection.name))
        if found is None:
            return None
        if found.expires <= _time():
            self._end((token, destination.connection.name), found, Reason.EXPIRED_TOKEN.name)
            return None
        if found.journal.stream is not None and (trouble := found.journal.trouble()) is not None:
            # Its recording is full, or could not be written: the next session may have room, or a disk that works.
            self._end((token, destination.connection.name), found, unrecorded(trouble).reason.name)
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
            session.token, session.is_open = key, True
            self._open.add(1)
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
            target = reception.target(claims.connection, type(destination), self.settings, self._open.total)
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
            begun, destination, actor, asyncio.get_running_loop().time(), self._reception.desk, self._reception.counting
        )

    # --- what other listeners on top of HTTP do otherwise ---

    def token(self, head: RequestHead) -> Secret:
        """The token that a request shows."""
        return shown_token(head.fields)

    def is_ready(self, head: RequestHead) -> bool:
        """Whether it can be judged at once; else `prepare` first."""
        del head
        return True

    async def prepare(self, head: RequestHead, destination: HttpDestination) -> None:
        """Fetch what judging it needs."""

    def relay(self, head: RequestHead, session: Session, fault: str) -> HttpRelay:
        """What reads a request."""
        relay = HttpRelay(head, session.understanding, fault)
        relay.reader.heads = session.heads
        return relay

    def failed(self, head: RequestHead | None, why: Exception) -> refusals.Said:
        """The answer to what came in no session."""
        del head
        return refusals.failed(why)

    def _make_room(self, destination: HttpDestination) -> None:
        """Where a limit on sessions is reached, the one that was idle longest makes room: a token per request is no attack on others."""
        mine = [item for item in self._sessions.items() if item[1].destination is destination]
        workers = self._reception.commons.workers  # each has its share, so none depends on another to make room
        if len(mine) < destination.connection.max_sessions // workers and len(self._sessions) < self.settings.max_sessions // workers:
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
        session.is_open = False
        self._open.leave()
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

    def joined(self, client: Linked) -> None:
        """A client is connected."""
        if client not in self._clients:
            self._clients.add(client)
            self._connected.add(1)

    def left(self, client: Linked) -> None:
        """A client has gone."""
        if client in self._clients:
            self._clients.remove(client)
            self._connected.leave()


def _host_of(head: RequestHead) -> tuple[bytes, int | None]:
    """(host, port) that a request names. Raises `Ambiguous`."""
    hosts = head.fields.all(b"host")
    if len(hosts) != 1:
        raise Ambiguous("a request has exactly one Host")
    named = authority_of(hosts[0])
    if named is None:
        raise Ambiguous("Host is not a host name")
    head.fields.host = named
    return named
