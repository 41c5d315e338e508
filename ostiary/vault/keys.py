"""Key-encryption keys: 32 random bytes in a private file, named by their own hash.

Losing one loses the payloads under it and no proof; destroying one is how payloads are erased.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.model.errors import ConfigError, OstiaryError
from ostiary.model.secrets import SecretRef
from ostiary.vault.references import read_private, resolve

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 8
WRAPPED_BYTES: Final = 12 + KEY_BYTES + 16
"""Nonce, ciphertext, tag: NIST SP 800-38D, 5.2."""


class WrongKey(OstiaryError):
    """The key does not open what it was asked to open: another key's, or damaged."""


class NoSuchKey(OstiaryError):
    """A key-encryption key is not here: what is under it cannot be read, and the log verifies without it."""


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """Wraps the data keys of sessions. `id` may be shown; the key itself may not."""

    id: str
    """Hex of the first 8 bytes of SHA-256 over the key."""
    _key: bytes = field(repr=False)

    @classmethod
    def from_bytes(cls, key: bytes) -> Self:
        """Name 32 bytes of key material by their hash; anything else is a `ValueError`."""
        if len(key) != KEY_BYTES:
            raise ValueError("a key-encryption key has 32 bytes")
        return cls(hashlib.sha256(key).digest()[:KEY_ID_BYTES].hex(), key)

    def wrap(self, data_key: bytes, bound_to: bytes) -> bytes:
        """Encrypt a data key so that it opens only beside `bound_to`: `WRAPPED_BYTES` long."""
        nonce = secrets.token_bytes(12)
        return nonce + AESGCM(self._key).encrypt(nonce, data_key, bound_to)

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        """Undo `wrap`; raises `WrongKey`."""
        try:
            return AESGCM(self._key).decrypt(wrapped[:12], wrapped[12:], bound_to)
        except InvalidTag:
            raise WrongKey(f"key {self.id} does not open this payload stream") from None

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled")


def create_key_file(path: str | Path) -> KeyEncryptionKey:
    """Make a key file with mode 0600, durable before return. Never overwrites: raises `ConfigError` if it exists."""
    key = secrets.token_bytes(KEY_BYTES)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(
            str(path), "there is a key already: overwriting it would destroy every payload under it"
        ) from None
    try:
        if os.write(fd, key) != KEY_BYTES:
            raise ConfigError(str(path), "could not be written whole")
        os.fsync(fd)
    finally:
        os.close(fd)
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return KeyEncryptionKey.from_bytes(key)


def load_key(ref: SecretRef) -> KeyEncryptionKey:
    """Fetch a key from where a reference says: 32 bytes as they are (`file:` alone), 64 hexadecimal digits, or base64.

    Raises `ConfigError` named after the reference. What stood there is never repeated.
    """
    if ref.scheme == "file":
        raw = read_private(ref.place, str(ref))
        if len(raw) == KEY_BYTES:
            return KeyEncryptionKey.from_bytes(raw)
    text = resolve(ref).reveal().strip()
    for read in (bytes.fromhex, lambda digits: base64.b64decode(digits, validate=True)):
        try:
            return KeyEncryptionKey.from_bytes(read(text))
        except ValueError:
            continue
    raise ConfigError(str(ref), f"is no key-encryption key: write {KEY_BYTES} random bytes as 64 hexadecimal digits, or as base64")


def load_key_file(path: str | Path) -> KeyEncryptionKey:
    """Read what `create_key_file` made; raises `ConfigError` if it is absent, open to others, or no key."""
    key = read_private(str(path), str(path))
    if len(key) != KEY_BYTES:
        raise ConfigError(str(path), f"is no key-encryption key: it has {len(key)} bytes, a key has {KEY_BYTES}")
    return KeyEncryptionKey.from_bytes(key)
