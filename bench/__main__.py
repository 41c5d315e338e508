"""`python -m bench [--quick]`: PostgreSQL directly, through pgbouncer and through Ostiary, interleaved, on this machine.

Ratios hold from run to run, absolute figures do not. So every round measures each way once, in turn (A B C A B C …), and
what is reported are medians over the rounds and the ratios of medians. `--profiles` says what is recorded and how durably, `--only` takes a
part of the parts. Beside the JSON stands a plot (SVG).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench import measure
from bench.measure import Sample
from bench.plots import draw
from bench.relay import relay
from bench.ways import Way, bouncer, certificate, database, direct, ostiary, several_workers

RESULTS = Path(__file__).parent / "results"
PROFILES = ("decide", "strict", "recorded", "full")
IDLE = (10, 1000)
LITERALS = (
    "\\set aid random(1, :aids)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid AND filler <> 'n:aid' || 'o';\n"
)
SMALL = (
    "\\set aid random(1, :aids)\nBEGIN;\n"
    + "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n" * 5
    + "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\nCOMMIT;\n"
)

UPDATE = "\\set aid random(1, :aids)\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n"
WIDE = "\\set id random(1, 20000)\nSELECT * FROM wide WHERE id = :id;\n"
SCRIPTS = {"quoted literals": LITERALS, "small statements in a transaction": SMALL, "one-row updates": UPDATE, "wide rows": WIDE}

Measure = Callable[[Way], Sample]


class Table:
    """Samples by (what, way), in the order in which they came."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[str, list[Sample]]] = {}

    def add(self, what: str, way: Way, sample: Sample) -> None:
        self.samples.setdefault(what, {}).setdefault(way.name, []).append(sample)

    def medians(self) -> dict[str, dict[str, dict[str, float]]]:
        """What, way, figure: the median over the rounds."""
        return {
            what: {
                name: {key: statistics.median(getattr(s, key) for s in samples) for key in Sample.__dataclass_fields__}
                for name, samples in ways.items()
            }
            for what, ways in self.samples.items()
        }


