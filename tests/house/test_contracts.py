"""Directions of imports, tasks, secrets, danger: what a reviewer would otherwise have to look for each time."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.trees import PACKAGE, ROOT, calls, imports, name_of, sources, tracked, tree

SANS_IO = ("model", "kernel", "protocols", "policy", "masking", "session")
WORLDLY = frozenset(
    {
        *("asyncio", "uvloop", "socket", "ssl", "select", "selectors", "signal"),
        *("subprocess", "threading", "multiprocessing", "concurrent"),
        *("os", "pathlib", "shutil", "tempfile", "mmap", "sqlite3"),
        *("time", "random", "secrets", "uuid", "logging", "structlog"),
        *("httpx", "starlette", "uvicorn", "asyncpg"),
    }
)
# Calls that reach the world without an import.
WORLDLY_CALLS = frozenset({"open", "input", "print", "breakpoint", "exec", "eval", "__import__"})
# A date may be computed with; only the clock may not be read.
CLOCKS = frozenset({"now", "utcnow", "today", "urandom", "uuid4"})

SPAWN = "ostiary/driver/"

# Every place that opens a secret, and why. A new one is a place to review: add it here with its reason.
REVEALS: dict[str, str] = {
    "ostiary/api/client.py": "sends the caller's own token to the API",
    "ostiary/api/slack.py": "checks Slack's signature over a click",
    "ostiary/vault/keys.py": "reads a key-encryption key from the environment or a file",
    "ostiary/approvals/outlets.py": "signs what webhooks are told, and reaches Slack's",
    "ostiary/app/control.py": "hashes the identity provider's bearer token, to compare with",
    "ostiary/cli/held.py": "puts the token of a login into the file or keyring that is for it",
    "ostiary/identity/oidc.py": "sends our client secret, and a person's refresh token, to their issuer",
    "ostiary/identity/vouching.py": "encrypts the refresh token of a login, to keep it",
    "ostiary/cli/tokens.py": "shows the token that was asked for, or hands it to the client that is started",
    "ostiary/driver/targets.py": "makes the masks of a connection with its key",
    "ostiary/driver/http_asker.py": "knows a token that it has verified before by its hash",
    "ostiary/api/tokens.py": "hands the keys for AWS that were asked for to whoever asked",
    "ostiary/cli/aws.py": "prints the keys for AWS that were asked for",
    "ostiary/driver/aws_gate.py": "opens the session token that a request shows",
    "ostiary/protocols/aws/sigv4.py": "derives the day's signing key, and shows AWS the session token of the gateway's own keys",
    "ostiary/upstream/aws_credentials.py": "reads the account's secret or token, to assume a role or to sign",
    "ostiary/upstream/http_credentials.py": "shows an HTTP service the configured credential",
    "ostiary/identity/overage.py": "shows the place that tells of groups our credential there",
    "ostiary/identity/jobs.py": "checks whose webhook it is that tells of a job",
    "ostiary/identity/verifier.py": "checks the token that somebody showed",
    "ostiary/upstream/ssh.py": "logs in to a host with its password or key, or signs a session's certificate",
    "ostiary/protocols/postgres/login.py": "answers a target that asks for the password",
    "ostiary/protocols/postgres/scram.py": "derives the keys of SCRAM from the password",
}


def test_import_contracts_hold() -> None:
    tool = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    assert tool is not None, "import-linter is a development dependency: run scripts/setup.sh"
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", SANS_IO)
def test_the_pure_row_does_no_io(package: str) -> None:
    found = []
    for path in sources(f"ostiary/{package}"):
        found += [f"{name_of(path)}:{line} imports {module}" for module, line in imports(path) if module in WORLDLY]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WORLDLY_CALLS:
                found.append(f"{name_of(path)}:{node.lineno} calls {node.func.id}")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS:
                found.append(f"{name_of(path)}:{node.lineno} reads {node.func.attr}")
    assert not found, found


def test_tasks_are_made_in_one_place() -> None:
    """A task that nobody awaits loses its exception: the driver's `spawn` keeps it, and is the only one to make it."""
    makers = {"create_task", "ensure_future", "TaskGroup", "run_coroutine_threadsafe"}
    found = []
    for path in sources():
        spawns = [
            range(node.lineno, (node.end_lineno or node.lineno) + 1)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.FunctionDef) and node.name == "spawn" and name_of(path).startswith(SPAWN)
        ]
        found += [
            f"{name_of(path)}:{line}"
            for name, line in calls(path)
            if name in makers and not any(line in spawn for spawn in spawns)
        ]
    assert not found, f"use the driver's spawn: {found}"


def test_secrets_are_opened_where_it_is_listed() -> None:
    places = {name_of(path) for path in sources() for name, _ in calls(path) if name == "reveal"}
    places = {place for place in places if not place.startswith("ostiary/testing/")}
    assert places == REVEALS.keys(), f"new: {sorted(places - REVEALS.keys())}; gone: {sorted(REVEALS.keys() - places)}"


def test_every_danger_is_documented() -> None:
    dangers = {
        node.target.id
        for path in sources("ostiary/config")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id.startswith("danger_")
        and ast.unparse(node.annotation) == "bool"
    }
    assert dangers
    documented = "".join(path.read_text() for path in tracked("docs/*.md"))
    documented += "".join(path.read_text() for path in tracked("docs/**/*.md"))
    missing = sorted(word for word in dangers if word not in documented)
    assert not missing, f"no page of docs/ says what {missing} does"


def test_the_verifier_imports_nothing_of_ours() -> None:
    verifier = PACKAGE / "audit" / "verify.py"
    ours = [f"{line}" for module, line in imports(verifier) if module == "ostiary"]
    relative = [node.lineno for node in ast.walk(tree(verifier)) if isinstance(node, ast.ImportFrom) and node.level]
    assert not ours, f"verify.py imports of ours in lines {ours}"
    assert not relative
