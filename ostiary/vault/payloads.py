"""The writing side of a payload stream: `payload_format` says what the bytes are.

One call to `write` costs one encryption and one `write(2)` as long as its records fit a chunk. When it returns, the
bytes are with the kernel and survive a killed process; `sync` makes them survive a power cut. Bytes are acknowledged
(a reference is returned, the head moves on) only when they are written whole. After an error the file is cut
back to its last whole group where the disk lets us, and the stream takes nothing more.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.model.events import PayloadKind, PayloadRef, StreamHead
from ostiary.vault import payload_format as form
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.quotas import Allowance

Item = tuple[PayloadKind, str, int, bytes]
"""(kind, operation entry id, microseconds since the session began, bytes in clear)."""

DEFAULT_QUOTA: Final = 16 << 30
"""Bytes of file a session. Others stop recording at 110 MiB and go on; here the session ends instead."""
MAX_REMEMBERED: Final = 1024
MAX_REMEMBERED_BYTES: Final = 1 << 20
"""Statements kept in memory to store a repeated one once: how many, and how large together."""
LARGEST_REMEMBERED: Final = MAX_REMEMBERED_BYTES // 4
MAX_LOOSE: Final = 64 * 1024
"""Bytes that wait to be made durable in another file than the stream's own. More of them at once, and its own is synced."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MAX_PLAIN: Final = form.MAX_PLAIN
_RECORD: Final = form.RECORD.size
_PIECE: Final = _MAX_PLAIN - _RECORD
_SEAL: Final = form.WORD.size + form.TAG_BYTES
"""What a chunk takes in the file beside what it holds."""
_SALT: Final = 16
_SALTS: Final = 64
_MAX_LOOSE: Final = MAX_LOOSE
_STATEMENT: Final = PayloadKind.STATEMENT
_pack_record = form.RECORD.pack
_pack_aad = form.AAD.pack
_pack_nonce = form.NONCE.pack
_pack_word = form.WORD.pack


