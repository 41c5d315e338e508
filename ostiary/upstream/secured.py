"""TLS on a connection of the data path, either way: OpenSSL between two memory BIOs (`ssl.SSLObject`), without the loop's own TLS.

Theory of operation. To the socket's transport a `Secured` is the protocol; to the protocol that speaks inside TLS it is the transport. What comes is
put into the incoming BIO and read out of it a record at a time, until nothing lies there: OpenSSL reads no record ahead, so it need not be asked
once more to say that it wants more. What is written is encrypted at once, and back-pressure is that of the socket's own transport. The loop's TLS
does the same by way of exceptions, queues and further looks at both BIOs; what that costs: docs/decisions/0026-tls-between-bios.md.

Ends. The peer's close_notify ends what it sends, and that alone (RFC 8446, 6.1): whether an answer may still go out, the protocol says
(`eof_received`). A stream that ends without one may have been cut by anybody: the protocol is told of a loss, never of an end. `close` says
close_notify behind what was written, and closes; `write_eof` says it, and what comes from then on is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any, Final, cast

MAX_RECORD: Final = 16384
"""Bytes of data in one record: RFC 8446, 5.1; RFC 5246, 6.2.1. A read that asks for as much takes a record whole."""


class Secured:
    """One connection's TLS: protocol of the socket's transport, and transport of the protocol inside."""

    def __init__(self, context: ssl.SSLContext, inner: Any, server_hostname: str | None = None) -> None:
        """Be the server, or the client of a server of that name. Raises `ValueError` for a name that no host can have."""
        self.inner: Any = inner
        """The protocol inside, an `asyncio.Protocol`; None once it has heard of the end."""
        self.up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """The handshake: done, or failed with an `OSError` (`ssl.SSLError` is one)."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname is None, server_hostname)
        self._records: Any = getattr(self._tls, "_sslobj", self._tls)
        """What reads and writes: the object in C that `SSLObject` hands each call on to, where there is one."""
        self._tcp: Any = None
        self._why: Exception | None = None
        self._is_up = False
        self._paused = False
        self._ends = False
        """Nothing is read any more: the peer has said close_notify, or we are closing."""
        self._shut = False
        """Nothing is written any more: close_notify is, or nobody would read it."""

    # --- the protocol of the socket's transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is up."""
        self._tcp = transport
        self._shake()

    def data_received(self, data: bytes) -> None:
        """Records, or pieces of them."""
        if self._ends:
            return
        self._incoming.write(data)
        if self._is_up:
            self._read()
        else:
            self._shake()

    def eof_received(self) -> bool:
        """The peer's half of TCP ends. Behind its close_notify that says nothing new; if it closes ours too, what was written goes out first."""
        if self._is_up and not self._ends:
            self._read()
        if self._ends:
            return not self._shut
        self._fail(ConnectionResetError("the stream ended without close_notify"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._ends = self._shut = True
        inner, self.inner = self.inner, None
        if self._is_up:
            inner.connection_lost(exc or self._why)
        elif not self.up.done():
            self.up.set_exception(exc if isinstance(exc, OSError) else ConnectionResetError("it was closed within the handshake"))

    def pause_writing(self) -> None:
        """The socket does not keep up."""
        if self._is_up:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        if self._is_up:
            self.inner.resume_writing()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return
        except ssl.SSLError as exc:
            self._send()  # the alert that says why
            self._lose(exc)
            return
        self._send()
        if self.up.done():  # nobody waits any more
            self.abort()
            return
        self._is_up = True
        self.up.set_result(None)
        self.inner.connection_made(self)
        self._read()

    def _read(self) -> None:
        """Hand on what has come, for as long as it is wanted."""
        records, incoming = self._records, self._incoming
        while incoming.pending and not self._paused and not self._ends:
            try:
                data = records.read(MAX_RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as exc:
                self._send()
                self._lose(exc)
                return
            if data:
                self.inner.data_received(data)
            elif not self._ends:
                self._ends = True
                if not self.inner.eof_received():
                    self.close()
        if self._outgoing.pending:  # OpenSSL answers some messages by itself: RFC 8446, 4.6.3
            self._send()

    def _go_on(self) -> None:
        try:
            self._read()
        except Exception as exc:
            self._lose(exc)
            raise

    def _send(self) -> None:
        data = self._outgoing.read()
        if data and not self._tcp.is_closing():
            self._tcp.write(data)

    def _fail(self, why: Exception) -> None:
        self._ends = self._shut = True
        self._why = why
        if not self.up.done():
            self.up.set_exception(why)

    def _lose(self, why: Exception) -> None:
        """End it for that reason. What was written goes out if it can at once."""
        self._fail(why)
        if self._tcp.get_write_buffer_size():
            self._tcp.abort()
        else:
            self._tcp.close()

    def _say_goodbye(self) -> None:
        if self._shut:
            return
        self._ends = self._shut = True
        with contextlib.suppress(ssl.SSLError):  # it wants to read the other side's, which need not come: RFC 8446, 6.1
            self._tls.unwrap()
        self._send()

    # --- the transport of the protocol inside ---

    def write(self, data: bytes) -> None:
        """Encrypt and send. Behind an end it is dropped."""
        if self._shut or not data:
            return
        try:
            done = self._records.write(data)
            while done < len(data):
                done += self._records.write(memoryview(data)[done:])
        except ssl.SSLError as exc:  # never that it wants to read: no context here negotiates anew
            self._lose(exc)
            return
        self._send()

    def writelines(self, pieces: list[bytes]) -> None:
        """Encrypt and send them as one."""
        self.write(b"".join(pieces))

    def can_write_eof(self) -> bool:
        """See `write_eof`."""
        return True

    def write_eof(self) -> None:
        """Say close_notify; what still comes is dropped."""
        if not self._shut:
            self._say_goodbye()
            if not self._tcp.is_closing():
                self._tcp.write_eof()

    def close(self) -> None:
        """Say close_notify, and close when it was sent."""
        if self._is_up:
            self._say_goodbye()
        self._tcp.close()

    def abort(self) -> None:
        """Close at once."""
        self._ends = self._shut = True
        if self._tcp is not None:
            self._tcp.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or is about to be."""
        closing: bool = self._tcp.is_closing()
        return closing

    def pause_reading(self) -> None:
        """Hand on nothing until `resume_reading`; what comes waits in the socket."""
        if not self._paused:
            self._paused = True
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Hand on what waits, and what comes."""
        if self._paused:
            self._paused = False
            self._tcp.resume_reading()
            if self._incoming.pending:
                asyncio.get_running_loop().call_soon(self._go_on)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object`, or what the socket's transport knows."""
        return self._tls if name == "ssl_object" else self._tcp.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Bytes, encrypted, that the socket has not taken."""
        size: int = self._tcp.get_write_buffer_size()
        return size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio.WriteTransport`."""
        self._tcp.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: Any) -> None:
        """Have another protocol go on. It is not told that it is connected."""
        self.inner = protocol

    def get_protocol(self) -> Any:
        """The protocol inside."""
        return self.inner


async def accept(sock: socket.socket, protocol: Any, context: ssl.SSLContext | None, seconds: float) -> None:
    """Give an accepted socket to `protocol`; with a context its TLS, as the server's, is up first. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    if context is None:
        await loop.connect_accepted_socket(lambda: protocol, sock)
        return
    link: Any = Secured(context, protocol)
    await loop.connect_accepted_socket(lambda: link, sock)
    await _is_up(link, seconds)


async def connect(sock: socket.socket, protocol: Any, context: ssl.SSLContext | None, host: str, seconds: float) -> asyncio.Transport:
    """Give a connected socket to `protocol`; with a context its TLS, as the client's, is up first, and the server is `host`. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    if context is None:
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        return transport
    link: Any = Secured(context, protocol, host)
    await loop.create_connection(lambda: link, sock=sock)
    await _is_up(link, seconds)
    return cast(asyncio.Transport, link)


async def _is_up(link: Secured, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await link.up
    except BaseException:
        link.up.cancel()
        link.abort()
        raise
