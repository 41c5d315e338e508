"""What the gateway signs with: its own key, a role in the name of who acts, a web identity, the machine's role; from moto's STS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from moto.sts.models import sts_backends

from ostiary.model.connections import AwsCredential, AwsCredentialKind
from ostiary.model.errors import NotAdmitted
from ostiary.model.secrets import Secret, SecretRef
from ostiary.protocols.aws.sigv4 import plain_name
from ostiary.testing.endpoint import Endpoint, served
from ostiary.upstream import aws_credentials
from ostiary.upstream.aws_credentials import EARLY_SECONDS, AwsShown, Place
from tests.aws.account import ACCOUNT, WATCH, Account, account
from tests.aws.test_aws_gateway import refused
from tests.policy.policy_world import identity

ROLE = f"arn:aws:iam::{ACCOUNT}:role/ostiary"
KEY = {"access_key": "AKIAGATEWAY", "secret": "file:secrets/key"}


def calls_as(made: Account, **claims: Any) -> str:
    """Who AWS takes a caller for."""
    return str(made.client("sts", **claims).get_caller_identity()["Arn"])


def assumed() -> dict[str, str]:
    """The last form by which a role was assumed."""
    return next(form for form in reversed(WATCH.forms) if form.get("Action", "").startswith("AssumeRole"))


def test_a_role_is_assumed_in_the_name_of_who_acts_and_nobody_sees_its_keys(moto: str) -> None:
    with account(moto, identity=KEY | {"role": ROLE, "external_id": "e-1", "session_seconds": 900}) as made:
        WATCH.begin()
        assert calls_as(made).endswith("assumed-role/ostiary/ana")
        form = assumed()
        assert (form["RoleSessionName"], form["SourceIdentity"], form["ExternalId"], form["DurationSeconds"]) == ("ana", "ana", "e-1", "900")
        tags = {form[f"Tags.member.{n}.Key"]: form[f"Tags.member.{n}.Value"] for n in range(1, 6)}
        started = made.records("session.start")[-1]
        assert tags["ostiary:subject"] == "ana"
        assert tags["ostiary:issuer"] == "https://idp.test"
        assert tags["ostiary:session"] in json.dumps(started)
        assert tags["ostiary:connection"] == "aws-prod"
        made.client("s3").list_buckets()
        assert len([each for each in WATCH.forms if each.get("Action") == "AssumeRole"]) == 1, "keys are kept for the session"
        assert calls_as(made, subject="eve").endswith("/eve"), "and are of nobody else"
        secrets = [each.secret_access_key for each in sts_backends[ACCOUNT]["aws"].assumed_roles if each.session_name in ("ana", "eve")]
        tokens = [each.session_token for each in sts_backends[ACCOUNT]["aws"].assumed_roles if each.session_name in ("ana", "eve")]
        assert secrets
        for path, content in made.gateway.written():
            if path.name != "key":
                assert not any(each.encode() in content for each in [*secrets, *tokens, "the-real-secret"]), path


def test_who_acts_for_somebody_names_the_session_and_the_subject_is_the_source(moto: str) -> None:
    with account(moto, identity=KEY | {"role": ROLE}) as made:
        WATCH.begin()
        made.grant("coder for ana", sub="ana", act={"iss": "https://idp.test", "sub": "coder"})
        assert calls_as(made, subject="coder for ana").endswith("/coder")
        form = assumed()
        assert (form["RoleSessionName"], form["SourceIdentity"]) == ("coder", "ana")
        WATCH.denies = "AssumeRole"
        try:
            for service, call, protocol in (("s3", "list_buckets", "ServiceUnavailable"), ("dynamodb", "list_tables", "ServiceUnavailable")):
                error = refused(getattr(made.client(service, subject="bob"), call))
                assert error["Code"].startswith(protocol)
                assert "STS says AccessDenied" in error["Message"]
        finally:
            WATCH.denies = ""
        assert calls_as(made, subject="bob").endswith("/bob"), "and once STS gives keys, it goes on"


def test_a_web_identity_is_read_when_it_is_used_and_takes_the_session_name_alone(moto: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("eyJ.fake.token\n")
    (tmp_path / "token").chmod(0o600)
    with account(moto, identity={"kind": "web-identity", "token": f"file:{tmp_path}/token", "role": ROLE}) as made:
        WATCH.begin()
        assert calls_as(made).endswith("assumed-role/ostiary/ana")
        form = assumed()
        assert form["Action"] == "AssumeRoleWithWebIdentity"
        assert (form["WebIdentityToken"], form["RoleSessionName"]) == ("eyJ.fake.token", "ana")
        assert "SourceIdentity" not in form
        assert not any(b"eyJ.fake.token" in content for _, content in made.gateway.written())


@pytest.mark.parametrize("subject", ["ana x", "ana-x", "a" * 70, "a" * 69 + "b", "ana/x", "ü", "a", "Ana", "x-y@z.example"])
def test_two_subjects_never_share_a_name_at_aws(subject: str) -> None:
    name = plain_name(subject)
    assert 2 <= len(name) <= 64
    assert name.isascii()
    others = ["ana x", "ana-x", "a" * 70, "a" * 69 + "b", "ana/x", "ü", "a", "Ana", "x-y@z.example", "ana:x", "a-", "--"]
    assert [each for each in others if plain_name(each) == name] == [subject]


# --- by itself: a clock, and a machine's metadata service, which no test machine has --------------------------------------


class Metadata(Endpoint):
    """The instance metadata service, version 2, as it stands in the EC2 User Guide: a token first, and nothing without it."""

    role = "machine"
    heard: ClassVar[list[str]] = []

    def do_PUT(self) -> None:  # noqa: N802 - the name that http.server calls
        self.heard.append("PUT " + self.path)
        ok = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.say(200 if ok else 400, b"a-token" if ok else b"")

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        self.heard.append("GET " + self.path)
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            return self.say(401, b"")
        place = "/latest/meta-data/iam/security-credentials/"
        if self.path == place:
            return self.say(200 if self.role else 404, self.role.encode())
        keys = {"Code": "Success", "AccessKeyId": "ASIAMACHINE", "SecretAccessKey": "machine-secret", "Token": "machine-token", "Expiration": "2099-01-01T00:00:00Z"}
        return self.say(200, json.dumps(keys).encode()) if self.path == place + "machine" else self.say(404, b"")


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Metadata]]:
    with served(Metadata) as url:
        monkeypatch.setattr(aws_credentials, "METADATA", url)
        Metadata.heard, Metadata.role = [], "machine"
        yield Metadata


def shown(moto: str, kind: AwsCredentialKind, role: str = "") -> AwsShown:
    """What a session is signed with, whose STS is moto's."""
    held = AwsCredential(
        kind=kind, access_key="AKIAGATEWAY", secret=SecretRef("env", "X"), token=None, role=role, external_id="", session_seconds=900
    )
    place = Place("aws-prod", "us-east-1", (moto + "/", moto[7:]))
    return AwsShown(held, place, lambda _: Secret("the-real-secret"), identity(), "session-1")


