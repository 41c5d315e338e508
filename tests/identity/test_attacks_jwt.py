"""Every published attack of the surface `oidc-jwt`, through the API: refused, generically, with its reason on record.

Items with machine steps are run as they are written. Items without are procedures; each is a function here, named by its
id in `PROCEDURES`, and a test holds that no item is left out.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import json
import re
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from joserfc.jwk import OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from prometheus_client import CollectorRegistry

from ostiary.api.app import Deps, create_app
from ostiary.api.events import TokenEvent
from ostiary.api.words import GRANT, JWT
from ostiary.identity import records
from ostiary.identity.clients import Clients
from ostiary.identity.gateway import GatewayTokens, TokenSigner
from ostiary.identity.issuers import issuer_from
from ostiary.identity.jose import encode_base64url, sign_compact
from ostiary.identity.jwks import FetchFailed, HttpSource, ring_from
from ostiary.identity.keys import new_token_key
from ostiary.identity.records import Records
from ostiary.identity.standing import REVOKED, Standing, stop_body
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.store import news
from ostiary.store.database import Database
from ostiary.store.news import News, NewsBoard
from ostiary.testing.issuer import LocalIssuer, new_key

ROOT = Path(__file__).resolve().parents[2]
ITEMS: dict[str, dict[str, Any]] = {}
for line in (ROOT / "tests/attacks/attacks.jsonl").read_text().splitlines():
    item = json.loads(line)
    if item["protocol"] == "oidc-jwt":
        ITEMS[item["id"]] = item

ISSUER = "https://idp.example.com"
GENERIC = {"error": "invalid_request", "error_description": "the token was not accepted"}
ALICE = {"sub": "alice", "email": "alice@corp", "email_verified": True, "groups": ["staff"]}


IDP_RSA, IDP_EC, ATTACKER_RSA = RSAKey.generate_key(2048), new_key("ES256"), RSAKey.generate_key(2048)


class Stage:
    """Profile `oidc-base`: one trusted issuer with an RSA key `1` and an EC key, audience `ostiary` (and `gw`)."""

    def __init__(self, folder: Path) -> None:
        self.idp_rsa, self.idp_ec, self.attacker_rsa = IDP_RSA, IDP_EC, ATTACKER_RSA
        jwks = folder / "jwks.json"
        listed = [
            {**self.idp_rsa.as_dict(private=False), "kid": "1", "alg": "RS256"},
            {**self.idp_ec.as_dict(private=False), "kid": "ec", "alg": "ES256"},
        ]
        jwks.write_text(json.dumps({"keys": listed}))
        table = {
            "issuer": ISSUER,
            "audience": ["ostiary", "gw"],
            "kind": "human",
            "algorithms": ["RS256", "ES256"],
            "jwks_file": str(jwks),
        }
        key = new_token_key()
        self.standing = Standing()
        gateway = GatewayTokens(key.ring(), issuer="https://gw", audience="gw1")
        self.verifier = Verifier([issuer_from(table)], gateway=gateway, standing=self.standing)
        self.events: list[TokenEvent] = []
        database = Database.open(folder / "control.db", [news.AREA, records.AREA])
        self.deps = Deps(
            verifier=self.verifier,
            signer=TokenSigner(key, issuer="https://gw", audience="gw1", minutes=60),
            revoke=self.revoke,
            connections=frozenset({"orders-db", "hr-db"}),
            record=self._record,
            registry=CollectorRegistry(),
            records=Records(database, NewsBoard(database)),
            clients=Clients([], issuer="https://gw", audiences=frozenset({"https://gw"})),
            base_url="https://gw",
        )
        self.app = create_app(self.deps)

    async def revoke(self, token: str, until: int) -> None:
        self.standing.heard(News(1, REVOKED, token, stop_body(Reason.REVOKED_TOKEN, ""), until))

    async def _record(self, event: TokenEvent) -> None:
        self.events.append(event)

    def claims(self, over: dict[str, Any] | None = None) -> dict[str, Any]:
        now = int(time.time())
        base = {"iss": ISSUER, "aud": "ostiary", "iat": now, "exp": now + 600, **ALICE}
        return base | {name: self._value(value) for name, value in (over or {}).items()}

    @staticmethod
    def _value(value: Any) -> Any:
        if isinstance(value, str) and (found := re.fullmatch(r"now([+-]\d+)", value)):
            return int(time.time()) + int(found[1])
        if isinstance(value, str) and (found := re.match(r"nested (\d+) levels", value)):
            act: dict[str, Any] | None = None
            for level in range(int(found[1])):
                act = {"sub": f"agent-{level}"} | ({} if act is None else {"act": act})
            return act
        return value

    def good(self, **over: Any) -> str:
        return sign_compact({"alg": "RS256", "kid": "1", "typ": "JWT"}, self.claims(over), self.idp_rsa)

    def ask(self, **form: Any):
        async def go():
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gw") as client:
                return await client.post("/v1/token", data=form)

        return asyncio.run(go())

    def exchange(self, token: str, **form: Any):
        return self.ask(grant_type=GRANT, subject_token=token, subject_token_type=JWT, **form)

    def must_refuse(self, token: str) -> Reason:
        before = len(self.events)
        answer = self.exchange(token)
        assert (answer.status_code, answer.json()) == (400, GENERIC)
        (event,) = self.events[before:]
        assert event.reason is not None
        assert event.who is None
        assert event.detail or event.reason is not Reason.BAD_TOKEN
        assert token not in repr(event)
        return event.reason

    def must_accept(self, token: str) -> None:
        answer = self.exchange(token)
        assert answer.status_code == 200, self.events[-1]
        assert self.events[-1].who is not None

    def tokens(self, step: dict[str, Any]) -> list[str]:
        """The token, or the spellings of it, that a step describes."""
        header = self._header(dict(step["header"]))
        if step["op"] == "jwe":
            return [".".join([part(header), "AAAA", "AAAA", "AAAA", "AAAA"])]
        message = f"{part(header)}.{part(self.claims(step.get('claims')))}"
        return [f"{message}.{encode_base64url(signature)}" for signature in self._signatures(step["key"], message)]

    def _header(self, header: dict[str, Any]) -> dict[str, Any]:
        if header.get("x5c"):
            header["x5c"] = [base64.b64encode(self_signed(self.attacker_rsa)).decode()]
        return header

    def _signatures(self, key: str, message: str) -> list[bytes]:
        text = message.encode()
        pem = self.idp_rsa.as_pem(private=False)
        match key:
            case "none":
                return [b"", bytes(1), bytes(32)]
            case "idp_rsa":
                return [sign_rsa(self.idp_rsa, text)]
            case "attacker_rsa":
                return [sign_rsa(self.attacker_rsa, text)]
            case "literal signature 64 zero bytes":
                return [bytes(64)]
            case _ if key.startswith("hmac:PEM"):
                secrets = [pem, pem.rstrip(b"\n"), pem + b"\n"]
                return [hmac.digest(secret, text, hashlib.sha256) for secret in secrets]
            case _ if key.startswith("hmac:"):
                return [hmac.digest(key.removeprefix("hmac:").encode(), text, hashlib.sha256)]
            case _:
                raise AssertionError(f"a key that this runner does not know: {key}")


def part(value: object) -> str:
    return encode_base64url(json.dumps(value).encode())


def sign_rsa(key: RSAKey, message: bytes) -> bytes:
    return JWSRegistry.algorithms["RS256"].sign(message, key)


def self_signed(key: RSAKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp.example.com")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.get_op_key("verify"))
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
    )
    return built.sign(key.get_op_key("sign"), hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def steps() -> list[Any]:
    return [
        pytest.param(step, id=f"{name}-{number}")
        for name, item in ITEMS.items()
        for number, step in enumerate(item.get("steps", []))
    ]


def test_the_controls_pass(stage):
    stage.must_accept(stage.good())
    stage.must_accept(sign_compact({"alg": "RS256"}, stage.claims(), stage.idp_rsa))
    stage.must_accept(sign_compact({"alg": "ES256", "kid": "ec"}, stage.claims(), stage.idp_ec))
    stage.must_accept(stage.good(aud=["gw", "ostiary"], azp="gw"))
    stage.must_accept(stage.good(act={"sub": "agent-1"}))


@pytest.mark.parametrize("step", steps())
def test_a_published_token_is_refused(stage, step):
    for token in stage.tokens(step):
        stage.must_refuse(token)


# --- procedures ---


def zip_bomb(stage: Stage) -> None:
    bomb = zlib.compress(bytes(10_000_000))[2:-4]
    header = part({"alg": "dir", "enc": "A128GCM", "zip": "DEF"})
    stage.must_refuse(".".join([header, "", "AAAA", encode_base64url(bomb)[:10_000], "AAAA"]))
    stage.must_refuse(".".join([header, encode_base64url(bomb)[:10_000], "AAAA"]))


def json_serialisation(stage: Stage) -> None:
    header, body, signature = stage.good().split(".")
    signatures = [
        {"protected": header, "signature": signature},
        {"protected": part({"alg": "none"}), "signature": ""},
    ]
    for spelled in (
        {"payload": body, "signatures": signatures},
        {"payload": body, "signatures": signatures[:1]},
        {"payload": body, "protected": header, "signature": signature},
    ):
        stage.must_refuse(json.dumps(spelled))
        stage.must_refuse(encode_base64url(json.dumps(spelled).encode()))


def other_spellings(stage: Stage) -> None:
    token = stage.good()
    header, body, signature = token.split(".")
    for spelled in (
        f"{header}=.{body}=.{signature}=",
        f"{header}==.{body}.{signature}",
        f" {token}",
        f"{token} ",
        f"{token}\n",
        f"{header}.{body[:10]}\n{body[10:]}.{signature}",
        f"{header}.{body}.{signature}A",
        token.replace("_", "/").replace("-", "+") + "/",
        f"{header}.{body}.{signature}.",
    ):
        stage.must_refuse(spelled)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for last in alphabet.replace(signature[-1], ""):
        stage.must_refuse(f"{header}.{body}.{signature[:-1]}{last}")


def weak_keys(stage: Stage) -> None:
    strong = stage.idp_rsa.as_dict(private=False)
    for over in ({"e": "AQ"}, {"e": "Ag"}, {"n": strong["n"][:170]}, {"n": strong["n"][:171]}):
        ring = ring_from(json.dumps({"keys": [{**strong, **over, "kid": "1"}]}).encode(), ("RS256",))
        assert ring.keys == ()
    # With e = 1 the padded digest is its own signature; the key is not there to be fooled.
    message = f"{part({'alg': 'RS256', 'kid': '1'})}.{part(stage.claims())}"
    digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message.encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (256 - 3 - len(digest)) + b"\x00" + digest
    stage.must_refuse(f"{message}.{encode_base64url(padded)}")


def a_code_that_nobody_gave(stage: Stage) -> None:
    """Nonce, state, verifier and replay at a real login: `tests/api/test_logins.py`, which holds each."""
    asked = {"code": "c", "code_verifier": "v" * 43, "state": "s", "redirect_uri": "http://127.0.0.1:1/"}
    for more in ({}, {"client_id": "ostiary"}, {"client_id": "other"}, {"client_id": "ostiary", "code_verifier": ""}):
        answer = stage.ask(grant_type="authorization_code", **asked | more)
        assert answer.status_code in (400, 401)
        assert "access_token" not in answer.json()
    for grant in ("implicit", "refresh_token", "password"):
        assert stage.ask(grant_type=grant, **asked).json()["error"] == "unsupported_grant_type"


def an_agent_that_drops_act(stage: Stage) -> None:
    token = stage.good(act={"sub": "agent-1"})
    for _ in range(3):
        token = stage.exchange(token).json()["access_token"]
        who = stage.events[-1].who
        assert who is not None
        assert (who.subject, [actor.sub for actor in who.acting]) == ("alice", ["agent-1"])
    body = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    del body["act"]
    header, _, signature = token.split(".")
    stage.must_refuse(f"{header}.{part(body)}.{signature}")


def an_exchange_that_widens(stage: Stage) -> None:
    narrow = stage.exchange(stage.good(), audience="orders-db").json()["access_token"]
    assert stage.exchange(narrow, scope="*").json()["error"] == "invalid_scope"
    for audience in ("*", "hr-db", ["orders-db", "hr-db"]):
        assert stage.exchange(narrow, audience=audience).json()["error"] == "invalid_target"
    bounded = stage.exchange(stage.good(), authorization_details='[{"type":"ostiary","actions":["read"]}]')
    for details in ('[{"type":"ostiary","actions":["read","delete"]}]', '[{"type":"ostiary","actions":["*"]}]'):
        answer = stage.exchange(bounded.json()["access_token"], authorization_details=details)
        assert answer.json()["error"] == "invalid_authorization_details"


def keys_down_at_rotation(stage: Stage) -> None:
    clock = [0.0]
    with LocalIssuer() as idp:
        table = {"issuer": idp.issuer, "audience": "ostiary", "kind": "human", "algorithms": ["EdDSA"]}
        issuer = issuer_from(table | {"keys_stale_seconds": 3600})
        verifier = Verifier([issuer], gateway=None, standing=stage.standing, clock=lambda: clock[0])
        old, now = idp.mint(), time.time()
        asyncio.run(verifier.verify_token(old, now))
        idp.down = True
        idp.rotate()
        new = idp.mint()
        clock[0] = 3000.0
        assert asyncio.run(verifier.verify_token(old, now)).identity.subject == "ana"
        with pytest.raises(NotAdmitted) as caught:
            asyncio.run(verifier.verify_token(new, now))
        assert caught.value.reason is Reason.BAD_TOKEN
        clock[0] = 3700.0
        for token in (old, new):
            with pytest.raises(NotAdmitted) as caught:
                asyncio.run(verifier.verify_token(token, now))
            assert caught.value.reason is Reason.ISSUER_UNREACHABLE
        idp.down = False
        clock[0] = 3800.0
        assert asyncio.run(verifier.verify_token(new, now)).identity.subject == "ana"


def one_kid_two_algorithms(stage: Stage) -> None:
    keys = [
        {**stage.idp_rsa.as_dict(private=False), "kid": "1", "alg": "RS256"},
        {**stage.idp_ec.as_dict(private=False), "kid": "1", "alg": "ES256"},
        {**stage.idp_ec.as_dict(private=False), "kid": "2", "alg": "ES256"},
    ]
    assert [key.kid for key in ring_from(json.dumps({"keys": keys}).encode(), ("RS256", "ES256")).keys] == ["2"]
    # And a token never moves a key to another algorithm.
    stage.must_refuse(sign_compact({"alg": "RS512", "kid": "1"}, stage.claims(), stage.idp_rsa))
    stage.must_refuse(sign_compact({"alg": "PS256", "kid": "1"}, stage.claims(), stage.idp_rsa))
    stage.must_refuse(sign_compact({"alg": "ES256", "kid": "1"}, stage.claims(), stage.idp_ec))


def a_key_set_that_is_a_trap(stage: Stage) -> None:
    with LocalIssuer() as idp:
        base = {"issuer": idp.issuer, "audience": "ostiary", "kind": "human", "algorithms": ["EdDSA"]}
        source = HttpSource(issuer_from(base))
        idp.documents["/jwks.json"] = b" " * 5_000_000
        with pytest.raises(FetchFailed, match="too large"):
            asyncio.run(source.fetch())
        del idp.documents["/jwks.json"]
        for target in ("http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/", "https://127.0.0.1/", "/x"):
            idp.redirects["/jwks.json"] = target
            with pytest.raises(FetchFailed, match="302"):
                asyncio.run(source.fetch())
    with pytest.raises(ConfigError):
        issuer_from(base | {"jwks_url": "http://idp.example.com/jwks"})


def a_document_of_another_issuer(stage: Stage) -> None:
    with LocalIssuer() as idp:
        found = {"issuer": "https://idp.example.com.evil", "jwks_uri": idp.jwks_url}
        idp.documents["/.well-known/openid-configuration"] = json.dumps(found).encode()
        table = {"issuer": idp.issuer, "audience": "ostiary", "kind": "human", "algorithms": ["EdDSA"]}
        verifier = Verifier([issuer_from(table)], gateway=None, standing=stage.standing)
        with pytest.raises(NotAdmitted) as caught:
            asyncio.run(verifier.verify_token(idp.mint(), time.time()))
        assert caught.value.reason is Reason.ISSUER_UNREACHABLE
        assert "another issuer" in caught.value.detail


PROCEDURES: dict[str, Callable[[Stage], None]] = {
    "JWT-012": zip_bomb,
    "JWT-014": json_serialisation,
    "JWT-016": other_spellings,
    "JWT-020": weak_keys,
    "JWT-029": a_code_that_nobody_gave,
    "JWT-038": an_agent_that_drops_act,
    "JWT-039": an_exchange_that_widens,
    "JWT-044": keys_down_at_rotation,
    "JWT-046": one_kid_two_algorithms,
    "JWT-047": a_key_set_that_is_a_trap,
    "JWT-048": a_document_of_another_issuer,
}


@pytest.mark.parametrize("name", PROCEDURES)
def test_a_published_procedure_fails(stage, name):
    PROCEDURES[name](stage)


def test_no_published_item_is_left_out():
    left_out = {name for name, item in ITEMS.items() if not item.get("steps")} - PROCEDURES.keys()
    assert not left_out
    assert ITEMS


# --- of the same families, beyond what is published ---


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": "attacker"},
        {"kid": "../../../dev/null"},
        {"kid": "1' UNION SELECT 'x"},
        {"kid": "1\u0000"},
        {"crit": ["exp"], "exp": 0},
        {"crit": ["b64"], "b64": False},
        {"alg": "RS256 "},
        {"alg": "rs256"},
        {"alg": "RS1"},
        {"alg": "HS384"},
        {"alg": "ES256K"},
        {"alg": "RSA-OAEP"},
        {"typ": "secevent+jwt"},
        {"typ": "at+jwt"},
        {"cty": "JWT"},
    ],
)
def test_headers_of_the_same_kind_are_refused(stage, header):
    head = {"alg": "RS256", "kid": "1"} | header
    if header.get("jwk"):
        head["jwk"] = stage.attacker_rsa.as_dict(private=False)
    key = stage.attacker_rsa if header.get("jwk") else stage.idp_rsa
    message = f"{part(head)}.{part(stage.claims())}"
    stage.must_refuse(f"{message}.{encode_base64url(sign_rsa(key, message.encode()))}")


@pytest.mark.parametrize(
    ("r", "s"),
    [
        (0, 1),
        (1, 0),
        (0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551, 1),
        (1, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
        ((1 << 256) - 1, (1 << 256) - 1),
    ],
)
def test_signatures_out_of_the_curves_range_are_refused(stage, r, s):
    message = f"{part({'alg': 'ES256', 'kid': 'ec'})}.{part(stage.claims())}"
    stage.must_refuse(f"{message}.{encode_base64url(r.to_bytes(32) + s.to_bytes(32))}")
    # A good signature of the right key, in DER where JWS has r and s side by side (RFC 7518, 3.4).
    der = stage.idp_ec.get_op_key("sign").sign(message.encode(), ec.ECDSA(hashes.SHA256()))
    stage.must_refuse(f"{message}.{encode_base64url(der)}")


def test_a_token_of_the_gateways_key_does_not_pass_for_an_issuers(stage):
    other = OKPKey.generate_key("Ed25519")
    for header in ({"alg": "EdDSA", "kid": "1"}, {"alg": "EdDSA", "typ": "at+jwt", "kid": other.thumbprint()}):
        stage.must_refuse(sign_compact(header, stage.claims(), other))
        stage.must_refuse(sign_compact(header, stage.claims({"iss": "https://gw", "aud": "gw1"}), other))
