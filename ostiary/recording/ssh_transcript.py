"""A recorded SSH session, as events on one time line: commands, files, forwards, what was typed, what stood on screens, how each ended.

Of a terminal, what came back is told twice: as it came (`drawn`, for programs), and as the lines that stood on the screen (`screen`, for
people; `ostiary.recording.screen`). How operations ended, which files moved and what was refused is told by the log's entries. Both are merged
by time. What was sent without a terminal is counted and not shown.
"""

from __future__ import annotations

import codecs
import datetime as dt
import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ostiary.recording.screen import MAX_COLUMNS, Screen
from ostiary.recording.ssh_reading import MAX_CHANNELS, Piece, read
from ostiary.recording.transcript import Event
from ostiary.vault.payload_reading import Gap, Record

MAX_SCREENS: Final = 32
"""Terminals of one session at one time whose screens are kept; of more, the oldest is told and forgotten."""
_QUIET_US: Final = 1_000_000
"""When nothing came for so long, what stands on a screen was seen."""
_PLAIN_ROWS: Final = 16
_SAID: Final = {
    "typed": "", "unshown": "not shown on the screen: ", "cut": "the beginning of a long line: ", "withheld": "something that the screen did not show: withheld",
}  # fmt: skip


def ssh_events(records: Iterable[Record | Gap], entries: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """Decode a recording and what the log says of it, in order of time. Whatever they hold: events, and never an exception."""
    return heapq.merge(_Teller().events(read(records)), _told(entries), key=lambda event: event.t_us)


class _Seen:
    """One terminal's screen, or a stream without one, and what was said of it since it was last asked."""

    def __init__(self, columns: int, rows: int, *, plain: bool = False) -> None:
        self.lines: list[str] = []
        self.last_us = 0
        self.screen = Screen(columns, rows, self.lines.append, plain=plain)

    def feed(self, piece: Piece) -> None:
        """Take in what came."""
        if piece.t_us - self.last_us > _QUIET_US:
            self.screen.settle()
        self.last_us = piece.t_us
        self.screen.feed(piece.data)

    def taken(self) -> list[str]:
        """Return what was said."""
        lines = list(self.lines)
        self.lines.clear()
        return lines


class _Teller:
    def __init__(self) -> None:
        self._sent: dict[str, int] = {}
        self._decoders: dict[tuple[str, str], codecs.IncrementalDecoder] = {}
        self._screens: dict[str, _Seen] = {}
        self._t_us = 0

    def events(self, pieces: Iterable[Piece]) -> Iterator[Event]:
        for piece in pieces:
            self._t_us = piece.t_us
            if self._sent and piece.kind != "input":
                yield from self._input()
            yield from self._tell(piece)
        yield from self._input()
        for entry in list(self._screens):
            yield from self._over(entry)

    def _input(self) -> Iterator[Event]:
        for entry, size in self._sent.items():
            text = f"{size} bytes on record of what was sent, not shown"
            yield Event(t_us=self._t_us, kind="input", entry=entry, text=text)
        self._sent.clear()

    def _tell(self, piece: Piece) -> Iterator[Event]:
        entry, text = piece.entry, piece.data.decode(errors="backslashreplace")
        match piece.kind:
            case "input":
                self._sent[entry] = self._sent.get(entry, 0) + len(piece.data)
            case "output" | "errors":
                yield from self._came(piece)
            case "terminal" | "resize":
                yield from self._sized(piece, text)
            case "typed" | "unshown" | "cut" | "withheld":
                yield Event(t_us=piece.t_us, kind="typed", entry=entry, text=_SAID[piece.kind] + text)
            case "close":
                yield from self._over(entry)
                for kind in ("output", "errors"):
                    self._decoders.pop((entry, kind), None)
            case "statement":
                yield Event(t_us=piece.t_us, kind="statement", entry=entry, text=text.replace("\0", " ") or "(a shell)")
            case _:
                yield Event(t_us=piece.t_us, kind=piece.kind, entry=entry, text=text)

    def _came(self, piece: Piece) -> Iterator[Event]:
        seen = self._screens.get(piece.entry)
        kind = "drawn" if seen is not None else piece.kind
        if seen is not None:
            seen.feed(piece)
            yield from self._lines(piece.entry, seen)
        if len(self._decoders) >= MAX_CHANNELS:
            self._decoders.clear()
        key = (piece.entry, piece.kind)
        if key not in self._decoders:
            self._decoders[key] = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        yield Event(t_us=piece.t_us, kind=kind, entry=piece.entry, text=self._decoders[key].decode(piece.data))

    def _sized(self, piece: Piece, name: str) -> Iterator[Event]:
        size = f"{piece.columns} columns, {piece.rows} rows"
        yield Event(t_us=piece.t_us, kind=piece.kind, entry=piece.entry, text=f"{name}, {size}" if name else size)
        seen = self._screens.get(piece.entry)
        if seen is not None:
            seen.screen.resize(piece.columns, piece.rows)
            yield from self._lines(piece.entry, seen)
        elif piece.kind == "terminal":
            if len(self._screens) >= MAX_SCREENS:
                yield from self._over(next(iter(self._screens)))
            self._screens[piece.entry] = _Seen(piece.columns, piece.rows)

    def _lines(self, entry: str, seen: _Seen) -> Iterator[Event]:
        if lines := seen.taken():
            yield Event(t_us=self._t_us, kind="screen", entry=entry, text="\n".join(lines))

    def _over(self, entry: str) -> Iterator[Event]:
        seen = self._screens.pop(entry, None)
        if seen is None:
            return
        seen.screen.end()
        yield from self._lines(entry, seen)
        if seen.screen.is_partial:
            text = "so much was overwritten on the screen that not all of it is told"
            yield Event(t_us=self._t_us, kind="gap", entry=entry, text=text)


def ssh_lines(records: Iterable[Record | Gap]) -> Iterator[tuple[str, str]]:
    """Yield (id of the operation's entry, a line that was shown): on a terminal's screen, or as a stream's."""
    seen: dict[tuple[str, str], _Seen] = {}
    binary: set[str] = set()
    for piece in read(records):
        key = (piece.entry, "terminal" if (piece.entry, "terminal") in seen else piece.kind)
        if piece.kind == "terminal":
            seen[key] = _Seen(piece.columns, piece.rows)
        elif piece.kind == "resize" and key in seen:
            seen[key].screen.resize(piece.columns, piece.rows)
        elif piece.kind in {"output", "errors"} and piece.entry not in binary:
            if key not in seen:
                if b"\0" in piece.data:  # no text
                    binary.add(piece.entry)
                    continue
                seen[key] = _Seen(MAX_COLUMNS, _PLAIN_ROWS, plain=True)
            seen[key].feed(piece)
        over = [each for each in seen if each[0] == piece.entry] if piece.kind == "close" else []
        over += [next(iter(seen))] if len(seen) > 2 * MAX_SCREENS else []
        for each in over:
            seen[each].screen.end()
        for each in {key, *over} & seen.keys():
            yield from ((each[0], line) for line in seen[each].taken())
        for each in over:
            seen.pop(each, None)
    for key, last in seen.items():
        last.screen.end()
        yield from ((key[0], line) for line in last.taken())


def _told(entries: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """What the log says: how operations ended, what was refused, and the end."""
    began: dt.datetime | None = None
    t_us = 0
    for entry in entries:
        try:
            now = dt.datetime.fromisoformat(entry["t"])
            began = began or now
            t_us = max(t_us, (now - began) // dt.timedelta(microseconds=1))
        except (KeyError, TypeError, ValueError):
            pass  # it stands where the one before it does
        match entry.get("kind"):
            case "outcome":
                yield Event(t_us=t_us, kind="outcome", entry=str(entry.get("ref", "")), text=_outcome(entry))
            case "deny":
                why = str(_part(entry, "decision").get("message", ""))
                yield Event(t_us=t_us, kind="refused", entry=str(entry.get("id", "")), text=why)
            case "session.end":
                yield Event(t_us=t_us, kind="end", text=str(_part(entry, "result").get("status", "")))


def _outcome(entry: Mapping[str, Any]) -> str:
    result = _part(entry, "result")
    said = [str(result[name]) for name in ("status", "tag") if result.get(name)]
    if "tag" not in result and result.get("error"):
        said.append(f"error {result['error']}")
    if result.get("bytes") and "bytes" not in str(result.get("tag", "")):
        said.append(f"{result['bytes']} bytes")
    masked = _part(result, "masked")
    said += [f"{count} of {name} masked" for name, count in sorted(masked.items())]
    return ", ".join(said)


def _part(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = entry.get(name)
    return found if isinstance(found, Mapping) else {}
