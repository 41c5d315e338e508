"""The key-encryption keys that are here: one for what is new, and those that open what is older.

They are the files `kek-N.key` of the state folder, by their numbers, and behind them what `recordings.keys` names. The last one wraps;
all of them unwrap. So a key is rotated by putting a new one at the end, and can go once `ostiary audit keys` shows nothing under it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ostiary.model.errors import ConfigError
from ostiary.vault.keys import KeyEncryptionKey, NoSuchKey, WrongKey, load_key, load_key_file
from ostiary.vault.references import parse_ref

_FIRST: Final = "kek-1.key"


class KeyRing:
    """Keys in order; the last one is in use."""

    def __init__(self, keys: Iterable[tuple[KeyEncryptionKey, str]]) -> None:
        """`keys`: each with where it is kept. One that comes twice stands where it comes last."""
        found: dict[str, tuple[KeyEncryptionKey, str]] = {}
        for key, where in keys:
            found.pop(key.id, None)
            found[key.id] = (key, where)
        self.by_id = MappingProxyType({id_: key for id_, (key, _) in found.items()})
        self.places = MappingProxyType({id_: where for id_, (_, where) in found.items()})
        """Where each is kept, by its id: fit to be shown."""
        self._current = next(reversed(list(self.by_id.values())), None)

    @property
    def current(self) -> KeyEncryptionKey:
        """The key in use. `ValueError` where there is none at all."""
        if self._current is None:
            raise ValueError("a ring without keys")
        return self._current

    def find(self, key_id: str) -> KeyEncryptionKey:
        """Return the key of that id. Raises `NoSuchKey`."""
        key = self.by_id.get(key_id)
        if key is None:
            raise NoSuchKey(
                f"the key-encryption key {key_id} is not here: put its file back into the state folder's keys, or name it in"
                " recordings.keys. Until then what is under it cannot be read; the log verifies without it"
            )
        return key

    def wrap(self, data: bytes, bound_to: bytes) -> bytes:
        """Wrap under the key in use."""
        return self.current.wrap(data, bound_to)

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        """Unwrap what does not say which key it is under. Raises `WrongKey` where none opens it."""
        for key in reversed(list(self.by_id.values())):
            try:
                return key.unwrap(wrapped, bound_to)
            except WrongKey:
                continue
        raise WrongKey("none of the keys that are here opens it")

    def opens(self, wrapped: bytes, bound_to: bytes) -> str:
        """Tell the id of the key that opens what does not say it; empty: none does."""
        for key in self.by_id.values():
            with contextlib.suppress(WrongKey):
                key.unwrap(wrapped, bound_to)
                return key.id
        return ""


def load_ring(state: Path, refs: Iterable[str] = (), *, only_reads: bool = False) -> KeyRing:
    """Read the key files of a state folder, and what is referred to. Raises `ConfigError` if one cannot be read, or there is none.

    `only_reads`: none is no error. What is read then says of each recording which key it lacks.
    """
    keys = state / "keys"
    files = [(load_key_file(path), str(path)) for _, path in _numbered(keys)]
    named = [(load_key(parse_ref(text, "recordings.keys")), text) for text in refs]
    if not (files or named or only_reads):
        raise ConfigError(
            "recordings.keys", f"names no key, and there is none in {keys}: restore {_FIRST}, without which no recording can be read"
        )
    return KeyRing([*files, *named])


def next_key_file(keys: Path) -> Path:
    """Name the file of the key that follows."""
    return keys / f"kek-{1 + max((number for number, _ in _numbered(keys)), default=0)}.key"


def _numbered(keys: Path) -> list[tuple[int, Path]]:
    return sorted((int(path.stem[4:]), path) for path in keys.glob("kek-*.key") if path.stem[4:].isascii() and path.stem[4:].isdigit())
