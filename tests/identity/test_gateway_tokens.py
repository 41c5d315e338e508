"""Gateway tokens say what their parents said, less or the same; nothing widens, and revoking reaches every descendant."""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest

from ostiary.identity.chain import common_mandate, mandate_from, narrow_mandate
from ostiary.identity.exchange import DetailsRefused, TargetRefused, Wanted, exchange
from ostiary.identity.jose import decode_base64url, sign_compact
from ostiary.identity.keys import new_token_key
from ostiary.identity.standing import REVOKED, STOPPED, actor_key, stop_body
from ostiary.identity.tokens import Proved
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.identity import Claims, Kind, Mandate, Said
from ostiary.model.secrets import Secret
from ostiary.store.news import News
from ostiary.testing.issuer import AGENT, ANA, LocalIssuer

KNOWN = frozenset({"orders-db", "hr-db"})


def proved(house, token, verifier=None):
    return asyncio.run((verifier or house.verifier()).verify_token(token, house.now))


def trade(house, subject, actor=None, *, connections=(), details=None, now=None):
    return exchange(
        house.signer,
        subject,
        actor,
        Wanted(connections=frozenset(connections), details=details),
        known=KNOWN,
        now=house.now if now is None else now,
    )


def test_a_gateway_token_proves_what_its_parent_proved(house):
    parent = proved(house, house.idp.mint_agent(ANA, AGENT))
    minted = trade(house, parent, connections=["orders-db"])
    child = proved(house, minted.token)
    assert child.own
    assert child.identity == minted.identity
    for name in ("issuer", "subject", "kind", "name", "email", "groups", "acting", "initiator", "task", "mandate"):
        assert getattr(child.identity, name) == getattr(parent.identity, name)
    assert child.identity.audience == {"orders-db"}
    assert child.identity.auth.method == "gateway-token"
    assert child.identity.auth.at == parent.identity.auth.at
    assert child.identity.auth.family == (parent.identity.auth.token,)
    assert child.identity.expires <= parent.identity.expires
    assert minted.token not in repr(minted)


def test_a_token_opens_the_connections_that_it_is_for_and_no_other(house):
    token = trade(house, proved(house, house.idp.mint()), connections=["orders-db"]).token
    verifier = house.verifier()

    def login(connection: str):
        claims = Claims(connection=connection, token=Secret(token), said=Said(address="127.0.0.1:1"))
        return asyncio.run(verifier.verify(claims, house.now))

    assert login("orders-db").subject == "ana"
    with pytest.raises(NotAdmitted) as caught:
        login("hr-db")
    assert caught.value.reason is Reason.WRONG_AUDIENCE


def test_a_token_never_outlives_its_parent_nor_the_configured_minutes(house):
    now = time.time()
    short = trade(house, proved(house, house.idp.mint(exp=int(now) + 120)))
    assert short.identity.expires == int(now) + 120
    long = trade(house, proved(house, house.idp.mint(exp=int(now) + 7200)), now=now)
    assert long.identity.expires == int(now) + 3600
    parent = proved(house, house.idp.mint(exp=int(now) + 120))
    with pytest.raises(NotAdmitted) as caught:
        trade(house, parent, now=now + 121)
    assert caught.value.reason is Reason.EXPIRED_TOKEN
    with pytest.raises(NotAdmitted) as caught:
        asyncio.run(house.verifier().verify_token(short.token, now + 121))
    assert caught.value.reason is Reason.EXPIRED_TOKEN


def test_no_exchange_drops_the_actors(house):
    token = house.idp.mint_agent(ANA, {"sub": "tool"}, AGENT)
    for _ in range(3):
        minted = trade(house, proved(house, token))
        token = minted.token
        assert [actor.sub for actor in proved(house, token).identity.acting] == ["tool", AGENT["sub"]]


def test_an_exchange_narrows_the_audience_and_never_widens_it(house):
    first = trade(house, proved(house, house.idp.mint()), connections=["orders-db"])
    again = proved(house, first.token)
    assert trade(house, again).identity.audience == {"orders-db"}
    for asked in (["hr-db"], ["orders-db", "hr-db"], ["*"], ["unknown"]):
        with pytest.raises(TargetRefused):
            trade(house, again, connections=asked)


def test_an_exchange_narrows_the_mandate_and_never_widens_it(house):
    given = [{"type": "ostiary", "id": "OPS-42", "connections": ["orders-db"], "actions": ["read", "write"]}]
    parent = proved(house, house.idp.mint(authorization_details=given))
    child = trade(house, parent, details=[{"type": "ostiary", "actions": ["read"]}])
    mandate = proved(house, child.token).identity.mandate
    assert mandate is not None
    assert (mandate.connections, mandate.actions, mandate.resources) == (("orders-db",), ("read",), None)
    assert child.identity.task == "OPS-42"
    for wider in (
        [{"type": "ostiary", "actions": ["delete"]}],
        [{"type": "ostiary", "connections": ["orders-db", "hr-db"]}],
        [{"type": "ostiary", "actions": ["*"]}],
        [{"type": "ostiary"}, {"type": "ostiary"}],
        [{"type": "other"}],
        [],
    ):
        with pytest.raises(DetailsRefused):
            trade(house, parent, details=wider)


