"""The base of values that are made with every message: compared, hashed and shown by their fields.

Why not `msgspec.Struct`, as everywhere else: where the line is compiled, the `.pxd` beside each module makes these classes structs of C.
Then making one takes two thirds of the time, and reading a field a few instructions instead of a look-up (docs/decisions/0019-typed-nouns.md).
Fields are `Final`, so that mypy holds what `frozen=True` says; compiled, they cannot be set at all.

A module whose nouns are made with every message has a base of its own (`_Value`) that does the same: to call a class is a call of C only where the
compiler sees all its bases in one module.
"""

from __future__ import annotations


def same(one: object, other: object) -> bool:
    """Whether two values are of one class, and equal in what its `__slots__` name. `NotImplemented` where the classes differ."""
    if type(one) is not type(other):
        return NotImplemented  # type: ignore[no-any-return]  # as `__eq__` may
    names: tuple[str, ...] = getattr(one, "__slots__", ())
    return all(getattr(one, name) == getattr(other, name) for name in names)


def number(one: object) -> int:
    """The hash of a value: that of its class and fields."""
    names: tuple[str, ...] = getattr(one, "__slots__", ())
    return hash((type(one), *(getattr(one, name) for name in names)))


def shown(one: object) -> str:
    """A value with its fields, for people."""
    names: tuple[str, ...] = getattr(one, "__slots__", ())
    return f"{type(one).__name__}({', '.join(f'{name}={getattr(one, name)!r}' for name in names)})"


class Noun:
    """A value: what its `__slots__` name, and nothing else."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __hash__(self) -> int:
        return number(self)

    def __repr__(self) -> str:
        return shown(self)
