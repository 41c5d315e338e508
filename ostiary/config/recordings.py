"""The section about recordings: under which keys they are encrypted, and how much of them there may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ostiary.config.words import Section, Text
from ostiary.model.errors import ConfigError
from ostiary.model.secrets import SecretRef

Amount = Annotated[int, Meta(ge=1 << 20, le=1 << 50)]


class Recordings(Section, frozen=True):
    """Recordings: their keys, and how much of them there may be. At a limit, sessions are refused or ended; nothing goes on unrecorded."""

    keys: tuple[Text, ...] = ()
    """Where key-encryption keys are kept, never the keys: `file:/path` or `env:NAME`; 32 bytes, or 64 hexadecimal digits, or base64. New recordings are under the last one, the others are for reading. Not set: the newest `kek-N.key` in the state folder, which is read in any case."""
    session_bytes: Amount = 16 << 30
    """Bytes of one session's recording. What would go beyond is refused, and ends the session."""
    identity_day_bytes: Amount | None = None
    """Bytes of the recordings of one identity (a subject, whoever acts for it) that begin on one day (UTC)."""
    day_bytes: Amount | None = None
    """Bytes of all recordings that begin on one day (UTC)."""
    store_bytes: Amount | None = None
    """Bytes of all recordings that are kept."""


def recordings(written: Recordings, folder: Path, refer: Callable[[str, str, Path], SecretRef]) -> Recordings:
    """Check what is written; references to keys get whole paths. `refer` parses one."""
    keys = tuple(str(refer(f"recordings.keys[{n}]", text, folder)) for n, text in enumerate(written.keys))
    for n, key in enumerate(keys):
        if key in keys[:n]:
            raise ConfigError(f"recordings.keys[{n}]", "names a key a second time; keep one, and the newest last")
    return msgspec.structs.replace(written, keys=keys)
