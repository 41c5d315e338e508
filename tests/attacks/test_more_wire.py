"""Attacks on the wire beside the corpus's: names that change, answers that are not waited for, connections that end."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from ostiary.testing import pgclient as pg
from ostiary.testing.gateway import Gateway, gateway
from ostiary.testing.peers import Peer, postgres_cluster
from ostiary.testing.pgclient import (
    FLUSH,
    SYNC,
    TERMINATE,
    Closed,
    PgClient,
    Reply,
    ServerError,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
)
from tests.attacks.lab import PASSWORD, connections
from tests.attacks.logs import closes_every_intent
from tests.attacks.runner import HERE, SCHEMA

pytestmark = pytest.mark.timeout(120)

SECRET = b"violetharbor"
PLAIN = f"""
UPDATE victim SET secret = '{SECRET.decode()}';
CREATE TABLE numbers(id int); INSERT INTO numbers SELECT generate_series(1, 5);
"""
SHOW = b"SELECT secret FROM victim"
NAMES = b"SELECT name FROM victim"
DELETE = b"DELETE FROM victim"
PAUSE = 0.15
ORDERS = int(os.environ.get("OSTIARY_ORDERS", "120"))


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with postgres_cluster(auth="scram-sha-256", password=PASSWORD) as running:
        running.psql("CREATE DATABASE wire")
        running.psql(SCHEMA + PLAIN, "wire")
        yield running


@pytest.fixture(scope="module")
def gate(peer: Peer) -> Iterator[Gateway]:
    policy = (HERE / "profiles" / "pg-base.cedar").read_text()
    targets = connections(peer, ["wire"], detect=[])
    with gateway(connections=targets, policy=policy, secrets_by_name={"pg": PASSWORD}) as running:
        yield running


@pytest.fixture
def client(gate: Gateway) -> Iterator[PgClient]:
    with gate.connect("wire") as logged_in:
        yield logged_in
        assert SECRET not in logged_in.received


@pytest.fixture(autouse=True)
def victim_is_whole(peer: Peer) -> Iterator[None]:
    yield
    assert peer.psql("SELECT count(*), min(secret) FROM victim", "wire") == f"5|{SECRET.decode()}"


@pytest.fixture(autouse=True)
def gateway_still_serves(gate: Gateway) -> Iterator[None]:
    yield
    with gate.connect("wire") as next_one:
        assert next_one.query("SELECT 1").rows == [(b"1",)]


def directly(peer: Peer) -> PgClient:
    client = PgClient(peer.host, peer.port)
    client.login(user=peer.user, database="wire", password=peer.password)
    return client


def in_step(client: PgClient) -> None:
    client.query("ROLLBACK")
    reply = client.query("SELECT 4711")
    assert reply.kinds == b"TDCZ", (reply.kinds, reply.errors)
    assert reply.rows == [(b"4711",)]


def count(peer: Peer, number: int) -> int:
    return int(peer.psql(f"SELECT count(*) FROM other WHERE id = {number}", "wire"))


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_portal_bound_ahead_of_an_answer_is_there_for_a_late_execute(client: PgClient) -> None:
    """Segments fall where they like: ReadyForQuery of the first stretch must not take the second one's portal."""
    whole = parse(b"", b"SELECT 1") + bind(b"", b"") + execute() + SYNC
    client.send(whole + parse(b"", b"SELECT 2") + bind(b"", b""))
    assert client.read_reply().rows == [(b"1",)]
    time.sleep(PAUSE)
    client.send(execute() + SYNC)
    assert client.read_reply().rows == [(b"2",)]


def test_a_named_portal_bound_ahead_of_an_answer_is_there(client: PgClient) -> None:
    client.ask(parse(b"s", b"SELECT id FROM numbers ORDER BY 1") + SYNC)
    client.send(bind(b"a", b"s") + execute(b"a", 2) + SYNC + bind(b"b", b"s"))
    assert len(client.read_reply().rows) == 2
    time.sleep(PAUSE)
    client.send(execute(b"b", 1))
    time.sleep(PAUSE)
    client.send(execute(b"b", 0) + SYNC)
    assert len(client.read_reply().rows) == 5


