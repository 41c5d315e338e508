"""The base of values that are made with every message: compared, hashed and shown by their fields.

Why not `msgspec.Struct`, as everywhere else: where the line is compiled, the `.pxd` beside each module makes these classes structs of C.
Then making one takes two thirds of the time, and reading a field a few instructions instead of a look-up (docs/decisions/0019-typed-nouns.md).
Fields are `Final`, so that mypy holds what `frozen=True` says; compiled, they cannot be set at all.
"""

from __future__ import annotations


class Noun:
    """A value: what its `__slots__` name, and nothing else."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self.__slots__)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"
