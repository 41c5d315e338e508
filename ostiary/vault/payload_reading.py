"""The reading side of a payload stream: with the key, records; without it, the chain and the blobs.

Both walk the file chunk by chunk and hold one chunk beside the record that they put together.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.model.events import PayloadKind, PayloadRef, StreamHead
from ostiary.vault import payload_format as form
from ostiary.vault.keys import KeyEncryptionKey

_KINDS: Final = {kind.value: kind for kind in PayloadKind}
_HOLE: Final = bytes(16)
"""What a lost write leaves at least, and no ciphertext has in it (its chance is 2^-128 at each place)."""
_SECTOR: Final = 512
"""Bytes that a disk writes whole or not at all."""


class StreamHeader(msgspec.Struct, frozen=True):
    """What the header says in clear."""

    session: str
    key_id: str


class Record(msgspec.Struct, frozen=True):
    """One payload in clear."""

    number: int
    kind: PayloadKind
    entry: str
    """Id of the operation's intent (or deny) entry; empty: of the session itself."""
    t_us: int
    """Microseconds since the session began."""
    data: bytes
    ref: PayloadRef


class Gap(msgspec.Struct, frozen=True):
    """Something is missing here: the file ends in the middle, or before what the log knows of it."""

    chunk: int
    why: str


class Survey(msgspec.Struct, frozen=True):
    """What a file holds, told without a key."""

    header: StreamHeader
    head: StreamHead
    """Of the whole groups."""
    torn: int
    """Bytes after the last whole group."""


def read_header(path: str | Path) -> StreamHeader:
    """Read whose session a stream is and under which key. Raises `PayloadTampered`, `PayloadError`."""
    with _open(path) as file:
        return _header(file)[0]


def survey(path: str | Path) -> Survey:
    """Walk the file without a key: recovery learns the head of a session whose worker was killed.

    Raises `PayloadTampered` where a length is impossible; a torn end is told, not raised.
    """
    with _open(path) as file:
        header, _ = _header(file)
        head = form.first_head(form.uuid_bytes(header.session))
        size, chunks = form.HEADER.size, 0
        words, digest, pending = b"", hashlib.sha256(), 0
        for word, sealed in _chunks(file):
            if sealed is None:
                break
            digest.update(sealed)
            words += form.WORD.pack(word)
            pending += 4 + len(sealed)
            if not word & form.GOES_ON:
                head = form.next_head(head, words, digest.digest())
                chunks += len(words) // 4
                size += pending
                words, digest, pending = b"", hashlib.sha256(), 0
        total = os.fstat(file.fileno()).st_size
    return Survey(header, StreamHead(chunks, size, head.hex()), total - size)


def read_stream(path: str | Path, kek: KeyEncryptionKey, expected: StreamHead | None = None) -> Iterator[Record | Gap]:
    """Decrypt a stream, record by record, and check it on the way against the head that the log knows.

    Raises `WrongKey`, and `PayloadTampered` at the first chunk that is not what was written: what was yielded before
    it is genuine. A file that ends early yields a `Gap` as its last item.
    """
    with _open(path) as file:
        _, raw = _header(file)
        aead, session = _opened(raw, kek)
        yield from _records(file, aead, session, expected)


def follow_stream(path: str | Path, kek: KeyEncryptionKey, wait: Callable[[], bool]) -> Iterator[Record | Gap]:
    """Decrypt a stream that is still written, group by group as they come.

    Where nothing whole has come yet `wait` is called: it waits, and says whether to look again. Raises as `read_stream` does.
    """
    with _open(path) as file:
        _, raw = _header(file)
        aead, session = _opened(raw, kek)
        at, chunk, number, first = form.HEADER.size, 0, 0, 0
        plain, digest = bytearray(), hashlib.sha256()
        while True:
            file.seek(at)
            word, sealed = next(_chunks(file), (0, None))
            if sealed is None:
                if wait():
                    continue
                return
            at += 4 + len(sealed)
            plain += _unsealed(aead, session, chunk, word, sealed)
            digest.update(sealed)
            chunk += 1
            if word & form.GOES_ON:
                continue
            for record in _parse(plain, digest.hexdigest(), number, first):
                number += 1
                yield record
            plain, digest, first = bytearray(), hashlib.sha256(), chunk


def _opened(raw: bytes, kek: KeyEncryptionKey) -> tuple[AESGCM, bytes]:
    """What opens the chunks, and the session's id, from a header."""
    _, _, session, key_id, _ = form.HEADER.unpack(raw)
    if not any(raw[form.BOUND :]):
        raise form.PayloadError("this recording's key was destroyed: nobody can read it, and the log says who did it and why")
    if key_id.hex() != kek.id:
        raise form.PayloadError(f"this stream needs the key {key_id.hex()}; the one given is {kek.id}")
    return AESGCM(kek.unwrap(raw[form.BOUND :], raw[: form.BOUND])), session