def test_closing_a_portal_does_not_close_the_next_of_its_name(client: PgClient) -> None:
    client.ask(query(b"BEGIN"))
    client.ask(parse(b"s", b"SELECT id FROM numbers ORDER BY 1") + SYNC)
    client.send(bind(b"p", b"s") + execute(b"p", 1) + close(b"P", b"p") + bind(b"p", b"s") + FLUSH)
    client.read_until(b"3")
    client.read_until(b"2")
    client.send(execute(b"p", 1) + SYNC)
    assert client.read_reply().rows == [(b"1",)]


def test_closing_a_statement_does_not_close_the_next_of_its_name(client: PgClient) -> None:
    client.ask(parse(b"s", b"SELECT 1") + SYNC)
    client.send(close(b"S", b"s") + parse(b"s", b"SELECT 2") + FLUSH)
    client.read_until(b"1")
    client.send(bind(b"", b"s") + execute() + SYNC)
    assert client.read_reply().rows == [(b"2",)]


@pytest.mark.parametrize("broken", [b"SELECT nothing_here", b"SELECT 1 +", b"DELETE FROM victim"])
def test_a_skipped_redefinition_leaves_the_old_meaning_masked(client: PgClient, broken: bytes) -> None:
    """Close and Parse behind an error never happened: what runs is the first text, and it is masked as such."""
    client.ask(parse(b"s", SHOW) + SYNC)
    client.send(parse(b"x", broken) + close(b"S", b"s") + parse(b"s", NAMES) + SYNC)
    assert client.read_reply().kinds == b"EZ"
    reply = client.ask(bind(b"", b"s") + execute() + SYNC)
    assert len(reply.rows) == 5
    assert reply.rows[0] != (b"n1",)
    in_step(client)


def test_a_skipped_redefinition_is_not_believed_while_it_is_under_way(client: PgClient) -> None:
    client.ask(parse(b"s", SHOW) + SYNC)
    client.send(
        parse(b"x", b"SELECT 1/0") + bind(b"", b"x") + execute() + close(b"S", b"s") + parse(b"s", NAMES) + SYNC
        + bind(b"", b"s") + execute() + SYNC
    )  # fmt: skip
    client.read_reply()
    assert client.read_reply().rows[0] != (b"n1",)
    in_step(client)


def test_a_name_taken_twice_keeps_its_first_meaning(client: PgClient) -> None:
    client.ask(parse(b"s", SHOW) + SYNC)
    assert client.ask(parse(b"s", NAMES) + SYNC).errors[0]["C"] == "42P05"
    assert client.ask(bind(b"", b"s") + execute() + SYNC).rows[0] != (b"n1",)
    client.send(parse(b"s", NAMES) + SYNC + bind(b"", b"s") + execute() + SYNC)
    client.read_reply()
    assert client.read_reply().rows[0] != (b"n1",)


def test_a_portal_keeps_the_statement_that_it_was_bound_to(client: PgClient) -> None:
    client.query("BEGIN")
    client.ask(parse(b"s", SHOW) + bind(b"p", b"s") + SYNC)
    client.ask(close(b"S", b"s") + parse(b"s", NAMES) + SYNC)
    assert client.ask(execute(b"p") + SYNC).rows[0] != (b"n1",)


def test_names_of_sql_and_of_the_protocol_are_one_namespace(client: PgClient) -> None:
    client.query("PREPARE s AS SELECT secret FROM victim")
    client.ask(bind(b"", b"s") + execute() + SYNC)
    in_step(client)
    client.query("DEALLOCATE s")
    client.ask(parse(b"s", NAMES) + SYNC)
    client.query("DEALLOCATE s; PREPARE s AS SELECT secret FROM victim")
    client.ask(bind(b"", b"s") + execute() + SYNC)
    in_step(client)
    client.ask(parse(b"t", SHOW) + SYNC)
    client.query("EXECUTE t")
    client.query("DISCARD ALL; PREPARE t AS SELECT secret FROM victim")
    client.ask(bind(b"", b"t") + execute() + SYNC)
    in_step(client)


