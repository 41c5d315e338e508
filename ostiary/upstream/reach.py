"""Reaching a target, whatever it speaks: a connected socket, and what a failure to get one is called."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from typing import Any, Final, NoReturn

from ostiary.model.connections import Upstream
from ostiary.model.errors import NotAdmitted, PeerMisbehaved, Reason

_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EINTR})


async def dial(upstream: Upstream) -> socket.socket:
    """A connected socket. Each of several addresses of the host gets its share of the time that there is; all of it is the caller's to bound."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(upstream.host, upstream.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    last: OSError = OSError("the host name has no address")
    for family, kind, proto, _, address in found:
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            if len(found) == 1:
                await _connect(sock, address)
            else:
                async with asyncio.timeout(upstream.connect_timeout / len(found)):
                    await _connect(sock, address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:  # TimeoutError is one
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last


async def _connect(sock: socket.socket, address: Any) -> None:
    """Connect to an address that was looked up. `loop.sock_connect` of uvloop would look it up once more, in a thread."""
    error = sock.connect_ex(address)
    if error in _UNDER_WAY:
        loop = asyncio.get_running_loop()
        writable: asyncio.Future[None] = loop.create_future()
        loop.add_writer(sock, _settle, writable)
        try:
            await writable
        finally:
            loop.remove_writer(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def explain(error: Exception, upstream: Upstream) -> NoReturn:
    """Sort an error by what the caller can be told."""
    match error:
        case NotAdmitted():
            raise error
        case PeerMisbehaved():
            raise NotAdmitted(Reason.TARGET_REFUSED, f"its login breaks the protocol ({error.why.name})") from error
        case TimeoutError():
            detail = f"it did not answer within {upstream.connect_timeout:g} seconds"
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, detail) from error
        case ssl.SSLCertVerificationError():
            raise NotAdmitted(
                Reason.TARGET_UNREACHABLE,
                f"its certificate is not trusted ({error.verify_message})",
                "the operator should look at ca_file of the connection, and at the host name",
            ) from error
        case ssl.SSLError():
            detail = f"the TLS handshake failed ({error.reason or 'no reason given'})"
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, detail) from error
        case ConnectionRefusedError():
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, "nobody listens at its address") from error
        case ConnectionError():
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, "it closed the connection") from error
        case socket.gaierror():
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, "its host name has no address") from error
        case OSError():
            raise NotAdmitted(Reason.TARGET_UNREACHABLE, type(error).__name__) from error
        case _:
            raise error
