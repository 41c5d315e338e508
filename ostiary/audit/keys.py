"""An instance's state folder, its root key, and the origins that the root certifies. `docs/log-format.md`, 1 and 6.

What `ostiary init` makes here is never overwritten: a second root would disown every log that the first one certified.

Who reads what: the root key is read when an origin is made (by `ostiary init`, or by the supervisor in a new year), an origin's
signing key by its sealer only. The process that parses hostile bytes reads neither; it needs `read_origin`.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import os
import re
import secrets
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ostiary.audit.note import BadNote, Signer, Verifier
from ostiary.audit.wal import sync_folder
from ostiary.model.errors import ConfigError
from ostiary.vault.keys import create_key_file

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_INSTANCE: Final = re.compile(r"[0-9a-f]{16}")
_TITLE: Final = "ostiary-origin/v1"
_PRIVATE: Final = "PRIVATE+KEY"
_MAX_FILE: Final = 1 << 20
_TERM: Final = re.compile(r"([0-9]{4})(?:\.([1-9][0-9]{0,5}))?")
FAILED: Final = "failed"
"""In an origin's folder after a sync failed: nothing more may be written there but its end."""
ABANDONED: Final = "abandoned"
"""In an origin's folder that cannot be brought into order: the operator's reason."""


class Origin(NamedTuple):
    """One log: its name, its folder, and the key that its checkpoints verify with."""

    name: str
    folder: Path
    """`<state>/audit/<writer>/<year>`, `<year>.2`, …"""
    vkey: str
    key_file: Path
    """The signing key, for the sealer."""
    gateway: str
    writer: str
    year: int
    part: int = 1
    """Counts a year's origins: rotation begins another one."""

    @property
    def term(self) -> tuple[int, int]:
        """Orders a writer's origins."""
        return self.year, self.part


def init_state(state_dir: Path, gateway: str) -> str:
    """Make a state folder: instance id, root key, first key-encryption key. Returns the instance id.

    Raises `ConfigError` when there is one already. The token key is made by `ostiary.identity.keys`.
    """
    _named("gateway.name", gateway)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    state_dir.chmod(0o700)
    if (state_dir / "instance").exists():
        raise ConfigError("gateway.state_dir", f"{state_dir} is initialised already; its keys are never overwritten")
    keys = state_dir / "keys"
    for folder in (keys, keys / "signers", state_dir / "audit"):
        folder.mkdir(mode=0o700, exist_ok=True)
    instance = secrets.token_hex(8)
    if (keys / "root.key").exists():
        raise ConfigError(
            "gateway.state_dir", f"{keys} holds a root key but {state_dir} no instance id: restore that file"
        )
    root = _create_signer(keys / "root.key", f"{gateway}-{instance}/root")
    write_new(keys / "root.vkey", f"{root.vkey}\n".encode())
    if not (keys / "kek-1.key").exists():
        create_key_file(keys / "kek-1.key")
    # Last: whoever finds it finds everything else.
    write_new(state_dir / "instance", f"{instance}\n".encode())
    return instance


def instance_id(state_dir: Path) -> str:
    """Read the instance id. Raises `ConfigError` when `ostiary init` has not been here."""
    try:
        found = (state_dir / "instance").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        raise ConfigError("gateway.state_dir", f"{state_dir} is not initialised: run `ostiary init`") from None
    if not _INSTANCE.fullmatch(found):
        raise ConfigError("gateway.state_dir", f"{state_dir / 'instance'} does not hold an instance id")
    return found


def this_year() -> int:
    """Tell the UTC year."""
    return dt.datetime.now(dt.UTC).year


