"""From a connection's address to a session that is ready for work: dial, TLS, login, under one deadline.

Theory of operation
-------------------
The socket is ours until TLS is up. An SSLRequest is sent and *exactly one* byte is read from the socket, so nothing can
be stuffed in front of the TLS handshake (CVE-2021-23222): whatever stands behind that byte is read by the handshake,
which fails on it. Then the socket is given to the loop's transport, and `_Login`, an ordinary protocol, drives
`protocols.postgres.login.ClientLogin` over it. PBKDF2 with many rounds runs in a thread.

At ReadyForQuery reading is paused, and the transport waits in a `Target` until `attach()` gives it the protocol that
will own it. Bytes that arrived together with the end of the login are kept and handed over first; none is lost and none
is read twice.

Every failure is a `NotAdmitted` whose sentence is fit for the caller: it names neither address nor credential. Its
`__cause__` is the error itself, for the log.

What is *not* done here: choosing who may dial what (policy), deciding that plaintext is fine (config), retrying.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Mapping
from typing import Final, cast

from ostiary.kernel.frames import frame_size
from ostiary.model.connections import PostgresConnection, Upstream
from ostiary.model.errors import Misdeed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason
from ostiary.model.secrets import Secret
from ostiary.protocols.postgres import decode, encode
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.login import MAX_LOGIN_FRAME, ClientLogin, LoggedIn
from ostiary.protocols.postgres.scram import Derivation, KeyCache, Keys
from ostiary.upstream.reach import dial, explain
from ostiary.upstream.settings import KnownSettings
from ostiary.upstream.tls import ALPN, channel_binding, client_context

INLINE_ITERATIONS: Final = 5_000
"""PBKDF2 rounds that are worked off in the loop: 1 ms. PostgreSQL's default is 4096."""
NONCE_BYTES: Final = 18
"""What libpq uses (SCRAM_RAW_NONCE_LEN)."""

_keys: Final = KeyCache()
_known: Final = KnownSettings()


class _Login(asyncio.Protocol):
    """Drives one login. `ready` is set to what it gave, or to the error that ended it."""

    def __init__(self, ready: asyncio.Future[LoggedIn]) -> None:
        self._login: ClientLogin | None = None
        """None: it has not begun, as channel binding is not known yet."""
        self._ready = ready
        self._buf = bytearray()
        self._deriving = False
        self._has_learned = False
        """What the target says of its settings was looked at as a whole."""
        self._transport: asyncio.Transport | None = None
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What loops hand out for a stream has the interface, and (uvloop's) not always the base class.
        self._transport = cast("asyncio.Transport", transport)

    def start(self, login: ClientLogin) -> None:
        """Begin, now that channel binding is known. Raises `PeerMisbehaved` where the target has spoken already."""
        if self._buf:
            raise PeerMisbehaved(Misdeed.TOO_EARLY, "a message before the startup packet")
        self._login = login
        assert self._transport is not None  # noqa: S101 - the transport came before
        self._transport.write(login.start())

    def data_received(self, data: bytes) -> None:
        self._buf += data
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._fail(exc or ConnectionResetError("the target closed the connection"))

    def leftover(self) -> bytes:
        """What came behind the login."""
        return bytes(self._buf)

    def _advance(self) -> None:
        transport, login = self._transport, self._login
        try:
            while transport is not None and login is not None and not self._deriving and not self._ready.done():
                if frame_size(self._buf) > MAX_LOGIN_FRAME:
                    raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a message of the login")
                if login.is_settling and self._settings(login):
                    continue
                message = decode.next_backend(self._buf)
                if message is None:
                    return
                said = login.receive(message)
                if isinstance(said, Derivation):
                    self._derive(said)
                elif said:
                    transport.write(said)
                if login.done is not None:
                    transport.pause_reading()
                    self._ready.set_result(login.done)
        except OstiaryError as error:
            self._fail(error)

    def _settings(self, login: ClientLogin) -> bool:
        """Whether what comes next are settings as a target said them before: then they are taken."""
        known = _known.at(self._buf)
        if known is None:
            self._has_learned = self._has_learned or _known.learn(self._buf)
            return False
        login.settle(known.values, known.messages)
        del self._buf[: len(known.wire)]
        return True

    def _derive(self, work: Derivation) -> None:
        assert self._transport is not None  # noqa: S101 - called from _advance
        assert self._login is not None  # noqa: S101 - as above
        if work.iterations <= INLINE_ITERATIONS:
            self._transport.write(self._login.derived(work.run()))
            return
        self._deriving = True
        self._transport.pause_reading()
        future = asyncio.get_running_loop().run_in_executor(None, work.run)
        future.add_done_callback(self._derived)

    def _derived(self, future: asyncio.Future[Keys]) -> None:
        self._deriving = False
        if future.cancelled() or self.is_lost or self._ready.done() or self._transport is None or self._login is None:
            return
        try:
            self._transport.write(self._login.derived(future.result()))
        except Exception as error:  # noqa: BLE001 - whatever it was, the login is over, and the waiter must hear it
            self._fail(error)
            return
        self._transport.resume_reading()
        self._advance()

    def _fail(self, error: Exception) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)


