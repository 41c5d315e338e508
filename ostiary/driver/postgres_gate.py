"""PostgreSQL's listener: from an accepted socket to a running session.

TLS and login in PostgreSQL's way; who it is, and whether they may, is `ostiary.driver.admission`'s; then the target.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
import time
from collections.abc import Callable
from typing import Final, NamedTuple, cast

import msgspec
import structlog

from ostiary.config.types import Listener
from ostiary.driver.admission import Begun, Reception, WhyNot, ending
from ostiary.driver.leases import Lease
from ostiary.driver.session import SessionDriver
from ostiary.driver.spawn import spawn
from ostiary.driver.targets import PostgresDestination
from ostiary.identity.bound import certificate_key
from ostiary.listener.accept import accept_forever, is_quiet, peek, peer_certificate, server_tls
from ostiary.model.duties import Duties
from ostiary.model.errors import LogFailed, Misdeed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason
from ostiary.model.identity import VerifiedIdentity
from ostiary.model.restraints import Restraint
from ostiary.policy.policies import Policies
from ostiary.protocols.postgres import encode, refusals
from ostiary.protocols.postgres import login as logins
from ostiary.protocols.postgres.messages import PROTOCOL_3_2, ParameterStatus
from ostiary.protocols.postgres.naming import comment_for
from ostiary.protocols.postgres.relay import PostgresRelay
from ostiary.protocols.postgres.understanding import Understanding
from ostiary.session.path import Line
from ostiary.upstream import cancel_target, open_target
from ostiary.vault.payload_format import PayloadError

MAX_LOGIN_BYTES: Final = 70_000
"""Bytes that a client may send before it is let in: a startup packet and a token, with room to spare."""
NEGOTIATIONS: Final = {(8, 80877103), (8, 80877104), (16, 80877102)}
"""(length, code) of SSLRequest, GSSENCRequest and a cancel request with a key of 3.0."""
TLS_RECORD: Final = b"\x16"
"""First byte of a TLS handshake: RFC 8446, 5.1."""
ALPN: Final = "postgresql"

_log = structlog.get_logger("ostiary")


class Doorstep(asyncio.Protocol):
    """A client that is not let in yet: hands its bytes to whoever awaits them, within a bound."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._heard = bytearray()
        self._total = 0
        self._waiter: asyncio.Future[None] | None = None
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS, if any, is up."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are none by class

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._heard += data
        self._total += len(data)
        if self._total > MAX_LOGIN_BYTES and self.transport is not None:
            self.transport.abort()
            self._gone = True
        self._wake()

    def eof_received(self) -> None:
        """The client has stopped sending."""
        self._gone = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        del exc  # why is the same to us
        self._gone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes:
        """What came since the last call; empty once the client has gone."""
        if not self._heard and not self._gone:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.take()

    def take(self) -> bytes:
        """What has come and was not read."""
        data = bytes(self._heard)
        self._heard.clear()
        return data


class Held(NamedTuple):
    """A session that is open."""

    driver: SessionDriver
    target: PostgresDestination
    key: bytes
    """Of the cancel key that the client was given."""
    there: tuple[int, bytes]
    """The target's own cancel key."""


class _Stay:
    """A session's place here and at its target: what to do when it ends, or is to be cancelled."""

    __slots__ = ("_gate", "_key", "_pid", "_target", "_there", "lease")

    def __init__(self, gate: PostgresGate, target: PostgresDestination, pid: int, there: int, key: bytes) -> None:
        """`pid`: what the client was given. `there`, `key`: the target's process id and cancel key."""
        self._gate = gate
        self._target = target
        self._pid = pid
        self._there = there
        self._key = key
        self.lease: Lease | None = None

    def ended(self) -> None:
        """Give it up."""
        gate, target = self._gate, self._target
        target.leave()
        if self.lease is not None:
            self.lease.close()
            self.lease = None
        if gate.sessions.pop(self._pid, None) is not None:
            gate.open_sessions.leave()
        target.process_ids.remove(_number(self._there), _number(self._pid))

    def cancel(self) -> None:
        """Ask the target to stop what the session is doing."""
        spawn(_cancel_quietly(self._target, self._there, self._key), f"cancel at {self._target.connection.name}")


