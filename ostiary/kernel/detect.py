"""The built-in detectors: card numbers, e-mail addresses, IBANs, US social security numbers and secrets, at speed.

Theory of operation. `Scanner` looks at one *region* at a time (one cell, one field of a message): what stands beside a
region never joins with it, so a length byte that looks like a digit cannot hide a match or make one. Each detector
leaps to places where a match could be and then checks exactly:

* Card, SSN and IBAN all hold two digits in a row, so every second byte is looked at (`numbers`). A group of digits is
  then tried as the check digits of an IBAN, the area of an SSN, or the first group of a card number.
* E-mail: from one `@` to the next.
* Secrets: a token is a run of at least 16 letters, digits and `_+/-`, so every sixteenth byte is looked at; a private
  key is found by `-----BEGIN `.

A match is overwritten with `*`, byte for byte, so lengths never change and JSON, arrays and rows stay well formed.

What counts, and what we accept in false positives and negatives, is written at each check. They are made for data that
is what it seems: who may run SQL can reverse or encode a value, and is stopped by column masks, not by these.

This file is typed in `detect.pxd` and compiled by Cython where a compiler is; it runs as it stands, too.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ostiary.kernel.nets import Wanted

NAMES: Final = ("card", "email", "iban", "ssn", "secret")
"""Detectors in the order of their bits: `1 << NAMES.index(name)`; also the order of `Scanner.counts`."""

_CARD = 0
_EMAIL = 1
_IBAN = 2
_SSN = 3
_SECRET = 4
_STAR = 42
_BACKSLASH = 92
_SHORTEST_CARD = 13
_LONGEST_CARD = 19
_SHORTEST_TOKEN = 16
_LONG = 4096

_TWO_DIGITS = re.compile(rb"[0-9]{2}")
_NO_WORD = re.compile(rb"[^A-Za-z0-9_+/-]")
_MARK = re.compile(rb"[_+/-]")

# Classes of bytes, as bits of one table. Bytes from 0x80 are parts of UTF-8 letters: addresses may hold them (RFC 6531).
_DIGIT = 1
_ALPHA = 2
_ALNUM = 3
_LOCAL = 4
_DOMAIN = 8
_WORD = 16
_HEX = 32
_BODY = 64


def _classes() -> bytes:
    table = bytearray(256)
    for low, high, bits in (
        (0x30, 0x39, _DIGIT | _LOCAL | _DOMAIN | _WORD | _HEX | _BODY),
        (0x41, 0x5A, _ALPHA | _LOCAL | _DOMAIN | _WORD | _BODY),
        (0x61, 0x7A, _ALPHA | _LOCAL | _DOMAIN | _WORD | _BODY),
        (0x41, 0x46, _HEX),
        (0x61, 0x66, _HEX),
        (0x80, 0xFF, _LOCAL | _DOMAIN),
    ):
        for byte in range(low, high + 1):
            table[byte] |= bits
    for marks, bits in (("._%+-'&", _LOCAL), (".-", _DOMAIN), ("_+/-", _WORD), ("_-", _BODY)):
        for mark in marks:
            table[ord(mark)] |= bits
    return bytes(table)


_CLASS = memoryview(_classes())


def _iban_lengths() -> bytes:
    """Length by country: SWIFT IBAN Registry, release 99; index is 26 * first letter + second."""
    table = bytearray(26 * 26)
    registry = (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
        "YE30"
    )
    for entry in registry.split():
        table[26 * (ord(entry[0]) - 65) + ord(entry[1]) - 65] = int(entry[2:])
    return bytes(table)


_IBAN_LENGTH = memoryview(_iban_lengths())

# Prefix, then the least number of body characters (letters, digits, `_`, `-`, for some also `.`) that make it a token.
_TOKENS: Final = (
    (b"ghp_", 30), (b"gho_", 30), (b"ghu_", 30), (b"ghs_", 30), (b"ghr_", 30), (b"github_pat_", 30),
    (b"glpat-", 16), (b"gldt-", 16), (b"glrt-", 16), (b"glptt-", 16), (b"gloas-", 16), (b"glcbt-", 16),
    (b"xoxb-", 16), (b"xoxa-", 16), (b"xoxp-", 16), (b"xoxe-", 16), (b"xoxe.", 16), (b"xoxr-", 16), (b"xoxs-", 16),
    (b"xoxc-", 16), (b"xoxd-", 16), (b"xapp-", 16),
    (b"sk-", 20), (b"sk_live_", 16), (b"sk_test_", 16), (b"rk_live_", 16), (b"rk_test_", 16), (b"whsec_", 24),
    (b"AIza", 35), (b"ya29.", 20), (b"GOCSPX-", 20),
    (b"npm_", 30), (b"pypi-", 30), (b"SG.", 30), (b"hf_", 30), (b"dop_v1_", 40), (b"doo_v1_", 40), (b"dor_v1_", 40),
    (b"shpat_", 30), (b"shpss_", 30), (b"shpca_", 30), (b"shppa_", 30), (b"hvs.", 20), (b"hvb.", 20),
    (b"dapi", 32), (b"lin_api_", 30), (b"rubygems_", 40), (b"figd_", 30), (b"PMAK-", 40), (b"NRAK-", 24),
    (b"AGE-SECRET-KEY-1", 50), (b"ATATT3", 40), (b"tskey-", 16), (b"glsa_", 30), (b"sntrys_", 30), (b"EAACEdEose0cBA", 8),
)  # fmt: skip


def _by_first_byte() -> tuple[tuple[tuple[bytes, int], ...], ...]:
    return tuple(tuple(token for token in _TOKENS if token[0][0] == byte) for byte in range(256))


_TOKENS_BY_BYTE = _by_first_byte()


def _pairs() -> bytes:
    table = bytearray(256 * 256)
    for token in ("AK", "AS", "AB", "AC", "ey", *(prefix.decode() for prefix, _ in _TOKENS)):
        table[256 * ord(token[0]) + ord(token[1])] = 1
    return bytes(table)


_TOKEN_PAIR = memoryview(_pairs())
_TOKEN_START = memoryview(bytes(1 if tokens or byte in (65, 101) else 0 for byte, tokens in enumerate(_TOKENS_BY_BYTE)))


class Scanner:
    """The detectors over one batch: `data` is what is looked at, `out` where matches are starred.

    `counts` holds one number a detector, in the order of `NAMES`; then those of other data classes, if `wanted` has any
    (`ostiary.kernel.nets`). With `dry` set nothing is written.
    """

    def __init__(self, data: bytes, out: bytearray, wanted: int | Wanted) -> None:
        self.data = data
        self.src = memoryview(data)
        self.dst = memoryview(out)
        kinds = len(NAMES)
        self.given = wanted
        self.broad = False
        self.candidates = None
        if isinstance(wanted, int):
            self.wanted = wanted
        else:
            self.wanted = wanted.bits
            self.broad = True
            self.candidates = wanted.candidates(data)
            kinds = len(wanted.names)
        self.counts = array("q", bytes(8 * kinds))
        self.tally = memoryview(self.counts)
        self.dry = False
        self.next_at = -1
        self.next_pem = -1
        self.next_word = 0
        self.next_run = 0
        self.marked = True
        self.digits = memoryview(bytearray(_LONGEST_CARD + 1))

    def scan(self, start: int, stop: int, shift: int) -> int:
        """Star the matches in `data[start:stop]`, at the same place plus `shift` in `out`; returns how many."""
        found = 0
        wanted = self.wanted
        if stop > len(self.src) or start < 0:
            raise IndexError("region outside the batch")
        if wanted & 13 and stop - start >= 11:
            found += self.numbers(self.first(_TWO_DIGITS, start, stop), start, stop, shift)
        if wanted & 2 and self.next_at < stop:
            found += self.emails(start, stop, shift)
        if wanted & 16 and stop - start >= _SHORTEST_TOKEN:
            found += self.secrets(start, stop, shift)
        if self.candidates is not None:
            found += self.others(start, stop, shift)
        return found

    def others(self, start: int, stop: int, shift: int) -> int:
        """What is found beside what the built-in detectors find."""
        found = 0
        for kind, left, right in [] if self.candidates is None else self.candidates.within(start, stop):
            self.star(left, right, shift, kind)
            found += 1
        return found

    def first(self, pattern: re.Pattern[bytes], start: int, stop: int) -> int:
        """Where to begin looking in a long region: a leap over what holds nothing, at C's speed also uncompiled."""
        if stop - start <= _LONG:
            return start
        match = pattern.search(self.data, start, stop)
        return stop if match is None else match.start()

    def star(self, start: int, stop: int, shift: int, kind: int) -> None:
        """Overwrite one match, and count it."""
        self.tally[kind] += 1
        if not self.dry:
            for i in range(start + shift, stop + shift):
                self.dst[i] = _STAR

    def is_escaped(self, at: int, start: int) -> bool:
        r"""Whether the byte at `at` belongs to a backslash escape (`\n`) and not to the word that it seems to begin."""
        slashes = 0
        while at - 1 - slashes >= start and self.src[at - 1 - slashes] == _BACKSLASH:
            slashes += 1
        return slashes & 1 == 1

    # --- numbers -------------------------------------------------------------

    def numbers(self, at: int, start: int, stop: int, shift: int) -> int:
        """Cards, SSNs and IBANs from `at` on: all hold two digits side by side, so every second byte is enough to find them."""
        found = 0
        self.next_run = start
        while at < stop:
            if not is_digit(self.src[at]):
                at += 2
                continue
            if at >= self.next_run and self.is_dull(at, start, stop):
                at = self.next_run + 2
                continue
            left = at
            if left > start and is_digit(self.src[left - 1]):
                left -= 1
            right = at + 1
            while right < stop and is_digit(self.src[right]):
                right += 1
            at = right + 1
            if right - left < 2:
                continue
            end = 0
            if self.wanted & 4 and left - start >= 2 and _CLASS[self.src[left - 1]] & _ALPHA and self.may_begin(left - 2, start):
                end = self.iban(left - 2, start, stop)
                if end:
                    self.star(left - 2, end, shift, _IBAN)
            if not end and self.wanted & 8 and right - left == 3 and self.is_between(right, stop):
                end = self.ssn(left, stop)
                if end:
                    self.star(left, end, shift, _SSN)
            # A first group is followed by others, unless it is a whole number.
            if not end and self.wanted & 1 and right - left >= 4 and (right - left >= 13 or self.is_between(right, stop)):
                end = self.card(left, right, start, stop)
                if end:
                    self.star(left, end, shift, _CARD)
            if end:
                found += 1
                at = end
        return found

    def is_dull(self, at: int, start: int, stop: int) -> bool:
        """Whether nothing begins in the run of letters and digits round `at`, at one look; `next_run` is where it ends.

        An IBAN begins a run with two letters and two digits, or stands behind an escape; a card in one piece has thirteen digits in
        a row; an SSN or a card in groups begins at the end of a run: `is_group`.
        """
        left = at
        while left > start and _CLASS[self.src[left - 1]] & _ALNUM:
            left -= 1
        right = at + 1
        while right < stop and _CLASS[self.src[right]] & _ALNUM:
            right += 1
        self.next_run = right
        if right + 3 < stop and (self.src[right] == 32 or self.src[right] == 45) and right - left >= 3 and self.is_group(left, right):
            return False
        if left > start and self.src[left - 1] == _BACKSLASH:
            return False
        if right - left >= 4 and is_digit(self.src[left + 2]) and is_digit(self.src[left + 3]) and not is_digit(self.src[left]) and not is_digit(self.src[left + 1]):
            return False
        at = left + _SHORTEST_CARD - 1
        while at < right:
            if is_digit(self.src[at]):
                begin = at
                while begin > left and is_digit(self.src[begin - 1]):
                    begin -= 1
                while at < right and is_digit(self.src[at]):
                    at += 1
                if at - begin >= _SHORTEST_CARD:
                    return False
            at += _SHORTEST_CARD
        return True

    def is_group(self, left: int, right: int) -> bool:
        """Whether the run `src[left:right]` ends as an SSN's area does, or a card number's first group, and goes on like one.

        `ddd-dd-`, or four digits and, behind the blank or dash, three. A date is neither.
        """
        if not (is_digit(self.src[right - 1]) and is_digit(self.src[right - 2]) and is_digit(self.src[right - 3])):
            return False
        if not (is_digit(self.src[right + 1]) and is_digit(self.src[right + 2])):
            return False
        more = right - left >= 4 and is_digit(self.src[right - 4])
        return is_digit(self.src[right + 3]) if more else self.src[right + 3] == self.src[right]

    def may_begin(self, at: int, start: int) -> bool:
        """Whether a word may begin there: what stands before is no letter or digit, or belongs to an escape. A look ahead of `iban`."""
        return at <= start or not _CLASS[self.src[at - 1]] & _ALNUM or (at - 1 > start and self.src[at - 2] == _BACKSLASH)

    def is_between(self, at: int, stop: int) -> bool:
        """Whether a blank or a dash stands there, which may be between two groups of digits."""
        return at < stop and (self.src[at] == 32 or self.src[at] == 45)

    def ssn(self, at: int, stop: int) -> int:
        """End of an SSN at `at`, or 0: `ddd-dd-dddd` with dashes or with spaces, valid by its parts.

        Area 000, 666 and 900 up, group 00 and serial 0000 were never given out (SSA, POMS RM 10201.035). Nine bare digits
        are not taken for an SSN: every ninth order id would be one.
        """
        if stop - at < 11 or (stop - at > 11 and is_digit(self.src[at + 11])):
            return 0
        between = self.src[at + 3]
        if between not in (45, 32) or self.src[at + 6] != between:
            return 0
        i = at + 4
        while i < at + 11:
            if i != at + 6 and not is_digit(self.src[i]):
                return 0
            i += 1
        area = 100 * self.src[at] + 10 * self.src[at + 1] + self.src[at + 2] - 111 * 48
        if area in (0, 666) or area >= 900:
            return 0
        if self.src[at + 4] == 48 and self.src[at + 5] == 48:
            return 0
        if self.src[at + 7] == 48 and self.src[at + 8] == 48 and self.src[at + 9] == 48 and self.src[at + 10] == 48:
            return 0
        return at + 11

    def card(self, left: int, right: int, start: int, stop: int) -> int:
        """End of a card number that begins at `left`, or 0. `right` is where its first group of digits ends.

        13 to 19 digits in a range that some network issues (`is_issued`), with a right check digit (ISO/IEC 7812-1,
        annex B), in one piece or in groups: the first of four digits, or two of eight; the others of at least three, but
        for the last; between them one space or one dash, always the same. So lists of small numbers and UUIDs are none.
        A decimal fraction, an international telephone number (`+49...`) and digits inside 24 or more hexadecimal
        ones are none either. One in about 25 random 16-digit numbers is: that is what the check digit can tell.
        """
        first = self.src[left]
        if first < 50 or (right - left > 8 and right - left < 13) or right - left > _LONGEST_CARD:
            return 0
        if left > start and self.is_part_of_more(left, right, start, stop):
            return 0
        count = 0
        best = 0
        between = 0
        at = left
        while True:
            group = 0
            while at < stop and is_digit(self.src[at]):
                if count >= _LONGEST_CARD:
                    return best
                self.digits[count] = self.src[at] - 48
                count += 1
                group += 1
                at += 1
            if count >= 13 and (between == 0 or self.stands_alone(left, at, start, stop)) and self.is_card(count):
                best = at
            if group < 3 or at + 1 >= stop or not is_digit(self.src[at + 1]):
                return best
            if between == 0:
                between = self.src[at]
                if between not in (32, 45) or group not in (4, 8):
                    return best
            elif self.src[at] != between or right - left == 8:
                return best
            at += 1

    def stands_alone(self, left: int, right: int, start: int, stop: int) -> bool:
        """Whether grouped digits are no part of a longer word or, like a UUID's, of a longer row of dashes."""
        if left > start and (_CLASS[self.src[left - 1]] & _ALNUM or self.src[left - 1] == 45):
            return False
        return right >= stop or not _CLASS[self.src[right]] & _ALNUM

    def is_part_of_more(self, left: int, right: int, start: int, stop: int) -> bool:
        """Whether the digits belong to a fraction, a telephone number or a long hexadecimal string."""
        before = self.src[left - 1]
        if before == 43:
            return True
        if before == 46 and left - 2 >= start and is_digit(self.src[left - 2]):
            return True
        if not _CLASS[before] & _HEX and not (right < stop and _CLASS[self.src[right]] & _HEX):
            return False
        low = left
        while low > start and left - low < 24 and _CLASS[self.src[low - 1]] & _HEX:
            low -= 1
        high = right
        while high < stop and high - right < 24 and _CLASS[self.src[high]] & _HEX:
            high += 1
        return high - low >= 24

    def is_card(self, count: int) -> bool:
        """Whether `digits[:count]` is a number that a network issues, with the right check digit."""
        digits = self.digits
        head = 0
        for i in range(6):
            head = 10 * head + digits[i]
        if not is_issued(head, count):
            return False
        total = 0
        for i in range(count):
            digit = digits[count - 1 - i]
            if i & 1:
                digit += digit
                if digit > 9:
                    digit -= 9
            total += digit
        return total % 10 == 0

    def iban(self, at: int, start: int, stop: int) -> int:
        """End of an IBAN at `at`, or 0: ISO 13616; country and its length, single spaces allowed, mod 97 is 1.

        Lower case counts. It does not begin inside a word, nor end inside one.
        """
        if not _CLASS[self.src[at]] & _ALPHA:
            return 0
        if at > start and _CLASS[self.src[at - 1]] & _ALNUM and not self.is_escaped(at - 1, start):
            return 0
        first = (self.src[at] & 0xDF) - 55
        second = (self.src[at + 1] & 0xDF) - 55
        length = _IBAN_LENGTH[26 * (first - 10) + second - 10]
        if length == 0:
            return 0
        rest = 0
        taken = 4
        i = at + 4
        while taken < length:
            if i < stop and self.src[i] == 32:
                i += 1
            if i >= stop:
                return 0
            c = self.src[i]
            if is_digit(c):
                rest = (10 * rest + c - 48) % 97
            elif _CLASS[c] & _ALPHA:
                rest = (100 * rest + (c & 0xDF) - 55) % 97
            else:
                return 0
            taken += 1
            i += 1
        if i < stop and _CLASS[self.src[i]] & _ALNUM:
            return 0
        rest = (100 * rest + first) % 97
        rest = (100 * rest + second) % 97
        rest = (100 * rest + 10 * (self.src[at + 2] - 48) + self.src[at + 3] - 48) % 97
        return i if rest == 1 else 0

    # --- e-mail --------------------------------------------------------------

    def emails(self, start: int, stop: int, shift: int) -> int:
        """Addresses: a local part of up to 64 octets, `@`, and a name with a dot whose last label is letters.

        `user@localhost`, `pkg@1.2.3` and `a@10.0.0.1` are none; `git@github.com` is one.
        """
        found = 0
        if self.next_at < start:
            self.find_at(start)
        while self.next_at < stop:
            at = self.next_at
            left = at
            while left > start and at - left < 64 and _CLASS[self.src[left - 1]] & _LOCAL:
                left -= 1
            if left < at and self.is_escaped(left, start):
                left += self.escape_length(left, at)
            while left < at and self.src[left] & 0xC0 == 0x80:  # never half of a character
                left += 1
            while left < at and _CLASS[self.src[left]] & _ALNUM == 0 and self.src[left] < 128 and self.src[left] != 95:
                left += 1
            right = at + 1
            if left < at:
                while right < stop and right - at < 255 and _CLASS[self.src[right]] & _DOMAIN:
                    right += 1
                while right < stop and self.src[right] & 0xC0 == 0x80:
                    right += 1
                right = self.domain_end(at + 1, right)
                if right:
                    self.star(left, right, shift, _EMAIL)
                    found += 1
                else:
                    right = at + 1
            self.find_at(right)
        return found

    def find_at(self, start: int) -> None:
        """Set `next_at` to the next `@` in the batch, or past its end."""
        self.next_at = self.data.find(b"@", start)
        if self.next_at < 0:
            self.next_at = len(self.data)

    def escape_length(self, left: int, at: int) -> int:
        r"""How many of the bytes at `left` belong to the escape that begins just before: `\n` 1, `é` 5."""
        if self.src[left] != 117 or at - left < 5:
            return 1
        for i in range(left + 1, left + 5):
            if not _CLASS[self.src[i]] & _HEX:
                return 1
        return 5

    def domain_end(self, start: int, stop: int) -> int:
        """Where the longest name in `src[start:stop]` ends whose last label is at least two letters; 0: there is none."""
        end = stop
        while end > start:
            label = end
            letters = True
            while label > start and self.src[label - 1] != 46:
                label -= 1
                if self.src[label] < 128 and not _CLASS[self.src[label]] & _ALPHA:
                    letters = False
            if label == start:
                return 0
            if end - label >= 2 and label - start >= 2 and (letters or self.is_idn(label, end)):
                return end
            end = label - 1
        return 0

    def is_idn(self, label: int, end: int) -> bool:
        """Whether a label is an A-label: `xn--...` (RFC 5890)."""
        return (
            end - label > 4
            and self.src[label] | 32 == 120
            and self.src[label + 1] | 32 == 110
            and (self.src[label + 2] == 45 and self.src[label + 3] == 45)
        )

    # --- secrets -------------------------------------------------------------

    def secrets(self, start: int, stop: int, shift: int) -> int:
        """Private keys, then tokens in what is left."""
        found = 0
        at = start
        if self.next_pem < at:
            self.find_pem(at)
        while self.next_pem < stop:
            begin = self.next_pem
            end = self.private_key(begin, stop)
            if end:
                found += self.tokens(at, begin, start, shift)
                self.star(begin, end, shift, _SECRET)
                found += 1
                at = end
                self.find_pem(end)
            else:
                self.find_pem(begin + 1)
        return found + self.tokens(at, stop, start, shift)

    def find_pem(self, start: int) -> None:
        """Set `next_pem` to the next `-----BEGIN ` in the batch, or past its end."""
        # All of it at once: CPython's search leaps by as many bytes as are looked for. Much data has no capitals: one is found faster.
        at = self.data.find(b"-----BEGIN ", start) if self.data.find(b"V", start) >= 0 else -1
        self.next_pem = len(self.data) if at < 0 else at

    def private_key(self, begin: int, stop: int) -> int:
        """End of the private key block at `begin` (RFC 7468, also OpenSSH and PGP), or 0.

        Cut off, it ends at the next `"` (so that JSON stays JSON), or at `stop`.
        """
        head = self.data.find(b"PRIVATE KEY", begin, min(begin + 64, stop))
        if head < 0:
            return 0
        end = self.data.find(b"-----END ", head, stop)
        if end >= 0:
            end = self.data.find(b"-----", end + 9, min(end + 80, stop))
        if end >= 0:
            return end + 5
        end = self.data.find(b'"', head, stop)
        if end < 0:
            return stop
        while self.src[end - 1] == _BACKSLASH:
            end -= 1
        return end

    def tokens(self, start: int, stop: int, floor: int, shift: int) -> int:
        """Tokens in `src[start:stop]`: every sixteenth byte is looked at, since no token is a shorter run."""
        found = 0
        at = start + _SHORTEST_TOKEN - 1
        while at < stop:
            if not _CLASS[self.src[at]] & _WORD:
                at += _SHORTEST_TOKEN
                continue
            left = at
            marks = 0
            while left > start and _CLASS[self.src[left - 1]] & _WORD:
                left -= 1
                if not _CLASS[self.src[left]] & _ALNUM:
                    marks = 1
            right = at
            while right < stop and right - left < _LONG and _CLASS[self.src[right]] & _WORD:
                if not _CLASS[self.src[right]] & _ALNUM:
                    marks = 1
                right += 1
            self.marked = marks != 0
            if right - left >= _LONG:
                right = self.end_of_run(right, stop)
                self.marked = True
            at = right
            if right - left >= _SHORTEST_TOKEN:
                found += self.word(left, right, floor, stop, shift)
                at = max(at, self.next_word)
            at += _SHORTEST_TOKEN
        return found

    def end_of_run(self, at: int, stop: int) -> int:
        """Where a long run of word characters ends."""
        match = _NO_WORD.search(self.data, at, stop)
        return stop if match is None else match.start()

    def word(self, left: int, right: int, floor: int, stop: int, shift: int) -> int:
        """Tokens that begin in the run `src[left:right]`. A token begins where a word does, or after `_`, `+`, `/`, `-`."""
        found = 0
        self.next_word = right
        at = left
        if right - left == 40 and self.aws_secret(left, right, floor, stop):
            self.star(left, right, shift, _SECRET)
            return 1
        if left > floor and self.src[left - 1] == _BACKSLASH:
            at += 1
        if left > floor and self.src[left - 1] == 46:  # `SG.`, `ya29.`, `hvs.`: a short head before the long run
            at = left - 1
            while at > floor and left - at < 6 and _CLASS[self.src[at - 1]] & _ALNUM:
                at -= 1
            if not _TOKEN_START[self.src[at]]:
                at = left
        while at + _SHORTEST_TOKEN <= right:
            if _TOKEN_PAIR[256 * self.src[at] + self.src[at + 1]]:
                end = self.token(at, right, stop)
                if end:
                    self.star(at, end, shift, _SECRET)
                    found += 1
                    at = end
                    self.next_word = max(self.next_word, end)
                    continue
            if at >= left and not self.marked:
                return found  # no other token begins in a run of letters and digits alone
            at += 1
            while at < right and _CLASS[self.src[at - 1]] & _ALNUM:
                at = self.first(_MARK, at, right) + 1 if right - at > _LONG else at + 1
        return found

    def token(self, at: int, right: int, stop: int) -> int:
        """End of the token at `at`, or 0."""
        if self.src[at] == 65 and right - at >= 20 and self.aws_key_id(at, right):
            return at + 20
        if self.src[at] == 101 and self.src[at + 1] == 121 and self.src[at + 2] == 74:
            return self.jwt(at, stop)
        for prefix, least in _TOKENS_BY_BYTE[self.src[at]]:
            if self.data.startswith(prefix, at):
                body = at + len(prefix)
                end = body
                while end < stop and (_CLASS[self.src[end]] & _BODY or self.src[end] == 46):
                    end += 1
                while end > body and self.src[end - 1] == 46:
                    end -= 1
                if end - body >= least:
                    return end
        return 0

    def aws_key_id(self, at: int, right: int) -> bool:
        """An AWS access key id: `AKIA`, `ASIA`, `ABIA` or `ACCA` and sixteen capitals and digits."""
        head = self.data[at : at + 4]
        if head not in (b"AKIA", b"ASIA", b"ABIA", b"ACCA") or (right > at + 20 and _CLASS[self.src[at + 20]] & _ALNUM):
            return False
        for i in range(at + 4, at + 20):
            c = self.src[i]
            if not (is_digit(c) or (65 <= c <= 90)):
                return False
        return True

    def aws_secret(self, left: int, right: int, floor: int, stop: int) -> bool:
        """An AWS secret access key: forty of base64, mixed; with a key id in the region, or `secret` or `aws` just before."""
        lower = upper = digit = 0
        for i in range(left, right):
            c = self.src[i]
            if is_digit(c):
                digit = 1
            elif 65 <= c <= 90:
                upper = 1
            elif 97 <= c <= 122:
                lower = 1
            elif c not in (43, 47):
                return False
        if not (lower and upper and digit):
            return False
        before = self.data[max(floor, left - 64) : left].lower()
        if b"secret" in before or b"aws" in before:
            return True
        return self.data.find(b"AKIA", floor, stop) >= 0 or self.data.find(b"ASIA", floor, stop) >= 0

    def jwt(self, at: int, stop: int) -> int:
        """End of the JWT (RFC 7519, JWS or JWE in compact form) at `at`, or 0: base64url of `{"`, and at least one more part."""
        parts = 0
        size = 0
        end = at
        while end < stop:
            c = self.src[end]
            if _CLASS[c] & _BODY:
                size += 1
            elif c == 46 and (parts > 0 or size >= 12):
                parts += 1
                size = 0
            else:
                break
            end += 1
        if parts == 0 or (parts == 1 and size < 8):
            return 0
        return end


