"""Streams of things that are whole in themselves: events (`text/event-stream`, WHATWG HTML 9.2) and JSON texts one a line.

An answer of another kind is held back until much of it is here. Here each event leaves as soon as it has ended: what a reader is handed is
one event, so what is masked is one event, and nothing of one is joined with another's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ostiary.masking.documents import MAX_TOKEN, Unmaskable

_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z)){2}")
"""The blank line behind an event. A CR at the very end may be half of a CRLF."""
_LINE: Final = re.compile(rb"\r\n|\n|\r")


class Events:
    """Masks events one by one."""

    def __init__(self, mask: Callable[[bytes], bytes]) -> None:
        """`mask`: what may be seen of a text."""
        self._mask = mask
        self._held = b""
        self._looked = 0
        """Bytes of it in which no event ends."""

    def feed(self, data: bytes, *, final: bool) -> bytes:
        """Take in more; give back the events that have ended. Raises `Unmaskable`."""
        self._held += data
        if b"\0" in data:
            raise Unmaskable("text with NUL in it")
        out: list[bytes] = []
        at = 0
        while (found := _END.search(self._held, max(at, self._looked))) is not None:
            out.append(self._event(self._held[at : found.end()]))
            at = self._looked = found.end()
        self._held = self._held[at:]
        self._looked = max(0, len(self._held) - 3)
        if len(self._held) > MAX_TOKEN:
            raise Unmaskable(f"an event of more than {MAX_TOKEN >> 20} MiB")
        if final and self._held:
            out.append(self._event(self._held))
            self._held = b""
        return b"".join(out)

    def _event(self, raw: bytes) -> bytes:
        """One event: its data joined as a reader joins it, its other lines each by itself; as it came where nothing has to change."""
        kept: list[bytes] = []
        data: list[bytes] = []
        for line in _LINE.split(raw):
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
            else:
                kept.append(line)
        whole = b"\n".join(data)
        shown = [self._mask(line) if line else line for line in kept]
        seen = self._mask(whole) if whole else whole
        if shown == kept and seen == whole:
            return raw
        lines = [line for line in shown if line]
        lines += [b"data: " + line for line in seen.split(b"\n")] if data else []
        return b"\n".join(lines) + raw[len(raw.rstrip(b"\r\n")) :]
