"""Requests of every shape, through the gateway to servers that are not ours: each hears what was decided, as one request, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn

sys.path.insert(0, str(Path(__file__).parent))
from conftest import with_token

from ostiary.testing.gateway import Gateway, gateway
from ostiary.testing.peers import free_port
from ostiary.testing.waiting import until

NODE = """
require('http').createServer((request, answer) => {
  let size = 0; request.on('data', piece => { size += piece.length });
  request.on('end', () => { console.log(JSON.stringify([request.method, request.url, size])); answer.end('ok') });
}).listen(%d, '127.0.0.1', () => console.log('ready'));
"""
LINES = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 44", b"content-length:5", b"Content-Length: +5", b"Content-Length: 5, 5",
    b"Content-Length : 5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"transfer-encoding:\tchunked", b"Transfer_Encoding: chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding: x, chunked", b"X: y", b"X:\x0by", b" folded",
    b"X: a\x00b", b"X: a\rb", b"Connection: close", b"Connection: keep-alive, Content-Length", b"Connection: Transfer-Encoding", b"Host: other", b"X-Y",
    b"Expect: 100-continue", b"Expect: x", b"Upgrade: h2c", b"Connection: Upgrade", b"Trailer: Content-Length", b"TE: trailers", b"Content_Length: 5",
    b"X-HTTP-Method-Override: DELETE", b"X-Original-URL: /admin/x", b"Content-Encoding: gzip", b"Content-Type: text/plain",
]  # fmt: skip
STARTS = [
    b"POST /x HTTP/1.1", b"GET /x HTTP/1.1", b"GET /x HTTP/1.0", b"PUT /a?b=c HTTP/1.1", b"HEAD /x HTTP/1.1", b"OPTIONS /x HTTP/1.1", b"OPTIONS * HTTP/1.1",
    b"GET http://app/x HTTP/1.1", b"GET http://other/x HTTP/1.1", b"GET /x/../admin/x HTTP/1.1", b"GET /%61dmin/x HTTP/1.1", b"GET /admin%2fx HTTP/1.1",
    b"GET //admin/x HTTP/1.1", b"GET /x;/../admin/x HTTP/1.1", b"GET /x\\..\\admin HTTP/1.1", b"GET /x%00/admin/x HTTP/1.1", b"GET /x?/admin/x HTTP/1.1",
    b"GET /x#/admin/x HTTP/1.1", b"GET /%c0%afadmin/x HTTP/1.1", b"FOO /x HTTP/1.1", b"PRI * HTTP/2.0", b"GET /x HTTP/1.2",
]  # fmt: skip
NEXT = b"GET /admin/x HTTP/1.1\r\nHost: app\r\n\r\n"
BODIES = [
    b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"5;x\r\nhello\r\n0\r\n\r\n", b'5;x="\r\n"\r\nhello\r\n0\r\n\r\n', b"005\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n", b"5\r\nhelloo\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nContent-Length: 44\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"\r\n", b"0\r\n\r\n\r\n",
    b"5\r\nhello0\r\n\r\n", b"FFFFFFFFFFFFFFFF5\r\nhello\r\n0\r\n\r\n", b"-1\r\n\r\n",
]  # fmt: skip
ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n"]


def shapes(count: int, seed: int) -> list[bytes]:
    """Requests that a careless reader would take for two, or for others."""
    dice = random.Random(seed)
    made = []
    for _ in range(count):
        raw = dice.choice(STARTS) + dice.choice(ENDS) + b"Host: app" + dice.choice(ENDS)
        for line in dice.sample(LINES, dice.choice((0, 1, 1, 2, 3))):
            raw += line + dice.choice(ENDS)
        made.append(raw + dice.choice(ENDS) + dice.choice(BODIES) + dice.choice((b"", NEXT)))
    return made


@dataclass
class Seen:
    """A server and what it heard: (method, path with query, bytes of the body)."""

    port: int
    heard: list[tuple[str, str, int]] = field(default_factory=list)


@contextlib.contextmanager
def node() -> Iterator[Seen]:
    seen = Seen(free_port())
    process = subprocess.Popen(["node", "-e", NODE % seen.port], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            method, path, size = json.loads(line)
            seen.heard.append((method, path, size))

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield seen
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@contextlib.contextmanager
def asgi(http: Any) -> Iterator[Seen]:
    seen = Seen(free_port())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            said = await receive()
            if said["type"] != "http.request":
                return
            size += len(said.get("body", b""))
            more = said.get("more_body", False)
        query = scope["query_string"].decode()
        seen.heard.append((scope["method"], scope["raw_path"].decode() + ("?" + query if query else ""), size))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    server = uvicorn.Server(uvicorn.Config(app, port=seen.port, http=http, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    assert until(lambda: server.started)
    try:
        yield seen
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Gateway, int, dict[str, Seen]]]:
    port = free_port()
    with contextlib.ExitStack() as stack:
        seen = {"node": stack.enter_context(node()), "h11": stack.enter_context(asgi("h11")), "llhttp": stack.enter_context(asgi("httptools"))}
        settings = {"type": "http", "tls": "disable", "actor_headers": False, "detect": []}
        connections = {name: settings | {"address": f"127.0.0.1:{each.port}", "hosts": [f"{name}.test"]} for name, each in seen.items()}
        policy = "permit (principal, action, resource);"
        policy += "".join(f'forbid (principal, action, resource in Ostiary::Path::"{name}/admin");' for name in seen)
        gate = stack.enter_context(gateway(connections=connections, policy=policy, sections={"listen.http": {"address": f"127.0.0.1:{port}"}}))
        yield gate, port, seen


def answered(port: int, raw: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
        data = b""
        with contextlib.suppress(OSError):
            while piece := sock.recv(1 << 16):
                data += piece
    return data


@pytest.mark.parametrize("name", ["node", "h11", "llhttp"])
def test_a_server_hears_what_was_decided_and_no_request_more(servers: tuple[Gateway, int, dict[str, Seen]], name: str) -> None:
    gate, port, seen = servers
    token = gate.token(f"ana-{name}")
    raws = shapes(150, 7)
    for raw in raws:
        host = raw.replace(b"Host: app", b"Host: %b.test" % name.encode()).replace(b"//app/", b"//%b.test/" % name.encode())
        parts = host.partition(NEXT.replace(b"app", b"%b.test" % name.encode()))
        answered(port, with_token(parts[0], token) + (with_token(parts[1], token) if parts[1] else b""))
    mine = [entry for entry in gate.entries() if entry["kind"] == "intent" and entry["who"]["sub"] == f"ana-{name}"]
    decided = Counter((entry["op"]["name"], entry["op"]["objects"][0]["name"]) for entry in mine)
    assert sum(decided.values()) > 8, "some of them are requests"
    assert not any(path.startswith("/admin") for _, path in decided)
    assert until(lambda: len(seen[name].heard) >= sum(decided.values()) - 5)
    heard = Counter((method, path.partition("?")[0]) for method, path, _ in seen[name].heard)
    assert not heard - decided, "it heard something that was not decided"
    assert not any("admin" in path.lower().partition("?")[0] for _, path in heard)
