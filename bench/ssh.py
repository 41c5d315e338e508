"""SSH directly, over an OpenSSH double hop and through Ostiary: `python -m bench.ssh [--megabytes 128] [--rounds 3]`.

One sshd, OpenSSH's own client, aes128-gcm, each way over one connection that is open already (`ControlMaster`), so what is timed is what flows and
not the login. Every round measures each way once, in turn; what is printed are medians, and ratios of medians. The double hop is `ssh` on the host
that runs `ssh`: what a jump host does that decrypts. `plain` is Ostiary without detectors and contents (`recording = "events"`, `detect = []`), `detect`
what a connection does that says nothing about it; `relay` is asyncssh that hands on what comes, unread (`bench/relay_ssh.py`). Keystrokes are bytes that a terminal echoes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.ways import wait_for
from ostiary.testing.gateway import gateway
from ostiary.testing.peers import free_port, process_family
from ostiary.testing.sshd import sshd

POLICY = 'permit (principal, action, resource);\npermit (principal, action == Ostiary::Action::"opaque", resource);'
QUIET = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-c", "aes128-gcm@openssh.com"]
BATCH = ["-o", "BatchMode=yes"]
"""Whoever finds no master fails, instead of asking somebody for a password."""
PATIENCE = 60.0
"""Seconds for what takes no time, and for a hundredth of a gigabyte that is moved at the very slowest."""
KEYS = 300
RUNS = 25


@dataclass(frozen=True)
class Way:
    """How to get to the host: `command` is what stands in front of what is to be run there."""

    name: str
    command: list[str]
    wrap: Callable[[str], str]
    socket: str
    place: str
    pid: int | None

    def run(self, text: str, *options: str) -> list[str]:
        return [*self.command, *BATCH, *options, self.place, self.wrap(text)]

    def cpu_seconds(self) -> float:
        """Of the gateway's processes."""
        ticks = 0
        for pid in process_family(self.pid) if self.pid else ():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def ways(folder: Path) -> Iterator[list[Way]]:
    port = free_port()
    with sshd() as server:
        key = ["-i", str(server.client_key), "-o", "IdentitiesOnly=yes", "-p", str(server.port)]
        events = {"recording": "events", "durability": "buffered", "detect": []}
        connections = {"plain": server.target(**events), "detect": server.target()}
        sections = {"listen.ssh": {"address": f"127.0.0.1:{port}"}}
        with gateway(connections=connections, policy=POLICY, sections=sections) as running:
            place = f"{server.user}@127.0.0.1"
            inner = ["ssh", *QUIET, *key, "-o", f"ControlPath={folder}/inner"]
            found = [Way("direct", ["ssh", *QUIET, *key, "-S", f"{folder}/direct"], str, f"{folder}/direct", place, None)]
            through = " ".join([*inner, place])
            hop = ["ssh", *QUIET, *key, "-S", f"{folder}/hop"]
            found.append(Way("double hop", hop, lambda text: f"{through} '{text}'", f"{folder}/hop", place, None))
            for name in connections:
                path = f"{folder}/{name}"
                command = ["ssh", *QUIET, "-p", str(port), "-S", path]
                found.append(Way(f"ostiary {name}", command, str, path, f"{name}@127.0.0.1", running.process.pid))
            environment = {**os.environ, "SSHPASS": running.token()}
            with contextlib.ExitStack() as masters:
                bare = free_port()
                command = [sys.executable, "-m", "bench.relay_ssh", str(bare), "127.0.0.1", str(server.port), server.user, str(server.client_key)]
                process = masters.enter_context(started(command, cwd=Path(__file__).parents[1]))
                wait_for(bare)
                path = f"{folder}/relay"
                found.append(Way("relay", ["ssh", *QUIET, "-p", str(bare), "-S", path], str, path, "anybody@127.0.0.1", process.pid))
                opened = [masters.enter_context(started([*inner, *BATCH, "-M", "-N", place], environment))]
                for way in found:
                    start = ["sshpass", "-e", *way.command] if way.pid else [*way.command, *BATCH]
                    opened.append(masters.enter_context(started([*start, "-M", "-N", way.place], environment)))
                deadline = time.monotonic() + PATIENCE
                while not all(Path(each).exists() for each in [f"{folder}/inner", *(way.socket for way in found)]):
                    if time.monotonic() > deadline or any(master.poll() is not None for master in opened):
                        raise RuntimeError("a connection did not open")
                    time.sleep(0.1)
                yield found


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str] | None = None, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is over when this is, whatever happened."""
    process = subprocess.Popen(command, env=environment, **more)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def moved(command: list[str], file: Path, **more: Any) -> float:
    """Seconds that a command takes which moves that file."""
    began = time.perf_counter()
    subprocess.run(command, check=True, timeout=PATIENCE + file.stat().st_size / 1e6, **more)
    return time.perf_counter() - began


def download(way: Way, file: Path) -> float:
    """Seconds."""
    return moved(way.run(f"cat {file}"), file, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def upload(way: Way, file: Path) -> float:
    """Seconds."""
    with file.open("rb") as content:
        return moved(way.run("cat > /dev/null"), file, stdin=content)


def fetch(way: Way, file: Path) -> float:
    """Seconds of `sftp`, which the double hop cannot do."""
    command = ["sftp", *QUIET, *BATCH, "-o", f"ControlPath={way.socket}", f"{way.place}:{file}", os.devnull]
    return moved(command, file, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def command(way: Way) -> list[float]:
    """Milliseconds that `true` takes, the client's start among them."""
    found = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(way.run("true"), check=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
        found.append((time.perf_counter() - began) * 1e3)
    return found


def keystrokes(way: Way) -> list[float]:
    """Microseconds from a byte typed to its echo, on a terminal of the host's: its modes are those of ours, which `ssh` makes raw afterwards."""
    ours, theirs = pty.openpty()
    options = ["-tt"]
    text = way.wrap("cat > /dev/null")
    if way.name == "double hop":
        text = text.replace("ssh ", "ssh -tt ", 1)
    found = []
    with started([*way.command, *BATCH, *options, way.place, text], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL), closing(ours, theirs):
        time.sleep(1.5)
        for number in range(KEYS):
            letter = b"abcdefgh"[number % 8 : number % 8 + 1] if number % 9 else b" "
            began = time.perf_counter()
            os.write(ours, letter)
            if not select.select([ours], [], [], 5)[0] or os.read(ours, 100) != letter:
                raise RuntimeError(f"{way.name}: no echo")
            found.append((time.perf_counter() - began) * 1e6)
            time.sleep(0.003)
    return found


@contextlib.contextmanager
def closing(*descriptors: int) -> Iterator[None]:
    """Close them afterwards."""
    try:
        yield
    finally:
        for each in descriptors:
            os.close(each)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, ways(Path(name)) as found:
        file = Path(name) / "file"
        file.write_bytes(os.urandom(1 << 20) * options.megabytes)
        bulk: dict[str, Callable[[Way, Path], float]] = {"download": download, "upload": upload, "sftp": fetch}
        for what, once in bulk.items():
            times: dict[str, list[float]] = {}
            costs: dict[str, list[float]] = {}
            for _ in range(options.rounds):
                for way in found:
                    if once is fetch and way.name == "double hop":
                        continue
                    before = way.cpu_seconds()
                    times.setdefault(way.name, []).append(options.megabytes / once(way, file))
                    costs.setdefault(way.name, []).append((way.cpu_seconds() - before) / options.megabytes * 1e3)
            rates = {way: statistics.median(each) for way, each in times.items()}
            for way, rate in rates.items():
                to = [f"{rate / rates[other]:.2f} of {other}" for other in ("direct", "double hop") if other in rates and other != way]
                print(f"{what:10} {way:16} {rate:7.0f} MB/s   {statistics.median(costs[way]):5.2f} ms of the gateway's CPU a MB   {', '.join(to)}")
        for what, unit, measure in (("command", "ms", command), ("keystroke", "us", keystrokes)):
            samples: dict[str, list[float]] = {}
            for _ in range(options.rounds):
                for way in found:
                    if measure is command and way.name == "relay":
                        continue  # it stands for what flows, not for what opens
                    samples.setdefault(way.name, []).extend(measure(way))
            base = statistics.median(samples["direct"])
            for way_name, each in samples.items():
                p50, p99 = statistics.median(each), sorted(each)[int(len(each) * 0.99)]
                print(f"{what:10} {way_name:16} p50 {p50:8.1f} {unit}   p99 {p99:8.1f}   added p50 {p50 - base:8.1f}")


if __name__ == "__main__":
    main()
