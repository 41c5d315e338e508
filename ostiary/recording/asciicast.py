"""A recorded terminal as asciicast, version 2: what players of terminal recordings read.

A header, then one event a line: `[seconds, "o", text]` (output), `"i"` (input, as far as it was kept), `"r"` (`COLUMNSxROWS`), `"m"` (a mark). Output
holds nothing but drawing (`ostiary.recording.drawing`), so a file does nothing to the terminal on which somebody plays it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ostiary.recording.drawing import Drawing
from ostiary.recording.screen import MAX_COLUMNS, MAX_ROWS
from ostiary.recording.ssh_reading import Piece, read
from ostiary.vault.payload_reading import Gap, Record

WITHHELD: Final = "something was typed that the screen did not show; it is not on record"


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one terminal."""

    t_us: int
    """Since the terminal was opened."""
    code: str
    """`o i r m`, as in asciicast; `x`: it was closed, and nothing follows."""
    text: str
    columns: int = 0
    rows: int = 0


class Terminal(msgspec.Struct, frozen=True, kw_only=True):
    """A terminal of a session."""

    entry: str
    """Id of the operation that it belongs to."""
    name: str
    t_us: int
    """When it was opened, since the session began."""
    columns: int
    rows: int


def terminals(records: Iterable[Record | Gap]) -> Iterator[Terminal]:
    """Yield the terminals of a session, as they are opened."""
    known: set[str] = set()
    for piece in read(records):
        if piece.kind == "terminal" and piece.entry not in known:
            known.add(piece.entry)
            yield opened(piece)


def opened(piece: Piece) -> Terminal:
    """The terminal that a piece opens, of a size that can be."""
    columns, rows = _size(piece)
    name = piece.data.decode(errors="replace")
    return Terminal(entry=piece.entry, name=name, t_us=piece.t_us, columns=columns, rows=rows)


def frames(records: Iterable[Record | Gap], terminal: Terminal) -> Iterator[Frame]:
    """Yield what happened on one terminal."""
    return of_pieces((piece for piece in read(records) if piece.entry == terminal.entry), terminal.t_us)


def of_pieces(pieces: Iterable[Piece], began_us: int) -> Iterator[Frame]:
    """Yield the frames of one terminal's pieces."""
    drawing = Drawing()
    for piece in pieces:
        at = max(0, piece.t_us - began_us)
        match piece.kind:
            case "output" | "errors":
                if text := drawing.feed(piece.data):
                    yield Frame(t_us=at, code="o", text=text)
            case "resize":
                columns, rows = _size(piece)
                yield Frame(t_us=at, code="r", text=f"{columns}x{rows}", columns=columns, rows=rows)
            case "typed" | "unshown" | "cut":
                yield Frame(t_us=at, code="i", text=piece.data.decode(errors="replace"))
            case "withheld":
                yield Frame(t_us=at, code="m", text=WITHHELD)
            case "gap":
                yield Frame(t_us=at, code="m", text=f"something is missing: {piece.data.decode(errors='replace')}")
            case "close":
                yield Frame(t_us=at, code="x", text="")
                return


def lines(
    happened: Iterable[Frame], terminal: Terminal, *, began: int, title: str, idle_limit: float | None = None
) -> Iterator[str]:
    """Write an asciicast file, line by line. `began`: when the terminal was opened, in seconds since 1970."""
    header: dict[str, object] = {"version": 2, "width": terminal.columns, "height": terminal.rows, "timestamp": began, "title": title}
    if idle_limit is not None:
        header["idle_time_limit"] = idle_limit
    yield json.dumps(header | {"env": {"TERM": terminal.name}})
    for frame in happened:
        if frame.code != "x":
            yield json.dumps([round(frame.t_us / 1e6, 6), frame.code, frame.text])


def _size(piece: Piece) -> tuple[int, int]:
    """RFC 4254, 6.2: a size of nothing is none that was said. No terminal is larger than a screen that is looked at."""
    return min(piece.columns or 80, MAX_COLUMNS), min(piece.rows or 24, MAX_ROWS)
