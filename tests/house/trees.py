"""The source as trees: what the house tests look at."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "ostiary"


@functools.cache
def sources(*folders: str) -> tuple[Path, ...]:
    """Every Python file under these folders (default: the package), sorted."""
    roots = [ROOT / folder for folder in folders] or [PACKAGE]
    ours = (path for root in roots for path in root.rglob("*.py") if "__pycache__" not in path.parts)
    return tuple(sorted(path for path in ours if ROOT / "conformance" / "work" not in path.parents))


@functools.cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(), filename=str(path))


def name_of(path: Path) -> str:
    """The path as the lists in these tests write it: `ostiary/session/path.py`."""
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(qualified name, lines from `def` to the last) of every function."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                assert child.end_lineno is not None
                yield prefix + child.name, child.end_lineno - child.lineno + 1
                yield from walk(child, prefix + child.name + ".")
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, prefix + child.name + ".")
            else:
                yield from walk(child, prefix)

    return walk(tree(path), "")


def calls(path: Path) -> Iterator[tuple[str, int]]:
    """(last name of what is called, line) of every call: `Permit` of `Permit(...)`, `create_task` of `loop.create_task(...)`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id, node.lineno
            elif isinstance(node.func, ast.Attribute):
                yield node.func.attr, node.lineno


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(top module, line) of every absolute import."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0], node.lineno


def tracked(pattern: str) -> list[Path]:
    """Files that git knows or would add (so a clone without history works too), by glob pattern."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = (
        done.stdout.splitlines()
        if done.returncode == 0
        else [str(p.relative_to(ROOT)) for p in ROOT.glob("**/" + pattern)]
    )
    return [ROOT / name for name in names if (ROOT / name).exists()]
