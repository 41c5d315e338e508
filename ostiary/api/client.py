"""The other end of the API, for the command line: trade an issuer's token for a gateway token, or end one."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from ostiary.api.words import ACCESS_TOKEN, AWS_IDENTITY, AWS_KEYS, COMMAND_LINE, GRANT, JWT
from ostiary.identity.issuers import is_safe_url
from ostiary.identity.jose import MAX_TOKEN
from ostiary.model.errors import OstiaryError
from ostiary.model.secrets import Secret

MAX_ANSWER: Final = 64 * 1024
MAX_PAGE: Final = 4 << 20
"""A list of questions, or one with all that it would run, each byte of it escaped."""


Certificate = tuple[str, str]
"""PEM files with a client certificate, and its private key."""


class ApiRefused(OstiaryError):
    """The gateway said no, or could not be asked. The sentence is fit for the terminal."""

    def __init__(self, sentence: str, error: str = "", status: int = 0, *, is_oauth: bool = False) -> None:
        """`error`: what the gateway calls it; empty: no gateway answered. `is_oauth`: in the way of RFC 6749, 5.2. `status`: of HTTP."""
        super().__init__(sentence)
        self.error = error
        self.status = status
        self.is_oauth = is_oauth


@dataclass(frozen=True, slots=True)
class GrantedKeys:
    """Keys for AWS's SDKs."""

    access_key: str
    secret: Secret
    session_token: Secret
    seconds: int
    """How long they are good for."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A gateway token."""

    token: Secret
    seconds: int
    """How long it is good for."""


def _form(
    subject_token: Secret,
    *,
    actor_token: Secret | None = None,
    connections: Iterable[str] = (),
    details: Sequence[Mapping[str, Any]] | None = None,
    purpose: str = "",
    ticket: str = "",
    account: str | None = None,
    nonce: str | None = None,
) -> dict[str, Any]:
    """The form of an exchange. With `nonce` the token is a presigned URL: see `nonce`."""
    form: dict[str, Any] = {
        "grant_type": GRANT,
        "subject_token": subject_token.reveal(),
        "subject_token_type": JWT,
        "audience": list(connections),
        "purpose": purpose,
        "ticket": ticket,
    }
    if nonce is not None:
        form |= {"subject_token_type": AWS_IDENTITY, "nonce": nonce}
    if actor_token is not None:
        form |= {"actor_token": actor_token.reveal(), "actor_token_type": JWT}
    if account is not None:
        form["account"] = account
    if details is not None:
        form["authorization_details"] = json.dumps(list(details))
    return form


def exchange(
    api_url: str,
    subject_token: Secret,
    *,
    ca_file: str | None = None,
    proof: str | None = None,
    certificate: Certificate | None = None,
    **asked: Any,
) -> Granted:
    """Exchange `subject_token` at the gateway (RFC 8693) for what `_form` says; raises `ApiRefused`.

    The new token is bound to the key of `proof` (RFC 9449), or to `certificate` (RFC 8705).
    """
    form = _form(subject_token, **asked)
    if certificate is not None:
        url, path = _for_certificates(api_url, ca_file)
        answer = _post(url, path, form, ca_file, certificate=certificate)
    else:
        answer = _post(api_url, "/v1/token", form, ca_file, {} if proof is None else {"dpop": proof})
    token, seconds = answer.get("access_token"), answer.get("expires_in")
    if answer.get("issued_token_type") != ACCESS_TOKEN or not isinstance(token, str) or len(token) > MAX_TOKEN:
        raise ApiRefused("the answer is not that of an Ostiary gateway")
    return Granted(Secret(token), seconds if isinstance(seconds, int) else 0)


def _for_certificates(api_url: str, ca_file: str | None) -> tuple[str, str]:
    """Where clients with a certificate get tokens: RFC 8705, 5."""
    found = _send(api_url, "GET", "/.well-known/oauth-authorization-server", {}, ca_file).get("mtls_endpoint_aliases")
    where = found.get("token_endpoint") if isinstance(found, dict) else None
    if not isinstance(where, str) or not where.startswith("https://") or not where.endswith("/oauth/token"):
        raise ApiRefused("this gateway takes no client certificates: api.mtls_address is not set")
    return where.removesuffix("/oauth/token"), "/oauth/token"


def aws_keys(api_url: str, subject_token: Secret, *, ca_file: str | None = None, **asked: Any) -> GrantedKeys:
    """Exchange `subject_token` for keys that AWS's SDKs sign with; raises `ApiRefused`."""
    form = _form(subject_token, **asked) | {"requested_token_type": AWS_KEYS}
    answer = _post(api_url, "/v1/token", form, ca_file)
    parts = [answer.get(name) for name in ("access_key_id", "secret_access_key", "access_token")]
    seconds = answer.get("expires_in")
    if answer.get("issued_token_type") != AWS_KEYS or not all(isinstance(part, str) for part in parts):
        raise ApiRefused("the answer is not that of an Ostiary gateway")
    access_key, secret, token = map(str, parts)
    return GrantedKeys(access_key, Secret(secret), Secret(token), seconds if isinstance(seconds, int) else 0)


