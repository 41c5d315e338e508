"""The API issues nothing that is not on record, says nothing of why a token failed, and survives any body."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest

from ostiary.api import client, patience
from ostiary.api.app import server
from ostiary.api.tokens import MAX_AT_ONCE
from ostiary.api.words import CONNECTION_URN, GRANT, JWT
from ostiary.model.errors import Reason
from ostiary.model.secrets import Secret
from ostiary.store.database import StoreFailed
from ostiary.testing.issuer import ANA

GENERIC = {"error": "invalid_request", "error_description": "the token was not accepted"}


def test_a_login_gives_a_gateway_token_and_a_record(door):
    answer = door.exchange(door.idp.mint_agent(), audience="orders-db", purpose="fix order 7", ticket="OPS-42")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["token_type"] == "Bearer"
    assert 0 < body["expires_in"] <= 3600
    who = door.identity(body["access_token"])
    assert (who.subject, who.acting[0].sub, who.audience) == ("ana", "agent:coder", {"orders-db"})
    (event,) = door.events
    assert event.action == "token.exchange"
    assert event.who == who
    assert event.connections == ("orders-db",)
    assert (event.said.purpose, event.said.ticket) == ("fix order 7", "OPS-42")
    assert event.reason is None


def test_what_the_caller_says_is_not_proved_by_being_said(door):
    who = door.identity(door.token(purpose="I am the DBA"))
    assert who.mandate is None
    assert who.task is None


def test_several_connections_are_asked_for_by_audience_or_resource(door):
    token = door.token(audience=["orders-db"], resource=[CONNECTION_URN + "hr-db"])
    assert door.identity(token).audience == {"orders-db", "hr-db"}
    assert door.identity(door.token(token)).audience == {"orders-db", "hr-db"}


def test_whoever_is_given_a_token_is_seen_and_nobody_else(door):
    seen, broken = [], []

    async def saw(who):
        seen.append(who)
        if broken:
            raise StoreFailed("the disk is full")

    object.__setattr__(door.deps, "saw", saw)
    door.token(door.idp.mint(groups=["dba"]))
    door.token(door.idp.mint(groups=["staff"]))
    assert [sorted(who.groups) for who in seen] == [["dba"], ["staff"]]
    assert door.exchange("no token").status_code == 400
    assert len(seen) == 2
    broken.append(True)
    answer = door.exchange(door.idp.mint())
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")


def test_who_sends_slowly_keeps_nobody_else_from_a_token(door):
    async def go():
        end = asyncio.Event()

        async def body():
            yield b"grant_type="
            await end.wait()

        form = {"grant_type": GRANT, "subject_token": door.idp.mint(), "subject_token_type": JWT}
        transport = httpx.ASGITransport(app=door.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            kind = {"content-type": "application/x-www-form-urlencoded"}
            slow = [
                asyncio.ensure_future(http.post("/v1/token", content=body(), headers=kind)) for _ in range(MAX_AT_ONCE)
            ]
            for _ in range(20):
                await asyncio.sleep(0)
            answer = await http.post("/v1/token", data=form)
            end.set()
            await asyncio.gather(*slow)
        return answer

    assert asyncio.run(go()).status_code == 200


def test_if_the_log_is_down_no_token_is_issued(door):
    door.log_down = True
    answer = door.exchange(door.idp.mint())
    assert answer.status_code == 503
    assert answer.json()["error"] == "temporarily_unavailable"
    assert "access_token" not in answer.text


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"exp": 1}, Reason.EXPIRED_TOKEN),
        ({"aud": "other"}, Reason.WRONG_AUDIENCE),
        ({"iss": "https://evil.example"}, Reason.UNKNOWN_ISSUER),
        ({"sub": ""}, Reason.BAD_TOKEN),
        ({"act": {"sub": "ana"}}, Reason.BAD_TOKEN),
    ],
)
def test_the_caller_hears_one_sentence_and_the_log_the_reason(door, over, reason):
    token = door.idp.mint(**over)
    answer = door.exchange(token)
    assert (answer.status_code, answer.json()) == (400, GENERIC)
    (event,) = door.events
    assert event.reason is reason
    assert event.who is None
    assert token not in repr(event)
    assert token.split(".")[2] not in repr(event)


def test_an_issuer_that_is_down_is_no_fault_of_the_token(door):
    door.idp.down = True
    answer = door.exchange(door.idp.mint())
    assert answer.status_code == 503
    assert door.events[0].reason is Reason.ISSUER_UNREACHABLE


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": None}, "unsupported_grant_type"),
        ({"subject_token": None}, "invalid_request"),
        ({"subject_token_type": None}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"actor_token": "x"}, "invalid_request"),
        ({"actor_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"scope": "*"}, "invalid_scope"),
        ({"audience": "unknown-db"}, "invalid_target"),
        ({"audience": "*"}, "invalid_target"),
        ({"resource": "https://elsewhere.example"}, "invalid_target"),
        ({"authorization_details": "{}"}, "invalid_authorization_details"),
        ({"authorization_details": "[1]"}, "invalid_authorization_details"),
        ({"authorization_details": '[{"type": "ostiary", "actions": ["read"], "actions": ["write"]}]'}, "invalid_authorization_details"),
        ({"authorization_details": '[{"type": "ostiary", "actions": ["\\ud800"]}]'}, "invalid_authorization_details"),
        ({"authorization_details": "[" * 20000}, "invalid_authorization_details"),
        ({"authorization_details": '[{"type": "ostiary", "id": "x"}]'}, "invalid_authorization_details"),
        ({"subject_token": ["a", "b"]}, "invalid_request"),
        ({"purpose": "p" * 513}, "invalid_request"),
    ],
)
def test_a_request_that_cannot_be_granted_as_it_stands_is_refused(door, form, error):
    data = {"grant_type": GRANT, "subject_token": door.idp.mint(), "subject_token_type": JWT} | form
    answer = door.send("POST", "/v1/token", data={k: v for k, v in data.items() if v is not None})
    assert answer.status_code == 400
    assert answer.json()["error"] == error


def test_a_mandate_asked_for_is_in_the_token(door):
    details = json.dumps([{"type": "ostiary", "actions": ["read"], "connections": ["orders-db"]}])
    who = door.identity(door.token(authorization_details=details))
    assert who.mandate is not None
    assert who.mandate.actions == ("read",)
    assert who.task == who.mandate.id


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"a=b", "", 415),
        (b"\xff=b", "application/x-www-form-urlencoded", 400),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
        (b"novalue", "application/x-www-form-urlencoded", 400),
        (b"a=b&" * 100 + b"a=b", "application/x-www-form-urlencoded", 400),
        (b"a=" + b"x" * 70000, "application/x-www-form-urlencoded", 413),
        (b"a=1&a=2", "application/x-www-form-urlencoded", 400),
    ],
)
@pytest.mark.parametrize("path", ["/v1/token", "/v1/revoke"])
def test_a_body_that_is_no_form_is_refused(door, content, kind, status, path):
    answer = door.send("POST", path, content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()["error"] == "invalid_request"


def test_a_revoked_token_is_dead_with_all_its_descendants(door):
    parent = door.token()
    child = door.token(parent)
    assert door.send("POST", "/v1/revoke", data={"token": parent}).status_code == 200
    assert door.events[-1].action == "token.revoke"
    assert door.events[-1].who is not None
    for token in (parent, child):
        assert door.exchange(token).json() == GENERIC
        assert door.events[-1].reason is Reason.REVOKED_TOKEN


def test_revoking_what_is_no_token_is_done_already_and_on_record(door):
    assert door.send("POST", "/v1/revoke", data={"token": "x.y.z"}).status_code == 200
    assert door.events[-1].reason is Reason.BAD_TOKEN
    assert door.send("POST", "/v1/revoke", data={}).status_code in (400, 415)


def test_keys_health_and_metrics_are_there_and_hold_no_secret(door):
    token = door.token()
    keys = door.send("GET", "/.well-known/jwks.json").json()["keys"]
    assert [set(key) for key in keys] == [{"kty", "crv", "x", "kid", "alg", "use"}]
    assert door.send("GET", "/healthz").text == "ok\n"
    metrics = door.send("GET", "/metrics").text
    assert 'ostiary_token_requests_total{action="exchange",result="done"} 1.0' in metrics
    assert "ana" not in metrics
    assert token not in metrics


@pytest.mark.parametrize("path", ["/v1/token/", "/v1/accounts/", "//v1/whoami", "/V1/whoami"])
def test_no_other_spelling_of_an_address_leads_anywhere(door, path):
    answer = door.send("GET", path, headers={"host": "evil.example"})
    assert (answer.status_code, answer.headers.get("location")) == (404, None)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/token"), ("PUT", "/v1/revoke"), ("GET", "/nothing")])
def test_there_is_nothing_else(door, method, path):
    assert door.send(method, path).status_code in (404, 405)


@pytest.fixture
def live(door):
    """The API on a real socket."""
    with listening(door) as url:
        yield url


@contextlib.contextmanager
def listening(door):
    running = server(door.app, host="127.0.0.1", port=0, tls_cert=None, tls_key=None)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve()), daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.should_exit = True
        thread.join(10)


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET"])
def test_connections_that_ask_nothing_keep_nobody_out(live, said):
    address = ("127.0.0.1", urlsplit(live).port)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(300)]
        for each in silent:
            with contextlib.suppress(OSError):  # it was let go already
                each.sendall(said)
        for _ in range(3):
            assert httpx.get(f"{live}/healthz", trust_env=False, timeout=60).status_code == 200


def test_half_a_head_is_not_waited_for_without_end(door, monkeypatch):
    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.2)
    with listening(door) as url:
        for said in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /heal"):
            with socket.create_connection(("127.0.0.1", urlsplit(url).port), timeout=60) as each:
                each.sendall(said)
                with contextlib.suppress(ConnectionResetError):
                    while each.recv(4096):
                        pass


def test_the_client_trades_and_revokes_over_a_real_socket(door, live):
    granted = client.exchange(live, Secret(door.idp.mint_agent(ANA)), connections=["orders-db"], purpose="look")
    assert granted.seconds > 0
    assert granted.token.reveal() not in repr(granted)
    assert door.identity(granted.token.reveal()).subject == "ana"
    assert door.events[0].said.address.startswith("127.0.0.1:")
    client.revoke(live, granted.token)
    with pytest.raises(client.ApiRefused, match="not accepted"):
        client.exchange(live, granted.token)


def test_the_client_says_what_is_wrong_and_never_sends_a_token_in_clear(door, live):
    with pytest.raises(client.ApiRefused, match="https"):
        client.exchange("http://gw.example", Secret("t"))
    with pytest.raises(client.ApiRefused, match="cannot be reached"):
        client.exchange("http://127.0.0.1:1", Secret("t"))
    with pytest.raises(client.ApiRefused) as caught:
        client.exchange(live, Secret(door.idp.mint()), connections=["unknown"])
    assert caught.value.error == "invalid_target"
    with pytest.raises(client.ApiRefused, match="not that of an Ostiary gateway"):
        client.exchange(door.idp.issuer, Secret("t"))


def test_a_client_that_never_ends_its_body_does_not_hold_the_door(door, live):
    def forever():
        yield b"grant_type="
        yield b"x" * 70000

    answer = httpx.post(
        f"{live}/v1/token",
        content=forever(),
        headers={"content-type": "application/x-www-form-urlencoded"},
        trust_env=False,
    )
    assert answer.status_code == 413