def test_a_caller_cannot_choose_the_task_that_its_events_join(house):
    with pytest.raises(DetailsRefused):
        trade(house, proved(house, house.idp.mint()), details=[{"type": "ostiary", "id": "8123"}])


@pytest.fixture
def agents(house):
    """A second issuer, whose tokens are agents'."""
    with LocalIssuer() as idp:
        table = house.issuer(issuer=idp.issuer, kind="agent")
        yield idp, house.verifier(house.issuer(), table)


def test_an_actor_goes_in_front_if_the_subject_token_lets_it_act(house, agents):
    idp, verifier = agents
    may = {"sub": AGENT["sub"], "iss": idp.issuer}
    subject = proved(house, house.idp.mint_agent(ANA, {"sub": "earlier"}, may_act=may), verifier)
    actor = proved(house, idp.mint(AGENT, act={"sub": "driver"}, exp=int(time.time()) + 60), verifier)
    minted = trade(house, subject, actor)
    who = proved(house, minted.token).identity
    assert who.subject == "ana"
    assert [(a.sub, a.iss, a.kind) for a in who.acting] == [
        ("driver", idp.issuer, Kind.AGENT),
        (AGENT["sub"], idp.issuer, Kind.AGENT),
        ("earlier", house.idp.issuer, Kind.AGENT),
    ]
    assert who.expires == actor.identity.expires
    house.revoke(actor.identity.auth.token, who.expires)
    with pytest.raises(NotAdmitted) as caught:
        proved(house, minted.token)
    assert caught.value.reason is Reason.REVOKED_TOKEN


@pytest.mark.parametrize(
    "may",
    [
        None,
        {},
        {"sub": "agent:other"},
        {"sub": AGENT["sub"]},
        {"sub": AGENT["sub"], "iss": "https://elsewhere.example"},
        {"sub": [AGENT["sub"]]},
        [{"sub": AGENT["sub"]}],
        "agent:coder",
        True,
    ],
)
def test_nobody_acts_who_is_not_named(house, agents, may):
    idp, verifier = agents
    subject = proved(house, house.idp.mint(may_act=may), verifier)
    actor = proved(house, idp.mint(AGENT), verifier)
    with pytest.raises(NotAdmitted):
        trade(house, subject, actor)


def test_a_person_does_not_act_for_a_person(house):
    subject = proved(house, house.idp.mint(may_act={"sub": "bob"}))
    with pytest.raises(NotAdmitted, match="neither an agent"):
        trade(house, subject, proved(house, house.idp.mint(sub="bob")))


def test_an_actor_that_is_in_the_chain_already_is_a_loop(house, agents):
    idp, verifier = agents
    may = {"sub": AGENT["sub"], "iss": idp.issuer}
    subject = proved(house, house.idp.mint(may_act=may), verifier)
    actor = proved(house, idp.mint(AGENT, act={"sub": "x", "act": {"sub": "y"}}), verifier)
    trade(house, subject, actor)
    acting = msgspec.structs.replace(subject.identity, acting=actor.identity.acting)
    twisted = Proved(identity=acting, may_act=subject.may_act, own=False)
    with pytest.raises(NotAdmitted, match="loop"):
        trade(house, twisted, actor)


def test_two_tokens_make_one_that_both_permit(house, agents):
    idp, verifier = agents
    may = {"sub": AGENT["sub"], "iss": idp.issuer}
    subject = proved(house, house.idp.mint(may_act=may), verifier)
    for_orders = trade(house, proved(house, idp.mint(AGENT), verifier), connections=["orders-db"])
    minted = trade(house, subject, proved(house, for_orders.token, verifier))
    assert minted.identity.audience == {"orders-db"}
    with pytest.raises(TargetRefused):
        trade(house, subject, proved(house, for_orders.token, verifier), connections=["hr-db"])


def test_mandates_meet_in_what_both_permit():
    a = Mandate(id="a", connections=("x", "y"), actions=None, resources=())
    b = Mandate(id="b", connections=("y", "z"), actions=("read",), resources=("t",))
    assert common_mandate(a, b) == Mandate(id="a", connections=("y",), actions=("read",), resources=())
    assert common_mandate(None, b) == b
    assert common_mandate(a, None) == a
    assert narrow_mandate(None, None) is None
    assert narrow_mandate(a, None) == a
    assert mandate_from(None, fallback_id="x") is None


def forged(house, **over):
    minted = trade(house, proved(house, house.idp.mint_agent()))
    claims = json.loads(decode_base64url(minted.token.split(".")[1]))
    return claims | over


