"""SHA-256 of many short pieces, by OpenSSL's own functions.

`hashlib` makes an object, looks the algorithm up and copies its state to finish, for each hash anew: of a node of the tree that is most of the time.
Compiled modules take these functions from `evp.pxd`: they call OpenSSL's EVP functions, in the very library that `hashlib` uses, with one context that
is begun anew each time. This file is for the interpreter, and does the same with `hashlib`; `is_found` says so.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Digest(NamedTuple):
    """The functions, and what they work on."""

    is_found: bool


def found(_new: int, _fetch: int, _begin: int, _more: int, _finish: int) -> Digest:
    """Take the functions that stand at these addresses, as `ostiary.audit.tree` names them; an address of 0: there are none."""
    return Digest(is_found=False)


def part(_digest: Digest, prefix: bytes, data: bytes, start: int, size: int) -> bytes:
    """Hash `prefix` and `size` bytes of `data` from `start` on. Raises `IndexError` when they do not lie in it."""
    if start < 0 or size < 0 or start + size > len(data):
        raise IndexError("a hash of what is not there")
    return hashlib.sha256(prefix + data[start : start + size]).digest()
