"""A second, independent writer of audit logs, from `docs/log-format.md` alone: small, slow, and for tests.

It is kept for differential tests: what it makes must verify, and must equal byte for byte what the real writer makes.
Nothing here is shared with `ostiary.audit`, save that payload streams are made by `ostiary.vault`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.model.events import PayloadKind, PayloadRef
from ostiary.vault.keys import KeyEncryptionKey
from ostiary.vault.payloads import PayloadStream

BOOT = "0190a0b0-0000-4000-8000-000000000001"
KEK = KeyEncryptionKey.from_bytes(bytes(range(32)))
PLANTED = "PLANTED-4111111111111111"


def uuid7(n: int) -> str:
    return f"0190a0b0-{n >> 16 & 0xFFFF:04x}-7{n >> 32 & 0xFFF:03x}-8000-{n & 0xFFFF:012x}"


def jcs(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word: MTH."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + root_of(leaves[:k]) + root_of(leaves[k:])).digest()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def path_of(n: int) -> str:
    groups = [f"{n % 1000:03d}"]
    while n >= 1000:
        n //= 1000
        groups.insert(0, f"x{n % 1000:03d}")
    return "/".join(groups)


class Signer:
    def __init__(self, name: str, seed: int = 1) -> None:
        self.name = name
        self.key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.raw = b"\1" + self.key.public_key().public_bytes_raw()
        self.id = hashlib.sha256(name.encode() + b"\n" + self.raw).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(self.raw).decode()}"

    def line(self, text: bytes) -> bytes:
        return f"— {self.name} ".encode() + base64.b64encode(self.id + self.key.sign(text)) + b"\n"

    def note(self, size: int, root: bytes) -> bytes:
        text = f"{self.name}\n{size}\n{base64.b64encode(root).decode()}\n".encode()
        return text + b"\n" + self.line(text)


class Log:
    """Entries in memory; `write` makes the files."""

    def __init__(self, base: Path, origin: str = "gw1-00112233445566aa/worker-0/2026", seed: int = 1) -> None:
        self.base = base
        self.signer = Signer(origin, seed)
        self.entries: list[bytes] = []
        self.sizes: list[int] = []
        self.count = 0

    def add(self, kind: str, **members: object) -> str:
        self.count += 1
        entry_id = uuid7(self.count)
        seconds, micros = divmod(self.count * 250_000, 1_000_000)
        entry = {
            "v": 1, "id": entry_id, "kind": kind, "gw": "gw1/worker-0", "boot": BOOT, "mono": self.count * 1000,
            "t": f"2026-11-21T{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{micros:06d}Z",
            **members,
        }  # fmt: skip
        self.entries.append(jcs(entry))
        return entry_id

    def checkpoint(self) -> None:
        if not self.sizes or self.sizes[-1] < len(self.entries):
            self.sizes.append(len(self.entries))

    def write(self) -> None:
        """WAL, tiles and checkpoints; partial tiles for every published size."""
        self.checkpoint()
        log = self.base / "log"
        (self.base / "wal").mkdir(parents=True, exist_ok=True)
        (self.base / "payloads").mkdir(exist_ok=True)
        log.mkdir(exist_ok=True)
        half = len(self.entries) // 2
        for first, part, pad in ((0, self.entries[:half], b""), (half, self.entries[half:], bytes(100))):
            if part or not first:
                frames = b"".join(struct.pack("<II", len(e), crc32c(e)) + e for e in part)
                (self.base / "wal" / f"{first:020d}.wal").write_bytes(frames + pad)
        leaves = [leaf_hash(entry) for entry in self.entries]
        notes = b""
        for size in self.sizes:
            notes += self.signer.note(size, root_of(leaves[:size]))
            self._tiles(log, leaves[:size], self.entries[:size])
        (log / "checkpoints").write_bytes(notes)
        (log / "checkpoint").write_bytes(self.signer.note(self.sizes[-1], root_of(leaves[: self.sizes[-1]])))
        (self.base / "policy").write_text(f"log {self.signer.vkey}\nquorum none\n")

    def _tiles(self, log: Path, leaves: list[bytes], entries: list[bytes]) -> None:
        level, hashes = 0, leaves
        while hashes:
            for n in range(0, len(hashes), 256):
                put(log / "tile" / str(level) / path_of(n // 256), [*hashes[n : n + 256]])
            hashes = [root_of(hashes[n : n + 256]) for n in range(0, len(hashes) - 255, 256)]
            level += 1
        for n in range(0, len(entries), 256):
            put(log / "tile/entries" / path_of(n // 256), [struct.pack(">H", len(e)) + e for e in entries[n : n + 256]])


def put(path: Path, parts: list[bytes]) -> None:
    if len(parts) < 256:
        path = Path(f"{path}.p") / str(len(parts))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(parts))


WHO = {
    "iss": "https://idp.example", "sub": "ana", "kind": "human", "name": "Ana Lima", "groups": ["support"],
    "act": [{"iss": "https://idp.example", "kind": "agent", "name": "helper", "sub": "agent-7"}],
}  # fmt: skip
TARGET = {"account": "svc", "address": "db:5432", "connection": "orders-db", "database": "shop", "type": "postgresql"}


def payload(ref: PayloadRef) -> dict[str, object]:
    return {"blob": ref.blob, "commit": ref.commit, "len": ref.length}


def session(log: Log, operations: int, *, number: int = 1, end: bool = True, who: dict[str, object] = WHO) -> str:
    """A whole session with payloads: `operations` statements with parameters, one denied in ten."""
    session_id = uuid7(1_000_000 + number)
    (log.base / "payloads").mkdir(parents=True, exist_ok=True)
    stream = PayloadStream.create(log.base / "payloads" / f"{session_id}.osp", session_id, KEK)
    common = {"session": session_id, "target": TARGET, "who": who, "task": f"run-{number}"}
    start = log.add(
        "session.start", recording={"mode": "full"}, durability="strict", client={"address": "127.0.0.1:5"}, **common
    )
    for n in range(operations):
        denied = n % 10 == 9
        verb = "delete" if denied else "read"
        refs = stream.write(
            [
                (PayloadKind.STATEMENT, session_id, n, f"select * from t where x = '{PLANTED}' and {n}=1".encode()),
                (PayloadKind.PARAMS, session_id, n, f"{PLANTED} {n}".encode()),
            ]
        )
        asked = {
            "op": {"action": verb, "effects": [verb], "name": "DELETE" if denied else "SELECT",
                   "objects": [{"action": verb, "kind": "relation", "name": "public.orders"}]},
            "stmt": {**payload(refs[0]), "head": f"select * from orders_{n % 7} where x = $1"},
            "params": {**payload(refs[1]), "count": 1},
            "decision": {"verdict": "deny" if denied else "permit", "policies": ["p1"], "policy": "00" * 32},
        }  # fmt: skip
        intent = log.add("deny" if denied else "intent", **asked, **common)
        if not denied:
            stream.append(PayloadKind.RESULT, intent, n, f"{PLANTED} row {n}".encode())
            log.add(
                "outcome",
                ref=intent,
                result={"status": "ok", "tag": "SELECT 1", "rows": 1, "bytes": 9, "us": 7},
                **common,
            )
    head = stream.close()
    if end:
        log.add(
            "session.end", ref=start, result={"status": "ended", "operations": operations},
            recording={"bytes": head.bytes, "chunks": head.chunks, "head": head.head}, **common,
        )  # fmt: skip
    return session_id


def small_log(base: Path, *, sessions: int = 2, operations: int = 10) -> Log:
    log = Log(base)
    log.add("anchor", anchor={"origin": log.signer.name})
    for number in range(sessions):
        session(log, operations, number=number)
        log.checkpoint()
    log.write()
    return log