def test_a_machine_shows_its_role_to_who_fetches_a_token_first(moto: str, metadata: type[Metadata]) -> None:
    of_machine = shown(moto, AwsCredentialKind.INSTANCE)
    assert of_machine.ready() is None
    asyncio.run(of_machine.fetch())
    assert (of_machine.keys.access_key, of_machine.keys.secret.reveal(), of_machine.keys.token.reveal()) == ("ASIAMACHINE", "machine-secret", "machine-token")
    assert metadata.heard[0] == "PUT /latest/api/token"
    assert "machine-secret" not in repr(of_machine.keys)
    WATCH.begin()
    with_role = shown(moto, AwsCredentialKind.INSTANCE, ROLE)
    asyncio.run(with_role.fetch())
    assert assumed()["SourceIdentity"] == "ana"
    assert with_role.keys.access_key.startswith("ASIA")
    assert with_role.keys.access_key != "ASIAMACHINE"


@pytest.mark.parametrize("role", ["", "../../user-data", "a b"])
def test_a_machine_without_a_role_gives_no_keys_and_a_sentence(moto: str, metadata: type[Metadata], role: str) -> None:
    metadata.role = role
    with pytest.raises(NotAdmitted, match=r"AWS did not give the gateway keys \("):
        asyncio.run(shown(moto, AwsCredentialKind.INSTANCE).fetch())
    assert len(metadata.heard) == 2


def test_keys_are_fetched_anew_before_they_end(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = shown(moto, AwsCredentialKind.STATIC, ROLE)
    assert kept.ready() is None
    asyncio.run(kept.fetch())
    assert kept.ready() == b""
    first, ends = kept.keys, kept.keys.expires
    now = aws_credentials.time.monotonic()
    left = ends - aws_credentials.time.time() - EARLY_SECONDS
    monkeypatch.setattr(aws_credentials.time, "monotonic", lambda: now + left - 30)
    assert kept.ready() == b""
    monkeypatch.setattr(aws_credentials.time, "monotonic", lambda: now + left + 30)
    assert kept.ready() is None, "two minutes before"
    asyncio.run(kept.fetch())
    assert kept.keys.access_key != first.access_key


def test_a_key_that_is_rotated_is_used_soon(moto: str) -> None:
    made = shown(moto, AwsCredentialKind.STATIC)
    assert made.ready() == b""
    assert made.keys.secret.reveal() == "the-real-secret"


def test_sts_that_cannot_be_reached_is_said_and_no_secret_with_it() -> None:
    with pytest.raises(NotAdmitted) as said:
        asyncio.run(shown("http://127.0.0.1:1", AwsCredentialKind.STATIC, ROLE).fetch())
    assert "the-real-secret" not in str(said.value)


