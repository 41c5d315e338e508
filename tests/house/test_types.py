"""Leaving out a hop is a type error: every mistake in `wrong_path.py` is reported."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.trees import ROOT

WRONG = Path(__file__).parent / "wrong_path.py"


@pytest.mark.timeout(300)
def test_every_left_out_hop_is_a_type_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--cache-dir", str(tmp_path), str(WRONG)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    reported = {int(line) for line in re.findall(r"wrong_path\.py:(\d+): error", done.stdout)}
    assert reported, done.stdout + done.stderr
    mistakes = [node for node in ast.parse(WRONG.read_text()).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    missed = [m.name for m in mistakes if not reported & set(range(m.lineno, (m.end_lineno or m.lineno) + 1))]
    assert not missed, f"these type-check, and must not: {missed}"
    outside = [line for line in reported if not any(m.lineno <= line <= (m.end_lineno or 0) for m in mistakes)]
    assert not outside, done.stdout
