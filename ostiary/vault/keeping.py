"""Recordings' keys after the fact: destroying one erases its recording, wrapping one anew moves it under another key-encryption key.

Neither changes a byte that was ever hashed: the log's proofs, blobs and heads hold as before. What is changed is the 68 bytes of a
stream's header that hold the key's id and the wrapped data key (`ostiary.vault.payload_format`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ostiary.model.errors import OstiaryError
from ostiary.vault import payload_format as form
from ostiary.vault.keys import KEY_ID_BYTES, KeyEncryptionKey, WrongKey
from ostiary.vault.payload_format import PayloadError
from ostiary.vault.payload_reading import read_header

_ID_AT: Final = form.BOUND - KEY_ID_BYTES
BESIDE: Final = ".rewrap"
"""Ends the name of what is there, beside a recording, while its key is wrapped anew."""


def destroy(path: Path) -> None:
    """Destroy a recording's data key, durably: nobody can read the recording any more, nor what backups of this key's id hold."""
    # The key stands beside the file too, where wrapping it anew was cut short.
    path.with_name(path.name + BESIDE).unlink(missing_ok=True)
    _sync_folder(path.parent)
    _put(path, form.BOUND, bytes(form.HEADER.size - form.BOUND))


def is_destroyed(path: Path) -> bool:
    """Whether a recording's data key was destroyed."""
    with path.open("rb") as file:
        raw = file.read(form.HEADER.size)
    return len(raw) == form.HEADER.size and not any(raw[form.BOUND :])


def needed(path: Path) -> tuple[str, str]:
    """Which key a recording needs: its id (empty: none, for its own key was destroyed), or what is wrong with the file."""
    try:
        return ("" if is_destroyed(path) else read_header(path).key_id), ""
    except (OstiaryError, OSError) as problem:
        return "", str(problem)


def rewrap(folder: Path, keys: Mapping[str, KeyEncryptionKey], fresh: KeyEncryptionKey) -> Iterator[tuple[Path, str]]:
    """Wrap the data key of every recording in a folder under `fresh`; yields each with what happened.

    A header is written twice, first beside the file: a crash in between is mended by the next run.
    """
    for path in sorted(folder.glob(f"*{form.SUFFIX}")):
        try:
            happened = _wrap_one(path, keys, fresh)
        except (PayloadError, WrongKey) as problem:
            happened = str(problem)  # one that is damaged holds up no other
        if happened:
            yield path, happened


def _wrap_one(path: Path, keys: Mapping[str, KeyEncryptionKey], fresh: KeyEncryptionKey) -> str:
    beside = path.with_name(path.name + BESIDE)
    if is_destroyed(path):
        beside.unlink(missing_ok=True)
        return "destroyed"
    if beside.exists():
        held = beside.read_bytes()
        if len(held) == form.HEADER.size - _ID_AT:
            _put(path, _ID_AT, held)
        beside.unlink()
    header = read_header(path)
    if header.key_id == fresh.id:
        return ""
    old = keys.get(header.key_id)
    if old is None:
        return f"needs the key {header.key_id}, which is not here"
    with path.open("rb") as file:
        raw = file.read(form.HEADER.size)
    bound = raw[:_ID_AT] + bytes.fromhex(fresh.id)
    data_key = old.unwrap(raw[form.BOUND :], raw[: form.BOUND])
    fresh_tail = bytes.fromhex(fresh.id) + fresh.wrap(data_key, bound)
    _make(beside, fresh_tail)
    _put(path, _ID_AT, fresh_tail)
    beside.unlink()
    return "wrapped anew"


def _make(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, data, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _put(path: Path, at: int, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, data, at)
        os.fsync(fd)
    finally:
        os.close(fd)
