"""A recorded HTTP session, as events: requests as they were decided, bodies as they streamed, answers as they were masked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ostiary.model.events import PayloadKind
from ostiary.recording.transcript import Event
from ostiary.vault.payload_reading import Gap, Record

MAX_STATEMENTS: Final = 4096
_KINDS: Final = {PayloadKind.RESULT: "answer", PayloadKind.COPY_IN: "body", PayloadKind.NOTE: "note"}


def http_events(records: Iterable[Record | Gap]) -> Iterator[Event]:
    """Decode a recording, in order. Whatever it holds, reading it yields events and never an exception."""
    known: dict[int, str] = {}
    t_us = 0
    for record in records:
        if isinstance(record, Gap):
            yield Event(t_us=t_us, kind="gap", text=record.why)
            continue
        t_us = record.t_us
        text = record.data.decode(errors="backslashreplace")
        if record.kind is PayloadKind.STATEMENT:
            if len(known) < MAX_STATEMENTS:
                known[record.number] = text
            yield Event(t_us=t_us, kind="statement", entry=record.entry, text=text)
        elif record.kind is PayloadKind.AGAIN:
            text = known.get(int.from_bytes(record.data, "little"), "(a request shown before)")
            yield Event(t_us=t_us, kind="statement", entry=record.entry, text=text)
        else:
            yield Event(t_us=t_us, kind=_KINDS.get(record.kind, "note"), entry=record.entry, text=text)
