"""Cosignatures and the policy that asks for them: C2SP tlog-cosignature (Ed25519, type 0x04) and tlog-policy."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ostiary.audit.note import check_name
from ostiary.model.errors import ConfigError

KIND: Final = b"\x04"
DASH: Final = "\u2014 "
MAX_POLICY: Final = 1 << 16
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Cosigner:
    """A witness's named Ed25519 key."""

    def __init__(self, name: str, seed: bytes) -> None:
        self.name = check_name(name)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()
        self.vkey = f"{name}+{_key_id(name, self.public).hex()}+{base64.b64encode(KIND + self.public).decode()}"

    def cosign(self, text: str, when: int) -> str:
        """Cosign a checkpoint's text at a time (POSIX seconds); returns the signature line."""
        signed = self._key.sign(_message(text, when))
        raw = _key_id(self.name, self.public) + when.to_bytes(8, "big") + signed
        return f"{DASH}{self.name} {base64.b64encode(raw).decode()}\n"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not pickled")


class WitnessKey:
    """A witness's vkey, ready to check cosignatures with."""

    def __init__(self, encoded: str) -> None:
        """Read a vkey of type 0x04. Raises ValueError."""
        self.name, identifier, key = encoded.split("+", 2)
        raw = base64.b64decode(key, validate=True)
        self.public = raw[1:]
        self.id = _key_id(self.name, self.public)
        if raw[:1] != KIND or len(raw) != 33 or identifier != self.id.hex() or check_name(self.name) != self.name:
            raise ValueError("not a witness's Ed25519 key (type 04), or its id is wrong")
        self._key = Ed25519PublicKey.from_public_bytes(self.public)

    def is_signed(self, text: str, line: str) -> bool:
        """Whether a signature line is this witness's over a checkpoint's text."""
        name, _, encoded = line.removeprefix(DASH).partition(" ")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            return False
        if not line.startswith(DASH) or name != self.name or raw[:4] != self.id or len(raw) != 76 or raw[4] & 0x80:
            return False
        try:
            self._key.verify(raw[12:], _message(text, int.from_bytes(raw[4:12], "big")))
        except InvalidSignature:
            return False
        return True


class Named(NamedTuple):
    """A witness as a policy names it."""

    key: WitnessKey
    url: str
    """Submission prefix; empty: it is not asked, only believed."""


class WitnessPolicy:
    """Which witnesses there are, and how many must have cosigned."""

    def __init__(self) -> None:
        self.logs: dict[str, str] = {}
        """Logs' vkeys by origin."""
        self.witnesses: dict[str, Named] = {}
        self.lines: list[str] = []
        """Lines about witnesses and quorum, as they stand: verifiers are given the same."""
        self._groups: dict[str, tuple[int, list[str]]] = {}
        self._members: set[str] = set()
        self._quorum = ""

    @classmethod
    def parse(cls, text: str, key: str = "audit.witness_policy") -> WitnessPolicy:
        """Read a tlog-policy. Raises `ConfigError` that names the line."""
        policy = cls()
        if len(text) > MAX_POLICY:
            raise ConfigError(key, "is larger than any policy can be")
        for number, line in enumerate(text.split("\n"), 1):
            words = [word for word in re.split("[ \t]+", line) if word]
            if not words or words[0].startswith("#"):
                continue
            try:
                if _CONTROL.search(line):
                    raise ValueError("a control character")  # noqa: TRY301 - the line is named below
                policy._add(words)
            except (ValueError, binascii.Error) as problem:
                raise ConfigError(key, f"line {number}: {problem}") from None
            if words[0] != "log":
                policy.lines.append(" ".join(words))
        if not policy._quorum:
            raise ConfigError(key, "has no quorum line; `quorum none` asks for no witness")
        return policy

    @classmethod
    def read(cls, path: Path, key: str = "audit.witness_policy") -> WitnessPolicy:
        """Read a tlog-policy from a file. Raises `ConfigError` that names the file or the line."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigError(key, f"{path} cannot be read: {problem}") from None
        return cls.parse(text, key)

    def _add(self, words: list[str]) -> None:
        taken = {"none", *self.witnesses, *self._groups}
        match words:
            case ["log", vkey] | ["log", vkey, _]:
                name = vkey.split("+", 1)[0]
                if name in self.logs:
                    raise ValueError("a log has one key")
                self.logs[name] = vkey
            case ["witness", name, vkey, *url] if name not in taken and len(url) <= 1:
                witness = WitnessKey(vkey)
                if any(each.key.public == witness.public for each in self.witnesses.values()):
                    raise ValueError("another witness has this key")
                if url and not url[0].startswith(("https://", "http://")):
                    raise ValueError("a witness's URL begins with https:// or http://")
                self.witnesses[name] = Named(witness, url[0].rstrip("/") if url else "")
            case ["group", name, need, *names] if names and name not in taken:
                if not set(names) <= taken - {"none"} - self._members or len(set(names)) < len(names):
                    raise ValueError("a member is unknown, or a member elsewhere")
                count = {"any": 1, "all": len(names)}.get(need) or int(need)
                if not 1 <= count <= len(names):
                    raise ValueError("a group cannot be satisfied")
                self._members.update(names)
                self._groups[name] = (count, names)
            case ["quorum", name] if not self._quorum and name in taken:
                self._quorum = name
            case _:
                raise ValueError("not understood, or said twice")

    def is_cosigned(self, text: str, note: str) -> bool:
        """Whether the cosignatures in a note make up the quorum for a checkpoint's text."""
        lines = [line for line in note.split("\n") if line.startswith(DASH)]
        return self.is_satisfied({
            name for name, each in self.witnesses.items() if any(each.key.is_signed(text, line) for line in lines)
        })  # fmt: skip

    def is_satisfied(self, signed: set[str], name: str = "") -> bool:
        """Whether these witnesses, by the policy's names, make up the quorum."""
        name = name or self._quorum
        if name == "none" or name in self.witnesses:
            return name == "none" or name in signed
        need, members = self._groups[name]
        return sum(self.is_satisfied(signed, member) for member in members) >= need


def _key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + KIND + public).digest()[:4]


def _message(text: str, when: int) -> bytes:
    return f"cosignature/v1\ntime {when}\n{text}".encode()
