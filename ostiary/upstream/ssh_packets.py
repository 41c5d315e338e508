"""Packets of channel data, to and from asyncssh's connections, in one step each: what flows and what is typed are hardly anything else.

asyncssh takes a packet through some thirty calls in either direction. Here the one kind of packet that comes often is cut out of what was read, decrypted, checked as asyncssh
checks it, and handed to its channel; or written, padded, encrypted and sent. Everything else, and every packet that is not exactly as it should be, goes to asyncssh as it came: it
decides, it counts, it ends the connection. So there is one state (sequence numbers, windows, rekeying), asyncssh's own, and what is ready for the short way is asked of it before each packet.

What was decrypted to be looked at is not decrypted twice: the cipher keeps it for asyncssh (`Gcm.ahead`).

The cipher is AES-GCM of RFC 5647 with one object for each key, where asyncssh makes one for each packet.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final, Self

from asyncssh import DisconnectError
from asyncssh.channel import SSHClientChannel, SSHServerChannel, SSHTCPChannel, SSHUNIXChannel
from asyncssh.encryption import GCMEncryption, register_encryption_alg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SMALL: Final = 4096
"""Bytes of a packet that may be copied a few times."""
CHANNEL_DATA: Final = 94
"""RFC 4254, 5.2: SSH_MSG_CHANNEL_DATA."""
_TAG: Final = 16
_BLOCK: Final = 16
_HEAD: Final = 10
"""Bytes of a packet in front of a channel's data: length of the padding, kind, channel, length (RFC 4253, 6; RFC 4254, 5.2)."""
_MIN_PADDING: Final = 4
_MAX_SEQUENCE: Final = 0xFFFFFFFF
_RANDOM: Final = 4096
"""Bytes of padding that are asked of the system at once."""
_STIR_SECONDS: Final = 1.0
"""How often what comes is told to the timer that looks whether anything does (`keepalive_interval`)."""
_PLAIN: Final = frozenset({SSHClientChannel, SSHServerChannel, SSHTCPChannel, SSHUNIXChannel})
"""Channels that hand on data as it is. A subclass may do something with it first."""


