"""Bodies that say what to do in a coding, a character set or a type that is not read here; and what else is told, or done, twice."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Answer, Service, World, hear, with_token, world

from ostiary.masking.documents import Rules
from ostiary.masking.http import ReplyMasker
from ostiary.model.operations import Action, plain_facts
from ostiary.model.results import ReplyEnd, ReplyHead
from ostiary.protocols.http.messages import RequestHead
from ostiary.protocols.http.operations import Judged, with_body

GRAPHQL = json.dumps({"query": "mutation { deleteAll }"}).encode()
FORM = b"_method=DELETE"
FACTS = plain_facts(action=Action.WRITE, name="POST", resources=())


def facts(body: bytes | None, *headers: tuple[bytes, bytes]) -> Any:
    return with_body(Judged(None, FACTS, wants_body=True), RequestHead(b"POST", b"/x", 1, headers, b""), body)


def is_plain(found: Any) -> bool:
    return found.objection is None and not found.opaque


JSON, PLAIN_FORM = (b"Content-Type", b"application/json"), (b"Content-Type", b"application/x-www-form-urlencoded")
VEILED: list[tuple[bytes, list[tuple[bytes, bytes]]]] = [
    *[(gzip.compress(GRAPHQL, mtime=0), [JSON, (name, b"gzip")]) for name in (b"Content-Encoding", b"content-encoding", b"CONTENT-ENCODING")],
    (zlib.compress(GRAPHQL), [JSON, (b"Content-Encoding", b"deflate")]), (GRAPHQL, [JSON, (b"Content-Encoding", b"br")]),
    (GRAPHQL, [JSON, (b"Content-Encoding", b"identity"), (b"Content-Encoding", b"gzip")]), (GRAPHQL, [JSON, (b"Content-Encoding", b"identity, zstd")]),
    (gzip.compress(FORM, mtime=0), [PLAIN_FORM, (b"Content-Encoding", b"gzip")]), (gzip.compress(GRAPHQL, mtime=0), [(b"Content-Encoding", b"gzip")]),
    *[(GRAPHQL.decode().encode(name), [(b"Content-Type", b"application/json; charset=" + name.encode())])
      for name in ("utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-7", "cp037")],
    *[(FORM.decode().encode(name), [(b"Content-Type", b'application/x-www-form-urlencoded;Charset = "' + name.encode() + b'"')])
      for name in ("utf-16le", "cp037", "utf-7")],
    (GRAPHQL.decode().encode("utf-16le"), [JSON]), (GRAPHQL.decode().encode("utf-16"), [JSON]), (GRAPHQL.decode().encode("utf-16be"), []),
    (FORM.decode().encode("utf-16le"), [PLAIN_FORM]), (GRAPHQL, [(b"Content-Type", b"application/json; charset=utf-8; charset=utf-16le")]),
    (GRAPHQL, [(b"Content-Type", b"text/plain"), JSON]), (FORM, [(b"Content-Type", b"application/octet-stream"), PLAIN_FORM]), (FORM, [PLAIN_FORM, PLAIN_FORM]),
]  # fmt: skip


@pytest.mark.parametrize("case", VEILED, ids=lambda case: f"{len(case[0])} {case[1]}")
def test_a_body_in_another_coding_or_charset_or_with_two_types_is_never_plain(case: tuple[bytes, list[tuple[bytes, bytes]]]) -> None:
    body, headers = case
    assert not is_plain(facts(body, *headers))
    assert not headers or not is_plain(facts(None, *headers)), "nor where it is too large to be looked at"


@pytest.mark.parametrize(
    "case",
    [(b'{"a":1}', [JSON]), (b'{"a":1}', [(b"Content-Type", b"application/json; charset=UTF-8")]), (b"a=1", [PLAIN_FORM]), (b"x\0y", [(b"Content-Type", b"image/png")]),
     (gzip.compress(b"log", mtime=0), [(b"Content-Type", b"application/octet-stream"), (b"Content-Encoding", b"gzip")]), (b'{"a":1}', [JSON, (b"Content-Encoding", b"identity")]),
     (b"--b\r\n\r\n\0\0\r\n--b--", [(b"Content-Type", b"multipart/form-data; boundary=b")]), (b"", [JSON, (b"Content-Encoding", b"gzip")])],
    ids=str,
)  # fmt: skip
def test_what_is_plain_stays_plain(case: tuple[bytes, list[tuple[bytes, bytes]]]) -> None:
    assert is_plain(facts(case[0], *case[1]))


def test_a_veiled_body_reaches_nobody_where_opaque_is_forbidden(app: World) -> None:
    for body, named in ((gzip.compress(GRAPHQL, mtime=0), {"Content_Encoding": "gzip"}), (GRAPHQL.decode().encode("utf-16le"), {})):
        assert app.ask("POST", "/q", body, Content_Type="application/json", **named).status == 403
    raw = b"POST /q HTTP/1.1\r\nHost: app\r\nContent-Type: text/plain\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    assert Answer.read(app.say(raw)).status == 400
    assert bytes(app.service.heard) == b""


# --- once ---


class Closing(Service):
    """Answers the first request on a connection, and closes it when the second one is there."""

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            for number in range(2):
                held = b""
                while b"\r\n\r\n" not in held:
                    if not (data := sock.recv(65536)):
                        return
                    held += data
                self.heard += held
                if number == 0:
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture(scope="module")
def closing() -> Iterator[World]:
    service = Closing()
    service.start()
    routes = [
        {"match": "GET /run", "action": "execute", "name": "run"}, {"match": "GET /drop", "action": "delete", "name": "drop"},
        {"match": "GET /read", "action": "read", "name": "read"}, {"match": "GET /live", "action": "read", "name": "live", "websocket": True},
    ]  # fmt: skip
    permits = 'permit (principal, action, resource); permit (principal, action == Ostiary::Action::"opaque", resource);'
    with world(permits, detect=[], routes=routes, address=f"127.0.0.1:{service.port}") as made:
        made.service = service
        yield made


UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@pytest.mark.parametrize(
    ("line", "times", "more"),
    [(b"GET /read", 2, b""), (b"GET /other", 2, b""), (b"HEAD /other", 2, b""), (b"GET /run", 1, b""), (b"GET /drop", 1, b""), (b"DELETE /other", 1, b""),
     (b"POST /other", 1, b""), (b"GET /q?query=mutation%7Bx%7D", 1, b""), (b"GET /graphql", 1, b""), (b"GET /live", 1, UPGRADE)],
)  # fmt: skip
def test_what_is_no_plain_read_is_sent_once(closing: World, line: bytes, times: int, more: bytes) -> None:
    token = closing.gateway.token()
    assert Answer.read(closing.say(b"GET /first HTTP/1.1\r\nHost: app\r\n\r\n", token=token)).status == 200, "a connection to the service is kept"
    closing.service.heard.clear()
    answer = Answer.read(closing.say(line + b" HTTP/1.1\r\nHost: app\r\n" + more + b"\r\n", token=token))
    assert bytes(closing.service.heard).count(line + b" HTTP/1.1") == times, answer
    assert answer.status == (200 if times == 2 else 502)


# --- what a head tells of a body that is not there ---

TELLING = ((b"ETag", b'"1"'), (b"Repr-Digest", b"sha-256=:x:"), (b"Content-MD5", b"x"), (b"Last-Modified", b"x"), (b"X-Amz-Checksum-Sha256", b"x"))


@pytest.mark.parametrize("status", [200, 304, 204])
@pytest.mark.parametrize(("of_read", "kept"), [(True, False), (False, True)])
def test_an_answer_without_a_body_tells_no_digest_of_what_get_masks(status: int, of_read: bool, kept: bool) -> None:
    for detect, rules in ((frozenset({"ssn"}), Rules(())), (frozenset(), Rules(()))):
        masker = ReplyMasker(detect, rules, frozenset())
        head = ReplyHead(status, ((b"Content-Type", b"application/json"), *TELLING), has_body=False, length=9, of_read=of_read)
        out = b"".join(each.frames for part in (head, ReplyEnd()) for each in masker.mask(part))
        assert all((name in out) is (kept or not detect) for name, _ in TELLING)


# --- whose fault it is ---


def test_what_the_client_breaks_is_the_clients_fault(app: World) -> None:
    raw = b"PUT /up HTTP/1.1\r\nHost: app\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    with app.connect() as sock:
        sock.sendall(with_token(raw, app.gateway.token()))
        for _ in range(6):
            sock.sendall(b"100000\r\n" + b"\1" * (1 << 20) + b"\r\n")
        time.sleep(0.5)
        sock.sendall(b"no chunk\r\n")
        answer = Answer.read(hear(sock))
    assert answer.status == 400
    assert "malformed" in answer.json()["detail"]
    assert app.records("outcome")[-1]["result"]["error"] == "BAD_LENGTH"


def test_a_client_that_dawdles_is_not_the_services_fault() -> None:
    with world(listener={"body_seconds": 1.0}, reply_seconds=20.0, detect=[]) as slow:
        raw = b"PUT /up HTTP/1.1\r\nHost: app\r\nContent-Type: application/octet-stream\r\nContent-Length: 9000000\r\n\r\n"
        with slow.connect() as sock:
            sock.sendall(with_token(raw, slow.gateway.token()) + b"\1" * (5 << 20))
            answer = Answer.read(hear(sock))
        assert answer.status == 400
        assert slow.records("outcome")[-1]["result"]["error"] == "TOO_SLOW"