def test_cursors_of_sql_and_portals_are_one_namespace(client: PgClient) -> None:
    client.query("BEGIN; DECLARE c CURSOR FOR SELECT secret FROM victim")
    client.ask(describe(b"P", b"c") + execute(b"c") + SYNC)
    client.query("ROLLBACK")
    client.query("BEGIN")
    client.ask(parse(b"s", SHOW) + bind(b"p", b"s") + SYNC)
    client.query("FETCH ALL FROM p")
    in_step(client)


def test_the_unnamed_statement_ends_with_a_simple_query(client: PgClient) -> None:
    client.ask(parse(b"", b"SELECT 1") + SYNC)
    client.query("SELECT 2")
    reply = client.ask(bind(b"", b"") + execute() + SYNC)
    assert reply.errors[0]["C"] == "26000"
    in_step(client)


# --- extended: masking -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [(), (0,), (1,), (1, 0), (0, 1)])
def test_rows_are_masked_without_describe_in_every_format(client: PgClient, form: tuple[int, ...]) -> None:
    whole = parse(b"", b"SELECT id, secret FROM victim") + bind(b"", b"", results=form) + execute() + SYNC
    assert len(client.ask(whole).rows) == 5


def test_a_suspended_portal_is_masked_to_its_end_and_is_one_operation(gate: Gateway) -> None:
    with gate.connect("wire", token=gate.token("slow-reader")) as client:
        client.query("BEGIN")
        first = client.ask(parse(b"s", SHOW) + bind(b"p", b"s") + execute(b"p", 1) + SYNC)
        assert first.kinds == b"12DsZ"
        for _ in range(2):
            assert client.ask(execute(b"p", 1) + SYNC).kinds == b"DsZ"
        assert client.ask(execute(b"p", 0) + SYNC).kinds.replace(b"N", b"") == b"DDCZ"
        client.query("COMMIT")
        assert SECRET not in client.received
    closes_every_intent(gate)
    mine = [e for e in gate.entries() if e.get("who", {}).get("sub") == "slow-reader"]
    shown = [e["id"] for e in mine if e["kind"] == "intent" and e["op"]["name"] == "SELECT"]
    assert len(shown) == 1


def test_a_describe_of_a_portal_and_of_a_statement_do_not_unmask(client: PgClient) -> None:
    whole = (
        parse(b"s", SHOW)
        + describe(b"S", b"s")
        + bind(b"p", b"s", results=(1,))
        + describe(b"P", b"p")
        + execute(b"p")
        + SYNC
    )
    assert client.ask(whole).kinds.replace(b"N", b"") == b"1tT2TDDDDDCZ"


@pytest.mark.parametrize(("options", "reader"), [
    ("FORMAT csv, QUOTE 'v', ESCAPE 'o'", {"quotechar": "v", "escapechar": "o", "doublequote": False}),
    ("FORMAT csv, QUOTE 'o'", {"quotechar": "o"}),
    ("FORMAT csv, FORCE_QUOTE *, DELIMITER 'i'", {"delimiter": "i"}),
])  # fmt: skip
def test_no_csv_dialect_hides_the_value_from_masking(client: PgClient, options: str, reader: dict[str, str]) -> None:
    copied = client.query(f"COPY victim TO STDOUT ({options})").copied.decode()
    assert SECRET.decode() not in "".join("".join(row) for row in csv.reader(io.StringIO(copied), **reader))  # type: ignore[arg-type]


# --- refusals in pipelines -------------------------------------------------------------------------------------------


def test_a_refusal_undoes_its_stretch_and_not_the_next(client: PgClient, peer: Peer) -> None:
    def insert(number: int) -> bytes:
        return parse(b"", b"INSERT INTO other VALUES (%d)" % number) + bind(b"", b"") + execute()

    denied = parse(b"", DELETE) + bind(b"", b"") + execute()
    client.send(insert(801) + SYNC + insert(802) + denied + insert(803) + SYNC + insert(804) + SYNC)
    kinds = [client.read_reply().kinds for _ in range(3)]
    assert kinds == [b"12CZ", b"12CEZ", b"12CZ"]
    assert [count(peer, n) for n in (801, 802, 803, 804)] == [1, 0, 0, 1]


