"""Recordings' keys after the fact: destroying one erases its recording, wrapping one anew moves it under another key-encryption key.

Neither changes a byte that was ever hashed: the log's proofs, blobs and heads hold as before. What is changed is the 68 bytes of a
stream's header that hold the key's id and the wrapped data key (`ostiary.vault.payload_format`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ostiary.vault import payload_format as form
from ostiary.vault.keys import KEY_ID_BYTES, KeyEncryptionKey, load_key_file
from ostiary.vault.payload_reading import read_header

_ID_AT: Final = form.BOUND - KEY_ID_BYTES
_BESIDE: Final = ".rewrap"


def newest_key(keys: Path) -> KeyEncryptionKey:
    """Return the key-encryption key under which new recordings are made: the one with the highest number."""
    numbered = {int(path.stem[4:]): path for path in keys.glob("kek-*.key") if path.stem[4:].isdecimal()}
    return load_key_file(numbered[max(numbered)] if numbered else keys / "kek-1.key")


def next_key_file(keys: Path) -> Path:
    """Name the file of the key that follows."""
    return keys / f"kek-{1 + max((int(path.stem[4:]) for path in keys.glob('kek-*.key') if path.stem[4:].isdecimal()), default=0)}.key"


def destroy(path: Path) -> None:
    """Destroy a recording's data key, durably: nobody can read the recording any more, nor what backups of this key's id hold."""
    _put(path, form.BOUND, bytes(form.HEADER.size - form.BOUND))


def is_destroyed(path: Path) -> bool:
    """Whether a recording's data key was destroyed."""
    with path.open("rb") as file:
        raw = file.read(form.HEADER.size)
    return len(raw) == form.HEADER.size and not any(raw[form.BOUND :])


def rewrap(folder: Path, keys: dict[str, KeyEncryptionKey], fresh: KeyEncryptionKey) -> Iterator[tuple[Path, str]]:
    """Wrap the data key of every recording in a folder under `fresh`; yields each with what happened.

    A header is written twice, first beside the file: a crash in between is mended by the next run.
    """
    for path in sorted(folder.glob(f"*{form.SUFFIX}")):
        beside = path.with_name(path.name + _BESIDE)
        if beside.exists():
            held = beside.read_bytes()
            if len(held) == form.HEADER.size - _ID_AT:
                _put(path, _ID_AT, held)
            beside.unlink()
        if is_destroyed(path):
            yield path, "destroyed"
            continue
        header = read_header(path)
        if header.key_id == fresh.id:
            continue
        old = keys.get(header.key_id)
        if old is None:
            yield path, f"needs the key {header.key_id}, which is not here"
            continue
        with path.open("rb") as file:
            raw = file.read(form.HEADER.size)
        bound = raw[:_ID_AT] + bytes.fromhex(fresh.id)
        data_key = old.unwrap(raw[form.BOUND :], raw[: form.BOUND])
        fresh_tail = bytes.fromhex(fresh.id) + fresh.wrap(data_key, bound)
        _make(beside, fresh_tail)
        _put(path, _ID_AT, fresh_tail)
        beside.unlink()
        yield path, "wrapped anew"


def _make(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, data, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _put(path: Path, at: int, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, data, at)
        os.fsync(fd)
    finally:
        os.close(fd)
