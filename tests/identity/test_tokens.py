"""An issuer's token becomes an identity only if every claim that restricts holds; nothing else is believed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.config.types import Issuer as Section
from ostiary.identity.issuers import issuer_configured, issuer_from
from ostiary.identity.jose import MAX_TOKEN, decode_base64url, encode_base64url, parse_compact, sign_compact
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.identity import MAX_CHAIN, Initiator, Kind
from ostiary.testing.issuer import ANA, PIPELINE


def verify(house, token, **over):
    return asyncio.run(house.verifier(**over).verify_token(token, house.now)).identity


def refused(house, token, reason=Reason.BAD_TOKEN, **over) -> str:
    with pytest.raises(NotAdmitted) as caught:
        verify(house, token, **over)
    assert caught.value.reason is reason
    assert token == "" or token not in str(caught.value)
    return caught.value.detail


def test_a_good_login_becomes_who_the_token_says(house):
    who = verify(house, house.idp.mint())
    assert (who.issuer, who.subject, who.kind, who.name) == (house.idp.issuer, "ana", Kind.HUMAN, "Ana Souza")
    assert who.email == "ana@shop.example"
    assert who.groups == {"support", "staff"}
    assert who.acting == ()
    assert who.auth.method == "oidc"
    assert len(who.auth.token) == 64
    assert len(who.digest) == 32


def test_the_digest_depends_on_the_person_and_not_on_the_token(house):
    one, two = verify(house, house.idp.mint()), verify(house, house.idp.mint())
    other = verify(house, house.idp.mint(groups=["staff"]))
    assert one.auth.token != two.auth.token
    assert one.digest == two.digest != other.digest


def test_an_agent_shows_as_acting_for_ana_the_keyboard_first(house):
    chain = [{"sub": "tool"}, {"sub": "agent:coder", "name": "Coder"}]
    who = verify(house, house.idp.mint_agent(ANA, *chain))
    assert who.subject == "ana"
    assert [(a.sub, a.name, a.kind) for a in who.acting] == [
        ("tool", "tool", Kind.AGENT),
        ("agent:coder", "Coder", Kind.AGENT),
    ]
    assert all(a.iss == house.idp.issuer for a in who.acting)
    assert who.task is not None


@pytest.mark.parametrize("depth", [MAX_CHAIN, MAX_CHAIN + 1, 100])
def test_a_chain_is_read_to_its_limit_and_refused_beyond(house, depth):
    token = house.idp.mint_agent(ANA, *({"sub": f"agent-{n}"} for n in range(depth)))
    if depth <= MAX_CHAIN:
        assert len(verify(house, token).acting) == depth
    else:
        refused(house, token)


@pytest.mark.parametrize(
    "act",
    [
        {"sub": "ana"},
        {"sub": "a", "act": {"sub": "b", "act": {"sub": "a"}}},
        {"sub": ""},
        {"sub": 7},
        {"name": "no sub"},
        {"sub": "a", "act": None},
        {"sub": "a", "act": "b"},
        {"sub": "a", "act": []},
        {"sub": "a", "act": {}},
        {"sub": "a\x00b"},
        {"sub": "a\u202eb"},
        {"sub": "a" * 513},
        {"sub": "robot", "iss": "https://elsewhere.example"},
        {"sub": "robot", "iss": 3},
        [],
        "agent",
        {},
    ],
)
def test_an_act_that_is_no_chain_is_refused(house, act):
    refused(house, house.idp.mint(act=act))


def test_a_null_act_is_not_a_missing_act(house):
    claims = house.idp.claims() | {"act": None}
    alg, key = house.idp.keys[house.idp.kid]
    refused(house, sign_compact({"alg": alg, "kid": house.idp.kid}, claims, key))


def test_an_issuer_names_actors_of_another_only_if_the_operator_says_so(house):
    token = house.idp.mint(act={"sub": "robot", "iss": "https://agents.example"})
    assert verify(house, token, actor_issuers=["https://agents.example"]).acting[0].iss == "https://agents.example"


@pytest.mark.parametrize(
    "over",
    [
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": -1},
        {"exp": 1 << 52},
        {"nbf": time.time() + 86_400},
        {"iat": time.time() + 86_400},
        {"nbf": "soon"},
        {"sub": None},
        {"sub": ""},
        {"sub": 42},
        {"sub": ["ana"]},
        {"sub": "ana\n"},
        {"sub": "a" * 513},
        {"groups": "dba"},
        {"groups": ["a", 1]},
        {"groups": {"a": True}},
        {"groups": [["a"]]},
        {"groups": [""]},
        {"groups": ["g"] * 1001},
        {"hasgroups": True},
        {"hasgroups": "true"},
        {"_claim_names": {"groups": "s"}, "groups": None},
        {"_claim_sources": {}},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": 1},
        {"email": "not an address"},
        {"cnf": {"jkt": "x"}},
        {"authorization_details": "all"},
        {"authorization_details": []},
        {"authorization_details": [{"type": "payment"}]},
        {"authorization_details": [{"type": "ostiary"}, {"type": "ostiary"}]},
        {"authorization_details": [{"type": "ostiary", "rows": 5}]},
        {"authorization_details": [{"type": "ostiary", "actions": "read"}]},
        {"authorization_details": [{"type": "ostiary", "actions": [1]}]},
        {"auth_time": "then"},
    ],
)
def test_a_claim_of_another_shape_is_a_refusal(house, over):
    refused(house, house.idp.mint(**over))


UNSEEN = ("\u034f", "\u115f", "\u1160", "\u17b4", "\u180b", "\u200b", "\u2060", "\u2800", "\u3164", "\ufe0f", "\uffa0", "\U000e0100")


@pytest.mark.parametrize("sub", [*(f"ana{mark}" for mark in UNSEEN), *(f"{mark}ana" for mark in UNSEEN), " ", " ana", "ana "])
def test_nobody_is_named_like_somebody_else_by_what_cannot_be_seen(house, sub):
    refused(house, house.idp.mint(sub=sub))
    refused(house, house.idp.mint(act={"sub": sub}))
    assert verify(house, house.idp.mint(name=sub)).name == "ana"


@pytest.mark.parametrize("sub", ["Jürgen", "山田太郎", "अनुष्का", "علي", "a b", "☎️ desk", "e\u0301ric", "1️⃣"])
def test_names_of_every_script_are_names(house, sub):
    assert verify(house, house.idp.mint(sub=sub, name=sub)).name == sub


@pytest.mark.parametrize(
    "said",
    [
        {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}, "sid": "s"},
        {"events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {}}},
        {"events": {}},
        {"typ": "Refresh"},
        {"typ": "Offline"},
        {"typ": "Logout"},
    ],
)
def test_what_an_issuer_signs_of_a_person_and_is_no_login_is_refused(house, said):
    refused(house, house.idp.mint(**said))


@pytest.mark.parametrize("said", [{"typ": "Bearer"}, {"typ": "ID"}, {"typ": "DPoP"}, {"token_use": "id"}, {"sid": "s"}])
def test_what_issuers_call_their_logins_is_no_matter(house, said):
    verify(house, house.idp.mint(**said))


def test_expiry_has_no_leeway_and_the_start_has_a_little(house):
    now = time.time()
    refused(house, house.idp.mint(exp=now - 1), Reason.EXPIRED_TOKEN)
    verify(house, house.idp.mint(nbf=now + 20, iat=now + 20))


def test_a_token_that_lives_too_long_is_refused(house):
    refused(house, house.idp.mint(exp=time.time() + 7200), max_lifetime_seconds=3700)
    refused(house, house.idp.mint(exp=time.time() + 7200, iat=None), max_lifetime_seconds=3700)


@pytest.mark.parametrize(
    "over",
    [
        {"aud": None},
        {"aud": "other-app"},
        {"aud": ["other-app"]},
        {"aud": []},
        {"aud": {"ostiary": 1}},
        {"aud": ["ostiary", 1]},
        {"aud": "OSTIARY"},
        {"aud": "ostiary "},
        {"aud": ["ostiary", "other-app"]},
        {"aud": ["ostiary", "other-app"], "azp": "other-app"},
        {"azp": "other-app"},
        {"azp": ["ostiary"]},
    ],
)
def test_a_token_for_somebody_else_is_refused(house, over):
    refused(house, house.idp.mint(**over), Reason.WRONG_AUDIENCE)


def test_an_authorized_party_may_bring_a_token_with_several_audiences(house):
    token = house.idp.mint(aud=["ostiary", "other-app"], azp="ostiary-cli")
    verify(house, token, authorized_parties=["ostiary-cli"])


@pytest.mark.parametrize("suffix", ["/", ".evil.example", "#", " "])
def test_an_issuer_that_only_looks_like_a_trusted_one_is_unknown(house, suffix):
    refused(house, house.idp.mint(iss=house.idp.issuer + suffix), Reason.UNKNOWN_ISSUER)


@pytest.mark.parametrize("iss", [None, 5, ["x"], {}])
def test_an_issuer_that_is_no_text_is_unknown(house, iss):
    refused(house, house.idp.mint(iss=iss), Reason.UNKNOWN_ISSUER)


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/jwks.json"},
        {"x5u": "https://evil.example/c.pem"},
        {"x5c": ["MII"]},
        {"jwk": {"kty": "OKP"}},
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False},
        {"b64": True},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"typ": "at+jwt"},
        {"typ": "application/at+jwt"},
        {"typ": "logout+jwt"},
        {"typ": 5},
        {"kid": "../../../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": ""},
        {"kid": 7},
        {"kid": []},
        {"kid": "k" * 257},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS256"},
        {"alg": "Ed25519"},
        {"alg": "eddsa"},
        {"alg": ["EdDSA"]},
        {"alg": None},
    ],
)
def test_a_header_that_steers_the_verification_is_refused(house, header):
    alg, key = house.idp.keys[house.idp.kid]
    head = {k: v for k, v in ({"alg": alg, "typ": "JWT", "kid": house.idp.kid} | header).items() if v is not None}
    part = encode_base64url(json.dumps(head).encode())
    body = encode_base64url(json.dumps(house.idp.claims()).encode())
    signature = key.get_op_key("sign").sign(f"{part}.{body}".encode())
    refused(house, f"{part}.{body}.{encode_base64url(signature)}")


@pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt", None])
def test_typ_is_compared_as_a_media_type(house, typ):
    verify(house, house.idp.mint(header={"typ": typ}))


def resigned(house, raw_header: bytes, raw_claims: bytes) -> str:
    _, key = house.idp.keys[house.idp.kid]
    message = f"{encode_base64url(raw_header)}.{encode_base64url(raw_claims)}"
    return f"{message}.{encode_base64url(key.get_op_key('sign').sign(message.encode()))}"


def test_json_that_two_readers_could_read_differently_is_refused(house):
    header = json.dumps({"alg": "EdDSA", "kid": house.idp.kid}).encode()
    claims = json.dumps(house.idp.claims()).encode()
    verify(house, resigned(house, header, claims))
    for bad_claims in (
        claims[:-1] + b', "sub": "admin"}',
        claims[:-1] + b', "x": {"a": 1, "a": 2}}',
        claims[:-1] + b', "x": NaN}',
        claims[:-1] + b', "x": 1e999}',
        claims[:-1] + b', "x": 12345678901234567890}',
        claims + b" {}",
        b"\xef\xbb\xbf" + claims,
        claims.decode().encode("utf-16"),
        claims[:-1] + b', "x": "\xff"}',
        b"[" + claims + b"]",
        b"null",
        b'{"a":' * 3000,
        claims[:-1] + b', "sub": "\\ud800"}',
        claims[:-1] + b', "x": ["\\ud800"]}',
        claims[:-1] + b', "\\udfff": 1}',
    ):
        refused(house, resigned(house, header, bad_claims))
    verify(house, resigned(house, header, claims[:-1] + b', "x": "\\ud83d\\ude00"}'))
    refused(house, resigned(house, header[:-1] + b', "x": "\\ud800"}', claims))
    refused(house, resigned(house, b'{"alg": "EdDSA", "kid": null}', claims))
    refused(house, resigned(house, header[:-1] + b', "alg": "EdDSA"}', claims))


def test_only_one_spelling_of_a_token_is_accepted(house):
    token = house.idp.mint()
    header, body, signature = token.split(".")
    last = signature[-1]
    # The last character of 64 bytes carries four bits that are nobody's: 15 other spellings.
    others = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" if c != last]
    for spelled in (f"{header}.{body}.{signature[:-1]}{c}" for c in others):
        refused(house, spelled)
    for bad in (
        f"{token}=",
        f"{token}==",
        f" {token}",
        f"{token}\n",
        token.replace(".", ".\n", 1),
        f"{header}..{signature}",
        f".{body}.{signature}",
        f"{header}.{body}.",
        f"{header}.{body}",
        f"{token}.",
        f"{token}.{signature}.x",
        token.replace("-", "+").replace("_", "/") + "+",
        "Bearer " + token,
        json.dumps({"payload": body, "signatures": [{"protected": header, "signature": signature}]}),
        json.dumps({"payload": body, "protected": header, "signature": signature}),
        "é" + token,
        "A" * (MAX_TOKEN + 1),
        token + "A" * MAX_TOKEN,
    ):
        refused(house, bad)
    refused(house, "", Reason.NO_TOKEN)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,60}(\.[A-Za-z0-9_-]{0,60}){0,5}", fullmatch=True))
def test_reading_any_text_gives_a_token_or_a_refusal(text):
    with contextlib.suppress(NotAdmitted):
        parse_compact(text)


def test_a_token_changed_anywhere_is_refused(house):
    verifier, token = house.verifier(), house.idp.mint()
    loop = asyncio.new_event_loop()

    @settings(max_examples=250, deadline=None)
    @given(
        where=st.integers(0, len(token) - 1),
        what=st.sampled_from(["", "A", "_", ".", "=", "\x00", "e", "~"]),
        cut=st.integers(0, 3),
    )
    def mangle(where: int, what: str, cut: int) -> None:
        mangled = token[:where] + what + token[where + cut :]
        if mangled == token:
            return
        with pytest.raises(NotAdmitted):
            loop.run_until_complete(verifier.verify_token(mangled, house.now))

    mangle()
    loop.close()


@given(st.binary(max_size=80))
def test_base64url_has_one_spelling(raw):
    if raw:
        assert decode_base64url(encode_base64url(raw)) == raw


@pytest.mark.parametrize(
    ("require", "claims", "admitted"),
    [
        ({"environment": "prod"}, {"environment": "prod"}, True),
        ({"environment": "prod"}, {}, False),
        ({"environment": "prod"}, {"environment": "prod2"}, False),
        ({"environment": "prod"}, {"environment": ["prod"]}, False),
        ({"environment": ["prod", "stage"]}, {"environment": "stage"}, True),
        ({"attempt": 1}, {"attempt": True}, False),
        ({"attempt": 1}, {"attempt": "1"}, False),
        ({"ok": True}, {"ok": True}, True),
    ],
)
def test_trust_conditions_hold_exactly_or_nobody_is_let_in(house, require, claims, admitted):
    token = house.idp.mint_pipeline(**claims)
    if admitted:
        verify(house, token, kind="workload", require=require)
    else:
        refused(house, token, kind="workload", require=require)


def test_a_pipeline_names_its_run_and_its_initiator_as_strongly_as_the_token_proves(house):
    ci = {
        "kind": "workload",
        "task_claim": "run_id",
        "initiator_claim": "actor",
        "initiator_proved": True,
        "initiator_proof": {"run_attempt": "1", "event_name": ["push", "workflow_dispatch"]},
    }
    who = verify(house, house.idp.mint(PIPELINE), **ci)
    assert (who.kind, who.task, who.initiator) == (Kind.WORKLOAD, "8123", Initiator("bob", "bob", proved=True))
    for over in ({"run_attempt": "2"}, {"event_name": "schedule"}, {"actor": "dependabot[bot]"}, {"run_attempt": None}):
        weaker = verify(house, house.idp.mint(PIPELINE, **over), **ci).initiator
        assert weaker is not None
        assert not weaker.proved
    refused(house, house.idp.mint(PIPELINE, run_id=None), **ci)


def test_a_mandate_is_read_whole(house):
    details = [{"type": "ostiary", "id": "OPS-42", "connections": ["orders-db"], "actions": ["read"]}]
    who = verify(house, house.idp.mint(authorization_details=details))
    assert who.mandate is not None
    assert (who.mandate.id, who.mandate.connections, who.mandate.actions) == ("OPS-42", ("orders-db",), ("read",))
    assert who.mandate.resources is None
    assert who.task == "OPS-42"


def test_an_email_that_nobody_verified_is_not_an_email(house):
    assert verify(house, house.idp.mint(email_verified=None)).email is None
    lax = verify(house, house.idp.mint(email_verified=False), require_verified_email=False)
    assert lax.email is None


def test_groups_come_from_where_the_operator_says(house):
    token = house.idp.mint(groups=None, realm_access={"roles": ["dba"]})
    assert verify(house, token, groups_claim=["realm_access", "roles"]).groups == {"dba"}
    assert verify(house, token).groups == frozenset()
    refused(house, house.idp.mint(realm_access="x"), groups_claim=["realm_access", "roles"])


def test_a_kind_claim_is_one_of_three_words(house):
    assert verify(house, house.idp.mint(kind="agent"), kind_claim="kind").kind is Kind.AGENT
    assert verify(house, house.idp.mint(), kind_claim="kind").kind is Kind.HUMAN
    refused(house, house.idp.mint(kind="root"), kind_claim="kind")


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "EdDSA"])
def test_each_algorithm_verifies_under_its_own_name_only(algorithm, make_house):
    house = make_house(algorithm)
    token = house.idp.mint()
    assert verify(house, token).subject == "ana"
    header, body, signature = token.split(".")
    flipped = bytearray(decode_base64url(signature))
    flipped[3] ^= 1
    refused(house, f"{header}.{body}.{encode_base64url(bytes(flipped))}")
    refused(house, token, algorithms=["RS512"])


@pytest.mark.parametrize(
    "over",
    [
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"audience": ""},
        {"audience": []},
        {"jwks_url": "http://idp.example/jwks"},
        {"jwks_url": "file:///etc/passwd"},
        {"issuer": "http://idp.example"},
        {"issuer": ""},
        {"kind": "god"},
        {"leeway_seconds": 3600},
        {"surprise": 1},
    ],
)
def test_an_issuer_that_cannot_be_trusted_does_not_start(over):
    table = {"issuer": "https://idp.example", "audience": "a", "kind": "human", "algorithms": ["EdDSA"]}
    issuer_from(table)
    with pytest.raises(ConfigError):
        issuer_from(table | over)


def test_every_setting_of_an_issuer_reaches_its_verifier(tmp_path):
    section = Section(
        issuer="https://ci.example",
        audience="ostiary",
        kind=Kind.WORKLOAD,
        algorithms=("RS256",),
        jwks_file=tmp_path / "jwks.json",
        jwks_seconds=60.0,
        leeway_seconds=5.0,
        max_token_seconds=900.0,
        required_claims={"project_id": "42"},
        name_claim="project_path",
        email_claim="mail",
        groups_claim=None,
        kind_claim="k",
        task_claim="pipeline_id",
        initiator_claim="user_login",
        initiator_name_claim="user_name",
        initiator_proved=True,
    )
    assert issuer_configured(section) == issuer_from({
        "issuer": "https://ci.example",
        "audience": "ostiary",
        "kind": "workload",
        "algorithms": ["RS256"],
        "jwks_file": str(tmp_path / "jwks.json"),
        "keys_fresh_seconds": 60.0,
        "leeway_seconds": 5.0,
        "max_lifetime_seconds": 900.0,
        "require": {"project_id": "42"},
        "name_claim": "project_path",
        "email_claim": "mail",
        "groups_claim": None,
        "kind_claim": "k",
        "task_claim": "pipeline_id",
        "initiator_claim": "user_login",
        "initiator_name_claim": "user_name",
        "initiator_proved": True,
    })  # fmt: skip