def test_a_refused_bind_undoes_its_stretch(client: PgClient, peer: Peer) -> None:
    client.ask(parse(b"i", b"INSERT INTO other VALUES (811)") + SYNC)
    client.send(bind(b"", b"i") + execute() + bind(b"", b"no such statement") + execute() + SYNC)
    assert client.read_reply().kinds == b"2CEZ"
    assert count(peer, 811) == 0


def test_a_refused_query_behind_an_open_stretch_undoes_it(client: PgClient, peer: Peer) -> None:
    client.send(parse(b"", b"INSERT INTO other VALUES (821)") + bind(b"", b"") + execute() + query(DELETE))
    reply = client.read_reply()
    assert reply.errors
    assert count(peer, 821) == 0
    in_step(client)


def test_a_refused_function_call_leaves_the_session_in_step(client: PgClient) -> None:
    assert client.ask(pg.function_call(1598, [])).is_refused
    in_step(client)
    client.query("BEGIN")
    client.ask(pg.function_call(1598, []))
    in_step(client)


def test_many_refusals_without_waiting_are_each_answered(client: PgClient) -> None:
    client.send(query(DELETE) * 200 + query(b"SELECT 7"))
    replies = [client.read_reply() for _ in range(201)]
    assert all(reply.kinds == b"EZ" for reply in replies[:200])
    assert replies[200].rows == [(b"7",)]


def test_refusals_and_answers_alternate_in_order(client: PgClient) -> None:
    client.send(b"".join(query(b"SELECT %d" % i) + query(DELETE) for i in range(50)))
    for i in range(50):
        assert client.read_reply().rows == [(b"%d" % i,)]
        assert client.read_reply().kinds == b"EZ"


# --- COPY ------------------------------------------------------------------------------------------------------------


def rows_of(number: int, times: int = 3) -> bytes:
    return pg.copy_data(b"%d\n" % number * times)


def test_copy_data_may_come_ahead_of_the_answer(client: PgClient, peer: Peer) -> None:
    client.send(query(b"COPY other FROM STDIN") + rows_of(901) + pg.COPY_DONE + query(b"SELECT 1"))
    assert client.read_reply().tags == ["COPY 3"]
    assert client.read_reply().rows == [(b"1",)]
    assert count(peer, 901) == 3


def test_copy_in_the_extended_protocol(client: PgClient, peer: Peer) -> None:
    client.send(parse(b"", b"COPY other FROM STDIN") + bind(b"", b"") + execute() + SYNC)
    client.read_until(b"G")
    client.send(rows_of(902) + pg.COPY_DONE + SYNC)
    assert client.read_reply().tags == ["COPY 3"]
    assert count(peer, 902) == 3
    in_step(client)


def test_two_copies_in_one_query(client: PgClient, peer: Peer) -> None:
    client.send(query(b"COPY other FROM STDIN; COPY other FROM STDIN; SELECT 5"))
    client.read_until(b"G")
    client.send(rows_of(903) + pg.COPY_DONE)
    client.read_until(b"G")
    client.send(rows_of(904) + pg.COPY_DONE)
    reply = client.read_reply()
    assert reply.rows == [(b"5",)]
    assert (count(peer, 903), count(peer, 904)) == (3, 3)


def test_a_failed_copy_swallows_the_data_that_is_under_way(client: PgClient, peer: Peer) -> None:
    client.send(query(b"COPY other FROM STDIN"))
    client.read_until(b"G")
    client.send(rows_of(905) + pg.copy_data(b"not a number\n") + rows_of(905) * 50 + pg.COPY_DONE)
    assert client.read_reply().errors[0]["C"] == "22P02"
    assert count(peer, 905) == 0
    in_step(client)


def test_copy_fail_ends_it(client: PgClient, peer: Peer) -> None:
    client.send(query(b"COPY other FROM STDIN") + rows_of(906) + pg.copy_fail(b"no"))
    assert client.read_reply().errors[0]["C"] == "57014"
    assert count(peer, 906) == 0
    in_step(client)


