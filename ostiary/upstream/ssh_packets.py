"""Packets of channel data, to and from asyncssh's connections, in one step each: what flows and what is typed are hardly anything else.

asyncssh takes a packet through some thirty calls in either direction. Here the one kind of packet that comes often is cut out of what was read, decrypted, checked as asyncssh
checks it, and handed to its channel; or written, padded, encrypted and sent. Everything else, and every packet that is not exactly as it should be, goes to asyncssh as it came: it
decides, it counts, it ends the connection. So there is one state (sequence numbers, windows, rekeying), asyncssh's own, and what is ready for the short way is asked of it before each packet.

What was decrypted to be looked at is not decrypted twice: the cipher keeps it for asyncssh (`Gcm.ahead`). Beside data, a window that is made larger is taken on the short way: where
much flows, that is what its receiver sends.

asyncssh's attributes are read from its objects' dictionaries: what is typed comes to a processor that has done other things meanwhile, so what counts is how much of the memory a packet touches.

The cipher is AES-GCM of RFC 5647 with one object for each key, where asyncssh makes one for each packet.
"""

from __future__ import annotations

import os
import struct
from time import monotonic
from typing import Any, Final, Self, cast

from asyncssh import DisconnectError
from asyncssh.channel import SSHClientChannel, SSHServerChannel, SSHTCPChannel, SSHUNIXChannel
from asyncssh.encryption import register_encryption_alg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SMALL: Final = 4096
"""Bytes of a packet that may be copied a few times."""
CHANNEL_DATA: Final = 94
"""RFC 4254, 5.2: SSH_MSG_CHANNEL_DATA."""
WINDOW_ADJUST: Final = 93
"""The same: SSH_MSG_CHANNEL_WINDOW_ADJUST."""
_TAG: Final = 16
_BLOCK: Final = 16
_HEAD: Final = 10
"""Bytes of a packet in front of a channel's data: length of the padding, kind, channel, length (RFC 4253, 6; RFC 4254, 5.2)."""
_MIN_PADDING: Final = 4
_LAST: Final = 0xFFFFFFFFFFFFFFFF
_MAX_SEQUENCE: Final = 0xFFFFFFFF
_RANDOM: Final = 4096
"""Bytes of padding that are asked of the system at once."""
_STIR_SECONDS: Final = 1.0
"""How often what comes is told to the timer that looks whether anything does (`keepalive_interval`)."""
_PLAIN: Final = frozenset({SSHClientChannel, SSHServerChannel, SSHTCPChannel, SSHUNIXChannel})
"""Channels that hand on data as it is. A subclass may do something with it first."""
_CLOSED: Final = frozenset({"close_pending", "closed"})
_HEARS: Final = frozenset({"open", "eof_pending", "eof"})
"""States of what a side sends in which it may still make the other's window larger."""
_pack_head: Final = struct.Struct(">BBII").pack
_pack_nonce: Final = struct.Struct(">4sQ").pack
_pack_word: Final = struct.Struct(">I").pack
_words_at: Final = struct.Struct(">II").unpack_from
_word_at: Final = struct.Struct(">I").unpack_from


class Gcm:
    """RFC 5647, 7: the length in clear and bound to the packet, a counter of packets in the nonce. It is what `asyncssh.encryption.GCMEncryption` is."""

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

    @classmethod
    def needs_mac(cls) -> bool:
        """It has a tag of its own."""
        return False

    @classmethod
    def get_mac_params(cls, mac_alg: bytes) -> tuple[int, int, bool]:
        """Bytes of a MAC's key, bytes behind a packet, and that the length is in clear."""
        del mac_alg
        return 0, _TAG, True

    def nonce(self) -> bytes:
        """Of the next packet; it is not used again."""
        count = self._count
        self._count = 0 if count == _LAST else count + 1
        return _pack_nonce(self._fixed, count)

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """A packet as it goes out, its tag behind it."""
        del seq
        return header + self.seal(self.nonce(), packet, header), b""

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """It is in clear."""
        del seq
        return first_block, first_block[:header_len]

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
    register_encryption_alg(f"{_name}@openssh.com".encode(), cast(Any, Gcm), _name, default=False)


