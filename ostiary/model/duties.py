"""What a permit demands beside letting an operation run: how much may come back, which rows, and under which settings."""

from __future__ import annotations

import msgspec


class Duties(msgspec.Struct, frozen=True):
    """Demands of all permits that were satisfied; of several, all hold."""

    rows: int | None
    """Rows that one statement may return at most."""
    filters: tuple[tuple[str, str], ...]
    """(relation, condition in the protocol's own language), sorted: of that relation only such rows may be seen."""
    read_only: bool
    """The target is told that this session's transactions only read. Demanded of the permit to connect."""
    timeout: int | None
    """Milliseconds that a statement may take at the target. Demanded of the permit to connect."""
