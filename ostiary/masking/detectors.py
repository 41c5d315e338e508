"""The detectors by name, and over any free text. What each takes for a match is written in `ostiary.kernel.detect`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, TypeVar

from ostiary.kernel.detect import NAMES, Scanner
from ostiary.kernel.national import NATIONAL, national
from ostiary.kernel.nets import Net, Wanted
from ostiary.model.connections import Detector, Look

DETECTORS: Final[frozenset[str]] = frozenset(NAMES)
"""`card`, `email`, `iban`, `ssn`, `secret`."""

ALL: Final = (1 << len(NAMES)) - 1

Text = TypeVar("Text", str, bytes)


NOTHING: Final[frozenset[str]] = frozenset()


@lru_cache(maxsize=256)
def wanted(detect: Look, clear: frozenset[str] = NOTHING) -> int | Wanted:
    """What is looked for, as the kernel takes it, without the data classes `clear`: bits, where built-in detectors are all there is.

    A name that is none raises ValueError, and so does a pattern that is none.
    """
    bits = 0
    nets: list[Net] = []
    for each in sorted(detect, key=str):
        if isinstance(each, Detector):
            nets += [] if each.data_class in clear else [_own(each)]
        elif each in NATIONAL:
            nets += [] if each in clear else [_national(each)]
        elif each not in DETECTORS:
            raise ValueError(f"no such detector: {each}")
        elif each not in clear:
            bits |= 1 << NAMES.index(each)
    return Wanted(bits, nets) if nets else bits


@lru_cache(maxsize=256)
def _own(detector: Detector) -> Net:
    return Net(detector.pattern, detector.data_class)


_national = lru_cache(national)


def holds_lines(detect: Look) -> bool:
    """Whether a match may hold anything: then a line of a stream is held back whole, not only what looks like a value."""
    return any(isinstance(each, Detector) or each in NATIONAL for each in detect)


def scrub(text: Text, names: Iterable[str] = DETECTORS) -> Text:
    """Any free text with what the detectors find in it replaced by stars. A `str` is looked at as UTF-8.

    In a `str` each character becomes one star; in `bytes` each byte, so that lengths stay.
    """
    if isinstance(text, bytes):
        return _stars(text, wanted(frozenset(names)))
    raw = text.encode("utf-8", "surrogatepass")
    out = _stars(raw, wanted(frozenset(names)))
    if out is raw:
        return text
    if len(raw) == len(text):
        return out.decode("ascii")
    # A star over a continuation byte belongs to the star before it.
    kept = bytes(new for old, new in zip(raw, out, strict=True) if old == new or old & 0xC0 != 0x80)
    return kept.decode("utf-8", "surrogatepass")


def _stars(raw: bytes, bits: int | Wanted) -> bytes:
    out = bytearray(raw)
    return bytes(out) if Scanner(raw, out, bits).scan(0, len(raw), 0) else raw
