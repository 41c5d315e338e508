"""`python -m bench.http [--quick]`: an HTTP service directly, through nginx as a plain reverse proxy, and through Ostiary, interleaved.

The service is an nginx with one worker, so is the proxy, and Ostiary has one worker too. Requests a second come from `wrk` (closed loop),
latency from `h2load` at half of the rate that Ostiary reached (open loop, one request after another on each connection), bodies from
`curl`. What is printed are medians over the rounds, and their ratios; CPU is that of all processes of a proxy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import trustme

from bench.measure import Meter, Sample
from bench.relay import relay
from bench.ways import Way, wait_for
from ostiary.testing.gateway import gateway
from ostiary.testing.peers import PeerUnavailable, free_port

RESULTS: Final = Path(__file__).parent / "results"
PARTS: Final = ("requests", "latency", "bodies")
DETECTORS: Final = ("card", "email", "iban", "ssn", "secret")
SMALL: Final = {"id": 42, "customer": "customer 42", "note": "to be delivered to the back door", "items": [{"sku": f"SKU-{n}", "count": n} for n in range(12)]}
MIB: Final = 1 << 20
NGINX: Final = """
worker_processes 1; pid {home}/pid; error_log {home}/errors crit; daemon off;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 10000000; keepalive_timeout 120; types {{ application/json json; application/octet-stream bin; }}
  client_max_body_size 0; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; sendfile on; tcp_nopush on;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  {upstream}
  server {{ {listen} {server} }}
}}
"""
PROXY: Final = (
    'location / { proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off; '
    'proxy_set_header Authorization ""; proxy_max_temp_file_size 0; }'
)


@contextlib.contextmanager
def nginx(listen: str, server: str, upstream: str = "") -> Iterator[int]:
    """Debian's nginx with this configuration; its first process."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        raise PeerUnavailable("nginx is not installed: install Debian's package nginx-light")
    home = Path(tempfile.mkdtemp(prefix="ostiary-nginx-", dir="/tmp"))
    home.chmod(0o755)
    (home / "conf").write_text(NGINX.format(home=home, listen=listen, server=server, upstream=upstream))
    process = subprocess.Popen([program, "-c", str(home / "conf"), "-p", str(home)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for port in re.findall(r"127\.0\.0\.1:([0-9]+)", listen):
            wait_for(int(port))
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def ways(folder: Path, large: int) -> Iterator[dict[str, Way]]:
    """Each way by name, `tls` behind a blank where the client speaks TLS. The service itself is always plain."""
    files = folder / "files"
    files.mkdir()
    (files / "small.json").write_text(json.dumps(SMALL))
    (files / "large.bin").write_bytes(b"\0" * large)
    rows = [{"id": n, "name": f"customer {n}", "city": "Springfield", "note": "left at the door, nobody was in"} for n in range(9000)]
    (files / "large.json").write_text(json.dumps({"rows": rows * max(1, large // (8 * MIB))}))
    folder.chmod(0o755)
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    key.chmod(0o600)
    port, plain, tls = free_port(), free_port(), free_port()
    # All of an upload is read before it is answered: the gateway hands on an early answer, and then reads no further.
    up = f"client_body_buffer_size {large}; proxy_pass http://127.0.0.1:{port}/taken; proxy_pass_request_body off; proxy_set_header Content-Length '';"
    serve = f"root {files}; location /up {{ {up} }} location /taken {{ return 200; }}"
    upstream = f"upstream service {{ server 127.0.0.1:{port}; keepalive 128; }}"
    listen = f"listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl; ssl_certificate {chain}; ssl_certificate_key {key};"
    with contextlib.ExitStack() as stack:
        stack.enter_context(nginx(f"listen 127.0.0.1:{port};", serve))
        proxy = stack.enter_context(nginx(listen, PROXY, upstream))
        found = {
            "direct": way("direct", port, "", None), "nginx": way("nginx", plain, "", proxy), "nginx tls": way("nginx tls", tls, "", proxy),
        }  # fmt: skip
        found["relay"] = stack.enter_context(relay(found["direct"]))
        found |= stack.enter_context(ostiary(port, None))
        found |= stack.enter_context(ostiary(port, (chain, key)))
        yield found


@contextlib.contextmanager
def ostiary(service: int, certificate: tuple[Path, Path] | None) -> Iterator[dict[str, Way]]:
    """The gateway before that service: `decide` (events, buffered, no mask), `detect` with every detector, `full` (recorded whole, strict)."""
    place = {"type": "http", "address": f"127.0.0.1:{service}", "tls": "disable", "max_request_bytes": 1 << 40}
    events = {"recording": "events", "durability": "buffered"}
    connections = {
        "decide": place | events | {"detect": []},
        "detect": place | events | {"detect": list(DETECTORS)},
        "full": place | {"recording": "full", "durability": "strict", "detect": []},
    }
    port, suffix = free_port(), "" if certificate is None else " tls"
    listener: dict[str, object] = {"address": f"127.0.0.1:{port}"}
    if certificate is not None:
        listener |= {"tls_cert": str(certificate[0]), "tls_key": str(certificate[1])}
    policy = (Path(__file__).parent / "policy.cedar").read_text()
    with gateway(connections=connections, policy=policy, sections={"listen.http": listener}, on_disk=True) as gate:
        token = gate.token("bench", exp=int(time.time()) + 6 * 3600)
        yield {
            f"{name}{suffix}": way(f"{name}{suffix}", port, token, gate.process.pid, f"/{name}") for name in connections
        }


def way(name: str, port: int, token: str, pid: int | None, prefix: str = "") -> Way:
    return Way(name, "127.0.0.1", port, "", token, prefix, pid, Path("/usr/bin"))


def url(to: Way, path: str) -> str:
    return f"{'https' if to.name.endswith(' tls') else 'http'}://127.0.0.1:{to.port}{to.database}{path}"


def headers(to: Way) -> list[str]:
    return ["-H", f"Authorization: Bearer {to.password}"] if to.password else []


def requests(to: Way, connections: int, seconds: float) -> Sample:
    """As many small requests as there is room for."""
    meter = Meter(to)
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", *headers(to), url(to, "/small.json")]
    said = said_by(command)
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{to.name}: {said}")
    done, rate = re.search(r"([0-9]+) requests in", said), re.search(r"Requests/sec: +([0-9.]+)", said)
    if done is None or rate is None:
        raise RuntimeError(f"wrk said {said}")
    return meter.read(int(done[1]), seconds=int(done[1]) / float(rate[1]))


def latency(to: Way, connections: int, rate: float, seconds: float) -> Sample:
    """Median and p99 in microseconds, at that rate."""
    with tempfile.NamedTemporaryFile("r", suffix=".tsv") as log:
        meter = Meter(to)
        each = max(1, round(rate / connections))
        said_by(["h2load", "--h1", "-t", "1", "-c", str(connections), "-D", str(max(2, round(seconds))), f"--rps={each}", f"--log-file={log.name}",
                 *headers(to), url(to, "/small.json")])  # fmt: skip
        rows = [line.split("\t") for line in log.read().splitlines()]
    times = sorted(int(row[2]) for row in rows if row[1] == "200")
    if len(times) < len(rows) or len(times) < each:
        raise RuntimeError(f"{to.name}: {len(times)} of {len(rows)} answers are fit to be counted")
    return meter.read(len(times), p50=statistics.median(times), p99=times[int(len(times) * 0.99)])


def download(to: Way, path: str) -> Sample:
    """A large answer, in MB/s."""
    meter = Meter(to)
    said = said_by(["curl", "-sSk", "--http1.1", "--fail", "-o", "/dev/null", "-w", "%{size_download} %{time_total}", *headers(to), url(to, path)])
    return megabytes(meter, said)


def upload(to: Way, source: Path) -> Sample:
    """A large request, in MB/s."""
    meter = Meter(to)
    said = said_by(["curl", "-sSk", "--http1.1", "--fail", "-o", "/dev/null", "-H", "Expect:", "-w", "%{size_upload} %{time_total}", "-T", str(source),
                    *headers(to), url(to, "/up")])  # fmt: skip
    if not said.startswith(f"{source.stat().st_size} "):
        raise RuntimeError(f"{to.name}: of {source.stat().st_size} bytes went {said}")
    return megabytes(meter, said)


def megabytes(meter: Meter, said: str) -> Sample:
    size, seconds = map(float, said.split()[-2:])
    return meter.read(size / 1e6, seconds=seconds)


def said_by(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()[-2000:]} {done.stdout.strip()[-500:]}")
    return done.stdout


class Table(dict[str, dict[str, list[Sample]]]):
    """Samples by what was measured and by way."""

    def interleave(self, what: str, over: list[Way], rounds: int, once: Callable[[Way], Sample]) -> None:
        """Each way once a round, in turn."""
        for number in range(rounds):
            for each in over:
                self.setdefault(what, {}).setdefault(each.name.removesuffix(" tls"), []).append(once(each))
            print(f"\r{what}: round {number + 1} of {rounds}   ", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)

    def median(self, what: str, name: str, figure: str = "rate") -> float:
        figures: list[float] = [getattr(sample, figure) for sample in self[what][name]]
        return statistics.median(figures)


def measure(found: dict[str, Way], options: argparse.Namespace, folder: Path) -> Table:
    table = Table()
    for kind in options.kinds:
        suffix = " tls" if kind == "tls" else ""
        names = ["nginx", "decide", "detect", *(["full"] if options.full else [])]
        over = [*([] if suffix else [found["direct"], found["relay"]]), *(found[name + suffix] for name in names)]
        for connections in options.connections if "requests" in options.only else ():
            table.interleave(
                f"requests/s, {kind}, {connections} connections", over, options.rounds,
                lambda to, connections=connections: requests(to, connections, options.seconds),  # type: ignore[misc]
            )  # fmt: skip
        if "latency" in options.only:
            most = requests(found["decide" + suffix], 16, options.seconds).rate
            what = f"latency, {kind}, 16 connections, {most / 2:,.0f} requests/s"
            table.interleave(what, over, options.rounds, lambda to, most=most: latency(to, 16, most / 2, options.seconds))  # type: ignore[misc]
        if "bodies" in options.only:
            plain = [each for each in over if "detect" not in each.name]
            table.interleave(f"download, {kind}, MB/s", plain, options.rounds, lambda to: download(to, "/large.bin"))
            table.interleave(f"upload, {kind}, MB/s", plain, options.rounds, lambda to: upload(to, folder / "files" / "large.bin"))
            table.interleave(f"download of JSON, {kind}, MB/s", over, options.rounds, lambda to: download(to, "/large.json"))
    return table


def report(table: Table) -> str:
    """A table for people."""
    lines = [f"{'':40}{'rate':>12}{'/direct':>9}{'/nginx':>9}{'proxy µs':>10}{'p50 µs':>9}{'p99 µs':>9}"]
    for what, by_way in table.items():
        lines.append(what)
        for name in by_way:
            rate = table.median(what, name)
            row = f"  {name:38}{rate:12,.0f}"
            row += f"{rate / table.median(what, 'direct'):9.2f}" if "direct" in by_way else f"{'':9}"
            row += f"{rate / table.median(what, 'nginx'):9.2f}{table.median(what, name, 'proxy_cpu'):10.1f}"
            if p50 := table.median(what, name, "p50"):
                row += f"{p50:9.0f}{table.median(what, name, 'p99'):9.0f}"
            lines.append(row)
    return "\n".join(lines)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    parser = argparse.ArgumentParser(prog="python -m bench.http", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run, for a first impression")
    parser.add_argument("--full", action="store_true", help="also everything recorded and strict")
    parser.add_argument("--rounds", type=int, default=0, help="default 5, quick 3")
    parser.add_argument("--seconds", type=float, default=0, help="of each run; default 5, quick 2")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--kinds", nargs="+", choices=("plain", "tls"), default=["plain", "tls"])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--large", type=int, default=256, help="MiB of a large body")
    parser.add_argument("--out", type=Path, help="where the JSON goes; default bench/results/http-TIME.json")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (2.0 if options.quick else 5.0)
    began = time.time()
    folder = Path(tempfile.mkdtemp(prefix="ostiary-http-bench-", dir="/tmp"))
    try:
        with ways(folder, options.large * MIB) as found:
            table = measure(found, options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures: dict[str, Any] = {
        what: {name: {key: table.median(what, name, key) for key in Sample.__dataclass_fields__} for name in by_way} for what, by_way in table.items()
    }
    out = options.out or RESULTS / time.strftime("http-%Y%m%d-%H%M%S.json", time.gmtime(began))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"rounds": options.rounds, "seconds_each": options.seconds, "medians": figures}, indent=1) + "\n")
    print(report(table))
    print(f"written: {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
