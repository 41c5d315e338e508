# ruff: noqa: INP001, D102 - a script beside the package, not in it
"""Run a fuzz target over mutated inputs without a fuzzer in the process: `python fuzz/mutating.py SCRIPT SECONDS SEED [CORPUS…]`.

For a build whose memory is checked, into which libFuzzer's own runtime does not fit. Inputs are those of corpora (what `make fuzz`
found) and of the wire's test vectors, changed at random; the same seed makes the same inputs. Prints how many each target saw.
"""

from __future__ import annotations

import contextlib
import random
import runpy
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

MAX_INPUT = 1 << 16
ODD = (b"\0\0\0\0", b"\0\0\0\4", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0", b"\xff", b"\r\n", b"4111111111111111", b"@")


def stand_in() -> None:
    """What scripts need of atheris, doing nothing."""
    module = types.ModuleType("atheris")
    module.instrument_imports = lambda **_: contextlib.nullcontext()  # type: ignore[attr-defined]
    module.instrument_func = lambda function: function  # type: ignore[attr-defined]
    module.FuzzedDataProvider = Provider  # type: ignore[attr-defined]
    sys.modules["atheris"] = module


class Provider:
    """What targets take an input apart with: from its beginning, and nothing where it has ended."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def ConsumeBytes(self, count: int) -> bytes:  # noqa: N802 - the fuzzer's names
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def ConsumeIntInRange(self, low: int, high: int) -> int:  # noqa: N802
        return low + int.from_bytes(self.ConsumeBytes(4), "little") % (high - low + 1)

    def ConsumeBool(self) -> bool:  # noqa: N802
        return self.ConsumeIntInRange(0, 1) == 1

    def remaining_bytes(self) -> int:
        return len(self._data)


def seeds(folders: list[Path]) -> list[bytes]:
    """What to begin with."""
    found = [path.read_bytes()[:MAX_INPUT] for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    with contextlib.suppress(ImportError):
        from tests.postgres_wire import vectors  # noqa: PLC0415 - the tests are not always there

        for held in vars(vectors).values():
            found += [bytes(each) for each in _bytes_in(held)]
    return found or [b""]


def _bytes_in(value: object) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _bytes_in(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _bytes_in(each)


def mutated(one: bytes, other: bytes, dice: random.Random) -> bytes:
    """Change an input in up to eight places, or join it to another."""
    data = bytearray(one)
    for _ in range(dice.randrange(1, 9)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                data[at:at] = dice.choice(ODD)
            case 2:
                piece = dice.choice(ODD)
                data[at : at + len(piece)] = piece
            case 3:
                del data[at : at + dice.randrange(1, 17)]
            case 4:
                begin = dice.randrange(len(other) + 1)
                data[at:at] = other[begin : begin + dice.randrange(1, 257)]
            case _:
                data += data[: dice.randrange(1, 257)]
    return bytes(data[:MAX_INPUT])


def main() -> None:
    """Run every target of a script."""
    script, seconds, seed, *corpora = sys.argv[1:]
    stand_in()
    sys.path.insert(0, str(Path(script).parent))
    targets: Mapping[str, Callable[[bytes], None]] = runpy.run_path(script)["TARGETS"]
    for name, target in targets.items():
        dice = random.Random(f"{name} {seed}")  # noqa: S311 - the same inputs for the same seed
        held = seeds([Path(corpus) / name for corpus in corpora])
        end, count = time.monotonic() + float(seconds), 0
        for first in held:
            target(first)
            count += 1
        while time.monotonic() < end:
            data = mutated(dice.choice(held), dice.choice(held), dice)
            try:
                target(data)
            except BaseException:
                sys.stderr.write(f"{name}: {data!r}\n")
                raise
            count += 1
            if count % 50 == 0 and len(data) < 4096:
                held.append(data)
        sys.stdout.write(f"{name}: {count} inputs\n")


if __name__ == "__main__":
    main()
