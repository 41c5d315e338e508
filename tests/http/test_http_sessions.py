"""Sessions of HTTP end when their identity does, budgets hold, and TLS is spoken on both sides."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Answer, World, echo, hear, with_token, world

from ostiary.cli.binding import Binding
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.protocols.http import refusals
from ostiary.testing.gateway import Gateway
from ostiary.testing.waiting import until

GET = b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n"


def test_every_reason_has_an_answer() -> None:
    for reason in Reason:
        assert 400 <= refusals.failed(NotAdmitted(reason)).head.status < 600


def call_api(gateway: Gateway, path: str, token: str = "", *, form: dict[str, str] | None = None, body: Any = None) -> Any:
    api = http.client.HTTPConnection("127.0.0.1", gateway.api_port, timeout=30)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers["Content-Type"] = "application/json" if form is None else "application/x-www-form-urlencoded"
    api.request("POST", path, json.dumps(body) if form is None else urllib.parse.urlencode(form), headers)
    answer = api.getresponse()
    said = answer.read()
    api.close()
    assert answer.status == 200, said
    return json.loads(said) if said else None


def exchanged(gateway: Gateway, subject: str, **more: object) -> str:
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": gateway.token(subject, **more)}
    form["subject_token_type"] = "urn:ietf:params:oauth:token-type:jwt"
    token: str = call_api(gateway, "/v1/token", form=form)["access_token"]
    return token


def stop(gateway: Gateway, how: str, token: str) -> None:
    if how == "revoked":
        call_api(gateway, "/v1/revoke", form={"token": token})
    else:
        admin = exchanged(gateway, "sam", groups=["security"])
        call_api(gateway, "/v1/stops", admin, body={"issuer": gateway.mint.issuer, "subject": how, "reason": "it went wild"})


@pytest.fixture(scope="module")
def strict() -> Any:
    """A gateway with people who may stop others, budgets, and two connections to its service at most."""
    budgets = [{"name": "small", "of": "bytes", "most": 100_000, "per": "session", "groups": ["interns"]}]
    budgets.append({"name": "few", "of": "operations", "most": 2, "per": "day", "groups": ["temps"]})
    with world(
        sections={"admin": {"groups": ["security"]}}, tables={"budgets": budgets}, max_connections=2, detect=[]
    ) as made:  # fmt: skip
        yield made


@pytest.mark.parametrize("how", ["revoked", "mallory"])
def test_who_is_stopped_is_out_in_the_middle_of_a_request_and_after(strict: World, how: str) -> None:
    token = exchanged(strict.gateway, "mallory" if how == "mallory" else "rita")
    strict.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 900000\r\n\r\n" + b"x" * 1000]
    with strict.connect() as sock:
        sock.sendall(with_token(GET, token))
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        stop(strict.gateway, how, token)
        with contextlib.suppress(ConnectionError):  # a TimeoutError is none: it would not have ended
            while sock.recv(65536):
                pass
    reason = "REVOKED_TOKEN" if how == "revoked" else "STOPPED_ACTOR"
    until(lambda: any(each["result"]["status"] == reason for each in strict.records("session.end")))
    outcome = strict.records("outcome")[-1]
    assert outcome["result"]["status"] != "ok"
    strict.service.says = []
    heard = len(strict.service.heard)
    answer = Answer.read(strict.say(GET, token=token))
    assert answer.status == 401
    assert len(strict.service.heard) == heard
    assert strict.records("login")[-1]["login"]["reason"] == reason


def test_a_proof_of_a_key_is_good_on_the_connection_that_showed_it_first(strict: World) -> None:
    """The session of a token is found again by what is shown: a proof that was seen on its way must not be a way into it."""
    binding = Binding()
    api = f"http://127.0.0.1:{strict.gateway.api_port}"
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": strict.gateway.token("rita")}
    form["subject_token_type"] = "urn:ietf:params:oauth:token-type:jwt"
    answer = httpx.post(f"{api}/v1/token", data=form, headers={"dpop": binding.for_exchange(api)}, trust_env=False)
    shown = binding.for_connection(answer.json()["access_token"], "app")
    strict.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"]
    with strict.connect() as sock:
        for _ in range(2):
            sock.sendall(with_token(GET, shown))
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert Answer.read(strict.say(GET, token=shown)).status == 401
    strict.service.says = []


def test_a_budget_of_bytes_holds_back_the_answer_that_is_too_much(strict: World) -> None:
    strict.service.says = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000]
    token = strict.gateway.token("ines", groups=["interns"])
    whole = Answer.read(strict.say(GET, token=token))
    assert (whole.status, len(whole.body)) == (200, 60_000)
    assert len(strict.say(GET, token=token)) < 60_000
    until(lambda: any(each["result"].get("error") == "BUDGET_SPENT" for each in strict.records("outcome")))
    refused = Answer.read(strict.say(GET, token=token))
    assert refused.status == 403
    assert "small" in refused.json()["detail"]
    assert strict.records("deny")[-1]["who"]["sub"] == "ines"


def test_a_budget_of_operations_refuses_the_one_that_is_too_many(strict: World) -> None:
    strict.service.says = []
    token = strict.gateway.token("tim", groups=["temps"])
    assert [Answer.read(strict.say(GET, token=token)).status for _ in range(4)] == [200, 200, 403, 403]


def test_a_mandate_that_bounds_effects_is_counted_over_http(strict: World) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 60000\r\n\r\n"
    strict.service.says = [head + b"x" * 60_000]

    def token(name: str, **effects: int) -> str:
        return strict.gateway.token("ana", authorization_details=[{"type": "ostiary", "id": name, "effects": effects}])

    def ask(path: str, token: str) -> Answer:
        return Answer.read(strict.say(GET.replace(b"/x", path.encode()), token=token))

    calls, objects, size, rows = token("c", calls=2), token("o", objects=2), token("b", bytes=100_000), token("r", rows=9)
    assert [ask("/x", each).status for each in (calls, calls, calls, token("c", calls=2))] == [200, 200, 403, 403]
    assert [ask(path, objects).status for path in ("/x", "/y", "/x", "/z", "/y")] == [200, 200, 200, 403, 200]
    assert "mandate o allows 2 objects" in ask("/z", objects).json()["detail"]
    assert len(ask("/x", size).body) == 60_000
    assert len(strict.say(GET, token=size)) < 60_000
    assert ask("/x", size).status == 403
    heard = len(strict.service.heard)
    assert "cannot count" in ask("/x", rows).json()["detail"]
    assert len(strict.service.heard) == heard


def test_requests_wait_for_a_connection_to_the_service_and_open_no_more_than_may_be(strict: World) -> None:
    strict.service.says, strict.service.pause = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n", b"ok"], 0.1
    token, before, answers = strict.gateway.token("pia"), strict.service.connections, []
    threads = [threading.Thread(target=lambda: answers.append(Answer.read(strict.say(GET, token=token)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    strict.service.says, strict.service.pause = [], 0.0
    assert [(each.status, each.body) for each in answers] == [(200, b"ok")] * 8
    assert strict.service.connections - before <= 2


# --- TLS ---------------------------------------------------------------------------------------------------------------


def _serve_tls(context: ssl.SSLContext, seen: list[Any]) -> int:
    """A service that demands a certificate, and says whose it saw."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            plain, _ = listener.accept()
            with contextlib.suppress(OSError, ValueError), context.wrap_socket(plain, server_side=True) as sock:
                held = sock.recv(65536)
                if not held:  # who only tries whether it can be reached has gone
                    continue
                seen.append(sock.getpeercert())
                sock.sendall(echo(held.partition(b"\r\n\r\n")[0], b""))

    threading.Thread(target=run, daemon=True).start()
    return int(listener.getsockname()[1])


