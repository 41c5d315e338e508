"""The corpus's procedures on the wire (PGW-…): one test each, named for what must hold."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from ostiary.testing import pgclient as pg
from ostiary.testing.gateway import Gateway, gateway
from ostiary.testing.peers import Peer
from ostiary.testing.pgclient import FLUSH, SYNC, Closed, PgClient, ServerError, bind, close, execute, parse, query
from tests.attacks import fakes
from tests.attacks.lab import PASSWORD, connections, target_with
from tests.attacks.runner import HERE, SENTINEL

HALF_OPEN = int(os.environ.get("OSTIARY_HALF_OPEN", "150"))
TIMEOUT = int(os.environ.get("OSTIARY_TEST_SECONDS", "180"))
pytestmark = pytest.mark.timeout(TIMEOUT)

DELETE = b"DELETE FROM victim"


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with target_with([{"id": "wire"}]) as running:
        yield running


@pytest.fixture(scope="module")
def liars() -> Iterator[dict[str, fakes.Fake]]:
    with fakes.fakes(
        stuffer=fakes.stuffs_bytes_after_s,
        no_signature=fakes.skips_the_server_signature,
        forger=fakes.forges_the_server_signature,
        bomber=fakes.demands_two_billion_rounds,
        thief=fakes.asks_in_the_clear,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def gate(peer: Peer, liars: dict[str, fakes.Fake]) -> Iterator[Gateway]:
    policy = (HERE / "profiles" / "pg-base.cedar").read_text()
    targets = connections(peer, ["wire"])
    for name, fake in liars.items():
        # TLS is asked for where the lie stands in the answer to that.
        tls = "verify-full" if name == "stuffer" else "disable"
        targets[name] = dict(targets["wire"]) | {"address": f"127.0.0.1:{fake.port}", "tls": tls, "protect": {}}
    with gateway(connections=targets, policy=policy, secrets_by_name={"pg": PASSWORD}) as running:
        yield running


@pytest.fixture
def client(gate: Gateway) -> Iterator[PgClient]:
    with gate.connect("wire") as logged_in:
        yield logged_in


@pytest.fixture(autouse=True)
def victim_is_whole(peer: Peer) -> Iterator[None]:
    yield
    assert peer.psql("SELECT count(*), min(secret) FROM victim", "wire") == f"5|{SENTINEL}"


@pytest.fixture(autouse=True)
def gateway_still_serves(gate: Gateway) -> Iterator[None]:
    """Whatever a client does, the next one is served."""
    yield
    with gate.connect("wire") as next_one:
        assert next_one.query("SELECT 1").rows == [(b"1",)]


def raw(gate: Gateway, data: bytes, *, wait: float = 10.0) -> bytes:
    """Send bytes on a fresh connection and return all that comes until it is closed."""
    with socket.create_connection((gate.host, gate.port), timeout=wait) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(data)
        got = b""
        with contextlib.suppress(OSError):
            while more := sock.recv(65536):
                got += more
        return got


# --- framing ---------------------------------------------------------------------------------------------------------


def test_pgw_002_an_unknown_message_closes_the_connection(client: PgClient) -> None:
    reply = client.ask(pg.packet(b"y", b""))
    assert reply.closed
    assert reply.errors[0]["C"] == "08P01"


def test_pgw_004_bytes_behind_the_terminator_are_refused(client: PgClient) -> None:
    reply = client.ask(pg.packet(b"Q", b"SELECT 1\0; " + DELETE + b"\0"))
    assert reply.is_refused
    assert not reply.rows


def test_pgw_005_a_query_without_terminator_is_refused(client: PgClient) -> None:
    assert client.ask(pg.packet(b"Q", DELETE)).is_refused


@pytest.mark.parametrize("length", [0, 1, 3, 0x80000000, 0xFFFFFFFF])
def test_pgw_006_an_impossible_length_closes_the_connection(client: PgClient, length: int) -> None:
    reply = client.ask(b"Q" + struct.pack("!I", length) + b"SELECT 1\0")
    assert reply.closed
    assert not reply.rows


@pytest.mark.parametrize("cut", [1, 3, 5, 9])
def test_pgw_010_the_verdict_does_not_hang_on_segments(client: PgClient, cut: int) -> None:
    second = query(DELETE)
    client.send(query(b"SELECT 1") + second[:cut])
    assert client.read_reply().rows == [(b"1",)]
    time.sleep(0.05)
    client.send(second[cut:])
    assert client.read_reply().errors[0]["C"] == "42501"
    for byte in query(DELETE):
        client.send(bytes([byte]))
    assert client.read_reply().errors[0]["C"] == "42501"


def test_pgw_011_a_length_that_could_wrap_is_never_passed_on(client: PgClient) -> None:
    head = b"\0\0" + struct.pack("!HH", 0, 1) + struct.pack("!I", 0x7FFFFFF0)
    reply = client.ask(b"B" + struct.pack("!I", 0x7FFFFFFF) + head + b"x" * 65536)
    assert reply.closed


# --- extended protocol ------------------------------------------------------------------------------------------------


def test_pgw_013_what_follows_a_denied_parse_is_skipped_to_sync(client: PgClient) -> None:
    reply = client.ask(parse(b"", DELETE) + bind(b"", b"") + execute() + SYNC)
    assert reply.kinds == b"EZ"
    assert client.query("SELECT 1").rows == [(b"1",)]


def test_pgw_014_a_denied_parse_after_an_allowed_one_undoes_it(client: PgClient, peer: Peer) -> None:
    first = parse(b"", b"INSERT INTO other VALUES (77)") + bind(b"", b"") + execute()
    second = parse(b"", DELETE) + bind(b"", b"") + execute()
    reply = client.ask(first + second + SYNC)
    assert reply.kinds == b"12CEZ"
    assert reply.status == "I"
    assert peer.psql("SELECT count(*) FROM other WHERE id = 77", "wire") == "0"


def test_pgw_015_a_verdict_belongs_to_the_parse_not_to_the_name(client: PgClient) -> None:
    reply = client.ask(
        parse(b"s1", b"SELECT 1") + close(b"S", b"s1") + parse(b"s1", DELETE) + bind(b"", b"s1") + execute() + SYNC
    )
    assert reply.errors[0]["C"] == "42501"
    assert client.ask(bind(b"", b"s1") + execute() + SYNC).is_refused


def test_pgw_019_each_bind_is_a_decision_and_a_record_of_its_own(gate: Gateway) -> None:
    with gate.connect("wire", token=gate.token("binder")) as client:
        sent = parse(b"s", b"INSERT INTO other VALUES ($1)")
        for value in (b"101", b"102"):
            sent += bind(b"", b"s", [value]) + execute()
        assert not client.ask(sent + SYNC).is_refused
        denied = parse(b"d", b"DELETE FROM victim WHERE id = $1") + bind(b"", b"d", [b"1"]) + execute()
        assert client.ask(denied + SYNC).is_refused
    mine = [e for e in gate.entries() if e.get("who", {}).get("sub") == "binder"]
    intents = [e for e in mine if e["kind"] == "intent" and e["op"]["name"] == "INSERT"]
    assert len(intents) == 2
    assert len({e["params"]["commit"] for e in intents}) == 2
    assert any(e["kind"] == "deny" for e in mine)


def test_pgw_020_a_parameter_that_is_run_as_sql_leaks_nothing(client: PgClient) -> None:
    client.extended("SELECT query_to_xml($1,true,true,'')", [b"select secret from victim"], types=[25])
    assert SENTINEL.encode() not in client.received


def test_pgw_022_a_denial_is_delivered_on_flush_and_skips_until_sync(client: PgClient) -> None:
    client.send(parse(b"", DELETE) + FLUSH)
    assert client.read_until(b"E").errors[0]["C"] == "42501"
    client.send(bind(b"", b"") + execute() + SYNC)
    assert client.read_reply().kinds == b"Z"


# --- transactions -----------------------------------------------------------------------------------------------------


def test_pgw_023_a_denial_inside_a_transaction_fails_the_whole_of_it(client: PgClient, peer: Peer) -> None:
    assert client.query("BEGIN").status == "T"
    assert client.query("INSERT INTO other VALUES (23)").status == "T"
    denied = client.query(DELETE)
    assert denied.closed or denied.status == "E"
    if not denied.closed:
        assert client.query("SELECT 1").errors[0]["C"] == "25P02"
        assert client.query("COMMIT").tags == ["ROLLBACK"]
    assert peer.psql("SELECT count(*) FROM other WHERE id = 23", "wire") == "0"


def test_a_denial_in_an_extended_transaction_fails_it_too(client: PgClient, peer: Peer) -> None:
    client.query("BEGIN")
    client.extended("INSERT INTO other VALUES (24)")
    denied = client.ask(parse(b"", DELETE) + bind(b"", b"") + execute() + SYNC)
    assert denied.closed or denied.status == "E"
    if not denied.closed:
        assert client.query("COMMIT").tags == ["ROLLBACK"]
    assert peer.psql("SELECT count(*) FROM other WHERE id = 24", "wire") == "0"


# --- negotiation and startup ------------------------------------------------------------------------------------------


def test_pgw_027_gssenc_requests_are_refused_and_counted(gate: Gateway) -> None:
    got = raw(gate, pg.GSSENC_REQUEST * 1000)
    assert set(got) <= set(b"N") or b"E" in got
    assert got.count(b"N") < 20


def test_bytes_behind_an_ssl_request_are_refused(gate: Gateway) -> None:
    """CVE-2021-23214: what is buffered behind the request was not sent under TLS."""
    token = gate.token()
    stuffed = pg.SSL_REQUEST + pg.startup({"user": "me", "database": "wire"}) + pg.packet(b"p", token.encode() + b"\0")
    got = raw(gate, stuffed)
    assert b"Z\0\0\0\x05" not in got


@pytest.mark.parametrize(
    "settings",
    [
        "-c role=postgres",
        "-c standard_conforming_strings=off",
        "-c search_path=evil",
        "-c session_preload_libraries=x",
        "-c client_encoding=SJIS",
    ],
)
def test_pgw_033_startup_options_that_change_meaning_are_refused(gate: Gateway, settings: str) -> None:
    with pytest.raises((ServerError, Closed)):
        gate.connect("wire", options=settings)


@pytest.mark.parametrize(
    "name", ["role", "session_authorization", "standard_conforming_strings", "search_path", "replication"]
)
def test_pgw_033_settings_beside_the_allowed_ones_are_refused(gate: Gateway, name: str) -> None:
    with pytest.raises((ServerError, Closed)):
        gate.connect("wire", **{name: "true"})


@pytest.mark.parametrize(
    "body",
    [
        b"user\0a\0user\0b\0database\0wire\0\0",
        b"user\0a\0database\0wire\0",
        b"user\0a\0database\0",
        b"\0trailing",
        b"user\0" + b"a" * 20000 + b"\0\0",
    ],
    ids=["twice", "no end", "no value", "trailing", "long"],
)
def test_pgw_035_a_malformed_startup_is_refused(gate: Gateway, body: bytes) -> None:
    got = raw(gate, struct.pack("!II", len(body) + 8, pg.PROTOCOL_3_0) + body)
    assert not got or got[:1] == b"E"


def test_pgw_035_a_huge_startup_is_not_waited_for(gate: Gateway) -> None:
    before = gate.resident_bytes()
    got = raw(gate, struct.pack("!II", 10 << 20, pg.PROTOCOL_3_0) + b"user\0" + b"a" * (1 << 20))
    assert not got or got[:1] == b"E"
    assert gate.resident_bytes() - before < 4 << 20


def test_pgw_036_old_protocols_are_refused_and_newer_minors_negotiated(gate: Gateway) -> None:
    assert raw(gate, struct.pack("!II", 8, 2 << 16))[:1] == b"E"
    with PgClient(gate.host, gate.port) as client:
        client.send(pg.startup({"user": "me", "database": "wire", "_pq_.nonsense": "1"}, version=(3 << 16) | 9999))
        message = client.read_message()
        assert message.tag == b"v"
        newest, count = struct.unpack_from("!II", message.body)
        assert newest & 0xFFFF < 9999
        assert count == 1
        assert b"_pq_.nonsense\0" in message.body


def test_pgw_048_an_impossible_password_message_is_refused(gate: Gateway) -> None:
    start = pg.startup({"user": "me", "database": "wire"})
    for body in (struct.pack("!I", 0xFFFFFFFF), struct.pack("!I", 3), struct.pack("!I", 1 << 30) + b"SCRAM-SHA-256\0"):
        got = raw(gate, start + b"p" + body)
        assert b"Z\0\0\0\x05" not in got


@pytest.mark.parametrize("password", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "\x01" * 40000])
def test_a_bad_token_is_refused_with_an_error_of_the_protocol(gate: Gateway, password: str) -> None:
    with PgClient(gate.host, gate.port) as client, pytest.raises((ServerError, Closed)) as refused:
        client.login(user="me", database="wire", password=password)
    if isinstance(refused.value, ServerError):
        assert refused.value.fields["C"].startswith("28")
        assert "Traceback" not in str(refused.value.fields)


def test_an_unknown_connection_is_refused(gate: Gateway) -> None:
    with pytest.raises((ServerError, Closed)):
        gate.connect("no-such-thing")


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_pgw_039_the_client_never_sees_the_targets_cancel_key(client: PgClient, peer: Peer) -> None:
    upstream = {int(pid) for pid in peer.psql("SELECT pid FROM pg_stat_activity WHERE datname = 'wire'").split()}
    assert struct.unpack_from("!I", client.cancel_key)[0] not in upstream


def test_a_cancel_ends_the_running_statement(gate: Gateway) -> None:
    with gate.connect("wire") as client:
        # Long without a function that policy would refuse: a cross join that nobody waits out.
        client.send(query(b"SELECT count(*) FROM pg_class a, pg_class b, pg_class c, pg_class d"))
        time.sleep(0.5)
        client.cancel()
        assert client.read_reply().errors[0]["C"] == "57014"
        assert client.query("SELECT 1").rows == [(b"1",)]


def test_pgw_040_a_late_cancel_hits_nothing(gate: Gateway) -> None:
    with gate.connect("wire") as first, gate.connect("wire") as second:
        assert first.query("SELECT 1").rows
        first.cancel()
        assert second.query("SELECT 2").rows == [(b"2",)]
        time.sleep(0.2)
        assert first.query("SELECT 3").rows == [(b"3",)]


def test_a_guessed_cancel_key_hits_nothing(gate: Gateway) -> None:
    with gate.connect("wire") as client:
        client.send(query(b"SELECT count(*) FROM pg_class a, pg_class b, generate_series(1, 20)"))
        wrong = client.cancel_key[:4] + bytes(byte ^ 1 for byte in client.cancel_key[4:])
        client.cancel(wrong)
        assert not client.read_reply().errors


# --- copy -------------------------------------------------------------------------------------------------------------


def test_pgw_041_copy_data_without_copy_does_no_harm(client: PgClient) -> None:
    client.send(query(b"SELECT 1") + pg.copy_data(b"1\n") + pg.COPY_DONE)
    first = client.read_reply()
    if first.closed:
        return
    reply = client.query("SELECT 2")
    assert reply.closed or reply.rows == [(b"2",)]


def test_copy_in_and_out_pass(client: PgClient, peer: Peer) -> None:
    client.send(query(b"COPY other FROM STDIN"))
    client.read_until(b"G")
    client.send(b"".join(pg.copy_data(b"%d\n" % i) for i in range(500, 1000)) + pg.COPY_DONE)
    reply = client.read_reply()
    assert reply.tags == ["COPY 500"], reply
    assert peer.psql("SELECT count(*) FROM other WHERE id BETWEEN 500 AND 999", "wire") == "500"
    assert len(client.query("COPY (SELECT id FROM other WHERE id >= 500) TO STDOUT").copied.split()) >= 500


def test_pgw_043_a_value_across_chunks_is_masked(client: PgClient, peer: Peer) -> None:
    peer.psql("DROP TABLE IF EXISTS wide; CREATE TABLE wide(pad text, body text)", "wire")
    # Detected, not protected: the number sits at every offset around the sizes of buffers.
    rows = ",".join(f"(repeat('x', {size}), 'ssn {SENTINEL} end')" for size in range(65490, 65560, 3))
    peer.psql(f"INSERT INTO wide VALUES {rows}", "wire")
    deadline = time.monotonic() + 30
    reply = client.query("COPY wide TO STDOUT")
    while reply.errors and time.monotonic() < deadline:  # made elsewhere: known when the catalogue is read again
        time.sleep(0.5)
        reply = client.query("COPY wide TO STDOUT")
    client.query("SELECT * FROM wide")
    client.query("COPY wide TO STDOUT (FORMAT binary)")
    assert SENTINEL.encode() not in client.received


# --- lying targets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stuffer", "no-signature", "forger", "bomber", "thief"])
def test_pgw_026_045_046_a_lying_target_is_hung_up_on(gate: Gateway, liars: dict[str, fakes.Fake], name: str) -> None:
    with pytest.raises((ServerError, Closed)) as refused:
        gate.connect(name)
    assert liars[name].dialled
    assert PASSWORD not in str(refused.value)


# --- many ------------------------------------------------------------------------------------------------------------


def test_pgw_050_slow_and_half_open_connections_starve_nobody(gate: Gateway) -> None:
    """Half-open connections, while a session goes on working: 150 of them, or as many as the corpus asks for (`make soak`)."""
    held: list[socket.socket] = []
    stop = threading.Event()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def drip() -> None:
        while not stop.wait(0.2):
            for sock in held:
                with contextlib.suppress(OSError):
                    sock.send(b"\0")

    with gate.connect("wire") as client:
        dripper = threading.Thread(target=drip)
        try:
            for _ in range(HALF_OPEN):
                with contextlib.suppress(OSError):
                    held.append(socket.create_connection((gate.host, gate.port), timeout=5))
            dripper.start()
            for _ in range(200):
                assert client.query("SELECT 1").rows == [(b"1",)]
        finally:
            stop.set()
            dripper.join()
            for sock in held:
                sock.close()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # the logins in the queue run out of time, then there is room again
        with contextlib.suppress(ServerError, Closed), gate.connect("wire") as client:
            client.query("SELECT 1")
            return
    raise AssertionError("nobody could log in after the flood was gone")
