"""Sockets in: accept, and look at the first bytes without taking them.

The first packet decides whether TLS follows. It is looked at with MSG_PEEK, so whatever reads next (a TLS layer, or the
login) gets every byte, and nothing that was sent in clear can end up inside TLS (CVE-2021-23214).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from ostiary.config.types import Listener
from ostiary.model.errors import ConfigError

BACKLOG: Final = 1024
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EINTR})
_PAUSE_SECONDS: Final = 0.2


def bind(host: str, port: int, *, shared: bool) -> socket.socket:
    """A listening TCP socket. `shared`: several workers listen on the same address (SO_REUSEPORT).

    Raises `OSError` with the address in its text.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # IPPROTO_TCP, or accepted sockets silently lack TCP_NODELAY under asyncio.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise OSError(exc.errno, f"cannot listen on {host}:{port}: {exc.strerror}") from exc
    return sock


def server_tls(key: str, settings: Listener, alpn: Sequence[str]) -> ssl.SSLContext | None:
    """TLS towards clients, if the listener has a certificate; `key` is its section, for the error's sake."""
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"{key}.tls_cert", f"cannot be used: {exc}") from None
    context.set_alpn_protocols(list(alpn))
    if settings.client_ca is not None:
        asked_for_certificates(f"{key}.client_ca", context, settings.client_ca)
    return context


def asked_for_certificates(key: str, context: ssl.SSLContext, authorities: str) -> None:
    """Have clients asked for a certificate of these authorities (PEM); one of others ends the handshake, none does not.

    Nothing is resumed, so that each connection proves the certificate's key anew. That takes TLS 1.3: before it OpenSSL keeps sessions of
    its own accord, and Python cannot tell it not to.
    """
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(key, f"cannot be used: {exc}") from None
    context.verify_mode = ssl.CERT_OPTIONAL
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0


def peer_certificate(transport: asyncio.BaseTransport | None) -> bytes | None:
    """The certificate, in DER, that the other side has proved in TLS; None: it showed none, or there is no TLS."""
    spoken = None if transport is None else transport.get_extra_info("ssl_object")
    if spoken is None:
        return None
    found: bytes | None = spoken.getpeercert(binary_form=True)
    return found


async def accept_forever(sock: socket.socket, came: Callable[[socket.socket, str], None]) -> None:
    """Hand each new connection, and its peer's `host:port`, to `came`, until cancelled.

    When the process has no descriptors left it waits and goes on: the ones that are open are served. The loop watches the socket all the
    time; `sock_accept` would begin to, and cease, for each connection.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def accept() -> None:
        try:
            _accepted(sock, came)
        except OSError as exc:
            if exc.errno not in _NO_ROOM:
                _fail(over, exc)
                return
            loop.remove_reader(sock)
            loop.call_later(_PAUSE_SECONDS, watch)
        except Exception as exc:  # noqa: BLE001 - a bug in `came`: whoever awaits us hears it
            _fail(over, exc)

    def watch() -> None:
        if not over.done():
            loop.add_reader(sock, accept)

    watch()
    try:
        await over
    finally:
        loop.remove_reader(sock)


def _accepted(sock: socket.socket, came: Callable[[socket.socket, str], None]) -> None:
    """Take one connection, if one is there still."""
    try:
        peer, address = sock.accept()
    except BlockingIOError:
        return
    except OSError as exc:
        if exc.errno in _GONE:
            return
        raise
    peer.setblocking(False)
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    came(peer, f"{address[0]}:{address[1]}")


def _fail(over: asyncio.Future[None], failure: Exception) -> None:
    if not over.done():
        over.set_exception(failure)


async def peek(sock: socket.socket, size: int) -> bytes:
    """The next `size` bytes without taking them; fewer only when the peer has stopped sending."""
    loop = asyncio.get_running_loop()
    seen = -1
    while True:
        try:
            data = sock.recv(size, socket.MSG_PEEK)
        except BlockingIOError:
            data = None
        if data is not None:
            if len(data) >= size or not data:
                return data
            if len(data) == seen:
                # Readable stays true while a beginning lies there unread; so this waits by the clock, under the
                # login's deadline.
                await asyncio.sleep(0.02)
            seen = len(data)
            continue
        readable = loop.create_future()
        loop.add_reader(sock, _settle, readable)
        try:
            await readable
        finally:
            loop.remove_reader(sock)


def is_quiet(sock: socket.socket) -> bool:
    """Whether nothing waits to be read."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
