"""Recordings as commands open them: the file of a session, the keys that are here, and the values in it."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ostiary.audit.touched import Touched
    from ostiary.config.types import Config
    from ostiary.model.events import StreamHead
    from ostiary.vault.keys import KeyEncryptionKey
    from ostiary.vault.payload_reading import Gap, Record


def files_of(state: Path, session: str) -> list[Path]:
    """Return the recordings of a session: one, or none; two where a log was copied in."""
    # The id becomes part of a path, so it is nothing but an id.
    return sorted(state.glob(f"audit/*/*/payloads/{session}.osp")) if re.fullmatch(r"[0-9a-f-]{36}", session) else []


def keys_of(config: Config) -> dict[str, KeyEncryptionKey]:
    """Return the key-encryption keys that are here, by their ids."""
    from ostiary.vault.keys import load_key_file

    folder = Path(config.gateway.state_dir) / "keys"
    return {key.id: key for key in map(load_key_file, sorted(folder.glob("kek-*.key")))}


def records(config: Config, session: str, head: StreamHead | None) -> Iterator[Record | Gap]:
    """Open the recording of a session with whichever key-encryption key it names."""
    state = Path(config.gateway.state_dir)
    found = files_of(state, session)
    if not found:
        raise CommandFailed(ExitCode.NO, f"there is no recording of session {session}")
    return _opened(found[0], keys_of(config), head, state / "keys")


def _opened(path: Path, keys: dict[str, KeyEncryptionKey], head: StreamHead | None, where: Path) -> Iterator[Record | Gap]:
    from ostiary.vault.payload_reading import read_header, read_stream

    header = read_header(path)
    if header.key_id not in keys:
        raise CommandFailed(ExitCode.NO, f"the key {header.key_id}, which opens this recording, is not in {where}")
    return read_stream(path, keys[header.key_id], head)


def touched(config: Config) -> Touched:
    """Make what looks for values in recordings; its key is made when it is first needed."""
    from ostiary.audit.touched import KEY_FILE, Touched
    from ostiary.masking import scrub
    from ostiary.recording.contents import contents
    from ostiary.vault.keys import KEY_BYTES, create_key_file
    from ostiary.vault.references import read_private

    where = Path(config.gateway.state_dir) / "keys"
    path, keys = where / KEY_FILE, keys_of(config)
    if not path.exists():
        create_key_file(path)
    key = read_private(str(path), str(path))
    if len(key) != KEY_BYTES:
        raise CommandFailed(ExitCode.STORAGE, f"{path} is no key: delete it, and another one is made")
    told = -1

    def progress(done: int, total: int) -> None:
        nonlocal told
        if (percent := 100 * done // max(1, total)) >= told + 5 and total > done:
            told = percent
            say(f"{percent} % of {total} recordings")

    return Touched(
        key,
        lambda file: contents(_opened(file, keys, None, where), lambda value: scrub(value, {"secret"}) != value),
        progress=progress,
    )