class PostgresGate:
    """One PostgreSQL listener: lets clients in, and keeps the sessions that they have."""

    def __init__(self, reception: Reception, settings: Listener) -> None:
        self._reception = reception
        self._settings = settings
        self._tls = server_tls("listen.postgresql", settings, [ALPN])
        self._logins = reception.commons.tally("waiting postgresql")
        self.open_sessions = reception.commons.tally("open postgresql")
        self.sessions: dict[int, Held] = {}
        """By the process id that the client was given."""
        reception.neighbours.cancels(self._cancel_own)
        self._closing = False

    async def serve(self, sock: socket.socket) -> None:
        """Accept clients until cancelled."""
        await accept_forever(sock, self._came)

    def use(self, policies: Policies) -> None:
        """From now on every operation, also of sessions that are open, is decided under these policies."""
        for held in self.sessions.values():
            held.driver.line.policies = policies

    def stop(self, why_not: WhyNot) -> None:
        """End the sessions whose identity may not go on, and say why."""
        for held in list(self.sessions.values()):
            if (why := why_not(held.driver.who)) is not None:
                held.driver.cut(why)

    def restrain(self, restrained: Callable[[VerifiedIdentity, Restraint | None], Restraint | None]) -> None:
        """See `Alertable.restrain`."""
        for held in self.sessions.values():
            held.driver.line.restraint = restrained(held.driver.who, held.driver.line.restraint)

    def end(self, session: str, why: NotAdmitted) -> None:
        """See `Alertable.end`."""
        for held in list(self.sessions.values()):
            if held.driver.session == session:
                held.driver.cut(why)

    def close(self) -> None:
        """Let nobody in any more, and end every session."""
        self._closing = True
        for held in list(self.sessions.values()):
            held.driver.cut(NotAdmitted(Reason.TARGET_UNREACHABLE, "the gateway is shutting down"))

    def _came(self, sock: socket.socket, address: str) -> None:
        if self._closing or not self._logins.enter(self._settings.max_logins):
            sock.close()
            return
        spawn(self._admit(sock, address), f"login {address}")

    async def _admit(self, sock: socket.socket, address: str) -> None:
        """Let one client in, or turn it away; its socket is closed unless a session took it over."""
        door: Doorstep | None = None
        taken = False
        try:
            async with asyncio.timeout(self._settings.login_seconds):
                met = await self._negotiate(sock, address)
                if met is None:
                    return
                door, login = met
                step = await self._login(door, login)
            if isinstance(step, logins.Cancel):
                await self._cancel(step)
            elif step is not None:
                await self._open(door, step)
                taken = True
        except TimeoutError:
            _log.debug("login took too long", client=address)
        except OstiaryError as exc:
            if door is not None and door.transport is not None:
                told = NotAdmitted(Reason.LOG_UNAVAILABLE) if isinstance(exc, LogFailed | PayloadError) else exc
                door.transport.write(refusals.goodbye(told))
        except OSError as exc:  # an SSLError is one
            _log.debug("client went away", client=address, error=str(exc))
        finally:
            self._logins.leave()
            if door is not None and door.transport is not None and not taken:
                door.transport.close()

    async def _negotiate(self, sock: socket.socket, address: str) -> tuple[Doorstep, logins.ServerLogin] | None:
        """Answer what comes before the startup packet, and put a transport on the socket. None: it is over already."""
        settings, offers_tls = self._settings, self._tls is not None
        login = logins.ServerLogin(
            address=address,
            offers_tls=offers_tls,
            allows_clear=settings.danger_plaintext or (not offers_tls and address.startswith(("127.", "::1:"))),
            discovery=self._reception.discovery,
        )
        try:
            first = await peek(sock, 1)
            direct = first[:1] == TLS_RECORD
            if not first or (direct and self._tls is None):
                sock.close()
                return None
            secured = direct or await self._answer_requests(sock, login)
            if secured is None:
                sock.close()
                return None
            door = Doorstep()  # not what the call returns: with TLS that is uvloop's own protocol
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: door, sock, ssl=self._tls if secured else None,
                ssl_handshake_timeout=self._settings.login_seconds if secured else None,
            )  # fmt: skip
        except BaseException:
            sock.close()
            raise
        if secured:
            login.secured()
        if direct and door.transport is not None:
            spoken = door.transport.get_extra_info("ssl_object")
            if spoken is None or spoken.selected_alpn_protocol() != ALPN:
                door.transport.abort()  # direct TLS demands ALPN: PostgreSQL 18, 54.2.11
                return None
        return door, login

    async def _answer_requests(self, sock: socket.socket, login: logins.ServerLogin) -> bool | None:
        """Answer SSLRequest, GSSENCRequest and CancelRequest in clear. True: TLS is to follow; None: hang up."""
        loop = asyncio.get_running_loop()
        while True:
            head = await peek(sock, 8)
            size = int.from_bytes(head[:4], "big")
            if len(head) < 8 or (size, int.from_bytes(head[4:], "big")) not in NEGOTIATIONS:
                return False  # a startup packet, or nonsense: the login says which
            if len(await peek(sock, size)) < size:
                return None
            step = login.receive(await loop.sock_recv(sock, size))
            match step:
                case logins.Cancel():
                    await self._cancel(step)
                    return None
                case logins.StartTls():
                    if not is_quiet(sock):
                        raise PeerMisbehaved(Misdeed.TOO_EARLY, "bytes behind SSLRequest")
                    await loop.sock_sendall(sock, step.data)
                    return True
                case logins.Reply():
                    await loop.sock_sendall(sock, step.data)
                case _:
                    return None

    async def _login(self, door: Doorstep, login: logins.ServerLogin) -> logins.Present | logins.Cancel | None:
        assert door.transport is not None  # noqa: S101 - connected
        while data := await door.read():
            step = login.receive(data)
            if isinstance(step, logins.Present | logins.Cancel):
                return step
            if isinstance(step, logins.StartTls):
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "SSLRequest")
            if step is not None:
                door.transport.write(step.data)
        return None

    async def _cancel(self, step: logins.Cancel) -> None:
        """Pass a cancel on, to the worker whose session it is for."""
        number, key = step.request.process_id, step.request.secret_key
        if self._reception.neighbours.is_elsewhere(number):
            await self._reception.neighbours.hand_over(number, key)
        else:
            await self._cancel_own(number, key)

    async def _cancel_own(self, number: int, key: bytes) -> None:
        """Tell the target, if the session is waiting for something: a cancel must not hit what comes later."""
        held = self.sessions.get(number)
        if held is None or not hmac.compare_digest(held.key, key):
            return
        if not held.driver.call_off() and held.driver.is_waiting:
            await _cancel_quietly(held.target, *held.there)

    # --- who, and may they ---

    async def _open(self, door: Doorstep, present: logins.Present) -> None:
        reception = self._reception
        shown = peer_certificate(door.transport)
        certificate = None if shown is None else certificate_key(shown)
        claims = present.claims if certificate is None else msgspec.structs.replace(present.claims, certificate=certificate)
        who = await reception.identify(claims)
        if present.refused is not None:
            refused = present.refused
            await reception.turn_away(claims, who, NotAdmitted(Reason.UNSUPPORTED, str(refused)))
            raise refused
        try:
            target = reception.target(claims.connection, PostgresDestination, self._settings, self.open_sessions.total)
            admitted = reception.admit(who, target, claims.said)
            begun = await reception.begin(admitted, claims.said, target)
            await self._session(door, present, begun, target)
        except NotAdmitted as exc:
            await reception.turn_away(claims, who, exc)
            raise

    # --- the session ---

    async def _session(
        self, door: Doorstep, present: logins.Present, begun: Begun, target: PostgresDestination
    ) -> None:
        admitted, session, journal = begun.admitted, begun.session, begun.journal
        who, connection = admitted.who, target.connection
        try:
            snapshot = await target.catalogue.refresh(since=time.monotonic())
            settings = present.parameters | demanded(admitted.grounds.duties)
            settings |= {"application_name": upstream_name(who, session)}
            opened = await open_target(connection, await target.password(who, session), settings)
        except BaseException as exc:
            target.leave()
            journal.end(ending(exc))
            raise
        understanding = Understanding(target.knowledge, snapshot)
        understanding.began(settings)
        pid = self._reception.neighbours.number()
        while pid in self.sessions:
            pid = self._reception.neighbours.number()
        met = opened.logged_in
        target.process_ids.add(_number(met.process_id), _number(pid))
        ours, theirs = (
            encode.encode(ParameterStatus("application_name", name))
            for name in (settings["application_name"], present.parameters.get("application_name", ""))
        )
        relay = PostgresRelay(
            understanding, detect=connection.detect, plans=target.planner(), process_ids=target.process_ids, shown={ours: theirs},
            comment=comment_for(who, session) if connection.sql_comment else b"",
        )
        reception = self._reception
        line = Line(
            admitted=admitted, connection=connection, policies=reception.policies, relay=relay, said=present.claims.said,
            granted=begun.granted, waits_inside=reception.waits_inside,
        )  # fmt: skip
        line.restraint = reception.restraint(who, connection)
        key = secrets.token_bytes(32 if present.version >= PROTOCOL_3_2 else 4)

        stay = _Stay(self, target, pid, met.process_id, met.secret_key)
        driver = SessionDriver(
            line=line, relay=relay, journal=journal, catalogue=target.catalogue, desk=reception.desk, cancel=stay.cancel,
            ended=stay.ended, counting=reception.counting,
        )  # fmt: skip
        self.sessions[pid] = Held(driver, target, key, (met.process_id, met.secret_key))
        self.open_sessions.add(1)
        try:
            if door.transport is None or door.transport.is_closing():
                raise ConnectionResetError("the client has gone")  # noqa: TRY301 - the way out below is for all
            reception.still_stands(who)
            stay.lease = reception.lease(begun, connection.name, driver.cut)
            door.transport.write(logins.welcome(_shown(met.parameters, present), pid, key))
            driver.begin(door.transport, opened, door.take())
        except BaseException as exc:
            opened.close()
            driver.finish(exc.reason.name if isinstance(exc, NotAdmitted) else "client gone")
            raise
        if self._settings.idle_seconds:
            driver.end_when_idle(self._settings.idle_seconds)
        _log.info("session", session=session, connection=connection.name, who=who.subject)


