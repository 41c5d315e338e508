"""One function a suite: run it against one place, return what came of each test.

A suite is handed a `Place`, and does not know whether a gateway stands there. The result of a test is a string:
`passed`, `failed`, `skipped`, or for pg_regress `failed` and a digest of the output, so that two runs can be compared exactly.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.sources import debian_source, named_source, pypi_source, run, virtual_environment
from ostiary.testing.peers import Peer

Results = dict[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a suite should connect, and the server behind it, for what a suite prepares."""

    name: str
    host: str
    port: int
    user: str
    password: str
    peer: Peer
    """The server itself."""

    def environment(self, database: str) -> dict[str, str]:
        return os.environ | {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": database,
            "LC_ALL": "C.UTF-8",
        }


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite: the databases that it wants, and how it is run."""

    databases: tuple[str, ...]
    run: Callable[[Place, Path, list[str]], Results]
    settings: Mapping[str, str]
    beside: tuple[str, ...] = ()
    """Databases that are there already or that the suite makes itself, which it connects to as well."""


REGRESS_SECONDS: Final = 1800

# --- pg_regress -------------------------------------------------------------------------------------------------------


def regress_tree(version: str) -> Path:
    """PostgreSQL's source of this version, configured, with the shared libraries that its tests load."""
    tree = debian_source("postgresql-15", version)
    library = tree / "src" / "test" / "regress" / "regress.so"
    if not library.exists():
        run(["./configure", "-q", "--without-readline", "--without-zlib", "--without-icu", "CFLAGS=-O1"], tree)
        run(["make", "-s", "-C", "src/backend", "generated-headers"], tree)
        run(["make", "-s", "-C", "src/test/regress", "regress.so", "pg_regress"], tree)
        run(["make", "-s", "-C", "contrib/spi"], tree)
    return tree


def pg_regress(place: Place, out: Path, only: list[str]) -> Results:
    """PostgreSQL's own regression tests against a running server, one after another."""
    version = place.peer.psql("SHOW server_version").split()[0]
    tree = regress_tree(version)
    stage = stage_for(tree, place.name)
    place.peer.psql(
        "ALTER DATABASE regression SET lc_messages TO 'C'; ALTER DATABASE regression SET lc_monetary TO 'C';"
        "ALTER DATABASE regression SET lc_numeric TO 'C'; ALTER DATABASE regression SET lc_time TO 'C';"
        "ALTER DATABASE regression SET bytea_output TO 'hex'; "
        "ALTER DATABASE regression SET timezone_abbreviations TO 'Default';"
    )
    runner = tree / "src" / "test" / "regress" / "pg_regress"
    command = [str(runner), "--use-existing", f"--host={place.host}", f"--port={place.port}", f"--user={place.user}"]
    command += ["--dbname=regression", f"--inputdir={stage}", f"--outputdir={out}", f"--dlpath={stage}/lib"]
    command += [f"--bindir={place.peer.binaries}", "--max-connections=1"]
    command += only or [f"--schedule={stage}/parallel_schedule"]
    for folder in ("results", "testtablespace"):
        (out / folder).mkdir(parents=True, exist_ok=True)
        (out / folder).chmod(0o777)  # the server's account writes there too
    env = place.environment("regression")
    with (out / "said").open("wb") as said, contextlib.suppress(subprocess.TimeoutExpired):
        # What has not run by then counts as absent.
        subprocess.run(command, cwd=out, env=env, stdout=said, stderr=said, check=False, timeout=REGRESS_SECONDS)
    return regress_results(out, stage)


def regress_results(out: Path, stage: Path) -> Results:
    """`passed` where the output is the expected one, else a digest of it, so that two failures can be told apart."""
    verdicts = dict(re.findall(r"^(?:test)?\s+(\S+)\s+\.\.\. (ok|FAILED)", (out / "said").read_text(), re.MULTILINE))
    found: Results = {}
    for path in sorted((out / "results").glob("*.out")):
        # Paths differ between the two runs, and nothing else may.
        text = path.read_bytes().replace(str(stage).encode(), b"@STAGE@").replace(str(out).encode(), b"@OUT@")
        path.write_bytes(text)
        digest = hashlib.sha256(text).hexdigest()[:12]
        found[path.stem] = "passed" if verdicts.get(path.stem) == "ok" else f"failed {digest}"
    return found


def stage_for(tree: Path, name: str) -> Path:
    """A copy of the tests that the server's account can read, with the libraries."""
    stage = Path("/tmp") / f"ostiary-regress-{name}"
    shutil.rmtree(stage, ignore_errors=True)
    source = tree / "src" / "test" / "regress"
    stage.mkdir(mode=0o755)
    for folder in ("sql", "expected", "data"):
        shutil.copytree(source / folder, stage / folder)
    for file in ("parallel_schedule", "resultmap"):
        shutil.copy(source / file, stage / file)
    (stage / "lib").mkdir()
    for library in (source / "regress.so", *(tree / "contrib" / "spi").glob("*.so")):
        shutil.copy(library, stage / "lib" / library.name)
    (stage / "results").mkdir(mode=0o777)
    for path in (stage, *stage.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o644)
    return stage


# --- suites run by pytest ---------------------------------------------------------------------------------------------


