"""Keys: which are taken, how long they serve, and that callers cannot drive the fetching."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from ostiary.identity.issuers import Issuer
from ostiary.identity.jose import UnusableKey, encode_base64url, parse_compact, pin, sign_compact
from ostiary.identity.jwks import (
    MAX_DOCUMENT,
    MAX_KEYS,
    UNKNOWN_KID_SECONDS,
    FetchFailed,
    HttpSource,
    KeyCache,
    ring_from,
)
from ostiary.identity.keys import load_or_create_token_key, load_token_ring, new_token_key, public_path
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.identity import Kind
from tests.identity.conftest import GATEWAY

ALL = ("RS256", "ES256", "ES384", "EdDSA")


class Shelf:
    """A source that counts, and that fails when told to."""

    def __init__(self, *keys: tuple[str, object]) -> None:
        self.keys = dict(keys)
        self.fetches = 0
        self.failing = False

    async def fetch(self) -> bytes:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.failing:
            raise FetchFailed("HTTP status 503")
        listed = [{**key.as_dict(private=False), "kid": kid, "alg": "EdDSA"} for kid, key in self.keys.items()]
        return json.dumps({"keys": listed}).encode()


def ed() -> OKPKey:
    return OKPKey.generate_key("Ed25519")


def signed(kid: str | None, key: OKPKey):
    header = {"alg": "EdDSA"} | ({} if kid is None else {"kid": kid})
    return parse_compact(sign_compact(header, {"iss": "x"}, key))


@pytest.fixture
def clock():
    return [1000.0]


def cache(shelf: Shelf, clock: list[float]) -> KeyCache:
    return KeyCache(shelf, ("EdDSA",), fresh=600, stale=3600, clock=lambda: clock[0])


def test_many_logins_at_once_fetch_once(clock):
    key = ed()
    shelf = Shelf(("a", key))
    keys = cache(shelf, clock)

    async def storm() -> None:
        found = await asyncio.gather(*(keys.find(signed("a", key)) for _ in range(200)))
        assert {f.kid for f in found} == {"a"}

    asyncio.run(storm())
    assert shelf.fetches == 1


def test_a_rotated_key_is_found_at_the_first_login_that_needs_it(clock):
    old, new = ed(), ed()
    shelf = Shelf(("old", old))
    keys = cache(shelf, clock)

    async def story() -> None:
        await keys.find(signed("old", old))
        shelf.keys = {"new": new}
        clock[0] += UNKNOWN_KID_SECONDS + 1
        (await keys.find(signed("new", new))).check(signed("new", new))
        with pytest.raises(NotAdmitted) as caught:
            await keys.find(signed("old", old))
        assert caught.value.reason is Reason.BAD_TOKEN

    asyncio.run(story())
    assert shelf.fetches == 2


def test_invented_key_ids_do_not_drive_fetching(clock):
    key = ed()
    shelf = Shelf(("a", key))
    keys = cache(shelf, clock)

    async def story() -> None:
        await keys.find(signed("a", key))
        for n in range(100):
            with pytest.raises(NotAdmitted):
                await keys.find(signed(f"invented-{n}", key))
        assert shelf.fetches == 1
        clock[0] += UNKNOWN_KID_SECONDS + 1
        for n in range(100):
            with pytest.raises(NotAdmitted):
                await keys.find(signed(f"invented-{n}", key))

    asyncio.run(story())
    assert shelf.fetches == 2


def test_keys_serve_while_the_issuer_is_down_until_they_are_stale_then_logins_fail(clock):
    key = ed()
    shelf = Shelf(("a", key))
    keys = cache(shelf, clock)

    async def story() -> None:
        await keys.find(signed("a", key))
        shelf.failing = True
        clock[0] += 3500
        assert (await keys.find(signed("a", key))).kid == "a"
        assert keys.last_error == "HTTP status 503"
        clock[0] += 200
        with pytest.raises(NotAdmitted) as caught:
            await keys.find(signed("a", key))
        assert caught.value.reason is Reason.ISSUER_UNREACHABLE
        shelf.failing = False
        clock[0] += 2
        assert (await keys.find(signed("a", key))).kid == "a"

    asyncio.run(story())


def test_a_withdrawn_key_no_longer_serves_once_the_set_was_fetched_again(clock):
    key = ed()
    shelf = Shelf(("a", key))
    keys = cache(shelf, clock)

    async def story() -> None:
        await keys.find(signed("a", key))
        shelf.keys = {}
        clock[0] += 601
        with pytest.raises(NotAdmitted):
            await keys.find(signed("a", key))

    asyncio.run(story())


def test_a_login_that_is_cancelled_does_not_take_the_others_with_it(clock):
    key = ed()
    shelf = Shelf(("a", key))
    keys = cache(shelf, clock)

    async def story() -> None:
        first = asyncio.ensure_future(keys.find(signed("a", key)))
        second = asyncio.ensure_future(keys.find(signed("a", key)))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).kid == "a"
        assert first.cancelled()
        assert shelf.fetches == 2

    asyncio.run(story())


def test_a_token_that_names_no_key_is_served_only_if_one_fits():
    one, two = ed(), ed()
    single = ring_from(json.dumps({"keys": [{**one.as_dict(private=False), "alg": "EdDSA"}]}).encode(), ALL)
    assert single.find(signed(None, one)) is not None
    both = [{**key.as_dict(private=False), "alg": "EdDSA", "kid": kid} for kid, key in (("1", one), ("2", two))]
    assert ring_from(json.dumps({"keys": both}).encode(), ALL).find(signed(None, one)) is None


def public(key, **over) -> dict:
    return {k: v for k, v in {**key.as_dict(private=False), **over}.items() if v is not None}


def test_an_algorithm_is_the_keys_and_never_the_tokens():
    key = RSAKey.generate_key(2048)
    assert pin(public(key), ("RS256",)).alg == "RS256"
    assert pin(public(key, alg="PS256"), ("RS256", "PS256")).alg == "PS256"
    with pytest.raises(UnusableKey, match="not exactly one fits"):
        pin(public(key), ("RS256", "PS256"))
    assert pin(public(ECKey.generate_key("P-384")), ALL).alg == "ES384"


def test_a_bundle_of_spiffe_is_a_key_set():
    key = ECKey.generate_key("P-256")
    bundle = {"keys": [public(key, kid="a", use="jwt-svid"), public(key, kid="b", use="x509-svid", x5c=["MII"])], "spiffe_sequence": 1, "spiffe_refresh_hint": 300}
    assert [(each.kid, each.alg) for each in ring_from(json.dumps(bundle).encode(), ("ES256",)).keys] == [("a", "ES256")]


def tiny_rsa(bits: int) -> dict:
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key().public_numbers()
    return {
        "kty": "RSA",
        "n": encode_base64url(numbers.n.to_bytes((bits + 7) // 8)),
        "e": encode_base64url(numbers.e.to_bytes(3)),
    }


BAD_RSA = RSAKey.generate_key(2048)
MODULUS = BAD_RSA.get_op_key("verify").public_numbers().n
SMALL_ORDER = (
    "0000000000000000000000000000000000000000000000000000000000000000", "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)  # fmt: skip
"""The y of points of order 1, 2, 4 and 8, little-endian, and two of them spelled beyond the field (RFC 8032, 5.1.3)."""


def rsa_of(modulus: int) -> str:
    return encode_base64url(modulus.to_bytes((modulus.bit_length() + 7) // 8))


@pytest.mark.parametrize(
    "jwk",
    [
        public(BAD_RSA, e="AQ"),
        public(BAD_RSA, e="Ag"),
        public(BAD_RSA, e="AQAA"),
        public(BAD_RSA, e=""),
        public(BAD_RSA, e="AQAB=="),
        public(BAD_RSA, e="____________"),
        public(BAD_RSA, n="AQAB"),
        public(BAD_RSA, n=None),
        public(BAD_RSA, n=5),
        public(BAD_RSA, n="A" * 4000),
        tiny_rsa(1024),
        public(BAD_RSA, alg="none"),
        public(BAD_RSA, alg="HS256"),
        public(BAD_RSA, alg="ES256"),
        public(BAD_RSA, alg="EdDSA"),
        public(BAD_RSA, alg="RS1"),
        public(BAD_RSA, alg=["RS256"]),
        public(BAD_RSA, use="enc"),
        public(BAD_RSA, use="x509-svid"),
        public(BAD_RSA, key_ops=["sign"]),
        public(BAD_RSA, key_ops="verify"),
        public(BAD_RSA, kty="rsa"),
        public(BAD_RSA, kty="RSA", crv="P-256"),
        public(BAD_RSA, kid=5),
        public(BAD_RSA, kid=""),
        public(BAD_RSA, n=rsa_of(MODULUS + 1)),
        public(BAD_RSA, n=rsa_of(MODULUS // 3 * 3)),
        public(BAD_RSA, n=rsa_of(((1 << 1024) + 643) ** 2)),
        public(BAD_RSA, n=rsa_of((1 << 2048) - 1)),
        public(BAD_RSA, p="AQAB"),
        public(BAD_RSA, q="AQAB"),
        public(BAD_RSA, dp="AQAB"),
        public(BAD_RSA, oth=[]),
        BAD_RSA.as_dict(private=True),
        OctKey.generate_key(256).as_dict(private=True),
        public(ECKey.generate_key("P-256"), crv="P-384"),
        public(ECKey.generate_key("P-256"), x="AAAA"),
        public(ECKey.generate_key("P-256"), x=encode_base64url(bytes(32)), y=encode_base64url(bytes(32))),
        public(ECKey.generate_key("P-256"), alg="ES384"),
        public(ECKey.generate_key("secp256k1")),
        public(OKPKey.generate_key("Ed448")),
        public(OKPKey.generate_key("X25519")),
        public(ed(), x="AAAA"),
        public(ed(), alg="ES256"),
        {},
        None,
        [],
        "key",
        {"kty": ["RSA"]},
        {"kty": "OKP", "crv": "Ed25519"},
    ],
)
def test_a_key_that_is_weak_or_of_another_use_is_left_out(jwk):
    with pytest.raises(UnusableKey):
        pin(jwk, ALL)


@pytest.mark.parametrize("y", SMALL_ORDER)
@pytest.mark.parametrize("sign", [0, 0x80])
def test_a_key_with_which_anybody_can_sign_is_left_out(y, sign):
    raw = bytearray.fromhex(y)
    raw[31] |= sign
    with pytest.raises(UnusableKey):
        pin({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": encode_base64url(bytes(raw))}, ALL)


def test_two_keys_under_one_id_are_both_left_out_and_the_rest_serve():
    a, b, c = ed(), ECKey.generate_key("P-256"), ed()
    keys = [public(a, kid="x", alg="EdDSA"), public(b, kid="x", alg="ES256"), public(c, kid="y", alg="EdDSA")]
    ring = ring_from(json.dumps({"keys": keys}).encode(), ALL)
    assert [key.kid for key in ring.keys] == ["y"]
    assert ring.find(signed("x", a)) is None
    assert any("several keys" in why for why in ring.unusable)
    twice = ring_from(json.dumps({"keys": [keys[2], keys[2]]}).encode(), ALL)
    assert [key.kid for key in twice.keys] == ["y"]
    hidden = [public(c, kid="y", alg="EdDSA"), OctKey.generate_key(256).as_dict(private=True) | {"kid": "y"}]
    assert ring_from(json.dumps({"keys": hidden}).encode(), ALL).keys == ()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [], "keys": []}',
        json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(),
        b" " * (MAX_DOCUMENT + 1),
        b"[" * 100_000,
    ],
)
def test_what_is_no_bounded_key_set_is_an_error_and_not_an_empty_set(document):
    with pytest.raises(FetchFailed):
        ring_from(document, ALL)


# --- over the wire ---


def fetch(issuer: Issuer) -> bytes:
    return asyncio.run(HttpSource(issuer).fetch())


def plain(house, **over) -> Issuer:
    fields = {"issuer": house.idp.issuer, "audience": "a", "kind": Kind.HUMAN, "algorithms": ("EdDSA",), **over}
    return Issuer(**fields)


def test_keys_are_found_through_discovery_or_at_their_url(house):
    assert json.loads(fetch(plain(house))) == house.idp.jwks()
    assert json.loads(fetch(plain(house, jwks_url=house.idp.jwks_url))) == house.idp.jwks()


def discovery(house, **over) -> None:
    found = {"issuer": house.idp.issuer, "jwks_uri": house.idp.jwks_url, **over}
    house.idp.documents["/.well-known/openid-configuration"] = json.dumps(found).encode()


@pytest.mark.parametrize(
    "over",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"issuer": ["x"]},
        {"jwks_uri": "http://10.0.0.1/keys"},
        {"jwks_uri": "http://169.254.169.254/latest"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://user:pw@idp.example/keys"},
        {"jwks_uri": "http://localhost.evil.example/keys"},
        {"jwks_uri": 5},
        {"jwks_uri": None},
    ],
)
def test_a_discovery_document_that_lies_is_refused(house, over):
    discovery(house, **over)
    with pytest.raises(FetchFailed):
        fetch(plain(house))


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost.", "LOCALHOST", "db.localhost", "127.0.0.1", "127.1", "127.0.0.1.", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "0",
        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]", "169.254.169.254", "0xa9fea9fe", "[fe80::1]", "[::ffff:169.254.169.254]", "224.0.0.1",
    ],
)  # fmt: skip
def test_a_remote_issuer_sends_nobody_to_this_machine_or_its_link(host):
    async def document() -> AsyncIterator[bytes]:
        yield json.dumps({"issuer": "https://idp.example", "jwks_uri": f"https://{host}:8443/keys"}).encode()

    def told(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=document())

    async def ask() -> str:
        source = HttpSource(Issuer(issuer="https://idp.example", audience="a", kind=Kind.HUMAN, algorithms=("EdDSA",)))
        async with httpx.AsyncClient(transport=httpx.MockTransport(told)) as client:
            return await source._discover(client)

    with pytest.raises(FetchFailed, match="this machine"):
        asyncio.run(ask())


def test_no_redirect_is_followed(house):
    house.idp.documents["/elsewhere"] = json.dumps(house.idp.jwks()).encode()
    house.idp.redirects["/jwks.json"] = f"{house.idp.issuer}/elsewhere"
    with pytest.raises(FetchFailed, match="302"):
        fetch(plain(house))


def test_a_huge_key_set_is_not_read_to_its_end(house):
    house.idp.documents["/jwks.json"] = b'{"keys": [' + b" " * (4 * MAX_DOCUMENT) + b"]}"
    with pytest.raises(FetchFailed, match="too large"):
        fetch(plain(house))


def test_an_issuer_that_is_down_or_not_there_is_said_to_be(house):
    house.idp.down = True
    with pytest.raises(FetchFailed, match="503"):
        fetch(plain(house))
    with pytest.raises(FetchFailed):
        fetch(plain(house, jwks_url="http://127.0.0.1:1/keys"))
    with pytest.raises(FetchFailed, match="https"):
        fetch(plain(house, jwks_url="http://idp.example/keys"))


def test_a_login_while_the_issuer_is_down_fails_closed(house):
    house.idp.down = True
    with pytest.raises(NotAdmitted) as caught:
        asyncio.run(house.verifier().verify_token(house.idp.mint(), house.now))
    assert caught.value.reason is Reason.ISSUER_UNREACHABLE


def test_keys_may_come_from_a_file(house, tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(house.idp.jwks()))
    house.idp.down = True
    verifier = house.verifier(jwks_file=str(path))
    assert asyncio.run(verifier.verify_token(house.idp.mint(), house.now)).identity.subject == "ana"


# --- the gateway's own ---


def test_the_token_key_is_made_once_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "keys" / "token.pem"
    key = load_or_create_token_key(path)
    assert load_or_create_token_key(path).kid == key.kid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [known.kid for known in load_token_ring(path).keys] == [key.kid]
    assert "PRIVATE" not in public_path(path).read_text()
    assert '"d"' not in public_path(path).read_text()
    assert repr(key) == f"TokenKey(kid={key.kid!r})"
    assert sorted(file.name for file in path.parent.iterdir()) == ["token.pem", "token.pem.jwks.json"]


def test_a_token_key_that_others_may_read_is_not_used(tmp_path):
    path = tmp_path / "token.pem"
    load_or_create_token_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_or_create_token_key(path)


def test_a_token_key_of_another_kind_is_not_used(tmp_path):
    path = tmp_path / "token.pem"
    for content in (b"", b"junk", ECKey.generate_key("P-256").as_pem(private=True), ed().as_pem(private=False)):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError):
            load_or_create_token_key(path)


def test_a_new_token_key_joins_the_public_set_and_the_old_one_still_verifies(tmp_path):
    path = tmp_path / "token.pem"
    old = load_or_create_token_key(path)
    path.write_bytes(new_token_key().key.as_pem(private=True))
    new = load_or_create_token_key(path)
    assert [key.kid for key in load_token_ring(path).keys] == [new.kid, old.kid]


def test_workers_without_a_public_set_do_not_start(tmp_path):
    with pytest.raises(ConfigError, match="ostiary init"):
        load_token_ring(tmp_path / "token.pem")


def test_tokens_of_the_last_keys_stay_good_when_the_key_is_rotated(house):
    from ostiary.identity.exchange import Wanted, exchange
    from ostiary.identity.gateway import GatewayTokens, TokenSigner
    from ostiary.identity.keys import MAX_PUBLISHED, older_keys, rotate_token_key

    path = house.folder / "keys" / "token.pem"
    parent = asyncio.run(house.verifier().verify_token(house.idp.mint(), house.now))
    made = []
    for _ in range(MAX_PUBLISHED + 1):
        key = load_or_create_token_key(path)
        signer = TokenSigner(key, issuer=GATEWAY, audience="gw1", minutes=60, older=older_keys(path))
        assert signer.public_keys()[0]["kid"] == key.kid
        made.append(exchange(signer, parent, None, Wanted(), known=frozenset(), now=house.now).token)
        rotate_token_key(path)
    assert path.stat().st_mode & 0o077 == 0
    fresh = GatewayTokens(load_token_ring(path), issuer=GATEWAY, audience="gw1")
    for token in made[-(MAX_PUBLISHED - 1) :]:
        assert fresh.verify(parse_compact(token), house.now).identity.subject == "ana"
    with pytest.raises(NotAdmitted):
        fresh.verify(parse_compact(made[0]), house.now)


def test_purpose_and_ticket_come_from_the_claims_configured_and_travel_on(house):
    verifier = house.verifier(purpose_claim="why", ticket_claim="issue")
    token = house.idp.mint(why="fix the report", issue="OPS-42")
    who = asyncio.run(verifier.verify_token(token, house.now)).identity
    assert (who.purpose, who.ticket) == ("fix the report", "OPS-42")
    bare = asyncio.run(verifier.verify_token(house.idp.mint(why=7, issue="\x1b[2J"), house.now)).identity
    assert (bare.purpose, bare.ticket) == ("", "")
