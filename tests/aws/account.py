"""A connection to moto as AWS, and clients of it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import boto3
from botocore.config import Config

from ostiary.api.client import GrantedKeys, aws_keys
from ostiary.model.secrets import Secret
from ostiary.testing.gateway import Gateway, gateway
from ostiary.testing.peers import free_port

ACCOUNT = "123456789012"
POLICY = """
permit (principal, action, resource);
@id("no-delete") forbid (principal, action == Ostiary::Action::"delete", resource);
@id("no-opaque") forbid (principal, action == Ostiary::Action::"opaque", resource);
@id("no-unmask") forbid (principal, action == Ostiary::Action::"unmask", resource);
@id("no-secret-bucket") forbid (principal, action, resource) when {
    resource is Ostiary::Arn && resource.name like "arn:aws:s3:::secret-bucket*" };
"""


class Watch:
    """Sees what reaches moto."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.heads: list[dict[str, str]] = []
        self.forms: list[dict[str, str]] = []
        self.says: tuple[str, list[tuple[str, str]], bytes] | None = None
        """Answered to whatever comes: status, headers, body."""
        self.denies = ""
        """An action that is answered with 403."""

    def begin(self) -> tuple[list[str], list[dict[str, str]]]:
        self.lines, self.heads, self.forms = [], [], []
        return self.lines, self.heads

    def wrap(self, app: Any) -> Any:
        def watched(environ: dict[str, Any], start: Any) -> Any:
            self.lines.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
            named = {name[5:].replace("_", "-").title(): value for name, value in environ.items() if name.startswith("HTTP_")}
            self.heads.append(named)
            if self.says is not None:
                status, headers, body = self.says
                start(status, headers)
                return [body]
            if "form-urlencoded" in environ.get("CONTENT_TYPE", ""):
                body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                environ["wsgi.input"] = io.BytesIO(body)
                self.forms.append(dict(parse_qsl(body.decode())))
                if self.denies and self.forms[-1].get("Action") == self.denies:
                    start("403 Forbidden", [("Content-Type", "text/xml")])
                    return [b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"]
            return app(environ, start)

        return watched


WATCH = Watch()


@dataclass
class Account:
    """A connection to moto, and how to call it through the gateway and past it."""

    gateway: Gateway
    moto: str
    port: int
    keys: dict[str, GrantedKeys] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def granted(self, subject: str = "ana") -> GrantedKeys:
        if subject not in self.keys:
            api = f"http://127.0.0.1:{self.gateway.api_port}"
            self.keys[subject] = aws_keys(api, Secret(self.gateway.token(subject)), connections=["aws-prod"])
        return self.keys[subject]

    def grant(self, subject: str, **claims: Any) -> GrantedKeys:
        """Keys for a token with these claims, from now on those of `subject`."""
        api = f"http://127.0.0.1:{self.gateway.api_port}"
        self.keys[subject] = aws_keys(api, Secret(self.gateway.token(claims.pop("sub", subject), **claims)), connections=["aws-prod"])
        return self.keys[subject]

    def client(self, service: str, *, subject: str = "ana", url: str = "", attempts: int = 1, **config: Any) -> Any:
        """boto3 through the gateway."""
        keys = self.granted(subject)
        return boto3.client(
            service, endpoint_url=url or self.url, region_name="us-east-1", aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret.reveal(), aws_session_token=keys.session_token.reveal(),
            config=Config(retries={"total_max_attempts": attempts}, **config),
        )  # fmt: skip

    def direct(self, service: str) -> Any:
        """boto3 past it."""
        return boto3.client(
            service, endpoint_url=self.moto, region_name="us-east-1", aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="x"
        )

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.gateway.entries() if entry["kind"] == kind]


@contextlib.contextmanager
def account(
    moto: str, policy: str = POLICY, listener: dict[str, object] | None = None, *, tables: dict[str, Any] | None = None, workers: int | None = None,
    **connection: object,
) -> Iterator[Account]:  # fmt: skip
    port = free_port()
    settings: dict[str, object] = {
        "type": "aws", "address": moto.removeprefix("http://"), "tls": "disable", "account_id": ACCOUNT,
        "regions": ["us-east-1", "eu-west-1"],
        "identity": {"access_key": "AKIAGATEWAY", "secret": "file:secrets/key"},
    }  # fmt: skip
    sections = {"listen.aws": {"address": f"127.0.0.1:{port}", **(listener or {})}, "admin": {"groups": ["security"]}}
    with gateway(
        connections={"aws-prod": settings | connection}, policy=policy, sections=sections, tables=tables,
        secrets_by_name={"key": "the-real-secret"}, workers=workers,
    ) as running:
        yield Account(running, moto, port)
