"""PostgreSQL behind IAM: a real server asks for a password over TLS, and believes the token that the gateway signs, as RDS does.

The server has its passwords checked by a directory (pg_hba's `ldap`), which a test can be: it checks the token as AWS's documentation of
Signature Version 4 says, by itself.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import boto3
import pytest
import trustme
from botocore import auth

from ostiary.config.load import load
from ostiary.model.errors import ConfigError
from ostiary.model.secrets import Secret
from ostiary.protocols.aws.sigv4 import Keys, presign
from ostiary.testing.gateway import gateway, target
from ostiary.testing.peers import Peer, ServerTls, free_port, postgres_cluster
from ostiary.testing.pgclient import ServerError
from tests.aws.account import WATCH

SECRET = "the-real-secret"
REGION = "eu-central-1"


def believed(token: str, user: str, place: str, secret: str) -> bool:
    """What IAM says of a token: AWS General Reference, "Signature Version 4", with everything in the query."""
    host, _, query = token.partition("/?")
    pairs = dict(parse_qsl(query, strict_parsing=True))
    signature = pairs.pop("X-Amz-Signature")
    date, region, service, _ = pairs["X-Amz-Credential"].split("/")[1:]
    canonical = "&".join(f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}" for name, value in sorted(pairs.items()))
    request = "\n".join(["GET", "/", canonical, f"host:{host}", "", "host", hashlib.sha256(b"").hexdigest()])
    scope = f"{date}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", pairs["X-Amz-Date"], scope, hashlib.sha256(request.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    at = dt.datetime.strptime(pairs["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    fresh = abs((dt.datetime.now(dt.UTC) - at).total_seconds()) < int(pairs["X-Amz-Expires"]) <= 900
    asked = (pairs["Action"], pairs["DBUser"], host, service, region) == ("connect", user, place, "rds-db", REGION)
    return fresh and asked and hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), signature)


class Directory(socketserver.StreamRequestHandler):
    """Enough of LDAP (RFC 4511) to answer a simple bind: SEQUENCE { messageID, [APPLICATION 0] { version, name, [0] password } }."""

    seen: list[str]

    def _element(self, data: bytes) -> tuple[bytes, bytes]:
        """(content, rest) of the first element of BER."""
        length, at = data[1], 2
        if length & 0x80:
            at += length & 0x7F
            length = int.from_bytes(data[2:at])
        return data[at : at + length], data[at + length :]

    def handle(self) -> None:
        data = self.request.recv(65536)
        number, rest = self._element(self._element(data)[0])
        _, rest = self._element(self._element(rest)[0])
        name, rest = self._element(rest)
        password, _ = self._element(rest)
        self.server.seen.append(password.decode())  # type: ignore[attr-defined]
        good = self.server.believes(password.decode(), name.decode().removeprefix("cn="))  # type: ignore[attr-defined]
        self.request.sendall(b"\x30\x0c\x02\x01" + number + b"\x61\x07\x0a\x01" + (b"\0" if good else b"\x31") + b"\x04\0\x04\0")


@pytest.fixture(scope="module")
def directory() -> Iterator[Any]:
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", free_port()), Directory) as server:
        server.seen = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def database(directory: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, str]]:
    """A PostgreSQL whose `app` logs in with what the directory believes, and the file of its CA."""
    authority = trustme.CA()
    ca = tmp_path_factory.mktemp("rds") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    ours = authority.issue_cert("127.0.0.1")
    tls = ServerTls(b"".join(pem.bytes() for pem in ours.cert_chain_pems), ours.private_key_pem.bytes())
    port = directory.server_address[1]
    hba = [f'hostssl all app 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport={port} ldapprefix="cn="']
    with postgres_cluster(tls=tls, hba=[*hba, "host all postgres 127.0.0.1/32 trust", "local all all trust"]) as peer:
        peer.psql("CREATE ROLE app LOGIN; GRANT pg_monitor TO app")
        directory.believes = lambda token, user: believed(token, user, f"{peer.host}:{peer.port}", SECRET)
        yield peer, str(ca)


def connection(database: tuple[Peer, str], **iam: object) -> dict[str, object]:
    peer, ca = database
    keys = {"region": REGION, "access_key": "AKIAGATEWAY", "secret": "file:secrets/key"}
    return target(peer, user="app", tls="verify-full", ca_file=ca, rds_iam=keys | iam)


POLICY = "permit (principal, action, resource);"


def test_a_session_logs_in_with_a_token_that_is_signed_for_it_and_nobody_sees(database: tuple[Peer, str], directory: Any) -> None:
    with gateway(connections={"orders-db": connection(database)}, policy=POLICY, secrets_by_name={"key": SECRET}) as gate:
        for _ in range(2):
            client = gate.connect("orders-db")
            assert client.query("SELECT current_user").rows == [(b"app",)]
            client.close()
        assert gate.run("connections", "test", "orders-db").returncode == 0
        tokens = set(directory.seen)
        assert all(token.startswith(f"{database[0].host}:{database[0].port}/?Action=connect&DBUser=app&") for token in tokens)
        for path, content in gate.written():
            if path.name != "key":
                assert SECRET.encode() not in content
                assert not any(token[-64:].encode() in content for token in tokens)


def test_a_key_that_iam_does_not_know_lets_nobody_in(database: tuple[Peer, str], directory: Any) -> None:
    with gateway(connections={"orders-db": connection(database)}, policy=POLICY, secrets_by_name={"key": "another"}) as gate:
        with pytest.raises(ServerError) as said:
            gate.connect("orders-db")
        assert "another" not in str(said.value)
        assert directory.seen


def test_the_role_that_signs_bears_the_name_of_who_acts(database: tuple[Peer, str], directory: Any, moto: str) -> None:
    from moto.sts.models import sts_backends

    def of_roles(token: str, user: str) -> bool:
        given = sts_backends["123456789012"]["aws"].assumed_roles
        return any(believed(token, user, f"{database[0].host}:{database[0].port}", each.secret_access_key) for each in given)

    before, directory.believes = directory.believes, of_roles
    role = {"role": "arn:aws:iam::123456789012:role/rds", "sts": moto}
    try:
        with gateway(connections={"orders-db": connection(database, **role)}, policy=POLICY, secrets_by_name={"key": SECRET}) as gate:
            WATCH.begin()
            client = gate.connect("orders-db")
            assert client.query("SELECT 1").rows == [(b"1",)]
            client.close()
    finally:
        directory.believes = before
    names = [(form["RoleSessionName"], form["SourceIdentity"]) for form in WATCH.forms if form.get("Action") == "AssumeRole"]
    assert ("ana", "ana") in names, "the session"
    assert ("ostiary-gateway", "ostiary-gateway") in names, "the catalogue, which is read by the gateway itself"


@pytest.mark.parametrize("token", ["", "a/session+token=="])
def test_a_token_is_the_one_that_aws_own_sdk_makes(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    at = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    monkeypatch.setattr(auth, "get_current_datetime", lambda *_, **__: at)
    rds = boto3.client("rds", region_name=REGION, aws_access_key_id="AKIA", aws_secret_access_key=SECRET, aws_session_token=token or None)
    theirs = rds.generate_db_auth_token("db.example", 5432, "app user")
    keys = Keys("AKIA", Secret(SECRET), Secret(token))
    ours = presign(
        "db.example:5432", (("Action", "connect"), ("DBUser", "app user")), keys=keys, region=REGION, service="rds-db",
        at=at.strftime("%Y%m%dT%H%M%SZ"), seconds=900,
    )  # fmt: skip
    assert dict(parse_qsl(ours.partition("?")[2])) == dict(parse_qsl(theirs.partition("?")[2]))
    assert ours.partition("?")[0] == theirs.partition("?")[0]


@pytest.mark.parametrize(("written", "says"), [('tls = "disable"', "is not possible with rds_iam"), ('password = "env:X"', "beside rds_iam")])
def test_tls_is_demanded_and_a_password_means_nothing_beside(tmp_path: Path, written: str, says: str) -> None:
    (tmp_path / "policy.cedar").write_text(POLICY)
    text = f"""
[gateway]
name = "gw"
state_dir = "state"
[policy]
files = ["policy.cedar"]
[connections.db]
type = "postgresql"
address = "127.0.0.1:5432"
database = "d"
user = "app"
{written}
[connections.db.rds_iam]
region = "eu-central-1"
access_key = "AKIA"
secret = "env:Y"
"""
    (tmp_path / "ostiary.toml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        load(tmp_path / "ostiary.toml")
