"""What clients, services and operators can do to HTTP without breaking its grammar: dawdle, share a host, lose a secret, move."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Answer, World, hear, with_token, world

from ostiary.driver.http_target import HttpDestination
from ostiary.model.connections import CredentialKind, HttpCredential, HttpUpstream
from ostiary.model.errors import ConfigError, NotAdmitted
from ostiary.model.results import ReplyHead
from ostiary.model.secrets import Secret, SecretRef
from ostiary.protocols.http.decode import BodyReader
from ostiary.protocols.http.messages import CHUNKED
from ostiary.protocols.http.places import placed
from ostiary.testing.waiting import until
from ostiary.upstream.http_credentials import Shown
from tests.session.test_exchange import CONNECTION

GET = b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n"
POLICY = """
permit (principal, action, resource);
@id("from-here") forbid (principal, action == Ostiary::Action::"connect", resource)
unless { context has address && context.address.isInRange(ip("127.0.0.1/32")) };
"""


@pytest.fixture(scope="module")
def hasty() -> Iterator[World]:
    """A second is all the time there is."""
    with world(POLICY, {"body_seconds": 1.0, "names": ["gw"]}, reply_seconds=1.0, detect=[], prefix="/shop") as made:
        yield made


def test_who_does_not_take_an_answer_is_cut_and_gives_the_connection_back(hasty: World) -> None:
    hasty.service.says = [b"HTTP/1.1 200 OK\r\nContent-Length: 80000000\r\n\r\n", *[b"x" * 1_000_000] * 80]
    outcomes = len(hasty.records("outcome"))
    with hasty.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(with_token(GET, hasty.gateway.token()))
        until(lambda: len(hasty.records("outcome")) > outcomes)
    assert hasty.records("outcome")[-1]["result"]["status"] == "unknown"
    hasty.service.says = []


def test_who_drips_a_body_that_we_hold_is_cut(hasty: World) -> None:
    raw = b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with hasty.connect() as sock:
        sock.sendall(with_token(raw, hasty.gateway.token()))
        sock.settimeout(0.2)
        heard = b""
        for _ in range(60):
            with contextlib.suppress(OSError):
                sock.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                heard += sock.recv(65536)
            if heard:
                break
    assert heard.startswith(b"HTTP/1.1 400 ")
    assert b"POST /x" not in hasty.service.heard


def test_a_service_that_takes_nothing_is_given_up(hasty: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with world(listener={"body_seconds": 30.0}, reply_seconds=1.0, detect=[], address=f"127.0.0.1:{deaf.getsockname()[1]}") as app:
            raw = b"PUT /x HTTP/1.1\r\nHost: app\r\nContent-Type: application/octet-stream\r\nContent-Length: 90000000\r\n\r\n"
            with app.connect() as sock:
                sock.sendall(with_token(raw, app.gateway.token()))
                sock.setblocking(False)
                ends = time.monotonic() + 30
                while time.monotonic() < ends:
                    with contextlib.suppress(BlockingIOError, ConnectionError):
                        while True:
                            sock.send(b"x" * 1_000_000)
                    if app.records("outcome"):
                        break
                    time.sleep(0.1)
            assert app.records("outcome")[-1]["result"]["status"] != "ok"


@pytest.mark.timeout(60)  # all that it drips takes four minutes
@pytest.mark.parametrize("pieces", [[b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 1000], [b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n", *[b"a"] * 1000]])
def test_a_service_that_drips_its_head_is_given_up(hasty: World, pieces: list[bytes]) -> None:
    hasty.service.says, hasty.service.pause = pieces, 0.25
    assert hasty.ask("GET", "/x").status == 502
    hasty.service.says, hasty.service.pause = [], 0.0


def test_a_service_that_says_in_time_that_it_is_at_it_is_waited_for(hasty: World) -> None:
    hasty.service.says, hasty.service.pause = [*[b"HTTP/1.1 102 Processing\r\n\r\n"] * 6, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"o", b"k"], 0.5
    answer = hasty.ask("GET", "/x")
    hasty.service.says, hasty.service.pause = [], 0.0
    assert (answer.status, answer.body) == (200, b"ok")


def test_a_token_from_another_address_is_another_login(hasty: World) -> None:
    token = hasty.gateway.token("roamer")
    assert Answer.read(hasty.say(GET, token=token)).status == 200
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=20, source_address=("127.0.0.2", 0)) as sock:
        sock.sendall(with_token(GET, token))
        answer = Answer.read(hear(sock))
    assert (answer.status, "from-here" in answer.json()["detail"]) == (403, True)


def test_a_body_in_tiny_chunks_is_held_in_few_pieces() -> None:
    pieces, _ = BodyReader(CHUNKED).feed(b"2\r\nab\r\n" * 10_000)
    assert pieces == [b"ab" * 10_000]


# --- several services on one host ---


def upstream(base: str = "") -> HttpUpstream:
    none = HttpCredential(kind=CredentialKind.NONE, secret=None, header="", user="", token_url="", scope="")
    return HttpUpstream(
        host="10.0.0.1", port=443, tls="verify-full", ca_file=None, cert_file=None, key_file=None, connect_timeout=1.0,
        host_header="shop.internal", base_path=base, credential=none, reply_seconds=1.0, max_connections=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        (b"sid=1", b"sid=1; Path=/shop"),
        (b"sid=1; Path=/; HttpOnly; Secure", b"sid=1; HttpOnly; Secure; Path=/shop"),
        (b"sid=1; path=/cart; Domain=example.com", b"sid=1; Path=/shop/cart"),
        (b"sid=1; PATH = /other ;domain=.example.com; SameSite=Lax", b"sid=1; SameSite=Lax; Path=/shop/other"),
        (b"sid=1; Path=; Path=/b", b"sid=1; Path=/shop/b"),
        (b"__Host-sid=1; Path=/; Secure", None),
        (b"__host-sid=1; Path=/; Secure", None),
    ],
)
def test_a_cookie_of_a_service_under_a_path_reaches_no_other(said: bytes, passed: bytes | None) -> None:
    head = ReplyHead(200, ((b"Set-Cookie", said), (b"X-Other", b"1")), has_body=False, length=0, of_read=True)
    kept = [value for name, value in placed(head, "/shop", upstream()).headers if name == b"Set-Cookie"]
    assert kept == ([] if passed is None else [passed])
    assert placed(head, "", upstream()) is head


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        (b"/cart?x=1", b"/shop/cart?x=1"),
        (b"https://shop.internal/cart", b"/shop/cart"),
        (b"http://SHOP.internal", b"/shop/"),
        (b"https://shop.internal.evil.com/cart", b"https://shop.internal.evil.com/cart"),
        (b"//evil.com/x", b"//evil.com/x"),
        (b"cart", b"cart"),
        (b"/v2/cart", b"/shop/cart"),
        (b"/v2", b"/shop"),
        (b"/v22", b"/shop/v22"),
    ],
)
def test_a_place_that_a_service_names_is_found_under_its_path(said: bytes, passed: bytes) -> None:
    head = ReplyHead(302, ((b"Location", said),), has_body=False, length=0, of_read=True)
    assert placed(head, "/shop", upstream("/v2")).headers == ((b"Location", passed),)


def test_answers_under_a_path_are_placed_and_under_a_host_are_not(hasty: World) -> None:
    hasty.service.says = [b"HTTP/1.1 302 Found\r\nLocation: /a\r\nSet-Cookie: s=1; Path=/\r\nContent-Length: 0\r\n\r\n"]
    below = dict(Answer.read(hasty.say(b"GET /shop/x HTTP/1.1\r\nHost: gw\r\n\r\n")).headers)
    assert (below["location"], below["set-cookie"]) == ("/shop/a", "s=1; Path=/shop")
    direct = dict(Answer.read(hasty.say(GET)).headers)
    assert (direct["location"], direct["set-cookie"]) == ("/a", "s=1; Path=/")
    hasty.service.says = []


def test_a_secret_that_cannot_be_read_is_told_to_nobody_outside() -> None:
    def resolve(_: SecretRef) -> Any:
        raise ConfigError("file:/etc/ostiary/very-secret.token", "is readable by everybody")

    held = HttpCredential(kind=CredentialKind.BEARER, secret=SecretRef("file", "/x"), header="", user="", token_url="", scope="")
    with pytest.raises(NotAdmitted) as refused:
        Shown(held, resolve).ready()
    assert "very-secret" not in f"{refused.value} {refused.value.hint}"


# --- whoever does not keep up ---


def test_a_client_that_reads_nothing_makes_nobody_hold_the_answers_to_what_it_pipelines(app: World) -> None:
    app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 262144\r\n\r\n" + b"x" * 262_144]
    with app.connect() as sock:
        sock.sendall(with_token(b"GET /unread HTTP/1.1\r\nHost: app\r\n\r\n", app.gateway.token()) * 200)
        assert until(lambda: app.service.heard.count(b"GET /unread") > 3)
        time.sleep(2.0)
        assert app.service.heard.count(b"GET /unread") < 100


@pytest.mark.timeout(400)
def test_a_connection_to_the_service_is_handed_on_with_nothing_of_its_last_client(app: World) -> None:
    """A client that was slow at the very end of its answer leaves no connection behind that nobody reads."""
    size = 1 << 20
    app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size]
    token = app.gateway.token()
    for _ in range(3):
        with app.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(with_token(b"GET /slow HTTP/1.1\r\nHost: app\r\n\r\n", token))
            time.sleep(0.3)
            assert Answer.read(hear(sock)).body == b"x" * size
        app.service.says = []
        assert app.ask("GET", "/next").status == 200
        app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size]


def test_what_a_service_says_to_nobody_is_no_answer_to_who_asks_next() -> None:
    """Not even where it came so lately that the loop has not read it yet."""

    async def act(says: bytes) -> bool:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            place = msgspec.structs.replace(CONNECTION.upstream, host="127.0.0.1", port=listener.getsockname()[1], tls="disable")
            target = HttpDestination(msgspec.structs.replace(CONNECTION, upstream=place), resolve=lambda _: Secret("none"))
            link = await target.open()
            with (await loop.run_in_executor(None, listener.accept))[0] as service:
                target.pool.give_back(link, keeps=True, now=loop.time())
                service.sendall(says)
                found = target.pool.take(loop.time())
                (found or link).close()
                return found is link

    assert asyncio.run(act(b""))
    assert not asyncio.run(act(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"))
