"""Rows and megabytes a second of masking, by itself: `python bench/micro_masking.py`.

Prints, for the sources as they stand and for the extensions if they are built, the best of many runs in CPU time of this
thread, so that a busy machine disturbs little. Batches are as large as one read of the gateway (about 256 KiB).
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import struct
import sys
import time
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

KEEP, SCAN, REDACT, LAST4, NULL = range(5)
BATCH = 256 << 10
NAMES = ("detect", "values", "rows", "copies")
FOLDER = Path(__file__).resolve().parent.parent / "ostiary" / "kernel"

Row = tuple[bytes, ...]


def speeds() -> dict[str, ModuleType]:
    """The `rows` module at each speed there is."""
    found = {}
    built = importlib.import_module("ostiary.kernel.rows")
    if not str(built.__file__).endswith(".py"):
        found["compiled"] = built
    for name in NAMES:
        sys.modules.pop(f"ostiary.kernel.{name}", None)
    for name in NAMES:
        full = f"ostiary.kernel.{name}"
        path = str(FOLDER / f"{name}.py")
        spec = importlib.util.spec_from_file_location(full, path, loader=SourceFileLoader(full, path))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    found["plain"] = sys.modules["ostiary.kernel.rows"]
    return found


def batch(make: Callable[[int], Row]) -> tuple[bytes, int]:
    """About BATCH bytes of DataRow frames, and how many they are."""
    frames = bytearray()
    count = 0
    while len(frames) < BATCH:
        cells = make(count)
        body = struct.pack("!H", len(cells)) + b"".join(struct.pack("!i", len(c)) + c for c in cells)
        frames += b"D" + struct.pack("!I", len(body) + 4) + body
        count += 1
    return bytes(frames), count


def best(run: Callable[[], object], seconds: float) -> float:
    """The least CPU time of one run among those that fit into `seconds`, at least three."""
    least = float("inf")
    end = time.monotonic() + seconds
    runs = 0
    while runs < 3 or time.monotonic() < end:
        began = time.thread_time()
        run()
        least = min(least, time.thread_time() - began)
        runs += 1
    return least


def main() -> None:
    """Print one line a case and speed."""
    dice = random.Random(1)
    words = [
        "the",
        "order",
        "was",
        "sent",
        "on",
        "time",
        "and",
        "nobody",
        "has",
        "asked",
        "about",
        "it",
        "since",
        "then",
    ]

    def account(i: int) -> Row:
        return str(i).encode(), str(i % 10).encode(), str(dice.randrange(10**6)).encode(), b" " * 84

    def person(i: int) -> Row:
        return (
            str(i).encode(),
            b"Ana Example %d" % i,
            b"user%d@example.com" % i,
            b"4111111111111111",
            b"+1 555 %04d" % (i % 9999),
        )

    def prose(i: int) -> Row:
        return str(i).encode(), " ".join(dice.choice(words) for _ in range(60)).encode()

    cases = [
        ("accounts, one column redacted", account, [KEEP, KEEP, REDACT, KEEP], 0),
        ("accounts, one column NULL", account, [KEEP, KEEP, NULL, KEEP], 0),
        ("accounts, all detectors on the text column", account, [KEEP, KEEP, KEEP, SCAN], 31),
        ("people, two columns masked", person, [KEEP, KEEP, REDACT, LAST4, KEEP], 0),
        ("people, all detectors on all columns (two hits a row)", person, [SCAN] * 5, 31),
        ("prose, all detectors", prose, [KEEP, SCAN], 31),
    ]
    for name, module in speeds().items():
        for title, make, treatments, wanted in cases:
            frames, rows = batch(make)
            plan = bytes(treatments), bytes([1] * len(treatments))
            took = best(lambda f=frames, p=plan, w=wanted, m=module: m.mask_rows(f, *p, w), 0.4)
            print(f"{name:9} {title:55} {rows / took / 1e6:7.2f} M rows/s {len(frames) / took / 1e6:7.0f} MB/s")


if __name__ == "__main__":
    main()
