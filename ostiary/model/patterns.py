"""Regular expressions that an operator writes: RE2, so that no text makes them slow, and bounded, so that none of them is large.

RE2 reads a text in time linear in its length, without backtracking. What could still be large is the program that it makes of a pattern
(`(a{1000}){1000}`) and the memory in which it remembers states; both are bounded here, once, where the configuration is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import re2

MAX_PATTERN: Final = 512
"""Characters of one pattern."""
MAX_PROGRAM: Final = 1_000
"""Instructions that RE2 makes of one. `[0-9]{9}` has about 30."""
MAX_MEMORY: Final = 1 << 20
"""Bytes for one program and the states that it remembers; when they are used up RE2 forgets, and goes on."""
MAX_MATCH: Final = 1_024
"""Bytes: of a longer match it is not promised that it is found."""
WINDOW: Final = 4 * MAX_MATCH
"""Bytes that one search looks at: a pattern that begins to match everywhere and ends nowhere would read all that is left each time."""

_ASSERTION: Final = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|\\[bBAz]|\\.|[\^$]|[^\\\[^$]+|.", re.DOTALL)
"""Pieces of a pattern: character classes, assertions, other escapes, `^` and `$`, and what is between."""
_ASSERTIONS: Final = frozenset({r"\b", r"\B", r"\A", r"\z", "^", "$"})


def compiled(pattern: str, *, latin: bool = False, bounded: bool = True) -> Any:
    """The pattern, compiled; `latin`: over bytes of one character each; not `bounded`: of many patterns made one. Raises ValueError with a sentence that says what is wrong."""
    if bounded and len(pattern) > MAX_PATTERN:
        raise ValueError(f"has {len(pattern)} characters; at most {MAX_PATTERN} are allowed")
    options = re2.Options()
    options.max_mem = MAX_MEMORY if bounded else 8 * MAX_MEMORY
    options.log_errors = False
    if latin:
        options.encoding = re2.Options.Encoding.LATIN1
    try:
        made = re2.compile(pattern.encode("latin-1" if latin else "utf-8"), options)
    except UnicodeEncodeError:
        raise ValueError("has characters that are none") from None
    except re2.error as exc:
        said = exc.args[0] if exc.args else exc
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"is no regular expression of RE2: {words}") from None
    if bounded and made.programsize > MAX_PROGRAM:
        raise ValueError(
            f"is too large: RE2 makes {made.programsize} instructions of it, and {MAX_PROGRAM} are allowed"
        )
    return made


def checked(pattern: str) -> None:
    """Raise ValueError unless this is a pattern that finds something: what matches nothing at all matches everywhere."""
    made = compiled(pattern)
    if r"\Q" in pattern:
        raise ValueError(r"has \Q in it: write a backslash before each mark that is meant as it stands")
    if made.groups:
        raise ValueError("has a group that captures: write (?:…), since all that matches is masked")
    if made.search(b"") is not None:
        raise ValueError("matches an empty text, so it would match everywhere; let it want at least one character")


def loosened(pattern: str) -> str:
    r"""The pattern without its assertions (`^`, `$`, `\b`, …): it matches at least wherever the pattern does, whatever stands beside.

    An assertion becomes an empty group, so that what follows it still has something to stand on. RE2 knows no look-around, so leaving
    one out never makes it match less.
    """
    return "".join("(?:)" if piece in _ASSERTIONS else piece for piece in _ASSERTION.findall(pattern))


def next_match(pattern: Any, text: bytes, at: int) -> Any:
    """The next match from `at` on, or None. Each call looks at a window, so that many matches are found in linear time."""
    end = len(text)
    while at < end:
        stop = min(end, at + WINDOW)
        found = pattern.search(text, at, stop)
        if found is not None and found.end() == stop < end:
            return pattern.search(text, found.start(), min(end, found.start() + WINDOW))  # it may go on
        if found is not None or stop == end:
            return found
        at = stop - MAX_MATCH
    return None


def matches(pattern: Any, text: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of each match, left to right; one of nothing counts as one of a byte."""
    found = pattern.search(text)
    while found is not None:
        left, right = found.span()
        right = max(right, left + 1)
        yield left, right
        found = next_match(pattern, text, right)