def _number(pid: int) -> bytes:
    """A process id as it stands on the wire."""
    return (pid & 0xFFFFFFFF).to_bytes(4, "big")


async def _cancel_quietly(target: PostgresDestination, pid: int, key: bytes) -> None:
    """Ask the target to stop what a session is doing. Nobody is told whether it did, so nobody is told that it could not."""
    try:
        await cancel_target(target.connection, pid, key)
    except NotAdmitted as exc:
        _log.warning("a cancel did not reach the target", connection=target.connection.name, error=str(exc))


def upstream_name(who: VerifiedIdentity, session: str) -> str:
    """How the target's own log names the actor: `application_name`, at most 63 bytes of printable ASCII.

    The person, then who acts for them, then the session: cut from the left part, so that the session always stands whole.
    """
    chain = " for ".join([*(actor.name or actor.sub for actor in who.acting), who.name or who.subject])
    tail = f" {session[-12:]}"
    plain = f"ostiary: {chain}"
    if not (plain.isascii() and plain.isprintable()):
        plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in plain)
    return plain[: 63 - len(tail)] + tail


def demanded(duties: Duties | None) -> dict[str, str]:
    """Startup parameters by which the target holds a session to what its permit demands; RESET goes back to them."""
    if duties is None:
        return {}
    settings = {"default_transaction_read_only": "on"} if duties.read_only else {}
    return settings if duties.timeout is None else settings | {"statement_timeout": str(duties.timeout)}


def _shown(parameters: dict[str, str], present: logins.Present) -> list[tuple[str, str]]:
    """The target's settings as the client hears of them: its own application name, not the one that names the actor."""
    shown = dict(parameters)
    shown["application_name"] = present.parameters.get("application_name", "")
    return list(shown.items())
