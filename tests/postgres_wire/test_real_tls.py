"""TLS on both sides, with libpq as people have it: verified, by request and direct; and what is no TLS is refused."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
import trustme

from ostiary.testing.gateway import Gateway, gateway, target
from ostiary.testing.peers import Peer, ServerTls, postgres_cluster
from ostiary.testing.pgclient import Closed, PgClient, startup

pytestmark = pytest.mark.timeout(120)

POLICY = "permit (principal, action, resource);"
SSL_REQUEST = struct.pack("!II", 8, 80877103)
DIRECT_SINCE = 17_00_00


class World(NamedTuple):
    gate: Gateway
    ca: str
    cert: str
    key: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("real-tls")
    authority = trustme.CA()
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    ours, theirs = authority.issue_cert("127.0.0.1"), authority.issue_cert("127.0.0.1")
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in ours.cert_chain_pems))
    (folder / "key.pem").touch(mode=0o600)
    (folder / "key.pem").write_bytes(ours.private_key_pem.bytes())
    chain = b"".join(pem.bytes() for pem in theirs.cert_chain_pems)
    served = {"tls_cert": str(folder / "cert.pem"), "tls_key": str(folder / "key.pem")}
    with postgres_cluster(auth="scram-sha-256", password="upstream", tls=ServerTls(chain, theirs.private_key_pem.bytes())) as peer:
        connection = target(peer, tls="verify-full", ca_file=str(ca), password="file:@HOME@/secrets/pg")
        with gateway(
            connections={"db": connection, "unverified": connection | {"ca_file": served["tls_cert"]}},
            policy=POLICY, sections={"listen.postgresql": served}, secrets_by_name={"pg": "upstream"},
        ) as gate:  # fmt: skip
            yield World(gate, str(ca), served["tls_cert"], served["tls_key"])


def words(world: World, **more: str) -> str:
    settings = {"host": "127.0.0.1", "port": str(world.gate.port), "dbname": "db", "user": "me", "sslrootcert": world.ca}
    settings |= {"sslmode": "verify-full", "password": world.gate.token()} | more
    return " ".join(f"{name}={value}" for name, value in settings.items())


SSL_IN_USE = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


def test_psql_over_verified_tls_on_both_sides(world: World, postgres: Peer) -> None:
    done = subprocess.run(
        [str(postgres.binaries / "psql"), "-X", "-A", "-t", "-c", SSL_IN_USE, words(world)],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("t", "")


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
def test_psycopg_by_request_and_direct(world: World, negotiation: str) -> None:
    if negotiation == "direct" and psycopg.pq.version() < DIRECT_SINCE:
        pytest.skip("this libpq is older than 17 and knows no direct TLS")
    with psycopg.connect(words(world, sslnegotiation=negotiation)) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute(SSL_IN_USE).fetchone() == (True,)


def test_a_certificate_that_is_not_the_authoritys_is_no_target(world: World) -> None:
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(words(world, dbname="unverified"))
    assert "upstream" not in str(refused.value)


def context(world: World, *protocols: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=world.ca)
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("h2", "http/1.1")])
def test_direct_tls_without_its_protocol_name_is_hung_up_on(world: World, protocols: tuple[str, ...]) -> None:
    """ALPACA: a browser's TLS must not be taken for a client's."""
    client = PgClient(world.gate.host, world.gate.port)
    with pytest.raises((Closed, OSError)):
        client.start_tls(context(world, *protocols), direct=True)
        client.login(user="me", database="db", password=world.gate.token())
    client.sock.close()


def test_direct_tls_with_its_protocol_name_is_let_in(world: World) -> None:
    client = PgClient(world.gate.host, world.gate.port)
    client.start_tls(context(world, "postgresql"), direct=True)
    client.login(user="me", database="db", password=world.gate.token())
    assert client.query("SELECT 7").rows == [(b"7",)]
    client.close()


def test_pgw_029_nobody_is_asked_for_a_password_in_clear(world: World, postgres: Peer) -> None:
    done = subprocess.run(
        [str(postgres.binaries / "psql"), "-X", "-c", "SELECT 1", words(world, sslmode="disable")],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert "TLS" in done.stderr, done.stderr
    with socket.create_connection((world.gate.host, world.gate.port), timeout=10) as sock:
        sock.sendall(startup({"user": "me", "database": "db"}))
        said = b""
        while piece := sock.recv(4096):
            said += piece
    assert said[:1] == b"E"
    assert b"R\0\0\0" not in said


def test_who_writes_danger_may_log_in_without_tls_beside_a_certificate(world: World, postgres: Peer) -> None:
    served = {"tls_cert": world.cert, "tls_key": world.key, "danger_plaintext": True}
    with (
        gateway(connections={"db": target(postgres)}, policy=POLICY, sections={"listen.postgresql": served}) as gate,
        psycopg.connect(
            host="127.0.0.1", port=gate.port, dbname="db", user="me", password=gate.token(), sslmode="disable"
        ) as connection,
    ):
        assert connection.execute("SELECT 7").fetchone() == (7,)


def test_pgw_028_a_request_for_tls_inside_tls_ends_the_connection(world: World) -> None:
    client = PgClient(world.gate.host, world.gate.port)
    client.start_tls(context(world))
    client.send(SSL_REQUEST)
    with pytest.raises(Closed):
        while client.read_message().tag != b"R":
            pass
    client.sock.close()


def test_bytes_behind_the_request_for_tls_are_not_taken_for_tls(world: World) -> None:
    """CVE-2021-23214: what was stuffed in clear must not be read as if it had come inside."""
    with socket.create_connection((world.gate.host, world.gate.port), timeout=10) as sock:
        sock.sendall(SSL_REQUEST + startup({"user": "me", "database": "db"}))
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(4096):
                said += piece
    assert b"R\0\0\0" not in said
    assert not said.startswith(b"S")