def test_data_for_a_refused_copy_is_swallowed_or_ends_the_session(client: PgClient) -> None:
    client.send(query(b"COPY victim FROM STDIN") + rows_of(9) + pg.COPY_DONE)
    assert client.read_reply().errors[0]["C"] == "42501"
    with contextlib.suppress(Closed):
        reply = client.query("SELECT 1")
        assert reply.closed or reply.rows == [(b"1",)]


def test_a_query_hidden_in_copy_data_is_data(client: PgClient, peer: Peer) -> None:
    client.send(query(b"COPY other FROM STDIN"))
    client.read_until(b"G")
    client.send(pg.copy_data(query(DELETE)) + pg.COPY_DONE)
    assert client.read_reply().errors
    in_step(client)


def test_leaving_in_the_middle_of_a_copy_is_recorded(gate: Gateway, peer: Peer) -> None:
    client = gate.connect("wire", token=gate.token("leaver"))
    client.send(query(b"COPY other FROM STDIN"))
    client.read_until(b"G")
    client.send(rows_of(907))
    client.vanish()
    closes_every_intent(gate)
    assert count(peer, 907) == 0


# --- order and ends --------------------------------------------------------------------------------------------------


def test_leaving_without_sync_commits_nothing(gate: Gateway, peer: Peer) -> None:
    client = gate.connect("wire", token=gate.token("hasty"))
    client.send(parse(b"", b"INSERT INTO other VALUES (1001)") + bind(b"", b"") + execute() + TERMINATE)
    client.sock.close()
    closes_every_intent(gate)
    time.sleep(PAUSE)
    assert count(peer, 1001) == 0


def test_a_query_before_leaving_runs_and_is_recorded(gate: Gateway, peer: Peer) -> None:
    client = gate.connect("wire", token=gate.token("brisk"))
    client.send(query(b"INSERT INTO other VALUES (1002)") + TERMINATE)
    with contextlib.suppress(Closed):
        client.read_reply()
    client.sock.close()
    closes_every_intent(gate)
    mine = [e for e in gate.entries() if e["kind"] == "intent" and e.get("who", {}).get("sub") == "brisk"]
    assert len(mine) == count(peer, 1002) == 1


def test_what_comes_after_terminate_is_ignored(gate: Gateway, peer: Peer) -> None:
    client = gate.connect("wire")
    client.send(TERMINATE + query(b"INSERT INTO other VALUES (1003)"))
    assert client.read_reply().closed
    client.sock.close()
    assert count(peer, 1003) == 0


def test_half_a_message_does_nothing(gate: Gateway, peer: Peer) -> None:
    whole = query(b"INSERT INTO other VALUES (1004)")
    for cut in (1, 4, 5, len(whole) - 1):
        client = gate.connect("wire")
        client.send(whole[:cut])
        client.sock.shutdown(socket.SHUT_WR)
        assert client.read_reply().closed
        client.sock.close()
    assert count(peer, 1004) == 0


def test_flush_brings_answers_before_sync(client: PgClient) -> None:
    client.send(parse(b"", b"SELECT 1") + bind(b"", b"") + execute() + FLUSH)
    assert client.read_until(b"C").rows == [(b"1",)]
    client.send(SYNC)
    assert client.read_reply().kinds == b"Z"


@pytest.mark.parametrize(
    "message",
    [
        pg.packet(b"P", b"name without end"),
        pg.packet(b"P", b"\0SELECT 1\0" + struct.pack("!H", 65535)),
        pg.packet(b"P", b"\0SELECT 1; DELETE FROM victim\0\0\0" + DELETE),
        pg.packet(b"B", b"\0\0" + struct.pack("!HH", 0, 65535)),
        pg.packet(b"B", b"\0\0" + struct.pack("!HHi", 0, 1, -2) + struct.pack("!H", 0)),
        pg.packet(b"B", b"\0\0" + struct.pack("!HHI", 0, 1, 0x7FFFFFFF)),
        pg.packet(b"B", b"\0\0\0\0\0\0\0\0" + b"extra"),
        pg.packet(b"D", b"X\0"),
        pg.packet(b"D", b""),
        pg.packet(b"C", b"S"),
        pg.packet(b"E", b"\0\0\0"),
        pg.packet(b"E", b"portal without end"),
        pg.packet(b"S", b"extra"),
        pg.packet(b"H", b"extra"),
        pg.packet(b"F", b"\0\0"),
        pg.packet(b"p", b"a password, again\0"),
        b"Q\x7f\xff\xff\xff",
        b"P\xff\xff\xff\xff",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        bytes(1024),
    ],
    ids=lambda message: repr(message[:12]),
)
def test_a_malformed_message_does_nothing(gate: Gateway, message: bytes) -> None:
    with gate.connect("wire") as client:
        client.sock.settimeout(3)
        reply = client.ask(message + SYNC + query(b"SELECT 1"))
        assert reply.closed or reply.errors, reply.kinds
        assert b"Traceback" not in client.received


