"""Secret references: parsed strictly, resolved late, and never echoed.

What an operator mistypes in a `password = "…"` line may be the password itself, so no message here quotes it.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Final

from ostiary.model.errors import ConfigError
from ostiary.model.secrets import SCHEMES, Secret, SecretRef

MAX_SECRET: Final = 64 * 1024
"""Bytes. A PEM chain with its key is the largest thing kept this way."""

_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def parse_ref(text: str, key: str) -> SecretRef:
    """Read `env:NAME` or `file:/absolute/path`; `key` is the setting's name, for the message.

    Raises `ConfigError` that says what to write instead, without repeating what stood there.
    """
    scheme, colon, place = text.partition(":")
    if not colon or scheme not in SCHEMES:
        raise ConfigError(
            key, "is not a secret reference: write env:NAME or file:/absolute/path, never the secret itself"
        )
    if scheme == "env" and not _ENV_NAME.fullmatch(place):
        raise ConfigError(key, "env: takes the name of an environment variable (letters, digits, underscore)")
    if scheme == "file" and (not place.startswith("/") or "\0" in place):
        raise ConfigError(key, "file: takes an absolute path, as in file:/etc/ostiary/secret")
    return SecretRef(scheme, place)


def resolve(ref: SecretRef) -> Secret:
    """Fetch the value a reference points to, less one trailing line ending.

    Raises `ConfigError` named after the reference: absent, empty, not UTF-8, larger than `MAX_SECRET`, or readable by
    people who should not.
    """
    if ref.scheme == "env":
        text = os.environ.get(ref.place)
        if text is None:
            raise ConfigError(str(ref), "the environment variable is not set: set it where the gateway is started")
    else:
        text = _text(read_private(ref.place, str(ref)), ref)
    for ending in ("\r\n", "\n"):
        if text.endswith(ending):
            text = text[: -len(ending)]
            break
    if not text:
        raise ConfigError(str(ref), "the secret is empty")
    if "\0" in text:
        raise ConfigError(str(ref), "the secret holds a NUL character, which no target accepts")
    return Secret(text)


def read_private(path: str, name: str) -> bytes:
    """Read a whole file that only its owner may read; `name` stands in the message.

    The owner must be this process's user or root. A group may read it only if root owns it: so Kubernetes and
    systemd hand secrets to a service's group. Symbolic links are followed (Kubernetes makes secrets of them); what is
    checked is the opened file itself, so nothing can be swapped in between.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError(name, "there is no such file: create it with mode 0600") from None
    except OSError as exc:
        raise ConfigError(name, f"cannot be opened: {exc.strerror}") from None
    try:
        info = os.fstat(fd)
        _check_private(info, name)
        if info.st_size > MAX_SECRET:
            raise ConfigError(name, f"is larger than a secret may be ({MAX_SECRET} bytes)")
        data = bytearray()
        while len(data) <= MAX_SECRET and (more := os.read(fd, MAX_SECRET + 1 - len(data))):
            data += more
    except OSError as exc:
        raise ConfigError(name, f"cannot be read: {exc.strerror}") from None
    finally:
        os.close(fd)
    if len(data) > MAX_SECRET:
        raise ConfigError(name, f"is larger than a secret may be ({MAX_SECRET} bytes)")
    return bytes(data)


def _check_private(info: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise ConfigError(name, "is not a regular file")
    if info.st_uid not in {os.geteuid(), 0}:
        raise ConfigError(name, "belongs to another user: chown it to the user that runs the gateway")
    others = info.st_mode & 0o077
    if others and not (info.st_uid == 0 and others == stat.S_IRGRP):
        mode = stat.S_IMODE(info.st_mode)
        raise ConfigError(name, f"can be reached by others (mode {mode:04o}): chmod 600 it")


def _text(data: bytes, ref: SecretRef) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(str(ref), "the secret is not UTF-8 text") from None
