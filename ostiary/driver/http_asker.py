"""Whoever makes requests, one at a time: a connection of HTTP/1.1, or a stream of HTTP/2.

Each request is let into the session of its token on its connection, or refused on record; and what a client has to do in time is
watched here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from ostiary.config.types import HttpListener
from ostiary.driver.http_exchange import Client, Exchange, Session
from ostiary.driver.http_target import HttpDestination
from ostiary.driver.spawn import spawn
from ostiary.model.errors import LogFailed, Misdeed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason
from ostiary.model.identity import Claims, Said
from ostiary.model.secrets import Secret
from ostiary.policy.policies import Policies
from ostiary.protocols.http import refusals
from ostiary.protocols.http.login import glimpsed_host, glimpsed_token
from ostiary.protocols.http.messages import RequestHead
from ostiary.protocols.http.paths import Ambiguous, authority_of
from ostiary.protocols.http.relay import HttpRelay
from ostiary.vault.payload_format import PayloadError

MIN_BODY: Final = 1024
"""Bytes that a client has to send of a body within `body_seconds`, as long as we hold it."""

_log = structlog.get_logger("ostiary")


class Gate:
    """The listener, as its clients need it."""

    def __init__(self, settings: HttpListener, *, speaks_http2: bool) -> None:
        self.settings = settings
        self.speaks_http2 = speaks_http2

    def in_force(self) -> Policies:
        """The policies in force."""
        raise NotImplementedError

    def joined(self, client: Linked) -> None:
        """A client is connected."""
        raise NotImplementedError

    def left(self, client: Linked) -> None:
        """A client has gone."""
        raise NotImplementedError

    def destination(self, head: RequestHead) -> HttpDestination:
        """Which service a request is for. Raises `Ambiguous` and `NotAdmitted`."""
        raise NotImplementedError

    def session(self, token: bytes, destination: HttpDestination, last: Session | None = None) -> Session | None:
        """The session of that token there, if it is open. `last`: one that was found before, and may be it."""
        raise NotImplementedError

    async def begin(self, key: bytes, claims: Claims, destination: HttpDestination) -> Session:
        """Begin it."""
        raise NotImplementedError

    def token(self, head: RequestHead) -> Secret:
        """The token that a request shows."""
        raise NotImplementedError

    def is_ready(self, head: RequestHead) -> bool:
        """Whether it can be judged at once; else `prepare` first."""
        raise NotImplementedError

    async def prepare(self, head: RequestHead, destination: HttpDestination) -> None:
        """Fetch what judging it needs."""
        raise NotImplementedError

    def relay(self, head: RequestHead, session: Session, fault: str) -> HttpRelay:
        """What reads a request."""
        raise NotImplementedError

    def failed(self, head: RequestHead | None, why: Exception) -> refusals.Said:
        """The answer to what came in no session."""
        raise NotImplementedError

    async def turn_away(self, claims: Claims, why: NotAdmitted) -> None:
        """Put on record what came in no session."""
        raise NotImplementedError


class Linked(Protocol):
    """A client's connection, as its listener keeps it."""

    def cut(self) -> None:
        """The gateway ends."""
        ...

    def look_at_clock(self, now: float) -> None:
        """Cut what takes too long."""
        ...


