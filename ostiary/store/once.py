"""What may be used once in a gateway, whichever worker it comes to: remembered in the memory that all share, until it would be too old."""

from __future__ import annotations

import time
from typing import Final

from ostiary.store.commons import NUMBER, CommonsBusy, Table, key_of

BODY: Final = NUMBER.size
"""Until when it is remembered, in milliseconds since 1970."""
RECORDS: Final = 1 << 20


class SharedOnce:
    """Remembers. Where there is no room for more, or somebody does not let go of the lock, nothing may be used."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __len__(self) -> int:
        memory, now = self._table.memory, int(time.time() * 1000)
        return sum(NUMBER.unpack_from(memory, at)[0] > now for at in self._table.bodies())

    def use(self, what: str, until: float, now: float) -> bool:
        """Whether this is the first use of `what`; it is remembered until then. Seconds since 1970."""
        memory, millis = self._table.memory, int(now * 1000)

        def is_over(at: int) -> bool:
            ends: int = NUMBER.unpack_from(memory, at)[0]
            return ends <= millis

        try:
            with self._table.lock:
                at = self._table.place(key_of(what), is_over)
                if at is None or not is_over(at):
                    return False
                NUMBER.pack_into(memory, at, int(until * 1000) + 1)
                return True
        except CommonsBusy:
            return False