class Target:
    """A target that is ready for work, not yet read by anyone. `attach` it once, or `close` it."""

    __slots__ = ("_login", "_transport", "logged_in")

    def __init__(self, transport: asyncio.Transport, login: _Login, logged_in: LoggedIn) -> None:
        self._transport = transport
        self._login = login
        self.logged_in = logged_in
        """The target's settings, process id and cancel key."""

    def __repr__(self) -> str:
        return f"Target(process_id={self.logged_in.process_id})"

    @property
    def transport(self) -> asyncio.Transport:
        """The connection; paused until `attach`."""
        return self._transport

    def attach(self, protocol: asyncio.Protocol) -> None:
        """Give the connection to `protocol`: `connection_made`, what came behind the login if anything, then the rest.

        Raises `NotAdmitted` (TARGET_UNREACHABLE) if the target went away in between.
        """
        if self._login.is_lost or self._transport.is_closing():
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, "it closed the connection")
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        leftover = self._login.leftover()
        if leftover:
            protocol.data_received(leftover)
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Say Terminate and close."""
        if not self._transport.is_closing():
            self._transport.write(encode.TERMINATE)
        self._transport.close()


async def open_target(
    connection: PostgresConnection,
    password: Secret | None,
    settings: Mapping[str, str],
    *,
    direct_tls: bool = False,
    clear_allowed: bool = False,
    keys: KeyCache = _keys,
) -> Target:
    """Dial and log in within `connect_timeout` seconds. Raises `NotAdmitted` (TARGET_UNREACHABLE, TARGET_REFUSED).

    `settings`: startup parameters apart from user and database. `direct_tls`: no SSLRequest, TLS from the first byte
    (servers from 17 on). `clear_allowed`: a password may go out in clear without TLS.
    """
    upstream = connection.upstream
    loop = asyncio.get_running_loop()
    transport: asyncio.Transport | None = None
    ready: asyncio.Future[LoggedIn] = loop.create_future()
    try:
        async with asyncio.timeout(upstream.connect_timeout):
            protocol = _Login(ready)
            transport = await _connect(upstream, protocol, direct_tls=direct_tls)
            binding, is_secured = _binding(transport)
            login = ClientLogin(
                user=upstream.user,
                database=upstream.database,
                password=password,
                settings=settings,
                nonce=secrets.token_urlsafe(NONCE_BYTES),
                clear_allowed=is_secured or clear_allowed,
                binding=binding,
                cache=keys,
            )
            protocol.start(login)
            logged_in = await ready
        return Target(transport, protocol, logged_in)
    except BaseException as error:
        ready.cancel()
        if transport is not None:
            transport.abort()
        if not isinstance(error, Exception):
            raise
        explain(error, upstream)


async def cancel_target(
    connection: PostgresConnection, process_id: int, secret_key: bytes, *, direct_tls: bool = False
) -> None:
    """Ask the target to stop what a session is doing; returns once it closed ("Canceling Requests in Progress").

    Whether anything was cancelled, nobody is told. Raises `NotAdmitted` as `open_target` does.
    """
    upstream = connection.upstream
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout(upstream.connect_timeout):
            closed = asyncio.get_running_loop().create_future()
            transport = await _connect(upstream, _Closing(closed), direct_tls=direct_tls)
            transport.write(encode.encode(m.CancelRequest(process_id, secret_key)))
            await closed
    except Exception as error:  # noqa: BLE001 - sorted by explain, which raises
        explain(error, upstream)
    finally:
        if transport is not None:
            transport.abort()


class _Closing(asyncio.Protocol):
    """Waits for the other side to close; what it says is nothing to us."""

    def __init__(self, closed: asyncio.Future[None]) -> None:
        self._closed = closed

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self._closed.done():
            self._closed.set_result(None)


async def _connect(upstream: Upstream, protocol: asyncio.Protocol, *, direct_tls: bool) -> asyncio.Transport:
    """A transport with `protocol` on it, TLS done."""
    loop = asyncio.get_running_loop()
    context = client_context(upstream, ALPN)
    sock = await dial(upstream)
    try:
        if context is None:
            transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
            return transport
        if not direct_tls:
            await _ask_for_tls(sock)
        transport, _ = await loop.create_connection(
            lambda: protocol,
            sock=sock,
            ssl=context,
            server_hostname=upstream.host,
            ssl_handshake_timeout=upstream.connect_timeout,
        )
    except BaseException:
        with contextlib.suppress(OSError):
            sock.close()
        raise
    if direct_tls and transport.get_extra_info("ssl_object").selected_alpn_protocol() != ALPN:
        transport.abort()
        raise NotAdmitted(Reason.TARGET_REFUSED, "it does not speak PostgreSQL inside TLS (no ALPN)")
    return transport


async def _ask_for_tls(sock: socket.socket) -> None:
    """SSLRequest, and exactly one byte of an answer."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, encode.SSL_REQUEST)
    answer = await loop.sock_recv(sock, 1)
    if answer == b"S":
        return
    if answer == b"N":
        raise NotAdmitted(
            Reason.TARGET_REFUSED,
            "it does not speak TLS, and the connection demands it",
            "the operator should turn on ssl at the target",
        )
    if not answer:
        raise ConnectionResetError("the target closed the connection")
    raise PeerMisbehaved(Misdeed.BAD_FIELD, "answer to SSLRequest")


def _binding(transport: asyncio.Transport) -> tuple[bytes | None, bool]:
    """Channel binding data of the connection, and whether it is TLS at all."""
    session = transport.get_extra_info("ssl_object")
    if session is None:
        return None, False
    certificate = session.getpeercert(binary_form=True)
    return (channel_binding(certificate) if certificate else None), True
