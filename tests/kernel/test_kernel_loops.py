"""Which lines of the kernel's loops touch Python objects, as Cython's own report says (`cython -a`): never more than today.

A line in a loop that goes through Python objects costs ten to a hundred times what one in C does, and nothing else tells: the module
compiles and its tests pass. A line that only raises counts too. What matters is that no number grows unseen.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ostiary.kernel

KERNEL = Path(ostiary.kernel.__file__).parent
DIRECTIVES = "language_level=3,boundscheck=True,wraparound=False,initializedcheck=False,cdivision=True,annotation_typing=False"
"""Those of setup.py for the kernel."""
_LINE = re.compile(r'<pre class="cython line score-(\d+)"[^>]*>[^<\d]*(?:<span class="[^"]*">)?(\d+)')

# module -> function -> lines of its loops that touch Python objects. Lower a number when it shrinks (a test demands it); never raise one.
TOUCHING: dict[str, dict[str, int]] = {
    "copies": {
        "_room": 4, "unescape_text": 5, "text_rows": 1, "line": 4, "text_end": 2, "csv_end": 3, "after_quote": 2, "is_found": 3, "text": 2,
    },
    "detect": {
        "_classes": 12, "_iban_lengths": 2, "_pairs": 2, "is_dull": 5, "others": 1, "star": 1, "is_escaped": 1, "numbers": 4, "ssn": 1, "card": 5,
        "is_part_of_more": 2, "is_card": 2, "iban": 3, "emails": 5, "escape_length": 1, "domain_end": 2, "secrets": 2,
        "private_key": 1, "tokens": 5, "word": 4, "token": 6, "aws_key_id": 1, "aws_secret": 1, "jwt": 2,
    },
    "entries": {
        "cut": 5, "bundle": 6, "see": 17, "_uuid": 2, "_named": 5,
    },
    "fields": {
        "_walk": 12,
    },
    "frames": {
        "_classes": 3, "_walk": 9, "check_rows": 16,
    },
    "literals": {
        "_sorts": 4, "plain_key": 3, "_quoted": 3,
    },
    "rows": {
        "copy_rows": 2, "row": 7, "substitute": 2, "is_hidden": 3, "mend_json": 7, "redact": 4, "is_number": 1, "characters": 2,
        "move": 1, "stars": 1,
    },
    "substitutes": {
        "token": 11,
    },
}  # fmt: skip


def loops(source: str) -> dict[str, set[int]]:
    """The lines in loops, by the name of their function."""
    found: dict[str, set[int]] = {}
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            for loop in ast.walk(function):
                if isinstance(loop, ast.For | ast.While):
                    found.setdefault(function.name, set()).update(range(loop.lineno, (loop.end_lineno or loop.lineno) + 1))
    return found


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    pytest.importorskip("Cython", reason="no Cython: nothing is compiled here")
    copy = tmp_path_factory.mktemp("annotated") / "ostiary" / "kernel"
    shutil.copytree(KERNEL, copy, ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    (copy.parent / "__init__.py").touch()
    modules = sorted(path for path in copy.glob("*.py") if path.with_suffix(".pxd").exists())
    command = [sys.executable, "-m", "cython", "-a", "-X", DIRECTIVES, *map(str, modules)]
    done = subprocess.run(command, cwd=copy.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for path in modules:
        scores = {int(line): int(score) for score, line in _LINE.findall(path.with_suffix(".html").read_text())}
        assert scores, f"{path.name}: the report is not read"
        counts = {name: sum(scores.get(line, 0) > 0 for line in lines) for name, lines in loops(path.read_text()).items()}
        found[path.stem] = {name: count for name, count in counts.items() if count}
    return found


def test_no_loop_of_the_kernel_touches_more_python_objects_than_it_did(reports: dict[str, dict[str, int]]) -> None:
    assert reports == TOUCHING


def test_rows_are_walked_without_a_python_object(reports: dict[str, dict[str, int]]) -> None:
    """The loops that each row of a result runs through, masked or not."""
    assert "data_rows" not in reports["rows"]
    assert "many_stars" not in reports["rows"]
