"""Where a service says that things are, when it is reached under a path of ours: what it calls `/a` is `/billing/a` here.

Several services share the listener's host then. A cookie that one of them sets for `/` would be sent to all of them: whoever runs
another could be the caller there. So cookies are kept to the service's own path, and those that cannot be are not passed on.
"""

from __future__ import annotations

import re
from typing import Final

from ostiary.model.connections import HttpUpstream
from ostiary.model.results import ReplyHead

_PATH: Final = re.compile(rb"/[\x21-\x3a\x3c-\x7e]*")
_WHERE: Final = frozenset({b"location", b"content-location"})


def placed(head: ReplyHead, below: str, upstream: HttpUpstream) -> ReplyHead:
    """The head of an answer to a request that came in under the path `below`; the same where that is empty."""
    if not below:
        return head
    headers: list[tuple[bytes, bytes]] = []
    for name, value in head.headers:
        lower = name.lower()
        new: bytes | None = value
        if lower in _WHERE:
            new = _where(value, below.encode(), upstream)
        elif lower == b"set-cookie":
            new = _cookie(value, below.encode(), upstream.base_path.encode())
        if new is not None:
            headers.append((name, new))
    return head.with_headers(tuple(headers))


def _where(value: bytes, below: bytes, upstream: HttpUpstream) -> bytes:
    """A path, or a URL of the service itself, as the caller can use it; any other URL as it is."""
    for scheme in (b"https://", b"http://"):
        own = scheme + upstream.host_header.encode()
        rest = value[len(own) :]
        if value.lower().startswith(own.lower()) and (not rest or rest[:1] in b"/?#"):
            value = rest if rest[:1] == b"/" else b"/" + rest
            break
    if not value.startswith(b"/") or value.startswith(b"//"):
        return value
    return below + _inside(value, upstream.base_path.encode())


def _inside(path: bytes, base: bytes) -> bytes:
    return path[len(base) :] if base and (path + b"/").startswith(base + b"/") else path


def _cookie(value: bytes, below: bytes, base: bytes) -> bytes | None:
    """A cookie for this service alone: RFC 6265, 5.2. None: it is for the whole host, by its name."""
    pair, *attributes = value.split(b";")
    if pair.strip().lower().startswith(b"__host-"):
        return None
    path = b"/"
    kept: list[bytes] = []
    for attribute in attributes:
        name, _, said = attribute.strip().partition(b"=")
        if name.strip().lower() == b"path":
            path = said.strip() if _PATH.fullmatch(said.strip()) is not None else b"/"
        elif name.strip().lower() != b"domain":
            kept.append(attribute.strip())
    return b"; ".join([pair.strip(), *filter(None, kept), b"Path=" + below + _inside(path, base).rstrip(b"/")])
