"""Requests to AWS as bytes: signed as botocore signs them, and then changed."""

from __future__ import annotations

import datetime as dt
import hashlib
import http.client
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.aws.account import Account


@dataclass
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]


def service_of(host: str, headers: Sequence[Sequence[str]]) -> str:
    """The service that a client would sign for, of a host of AWS's."""
    parts = host.split(".")
    found = parts[0] if len(parts) <= 3 or parts[1] in ("us-east-1", "eu-west-1") else parts[1]
    return "s3" if "s3" in parts else found


def signed(
    account: Account, method: str, path: str, *, host: str, headers: Sequence[Sequence[str]] = (), body: bytes = b"", service: str = "",
    region: str = "us-east-1", subject: str = "ana", when: dt.datetime | None = None, presigned: int = 0,
) -> AWSRequest:  # fmt: skip
    """A request as botocore signs it."""
    keys = account.granted(subject)
    service = service or service_of(host, headers)
    request = AWSRequest(method, f"http://{host}{path}", headers=dict(map(tuple, headers)), data=body)
    credentials = Credentials(keys.access_key, keys.secret.reveal(), keys.session_token.reveal())
    if presigned:
        S3SigV4QueryAuth(credentials, service, region, expires=presigned).add_auth(request)
        return request
    given = {name.lower(): value for name, value in headers}.get("x-amz-content-sha256")
    auth: Any = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, region)
    if given is not None:
        auth.payload = lambda _: given
    elif service == "s3":
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
    if when is not None:
        request.context["timestamp"] = when.strftime("%Y%m%dT%H%M%SZ")
        request.headers["X-Amz-Date"] = request.context["timestamp"]
        request.headers["X-Amz-Security-Token"] = credentials.token
        request.headers["Host"] = host
        canonical = auth.canonical_request(request)
        text = auth.string_to_sign(request, canonical)
        auth._inject_signature_to_request(request, auth.signature(text, request))
        return request
    auth.add_auth(request)
    return request


def send(account: Account, request: AWSRequest, *, host: str, path: str = "", body: bytes | None = None, more: Sequence[tuple[str, str]] = ()) -> Reply:
    """Send it to the gateway's own address, whatever host it names."""
    content = request.data if body is None else body
    connection = http.client.HTTPConnection("127.0.0.1", account.port, timeout=30)
    connection.putrequest(request.method, path or "/" + request.url.split("/", 3)[3], skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", host)
    for name, value in [*request.headers.items(), *more]:
        if name.lower() not in ("host", "content-length"):
            connection.putheader(name, value)
    if content or request.method in ("POST", "PUT"):
        connection.putheader("Content-Length", str(len(content or b"")))
    connection.endheaders(content or None)
    answer = connection.getresponse()
    reply = Reply(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})
    connection.close()
    return reply


def ask(account: Account, method: str, path: str, *, host: str, headers: Sequence[Sequence[str]] = (), body: bytes = b"", **how: Any) -> Reply:
    """Sign and send."""
    return send(account, signed(account, method, path, host=host, headers=headers, body=body, **how), host=host, path=path)