class Incoming:
    """What comes on a connection."""

    __slots__ = ("_cipher", "_connection", "_is_clean", "_rest", "_state", "_stirred_at")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._state: dict[str, Any] = connection.__dict__
        self._rest = b""
        """The beginning of a packet."""
        self._is_clean = False
        """asyncssh was looked at since it read last, and a packet begins here. Its reading alone changes keys, and what it waits for."""
        self._cipher: Gcm | None = None
        self._stirred_at = 0.0

    def take(self, data: bytes) -> bool:
        """Take in what was read. False: that is asyncssh's to do now, and nothing was done."""
        connection = self._connection
        if not (self._is_clean and self._state["_transport"] is not None) and not self._is_ready():
            if self._rest:
                rest, self._rest = self._rest, b""
                connection.data_received(rest + data)
                return True
            return False
        now = monotonic()
        if now - self._stirred_at > _STIR_SECONDS:
            self._stirred_at = now
            connection._reset_keepalive_timer()  # noqa: SLF001 - see above
        try:
            self._cut(data)
        except DisconnectError as exc:  # as asyncssh ends it
            connection._send_disconnect(exc.code, exc.reason, exc.lang)  # noqa: SLF001
            connection._force_close(exc)  # noqa: SLF001
        except Exception:  # noqa: BLE001 - a fault of ours or of the peer's: the connection ends, as with asyncssh
            connection.internal_error()
        return True

    def _is_ready(self) -> bool:
        """Whether a packet begins here, and packets are what they are once somebody is in."""
        connection = self._connection
        self._is_clean = False
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
        self._cipher = connection._recv_encryption  # noqa: SLF001
        self._is_clean = True
        return True

    def _cut(self, data: bytes) -> None:
        """Packet by packet."""
        rest, self._rest = self._rest, b""
        if not rest:
            self._packets(data, 0)
            return
        missing = 4 + int(_word_at(rest)[0]) + _TAG - len(rest) if len(rest) >= 4 else 0
        if not 0 < missing < len(data):
            self._packets(rest + data, 0)
        elif self._packets(rest + data[:missing], 0):  # the packet that lies across both; nothing else is copied
            self._packets(data, missing)
        elif self._state["_transport"] is not None:
            self._connection.data_received(data[missing:])

    def _packets(self, data: bytes, at: int) -> bool:
        """Take the whole packets that begin at `at`; the beginning of another waits for its end. False: asyncssh has what followed, or it is over."""
        connection = self._connection
        end = len(data)
        view = memoryview(data)
        while end - at >= _BLOCK:
            size = int(_word_at(data, at)[0])
            stop = at + 4 + size + _TAG
            if size > connection._max_recv_pktlen:  # noqa: SLF001
                self._is_clean = False
                connection.data_received(data[at:])  # it says what is wrong with that
                return False
            if stop > end:
                break
            if size < _BLOCK or not self._one(data[at : at + 4], view[at + 4 : stop]):
                self._is_clean = False
                connection.data_received(data[at:stop])
                if connection._transport is None:  # noqa: SLF001 - it is over
                    return False
                if not self._is_ready() or self._rest:
                    rest, self._rest = self._rest, b""
                    self._is_clean = False
                    connection.data_received(rest + data[stop:])
                    return False
            at = stop
        self._rest = data[at:] if at else data
        return True

    def _one(self, header: bytes, sealed: memoryview) -> bool:
        """One packet, if it is of those that come often: checked as asyncssh does it, handed to its channel. False: it is something else, or not as it should be."""
        cipher = self._cipher
        if cipher is None:
            return False
        try:
            packet = cipher.open(cipher.nonce(), sealed, header)
        except InvalidTag:
            cipher.ahead = b""  # asyncssh: it is not what was sent
            return False
        kind, padding = packet[1], packet[0]
        number, size = _words_at(packet, 2)
        if kind == CHANNEL_DATA and padding >= _MIN_PADDING and _HEAD + size + padding == len(packet) and self._data(packet, number, size):
            return True
        if kind == WINDOW_ADJUST and padding >= _MIN_PADDING and _HEAD + padding == len(packet) and self._adjusted(number, size):
            return True
        cipher.ahead = packet
        return False

    def _counted(self) -> None:
        """The packet is taken."""
        state = self._state
        state["_auth_final"] = True
        state["_recv_seq"] = (state["_recv_seq"] + 1) & _MAX_SEQUENCE

    def _data(self, packet: bytes, number: int, size: int) -> bool:
        channel = self._state["_channels"].get(number)
        if type(channel) not in _PLAIN:
            return False
        known: dict[str, Any] = channel.__dict__
        window = known["_recv_window"]
        if not 0 < size <= window or known["_recv_state"] != "open" or known["_encoding"]:
            return False
        self._counted()
        if known["_send_state"] in _CLOSED:  # nobody wants it any more
            return True
        content = memoryview(packet)[_HEAD : _HEAD + size] if size > SMALL else packet[_HEAD : _HEAD + size]
        window -= size
        known["_recv_window"] = window
        if known["_recv_paused"]:
            known["_recv_buf"].append((content, None))
        elif window * 2 < known["_init_recv_window"]:  # the peer is to hear that it may send more
            channel._deliver_data(content, None)  # noqa: SLF001
        elif (session := known["_session"]) is not None:
            session.data_received(content, None)
        return True

    def _adjusted(self, number: int, size: int) -> bool:
        channel = self._state["_channels"].get(number)
        if type(channel) not in _PLAIN:
            return False
        known: dict[str, Any] = channel.__dict__
        if known["_recv_state"] not in _HEARS:
            return False
        self._counted()
        known["_send_window"] += size
        if known["_send_buf"] or known["_send_paused"] or known["_send_state"] != "open":
            channel._flush_send_buf()  # noqa: SLF001
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
    """What `channel.write(data)` does, in one step where nothing is in the way. On a channel that has its end of output already, or is closed, nothing can follow."""
    write_all(channel, [data])