def read_origin(state_dir: Path, gateway: str, writer: str, year: int, part: int = 1) -> Origin:
    """Read an origin's certificate and check it against the root. Raises `ConfigError` when it has none, or a wrong one."""
    origin, folder = _place(state_dir, gateway, writer, year, part)
    try:
        note = (folder / "origin").read_text(encoding="utf-8")
        root = Verifier((state_dir / "keys" / "root.vkey").read_text(encoding="utf-8"))
        title, name, vkey, *_ = root.text(note).split("\n")
    except (OSError, UnicodeDecodeError, ValueError):
        raise ConfigError("gateway.state_dir", f"{folder} has no certificate: run `ostiary init`") from None
    except BadNote as problem:
        raise ConfigError("gateway.state_dir", f"the certificate of {folder} is not good: {problem}") from None
    if title != _TITLE or name != origin or Verifier(vkey).name != origin:
        raise ConfigError("gateway.state_dir", f"the certificate of {folder} is for another log")
    return Origin(origin, folder, vkey, _key_file(state_dir, writer, year, part), gateway, writer, year, part)


def newest_part(state_dir: Path, writer: str, year: int) -> int:
    """Tell which of a year's origins is the newest; 1 where there is none yet."""
    return max((part for of, part in _terms(state_dir, writer) if of == year), default=1)


def ensure_origin(state_dir: Path, gateway: str, writer: str, year: int | None = None) -> Origin:
    """Return the newest origin of a writer and year, made and certified by the root if it is not there yet.

    One that failed or was given up is followed by another. Reads the root key when it has to make one: call it where no hostile
    bytes are parsed.
    """
    year = this_year() if year is None else year
    part = newest_part(state_dir, writer, year)
    _, folder = _place(state_dir, gateway, writer, year, part)
    if any((folder / ended).exists() for ended in (FAILED, ABANDONED, "closed")):
        part += 1
    return _make_origin(state_dir, gateway, writer, year, part)


def rotate(state_dir: Path, gateway: str, writer: str, abandon: str = "") -> Origin:
    """Make the origin that follows a writer's newest one; the next start closes the old one, and goes on in the new one.

    `abandon`: why the old one cannot be brought into order. It is left as it is, and the new one says so.
    """
    known = origins(state_dir, gateway, writer)
    if abandon and known:
        write_new(known[-1].folder / ABANDONED, f"{abandon}\n".encode())
    year = max([this_year(), *(each.year for each in known)])
    part = newest_part(state_dir, writer, year) + any(each.year == year for each in known)
    return _make_origin(state_dir, gateway, writer, year, part)


def _make_origin(state_dir: Path, gateway: str, writer: str, year: int, part: int) -> Origin:
    name, folder = _place(state_dir, gateway, writer, year, part)
    if (folder / "origin").exists():
        return read_origin(state_dir, gateway, writer, year, part)
    for made in (folder.parent, folder, folder / "wal", folder / "log", folder / "payloads"):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = load_signer(state_dir / "keys" / "root.key")
    key_file = _key_file(state_dir, writer, year, part)
    signer = load_signer(key_file) if key_file.exists() else _create_signer(key_file, name)
    policy = f"# {name}\nlog {signer.vkey}\nquorum none\n"
    (folder / "policy").unlink(missing_ok=True)
    write_new(folder / "policy", policy.encode())
    made_at = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    write_new(folder / "origin", root.sign(f"{_TITLE}\n{name}\n{signer.vkey}\n{made_at}\n").encode())
    write_policy(state_dir)
    return read_origin(state_dir, gateway, writer, year, part)


def origins(state_dir: Path, gateway: str, writer: str) -> list[Origin]:
    """List a writer's origins, oldest first."""
    return [read_origin(state_dir, gateway, writer, *term) for term in _terms(state_dir, writer)]


def _terms(state_dir: Path, writer: str) -> list[tuple[int, int]]:
    folders = [path for path in (state_dir / "audit" / writer).glob("[0-9]*") if (path / "origin").exists()]
    found = [match for path in folders if (match := _TERM.fullmatch(path.name)) is not None]
    return sorted((int(match[1]), int(match[2] or 1)) for match in found)


def load_signer(path: Path) -> Signer:
    """Read a log's or root's signing key. Raises `ConfigError` when it is absent, open to others, or no key."""
    return Signer(*load_private(path, kind=1))