def test_an_impossible_length_reserves_no_memory(gate: Gateway) -> None:
    before = gate.resident_bytes()
    held = [gate.connect("wire") for _ in range(10)]
    for client in held:
        client.send(b"d" + struct.pack("!I", 0x7FFFFFF0) + b"x" * 4096)
        client.send(b"Q" + struct.pack("!I", 63 << 20) + b"x" * 4096)
    time.sleep(PAUSE)
    assert gate.resident_bytes() - before < 64 << 20
    for client in held:
        client.sock.close()


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_requests_that_fit_nobody_do_nothing(gate: Gateway) -> None:
    with gate.connect("wire") as client:
        for body in (b"", b"\0" * 4, client.cancel_key[:4], client.cancel_key + b"x" * 300, bytes(8), b"\xff" * 8):
            with socket.create_connection((gate.host, gate.port), timeout=5) as other:
                other.sendall(struct.pack("!II", len(body) + 8, 80877102) + body)
                with contextlib.suppress(OSError):
                    assert other.recv(100)[:1] in (b"", b"E")
        in_step(client)


def test_nobody_cancels_anothers_statement(gate: Gateway) -> None:
    with gate.connect("wire") as mine, gate.connect("wire") as yours:
        yours.send(query(b"SELECT count(*) FROM pg_class a, pg_class b, generate_series(1, 5)"))
        for _ in range(20):
            mine.cancel()
            mine.cancel(mine.cancel_key[:4] + yours.cancel_key[4:])
            mine.cancel(yours.cancel_key[:4] + mine.cancel_key[4:])
        assert not yours.read_reply().errors
        in_step(mine)


def test_a_cancel_that_comes_before_the_statement_hits_nothing_later(gate: Gateway) -> None:
    with gate.connect("wire") as client:
        for _ in range(10):
            client.cancel()
            assert client.query("SELECT 1").rows == [(b"1",)]


# --- login -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bend", [
    lambda t: t + "\n", lambda t: " " + t, lambda t: "Bearer " + t, lambda t: t + ".", lambda t: t[:-1], lambda t: t + "A",
    lambda t: t.replace(".", "%2E"), lambda t: t.swapcase(), lambda t: ".".join(t.split(".")[:2]) + ".", lambda t: t + "=" * 2,
    lambda t: t.split(".")[1], lambda t: "\ufeff" + t, lambda t: t.replace(".", "\uff0e"), lambda t: t[::-1],
    lambda t: "=.".join(t.split(".")), lambda t: t + "\t", lambda t: t + "," + t,
])  # fmt: skip
def test_a_bent_token_does_not_log_in(gate: Gateway, bend: object) -> None:
    with PgClient(gate.host, gate.port) as client, pytest.raises((ServerError, Closed)):
        client.login(user="me", database="wire", password=bend(gate.token()))  # type: ignore[operator]


@pytest.mark.parametrize("first", [
    query(b"SELECT 1"), SYNC, parse(b"", b"SELECT 1") + SYNC, pg.COPY_DONE, pg.function_call(1, []), TERMINATE,
    pg.packet(b"p", b""), pg.packet(b"p", b"no end"), pg.packet(b"p", b"a\0b\0"), pg.packet(b"p", b"\0"), pg.SSL_REQUEST,
])  # fmt: skip
def test_nothing_is_asked_before_the_login_is_over(gate: Gateway, first: bytes) -> None:
    with PgClient(gate.host, gate.port, timeout=5) as client:
        client.send(pg.startup({"user": "me", "database": "wire"}))
        assert client.read_message().tag == b"R"
        client.send(first)
        with contextlib.suppress(Closed):
            client.send(pg.packet(b"p", gate.token().encode() + b"\0") + query(b"SELECT 1"))
        reply = client.read_reply()
        assert not reply.rows
        assert b"S" not in reply.kinds