def revoke(api_url: str, token: Secret, *, ca_file: str | None = None) -> None:
    """End `token`, and all that was exchanged from it (RFC 7009); raises `ApiRefused`."""
    _post(api_url, "/v1/revoke", {"token": token.reveal()}, ca_file)


def ask(
    api_url: str,
    method: str,
    path: str,
    token: Secret,
    *,
    form: Mapping[str, Any] | None = None,
    body: Mapping[str, Any] | None = None,
    ca_file: str | None = None,
    most: int = MAX_ANSWER,
) -> dict[str, Any]:
    """A request as whoever `token` proves; the JSON object that comes back. Raises `ApiRefused`."""
    headers = {"authorization": f"Bearer {token.reveal()}"}
    sent: dict[str, Any] = {"headers": headers}
    if form is not None:
        sent["data"] = {name: value for name, value in form.items() if value}
    if body is not None:
        sent["json"] = dict(body)
    return _send(api_url, method, path, sent, ca_file, most)


def grant(api_url: str, form: Mapping[str, Any], *, ca_file: str | None = None) -> Granted:
    """A gateway token for a code or a device code. Raises `ApiRefused`, whose `error` says whether to ask again."""
    answer = _post(api_url, "/oauth/token", form, ca_file)
    token, seconds = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        raise ApiRefused("the answer is not that of an Ostiary gateway")
    return Granted(Secret(token), seconds if isinstance(seconds, int) else 0)


def begin_device(api_url: str, *, ca_file: str | None = None) -> dict[str, Any]:
    """RFC 8628, 3.1. Raises `ApiRefused`."""
    return _post(api_url, "/oauth/device_authorization", {"client_id": COMMAND_LINE}, ca_file)


def nonce(api_url: str, *, ca_file: str | None = None) -> dict[str, str]:
    """What an AWS principal's presigned request has to be bound to, and where it is to be meant for. Raises `ApiRefused`."""
    found = _send(api_url, "GET", "/v1/nonce", {}, ca_file)
    if not all(isinstance(found.get(name), str) for name in ("nonce", "audience", "endpoint")):
        raise ApiRefused("the answer is not that of an Ostiary gateway")
    return found


def about_ssh(api_url: str, *, ca_file: str | None = None) -> dict[str, Any]:
    """How the gateway's SSH listener is known. Raises `ApiRefused`."""
    return _send(api_url, "GET", "/v1/ssh", {}, ca_file)


def _post(
    api_url: str,
    path: str,
    form: Mapping[str, Any],
    ca_file: str | None,
    headers: Mapping[str, str] | None = None,
    certificate: Certificate | None = None,
) -> dict[str, Any]:
    sent = {name: value for name, value in form.items() if value}
    return _send(api_url, "POST", path, {"data": sent, "headers": headers}, ca_file, certificate=certificate)


def _send(
    api_url: str,
    method: str,
    path: str,
    sent: dict[str, Any],
    ca_file: str | None,
    most: int = MAX_ANSWER,
    certificate: Certificate | None = None,
) -> dict[str, Any]:
    if not is_safe_url(api_url):
        raise ApiRefused("the API's URL must be https (http only to this machine): tokens would cross readable")
    trust = ssl.create_default_context(cafile=ca_file)
    if certificate is not None:
        try:
            trust.load_cert_chain(*certificate)
        except (OSError, ssl.SSLError) as error:
            raise ApiRefused(f"the client certificate cannot be used: {error}") from None
    try:
        with (
            httpx.Client(verify=trust, timeout=30.0, trust_env=False) as client,
            client.stream(method, api_url.rstrip("/") + path, **sent) as response,
        ):
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > most:
                    raise ApiRefused("the answer is not that of an Ostiary gateway")
            status = response.status_code
    except (httpx.HTTPError, OSError) as error:
        raise ApiRefused(f"the gateway's API cannot be reached ({type(error).__name__})") from None
    try:
        answer = json.loads(body) if body else {}
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ApiRefused("the answer is not that of an Ostiary gateway")
    if status not in (200, 201):
        sentence = str(answer.get("error_description", answer.get("error", f"HTTP status {status}")))
        shown, said = "".join(c for c in sentence[:512] if c.isprintable()), str(answer.get("error", ""))[:64]
        raise ApiRefused(shown, said, status, is_oauth="error_description" in answer)
    return answer
