# ruff: noqa: INP001 - beside the package, not in it
"""What the scripts of fuzz/ share: the choice of a target, and an assert that is not compiled away."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import atheris


def hold(truth: bool, what: str) -> None:
    """An assert that is not compiled away."""
    if not truth:
        raise RuntimeError(what)


def main(targets: Mapping[str, Callable[[bytes], None]]) -> None:
    """Choose the target, hand the rest to libFuzzer."""
    if sys.argv[1:2] == ["--list"]:
        sys.stdout.write(" ".join(targets))
        return
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        raise SystemExit(f"which of {', '.join(targets)}?")
    chosen = targets[sys.argv.pop(1)]
    atheris.Setup(sys.argv, chosen)
    atheris.Fuzz()