def write_all(channel: Any, pieces: list[bytes | memoryview]) -> None:
    """Write all of these, one behind the other, in as few packets as it takes."""
    size = 0
    for each in pieces:
        size += len(each)
    at = 0
    known: dict[str, Any] = channel.__dict__
    connection = known.get("_conn")
    if connection is not None and known["_send_state"] == "open" and not known["_send_buf"] and not known["_encoding"]:
        state: dict[str, Any] = connection.__dict__
        number, room, most = known["_send_chan"], min(known["_send_window"], size), known["_send_pktsize"]
        sent: list[bytes] = []
        while at < room and most > 0 and _may_send(state):
            part = min(room - at, most)
            _seal(state, number, part, pieces if part == size else _cut_off(pieces, part), sent)
            at += part
        known["_send_window"] -= at
        if len(sent) == 1:
            connection._send(sent[0])  # noqa: SLF001 - see above
        elif sent:
            state["_transport"].writelines(sent)
        if at == size:
            return
    if not channel.is_closing():
        for each in pieces:
            channel.write(each)


def _cut_off(pieces: list[bytes | memoryview], size: int) -> list[bytes | memoryview]:
    """Take so many bytes off the front of these, which hold as many."""
    found: list[bytes | memoryview] = []
    while size:
        first = pieces[0]
        length = len(first)
        if length <= size:
            found.append(first)
            del pieces[0]
        else:
            view = memoryview(first)
            found.append(view[:size])
            pieces[0] = view[size:]
            length = size
        size -= length
    return found


def _may_send(state: dict[str, Any]) -> bool:
    """Whether the next packet goes out at once, under the keys that are there."""
    return bool(
        state["_transport"] is not None and state["_auth_complete"] and state["_kex_complete"]
        and type(state["_send_encryption"]) is Gcm and state["_compressor"] is None
        and state["_rekey_bytes_sent"] < state["_rekey_bytes"]
        and not (state["_rekey_seconds"] and monotonic() >= state["_rekey_time"])
    )  # fmt: skip


def _seal(state: dict[str, Any], number: int, size: int, pieces: list[bytes | memoryview], sent: list[bytes]) -> None:
    """Make a packet of them: RFC 4253, 6; RFC 5647, 7.2 (the length is not encrypted, and counts for no block)."""
    padding = -(_HEAD + size) % _BLOCK
    if padding < _MIN_PADDING:
        padding += _BLOCK
    length = _HEAD + size + padding
    header = _pack_word(length)
    cipher = state["_send_encryption"]
    packet = b"".join((_pack_head(padding, CHANNEL_DATA, number, size), *pieces, _padding.take(padding)))
    sealed = cipher.seal(cipher.nonce(), packet, header)
    if size > SMALL:
        sent += (header, sealed)
    else:
        sent.append(header + sealed)
    state["_send_seq"] = (state["_send_seq"] + 1) & _MAX_SEQUENCE
    state["_rekey_bytes_sent"] += length