def by_pytest(python: Path, arguments: list[str], cwd: Path, out: Path, env: Mapping[str, str]) -> Results:
    """Run pytest, bounded, and read its JUnit report."""
    report = out / "junit.xml"
    command = [str(python), "-m", "pytest", "-q", f"--junitxml={report}", "-o", f"cache_dir={out}/cache"]
    with (out / "said").open("wb") as said:
        subprocess.run(
            [*command, *arguments], cwd=cwd, env=dict(env), stdout=said, stderr=said, check=False, timeout=3600
        )
    return junit(report)


def junit(report: Path) -> Results:
    """Test by test: `passed`, `skipped` or `failed`."""
    found: Results = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcome = "passed"
        for child in case:
            if child.tag in {"failure", "error"}:
                outcome = "failed"
            elif child.tag == "skipped":
                outcome = "skipped"
        found[name] = "failed" if "failed" in {outcome, found.get(name)} else outcome
    return found


def psycopg(place: Place, out: Path, only: list[str]) -> Results:
    """psycopg 3's tests, from a folder of its source that was named, else from Debian's (PyPI's distributions carry none)."""
    tree = named_source("psycopg") or debian_source("psycopg3")
    project = tomllib.loads((tree / "psycopg" / "pyproject.toml").read_text())["project"]
    python = virtual_environment(
        "psycopg", f"psycopg[binary]=={project['version']}", "psycopg-pool", "pytest", "anyio>=4", "dnspython", "pproxy"
    )
    tests = out / "psycopg"
    # Beside the sources it would import them, uncompiled; so the tests alone.
    shutil.copytree(tree / "tests", tests / "tests", dirs_exist_ok=True)
    shutil.copy(tree / "pyproject.toml", tests / "pyproject.toml")
    dsn = f"host={place.host} port={place.port} user={place.user} password={place.password} dbname=psycopg"
    arguments = only or ["tests", "--ignore=tests/crdb", "--ignore=tests/test_typing.py"]
    markers = "not slow and not flakey and not mypy and not timing and not crdb"
    env = place.environment("psycopg") | {"PSYCOPG_IMPL": "binary", "PSYCOPG_TEST_DSN": dsn}
    del env["PGPASSWORD"]  # there is a test that takes it away
    # A connection that a failed test leaves open would fail a later one.
    arguments = [*arguments, "-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    return by_pytest(python, [*arguments, "-m", markers], tests, out, env)


def asyncpg(place: Place, out: Path, only: list[str]) -> Results:
    """asyncpg's tests against a running server, as it runs them when PGHOST is set."""
    version = "0.32.0"
    tree = pypi_source("asyncpg", version)
    tests = out / "asyncpg"
    # Beside the sources it would import them, uncompiled; so the tests alone.
    shutil.copytree(tree / "tests", tests / "tests", dirs_exist_ok=True)
    python = virtual_environment("asyncpg", f"asyncpg=={version}", "pytest", "uvloop", "distro", "pyOpenSSL")
    arguments = only or ["tests", "--deselect", "tests/test__sourcecode.py", "--deselect", "tests/test__environment.py"]
    return by_pytest(python, arguments, tests, out, place.environment("asyncpg"))


def sqlalchemy(place: Place, out: Path, only: list[str]) -> Results:
    """The tests of SQLAlchemy's PostgreSQL dialect, with psycopg 3 beneath."""
    version = "2.1.9"
    tree = pypi_source("sqlalchemy", version)
    python = virtual_environment("sqlalchemy", f"sqlalchemy=={version}", "psycopg[binary]", "pytest", "greenlet")
    # The schemas that its README asks for are made beside.
    place.peer.psql(
        "CREATE SCHEMA IF NOT EXISTS test_schema; CREATE SCHEMA IF NOT EXISTS test_schema_2; CREATE EXTENSION IF NOT EXISTS hstore;"
        "CREATE EXTENSION IF NOT EXISTS citext; ALTER DATABASE sqlalchemy SET default_text_search_config = 'pg_catalog.english'",
        "sqlalchemy",
    )
    uri = f"postgresql+psycopg://{place.user}:{place.password}@{place.host}:{place.port}/sqlalchemy"
    arguments = only or ["test/dialect/postgresql", "test/dialect/test_suite.py"]
    return by_pytest(
        python, [*arguments, "--dburi", uri, "-p", "no:warnings"], tree, out, place.environment("sqlalchemy")
    )


SUITES: dict[str, Suite] = {
    "pg_regress": Suite(("regression",), pg_regress, {"max_prepared_transactions": "2", "fsync": "off"}),
    "psycopg": Suite(("psycopg",), psycopg, {"max_prepared_transactions": "10"}),
    "asyncpg": Suite(("asyncpg",), asyncpg, {}, beside=("postgres", "asyncpg_intro_test")),
    "sqlalchemy": Suite(("sqlalchemy",), sqlalchemy, {"max_prepared_transactions": "10"}),
}


def folder_for(suite: str, place: str) -> Path:
    """An empty folder for one run's output, writable by the server's account too."""
    # Under /tmp: the server writes into it too, and its account may not come in here.
    out = Path("/tmp/ostiary-conformance") / suite / place
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    out.chmod(0o777)
    return out
