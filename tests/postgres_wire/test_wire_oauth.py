"""SASL OAUTHBEARER (RFC 7628): a client with a token is let in, one without is told where to get it, and nothing else is understood."""

from __future__ import annotations

import json
import struct

import pytest

from ostiary.model.errors import NotAdmitted, OstiaryError, PeerMisbehaved, Reason
from ostiary.protocols.postgres import login
from ostiary.testing import pgclient as pg
from ostiary.testing.gateway import gateway, target

DISCOVERY = "https://gw/.well-known/openid-configuration"
GOOD = b"n,,\x01auth=Bearer a.b.c\x01\x01"


def startup(user: str = "oauth") -> bytes:
    return pg.startup({"user": user, "database": "orders-db"})


def initial(data: bytes | None, mechanism: bytes = b"OAUTHBEARER") -> bytes:
    body = struct.pack("!i", -1) if data is None else struct.pack("!I", len(data)) + data
    return pg.packet(b"p", mechanism + b"\0" + body)


def server(discovery: str = DISCOVERY) -> login.ServerLogin:
    return login.ServerLogin(address="127.0.0.1:1", offers_tls=False, allows_clear=True, discovery=discovery)


def asked(user: str = "oauth", discovery: str = DISCOVERY) -> tuple[login.ServerLogin, bytes]:
    ours = server(discovery)
    step = ours.receive(startup(user))
    assert isinstance(step, login.Reply)
    return ours, step.data


def test_a_client_that_names_itself_so_is_asked_for_a_bearer_token():
    _, reply = asked()
    assert reply[:1] == b"R"
    assert struct.unpack_from("!I", reply, 5) == (10,)
    assert reply[9:] == b"OAUTHBEARER\0\0"
    for other in (asked("ana")[1], asked(discovery="")[1]):
        assert struct.unpack_from("!I", other, 5) == (3,), "a password"


@pytest.mark.parametrize(
    "response",
    [
        GOOD,
        b"y,,\x01auth=Bearer a.b.c\x01\x01",
        b"n,,\x01auth=bearer a.b.c\x01\x01",
        b"n,,\x01host=gw\x01port=5432\x01auth=Bearer a.b.c\x01\x01",
    ],
)
def test_the_token_is_taken_as_a_password_would_be(response):
    ours, _ = asked()
    step = ours.receive(initial(response))
    assert isinstance(step, login.Present)
    assert (step.claims.token.reveal(), step.claims.connection, step.claims.said.user) == (
        "a.b.c",
        "orders-db",
        "oauth",
    )


def test_whoever_has_none_is_told_where_to_get_it_and_turned_away():
    ours, _ = asked()
    step = ours.receive(initial(b"n,,\x01auth=\x01\x01"))
    assert isinstance(step, login.Reply)
    assert struct.unpack_from("!I", step.data, 5) == (11,)
    told = json.loads(step.data[9:])
    assert (told["status"], told["openid-configuration"]) == ("invalid_token", DISCOVERY)
    with pytest.raises(NotAdmitted) as caught:
        ours.receive(pg.packet(b"p", b"\x01"))
    assert caught.value.reason is Reason.NO_TOKEN


@pytest.mark.parametrize("second", [b"", b"\x02", b"\x01\x01", GOOD])
def test_after_that_nothing_but_the_end_is_heard(second):
    ours, _ = asked()
    ours.receive(initial(b"n,,\x01\x01"))
    with pytest.raises(PeerMisbehaved):
        ours.receive(pg.packet(b"p", second))


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"n,,",
        b"n,,\x01",
        b"n,,\x01auth=Bearer a.b.c\x01",
        b"n,,\x01auth=Bearer a.b.c\x01\x01x",
        b"n,,\x01auth=Bearer a.b.c\x01\x01\x01",
        b"n,,\x01auth=Bearer a.b.c\x01auth=Bearer d.e.f\x01\x01",
        b"n,,\x01auth=Basic a.b.c\x01\x01",
        b"n,,\x01auth=Bearer\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Bearer a b\x01\x01",
        b"n,,\x01auth\x01\x01",
        b"n,,\x01=x\x01\x01",
        b"n,a=admin,\x01auth=Bearer a.b.c\x01\x01",
        b"p=tls-unique,,\x01auth=Bearer a.b.c\x01\x01",
        b"auth=Bearer a.b.c",
    ],
)
def test_what_is_no_first_message_of_a_client_is_refused(response):
    ours, _ = asked()
    with pytest.raises(OstiaryError):
        ours.receive(initial(response))


@pytest.mark.parametrize("mechanism", [b"SCRAM-SHA-256", b"oauthbearer", b"PLAIN", b""])
def test_no_other_mechanism_is_taken(mechanism):
    ours, _ = asked()
    with pytest.raises(PeerMisbehaved):
        ours.receive(initial(GOOD, mechanism))
    ours, _ = asked()
    with pytest.raises(PeerMisbehaved):
        ours.receive(initial(None))
    ours, _ = asked()
    with pytest.raises(PeerMisbehaved):
        ours.receive(pg.packet(b"p", b"a.b.c\0"))


def test_it_may_come_byte_by_byte():
    ours, _ = asked()
    wire = initial(GOOD)
    for at in range(len(wire) - 1):
        assert ours.receive(wire[at : at + 1]) is None
    assert isinstance(ours.receive(wire[-1:]), login.Present)


def test_a_session_opens_with_a_bearer_token(postgres):
    permit = '@id("all") permit (principal, action, resource);'
    with gateway(connections={"db": target(postgres)}, policy=permit) as gate:
        with pg.PgClient(gate.host, gate.port) as client:
            client.send(pg.startup({"user": "oauth", "database": "db"}))
            assert client.read_message().tag == b"R"
            token = gate.token("ana").encode()
            client.send(initial(b"n,,\x01auth=Bearer " + token + b"\x01\x01"))
            assert client.read_until(b"ZE").messages[-1].tag == b"Z"
            assert client.query("select 1").rows == [(b"1",)]
        with pg.PgClient(gate.host, gate.port) as client:
            client.send(pg.startup({"user": "oauth", "database": "db"}))
            client.read_message()
            client.send(initial(b"n,,\x01auth=\x01\x01"))
            told = json.loads(client.read_message().body[4:])
            import httpx

            found = httpx.get(told["openid-configuration"], trust_env=False).json()
            assert told["openid-configuration"].startswith(found["issuer"])
            assert "device_authorization_endpoint" in found
