"""What comes back on a channel, cut into stretches that masking can judge.

A byte stream arrives in pieces that end anywhere, and a card number may lie across two of them. So the end of a piece is held back
for as long as it could be the beginning of a match, and no longer: a run of letters, digits and marks at the very end
(`held_from`), at most `MAX_HELD` bytes; a prompt that ends with a space goes out at once.

What the client has typed itself a moment ago goes out at once, since its own echo tells it nothing. When nothing follows for a moment, the driver asks
for what is held (`flush`). Then goes out what could not yet be sensitive (up to 15 characters of a word, up to three digits).
What has gone stays in sight as context, so a match that is completed later is starred from there on. Somebody who makes the target
print a value letter by letter, with pauses, sees that much of its beginning, and no more.

Where the operator looks for patterns of their own, the whole of the last line is held and stays in sight, as far as `MAX_HELD` goes;
when nothing follows, the same goes out as else. A pattern that spans lines is found where both come at once.

A private key is starred from its first line on, and a JWT from its header on: as long as one is open, its beginning is kept as context.
"""

from __future__ import annotations

import re
from typing import Final

from ostiary.model.proofs import Batch, Content
from ostiary.protocols.ssh.messages import data_head

MAX_HELD: Final = 1024
"""Bytes: longer than any address (RFC 5321: 64 + 1 + 255) and any token of `ostiary.kernel.detect` but keys and JWTs."""
MAX_CONTEXT: Final = 16 * 1024
"""Bytes of an open private key, or JWT, that are kept in sight. RSA with 16,384 bits takes 12.5 KB."""
SHORT_WORD: Final = 15
SHORT_NUMBER: Final = 3
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_GROUPED: Final = _LETTERS + b"0123456789 -"
_WORD: Final = _LETTERS + b"0123456789_+/-.%'&@=" + bytes(range(0x80, 0x100))
_MAX_PREFIX: Final = 3
_MAX_REST: Final = 34
"""Of a group with digits: letters in front of the first digit, and characters from it on (an IBAN without spaces has 2 and 32)."""
_FOUR: Final = 4
_MAX_GROUPS: Final = 256
_ENDED: Final = re.compile(rb"-----END [^-\n]{0,64}-----")
_BEGIN: Final = b"-----BEGIN "
_JWT: Final = b"eyJ"
"""How a JWT begins: base64url of `{"` (RFC 7519)."""
_TOKEN: Final = _LETTERS + b"0123456789_-."
_TYPED: Final = 128


def _is_digited(word: bytes) -> bool:
    rest = word.lstrip(_LETTERS)
    return len(word) - len(rest) <= _MAX_PREFIX and 0 < len(rest) <= _MAX_REST


def _groups_from(data: bytes, first: int) -> int:
    """Index from which `data` ends in groups with digits, or of four, as cards, social security numbers and IBANs have them; its length if in none.

    `data[first:]` is letters, digits, spaces and hyphens. One space or hyphen stands between two groups; the first has a digit; up to four
    characters of one that is not complete may stand at the end, and a space behind all. Each word is looked at once, from the end on:
    no expression that tries one way after another, as what is read is the target's to choose.
    """
    words = data[first:].removesuffix(b" ").replace(b"-", b" ").split(b" ")
    at = len(data) - data.endswith(b" ", first) + 1
    found = len(data)
    limit = _MAX_GROUPS + (len(words[-1]) <= _FOUR)
    for back, word in enumerate(reversed(words[-limit:])):
        is_digited = _is_digited(word)
        if not is_digited and len(word) != _FOUR and not (back == 0 and len(word) < _FOUR):
            break
        at -= len(word) + 1
        if is_digited and not (at == first and data[first - 1 : first].isalnum()):
            found = at
    return found


def held_from(data: bytes) -> int:
    """Index from which the end of `data` could be the beginning of a match: a word, or groups of digits."""
    newest = max(0, len(data) - MAX_HELD)
    tail = data[newest:]
    start = newest + len(tail.rstrip(_WORD))
    grouped = newest + len(tail.rstrip(_GROUPED))
    start = min(start, _groups_from(data, grouped))
    begin = data.rfind(_BEGIN, max(0, len(data) - 64))
    if begin >= 0 and data.find(b"\n", begin) < 0:
        start = min(start, begin)  # what it begins is not said yet
    return start