def _unsealed(aead: AESGCM, session: bytes, chunk: int, word: int, sealed: bytes) -> bytes:
    try:
        return aead.decrypt(form.nonce(chunk), sealed, form.AAD.pack(session, chunk, bool(word & form.GOES_ON)))
    except InvalidTag:
        raise form.PayloadTampered(chunk, "does not open: changed, moved, or of another session") from None


def _records(file: BinaryIO, aead: AESGCM, session: bytes, expected: StreamHead | None) -> Iterator[Record | Gap]:
    head = form.first_head(session)
    chunk, number = 0, 0
    words, plain, digest, first = b"", bytearray(), hashlib.sha256(), 0
    for word, sealed in _chunks(file):
        if sealed is None:
            yield Gap(chunk, "the file ends in the middle of a chunk")
            break
        goes_on = bool(word & form.GOES_ON)
        try:
            plain += _unsealed(aead, session, chunk, word, sealed)
        except form.PayloadTampered:
            if not _is_cut(file, file.tell() - 4 - len(sealed), 4 + len(sealed)):
                raise
            yield Gap(chunk, "zeros stand where a part of a chunk was")
            break
        digest.update(sealed)
        words += form.WORD.pack(word)
        chunk += 1
        if goes_on:
            continue
        blob = digest.digest()
        head = form.next_head(head, words, blob)
        if expected is not None and chunk == expected.chunks and head.hex() != expected.head:
            raise form.PayloadTampered(first, "the chain up to here is not the one in the log")
        for record in _parse(plain, blob.hex(), number, first):
            number += 1
            yield record
        words, digest, first = b"", hashlib.sha256(), chunk
        plain.clear()
    else:
        if words:
            yield Gap(first, "the file ends in the middle of a group")
    if expected is not None and first < expected.chunks:
        yield Gap(first, f"the log knows {expected.chunks} chunks, the file holds {first} whole ones")


def _parse(plain: bytearray, blob: str, number: int, chunk: int) -> list[Record]:
    """All records of one whole group."""
    records: list[Record] = []
    at = 0
    while at < len(plain):
        if len(plain) - at < form.RECORD.size:
            raise form.PayloadTampered(chunk, "bytes are left over after the last record")
        kind, entry, t_us, salt, size = form.RECORD.unpack_from(plain, at)
        at += form.RECORD.size
        if kind not in _KINDS or size > len(plain) - at:
            raise form.PayloadTampered(chunk, "a record is malformed")
        data = bytes(plain[at : at + size])
        at += size
        ref = PayloadRef(blob, hmac.digest(salt, data, "sha256").hex(), size)
        records.append(Record(number + len(records), _KINDS[kind], form.uuid_text(entry), t_us, data, ref))
    return records


def _chunks(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """(length word, sealed bytes) one by one; (word, None) at last where the file ends in the middle, or a hole begins."""
    chunk = 0
    while raw := file.read(4):
        word = form.WORD.unpack(raw)[0] if len(raw) == 4 else 0
        size = word & ~form.GOES_ON
        if len(raw) < 4:
            yield 0, None
            return
        if not form.TAG_BYTES < size <= form.MAX_SEALED:
            if _is_cut(file, file.tell() - 4, 4):  # the zeros that a file system leaves after a power cut, whatever stands behind them
                yield 0, None
                return
            raise form.PayloadTampered(chunk, f"a chunk cannot be {size} bytes long")
        sealed = file.read(size)
        if len(sealed) < size or _HOLE in sealed:
            yield word, None
            return
        yield word, sealed
        chunk += 1


def _is_cut(file: BinaryIO, at: int, size: int) -> bool:
    """Whether a chunk that does not open, of `size` bytes at `at`, lies in a sector that never came to the disk with it, be its part of it too small for a hole."""
    file.seek(at)
    raw = file.read(size + len(_HOLE))
    edges = [0, *range(_SECTOR - at % _SECTOR, len(raw), _SECTOR), len(raw)]
    return any(not raw[start:end].strip(b"\0") for start, end in pairwise(edges) if start < size)


def _open(path: str | Path) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise form.PayloadError(f"there is no recording {Path(path).name}") from None
    except OSError as exc:
        raise form.PayloadError(f"the recording {Path(path).name} cannot be opened: {exc.strerror}") from None


def _header(file: BinaryIO) -> tuple[StreamHeader, bytes]:
    raw = file.read(form.HEADER.size)
    if len(raw) < form.HEADER.size:
        raise form.PayloadTampered(-1, "the file is too short for one")
    magic, version, session, key_id, _ = form.HEADER.unpack(raw)
    if magic != form.MAGIC:
        raise form.PayloadTampered(-1, "not a payload stream")
    if version != form.VERSION:
        raise form.PayloadTampered(-1, f"version {version} is not known here")
    return StreamHeader(form.uuid_text(session), key_id.hex()), raw