def test_a_query_pipelined_with_the_password_is_judged(gate: Gateway) -> None:
    with PgClient(gate.host, gate.port) as client:
        client.send(pg.startup({"user": "me", "database": "wire"}))
        client.read_message()
        client.send(pg.packet(b"p", gate.token().encode() + b"\0") + query(DELETE) + query(b"SELECT 3"))
        first = client.read_until(b"Z")  # to wait for the answer is asked of clients; who does is judged
        assert first.closed or client.read_reply().errors[0]["C"] == "42501"


@pytest.mark.parametrize("request_", [
    struct.pack("!II", 8, 80877105), struct.pack("!II", 9, 80877103) + b"x", struct.pack("!II", 4, 80877103),
    pg.SSL_REQUEST * 2 + pg.GSSENC_REQUEST * 2, struct.pack("!II", 8, 0), struct.pack("!II", 8, 4 << 16), struct.pack("!II", 7, 3),
])  # fmt: skip
def test_an_odd_first_packet_is_refused(gate: Gateway, request_: bytes) -> None:
    with socket.create_connection((gate.host, gate.port), timeout=5) as sock:
        sock.sendall(request_ + pg.packet(b"p", gate.token().encode() + b"\0"))
        got = b""
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            while more := sock.recv(4096):
                got += more
    assert b"Z\0\0\0\x05" not in got


# --- everything at once ----------------------------------------------------------------------------------------------

TEXTS = (
    b"SELECT 1", b"SELECT id FROM numbers ORDER BY id", b"INSERT INTO other VALUES (5000)", b"SELECT 1/0", b"", b"SELECT 1; SELECT 2",
    b"SELECT nothing_here", b"SHOW server_version", b"COPY numbers TO STDOUT", b"VALUES (1), (2)", b"SELECT $1::int", b"SELECT 1 WHERE false",
    b"SET application_name = 'a'", b"UPDATE other SET id = id WHERE false",
)  # fmt: skip
QUERIES = (
    *TEXTS[:4],
    b"",
    b";",
    b"SELECT 1; SELECT 1/0; SELECT 2",
    b"BEGIN",
    b"COMMIT",
    b"ROLLBACK",
    b"SAVEPOINT a",
    b"COPY numbers TO STDOUT",
)

ALIKE = {"42501": "refused", "42P01": "refused", "25P02": "refused", "26000": "unbound", "08P01": "unbound"}
"""A refusal comes before the target looks whether its transaction has failed, or whether the values fit."""


def dealt(dice: random.Random, refused: bytes) -> list[bytes]:
    """Messages as no driver would send them; `refused` is the one text that is not permitted."""
    names = (b"", b"", b"a", b"b")
    texts, queries = (*TEXTS, refused), (*QUERIES, refused)
    out = []
    for _ in range(dice.randint(1, 25)):
        match dice.randint(0, 12):
            case 0 | 1:
                out.append(query(dice.choice(queries)))
            case 2 | 3 | 4:
                out.append(parse(dice.choice(names), dice.choice(texts)))
            case 5 | 6:
                results = dice.choice([(), (0,), (1,)])
                out.append(
                    bind(dice.choice(names), dice.choice(names), dice.choice([(), (), (b"3",)]), results=results)
                )
            case 7 | 8:
                out.append(execute(dice.choice(names), dice.choice([0, 0, 1, 2])))
            case 9:
                out.append(describe(dice.choice([b"S", b"P"]), dice.choice(names)))
            case 10:
                out.append(close(dice.choice([b"S", b"P"]), dice.choice(names)))
            case 11:
                out.append(SYNC)
            case _:
                name = dice.choice(names)
                out.append(
                    parse(name, dice.choice(texts)) + bind(name, name) + describe(b"P", name) + execute(name) + SYNC
                )
    return [*out, SYNC]


