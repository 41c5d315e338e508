"""What stands in for a value whose mask is made from it: keyed hashes, tokens of the same form, and the ends of a text.

Theory of operation. One `Substitute` a column: it knows how the column's bytes are to be read, and gives for one value what
takes its place, in the same format. A hash and a token hang on the value, the class and the operator's key, and on nothing
else: the same value of a class has the same one in both wire formats, in every table and in every session, so that results can
still be joined, and without the key neither can be tried out. Neither can be turned back: both are cut from HMAC-SHA-256.

A token keeps what kind each character is: a digit becomes a digit, a letter a letter of the same case, and the rest stays. It is
never the value itself. Short values have few tokens, so two values may share one.

What comes out has at most `GROWTH` bytes more than what went in, which is the room that the row maskers make.
"""

from __future__ import annotations

import hmac

from ostiary.kernel.values import BPCHAR, JSON, JSONB

GROWTH = 32
"""Bytes by which a substitute may be longer than its value."""
HASHED = 20
"""Hex digits of a hash: 80 bits."""

_INT4_OID = 23
_INT8_OID = 20
_UUID_OID = 2950
NUMBERS = frozenset({_INT4_OID, _INT8_OID, _UUID_OID})
"""Types that are no text, and have hashes and tokens all the same."""

HASH = 0
TOKEN = 1
PARTIAL = 2

_STAR = 42


class Substitute:
    """How the values of one column are replaced."""

    def __init__(self, how: int, key: bytes, family: int, number: int, binary: bool, first: int, last: int) -> None:
        """`key` is of the class; `number` the OID of a type among `NUMBERS`, or 0; `first` and `last` are for PARTIAL."""
        self.how = how
        self.key = key
        self.family = family
        self.number = number
        self.binary = binary
        self.first = first
        self.last = last

    def of(self, value: bytes) -> bytes | None:
        """What takes the place of a value; None: NULL, for a value that cannot be read."""
        if self.number:
            return self.of_number(value)
        if self.family in (JSON, JSONB):
            hashed = b'"' + self.hashed(value[1:] if self.family == JSONB else value) + b'"'
            return b"\x01" + hashed if self.family == JSONB else hashed
        padding = b""
        if self.family == BPCHAR:
            bare = value.rstrip(b" ")
            padding = value[len(bare) :]
            value = bare
        if not value:
            return padding
        if self.how == HASH:
            return self.hashed(value)
        if self.how == TOKEN:
            return self.token(value) + padding
        return self.partial(value) + padding

    def hashed(self, value: bytes) -> bytes:
        """A keyed hash, as text."""
        return b"h_" + hmac.digest(self.key, value, "sha256").hex()[:HASHED].encode()

    def token(self, value: bytes) -> bytes:
        """A text of the same form."""
        text = value.decode("utf-8", "replace")
        seed = hmac.digest(self.key, value, "sha256")
        stream = bytearray(seed)
        while len(stream) < len(text):
            seed = hmac.digest(self.key, seed, "sha256")
            stream += seed
        out = bytearray()
        at = -1
        for i in range(len(text)):
            c = ord(text[i])
            made = _same_kind(c, stream[i])
            if at < 0 and made != c:
                at = i
            out.append(made if made < 128 else _STAR)
        if at >= 0:
            return bytes(out)
        # By chance every character came out as it was, or there was none that could change.
        for i in range(len(out)):
            if chr(out[i]).isalnum():
                out[i] = _next(out[i])
                return bytes(out)
        return b"*" * len(out)

    def partial(self, value: bytes) -> bytes:
        """Stars, but for some characters at the ends: never more than half of them."""
        text = value.decode("utf-8", "replace")
        first, last = self.first, self.last
        if 2 * (first + last) > len(text):
            return b"*" * len(text)
        hidden = "*" * (len(text) - first - last)
        return (text[:first] + hidden + text[len(text) - last :]).encode()[: len(value)]

    def of_number(self, value: bytes) -> bytes | None:
        """A number or UUID of the same type."""
        try:
            if not self.binary:
                spelt = value.decode("ascii")
            elif self.number == _UUID_OID:
                spelt = _uuid_text(value)
            else:
                spelt = str(int.from_bytes(value, "big", signed=True))
        except ValueError:
            return None
        digest = hmac.digest(self.key, spelt.encode(), "sha256")
        if self.number == _UUID_OID:
            if self.binary:
                return digest[:16] if len(value) == 16 else None
            return _uuid_text(digest[:16]).encode()
        size = 4 if self.number == _INT4_OID else 8
        if self.binary and len(value) != size:
            return None
        number = int.from_bytes(digest[:size], "big") >> 1
        return number.to_bytes(size, "big") if self.binary else str(number).encode()


def _uuid_text(value: bytes) -> str:
    """As PostgreSQL writes it (uuid_out, src/backend/utils/adt/uuid.c)."""
    digits = value.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _same_kind(c: int, chance: int) -> int:
    if 48 <= c <= 57:
        return 48 + chance % 10
    if 97 <= c <= 122:
        return 97 + chance % 26
    if 65 <= c <= 90:
        return 65 + chance % 26
    if c < 128:
        return c
    return 97 + chance % 26


def _next(c: int) -> int:
    """Another character of the same kind."""
    if c in (57, 90, 122):
        return c - 1
    return c + 1
