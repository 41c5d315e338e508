"""HTTP through the real gateway: sessions, credentials, streams, deadlines, what is on record."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Answer, World, hear, with_token, world

from ostiary.identity.jose import parse_compact
from ostiary.testing.endpoint import Endpoint, served
from ostiary.testing.waiting import until


def test_one_connection_carries_many_requests_in_one_session(app: World) -> None:
    token = app.gateway.token("keep")
    with app.connect() as sock:
        for n in range(5):
            sock.sendall(with_token(b"GET /n/%d HTTP/1.1\r\nHost: app\r\n\r\n" % n, token))
            assert Answer.read(hear(sock)).json()["line"] == f"GET /n/{n} HTTP/1.1"
    mine = [entry for entry in app.gateway.entries() if entry.get("who", {}).get("sub") == "keep"]
    assert [entry["kind"] for entry in mine].count("session.start") == 1
    assert [entry["kind"] for entry in mine].count("intent") == 5
    assert [entry["op"]["objects"][0]["name"] for entry in mine if entry["kind"] == "intent"] == [f"/n/{n}" for n in range(5)]


def test_pipelined_requests_are_decided_and_answered_in_order(app: World) -> None:
    raw = b"".join(with_token(b"%b /p HTTP/1.1\r\nHost: app\r\n\r\n" % method, app.gateway.token()) for method in (b"GET", b"DELETE", b"GET"))
    with app.connect() as sock:
        sock.sendall(raw)
        sock.settimeout(20)
        heard = b""
        while heard.count(b"HTTP/1.1 ") < 3:
            heard += sock.recv(65536)
    assert re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", heard) == [b"200", b"403", b"200"]
    assert app.service.heard.count(b"/p HTTP/1.1") == 2
    assert b"DELETE" not in app.service.heard


def test_two_tokens_on_one_connection_are_two_people(app: World) -> None:
    with app.connect() as sock:
        for who in ("bea", "cem"):
            sock.sendall(with_token(b"GET /who HTTP/1.1\r\nHost: app\r\n\r\n", app.gateway.token(who)))
            assert Answer.read(hear(sock)).status == 200
    seen = [entry["who"]["sub"] for entry in app.records("intent") if entry["op"]["objects"][0]["name"] == "/who"]
    assert seen == ["bea", "cem"]


def test_without_a_token_nobody_gets_in_and_it_is_on_record(app: World) -> None:
    with app.connect() as sock:
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
        answer = Answer.read(hear(sock))
    assert answer.status == 401
    assert ("www-authenticate", 'Bearer realm="ostiary"') in answer.headers
    assert bytes(app.service.heard) == b""
    assert app.records("login")[-1]["login"]["reason"] == "NO_TOKEN"


def test_the_token_may_be_the_password_of_basic_authentication(app: World) -> None:
    pair = base64.b64encode(b"me:" + app.gateway.token().encode()).decode()
    with app.connect() as sock:
        sock.sendall(f"GET /x HTTP/1.1\r\nHost: app\r\nAuthorization: Basic {pair}\r\n\r\n".encode())
        assert Answer.read(hear(sock)).status == 200
    assert pair.encode() not in app.service.heard


def test_a_client_that_shows_a_password_only_where_it_is_asked_for_is_asked(app: World) -> None:
    place = app.gateway.home / "netrc"
    place.touch(mode=0o600)
    place.write_text(f"machine 127.0.0.1 login me password {app.gateway.token()}\n")
    told = subprocess.run(
        ["curl", "-sS", "--anyauth", "--netrc-file", str(place), "-H", "Host: app", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{app.port}/x"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert told.stdout == "200"
    assert app.service.heard.count(b"GET /x ") == 1


def test_what_cannot_be_seen_through_is_named_in_its_refusal(app: World) -> None:
    answer = app.ask("PUT", "/up", b"\x00\x01")
    assert answer.status == 403
    assert answer.json()["detail"] == "policy no-opaque forbids opaque on connection app (a body in an encoding that is not read)"


def test_a_path_that_is_no_connection_s_is_named(app: World) -> None:
    answer = Answer.read(app.say(f"GET /nowhere/x?y HTTP/1.1\r\nHost: 127.0.0.1:{app.port}\r\n\r\n".encode()))
    assert answer.status == 421
    assert answer.json()["detail"] == "there is no such connection: /nowhere"


def test_a_host_that_nobody_configured_is_misdirected(app: World) -> None:
    assert Answer.read(app.say(b"GET /x HTTP/1.1\r\nHost: other-internal\r\n\r\n")).status == 421
    assert Answer.read(app.say(b"GET /x HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n")).status == 421
    assert bytes(app.service.heard) == b""


def test_a_refusal_says_which_policy_and_the_record_has_it_whole(app: World) -> None:
    answer = app.ask("DELETE", "/orders/7", X_Note="n")
    assert answer.status == 403
    assert "no-delete" in answer.json()["detail"]
    denial = app.records("deny")[-1]
    assert denial["id"] == answer.json()["operation"]
    assert denial["stmt"]["len"] > len("DELETE /orders/7 HTTP/1.1\r\nHost: app\r\nX-Note: n\r\n\r\n")


def test_a_chunked_upload_arrives_whole_and_is_chunked_anew(app: World) -> None:
    body = bytes(range(256)) * 4096
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(body[at : at + 7001]), body[at : at + 7001]) for at in range(0, len(body), 7001))
    raw = b"PUT /up HTTP/1.1\r\nHost: app\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX: y\r\n\r\n"
    assert Answer.read(app.say(raw)).status == 200
    sent = bytes(app.service.heard).partition(b"\r\n\r\n")[2]
    assert b"ext=1" not in sent
    got = b""
    if b"Content-Length: %d" % len(body) in app.service.heard:
        got = sent
    else:
        while sent:
            size, _, sent = sent.partition(b"\r\n")
            got, sent = got + sent[: int(size, 16)], sent[int(size, 16) + 2 :]
    assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()


def test_a_large_body_streams_without_being_held(app: World) -> None:
    size = 32 << 20
    before = app.gateway.resident_bytes()
    raw = b"PUT /big HTTP/1.1\r\nHost: app\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % size
    with app.connect() as sock:
        sock.sendall(with_token(raw, app.gateway.token()))
        for _ in range(size >> 20):
            sock.sendall(b"\0" * (1 << 20))
        assert Answer.read(hear(sock)).json()["bytes"] == size
    assert app.gateway.resident_bytes() - before < 24 << 20


def test_expect_continue_is_answered_here(app: World) -> None:
    with app.connect() as sock:
        sock.sendall(with_token(b"POST /x HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", app.gateway.token()))
        assert sock.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hi")
        assert Answer.read(hear(sock)).json()["bytes"] == 2
    assert b"Expect" not in app.service.heard


def test_a_client_of_http_1_0_is_not_told_to_continue(app: World) -> None:
    raw = b"POST /x HTTP/1.0\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    assert app.say(raw, b"hello", pause=0.3).startswith(b"HTTP/1.1 200 OK")


def test_an_http_1_0_client_hears_the_end_by_the_close(app: World) -> None:
    app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
    answer = Answer.read(app.say(b"GET /x HTTP/1.0\r\nHost: app\r\n\r\n"))
    assert (answer.status, answer.body) == (200, b"ok")
    assert ("transfer-encoding", "chunked") not in answer.headers


def test_with_masking_on_no_range_no_condition_and_no_compression_is_asked_for(app: World) -> None:
    app.ask("GET", "/x", Range="bytes=0-3", If_None_Match='"a"', If_Modified_Since="x", Accept_Encoding="gzip")
    for name in (b"Range", b"If-None-Match", b"If-Modified-Since", b"gzip"):
        assert name not in app.service.heard
    assert b"Accept-Encoding: identity" in app.service.heard


def test_a_body_that_cannot_be_masked_is_withheld_and_on_record(app: World) -> None:
    app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 11\r\n\r\n078-05-1120"]
    answer = app.ask("GET", "/raw")
    assert answer.status == 502
    assert "withheld" in answer.json()["detail"]
    assert app.records("outcome")[-1]["result"]["error"] == "UNMASKABLE"


def test_a_decompression_bomb_is_withheld(app: World) -> None:
    bomb = gzip.compress(b" " * (200 << 20), 9)
    app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb]
    before = app.gateway.resident_bytes()
    raw = app.say(b"GET /bomb HTTP/1.1\r\nHost: app\r\n\r\n")
    assert len(raw) < 1 << 20 or not raw.endswith(b"0\r\n\r\n")
    assert app.gateway.resident_bytes() - before < 64 << 20


def test_a_service_that_dies_in_the_middle_is_no_whole_answer(app: World) -> None:
    app.service.says, app.service.closes = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 900000\r\n\r\n" + b"x" * 600_000], True
    raw = app.say(b"GET /half HTTP/1.1\r\nHost: app\r\n\r\n")
    assert not raw.endswith(b"0\r\n\r\n")
    assert until(lambda: app.records("outcome")[-1]["result"]["status"] == "error")


def test_a_replayed_session_shows_requests_and_masked_answers(app: World) -> None:
    token = app.gateway.token("replay")
    app.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 16\r\n\r\nssn: 078-05-1120"]
    app.say(b"GET /shown HTTP/1.1\r\nHost: app\r\n\r\n", token=token)
    (start,) = [e for e in app.records("session.start") if e["who"]["sub"] == "replay"]
    shown = ""

    def is_shown() -> bool:
        nonlocal shown
        shown = app.gateway.run("sessions", "replay", start["session"], "-c", str(app.gateway.config)).stdout
        return "GET /shown HTTP/1.1" in shown and "***********" in shown

    assert until(is_shown), shown
    assert "078-05-1120" not in shown
    assert token not in shown


# --- gateways of their own ----------------------------------------------------------------------------------------------


class _Tokens(Endpoint):
    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        said = self.rfile.read(int(self.headers["Content-Length"])).decode()
        known = base64.b64decode(self.headers["Authorization"].split()[1]) == b"client-1:s3cret-of-the-target"
        body = json.dumps({"access_token": "minted-token", "expires_in": 300} if known and "client_credentials" in said else {}).encode()
        self.say(200 if known else 401, body)


@pytest.fixture
def token_endpoint() -> Iterator[str]:
    with served(_Tokens) as url:
        yield f"{url}/token"


@pytest.mark.parametrize("kind", ["bearer", "header", "basic", "client-credentials"])
def test_the_service_is_shown_the_configured_credential_and_nobody_else_is(kind: str, token_endpoint: str) -> None:
    credential = {"kind": kind, "secret": "file:secrets/key", "header": "X-Api-Key", "user": "client-1", "token_url": token_endpoint}
    wanted = {
        "bearer": b"Authorization: Bearer s3cret-of-the-target",
        "header": b"X-Api-Key: s3cret-of-the-target",
        "basic": b"Authorization: Basic " + base64.b64encode(b"client-1:s3cret-of-the-target"),
        "client-credentials": b"Authorization: Bearer minted-token",
    }[kind]
    routes = [
        {"match": "POST /orders/{id}/void", "action": "delete", "name": "orders.void"},
        {"match": "POST /search", "action": "read"},
    ]
    more = {"listener": {"names": ["gw.test"]}} if kind == "bearer" else {}
    with world(credential=credential, prefix="/shop", base_path="/v2", routes=routes, actor_headers=True, detect=[], **more) as made:
        answer = made.ask("GET", "/x", Authorization=f"Bearer {made.gateway.token()}", X_Api_Key="forged")
        assert answer.status == 200
        heard = bytes(made.service.heard)
        assert heard.count(wanted) == 1
        assert wanted.split()[-1] not in answer.body, "the service echoes what it was shown"
        assert b"s3cret" not in answer.body
        assert heard.startswith(b"GET /v2/x HTTP/1.1")
        assert b"forged" not in heard
        assert not any(b"s3cret-of-the-target" in data for name, data in made.gateway.written() if "secrets" not in str(name))
        if kind == "bearer":
            assert made.ask("POST", "/orders/7/void").status == 403
            assert made.records("deny")[-1]["op"]["name"] == "orders.void"
            assert made.ask("POST", "/search", b"x").status == 200
            assert Answer.read(made.say(b"GET /shop/y HTTP/1.1\r\nHost: gw.test\r\n\r\n")).json()["line"] == "GET /v2/y HTTP/1.1"
            check_assertion(made, answer)


def check_assertion(made: World, answer: Answer) -> None:
    """The service can prove who acts by the key that the API publishes."""
    told = dict(answer.json()["headers"])
    assert told["X-Ostiary-Subject"] == "ana"
    with urllib.request.urlopen(f"http://127.0.0.1:{made.gateway.api_port}/.well-known/actor-jwks.json", timeout=10) as said:
        (key,) = json.load(said)["keys"]
    jws = parse_compact(told["X-Ostiary-Assertion"])
    assert jws.kid == key["kid"]
    assert (jws.claims["sub"], jws.claims["aud"], jws.claims["session"]) == ("ana", "app", told["X-Ostiary-Session"])
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raw = base64.urlsafe_b64decode(key["x"] + "=")
    signed, _, signature = told["X-Ostiary-Assertion"].rpartition(".")
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.urlsafe_b64decode(signature + "=="), signed.encode())


def test_slow_and_silent_clients_are_cut_and_idle_sessions_end() -> None:
    listener = {"head_seconds": 1.0, "body_seconds": 1.0, "keep_seconds": 1.0, "session_seconds": 1.0}
    with world(listener=listener, reply_seconds=1.0) as made:
        for raw in (b"GET /x HT", b""):
            with made.connect() as sock:
                sock.sendall(raw)
                with contextlib.suppress(ConnectionError):
                    assert sock.recv(1024) == b""
        slow = b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\nhi"
        made.say(slow)
        assert bytes(made.service.heard) == b""
        made.service.says = [b""]
        assert made.ask("GET", "/silent").status == 502
        assert until(lambda: any(entry["result"]["status"] == "IDLE" for entry in made.records("session.end")))