def answers(client: PgClient, pieces: list[bytes], *, pause: float) -> list[tuple[bytes, object]]:
    """Send piece by piece, then read everything up to the answer of a last question."""
    for piece in pieces:
        client.send(piece)
        if pause:
            time.sleep(pause)
    client.send(query(b"ROLLBACK") + query(b"SELECT 'the end' AS the_end"))
    reply = Reply()
    while not (
        reply.messages
        and reply.messages[-1].tag == b"Z"
        and b"the end" in b"".join(m.body for m in reply.messages[-4:])
    ):
        reply.messages.append(client.read_message())
    said: list[tuple[bytes, object]] = []
    for message in reply.messages:
        if message.tag == b"E":
            code = message.error_fields()["C"]
            said.append((b"E", ALIKE.get(code, code)))
        elif message.tag != b"N":
            said.append((message.tag, message.body))
    return said


@pytest.mark.parametrize("turn", range(12))
def test_a_statement_bound_behind_the_sync_of_its_parse_is_answered_whether_the_log_or_the_target_is_first(
    gate: Gateway, turn: int
) -> None:
    """Each Bind waits for the answer to a Parse of an earlier stretch; the second's may come while the first's intent is written."""
    del turn
    stretches = [
        parse(b"a", b"SHOW server_version") + bind(b"a", b"a") + describe(b"P", b"a") + execute(b"a") + SYNC,
        parse(b"", b"UPDATE other SET id = id WHERE false") + bind(b"", b"") + describe(b"P", b"") + execute(b"") + SYNC,
        bind(b"", b"a", results=(1,)) + bind(b"b", b"") + bind(b"", b"", results=(1,)) + SYNC,
    ]
    with gate.connect("wire") as client:
        client.sock.settimeout(6)
        tags = [tag for tag, _ in answers(client, [b"".join(stretches)], pause=0)]
    assert b"".join(tags) == b"12TDCZ" + b"12nCZ" + b"222Z" + b"CZ" + b"TDCZ"


@pytest.mark.parametrize("seed", range(ORDERS))
def test_any_order_of_messages_is_answered_as_the_target_would(gate: Gateway, peer: Peer, seed: int) -> None:
    dice = random.Random(seed)
    messages = dealt(dice, DELETE)
    plainly = dealt(random.Random(seed), b"TABLE nothing_here")
    pause = 0.004 if seed % 3 == 0 else 0
    pieces = messages
    if seed % 3 == 1:  # cut anywhere
        whole = b"".join(messages)
        cuts = sorted(dice.randrange(len(whole)) for _ in range(6))
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        pause = 0.01
    elif seed % 3 == 2:
        pieces = [b"".join(messages)]
    with directly(peer) as straight:
        expected = answers(straight, [b"".join(plainly)], pause=0)
    with gate.connect("wire") as client:
        client.sock.settimeout(6)
        got = answers(client, pieces, pause=pause)
    assert [tag for tag, _ in got] == [tag for tag, _ in expected], (got, expected)
    assert got == expected


def test_each_intent_has_one_outcome_that_fits_it(gate: Gateway) -> None:
    words = {"INSERT", "SELECT", "BEGIN", "UPDATE", "SHOW", "SET", "COPY"}
    with gate.connect("wire") as client:
        for asked in (
            "BEGIN", "SET work_mem = '5MB'", "SHOW work_mem", "INSERT INTO numbers VALUES (6)", "UPDATE numbers SET id = 7 WHERE id = 6",
            "SELECT id FROM numbers", "COPY numbers TO STDOUT", "ROLLBACK",
        ):  # fmt: skip
            client.query(asked)
    closes_every_intent(gate)
    entries = gate.entries()
    intents = {e["id"]: e for e in entries if e["kind"] == "intent"}
    compared = set()
    for outcome in (e for e in entries if e["kind"] == "outcome"):
        name, tag = intents[outcome["ref"]]["op"]["name"], outcome["result"].get("tag", "")
        if tag and name in words:
            assert tag.startswith(name), (name, outcome)
            compared.add(name)
    assert compared == words
