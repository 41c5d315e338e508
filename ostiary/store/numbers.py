"""By which number clients know each session on a target, whichever worker has it: who said NOTIFY is named by it, not by the target's own.

Where the memory that workers share has no room, or somebody does not let go of its lock, sessions of other workers are named by the
target's number, as are those that did not come through the gateway.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Mapping
from typing import Final

from ostiary.store.commons import CommonsBusy, Table, key_of

_BODY: Final = struct.Struct("=B3x4s")
BODY: Final = _BODY.size
"""Which worker has the session (0: nobody, the record is over), and the number that its client was told."""
RECORDS: Final = 1 << 14


class Numbers(Mapping[bytes, bytes]):
    """Of the sessions on one target: the process id there, and the number that the client was told instead. In network order."""

    def __init__(self, connection: str) -> None:
        self._connection = connection
        self._own: dict[bytes, bytes] = {}
        self._table: Table | None = None
        self._worker = 0

    def share(self, table: Table, worker: int) -> None:
        """Tell the other workers of them, and look there for what is not known here."""
        self._table = table
        self._worker = worker

    def add(self, there: bytes, here: bytes) -> None:
        """A session has begun."""
        self._own[there] = here
        self._put(there, _BODY.pack(self._worker, here))

    def remove(self, there: bytes, here: bytes) -> None:
        """A session is over; the target may have given its process id to another since."""
        if self._own.get(there) == here:
            del self._own[there]
            self._put(there, bytes(BODY), of=_BODY.pack(self._worker, here))

    def _put(self, there: bytes, body: bytes, of: bytes | None = None) -> None:
        """Write a record. `of`: only where it is still this."""
        table = self._table
        if table is None:
            return
        try:
            with table.lock:
                at = table.place(self._key(there), lambda at: not table.memory[at])
                if at is not None and of in (None, table.memory[at : at + BODY]):
                    table.memory[at : at + BODY] = body
        except CommonsBusy:
            return

    def _key(self, there: bytes) -> bytes:
        return key_of(self._connection, there.hex())

    def __getitem__(self, there: bytes) -> bytes:
        found = self._own.get(there) or self._elsewhere(there)
        if found is None:
            raise KeyError(there)
        return found

    def _elsewhere(self, there: bytes) -> bytes | None:
        table = self._table
        if table is None:
            return None
        try:
            with table.lock:
                at = table.find(self._key(there))
                worker, here = (0, b"") if at is None else _BODY.unpack_from(table.memory, at)
        except CommonsBusy:
            return None
        return here if worker else None

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


def forget(table: Table, worker: int) -> None:
    """A worker has begun: what the one before it told is over."""
    for at in table.bodies():
        if table.memory[at] == worker:
            with contextlib.suppress(CommonsBusy), table.lock:
                if table.memory[at] == worker:  # a session of another worker may just have come to that process id
                    table.memory[at : at + BODY] = bytes(BODY)