@pytest.mark.parametrize(
    ("header", "over"),
    [
        ({"typ": "JWT"}, {}),
        ({"typ": None}, {}),
        ({"kid": None}, {}),
        ({"kid": "other"}, {}),
        ({}, {"aud": "gw2"}),
        ({}, {"aud": ["gw1"]}),
        ({}, {"iss": "https://gw2.example"}),
        ({}, {"exp": 1}),
        ({}, {"extra": True}),
        ({}, {"act": None}),
        ({}, {"act": {"sub": "a", "iss": "b", "act": {"sub": "c", "iss": "d"}}}),
        ({}, {"groups": "dba"}),
        ({}, {"ostiary": {}}),
        ({}, {"sub": 5}),
        ({}, {"authorization_details": [{"type": "ostiary", "rows": 1}]}),
        ({}, {"authorization_details": [{"type": "ostiary", "effects": {"rows": -1}}]}),
        ({}, {"authorization_details": [{"type": "ostiary", "within": [{"id": "x"}]}]}),
        ({}, {"may_act": {"iss": "a", "sub": "b"}}),
        ({"typ": "ostiary-delegation+jwt"}, {}),
    ],
)
def test_even_our_own_key_does_not_make_every_token_ours(house, header, over):
    head = {"alg": "EdDSA", "typ": "at+jwt", "kid": house.key.kid} | header
    head = {name: value for name, value in head.items() if value is not None}
    good = sign_compact({"alg": "EdDSA", "typ": "at+jwt", "kid": house.key.kid}, forged(house), house.key.key)
    proved(house, good)
    with pytest.raises(NotAdmitted):
        proved(house, sign_compact(head, forged(house, **over), house.key.key))


def test_a_token_of_another_key_is_not_ours(house):
    other = new_token_key()
    for kid in (house.key.kid, other.kid):
        token = sign_compact({"alg": "EdDSA", "typ": "at+jwt", "kid": kid}, forged(house), other.key)
        with pytest.raises(NotAdmitted):
            proved(house, token)


def test_an_issuer_cannot_speak_in_the_gateways_name(house):
    with pytest.raises(NotAdmitted):
        proved(house, house.idp.mint(iss=house.gateway.issuer))
    with pytest.raises(ConfigError, match="own issuer"):
        house.verifier(house.issuer(issuer=house.gateway.issuer, jwks_url=house.idp.jwks_url))
    with pytest.raises(ConfigError, match="same issuer"):
        house.verifier(house.issuer(), house.issuer())


# --- revocation ---


def test_a_revoked_token_and_all_that_came_from_it_are_refused(house):
    verifier = house.verifier()
    parent = proved(house, house.idp.mint(), verifier)
    first = trade(house, parent)
    second = trade(house, proved(house, first.token, verifier))
    house.revoke(first.identity.auth.token, first.identity.expires)
    for token in (first.token, second.token):
        with pytest.raises(NotAdmitted) as caught:
            proved(house, token, verifier)
        assert caught.value.reason is Reason.REVOKED_TOKEN
    assert first.identity.auth.token in second.identity.auth.family
    proved(house, house.idp.mint(), verifier)


def test_revoking_an_issuers_token_ends_what_was_exchanged_from_it(house):
    verifier = house.verifier()
    token = house.idp.mint()
    parent = proved(house, token, verifier)
    child = trade(house, parent)
    house.revoke(parent.identity.auth.token, parent.identity.expires)
    for shown in (token, child.token):
        with pytest.raises(NotAdmitted):
            proved(house, shown, verifier)


def test_a_revocation_that_is_taken_back_or_expired_counts_no_more(house):
    verifier = house.verifier()
    token = house.idp.mint()
    who = proved(house, token, verifier).identity
    house.revoke(who.auth.token, 500)
    with pytest.raises(NotAdmitted):
        proved(house, token, verifier)
    house.standing.forget(501)
    proved(house, token, verifier)
    house.revoke(who.auth.token, 500)
    house.standing.heard(News(2, REVOKED, who.auth.token, None, 500))
    proved(house, token, verifier)


@pytest.mark.parametrize("whom", ["ana", "agent:coder", "earlier"])
def test_whoever_is_stopped_is_refused_as_subject_and_anywhere_in_the_chain(house, whom):
    verifier = house.verifier()
    token = house.idp.mint_agent(ANA, AGENT, {"sub": "earlier"})
    child = trade(house, proved(house, token, verifier))
    body = stop_body(Reason.STOPPED_ACTOR, "it went wild")
    house.standing.heard(News(1, STOPPED, actor_key(house.idp.issuer, whom), body, 1 << 40))
    for shown in (token, child.token):
        with pytest.raises(NotAdmitted, match="it went wild") as caught:
            proved(house, shown, verifier)
        assert caught.value.reason is Reason.STOPPED_ACTOR
    proved(house, house.idp.mint(sub="bob"), verifier)


def test_a_namesake_of_another_issuer_is_not_stopped(house):
    house.standing.heard(News(1, STOPPED, actor_key("https://elsewhere", "ana"), {}, 1 << 40))
    proved(house, house.idp.mint())
    assert actor_key("a", "b") != actor_key("ab", "")


def test_nobody_is_let_in_while_it_is_not_known_who_was_revoked(house):
    house.standing._is_current = lambda: False
    with pytest.raises(NotAdmitted) as caught:
        proved(house, house.idp.mint())
    assert caught.value.reason is Reason.CONTROL_UNREACHABLE