def interleave(table: Table, what: str, ways: Iterable[Way], rounds: int, once: Measure) -> None:
    """Each way once a round, in turn."""
    ways = list(ways)
    for number in range(rounds):
        for way in ways:
            table.add(what, way, once(way))
        print(f"\r{what}: round {number + 1} of {rounds}   ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


Ways = dict[str, Way]


def point(table: Table, ways: Ways, options: argparse.Namespace) -> None:
    """Point queries, by protocol and number of clients."""
    for mode in options.modes:
        for clients in options.clients:

            def once(way: Way, mode: str = mode, clients: int = clients) -> Sample:
                return measure.transactions(way, mode=mode, clients=clients, seconds=options.seconds)

            interleave(table, f"pgbench -S {mode} {clients}", chosen(ways, options), options.rounds, once)


def scripts(table: Table, ways: Ways, options: argparse.Namespace) -> None:
    """What is not the best case: literals in quotes, many small statements in a transaction, writes, wide rows."""
    for name, script in SCRIPTS.items():

        def scripted(way: Way, script: str = script) -> Sample:
            return measure.transactions(way, mode="simple", clients=8, seconds=options.seconds, script=script)

        interleave(table, name, chosen(ways, options), options.rounds, scripted)


def latency(table: Table, ways: Ways, options: argparse.Namespace) -> None:
    """Latency at a quarter of what a direct connection could do."""
    full = measure.transactions(ways["direct"], mode="prepared", clients=8, seconds=min(options.seconds, 3)).rate

    def late(way: Way) -> Sample:
        return measure.latency(way, clients=8, rate=full / 4, seconds=options.seconds)

    interleave(table, "latency at a quarter of full load", chosen(ways, options), options.rounds, late)


def scan(table: Table, ways: Ways, options: argparse.Namespace) -> None:
    """A million rows."""
    every = [*chosen(ways, options), ways["masked"], ways["detect"]]
    interleave(table, "scan COPY", every, options.rounds, measure.copy_scan)
    interleave(table, "scan SELECT", every, options.rounds, measure.select_scan)
    interleave(table, "scan SELECT binary", every, options.rounds, lambda way: measure.select_scan(way, binary=True))


def connect(table: Table, ways: Ways, options: argparse.Namespace) -> None:
    """A connection for each transaction. pgbouncer keeps those to the server, and needs none anew."""

    def once(way: Way) -> Sample:
        return measure.transactions(way, mode="simple", clients=4, seconds=options.seconds, anew=True)

    interleave(table, "a connection for each query", chosen(ways, options), options.rounds, once)


def idle(table: Table, ways: Ways, options: argparse.Namespace) -> None:
    """Point queries beside sessions that say nothing."""
    for count in IDLE:

        def beside(way: Way, count: int = count) -> Sample:
            with measure.idle_sessions(way, count):
                return measure.transactions(way, mode="simple", clients=8, seconds=options.seconds)

        interleave(table, f"beside {count} idle sessions", [ways["direct"], ways["pgbouncer"], ways["decide"]], options.rounds, beside)


def tls(table: Table, ways: Ways, options: argparse.Namespace) -> None:
    """Point queries with TLS between client and proxy."""
    encrypted = [ways["pgbouncer TLS"], ways["decide TLS"]]
    for mode in options.modes:

        def once(way: Way, mode: str = mode) -> Sample:
            return measure.transactions(way, mode=mode, clients=8, seconds=options.seconds)

        interleave(table, f"TLS pgbench -S {mode} 8", encrypted, options.rounds, once)


PARTS: dict[str, Callable[[Table, Ways, argparse.Namespace], None]] = {
    "point": point, "latency": latency, "scan": scan, "writes": scripts, "connect": connect, "idle": idle, "tls": tls,
}  # fmt: skip


def chosen(ways: Ways, options: argparse.Namespace) -> list[Way]:
    """The two that it is compared with, the bare relay if there is one, and the profiles asked for, with one worker and with more."""
    several = [profile + several_workers(workers) for profile in options.profiles for workers in options.workers]
    return [ways[name] for name in ("direct", "pgbouncer", "relay", "relay, logging", *options.profiles, *several) if name in ways]


def measure_all(ways: Ways, options: argparse.Namespace) -> Table:
    table = Table()
    for part in options.only:
        PARTS[part](table, ways, options)
    return table


def report(medians: dict[str, dict[str, dict[str, float]]]) -> str:
    """A table for people."""
    head = f"{'':44}{'rate /s':>12}{'/direct':>9}{'/bouncer':>9}{'proxy µs':>10}{'machine µs':>11}{'p50 µs':>8}{'p99 µs':>8}"
    lines = [head]
    for what, ways in medians.items():
        lines.append(what)
        for name, got in ways.items():
            row = f"  {name:42}{got['rate']:12,.0f}"
            row += f"{got['rate'] / ways['direct']['rate']:9.3f}" if "direct" in ways else f"{'':9}"
            row += f"{got['rate'] / ways['pgbouncer']['rate']:9.3f}" if "pgbouncer" in ways else f"{'':9}"
            row += f"{got['proxy_cpu']:10.2f}{got['machine_cpu']:11.2f}"
            if got["p50"]:
                row += f"{got['p50']:8.0f}{got['p99']:8.0f}"
            lines.append(row)
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a run of some three minutes, for a first impression")
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=["decide"], help="what is recorded, and how durably")
    parser.add_argument("--rounds", type=int, default=0, help="rounds; default 5, quick 3")
    parser.add_argument("--seconds", type=float, default=0, help="of each pgbench run; default 5, quick 2")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--modes", nargs="+", default=["simple", "extended", "prepared"])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=[])
    parser.add_argument("--relay", action="store_true", help="also a relay in Python that reads nothing (bench/relay.py), and one that logs: what sockets, loop and log cost")
    parser.add_argument("--workers", type=int, nargs="+", default=[], help="also gateways with so many workers, beside that with one")
    parser.add_argument("--out", type=Path, help="where the JSON goes; default bench/results/TIME.json")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (2.0 if options.quick else 5.0)
    options.only = options.only or ([part for part in PARTS if part != "idle"] if options.quick else list(PARTS))
    if options.quick and options.clients == [1, 8, 32]:
        options.clients = [1, 8]
    return options


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    options = arguments()
    began = time.time()
    with contextlib.ExitStack() as stack:
        print("making the databases …", file=sys.stderr)
        peer = stack.enter_context(database())
        ways = {"direct": direct(peer), "pgbouncer": stack.enter_context(bouncer(peer))}
        if options.relay:
            ways["relay"] = stack.enter_context(relay(ways["direct"]))
            ways["relay, logging"] = stack.enter_context(relay(ways["direct"], "relay, logging", logging=True))
        ways |= stack.enter_context(ostiary(peer))
        for workers in options.workers:
            ways |= stack.enter_context(ostiary(peer, workers=workers))
        if "tls" in options.only:
            files = certificate(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            ways["pgbouncer TLS"] = stack.enter_context(bouncer(peer, files))
            ways["decide TLS"] = stack.enter_context(ostiary(peer, files))["decide"]
        medians = measure_all(ways, options).medians()
    document: dict[str, Any] = {
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "seconds": round(time.time() - began),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": f"{platform.python_version()}, {Path(sys.executable).resolve()}"},
        "rounds": options.rounds,
        "seconds_each": options.seconds,
        "medians": medians,
    }
    out = options.out or RESULTS / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime(began))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    out.with_suffix(".svg").write_text(draw(document))
    print(report(medians))
    print(f"written: {out}, {out.with_suffix('.svg')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