def open_from(data: bytes, at: int, key: int | None = None) -> int:
    """Index from which something that may be longer than `MAX_HELD` is open at `at`: a private key that has no end in `data`, or a JWT; `at` if nothing is.

    `key`: where the last key in `data` begins, or -1; None: it is looked for.
    """
    found = at
    token = data.find(_JWT, len(data[:at].rstrip(_TOKEN)), at)
    if token >= 0:
        found = token
    begin = data.rfind(_BEGIN) if key is None else key
    if begin >= 0 and _ENDED.search(data, begin) is None:
        found = min(found, begin)
    return found


def _is_echo(buffer: bytes, start: int, typed: bytes) -> bool:
    """Whether all of what could become a match, what has gone of it too, stands so in what the client sent: it is told nothing."""
    return start < len(buffer) and len(buffer) - start <= _TYPED and buffer[start:] in typed


class Stretch:
    """One stream of a channel (stdout, stderr), on its way to masking."""

    def __init__(self, code: int, classes: tuple[str, ...], *, detects: bool, by_line: bool = False) -> None:
        """`classes`: what is read is protected as these, so it is withheld whole. `by_line`: a match may be anywhere in a line."""
        self._code = code
        self._classes = classes
        self._detects = detects
        self._by_line = by_line
        self._context = b""
        self._held = b""

    @property
    def is_holding(self) -> bool:
        """Whether something waits for what follows."""
        return bool(self._held)

    def feed(self, data: bytes | memoryview, typed: bytes = b"") -> Batch | None:
        """Take in what came; what of it, and of what was held, can go. `typed`: what the client sent last."""
        if self._classes or not self._detects:
            return self._whole(data)
        buffer = self._context + self._held + data
        sent = len(self._context)
        word = held_from(buffer)
        start = self._line(buffer, word)
        if _is_echo(buffer, word, typed):
            return self._release(buffer, sent, len(buffer), start)
        begin = newest = buffer.rfind(_BEGIN)
        if begin >= start:
            begin = buffer.rfind(_BEGIN, 0, start)
        if begin >= 0 and (ended := _ENDED.search(buffer, begin)) is not None and ended.end() > start:
            start = ended.end()  # the last line of a key is no beginning of anything
        return self._release(buffer, sent, max(sent, start), start, newest)

    def flush(self, typed: bytes) -> Batch | None:
        """Nothing came for a moment: what of the held bytes can go all the same. `typed`: what the client sent last."""
        held = self._held
        if not held:
            return None
        buffer = self._context + held
        sent = len(self._context)
        start = held_from(buffer)
        if _is_echo(buffer, start, typed):
            return self._release(buffer, sent, len(buffer), self._line(buffer, start))
        if b"@" in buffer[start:] or buffer.find(_BEGIN, start) >= 0:
            return None
        limit = SHORT_NUMBER if re.search(rb"[0-9]", buffer[start:]) else SHORT_WORD
        return self._release(buffer, sent, max(sent, min(len(buffer), start + limit)), self._line(buffer, start))

    def _line(self, buffer: bytes, start: int) -> int:
        """Where what may become a match begins: with `by_line`, with the line at the latest."""
        if not self._by_line:
            return start
        newest = max(0, len(buffer) - MAX_HELD)
        return min(start, max(newest, buffer.rfind(b"\n", newest) + 1))

    def end(self) -> Batch | None:
        """Nothing follows: all that is held goes, masked."""
        buffer = self._context + self._held
        return self._release(buffer, len(self._context), len(buffer), len(buffer))

    def _whole(self, data: bytes | memoryview) -> Batch | None:
        if not data:
            return None
        head = data_head(len(data), self._code)
        if self._classes:
            return Batch(bytes(data), Content.WITHHELD, None, 0, False, head, None, self._classes[0])
        return Batch(b"".join((head, data)), Content.FILE, None, 0, False)

    def _release(self, buffer: bytes, sent: int, safe: int, keep_from: int, key: int | None = None) -> Batch | None:
        """Let go of `buffer[sent:safe]`; what stands from `keep_from` on stays in sight. `key`: where the last key begins, if that is known."""
        keep = min(keep_from, safe)
        begin = open_from(buffer, keep, key)
        newest = max(0, keep - MAX_HELD)
        keep = newest + len(buffer[newest:keep].rstrip(_WORD))  # behind a hyphen, a group may be the end of a token
        if safe - begin <= MAX_CONTEXT:
            keep = min(begin, keep)
        self._context, self._held = buffer[keep:safe], buffer[safe:]
        if safe == sent:
            return None
        return Batch(buffer, Content.STRETCH, None, 0, False, data_head(safe - sent, self._code), (sent, safe))
