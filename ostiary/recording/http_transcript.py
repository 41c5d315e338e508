"""A recorded HTTP session, as events: requests as they were decided, bodies as they streamed, answers as they were masked."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Final

from ostiary.model.events import PayloadKind
from ostiary.recording.repeats import Repeats
from ostiary.recording.transcript import Event
from ostiary.vault.payload_reading import Gap, Record

MAX_BODIES: Final = 4096
"""Bodies whose next piece may begin in the middle of a character."""
_KINDS: Final = {PayloadKind.RESULT: "answer", PayloadKind.COPY_IN: "body"}
_Decoders = dict[tuple[str, PayloadKind], codecs.IncrementalDecoder]


def http_events(records: Iterable[Record | Gap]) -> Iterator[Event]:
    """Decode a recording, in order. Whatever it holds, reading it yields events and never an exception."""
    known = Repeats()
    decoders: _Decoders = {}
    t_us = 0
    for record in records:
        if isinstance(record, Gap):
            yield Event(t_us=t_us, kind="gap", text=record.why)
            continue
        t_us = record.t_us
        if record.kind is PayloadKind.STATEMENT:
            known.keep(record.number, record.data)
            yield Event(t_us=t_us, kind="statement", entry=record.entry, text=_request(record.data))
        elif record.kind is PayloadKind.AGAIN:
            again = known.find(record.data)
            text = "(a request shown before)" if again is None else _request(again)
            yield Event(t_us=t_us, kind="statement", entry=record.entry, text=text)
        elif record.kind in _KINDS:
            text = _decoder(decoders, record).decode(record.data)
            yield Event(t_us=t_us, kind=_KINDS[record.kind], entry=record.entry, text=text)
        else:
            yield Event(t_us=t_us, kind="note", entry=record.entry, text=_text(record.data))
    for (entry, kind), decoder in decoders.items():
        if rest := decoder.decode(b"", final=True):
            yield Event(t_us=t_us, kind=_KINDS[kind], entry=entry, text=rest)


def _decoder(decoders: _Decoders, record: Record) -> codecs.IncrementalDecoder:
    """What reads one body: its records cut it anywhere, in the middle of a character too."""
    key = (record.entry, record.kind)
    found = decoders.get(key)
    if found is None:
        if len(decoders) >= MAX_BODIES:
            del decoders[next(iter(decoders))]
        found = decoders[key] = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    return found


def _request(data: bytes) -> str:
    """A request; lines of its head end in CRLF, always, which nobody needs to see."""
    head, end, body = data.partition(b"\r\n\r\n")
    return _text(head.replace(b"\r\n", b"\n") + end.replace(b"\r", b"") + body)


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")
