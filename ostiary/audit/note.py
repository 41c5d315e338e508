"""Signed notes, vkeys and checkpoints: C2SP signed-note and tlog-checkpoint, with Ed25519 (type 0x01) alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ostiary.model.errors import LogFailed

_ED25519: Final = b"\x01"
_DASH: Final = "\u2014 "
MAX_NOTE: Final = 1 << 16


class BadNote(LogFailed):
    """A note that is malformed, or not signed by the key that it should be signed by."""


class Signer:
    """A named Ed25519 key that signs notes."""

    def __init__(self, name: str, seed: bytes) -> None:
        self.name = check_name(name)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.vkey = vkey(name, self._key.public_key().public_bytes_raw())

    def sign(self, text: str) -> str:
        """Sign `text`, which must end in a newline, and return the whole note."""
        if not text.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in text):
            raise ValueError("a note's text ends in a newline and has no other control characters")
        public = self._key.public_key().public_bytes_raw()
        signature = key_id(self.name, public) + self._key.sign(text.encode())
        return f"{text}\n{_DASH}{self.name} {base64.b64encode(signature).decode()}\n"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not pickled")


def check_name(name: str) -> str:
    """Return `name` if it can be a key name: not empty, no spaces, no plus, nothing unprintable."""
    if not name or "+" in name or not name.isprintable() or any(c.isspace() for c in name):
        raise ValueError("a key name has no spaces, plus signs or control characters, and is not empty")
    return name


def key_id(name: str, public: bytes) -> bytes:
    """Compute the four bytes that stand for a key: signed-note, "Signatures"."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def vkey(name: str, public: bytes) -> str:
    """Write a verifier key: signed-note, "Verifier keys"."""
    return f"{name}+{key_id(name, public).hex()}+{base64.b64encode(_ED25519 + public).decode()}"


class Verifier:
    """A vkey, ready to check notes with."""

    def __init__(self, encoded: str) -> None:
        try:
            self.name, identifier, key = encoded.strip().split("+", 2)
            raw = base64.b64decode(key, validate=True)
        except (ValueError, binascii.Error):
            raise BadNote("not a verifier key") from None
        self.id = key_id(self.name, raw[1:])
        if raw[:1] != _ED25519 or len(raw) != 33 or identifier != self.id.hex():
            raise BadNote("not an Ed25519 verifier key, or its id is wrong")
        self._key = Ed25519PublicKey.from_public_bytes(raw[1:])

    def text(self, note: str) -> str:
        """Return the text of `note` if this key signed it. Raises `BadNote`."""
        text, found, lines = note.rpartition("\n\n")
        if not found or not lines.endswith("\n") or len(note) > MAX_NOTE:
            raise BadNote("not a signed note")
        text += "\n"
        for line in lines[:-1].split("\n"):
            name, _, encoded = line.removeprefix(_DASH).partition(" ")
            try:
                raw = base64.b64decode(encoded, validate=True)
            except (ValueError, binascii.Error):
                raise BadNote("a signature line is malformed") from None
            if not line.startswith(_DASH) or name != self.name or raw[:4] != self.id:
                continue
            try:
                self._key.verify(raw[4:], text.encode())
            except InvalidSignature:
                raise BadNote(f"the signature of {name} is wrong") from None
            return text
        raise BadNote(f"not signed by {self.name}")


class Checkpoint(NamedTuple):
    """What a log commits to: tlog-checkpoint."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Write the note's text."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def read_checkpoint(note: str, verifier: Verifier) -> Checkpoint:
    """Read a checkpoint that `verifier`'s key signed. Raises `BadNote`."""
    lines = verifier.text(note).split("\n")
    try:
        origin, size, root, end = lines
        decoded = base64.b64decode(root, validate=True)
    except (ValueError, binascii.Error):
        raise BadNote("a checkpoint has exactly three lines") from None
    if origin != verifier.name or not size.isascii() or not size.isdigit() or str(int(size)) != size or end:
        raise BadNote("a checkpoint's origin or size is wrong")
    if len(decoded) != hashlib.sha256().digest_size:
        raise BadNote("a checkpoint's root is no SHA-256")
    return Checkpoint(origin, int(size), decoded)


def last_note(notes: str) -> str:
    """Take the last complete note of a file of notes that stand one after another; empty when there is none."""
    lines = notes.split("\n")
    if lines[-1]:
        lines = lines[:-1]  # cut short by a crash
    end = len(lines)
    while end and not lines[end - 1].startswith(_DASH):
        end -= 1
    first = end
    while first and lines[first - 1].startswith(_DASH):
        first -= 1
    if not end or first < 4 or lines[first - 1]:
        return ""
    return "\n".join(lines[first - 4 : end]) + "\n"
