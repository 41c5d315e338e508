"""Checks of what masks are made with, for whatever kind of target they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ostiary.config.types import Class
from ostiary.model.connections import DataClass, Strategy
from ostiary.model.errors import ConfigError
from ostiary.model.secrets import SecretRef

KEYED: Final = frozenset({Strategy.HASH, Strategy.TOKEN})

Refer = Callable[[str, str], SecretRef]
"""Parses a reference to a secret: where it is written, and what is written."""


def mask_key(key: str, written: str | None, masks: Iterable[Strategy], refer: Refer) -> SecretRef | None:
    """Where the key of hashes and tokens is kept. Raises `ConfigError` where one of the masks needs it, and it is not written."""
    if written is not None:
        return refer(f"{key}.mask_key", written)
    keyed = [each for each in masks if each in KEYED]
    if keyed:
        raise ConfigError(
            f"{key}.mask_key", f'is needed for mask = "{keyed[0].value}": write where its key is kept, file:/path or env:NAME'
        )
    return None


def data_classes(classes: Mapping[str, Class]) -> tuple[DataClass, ...]:
    """What is written of data classes, by name."""
    return tuple(DataClass(name, each.first, each.last, each.infer) for name, each in sorted(classes.items()))
