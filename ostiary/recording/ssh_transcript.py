"""A recorded SSH session, as events: what was asked, what came back as it was masked, how each operation ended.

The recording holds messages of RFC 4254, 5.2 and 6 (`ostiary.protocols.ssh.messages` writes them) under the operation that they belong
to; how operations ended, which files moved and what was refused is told by the log's entries. Both are merged by time. What was typed
or sent is counted and never shown: a password is typed with the echo off, and nothing tells it from other input.
"""

from __future__ import annotations

import codecs
import datetime as dt
import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ostiary.model.events import PayloadKind
from ostiary.recording.transcript import Event
from ostiary.vault.payload_reading import Gap, Record

MAX_MESSAGE: Final = (1 << 20) + 64
"""Bytes of a message that is put together from several records; above what the gateway writes."""
MAX_STATEMENTS: Final = 4096
MAX_CHANNELS: Final = 4096


def ssh_events(records: Iterable[Record | Gap], entries: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """Decode a recording and what the log says of it, in order of time. Whatever they hold: events, and never an exception."""
    return heapq.merge(_Reader().events(records), _told(entries), key=lambda event: event.t_us)


class _Channel:
    """What one operation's next record needs: the beginning of a message, and of a character."""

    def __init__(self) -> None:
        self.held = b""
        self.decoders = {kind: codecs.getincrementaldecoder("utf-8")("backslashreplace") for kind in ("output", "errors")}


class _Reader:
    def __init__(self) -> None:
        self._t_us = 0
        self._typed: dict[str, int] = {}
        self._channels: dict[str, _Channel] = {}
        self._statements: dict[int, str] = {}

    def events(self, records: Iterable[Record | Gap]) -> Iterator[Event]:
        for record in records:
            is_input = isinstance(record, Record) and record.kind is PayloadKind.COPY_IN
            if self._typed and not is_input:
                yield from self._input()
            yield from self._read(record)
        yield from self._input()
        for entry, channel in self._channels.items():
            if channel.held:
                yield Event(t_us=self._t_us, kind="gap", entry=entry, text="the recording ends in the middle of a message")

    def _input(self) -> Iterator[Event]:
        for entry, size in self._typed.items():
            text = f"{size} bytes on record of what was typed or sent, not shown"
            yield Event(t_us=self._t_us, kind="input", entry=entry, text=text)
        self._typed.clear()

    def _read(self, record: Record | Gap) -> Iterator[Event]:
        if isinstance(record, Gap):
            yield Event(t_us=self._t_us, kind="gap", text=record.why)
            return
        self._t_us = max(self._t_us, record.t_us)
        match record.kind:
            case PayloadKind.STATEMENT:
                text = record.data.decode(errors="backslashreplace").replace("\0", " ")
                if len(self._statements) < MAX_STATEMENTS:
                    self._statements[record.number] = text
                yield Event(t_us=self._t_us, kind="statement", entry=record.entry, text=text)
            case PayloadKind.AGAIN:
                text = self._statements.get(int.from_bytes(record.data, "little"), "(shown before)")
                yield Event(t_us=self._t_us, kind="statement", entry=record.entry, text=text)
            case PayloadKind.COPY_IN:
                self._typed[record.entry] = self._typed.get(record.entry, 0) + len(record.data)
            case PayloadKind.RESULT:
                yield from self._messages(record)
            case _:
                text = record.data.decode(errors="backslashreplace")
                yield Event(t_us=self._t_us, kind="note", entry=record.entry, text=text)

    def _messages(self, record: Record) -> Iterator[Event]:
        if len(self._channels) >= MAX_CHANNELS and record.entry not in self._channels:
            self._channels.clear()
        channel = self._channels.setdefault(record.entry, _Channel())
        data, at = channel.held + record.data, 0
        try:
            while (found := _message(data, at)) is not None:
                kind, content, at = found
                if kind == "close":
                    self._channels.pop(record.entry, None)
                elif kind in channel.decoders:
                    yield Event(t_us=self._t_us, kind=kind, entry=record.entry, text=channel.decoders[kind].decode(content))
                elif kind:
                    text = content.decode(errors="backslashreplace")
                    yield Event(t_us=self._t_us, kind=kind, entry=record.entry, text=text)
            channel.held = data[at:]
        except ValueError as exc:
            channel.held = b""
            yield Event(t_us=self._t_us, kind="gap", entry=record.entry, text=str(exc))


class _Cut(Exception):
    """The message goes on."""


def _message(data: bytes, at: int) -> tuple[str, bytes, int] | None:
    """(kind, content, where the next begins), with no kind where there is nothing to tell; None: the rest is still to come.

    Raises `ValueError` for what is no message.
    """
    if at >= len(data):
        return None
    try:
        match data[at]:
            case 94:  # data
                content, end = _string(data, at + 1)
                return "output", content, end
            case 95:  # extended data
                content, end = _string(data, at + 5)
                return "errors", content, end
            case 96:  # end of data
                return "", b"", at + 1
            case 97:  # close
                return "close", b"", at + 1
            case 98:  # request
                name, end = _string(data, at + 1)
                body, end = _string(data, end + 1)
                return *_request(name, body), end
    except _Cut:
        return None
    raise ValueError("bytes that are no message")


def _request(name: bytes, body: bytes) -> tuple[str, bytes]:
    """RFC 4254, 6.10: how a command ended."""
    if name == b"exit-status":
        return "exit", str(int.from_bytes(body[:4], "big")).encode()
    if name == b"exit-signal":
        return "exit", b"signal " + body[4 : 4 + int.from_bytes(body[:4], "big")]
    return "note", name


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    if len(data) < at + 4:
        raise _Cut
    end = at + 4 + int.from_bytes(data[at : at + 4], "big")
    if end - at > MAX_MESSAGE:
        raise ValueError("a message that is too long")
    if end > len(data):
        raise _Cut
    return data[at + 4 : end], end


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
