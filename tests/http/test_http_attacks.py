"""The `http` items of the attack corpus, against the real gateway; and the rest of their class."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Answer, World

CORPUS = Path(__file__).parents[1] / "attacks" / "attacks.jsonl"
SENTINEL = b"078-05-1120"


def cases() -> list[Any]:
    found = []
    for line in CORPUS.read_text().splitlines():
        case = json.loads(line)
        if case["profile"] == "http-base" and case.get("steps") and case["steps"][0]["op"] == "http_raw":
            found.append(pytest.param(case, id=case["id"]))
    return found


def decoded(segments: list[str]) -> list[bytes]:
    return [base64.b64decode(segment) for segment in segments]


@pytest.mark.parametrize("case", cases())
def test_the_corpus_has_its_required_outcome(app: World, case: dict[str, Any]) -> None:
    (step,) = case["steps"]
    app.service.says = decoded(step.get("upstream_response_segments_b64", []))
    app.service.pause = step.get("delay_ms", 0) / 1000
    before = app.recorded()
    raw = app.say(*decoded(step["segments_b64"]))
    answer = Answer.read(raw)
    heard = bytes(app.service.heard)
    assert app.recorded() - before == 1, "exactly one request is recorded"
    match case["family"]:
        case "smuggling" if app.service.says:
            assert SENTINEL not in raw
            assert answer.status == 400 or answer.body in (b"", b'{"a":1}')
        case "smuggling":
            assert answer.status == 400
            assert heard == b""
        case "path" | "ssrf" | "graphql":
            assert answer.status in (400, 403, 404, 421)
            assert heard == b""
        case "identity-header":
            assert b"admin" not in heard.lower()
            assert b"eyJhbGciOiJub25lIn0" not in heard
            assert answer.status in (200, 400)
        case "mask":
            assert answer.status
            assert SENTINEL not in raw
            assert b"\\u0030" not in raw
        case "method":
            assert answer.status in (200, 400, 403)
            assert b"override" not in heard.lower()
        case "control":
            assert answer.status == 200
            assert heard
        case family:
            pytest.fail(f"nobody judges {family}")


SMUGGLED = b"GET /admin/x HTTP/1.1\r\nHost: app\r\n\r\n"
POST = b"POST /ok HTTP/1.1\r\nHost: app\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding:\tchunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5;a=\nb\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1000000000000000000000005\r\nhello\r\n0\r\n\r\n",
        b"Content-Length: 0x5\r\n\r\nhello",
        b"Content-Length: 5 5\r\n\r\nhello",
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"Content-Length: \r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Content-Length : 5\r\n\r\nhello",
        b"Content-Length: 5\n\r\nhello",
        b"X: a\rContent-Length: 5\r\n\r\nhello",
        b"X: a\r\n b\r\n\r\n",
        b"X: a\0b\r\n\r\n",
        b": nameless\r\n\r\n",
        b"X y: z\r\n\r\n",
        b"Host: app2\r\n\r\n",
    ],
)
def test_what_two_parsers_could_read_in_two_ways_is_refused(app: World, head: bytes) -> None:
    answer = Answer.read(app.say(POST + head + SMUGGLED))
    assert answer.status == 400
    assert bytes(app.service.heard) == b""


@pytest.mark.parametrize(
    "line",
    [
        b"GET  /x HTTP/1.1", b"GET /x  HTTP/1.1", b"GET\t/x HTTP/1.1", b"GET /x HTTP/1.10", b"GET /x HTTP/2.0", b"GET /x",
        b"GET /x http/1.1", b"GET /x HTTP/1.1 ", b" GET /x HTTP/1.1", b"G(T /x HTTP/1.1", b"\r\nGET /x HTTP/1.1",
        b"GET * HTTP/1.1", b"CONNECT app:443 HTTP/1.1", b"TRACE / HTTP/1.1", b"GET /x#y HTTP/1.1", b"GET //admin/x HTTP/1.1",
        b"GET /%61dmin%2fx HTTP/1.1", b"GET /x/..%5cadmin HTTP/1.1", b"GET /x\\admin HTTP/1.1", b"GET /%2561dmin HTTP/1.1",
        b"GET /admin%00 HTTP/1.1", b"GET /admin. HTTP/1.1", b"GET /admin%20 HTTP/1.1", b"GET /admin;x/y HTTP/1.1",
        b"GET /%61%64min/x HTTP/1.1", b"GET /aDmIn HTTP/1.1", b"GET /%EF%BD%81dmin HTTP/1.1", b"GET /adm%C4%B1n HTTP/1.1",
        b"GET /./admin HTTP/1.1", b"GET /x/../admin HTTP/1.1", b"POST /x?_method=DELETE HTTP/1.1", b"PURGE /x HTTP/1.1",
        b"GET /graphql?query=mutation%7BdeleteAll%7D HTTP/1.1", b"GET /q?query=mutation%7BdeleteAll%7D HTTP/1.1",
        b"GET http://app:80@evil/ HTTP/1.1", b"GET //app/admin HTTP/1.1",
    ],
)  # fmt: skip
def test_no_spelling_reaches_what_is_forbidden(app: World, line: bytes) -> None:
    answer = Answer.read(app.say(line + b"\r\nHost: app\r\n\r\n"))
    assert 400 <= answer.status < 500
    assert bytes(app.service.heard) == b""


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-User", "x_forwarded_user", "X.Forwarded.User", "X-Remote-User", "Remote-User", "REMOTE_USER", "X-User", "X-Email",
        "X-Auth-Request-Email", "X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method",
        "X-Method-Override", "X-Ostiary-Subject", "X-Ostiary-Assertion", "X_Ostiary_Subject", "X-Goog-IAP-JWT-Assertion",
        "Cf-Access-Jwt-Assertion", "X-Amzn-Oidc-Identity", "X-MS-Client-Principal", "SSL-Client-S-DN", "X-Client-Cert",
        "Client-IP", "WL-Proxy-Client-IP", "X-Azure-ClientIP", "Forwarded-For", "X-Originating-IP", "X-Consumer-ID", "OIDC-CLAIM-sub", "X-Userinfo",
        "X-Apigateway-Api-Userinfo", "X-Shib-Session", "Sm-Universalid", "Iv-Creds", "Eppn", "X-Token-Claims", "X-Appengine-Inbound-Appid",
        "X-Middleware-Subrequest", "X-HTTP-Path-Override", "X-Host-Override", "Proxy", "Impersonate-User", "X-WebAuth-User", "Proxy-Authorization", "X-Groups", "X-Tenant-Id", "X-Authenticated-UserId",
    ],
)  # fmt: skip
def test_no_claimed_identity_is_passed_on(app: World, name: str) -> None:
    answer = Answer.read(app.say(f"GET /whoami HTTP/1.1\r\nHost: app\r\n{name}: forged-root\r\n\r\n".encode()))
    assert answer.status == 200
    assert b"forged-root" not in app.service.heard


def test_the_callers_token_never_reaches_the_service_nor_the_log_s_leaves(app: World) -> None:
    token = app.gateway.token("eve")
    app.say(b"GET /x HTTP/1.1\r\nHost: app\r\nX-Ostiary-Token: " + token.encode() + b"\r\n\r\n", token=token)
    assert token.encode() not in app.service.heard
    assert token not in json.dumps(app.gateway.entries())


@pytest.mark.parametrize("option", [b"Authorization", b"Cookie", b"Host", b"X-Ostiary-Subject", b"Content-Type", b"X-Forwarded-For"])
def test_connection_cannot_name_what_is_not_its_to_drop(app: World, option: bytes) -> None:
    answer = Answer.read(app.say(b"GET /x HTTP/1.1\r\nHost: app\r\nConnection: close, " + option + b"\r\n\r\n"))
    assert answer.status == 400
    assert bytes(app.service.heard) == b""


def test_what_connection_names_is_dropped_with_it(app: World) -> None:
    raw = b"GET /x HTTP/1.1\r\nHost: app\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\n\r\n"
    assert Answer.read(app.say(raw)).status == 200
    assert b"X-Hop" not in app.service.heard
    assert b"TE:" not in app.service.heard
    assert b"Keep-Alive" not in app.service.heard


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'[{"query":"{a}"},{"query":"mutation{deleteAll{ok}}"}]', 403),
        (b'{"query":"  # c\\n mutation X {deleteAll}"}', 403),
        (b'{"qu\\u0065ry":"mutation{deleteAll}"}', 403),
        (b'{"Query":"mutation{deleteAll}"}', 403),
        (b'{"QU\\u0045RY":"mutation{deleteAll}"}', 403),
        (b'{"query":"mutation{deleteAll}","query":1}', 403),
        (b'{"query":{"match":{"a":1}}}', 200),
        (b'{"query":{"bool":{"query":{"a":1}}}}', 200),
        (b'{"a":"query"}', 200),
    ],
)
def test_graphql_is_opaque_wherever_it_is_sent(app: World, body: bytes, status: int) -> None:
    assert app.ask("POST", "/search", body, Content_Type="application/json").status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"index":"a"}\n{"query":{"match_all":{}}}\n{"index":"b"}\n{"query":{"term":{"query":"x"}}}\n', 200),
        (b'{"index":"a"}\n{"query":"mutation{deleteAll}"}\n', 403),
        (b'{"index":"a"}\r\n{"qu\\u0065ry":"{a}"}', 403),
        (b'{"index":"a"}\n{"query":\n"mutation{deleteAll}"}\n', 403),
        (b'{"query":1}\n' * 10_001, 403),
    ],
)
def test_lines_of_json_are_read_one_by_one(app: World, body: bytes, status: int) -> None:
    assert app.ask("POST", "/_msearch", body, Content_Type="application/x-ndjson").status == status


@pytest.mark.parametrize("body", [b"_method=DELETE", b"a=1&%5Fmethod=delete", b"%5f%6d%65thod=delete"])
def test_a_form_cannot_ask_for_another_method(app: World, body: bytes) -> None:
    assert app.ask("POST", "/x", body, Content_Type="application/x-www-form-urlencoded").status == 400
    assert bytes(app.service.heard) == b""


def test_a_websocket_that_is_asked_for_in_another_way_is_refused(app: World) -> None:
    answer = app.ask("GET", "/ws", Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
    assert answer.status == 400
    assert b"WebSockets" in answer.body
    assert bytes(app.service.heard) == b""


def test_a_service_that_switches_protocols_unasked_is_cut(app: World) -> None:
    app.service.says = [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n078-05-1120"]
    answer = app.ask("GET", "/x")
    assert answer.status == 502
    assert SENTINEL not in answer.body


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
    ],
)
def test_a_service_that_breaks_the_framing_is_not_believed(app: World, said: bytes) -> None:
    app.service.says = [said]
    assert app.ask("GET", "/x").status == 502


def test_bytes_behind_an_answer_are_nobodys(app: World) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
    app.service.says = [answer + answer.replace(b": 2", b": 6").replace(b"ok", b"forged")]
    assert app.ask("GET", "/1").body == b"ok"
    before = app.service.connections
    assert app.ask("GET", "/2").body == b"ok"
    assert app.service.connections - before == 1, "the connection with something left over is not used again"