def load_private(path: Path, *, kind: int) -> tuple[str, bytes]:
    """Read a private Ed25519 key of a type (1: signs notes, 4: cosigns): its name and seed. Raises `ConfigError`."""
    try:
        found = path.stat()
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigError(str(path), "others may read this key: chmod 600")
        private, key, name, _, encoded = path.read_text(encoding="utf-8").strip().split("+", 4)
        raw = base64.b64decode(encoded, validate=True)
    except OSError as problem:
        raise ConfigError(str(path), f"cannot be read: {problem.strerror}") from None
    except ValueError:
        raise ConfigError(str(path), "is no signing key") from None
    if f"{private}+{key}" != _PRIVATE or len(raw) != 33 or raw[0] != kind:
        raise ConfigError(str(path), f"is no Ed25519 signing key of type {kind}")
    return name, raw[1:]


def write_new(path: Path, data: bytes) -> None:
    """Write a private file that is not there yet, durably. Raises `ConfigError` when it is."""
    made = path.with_name(f".tmp-{secrets.token_hex(6)}")
    fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        # A link, not a rename: it says no when the name is taken.
        path.hardlink_to(made)
    except FileExistsError:
        raise ConfigError(str(path), "is there already, and is never overwritten") from None
    finally:
        made.unlink(missing_ok=True)
    sync_folder(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Replace a file durably: whoever reads it sees the old one or the new one."""
    made = path.with_name(f".tmp-{secrets.token_hex(6)}")
    write_new(made, data)
    made.rename(path)
    sync_folder(path.parent)


def _create_signer(path: Path, name: str) -> Signer:
    write_private(path, name, lambda seed: Signer(name, seed).vkey, kind=1)
    return load_signer(path)


def write_private(path: Path, name: str, vkey_of: Callable[[bytes], str], *, kind: int) -> str:
    """Make a private Ed25519 key of a type; returns its vkey. Raises `ConfigError` where the file is there already."""
    seed = secrets.token_bytes(32)
    try:
        vkey = vkey_of(seed)
    except ValueError as problem:
        raise ConfigError("name", str(problem)) from None
    # The Go note package's form: PRIVATE+KEY+<name>+<id>+<base64(type || seed)>.
    identifier = vkey.split("+", 2)[1]
    write_new(path, f"{_PRIVATE}+{name}+{identifier}+{base64.b64encode(bytes([kind]) + seed).decode()}\n".encode())
    return vkey


def write_policy(state_dir: Path, witnesses: Sequence[str] | None = None) -> None:
    """Rewrite the policy that verifiers are given: every origin of this instance, and these lines on witnesses and quorum."""
    lines = ["# Logs of this gateway: C2SP tlog-policy. Give this file to whoever verifies them."]
    for path in sorted((state_dir / "audit").glob("*/*/policy")):
        with contextlib.suppress(OSError):
            lines += [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("log ")]
    lines += ["quorum none", ""]
    policy = state_dir / "policy"
    written = [line for line in (policy.read_text(encoding="utf-8") if policy.exists() else "").splitlines() if line]
    # Witnesses and quorum are the operator's: what they wrote stays, only logs are added.
    theirs = [line for line in written if line.split(" ")[0] in {"witness", "group", "quorum"}]
    if witnesses is not None:
        theirs = list(witnesses)
    if theirs:
        lines = lines[:-2] + theirs + [""]
    text = "\n".join(lines)
    if not policy.exists() or policy.read_text(encoding="utf-8") != text:
        replace(policy, text.encode())


def _place(state_dir: Path, gateway: str, writer: str, year: int, part: int) -> tuple[str, Path]:
    _named("gateway.name", gateway)
    _named("writer", writer)
    term = _term(year, part)
    return f"{gateway}-{instance_id(state_dir)}/{writer}/{term}", state_dir / "audit" / writer / term


def _term(year: int, part: int) -> str:
    return str(year) if part == 1 else f"{year}.{part}"


def _key_file(state_dir: Path, writer: str, year: int, part: int) -> Path:
    return state_dir / "keys" / "signers" / f"{writer}-{_term(year, part)}.key"


def _named(key: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(key, "letters, digits, dots, dashes and underscores only, at most 64")
