"""Bodies that are signed as they stream: `aws-chunked` (Amazon S3, "Signature calculations: transferring payload in multiple chunks").

    size;chunk-signature=… CRLF data CRLF … 0;chunk-signature=… CRLF [trailers, and their signature] CRLF

Each chunk's signature covers the one before, so a chunk is held until it is whole and verified, and none is passed on before that.
With `STREAMING-UNSIGNED-PAYLOAD-TRAILER` chunks carry no signature; a checksum behind them covers the whole.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable
from typing import Any, Final

import google_crc32c

from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.protocols.aws.sigv4 import EMPTY_HASH, Signed

MAX_CHUNK: Final = 16 << 20
"""Bytes of a signed chunk, which has to be held whole. SDKs send 64 KiB to 1 MiB."""
MAX_LINE: Final = 512
MAX_TRAILER: Final = 2048
CHECKSUMS: Final = {
    "x-amz-checksum-crc32": 8, "x-amz-checksum-crc32c": 8, "x-amz-checksum-crc64nvme": 12, "x-amz-checksum-sha1": 28,
    "x-amz-checksum-sha256": 44,
}  # fmt: skip
"""Trailers that S3 takes, and how long each is in base64."""

_SIGNED_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,12});chunk-signature=([0-9a-f]{64})\r\n")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,12})\r\n")
_TRAILER: Final = re.compile(rb"([a-z0-9-]{1,64}):([A-Za-z0-9+/=]{1,128})")


class ChunkReader:
    """Takes the content out of an `aws-chunked` body, and verifies it. Feed it until `is_done`."""

    def __init__(self, signed: Signed, key: bytes, trailer: str) -> None:
        """`key`: the day's signing key; `trailer`: the header that `x-amz-trailer` announces, empty: none."""
        self._signs = b"-HMAC-" in signed.payload
        self._key = key
        self._previous = signed.signature
        self._at, self._scope = signed.at, signed.scope
        self._announced = trailer
        self._held = bytearray()
        self._state = "size"
        self._left = 0
        self._signature = ""
        self._sum = Checksum(trailer)
        self.trailer: tuple[str, str] | None = None
        """The checksum behind the content, as it was sent."""
        self.is_done = False
        self.size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Verified pieces of content. Raises `PeerMisbehaved`."""
        if self.is_done and data:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "bytes behind the last chunk")
        self._held += data
        pieces: list[bytes] = []
        steps: dict[str, Callable[[list[bytes]], bool]] = {"size": self._size, "data": self._data, "end": self._end}
        while not self.is_done and steps[self._state](pieces):
            pass
        for piece in pieces:
            self.size += len(piece)
            self._sum.update(piece)
        if self.is_done:
            if self._held:
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "bytes behind the last chunk")
            self._check_sum()
        return pieces

    def close(self) -> None:
        """No more comes. Raises `PeerMisbehaved` if the body is not whole."""
        if not self.is_done:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "the chunks end too early")

    def _size(self, _: list[bytes]) -> bool:
        end = self._held.find(b"\n", 0, MAX_LINE)
        if end < 0:
            if len(self._held) >= MAX_LINE:
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "the head of a signed chunk")
            return False
        found = (_SIGNED_SIZE if self._signs else _SIZE).fullmatch(self._held, 0, end + 1)
        if found is None:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "the head of a signed chunk")
        self._left = int(found[1], 16)
        self._signature = found[2].decode() if self._signs else ""
        del self._held[: end + 1]
        if self._left > MAX_CHUNK and self._signs:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"a signed chunk of more than {MAX_CHUNK >> 20} MiB")
        self._state = "data" if self._left else "end"
        if not self._left:
            self._verify(b"")
        return True

    def _data(self, pieces: list[bytes]) -> bool:
        if self._signs:
            if len(self._held) < self._left + 2:
                return False
            piece = bytes(self._held[: self._left])
            self._verify(piece)
        else:
            piece = bytes(self._held[: self._left])
        del self._held[: len(piece)]
        self._left -= len(piece)
        if piece:
            pieces.append(piece)
        if self._left or len(self._held) < 2:
            return False
        if self._held[:2] != b"\r\n":
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a signed chunk is longer than it says")
        del self._held[:2]
        self._state = "size"
        return True

    def _end(self, _: list[bytes]) -> bool:
        """What stands behind the last chunk: nothing, or one checksum and its signature, and a blank line."""
        if not self._announced:
            if len(self._held) < 2:
                return False
            if self._held[:2] != b"\r\n":
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "a trailer that was not announced")
            del self._held[:2]
            self.is_done = True
            return True
        end = self._held.find(b"\r\n\r\n", 0, MAX_TRAILER)
        if end < 0:
            if len(self._held) >= MAX_TRAILER:
                raise PeerMisbehaved(Misdeed.BAD_LENGTH, "the trailers of a signed body")
            return False
        lines = [_TRAILER.fullmatch(line) for line in bytes(self._held[:end]).replace(b"\n\r\n", b"\r\n").split(b"\r\n")]
        del self._held[: end + 4]
        found = {line[1].decode(): line[2].decode() for line in lines if line is not None}
        wanted = {self._announced} | ({"x-amz-trailer-signature"} if self._signs else set())
        if set(found) != wanted or len(lines) != len(wanted):
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "the trailers are not those that were announced")
        if len(found[self._announced]) != CHECKSUMS[self._announced]:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "the checksum behind the body is not as long as one of its kind")
        self.trailer = (self._announced, found[self._announced])
        if self._signs:
            said = f"{self._announced}:{found[self._announced]}\n"
            self._signature = found["x-amz-trailer-signature"]
            self._compare("AWS4-HMAC-SHA256-TRAILER", [hashlib.sha256(said.encode()).hexdigest()])
        self.is_done = True
        return True

    def _verify(self, piece: bytes) -> None:
        if self._signs:
            self._compare("AWS4-HMAC-SHA256-PAYLOAD", [EMPTY_HASH, hashlib.sha256(piece).hexdigest()])

    def _compare(self, word: str, hashes: list[str]) -> None:
        text = "\n".join([word, self._at, self._scope, self._previous, *hashes])
        made = hmac.digest(self._key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(made, self._signature):
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "a chunk's signature does not fit")
        self._previous = made

    def _check_sum(self) -> None:
        made = self._sum.value()
        if self.trailer is not None and made is not None and made != self.trailer[1]:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "the checksum behind the body does not fit it")


class Checksum:
    """A checksum of S3's over content that streams; one that is not known here is S3's to check."""

    def __init__(self, name: str) -> None:
        self._kind = name.rpartition("-")[2]
        self._crc = 0
        self._hash: Any = hashlib.new(self._kind) if self._kind in ("sha1", "sha256") else None

    def update(self, piece: bytes) -> None:
        """Take content in."""
        if self._hash is not None:
            self._hash.update(piece)
        elif self._kind == "crc32":
            self._crc = zlib.crc32(piece, self._crc)
        elif self._kind == "crc32c":
            self._crc = google_crc32c.extend(self._crc, piece)

    def value(self) -> str | None:
        """In base64, as it is sent; None: not known here."""
        if self._hash is not None:
            return base64.b64encode(self._hash.digest()).decode()
        if self._kind in ("crc32", "crc32c"):
            return base64.b64encode(self._crc.to_bytes(4, "big")).decode()
        return None
