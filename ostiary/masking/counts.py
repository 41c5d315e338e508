"""How much was masked, by data class or detector."""

from __future__ import annotations

from ostiary.kernel.detect import Scanner
from ostiary.kernel.nets import Wanted, names_of


class Counts:
    """See above."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, int] | None = None
        """Most answers have nothing to count."""

    def any(self) -> bool:
        """Whether something was counted since the last `taken`."""
        return bool(self._found)

    def add(self, name: str, number: int = 1) -> None:
        """Count."""
        if number:
            if self._found is None:
                self._found = {}
            self._found[name] = self._found.get(name, 0) + number

    def add_found(self, data: bytes, bits: int | Wanted) -> None:
        """Count what the detectors find in `data`."""
        if not bits or not data:
            return
        scanner = Scanner(data, bytearray(data), bits)
        if scanner.scan(0, len(data), 0):
            for name, number in zip(names_of(bits), scanner.counts, strict=True):
                self.add(name, number)

    def taken(self) -> tuple[tuple[str, int], ...]:
        """What was counted since the last call, sorted."""
        if not self._found:
            return ()
        found = tuple(sorted(self._found.items()))
        self._found = None
        return found
