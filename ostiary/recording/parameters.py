"""Bound parameters as a payload (`docs/log-format.md`, 7): what a transcript reads of them.

u16be number of values | (u16be format | i32be length, -1 for NULL | bytes) each
"""

from __future__ import annotations

import struct

from ostiary.model.errors import Misdeed, PeerMisbehaved
from ostiary.model.operations import Parameters

_HEAD = struct.Struct("!Hi")


def decode_parameters(data: bytes) -> Parameters:
    """Read a `PARAMS` record; raises `PeerMisbehaved` on anything but the above."""
    if len(data) < 2:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "recorded parameters")
    at = 2
    formats: list[int] = []
    values: list[bytes | None] = []
    for _ in range(int.from_bytes(data[:2], "big")):
        if len(data) - at < _HEAD.size:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "recorded parameters")
        form, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if size < -1 or size > len(data) - at:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "recorded parameters")
        formats.append(form)
        values.append(None if size == -1 else data[at : at + size])
        at += max(size, 0)
    if at != len(data):
        raise PeerMisbehaved(Misdeed.TRAILING_BYTES, "recorded parameters")
    return Parameters(tuple(formats), tuple(values))
