"""Statements that a recording refers to instead of holding them twice, for whoever reads it from its beginning."""

from __future__ import annotations

from ostiary.vault.payloads import LARGEST_REMEMBERED, MAX_REMEMBERED, MAX_REMEMBERED_BYTES


class Repeats:
    """The newest statements, as many as the stream itself remembers: it refers to no other, and they need no more memory here."""

    def __init__(self) -> None:
        self._held: dict[int, bytes] = {}
        self._bytes = 0

    def keep(self, number: int, statement: bytes) -> None:
        """Remember a statement by the number of its record."""
        if len(statement) > LARGEST_REMEMBERED:
            return
        self._held[number] = statement
        self._bytes += len(statement)
        while len(self._held) > MAX_REMEMBERED or self._bytes > MAX_REMEMBERED_BYTES:
            self._bytes -= len(self._held.pop(next(iter(self._held))))

    def find(self, reference: bytes) -> bytes | None:
        """Return the statement that an `AGAIN` record names; None where it names none."""
        return self._held.get(int.from_bytes(reference, "little"))
