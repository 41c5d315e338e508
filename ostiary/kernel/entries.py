# cython: language_level=3, annotation_typing=False, boundscheck=True, wraparound=False
"""Cut the entries of a log's write-ahead file out of its frames, many at a time.

A frame is `u32le length | u32le crc32c(entry) | entry` (docs/log-format.md, 2). `entries.pxd` gives the types when this file is
compiled; uncompiled it is plain Python, and the same tests run on both.
"""

from __future__ import annotations

import google_crc32c

_checksum = google_crc32c.value


def cut(buf: bytes, at: int, count: int, largest: int) -> tuple[list[bytes], int]:
    """Up to `count` entries from offset `at` on, and the offset behind the last of them.

    Stops before a frame that is not all there, whose length is 0 or over `largest`, or whose checksum fails: the caller knows
    whether there must be more.
    """
    found: list[bytes] = []
    end = len(buf)
    while count > 0 and end - at >= 8:
        b0, b1, b2, b3 = buf[at], buf[at + 1], buf[at + 2], buf[at + 3]
        length = b0 | (b1 << 8) | (b2 << 16) | (b3 << 24)
        if length == 0 or length > largest or length > end - at - 8:
            break
        b0, b1, b2, b3 = buf[at + 4], buf[at + 5], buf[at + 6], buf[at + 7]
        said = b0 | (b1 << 8) | (b2 << 16) | (b3 << 24)
        entry = buf[at + 8 : at + 8 + length]
        if _checksum(entry) != said:
            break
        found.append(entry)
        at += 8 + length
        count -= 1
    return found, at