class Gcm(GCMEncryption):
    """RFC 5647, 7: the length in clear and bound to the packet, a counter of packets in the nonce."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._aead = AESGCM(key)
        self.seal = self._aead.encrypt
        self.open = self._aead.decrypt
        self._fixed = iv[:4]
        self._count = int.from_bytes(iv[4:], "big")
        self.ahead: bytes | None = None
        """The packet that comes next, decrypted."""

    @classmethod
    def new(cls, cipher_name: str, key: bytes, iv: bytes, mac_alg: bytes = b"", mac_key: bytes = b"", etm: bool = False) -> Self:
        """Begin with a key."""
        del cipher_name, mac_alg, mac_key, etm
        return cls(key, iv)

    def nonce(self) -> bytes:
        """Of the next packet; it is not used again."""
        nonce = self._fixed + self._count.to_bytes(8, "big")
        self._count = (self._count + 1) & 0xFFFFFFFFFFFFFFFF
        return nonce

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """A packet as it goes out, its tag behind it."""
        del seq
        return header + self.seal(self.nonce(), packet, header), b""

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """A packet without its length; None: it is not what was sent."""
        del seq
        packet, self.ahead = self.ahead, None
        if packet is None:
            try:
                packet = self.open(self.nonce(), b"".join((first[header_len:], rest, mac)), first[:header_len])
            except InvalidTag:
                return None
        is_bulk = len(packet) > SMALL and packet[1] == CHANNEL_DATA
        return memoryview(packet) if is_bulk else packet  # type: ignore[return-value]  # what it holds is cut out without copies


for _name in ("aes128-gcm", "aes256-gcm"):
    register_encryption_alg(f"{_name}@openssh.com".encode(), Gcm, _name, default=False)


class Incoming:
    """What comes on a connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._rest = b""
        """The beginning of a packet."""
        self._stirred_at = 0.0

    def take(self, data: bytes) -> bool:
        """Take in what was read. False: that is asyncssh's to do now, and nothing was done."""
        connection = self._connection
        if not self._is_ready(connection):
            if self._rest:
                rest, self._rest = self._rest, b""
                connection.data_received(rest + data)
                return True
            return False
        now = time.monotonic()
        if now - self._stirred_at > _STIR_SECONDS:
            self._stirred_at = now
            connection._reset_keepalive_timer()  # noqa: SLF001 - see above
        try:
            self._cut(connection, self._rest + data if self._rest else data)
        except DisconnectError as exc:  # as asyncssh ends it
            connection._send_disconnect(exc.code, exc.reason, exc.lang)  # noqa: SLF001
            connection._force_close(exc)  # noqa: SLF001
        except Exception:  # noqa: BLE001 - a fault of ours or of the peer's: the connection ends, as with asyncssh
            connection.internal_error()
        return True

    def _is_ready(self, connection: Any) -> bool:
        """Whether a packet begins here, and packets are what they are once somebody is in."""
        if not (connection._auth_complete and type(connection._recv_encryption) is Gcm) or connection._decompressor is not None or connection._transport is None:  # noqa: SLF001
            return False
        handler = connection._recv_handler  # noqa: SLF001
        if handler == connection._recv_packet:  # noqa: SLF001 - it has the beginning of one
            self._rest = bytes(connection._packet) + bytes(connection._inpbuf)  # noqa: SLF001 - nothing of it was decrypted, for the length is in clear
            connection._packet = connection._inpbuf = b""  # noqa: SLF001
            connection._recv_handler = connection._recv_pkthdr  # noqa: SLF001
        elif handler != connection._recv_pkthdr:  # noqa: SLF001 - it is busy, and keeps what comes
            return False
        elif connection._inpbuf:  # noqa: SLF001
            self._rest = bytes(connection._inpbuf)  # noqa: SLF001
            connection._inpbuf = b""  # noqa: SLF001
        return True

    def _cut(self, connection: Any, data: bytes) -> None:
        """Packet by packet."""
        self._rest = b""
        at, end = 0, len(data)
        view = memoryview(data)
        while end - at >= _BLOCK:
            size = int.from_bytes(data[at : at + 4], "big")
            if size > connection._max_recv_pktlen:  # noqa: SLF001
                connection.data_received(data[at:])  # it says what is wrong with that
                return
            stop = at + 4 + size + _TAG
            if stop > end:
                break
            if size < _BLOCK or not self._one(connection, data[at : at + 4], view[at + 4 : stop]):
                connection.data_received(data[at:stop])
                if connection._transport is None:  # noqa: SLF001 - it is over
                    return
                if not self._is_ready(connection) or self._rest:
                    rest, self._rest = self._rest, b""
                    connection.data_received(rest + data[stop:])
                    return
            at = stop
        self._rest = data[at:]

    def _one(self, connection: Any, header: bytes, sealed: memoryview) -> bool:
        """One packet of a channel's data: checked as asyncssh does it, handed to its channel. False: it is something else, or not as it should be."""
        cipher = connection._recv_encryption  # noqa: SLF001
        try:
            packet = cipher.open(cipher.nonce(), sealed, header)
        except InvalidTag:
            packet = b"\0\0"  # asyncssh: it is not what was sent
            cipher.ahead = b""
            return False
        padding, size = packet[0], int.from_bytes(packet[6:_HEAD], "big")
        channel = connection._channels.get(int.from_bytes(packet[2:6], "big")) if packet[1] == CHANNEL_DATA else None  # noqa: SLF001
        if (
            channel is None or padding < _MIN_PADDING or _HEAD + size + padding != len(packet) or type(channel) not in _PLAIN
            or not 0 < size <= channel._recv_window or channel._recv_state != "open" or channel._encoding  # noqa: SLF001
        ):  # fmt: skip
            cipher.ahead = packet
            return False
        connection._auth_final = True  # noqa: SLF001
        connection._recv_seq = (connection._recv_seq + 1) & _MAX_SEQUENCE  # noqa: SLF001
        if channel._send_state in {"close_pending", "closed"}:  # noqa: SLF001 - nobody wants it any more
            return True
        content = memoryview(packet)[_HEAD : _HEAD + size] if size > SMALL else packet[_HEAD : _HEAD + size]
        channel._recv_window -= size  # noqa: SLF001
        if channel._recv_paused:  # noqa: SLF001
            channel._recv_buf.append((content, None))  # noqa: SLF001
        elif channel._recv_window * 2 < channel._init_recv_window:  # noqa: SLF001 - the peer is to hear that it may send more
            channel._deliver_data(content, None)  # noqa: SLF001
        elif channel._session is not None:  # noqa: SLF001
            channel._session.data_received(content, None)  # noqa: SLF001
        return True