def is_digit(byte: int) -> bool:
    """0 to 9."""
    return 48 <= byte <= 57


def is_issued(head: int, count: int) -> bool:
    """Whether card numbers with these first six digits are issued in this length (ISO/IEC 7812 ranges, as published)."""
    two = head // 10000
    four = head // 100
    if two >= 40 and two <= 49:  # Visa
        return count in (13, 16, 19)
    if (two >= 51 and two <= 55) or (four >= 2221 and four <= 2720):  # Mastercard
        return count == 16
    if two in (34, 37):  # American Express
        return count == 15
    if two in (36, 38, 39) or (four >= 3000 and four <= 3059) or four == 3095:  # Diners Club
        return count >= 14
    if four >= 3528 and four <= 3589:  # JCB
        return count >= 16
    if four >= 2200 and four <= 2204:  # Mir
        return count >= 16
    if two in (81, 82) or four == 9792:  # UnionPay, RuPay, Troy
        return count >= 16
    # Discover, UnionPay, RuPay, Maestro, Elo, Verve, Hipercard share 50, 56 to 58 and 60 to 69.
    return two == 50 or (two >= 56 and two <= 58) or (two >= 60 and two <= 69)


def is_card_number(digits: bytes) -> bool:
    """Whether these ASCII digits, as a number without separators, are a card number."""
    if not 13 <= len(digits) <= _LONGEST_CARD:
        return False
    return Scanner(digits, bytearray(), 1).card(0, len(digits), 0, len(digits)) == len(digits)