class PayloadStream:
    """One session's payloads. Used by one thread, save for `sync`, which may run in another."""

    def __init__(self, path: Path, fd: int, session: bytes, data_key: bytes, quota: int, allowance: Allowance | None) -> None:
        self.path = path
        self._fd = fd
        self._session = session
        self._aead = AESGCM(data_key)
        self._quota = quota
        """Bytes of file up to which nobody has to be asked."""
        self._allowance = allowance
        self._chunks = 0
        self._size = form.HEADER.size
        self._head = form.first_head(session)
        self._records = 0
        self.keeps_loose = False
        """Somebody will ask for what is `loose`. Set before the first write."""
        self._loose: list[bytes] = []
        self._loose_bytes = MAX_LOOSE + 1  # a new file is synced itself, and the folder with its name
        self._written = form.HEADER.size
        self._salts = b""
        self._salted = 0
        """How much of them is used."""
        self._known: dict[bytes, tuple[PayloadRef, int]] = {}
        self._known_bytes = 0
        self._again: list[tuple[bytes, int, int]] = []
        self._entry = ""
        """What was written of last, and as bytes: an answer follows its statement, one stretch another."""
        self._raw_entry = form.NO_ENTRY
        self._failure: form.StreamFailed | None = None
        self.trouble: form.PayloadError | None = None
        """Why something could not be kept: the session has to end."""
        self._folder_synced = False
        self._closing = threading.Lock()
        self._syncing = 0
        self._closed = False

    @classmethod
    def create(
        cls, path: str | Path, session_id: str, kek: KeyEncryptionKey, *, quota: int = DEFAULT_QUOTA, allowance: Allowance | None = None
    ) -> Self:
        """Begin a stream in a new file (mode 0600; an existing one is never touched).

        `quota` is in bytes of file, where there is no `allowance` to ask. Raises `StreamFailed`, `DiskFull`.
        """
        session = form.uuid_bytes(session_id)
        bound = form.HEADER.pack(form.MAGIC, form.VERSION, session, bytes.fromhex(kek.id), b"")[: form.BOUND]
        data_key = secrets.token_bytes(32)
        header = bound + kek.wrap(data_key, bound)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise _failure(exc) from None
        try:
            _write_all(fd, header)
        except OSError as exc:
            os.close(fd)
            Path(path).unlink(missing_ok=True)
            raise _failure(exc) from None
        return cls(Path(path), fd, session, data_key, quota if allowance is None else allowance.held, allowance)

    @property
    def head(self) -> StreamHead:
        """How far the stream has come: what the log says of it."""
        return StreamHead(self._chunks, self._size, self._head.hex())

    def write(self, items: list[Item]) -> list[PayloadRef]:
        """Store payloads, in order, and say where each is. A statement stored before is not stored again.

        All or nothing is acknowledged. Raises `QuotaReached` before anything is written; `StreamFailed` and
        `DiskFull` end the stream.
        """
        self._check_alive()
        refs: list[Any] = []
        fresh: list[int] = []
        seen: dict[bytes, int] = {}
        for at in range(len(items)):
            item = items[at]
            refs.append(None)
            if item[0] is _STATEMENT:
                data = item[3]
                known = self._known.get(data)
                if known is not None:
                    self._again.append((self._raw(item[1]), item[2], known[1]))
                    refs[at] = known[0]
                    continue
                if seen.setdefault(data, at) != at:
                    continue
            fresh.append(at)
        if fresh:
            self._write_fresh(items, fresh, refs)
        for at in range(len(items)):
            if refs[at] is None:  # the same statement twice in one call
                item = items[at]
                refs[at] = refs[seen[item[3]]]
                known = self._known.get(item[3])
                if known is not None:
                    self._again.append((self._raw(item[1]), item[2], known[1]))
        return refs

    def append(self, kind: PayloadKind, entry: str, t_us: int, data: bytes) -> None:
        """Store a stretch of a byte stream (results, COPY data), cut into records of a chunk each.

        No reference is made: the head covers it. Raises as `write` does.
        """
        self._check_alive()
        raw_entry = self._raw(entry)
        size = len(data)
        needed = size + _RECORD * (2 + size // _PIECE) + _SEAL * (1 + size // _PIECE) + self._size
        if needed > self._quota:
            self._ask(needed)
        view = memoryview(data) if size > _PIECE else data
        start = 0
        while True:
            piece = view[start : start + _PIECE] if size > _PIECE else data
            record = _pack_record(kind, raw_entry, t_us, self._salt(), len(piece)) + piece
            if self._again:
                self._flush_again(len(record))
                record = self._take_again() + record
            self._records += 1
            self._put_chunk(record)
            start += _PIECE
            if start >= size:
                break

    @property
    def session(self) -> bytes:
        """The session's id, 16 bytes."""
        return self._session

    def loose(self) -> Loose | None:
        """What was written since this was last asked; None: nothing. Whoever takes it makes it durable, or syncs the stream."""
        size = self._loose_bytes
        if not size:
            return None
        data = b"".join(self._loose) if size <= MAX_LOOSE else b""
        self._loose.clear()
        self._loose_bytes = 0
        return Loose(self, self._written - size, data)

    def sync(self) -> None:
        """Wait until all that was written before the call survives a power cut. May run in another thread.

        Raises `StreamFailed`: an fsync error is final.
        """
        with self._closing:
            self._check_alive()
            self._syncing += 1
        try:
            os.fdatasync(self._fd)
            if not self._folder_synced:
                _sync_folder(self.path.parent)
                self._folder_synced = True
        except OSError as exc:
            self.trouble = self._failure = _failure(exc)
            raise self._failure from None
        finally:
            with self._closing:
                self._syncing -= 1
                if self._closed and not self._syncing:
                    os.close(self._fd)

    def close(self) -> StreamHead:
        """End the stream; the head is then final. Closing twice is harmless."""
        if not self._closed:
            # The notes only ease reading; a failure stands for whoever writes next.
            with contextlib.suppress(form.PayloadError):
                if self._failure is None:
                    self._flush_again(form.MAX_PLAIN)
            with self._closing:
                self._closed = True
                if not self._syncing:  # else the syncing thread closes: a reused descriptor must not be synced
                    os.close(self._fd)
            if self._allowance is not None:
                self._allowance.settle(self._size)
        return self.head

    # --- inside ----------------------------------------------------------------

    def _ask(self, needed: int) -> None:
        """Ask for room for a file of so many bytes. Raises `QuotaReached`."""
        try:
            if self._allowance is None:
                raise form.QuotaReached(f"the session's recording reached its limit of {self._quota} bytes")  # noqa: TRY301
            self._quota = self._allowance.reach(needed)
        except form.QuotaReached as full:
            self.trouble = full
            raise

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise form.StreamFailed("the payload stream is closed")

    def _raw(self, entry: str) -> bytes:
        """An entry's id as bytes."""
        if entry != self._entry:
            self._raw_entry = form.uuid_bytes(entry)
            self._entry = entry
        return self._raw_entry

    def _write_fresh(self, items: list[Item], fresh: list[int], refs: list[Any]) -> None:
        heads: list[bytes] = []
        total = 0
        for at in fresh:
            item = items[at]
            data = item[3]
            if len(data) > form.MAX_RECORD:
                raise form.PayloadError(f"a payload of {len(data)} bytes is larger than any message can be")
            heads.append(_pack_record(item[0], self._raw(item[1]), item[2], self._salt(), len(data)))
            total += _RECORD + len(data)
        needed = self._size + total + _SEAL * (len(fresh) + total // _MAX_PLAIN + 1)
        if needed > self._quota:
            self._ask(needed)
        group: list[int] = []
        size = 0
        for number in range(len(fresh)):
            item = items[fresh[number]]
            data = item[3]
            more = _RECORD + len(data)
            if group and size + more > _MAX_PLAIN:
                self._put_records(items, fresh, heads, group, size, refs)
                group = []
                size = 0
            group.append(number)
            size += more
        self._put_records(items, fresh, heads, group, size, refs)

    def _put_records(
        self, items: list[Item], fresh: list[int], heads: list[bytes], group: list[int], size: int, refs: list[Any]
    ) -> None:
        """Write one group, of `size` bytes, and fill in the references of its records."""
        parts: list[bytes] = []
        if self._again:
            self._flush_again(size)
            parts.append(self._take_again())
        for number in group:
            item = items[fresh[number]]
            parts.append(heads[number])
            parts.append(item[3])
        blob = (self._put_chunk(b"".join(parts)) if size <= _MAX_PLAIN else self._put_group(_slices(parts))).hex()
        for number in group:
            at = fresh[number]
            item, head = items[at], heads[number]
            data = item[3]
            ref = PayloadRef(blob, hmac.digest(head[25:41], data, "sha256").hex(), len(data))
            refs[at] = ref
            if item[0] is _STATEMENT:
                self._remember(data, ref, self._records)
            self._records += 1

    def _remember(self, data: bytes, ref: PayloadRef, number: int) -> None:
        if len(data) > LARGEST_REMEMBERED:
            return
        if len(self._known) >= MAX_REMEMBERED or self._known_bytes + len(data) > MAX_REMEMBERED_BYTES:
            self._known.clear()  # a session that goes through this many statements repeats few of them
            self._known_bytes = 0
        self._known[data] = (ref, number)
        self._known_bytes += len(data)

    def _take_again(self) -> bytes:
        """The waiting notes about repeated statements, as records that go out with the next group."""
        if not self._again:
            return b""
        notes = b"".join(
            _pack_record(PayloadKind.AGAIN, entry, t_us, form.NO_ENTRY, 8) + number.to_bytes(8, "little")
            for entry, t_us, number in self._again
        )
        self._records += len(self._again)
        self._again.clear()
        return notes

    def _flush_again(self, beside: int) -> None:
        """Write the waiting notes by themselves if they do not fit a chunk beside `beside` bytes."""
        each = form.RECORD.size + 8
        while self._again and len(self._again) * each + beside > form.MAX_PLAIN:
            rest = self._again[form.MAX_PLAIN // each :]
            del self._again[form.MAX_PLAIN // each :]
            self._put_chunk(self._take_again())
            self._again = rest

    def _salt(self) -> bytes:
        start = self._salted
        if start == len(self._salts):
            self._salts = secrets.token_bytes(_SALT * _SALTS)
            start = 0
        self._salted = start + _SALT
        return self._salts[start : start + _SALT]

    def _put_chunk(self, plain: bytes) -> bytes:
        """Seal and write a group of one chunk; returns its blob."""
        chunk = self._chunks
        sealed: bytes = self._aead.encrypt(_pack_nonce(chunk, 0), plain, _pack_aad(self._session, chunk, 0))
        word = _pack_word(len(sealed))
        self._put_bytes(word + sealed)
        blob = hashlib.sha256(sealed).digest()
        self._head = form.next_head(self._head, word, blob)
        self._chunks = chunk + 1
        self._size += len(word) + len(sealed)
        return blob

    def _put_group(self, plains: Iterable[bytes]) -> bytes:
        """Seal and write a group of any number of chunks. The head moves only when all of it is written."""
        digest = hashlib.sha256()
        words = b""
        chunk, size = self._chunks, self._size
        pending = iter(plains)
        plain: bytes | None = next(pending)
        while plain is not None:
            following = next(pending, None)
            goes_on = following is not None
            sealed = self._aead.encrypt(form.nonce(chunk), plain, _pack_aad(self._session, chunk, goes_on))
            word = _pack_word(len(sealed) | form.GOES_ON if goes_on else len(sealed))
            digest.update(sealed)
            words += word
            self._put_bytes(word + sealed)
            chunk += 1
            size += 4 + len(sealed)
            plain = following
        blob = digest.digest()
        self._head = form.next_head(self._head, words, blob)
        self._chunks, self._size = chunk, size
        return blob

    def _put_bytes(self, data: bytes) -> None:
        try:
            _write_all(self._fd, data)
        except OSError as exc:
            self.trouble = self._failure = _failure(exc)
            with contextlib.suppress(OSError):  # a reader reports what is left of the group as a gap
                os.ftruncate(self._fd, self._size)
            raise self._failure from None
        if self.keeps_loose:
            self._written += len(data)
            self._loose_bytes += len(data)
            if self._loose_bytes <= _MAX_LOOSE:
                self._loose.append(data)
            else:
                self._loose.clear()


class Loose(NamedTuple):
    """What a stream was given, and may be on no disk yet."""

    stream: PayloadStream
    at: int
    """Where it stands in the stream's file."""
    data: bytes
    """Empty: the file itself has to be synced."""


def _slices(parts: list[bytes]) -> Iterator[bytes]:
    """Cut `parts`, put together, into stretches of a chunk each, copying no more than one at a time."""
    held = bytearray()
    for part in parts:
        view = memoryview(part)
        while view:
            taken = view[: form.MAX_PLAIN - len(held)]
            held += taken
            view = view[len(taken) :]
            if len(held) == form.MAX_PLAIN:
                yield bytes(held)
                held.clear()
    if held:
        yield bytes(held)


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):  # a short write is how a full disk begins; the next one names the cause
        written += os.write(fd, memoryview(data)[written:])


def _failure(exc: OSError) -> form.StreamFailed:
    if exc.errno in _NO_ROOM:
        return form.DiskFull(f"no room for the session's recording: {exc.strerror}")
    return form.StreamFailed(f"the session's recording cannot be written: {exc.strerror}")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
