"""A proof is worth what its mint is worth: each type is built in one package only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house.trees import PACKAGE, calls, name_of, sources, tree

MINTS = {
    "VerifiedIdentity": "identity",
    "Permit": "policy",
    "Refusal": "policy",
    "NeedsApproval": "policy",
    "Intended": "audit",
    "Denied": "audit",
    "Masked": "masking",
    "Recorded": "recording",
    "Answer": "approvals",
}
# `replace` and friends build a proof too, from another.
COPIERS = {"replace", "structs_replace", "force_setattr", "__setattr__", "convert", "decode"}


def package(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("proof", MINTS)
def test_a_proof_is_built_in_one_package_only(proof: str) -> None:
    elsewhere = [
        f"{name_of(path)}:{line}"
        for path in sources()
        if package(path) not in {MINTS[proof], "testing"}
        for name, line in calls(path)
        if name == proof
    ]
    assert not elsewhere, f"{proof} is minted in ostiary.{MINTS[proof]} only, not in {elsewhere}"


def test_no_proof_goes_by_another_name() -> None:
    """`from … import Permit as P` would hide a mint from the test above; so would a subclass."""
    hidden = []
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom):
                hidden += [
                    f"{name_of(path)}:{node.lineno}"
                    for a in node.names
                    if a.name in MINTS and a.asname not in {None, a.name}
                ]
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in MINTS:
                hidden.append(f"{name_of(path)}:{node.lineno}")
            elif isinstance(node, ast.ClassDef):
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                hidden += [f"{name_of(path)}:{node.lineno}" for _ in bases & MINTS.keys()]
    assert not hidden, f"a proof type under another name: {hidden}"


def test_no_proof_is_copied_with_changes() -> None:
    """`msgspec.structs.replace(permit, …)` is a mint as well: it may stand only where that proof is minted."""
    mints = set(MINTS.values()) | {"testing"}
    found = []
    for path in sources():
        if package(path) in mints:
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name) and node.args:
                called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                first = ast.unparse(node.args[0]).lower()
                if called in COPIERS and any(proof.lower() == first for proof in MINTS):
                    found.append(f"{name_of(path)}:{node.lineno}")
    assert not found, found


def test_every_proof_is_minted_somewhere() -> None:
    """A mint that nobody calls would make the tests above pass for nothing."""
    missing = [
        proof
        for proof, home in MINTS.items()
        if proof != "NeedsApproval"
        and not any(name == proof for path in sources() if package(path) == home for name, _ in calls(path))
    ]
    assert not missing, f"nothing mints {missing}"
