# ruff: noqa: INP001 - a script beside the package, not in it
"""Coverage-guided fuzzing of the PostgreSQL wire: `python fuzz/fuzz_postgres_wire.py TARGET [libFuzzer options]`.

Targets: `frontend`, `backend`, `startup`, `rows`, `login`, `target`, `scram`. Each states what must hold of any bytes: an error of
ours, or a message that is written back as the very bytes. Try `-max_total_time=60`. Needs the package `atheris`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import atheris
from running import hold, main

with atheris.instrument_imports(include=["ostiary"]):
    from ostiary.kernel import frames
    from ostiary.model.errors import OstiaryError, PeerMisbehaved
    from ostiary.model.secrets import Secret
    from ostiary.protocols.postgres import decode, encode, login
    from ostiary.protocols.postgres import messages as m
    from ostiary.protocols.postgres.scram import Derivation, KeyCache


def walk(
    scan: Callable[[bytes, int], tuple[list[frames.Run], int]], one: Callable[[bytes], object], data: bytes
) -> None:
    """Every frame of a chunk is read, or is misbehaviour; what is read is written back as it came."""
    try:
        runs, consumed = scan(data, 0)
    except PeerMisbehaved:
        return
    hold(b"".join(data[start:end] for _, start, end, _ in runs) == data[:consumed], "a byte was lost")
    for _, start, end, count in runs:
        if count > 1:
            continue
        try:
            message = one(data[start:end])
        except PeerMisbehaved:
            continue
        hold(encode.encode(message) == data[start:end], "read and written differ")  # type: ignore[arg-type]


def frontend(data: bytes) -> None:
    """What a client may say."""
    walk(frames.scan_frontend, decode.frontend, data)


def backend(data: bytes) -> None:
    """What a server may say."""
    walk(frames.scan, decode.backend, data)


def startup(data: bytes) -> None:
    """What stands before the first tag."""
    packet = (len(data) + 4).to_bytes(4, "big") + data
    try:
        message = decode.startup(packet)
    except OstiaryError:
        return
    hold(encode.encode(message) == packet, "read and written differ")


def rows(data: bytes) -> None:
    """Cells are walked in bounds, and all of them."""
    frame = encode.frame(b"D", data)
    try:
        frames.check_rows(frame, 0, len(frame), -1)
    except PeerMisbehaved:
        return
    at, cells = 2, int.from_bytes(data[:2], "big")
    for _ in range(cells):
        length = int.from_bytes(data[at : at + 4], "big", signed=True)
        at += 4 + max(length, 0)
    hold(at == len(data), "a row that is not walked to its end")


def server_login(data: bytes) -> None:
    """A client that logs in, in chunks of any size."""
    door = login.ServerLogin(address="fuzz", offers_tls=True, allows_clear=True)
    provider = atheris.FuzzedDataProvider(data)
    try:
        while provider.remaining_bytes():
            step = door.receive(provider.ConsumeBytes(provider.ConsumeIntInRange(1, 400)))
            if isinstance(step, login.StartTls):
                door.secured()
    except OstiaryError:
        return


def client_login(data: bytes) -> None:
    """A target that says anything at all while the gateway logs in."""
    us = login.ClientLogin(
        user="u",
        database="d",
        password=Secret("pw"),
        settings={},
        nonce="n" * 24,
        clear_allowed=False,
        binding=None,
        cache=KeyCache(),
    )
    buf = bytearray(data)
    try:
        while (message := decode.next_backend(buf)) is not None:
            step = us.receive(message)
            if isinstance(step, Derivation):
                if step.iterations > 100:
                    return
                us.derived(step.run())
    except OstiaryError:
        return
    hold(us.done is None or us._scram is None, "logged in without a proof")  # noqa: SLF001 - looks inside on purpose


def scram(data: bytes) -> None:
    """As `client_login`, with the frames of a SCRAM exchange put round the bytes."""
    provider = atheris.FuzzedDataProvider(data)
    challenge = b"r=" + b"n" * 24 + provider.ConsumeBytes(30) + b",s=c2FsdA==,i=" + provider.ConsumeBytes(3)
    wire = encode.encode(m.AuthenticationSASL(("SCRAM-SHA-256",)))
    wire += encode.encode(m.AuthenticationSASLContinue(challenge))
    wire += encode.encode(m.AuthenticationSASLFinal(provider.ConsumeBytes(80)))
    client_login(wire + encode.AUTHENTICATION_OK + encode.READY["I"])


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "frontend": frontend,
    "backend": backend,
    "startup": startup,
    "rows": rows,
    "login": server_login,
    "target": client_login,
    "scram": scram,
}


if __name__ == "__main__":
    main(TARGETS)
