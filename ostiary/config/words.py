"""What every section of the configuration is made of: kinds of text and numbers, and the base of sections."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]
Path = Annotated[str, Meta(min_length=1, max_length=4096)]
Condition = str | int | bool | tuple[str | int | bool, ...]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
ClassName = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]{0,62}$")]
Quorum = Annotated[str, Meta(pattern=r"^[^\s,:]+(:[1-9][0-9]?)?$")]
Address = Annotated[str, Meta(min_length=3, max_length=320)]


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`; port 0 means any free port. ValueError with a sentence if it is neither."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("write an IPv6 address as [address]:port")
    if not colon or not host or any(c.isspace() for c in host):
        raise ValueError("write it as host:port, for example 127.0.0.1:15432")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"the port must be a number from 0 to 65535, not {port!r}")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine: the addresses and the one name, never a look-up."""
    return host in LOOPBACK or (host.startswith("127.") and host.count(".") == 3)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every section."""
