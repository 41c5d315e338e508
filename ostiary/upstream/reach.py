"""Reaching a target, whatever it speaks: a connected socket, and what a failure to get one is called."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import NoReturn

from ostiary.model.connections import Upstream
from ostiary.model.errors import NotAdmitted, PeerMisbehaved, Reason


async def dial(upstream: Upstream) -> socket.socket:
    """A connected socket. Each of the host's addresses gets its share of the time that there is."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(upstream.host, upstream.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    last: OSError = OSError("the host name has no address")
    for family, kind, proto, _, address in found:
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(upstream.connect_timeout / len(found)):
                await loop.sock_connect(sock, address)
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
