"""AWS principals: who signed `sts:GetCallerIdentity` for us, and what is refused of what clients show.

The STS here is in memory and checks the signature as AWS documents it, over the headers that really came: moto answers a presigned URL
without looking at its signature, so with it nothing would show whether we send what was signed.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from ostiary.cli.aws_identity import presigned, sign
from ostiary.cli.codes import CommandFailed
from ostiary.identity.aws import ISSUER, NONCE_SECONDS, AwsLogin
from ostiary.identity.tokens import Proved
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.testing.gateway import gateway, target

ACCOUNT, KEY, SECRET = "111122223333", "ASIAEXAMPLEAKIDEXAMP", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
GATEWAY = "https://gw.example"
LAMBDA = f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/nightly-report"


class Sts:
    """An STS that knows one secret key, and answers as `said` says."""

    def __init__(self) -> None:
        self.arn, self.account, self.user = LAMBDA, ACCOUNT, "AROAEXAMPLE:nightly-report"
        self.heard: list[str] = []
        self.said: Callable[[], tuple[int, bytes, dict[str, str]]] = self.identity
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.heard.append(self.path)
                status, body, headers = outer.said() if outer.is_signed(self.path, self.headers) else (403, b"{}", {})
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def identity(self) -> tuple[int, bytes, dict[str, str]]:
        result = {"Account": self.account, "Arn": self.arn, "UserId": self.user}
        said = {"GetCallerIdentityResponse": {"GetCallerIdentityResult": result, "ResponseMetadata": {"RequestId": "x"}}}
        return 200, json.dumps(said).encode(), {}

    @staticmethod
    def is_signed(path: str, headers: Any) -> bool:
        asked = dict(parse_qsl(urlsplit(path).query, keep_blank_values=True))
        shown, names = asked.pop("X-Amz-Signature"), asked["X-Amz-SignedHeaders"]
        _, scope = asked["X-Amz-Credential"].split("/", 1)
        query = "&".join(f"{quote(name, safe='-_.~')}={quote(asked[name], safe='-_.~')}" for name in sorted(asked))
        lines = "".join(f"{name}:{headers.get(name, '').strip()}\n" for name in names.split(";"))
        canonical = f"GET\n/\n{query}\n{lines}\n{names}\n{hashlib.sha256(b'').hexdigest()}"
        text = f"AWS4-HMAC-SHA256\n{asked['X-Amz-Date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = b"AWS4" + SECRET.encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), shown)


class World:
    def __init__(self, sts: Sts, **over: Any) -> None:
        self.sts = sts
        settings = {"audience": GATEWAY, "accounts": frozenset({ACCOUNT}), "roles": frozenset(), "endpoints": (sts.url,)}
        self.login = AwsLogin(**settings | over)

    def shown(self, nonce: str, *, at: float | None = None, audience: str = GATEWAY, **more: str) -> str:
        keys = {"AccessKeyId": KEY, "SecretAccessKey": SECRET, "SessionToken": "t0ken/+=" * 8}
        headers = {"x-ostiary-audience": audience, "x-ostiary-nonce": nonce} | more
        return sign(self.sts.url, "us-east-1", keys, headers, dt.datetime.fromtimestamp(at or time.time(), dt.UTC))

    def verify(self, url: str | None = None, nonce: str | None = None, now: float | None = None) -> Proved:
        fresh = self.login.nonce(now or time.time()) if nonce is None else nonce
        return asyncio.run(self.login.verify(self.shown(fresh) if url is None else url, fresh, now or time.time()))


@pytest.fixture(scope="module")
def one_sts() -> Iterator[Sts]:
    sts = Sts()
    yield sts
    sts.server.shutdown()
    sts.server.server_close()


@pytest.fixture
def world(one_sts: Sts) -> World:
    one_sts.__dict__ |= {"arn": LAMBDA, "account": ACCOUNT, "user": "AROAEXAMPLE:nightly-report", "said": one_sts.identity, "heard": []}
    return World(one_sts)


def test_our_signature_is_the_one_that_botocore_makes() -> None:
    keys = {"AccessKeyId": "AKIDEXAMPLEAKIDEXAMP", "SecretAccessKey": SECRET, "SessionToken": "tok/en+value==" + "x" * 20}
    headers = {"x-ostiary-audience": GATEWAY, "x-ostiary-nonce": "1764072000.abc.def"}
    made = sign("https://sts.eu-west-1.amazonaws.com", "eu-west-1", keys, headers, dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC))
    # botocore 1.43, SigV4QueryAuth, expires=300, for the same request.
    assert made.endswith("&X-Amz-Signature=3d98595f74ef9e368827441ae3daa63c07e6e5316a20e4ab0f6f845af3a28e21")


def test_a_role_is_the_subject_and_its_session_is_named_beside_it(world: World) -> None:
    proved = world.verify()
    who = proved.identity
    assert (who.issuer, who.subject) == (ISSUER, f"arn:aws:iam::{ACCOUNT}:role/deployer")
    assert (who.name, who.task, who.kind.value) == ("deployer/nightly-report", "nightly-report", "workload")
    assert proved.claims["role"] == "deployer"
    assert "instance" not in proved.claims
    world.sts.arn, world.sts.user = f"arn:aws:sts::{ACCOUNT}:assumed-role/web/i-0123456789abcdef0", "AROAX:i-0123456789abcdef0"
    assert world.verify().claims["instance"] == "i-0123456789abcdef0"
    world.sts.arn, world.sts.user = f"arn:aws:iam::{ACCOUNT}:user/ops/bob", "AIDAEXAMPLE"
    assert (world.verify().identity.subject, world.verify().identity.name) == (world.sts.arn, "bob")


def test_it_is_good_once_for_this_gateway_and_no_other(world: World) -> None:
    nonce = world.login.nonce(time.time())
    url = world.shown(nonce)
    world.verify(url, nonce)
    with pytest.raises(NotAdmitted, match="used already"):
        world.verify(url, nonce)
    fresh = world.login.nonce(time.time())
    for stolen in (world.shown(fresh, audience="https://other.example"), world.shown("1.2.3"), url):
        other = world.login.nonce(time.time())
        with pytest.raises(NotAdmitted, match="does not accept the signature"):
            world.verify(stolen, other)


def test_what_aws_does_not_vouch_for_takes_no_room(world: World) -> None:
    for _ in range(3):
        nonce = world.login.nonce(time.time())
        with pytest.raises(NotAdmitted):
            world.verify(world.shown(nonce, audience="https://other.example"), nonce)
    assert world.login._spent == {}


def test_a_nonce_is_ours_and_fresh(world: World) -> None:
    other = World(world.sts)
    old = world.login.nonce(time.time() - NONCE_SECONDS - 5)
    ahead = world.login.nonce(time.time() + 60)
    for nonce in (other.login.nonce(time.time()), old, ahead, "", "a.b.c", "1.é.0", "99999999999.a." + "0" * 32):
        with pytest.raises(NotAdmitted, match="nonce"):
            world.verify(world.shown("x"), nonce)
    assert world.sts.heard == []


def changed(url: str, name: str, value: str) -> str:
    base, _, query = url.partition("?")
    pairs = [(k, value if k == name else v) for k, v in parse_qsl(query)]
    return f"{base}?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in pairs)


HOSTILE: dict[str, Callable[[str], str]] = {
    "another host": lambda url: url.replace("127.0.0.1", "127.0.0.2"),
    "a host behind a user": lambda url: url.replace("http://", "http://sts.amazonaws.com@"),
    "a user before the host": lambda url: url.replace("http://127.0.0.1", "http://x@127.0.0.1"),
    "another port": lambda url: url.replace("/?", "1/?"),
    "https in capitals": lambda url: url.replace("http://", "HTTP://evil.example/?http://"),
    "a path": lambda url: url.replace("/?", "/latest/meta-data?"),
    "two slashes": lambda url: url.replace("/?", "//?"),
    "no path": lambda url: url.replace("/?", "?"),
    "a backslash": lambda url: url.replace("/?", "\\@169.254.169.254/?"),
    "a fragment": lambda url: url + "#x",
    "an empty fragment": lambda url: url + "#",
    "a line break": lambda url: url + "\r\nx-evil: 1",
    "another action": lambda url: changed(url, "Action", "AssumeRole"),
    "a second action": lambda url: url + "&Action=AssumeRole",
    "one more parameter": lambda url: url + "&RoleArn=x",
    "another version": lambda url: changed(url, "Version", "2010-05-08"),
    "no signature": lambda url: url.partition("&X-Amz-Signature")[0],
    "unsigned headers": lambda url: changed(url, "X-Amz-SignedHeaders", "host"),
    "the nonce unsigned": lambda url: changed(url, "X-Amz-SignedHeaders", "host;x-ostiary-audience"),
    "more signed headers": lambda url: changed(url, "X-Amz-SignedHeaders", "host;x-amz-target;x-ostiary-audience;x-ostiary-nonce"),
    "another service": lambda url: url.replace("%2Fsts%2F", "%2Fiam%2F"),
    "another algorithm": lambda url: changed(url, "X-Amz-Algorithm", "AWS4-ECDSA-P256-SHA256"),
    "good for a day": lambda url: changed(url, "X-Amz-Expires", "86400"),
    "another day": lambda url: changed(url, "X-Amz-Credential", f"{KEY}/20200101/us-east-1/sts/aws4_request"),
    "no date": lambda url: changed(url, "X-Amz-Date", "20269999T999999Z"),
    "semicolons": lambda url: url.replace("&", ";"),
    "too long": lambda url: url + "A" * 9000,
    "not ASCII": lambda url: url.replace("Action", "Actión"),
    "nothing": lambda _: "",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_of_what_clients_show_nothing_but_the_one_question_is_asked(world: World, what: str) -> None:
    nonce = world.login.nonce(time.time())
    with pytest.raises(NotAdmitted) as refused:
        world.verify(HOSTILE[what](world.shown(nonce)), nonce)
    assert refused.value.reason is Reason.BAD_TOKEN
    assert world.sts.heard == []


@pytest.mark.parametrize(("age", "reason"), [(301, Reason.EXPIRED_TOKEN), (-120, Reason.BAD_TOKEN)])
def test_a_url_of_the_past_or_the_future_is_refused(world: World, age: int, reason: Reason) -> None:
    nonce = world.login.nonce(time.time())
    with pytest.raises(NotAdmitted) as refused:
        world.verify(world.shown(nonce, at=time.time() - age), nonce)
    assert refused.value.reason is reason


@pytest.mark.parametrize(
    ("arn", "account", "user"),
    [
        ("arn:aws:sts::999988887777:assumed-role/deployer/x1", "999988887777", "AROA:x1"),
        (f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT, ACCOUNT),
        (f"arn:aws:sts::{ACCOUNT}:federated-user/ana", ACCOUNT, f"{ACCOUNT}:ana"),
        (LAMBDA, "999988887777", "AROA:nightly-report"),
        (LAMBDA, ACCOUNT, "AROA:another"),
        (LAMBDA + "/more", ACCOUNT, "AROA:nightly-report/more"),
        (LAMBDA + "\n", ACCOUNT, "AROA:nightly-report"),
    ],
)
def test_an_answer_that_is_not_about_a_principal_of_ours_proves_nobody(world: World, arn: str, account: str, user: str) -> None:
    world.sts.arn, world.sts.account, world.sts.user = arn, account, user
    with pytest.raises(NotAdmitted) as refused:
        world.verify()
    assert refused.value.reason is Reason.BAD_TOKEN


@pytest.mark.parametrize(
    ("status", "body", "headers", "reason"),
    [
        (200, b"<GetCallerIdentityResponse/>", {}, Reason.ISSUER_UNREACHABLE),
        (200, b"{}", {}, Reason.BAD_TOKEN),
        (200, b'{"GetCallerIdentityResponse": {"GetCallerIdentityResult": {"Arn": 1, "Account": 2, "UserId": 3}}}', {}, Reason.BAD_TOKEN),
        (200, b'{"GetCallerIdentityResponse": {}, "GetCallerIdentityResponse": {}}', {}, Reason.ISSUER_UNREACHABLE),
        (200, b" " * 300_000, {}, Reason.ISSUER_UNREACHABLE),
        (302, b"", {"location": "http://169.254.169.254/"}, Reason.ISSUER_UNREACHABLE),
        (503, b"", {}, Reason.ISSUER_UNREACHABLE),
        (400, b"", {}, Reason.BAD_TOKEN),
    ],
)
def test_a_strange_answer_proves_nobody(world: World, status: int, body: bytes, headers: dict[str, str], reason: Reason) -> None:
    world.sts.said = lambda: (status, body, headers)
    with pytest.raises(NotAdmitted) as refused:
        world.verify()
    assert refused.value.reason is reason


def test_only_the_roles_that_are_named_may_come(one_sts: Sts, world: World) -> None:
    World(one_sts, roles=frozenset({"deployer"})).verify()
    with pytest.raises(NotAdmitted, match="role does not hold"):
        World(one_sts, roles=frozenset({"reader"})).verify()
    assert world.sts is one_sts


def test_nothing_is_signed_for_a_gateway_that_was_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    said = {"nonce": "n", "audience": "https://real.example", "endpoint": "https://sts.eu-west-1.amazonaws.com"}
    monkeypatch.setattr("ostiary.api.client.nonce", lambda *_, **__: said)
    for url in ("https://evil.example", "https://real.example.evil", "http://real.example", "https://real.example:8443"):
        with pytest.raises(CommandFailed, match=r"meant for https://real\.example"):
            presigned(url, None)
    assert presigned("https://real.example/", None)[1] == "n"


def test_a_role_logs_in_with_the_command_line_and_is_on_record(one_sts: Sts, world: World, postgres) -> None:
    sections = {"aws_identities": {"accounts": [ACCOUNT], "endpoints": [one_sts.url]}}
    policy = "permit (principal, action, resource);"
    env = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "t0ken/+=" * 8}
    with gateway(connections={"db": target(postgres)}, policy=policy, sections=sections, environment=env) as gate:
        done = gate.run("token", "db", "--from", "aws", "-c", str(gate.config))
        assert done.returncode == 0, done.stderr
        with gate.connect("db", token=done.stdout.strip()) as client:
            assert not client.query("SELECT 1").errors
        start = next(each for each in gate.entries() if each["kind"] == "session.start")
        assert (start["who"]["iss"], start["who"]["sub"]) == (ISSUER, f"arn:aws:iam::{ACCOUNT}:role/deployer")
        assert (start["who"]["name"], start["task"]) == ("deployer/nightly-report", "nightly-report")
        assert not [each for _, each in gate.written() if SECRET.encode() in each]