class Padding:
    """Random bytes, asked of the system for many packets at once."""

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """So many of them, never the same again."""
        if self._at + size > len(self._bytes):
            self._bytes, self._at = os.urandom(_RANDOM), 0
        self._at += size
        return self._bytes[self._at - size : self._at]


_padding: Final = Padding()


def write(channel: Any, data: bytes | memoryview) -> None:
    """What `channel.write(data)` does, in one step where nothing is in the way."""
    size = len(data)
    at = 0
    connection = channel._conn  # noqa: SLF001 - see above
    if connection is not None and channel._send_state == "open" and not channel._send_buf and not channel._encoding:  # noqa: SLF001
        sent: list[bytes] = []
        room = min(channel._send_window, size)  # noqa: SLF001
        while at < room and _may_send(connection):
            piece = min(room - at, channel._send_pktsize)  # noqa: SLF001
            if piece <= 0:
                break
            _seal(connection, channel._send_chan, data if piece == size else data[at : at + piece], sent)  # noqa: SLF001
            channel._send_window -= piece  # noqa: SLF001
            at += piece
        if len(sent) == 1:
            connection._send(sent[0])  # noqa: SLF001
        elif sent:
            connection._transport.writelines(sent)  # noqa: SLF001
    if at < size:
        channel.write(data[at:] if at else data)


def _may_send(connection: Any) -> bool:
    """Whether the next packet goes out at once, under the keys that are there."""
    return bool(
        connection._transport is not None and connection._auth_complete and connection._kex_complete  # noqa: SLF001
        and type(connection._send_encryption) is Gcm and connection._compressor is None  # noqa: SLF001
        and connection._rekey_bytes_sent < connection._rekey_bytes  # noqa: SLF001
        and not (connection._rekey_seconds and time.monotonic() >= connection._rekey_time)  # noqa: SLF001
    )  # fmt: skip


def _seal(connection: Any, number: int, data: bytes | memoryview, sent: list[bytes]) -> None:
    """Make a packet of it: RFC 4253, 6; RFC 5647, 7.2 (the length is not encrypted, and counts for no block)."""
    size = len(data)
    padding = -(_HEAD + size) % _BLOCK
    if padding < _MIN_PADDING:
        padding += _BLOCK
    length = _HEAD + size + padding
    head = bytes((padding, CHANNEL_DATA)) + number.to_bytes(4, "big") + size.to_bytes(4, "big")
    header = length.to_bytes(4, "big")
    cipher = connection._send_encryption  # noqa: SLF001
    sealed = cipher.seal(cipher.nonce(), b"".join((head, data, _padding.take(padding))), header)
    if size > SMALL:
        sent += (header, sealed)
    else:
        sent.append(header + sealed)
    connection._send_seq = (connection._send_seq + 1) & _MAX_SEQUENCE  # noqa: SLF001
    connection._rekey_bytes_sent += length  # noqa: SLF001
