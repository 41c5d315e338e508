"""Words, as recordings are searched for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

MAX_WORD: Final = 128
"""Characters; a longer one is no word."""
_PARTS: Final = re.compile(r"\w+")
_AROUND: Final = "".join(map(chr, range(0x21, 0x30))) + ":;<=>?@[\\]^`{|}~"
"""Punctuation of ASCII, but for `_`."""


def words_in(text: str) -> Iterator[str]:
    """Yield what a text is found by: what stands between blanks, without punctuation around it, and runs of letters, digits and `_` in that."""
    for run in text.split():
        whole = run.strip(_AROUND)
        if 0 < len(whole) <= MAX_WORD:
            yield whole
        for part in _PARTS.findall(run):
            if part != whole and len(part) <= MAX_WORD:
                yield part


def words_wanted(text: str) -> list[str]:
    """Split what is looked for into words of the same kinds."""
    return [whole for run in text.split() if (whole := run.strip(_AROUND))]