def test_tls_on_both_sides_with_a_certificate_of_the_gateways_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("127.0.0.1", "gateway@house.test"):
        issued = authority.issue_cert(name)
        stem = "client" if "@" in name else "server"
        (tmp_path / f"{stem}.key").touch(mode=0o600)
        (tmp_path / f"{stem}.key").write_bytes(issued.private_key_pem.bytes())
        (tmp_path / f"{stem}.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    seen: list[Any] = []
    address = f"127.0.0.1:{_serve_tls(context, seen)}"
    listener = {"tls_cert": str(tmp_path / "server.pem"), "tls_key": str(tmp_path / "server.key")}
    own = {"cert_file": str(tmp_path / "client.pem"), "key_file": str(tmp_path / "client.key")}
    with world(listener=listener, address=address, tls="verify-full", ca_file=str(tmp_path / "ca.pem"), **own) as made:
        trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        with made.connect() as plain, trusting.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
            sock.sendall(with_token(GET, made.gateway.token()))
            assert Answer.read(hear(sock)).status == 200
        assert ("email", "gateway@house.test") in seen[0]["subjectAltName"]
        with made.connect() as plain:
            plain.sendall(with_token(GET, made.gateway.token()))
            assert b"HTTP/1.1 200" not in hear(plain)
        tried = made.gateway.run("connections", "test", "app", "-c", str(made.gateway.config))
        assert tried.returncode == 0, tried.stdout + tried.stderr
        assert "HTTP at" in tried.stdout


def test_each_request_of_a_connection_counts_for_its_own_token_host_and_fields(strict: World) -> None:
    """What was worked out of the fields of one request holds for the next only where it says the same."""
    ana, bob = strict.gateway.token("ana"), strict.gateway.token("bob")

    def ask(token: str, host: str = "app", more: str = "") -> bytes:
        return f"GET /x HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{more}\r\n".encode()

    asked = [ask(ana), ask(ana), ask(bob), ask(ana, more="X-Note: 7\r\n"), ask(ana, more="X-Note: 8\r\n"), ask(ana, more="X-User: root\r\n")]
    strict.service.heard.clear()
    with strict.connect() as sock:
        answers = []
        for each in asked:
            sock.sendall(each)
            answers.append(Answer.read(hear(sock)))
        assert [answer.status for answer in answers] == [200] * len(asked)
        heard = bytes(strict.service.heard).split(b"\r\n\r\n")[:-1]
        assert [b"X-Note: 7" in each for each in heard] == [False, False, False, True, False, False]
        assert [b"X-Note: 8" in each for each in heard] == [False, False, False, False, True, False]
        assert not any(b"X-User" in each for each in heard)
        sock.sendall(ask(ana, "elsewhere"))
        assert Answer.read(hear(sock)).status == 421
    with strict.connect() as sock:
        for token, status in ((bob, 200), ("x" * len(bob), 401)):
            sock.sendall(ask(token))
            assert Answer.read(hear(sock)).status == status
    whose = [entry["who"]["sub"] for entry in strict.gateway.entries() if entry["kind"] == "intent"][-7:]
    assert whose == ["ana", "ana", "bob", "ana", "ana", "ana", "bob"]
