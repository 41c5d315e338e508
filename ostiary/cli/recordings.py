"""Recordings as commands open them: the file of a session, the keys that are here, and the values in it."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ostiary.audit.touched import Touched
    from ostiary.config.types import Config
    from ostiary.model.events import StreamHead
    from ostiary.vault.keys import KeyEncryptionKey
    from ostiary.vault.payload_reading import Gap, Record
    from ostiary.vault.ring import KeyRing


def files_of(state: Path, session: str) -> list[Path]:
    """Return the recordings of a session: one, or none; two where a log was copied in."""
    # The id becomes part of a path, so it is nothing but an id.
    return sorted(state.glob(f"audit/*/*/payloads/{session}.osp")) if re.fullmatch(r"[0-9a-f-]{36}", session) else []


def keys_of(config: Config, *, only_reads: bool = False) -> KeyRing:
    """Return the key-encryption keys that are here; see `load_ring`."""
    from ostiary.vault.ring import load_ring

    return load_ring(Path(config.gateway.state_dir), config.recordings.keys, only_reads=only_reads)


def records(config: Config, session: str, head: StreamHead | None) -> Iterator[Record | Gap]:
    """Open the recording of a session with whichever key-encryption key it names."""
    return _opened(_file_of(config, session), keys_of(config, only_reads=True), head)


def followed(config: Config, session: str, wait: Callable[[], bool]) -> Iterator[Record | Gap]:
    """Open the recording of a session that goes on: what is there, and what comes, for as long as `wait` says so."""
    from ostiary.vault.payload_reading import follow_stream

    path = _file_of(config, session)
    return follow_stream(path, _key_of(path, keys_of(config, only_reads=True)), wait)


def _file_of(config: Config, session: str) -> Path:
    found = files_of(Path(config.gateway.state_dir), session)
    if not found:
        raise CommandFailed(ExitCode.NO, f"there is no recording of session {session}")
    return found[0]


def _opened(path: Path, keys: KeyRing, head: StreamHead | None) -> Iterator[Record | Gap]:
    from ostiary.vault.payload_reading import read_stream

    return read_stream(path, _key_of(path, keys), head)


def _key_of(path: Path, keys: KeyRing) -> KeyEncryptionKey:
    from ostiary.vault.keys import NoSuchKey
    from ostiary.vault.payload_reading import read_header

    try:
        return keys.find(read_header(path).key_id)
    except NoSuchKey as problem:
        raise CommandFailed(ExitCode.NO, str(problem)) from None


def touched(config: Config) -> Touched:
    """Make what looks for values in recordings; its key is made when it is first needed."""
    from ostiary.audit.touched import KEY_FILE, Touched
    from ostiary.masking import scrub
    from ostiary.recording.contents import contents, ssh_contents
    from ostiary.vault.keys import KEY_BYTES, create_key_file
    from ostiary.vault.references import read_private

    where = Path(config.gateway.state_dir) / "keys"
    path, keys = where / KEY_FILE, keys_of(config, only_reads=True)
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

    def is_secret(value: str) -> bool:
        return scrub(value, {"secret"}) != value

    def read(file: Path, spoken: str) -> Iterator[tuple[str, str]]:
        held = _opened(file, keys, None)
        return ssh_contents(held, is_secret) if spoken == "ssh" else contents(held, is_secret)

    return Touched(key, read, progress=progress)