class Asker(Client):
    """See above. What is sent how, is for whoever derives from it: it is the `Client` of its exchanges."""

    def __init__(self, gate: Gate, said: Said, certificate: str | None) -> None:
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        """Kept: to ask for it costs a system call each time."""
        self._said = said
        self._certificate = certificate
        """What stands for the client's certificate."""
        self._exchange: Exchange | None = None
        self._last: tuple[Secret, bytes] | None = None
        """The token that was shown last, and what stands for a login by it from here."""
        self._session: Session | None = None
        """Of the request before."""
        self._head: RequestHead | None = None
        """Of the request that came last."""
        self._opening = False
        """Its session is being opened."""
        self._ends = False
        """No further request is taken."""
        self._paused: set[str] = set()
        """Why it is not read; empty: it is."""
        self._silent_since = self._loop.time()
        """When something of it came last, or could have begun to."""
        self._slow_since = 0.0
        """When a stretch of a body began, of which `_slow_bytes` have come."""
        self._slow_bytes = 0

    # --- for whoever derives from it ---

    @property
    def is_gone(self) -> bool:
        """Whether nobody is there any more to be answered."""
        raise NotImplementedError

    @property
    def is_read(self) -> bool:
        """Whether what the client sends now is taken."""
        return not self._paused

    def _begin(self, exchange: Exchange) -> None:
        """The request is let in: give it what came of its body, and begin."""
        raise NotImplementedError

    def _say_no(self, said: refusals.Said) -> None:
        """Answer what came in no session, and end."""
        raise NotImplementedError

    # --- requests ---

    def _arrived(self, head: RequestHead) -> None:
        """A whole head is here."""
        self._head = head
        try:
            self._admit(head, self._gate.destination(head), "")
        except Ambiguous as exc:
            self._malformed(head.raw, str(exc))
        except NotAdmitted as exc:
            self._turn_away(_host_of(head), exc)
        except Exception:  # noqa: BLE001 - a request that nobody could read is refused, and on record
            self._undone(_host_of(head))

    def _admit(self, head: RequestHead, destination: HttpDestination, fault: str) -> None:
        gate = self._gate
        token = glimpsed_token(head.raw) if fault else gate.token(head)
        key = self._place(token)
        self._session = session = gate.session(key, destination, self._session)
        if session is not None and gate.is_ready(head):
            self._start(head, session, fault)
        else:
            self._open(head, destination, fault, token, key)

    def _open(self, head: RequestHead, destination: HttpDestination, fault: str, token: Secret, key: bytes) -> None:
        """Open the session that a request is for, and let the request in then."""
        claims = Claims(connection=destination.connection.name, token=token, said=self._said, certificate=self._certificate)
        self._opening = True

        async def open_it() -> None:
            try:
                await self._gate.prepare(head, destination)
                session = self._gate.session(key, destination) or await self._gate.begin(key, claims, destination)
            except (OstiaryError, OSError) as exc:
                self._opening = False
                self._refuse(exc if isinstance(exc, OstiaryError) else NotAdmitted(Reason.LOG_UNAVAILABLE))
            except Exception:  # noqa: BLE001 - as above
                self._opening = False
                self._undone(claims.connection)
            else:
                self._opening = False
                if not self.is_gone:
                    self._silent_since = self._loop.time()
                    self._start(head, session, fault)

        spawn(open_it(), f"session of {self._said.address}")

    def _place(self, token: Secret) -> bytes:
        """What stands for a login: the token, from one address, with one certificate. Another is another, which policy and the watch see.

        Behind a tilde comes a proof of a key, which is good for one connection: whoever shows it on another proves nothing.
        """
        last = self._last
        if last is not None and last[0] is token:
            return last[1]
        shown, address = token.reveal(), self._said.address
        place = address if "~" in shown else address.rpartition(":")[0]
        key = hashlib.sha256("\n".join((place, self._certificate or "", shown)).encode("latin-1", "replace")).digest()
        self._last = token, key
        return key

    def _undone(self, connection: str) -> None:
        """The gateway itself failed before there was a session."""
        _log.exception("a request could not be let in", client=self._said.address)
        self._turn_away(connection, NotAdmitted(Reason.MALFORMED, "the gateway cannot read this request"))

    def _start(self, head: RequestHead, session: Session, fault: str) -> None:
        """Let a request in. `_silent_since` is now."""
        relay = self._gate.relay(head, session, fault)
        exchange = Exchange(self, session, relay, self._gate.in_force(), self._said, self._loop)
        self._exchange = exchange
        self._slow_since = self._silent_since
        self._slow_bytes = 0
        session.under_way.add(exchange)
        self._begin(exchange)

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
        claims = Claims(connection=connection, token=Secret(""), said=self._said)

        async def note() -> None:
            told: Exception = why
            try:
                await self._gate.turn_away(claims, why)
            except (LogFailed, PayloadError):
                told = NotAdmitted(Reason.LOG_UNAVAILABLE)
            self._refuse(told)

        spawn(note(), f"refusal to {self._said.address}")

    def _refuse(self, why: Exception) -> None:
        """Say no to what came in no session."""
        self._ends = True
        self._say_no(self._gate.failed(self._head, why))

    def _let_go(self, exchange: Exchange) -> bool:
        """An exchange has ended; whether it is the one that is under way here."""
        session = exchange.session
        session.under_way.discard(exchange)
        session.used = exchange.moved_at
        if exchange is not self._exchange:
            return False
        self._exchange = self._head = None
        return True

    # --- in time ---

    def _watch(self, exchange: Exchange, now: float, cut: Callable[[], None]) -> None:
        """End the exchange if something takes too long in it; `cut`: the client does not even take its answer."""
        settings = self._gate.settings
        if self._is_slow(exchange, now):
            exchange.fail(PeerMisbehaved(Misdeed.TOO_SLOW, "the body of the request"), by_client=True)
        elif exchange.is_stuck(now, settings.body_seconds):
            cut()
        elif exchange.is_silent(now, settings.session_seconds):
            exchange.fail(NotAdmitted(Reason.IDLE))
        elif exchange.is_late(now):
            exchange.fail(NotAdmitted(Reason.TARGET_UNREACHABLE, "it did not answer in time"))

    def _is_slow(self, exchange: Exchange, now: float) -> bool:
        """Whether the client is silent in a body; or drips, while we hold what it sends. One that we do not read is neither."""
        seconds = self._gate.settings.body_seconds
        if exchange.relay.body.is_done:
            return False
        if not self.is_read:
            self._silent_since = self._slow_since = now
            self._slow_bytes = 0
            return False
        if now - self._slow_since > seconds:
            drips = exchange.is_judging and self._slow_bytes < MIN_BODY
            self._slow_since, self._slow_bytes = now, 0
            return drips
        return now - self._silent_since > seconds


def _host_of(head: RequestHead) -> str:
    return (head.fields.all(b"host") or (b"",))[0].decode("latin-1")


def _glimpsed_path(raw: bytes) -> bytes:
    """The first path that malformed bytes name, for where the refusal is recorded; never for where anything goes."""
    start = raw.find(b" /")
    piece = raw[start + 1 : start + 64].split(b" ", 1)[0] if start >= 0 else b"/"
    return piece if piece.isascii() and piece.startswith(b"/") else b"/"
