"""A token that was got with a client certificate is good on TLS connections with that certificate, and on no other. RFC 8705.

A real gateway, real TLS: certificates made by trustme, libpq and httpx as clients.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import trustme

from ostiary.identity.jose import encode_base64url, parse_compact
from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer, free_port

POLICY = """
@id("all") permit (principal, action, resource);
@id("bound") @message("Come with a token that is bound.")
forbid (principal in Ostiary::Group::"careful", action, resource) unless { context.bound };
"""
EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}


@dataclass
class Place:
    gate: Gateway
    folder: Path
    http: int
    mtls: int

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.pem")

    def pair(self, name: str | None) -> tuple[str, str] | None:
        return None if name is None else (str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key"))

    def client(self, name: str | None) -> httpx.Client:
        trust = ssl.create_default_context(cafile=self.ca)
        if (pair := self.pair(name)) is not None:
            trust.load_cert_chain(*pair)
        return httpx.Client(verify=trust, trust_env=False, timeout=30)

    def asked(self, method: str, url: str, name: str | None, **more: Any) -> httpx.Response:
        with self.client(name) as client:
            return client.request(method, url, **more)

    def token(self, name: str | None, subject: str | None = None, **form: str) -> str:
        port = self.gate.api_port if name is None else self.mtls
        data = EXCHANGE | {"subject_token": subject or self.gate.token()} | form
        answer = self.asked("POST", f"https://127.0.0.1:{port}/oauth/token", name, data=data)
        assert answer.status_code == 200, answer.text
        assert answer.json()["token_type"] == "Bearer", "RFC 8705, 3: no scheme of its own"
        return answer.json()["access_token"]

    def postgres(self, token: str, name: str | None) -> Any:
        settings: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": self.ca, "sslcert": "/none", "sslkey": "/none"}
        if (pair := self.pair(name)) is not None:
            settings |= {"sslcert": pair[0], "sslkey": pair[1]}
        return psycopg.connect(host="127.0.0.1", port=self.gate.port, dbname="db", user="me", password=token, **settings)

    def web(self, token: str, name: str | None) -> int:
        headers = {"authorization": f"Bearer {token}"}
        return self.asked("GET", f"https://127.0.0.1:{self.http}/web/x", name, headers=headers).status_code

    def whoami(self, token: str, name: str | None, port: int | None = None) -> int:
        url = f"https://127.0.0.1:{port or self.mtls}/v1/whoami"
        return self.asked("GET", url, name, headers={"authorization": f"Bearer {token}"}).status_code


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
        pass


@pytest.fixture(scope="module")
def place(postgres: Peer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, ca, who in (
        ("server", authority, "127.0.0.1"), ("ana", authority, "ana@example.com"), ("bob", authority, "bob@example.com"),
        ("stranger", stranger, "ana@example.com"),
    ):  # fmt: skip
        made = ca.issue_cert(who)
        (folder / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        (folder / f"{name}.key").touch(mode=0o600)
        (folder / f"{name}.key").write_bytes(made.private_key_pem.bytes())
    service = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    web = {"type": "http", "address": f"127.0.0.1:{service.server_port}", "tls": "disable", "prefix": "/web"}
    served = {"tls_cert": str(folder / "server.pem"), "tls_key": str(folder / "server.key"), "client_ca": str(folder / "ca.pem")}
    http, mtls = free_port(), free_port()
    with gateway(
        connections={"db": target(postgres), "web": web},
        policy=POLICY,
        sections={
            "listen.postgresql": served,
            "listen.http": {"address": f"127.0.0.1:{http}"} | served,
            "api": {"mtls_address": f"127.0.0.1:{mtls}"} | served,
        },
    ) as gate:
        yield Place(gate, folder, http, mtls)
    service.shutdown()
    service.server_close()


def test_the_metadata_say_where_clients_with_a_certificate_go(place: Place) -> None:
    url = f"https://127.0.0.1:{place.gate.api_port}/.well-known/oauth-authorization-server"
    found = place.asked("GET", url, None).json()
    assert found["tls_client_certificate_bound_access_tokens"] is True
    assert found["mtls_endpoint_aliases"]["token_endpoint"] == f"https://127.0.0.1:{place.mtls}/oauth/token"
    assert found["token_endpoint"] == f"https://127.0.0.1:{place.gate.api_port}/oauth/token"


def test_a_token_that_is_got_with_a_certificate_names_it(place: Place) -> None:
    der = ssl.PEM_cert_to_DER_cert((place.folder / "ana.pem").read_text())
    claims = parse_compact(place.token("ana")).claims
    assert claims["cnf"] == {"x5t#S256": encode_base64url(hashlib.sha256(der).digest())}
    assert "cnf" not in parse_compact(place.token(None)).claims


def test_nobody_without_a_certificate_of_the_authority_gets_through_to_the_place_for_those_who_have_one(place: Place) -> None:
    for name in (None, "stranger"):
        with pytest.raises(httpx.HTTPError):
            place.asked("GET", f"https://127.0.0.1:{place.mtls}/healthz", name)


def test_it_is_good_on_every_protocol_with_that_certificate(place: Place) -> None:
    token = place.token("ana")
    with place.postgres(token, "ana") as session:
        assert session.execute("SELECT 7").fetchone() == (7,)
    assert place.web(token, "ana") == 200
    assert place.whoami(token, "ana") == 200


@pytest.mark.parametrize("name", [None, "bob"])
def test_it_is_good_nowhere_without_it_or_with_another(place: Place, name: str | None) -> None:
    token = place.token("ana")
    before = place.gate.entries()
    with pytest.raises(psycopg.OperationalError):
        place.postgres(token, name)
    assert place.web(token, name) == 401
    assert place.whoami(token, name, None if name else place.gate.api_port) == 401
    known = {each["id"] for each in before}
    why = [each["login"].get("detail", "") for each in place.gate.entries() if each["id"] not in known and each["kind"] == "login"]
    assert ["bound to a key, and shown without proof" in each for each in why] == [True] * 3, why  # each of the three that were asked


def test_an_open_session_of_the_holder_lets_nobody_else_in(place: Place) -> None:
    """HTTP keeps a session for a token from an address: the certificate is part of what it is kept by."""
    token = place.token("ana")
    with place.client("ana") as holder:
        headers = {"authorization": f"Bearer {token}"}
        assert holder.get(f"https://127.0.0.1:{place.http}/web/x", headers=headers).status_code == 200
        assert place.web(token, None) == 401
        assert place.web(token, "bob") == 401
        assert holder.get(f"https://127.0.0.1:{place.http}/web/x", headers=headers).status_code == 200


def test_what_is_made_from_it_stays_bound_to_it(place: Place) -> None:
    token = place.token("ana")
    again = place.token("ana", token, audience="db")
    assert parse_compact(again).claims["cnf"] == parse_compact(token).claims["cnf"]
    for name, port in ((None, place.gate.api_port), ("bob", place.mtls)):
        data = EXCHANGE | {"subject_token": token}
        assert place.asked("POST", f"https://127.0.0.1:{port}/oauth/token", name, data=data).status_code == 400


def test_a_certificate_takes_nothing_from_a_token_that_is_bound_to_none(place: Place) -> None:
    with place.postgres(place.token(None), "bob") as session:
        assert session.execute("SELECT 7").fetchone() == (7,)


def test_policy_can_demand_it_of_each_connection(place: Place) -> None:
    careful = place.gate.token("carl", groups=["careful"])
    loose, bound = place.token(None, careful), place.token("ana", careful)
    with pytest.raises(psycopg.OperationalError, match="bound"):
        place.postgres(loose, "ana")
    assert place.web(loose, "ana") == 403
    with place.postgres(bound, "ana") as session:
        assert session.execute("SELECT 7").fetchone() == (7,)
    assert place.web(bound, "ana") == 200


def test_an_issuers_token_that_is_bound_to_a_certificate_needs_it_too(place: Place) -> None:
    der = ssl.PEM_cert_to_DER_cert((place.folder / "ana.pem").read_text())
    subject = place.gate.token(cnf={"x5t#S256": encode_base64url(hashlib.sha256(der).digest())})
    assert "cnf" in parse_compact(place.token("ana", subject)).claims
    for name, port in ((None, place.gate.api_port), ("bob", place.mtls)):
        data = EXCHANGE | {"subject_token": subject}
        assert place.asked("POST", f"https://127.0.0.1:{port}/oauth/token", name, data=data).status_code == 400


def test_a_header_is_no_certificate(place: Place) -> None:
    token = place.token("ana")
    pem = (place.folder / "ana.pem").read_text().replace("\n", "%0A")
    for header in ("x-client-cert", "x-ssl-client-cert", "x-forwarded-client-cert", "client-cert"):
        headers = {"authorization": f"Bearer {token}", header: pem}
        url = f"https://127.0.0.1:{place.gate.api_port}/v1/whoami"
        assert place.asked("GET", url, None, headers=headers).status_code == 401


def test_no_tls_session_is_resumed_so_each_connection_proves_the_key(place: Place) -> None:
    trust = ssl.create_default_context(cafile=place.ca)
    trust.load_cert_chain(*place.pair("ana") or ())
    held = None
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", place.mtls), timeout=10) as sock,
            trust.wrap_socket(sock, server_hostname="127.0.0.1", session=held) as spoken,
        ):
            spoken.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert spoken.recv(4096).startswith(b"HTTP/1.1 200")
            assert spoken.session_reused is False
            held = spoken.session
    # Before TLS 1.3 the server would keep sessions by itself.
    trust.minimum_version, trust.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    for port in (place.mtls, place.http):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, pytest.raises(ssl.SSLError):
            trust.wrap_socket(sock, server_hostname="127.0.0.1")


def test_the_command_line_gets_and_uses_one(place: Place, postgres: Peer) -> None:
    cert, key = place.pair("ana") or ("", "")
    place.gate.environment["OSTIARY_SUBJECT_TOKEN"] = place.gate.token()
    common = ["--ca-file", place.ca, "--client-cert", cert, "--client-key", key]
    done = place.gate.run("token", "db", *common)
    assert done.returncode == 0, done.stderr
    assert "x5t#S256" in json.dumps(parse_compact(done.stdout.strip()).claims)
    psql = [str(postgres.binaries / "psql"), "-X", "-A", "-t", "-c", "SELECT 7"]
    done = place.gate.run("connect", "db", *common, "--", *psql)
    assert (done.stdout.strip(), done.returncode) == ("7", 0), done.stderr
    assert place.gate.run("token", "db", "--client-cert", cert).returncode == 64
