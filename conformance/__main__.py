"""`python -m conformance [SUITE …]`: each suite directly, then through the gateway under a policy that permits everything.

`--policy forbidding`: through the gateway alone, under a policy that forbids what the suites do not do (`forbidding.py`).

What differs is compared test by test and written to `conformance/RESULTS.md`, each difference with its cause out of
`conformance/causes.toml`. A difference without a cause there is an error: exit code 1.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import signal
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from conformance import forbidding, moto
from conformance.sources import HERE, NAMED, WORK, CannotFetch
from conformance.suites import SUITES, Place, Results, Suite, folder_for
from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer, postgres_cluster

POLICY = HERE.parent / "tests" / "attacks" / "profiles" / "permit-all.cedar"
UNEXPLAINED = "**unexplained**"
ALL: dict[str, Suite | None] = {**SUITES, "moto": None}
"""Every suite; None: not of PostgreSQL."""


def prepared(suite: Suite, peer: Peer) -> None:
    for name in suite.databases:
        peer.psql(f'CREATE DATABASE "{name}" TEMPLATE template0 ENCODING UTF8')


def directly(name: str, suite: Suite | None, only: list[str]) -> Results:
    if suite is None:
        return moto.directly(only)
    with postgres_cluster(auth="scram-sha-256", password="direct", settings=suite.settings) as peer:
        prepared(suite, peer)
        place = Place("direct", peer.host, peer.port, peer.user, "direct", peer)
        return suite.run(place, folder_for(name, "direct"), only)


def through(
    name: str, suite: Suite | None, only: list[str], policy: Path = POLICY, look: Callable[[Gateway], None] = lambda _: None
) -> Results:
    """`look` is given the gateway once the suite is through."""
    if suite is None:
        return moto.through(only)
    with postgres_cluster(auth="trust", settings=suite.settings) as peer:
        prepared(suite, peer)
        connections = {
            each: target(peer, database=each, recording="events", durability="buffered", detect=[])
            for each in (*suite.databases, *suite.beside)
        }
        with gateway(connections=connections, policy=policy.read_text()) as gate:
            token = gate.token("conformance", exp=int(time.time()) + 6 * 3600)
            place = Place("gateway", gate.host, gate.port, peer.user, token, peer)
            out = folder_for(name, "gateway")
            try:
                results = suite.run(place, out, only)
                look(gate)
                return results
            finally:
                (out / "gateway.log").write_text("\n".join(gate.said))


def differences(direct: Results, gated: Results) -> dict[str, tuple[str, str]]:
    return {
        test: (direct.get(test, "absent"), gated.get(test, "absent"))
        for test in sorted(direct.keys() | gated.keys())
        if direct.get(test) != gated.get(test)
    }


def cause_of(suite: str, test: str, causes: dict[str, dict[str, str]]) -> str:
    """The cause that stands for this test, by name or by pattern."""
    for pattern, cause in causes.get(suite, {}).items():
        if fnmatch.fnmatchcase(test, pattern):
            return cause
    return UNEXPLAINED


def report(results: dict[str, dict[str, Results]], causes: dict[str, dict[str, str]]) -> tuple[str, int]:
    """The page, and how many differences nobody explains."""
    lines = [
        "# Conformance",
        "",
        "Other people's suites, directly and through the gateway under a policy that permits everything.",
    ]
    lines += ["Made by `make conformance`; causes come from `conformance/causes.toml`.", ""]
    lines += ["| suite | tests | passed directly | passed through the gateway | different | unexplained |"]
    lines += ["|---|---|---|---|---|---|"]
    notes: list[str] = []
    details: list[str] = []
    unexplained = 0
    for suite, runs in results.items():
        different = differences(runs["direct"], runs["gateway"])
        open_ = [test for test in different if cause_of(suite, test, causes) == UNEXPLAINED]
        unexplained += len(open_)
        count = len(runs["direct"].keys() | runs["gateway"].keys())
        passed = [sum(result == "passed" for result in run.values()) for run in (runs["direct"], runs["gateway"])]
        lines.append(f"| {suite} | {count} | {passed[0]} | {passed[1]} | {len(different)} | {len(open_)} |")
        if note := causes.get("notes", {}).get(suite):
            notes += ["", f"**{suite}**: {note}"]
        if different:
            details += ["", f"## {suite}", "", "| test | direct | through the gateway | cause |", "|---|---|---|---|"]
            details += [f"| `{t}` | {a} | {b} | {cause_of(suite, t, causes)} |" for t, (a, b) in different.items()]
    notes += [f"\n**{suite}**: {note}" for suite, note in causes.get("notes", {}).items() if suite not in results]
    return "\n".join(lines + notes + details) + "\n", unexplained


def count_refusals(names: list[str], only: list[str], *, write: bool) -> int:
    """The suites under the policy that forbids; exit code 1: it refused something."""
    policy = forbidding.POLICY
    rows: dict[str, tuple[int, int, forbidding.Count]] = {}
    for name in names or forbidding.SUITES:
        print(f"{name}: under {policy.name} …", file=sys.stderr)
        counts: list[forbidding.Count] = []

        def look(gate: Gateway, counts: list[forbidding.Count] = counts) -> None:
            counts.append(forbidding.count(gate.entries(), forbidding.forbids(policy.read_text())))

        try:
            results = through(name, SUITES[name], only, policy, look)
        except CannotFetch as problem:
            print(f"{name}: {problem}", file=sys.stderr)
            continue
        rows[name] = (len(results), sum(result == "passed" for result in results.values()), counts[0])
    part = forbidding.section(rows)
    page = HERE / "RESULTS.md"
    if write and not only:
        page.write_text(forbidding.merged(page.read_text(), part))
    print(part)
    return 1 if any(found.refused for _, _, found in rows.values()) else 0


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(ALL)}; default: all")
    parser.add_argument("--only", nargs="+", default=[], help="tests of the suite (arguments in its own words)")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md as it is")
    parser.add_argument("--source", action="append", default=[], metavar="SUITE=FOLDER", help="unpacked source of a suite")
    parser.add_argument("--policy", choices=["permitting", "forbidding"], default="permitting", help="see above")
    options = parser.parse_args()
    for pair in options.source:
        suite, _, folder = pair.partition("=")
        if suite not in ALL or not Path(folder).is_dir():
            parser.error(f"--source wants SUITE=FOLDER, not {pair}")
        NAMED[suite] = Path(folder).resolve()
    if unknown := set(options.suites) - ALL.keys():
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    if options.policy == "forbidding":
        return count_refusals(options.suites, options.only, write=not options.no_write)
    results: dict[str, dict[str, Results]] = {}
    kept = WORK / "results.json"
    for name in options.suites or ALL:
        print(f"{name}: directly …", file=sys.stderr)
        try:
            first = directly(name, ALL[name], options.only)
            print(f"{name}: {len(first)} tests; through the gateway …", file=sys.stderr)
            results[name] = {"direct": first, "gateway": through(name, ALL[name], options.only)}
        except CannotFetch as problem:
            print(f"{name}: {problem}", file=sys.stderr)
    if kept.exists() and not options.only:
        results = dict(sorted((json.loads(kept.read_text()) | results).items()))
    causes_file = HERE / "causes.toml"
    causes = tomllib.loads(causes_file.read_text()) if causes_file.exists() else {}
    page, unexplained = report(results, causes)
    if not options.no_write and not options.only:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(results))
        written = HERE / "RESULTS.md"
        part = forbidding.kept(written.read_text()) if written.exists() else ""
        written.write_text(forbidding.merged(page, part) if part else page)
    print(page)
    return 1 if unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
