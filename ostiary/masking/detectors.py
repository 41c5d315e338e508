"""The detectors by name, and over any free text. What each takes for a match is written in `ostiary.kernel.detect`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from ostiary.kernel.detect import NAMES, Scanner

DETECTORS: Final[frozenset[str]] = frozenset(NAMES)
"""`card`, `email`, `iban`, `ssn`, `secret`."""

ALL: Final = (1 << len(NAMES)) - 1

Text = TypeVar("Text", str, bytes)


def wanted(names: Iterable[str]) -> int:
    """The detectors as bits, as the kernel takes them. A name that is none raises ValueError."""
    bits = 0
    for name in names:
        if name not in DETECTORS:
            raise ValueError(f"no such detector: {name}")
        bits |= 1 << NAMES.index(name)
    return bits


def scrub(text: Text, names: Iterable[str] = DETECTORS) -> Text:
    """Any free text with what the detectors find in it replaced by stars. A `str` is looked at as UTF-8.

    In a `str` each character becomes one star; in `bytes` each byte, so that lengths stay.
    """
    if isinstance(text, bytes):
        return _stars(text, wanted(names))
    raw = text.encode("utf-8", "surrogatepass")
    out = _stars(raw, wanted(names))
    if out is raw:
        return text
    if len(raw) == len(text):
        return out.decode("ascii")
    # A star over a continuation byte belongs to the star before it.
    kept = bytes(new for old, new in zip(raw, out, strict=True) if old == new or old & 0xC0 != 0x80)
    return kept.decode("utf-8", "surrogatepass")


def _stars(raw: bytes, bits: int) -> bytes:
    out = bytearray(raw)
    return bytes(out) if Scanner(raw, out, bits).scan(0, len(raw), 0) else raw
