"""Secrets: values that cannot be printed, and references that say where a value is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SCHEMES: Final = frozenset({"env", "file"})


@dataclass(frozen=True, slots=True)
class Secret:
    """A credential. `reveal()` is the only way in, so it is the only word to search for."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """Return the value itself. Every caller of this is a place to review."""
        return self._value

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is kept: `env:NAME` or `file:/path` (`ostiary.vault` resolves it). Holds no secret itself."""

    scheme: str
    place: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.place}"
