"""What comes back on a channel, cut into stretches that masking can judge.

A byte stream arrives in pieces that end anywhere, and a card number may lie across two of them. So the end of a piece is held back
for as long as it could be the beginning of a match, and no longer: a run of letters, digits and marks at the very end
(`held_from`), at most `MAX_HELD` bytes; a prompt that ends with a space goes out at once.

When nothing follows for a moment, the driver asks for what is held (`flush`). Then goes out what could not yet be sensitive (up to
15 characters of a word, up to three digits) and what the client has typed itself a moment ago, since its own echo tells it nothing.
What has gone stays in sight as context, so a match that is completed later is starred from there on. Somebody who makes the target
print a value letter by letter, with pauses, sees that much of its beginning, and no more.

A private key is starred from its first line on: as long as it is open, its beginning is kept as context.
"""

from __future__ import annotations

import re
from typing import Final

from ostiary.model.proofs import Batch, Content
from ostiary.protocols.ssh.messages import data_head

MAX_HELD: Final = 1024
"""Bytes: longer than any address (RFC 5321: 64 + 1 + 255) and any token of `ostiary.kernel.detect` but keys."""
MAX_CONTEXT: Final = 16 * 1024
"""Bytes of an open private key that are kept in sight. RSA with 16,384 bits takes 12.5 KB."""
SHORT_WORD: Final = 15
SHORT_NUMBER: Final = 3
_RUN: Final = re.compile(rb"[A-Za-z0-9_+/\-.%'&@=\x80-\xff]{1,1024}\Z")
_DIGITED: Final = rb"[A-Za-z]{0,3}[0-9][A-Za-z0-9]{0,33}"
_GROUPS: Final = re.compile(
    rb"(?<![A-Za-z0-9])"
    + _DIGITED
    + rb"(?:[ -](?:"
    + _DIGITED
    + rb"|[A-Za-z0-9]{4})){0,255}(?:[ -][A-Za-z0-9]{0,4})? ?\Z"
)
"""Groups with digits, or of four: as cards, social security numbers and IBANs have them."""
_ENDED: Final = re.compile(rb"-----END [^-\n]{0,64}-----")
_BEGIN: Final = b"-----BEGIN "
_TYPED: Final = 128


def held_from(data: bytes) -> int:
    """Index from which the end of `data` could be the beginning of a match: a word, or groups of digits."""
    start = len(data)
    run = _RUN.search(data, max(0, start - MAX_HELD))
    if run is not None:
        start = run.start()
    groups = _GROUPS.search(data, max(0, len(data) - MAX_HELD))
    if groups is not None:
        start = min(start, groups.start())
    begin = data.rfind(_BEGIN, max(0, len(data) - 64))
    if begin >= 0 and data.find(b"\n", begin) < 0:
        start = min(start, begin)  # what it begins is not said yet
    return start


class Stretch:
    """One stream of a channel (stdout, stderr), on its way to masking."""

    def __init__(self, code: int, classes: tuple[str, ...], *, detects: bool) -> None:
        """`classes`: what is read is protected as these, so it is withheld whole."""
        self._code = code
        self._classes = classes
        self._detects = detects
        self._context = b""
        self._held = b""

    @property
    def is_holding(self) -> bool:
        """Whether something waits for what follows."""
        return bool(self._held)

    def feed(self, data: bytes) -> Batch | None:
        """Take in what came; what of it, and of what was held, can go."""
        if self._classes or not self._detects:
            return self._whole(data)
        buffer = self._context + self._held + data
        sent = len(self._context)
        start = held_from(buffer)
        begin = buffer.rfind(_BEGIN, 0, start)
        if begin >= 0 and (ended := _ENDED.search(buffer, begin)) is not None and ended.end() > start:
            start = ended.end()  # the last line of a key is no beginning of anything
        return self._release(buffer, sent, max(sent, start), start)

    def flush(self, typed: bytes) -> Batch | None:
        """Nothing came for a moment: what of the held bytes can go all the same. `typed`: what the client sent last."""
        held = self._held
        if not held:
            return None
        buffer = self._context + held
        sent = len(self._context)
        if len(held) <= _TYPED and held in typed:
            return self._release(buffer, sent, len(buffer), held_from(buffer))
        start = held_from(buffer)
        if b"@" in buffer[start:] or buffer.find(_BEGIN, start) >= 0:
            return None
        limit = SHORT_NUMBER if re.search(rb"[0-9]", buffer[start:]) else SHORT_WORD
        return self._release(buffer, sent, max(sent, min(len(buffer), start + limit)), start)

    def end(self) -> Batch | None:
        """Nothing follows: all that is held goes, masked."""
        buffer = self._context + self._held
        return self._release(buffer, len(self._context), len(buffer), len(buffer))

    def _whole(self, data: bytes) -> Batch | None:
        if not data:
            return None
        head = data_head(len(data), self._code)
        if self._classes:
            return Batch(data, Content.WITHHELD, None, 0, False, head, None, self._classes[0])
        return Batch(head + data, Content.FILE, None, 0, False)

    def _release(self, buffer: bytes, sent: int, safe: int, keep_from: int) -> Batch | None:
        """Let go of `buffer[sent:safe]`; what stands from `keep_from` on stays in sight."""
        begin = buffer.rfind(_BEGIN)
        keep = min(keep_from, safe)
        if begin >= 0 and _ENDED.search(buffer, begin) is None and safe - begin <= MAX_CONTEXT:
            keep = min(begin, keep)
        self._context, self._held = buffer[keep:safe], buffer[safe:]
        if safe == sent:
            return None
        return Batch(buffer, Content.STRETCH, None, 0, False, data_head(safe - sent, self._code), (sent, safe))
