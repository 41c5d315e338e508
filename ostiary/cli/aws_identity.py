"""`--from aws`: sign `sts:GetCallerIdentity` for a gateway with whatever credentials the AWS tools would use here, and do not send it.

The credentials stay on this machine: the gateway gets a URL that answers one question to it, for some minutes.
"""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import os
import subprocess
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from ostiary.cli.asking import answers
from ostiary.cli.codes import CommandFailed, ExitCode

EXPORT = ["aws", "configure", "export-credentials", "--format", "process"]
EXPIRES = 300


def presigned(api_url: str, ca_file: str | None) -> tuple[str, str]:
    """A presigned URL for that gateway, and the nonce of it that it is bound to."""
    from ostiary.api.client import nonce

    with answers(api_url):
        said = nonce(api_url, ca_file=ca_file)
    if said["audience"].rstrip("/") != api_url.rstrip("/"):  # it may hand on what another gateway asked it for
        raise CommandFailed(
            ExitCode.NOT_ADMITTED, f"{api_url} asks for a proof that is meant for {said['audience']}; name that as --api"
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL_STS") or said["endpoint"]
    headers = {"x-ostiary-audience": said["audience"], "x-ostiary-nonce": said["nonce"]}
    return sign(endpoint, _region_of(endpoint), credentials(), headers, dt.datetime.now(dt.UTC)), said["nonce"]


def credentials() -> dict[str, str]:
    """Of the environment, else those that `aws` finds: profiles, SSO, containers, instances."""
    env = os.environ
    if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        found = {"AccessKeyId": env["AWS_ACCESS_KEY_ID"], "SecretAccessKey": env["AWS_SECRET_ACCESS_KEY"]}
        return found | ({"SessionToken": env["AWS_SESSION_TOKEN"]} if env.get("AWS_SESSION_TOKEN") else {})
    try:
        done = subprocess.run(EXPORT, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 - fixed words
        return {name: str(value) for name, value in json.loads(done.stdout).items()}
    except (OSError, subprocess.SubprocessError, ValueError, AttributeError):
        raise CommandFailed(
            ExitCode.CONFIG,
            "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or install the AWS CLI (version 2), whose"
            " `aws configure export-credentials` finds them",
        ) from None


def sign(endpoint: str, region: str, keys: Mapping[str, str], headers: Mapping[str, str], now: dt.datetime) -> str:
    """SigV4 in the query: https://docs.aws.amazonaws.com/IAM/latest/UserGuide/create-signed-request.html."""
    host = urlsplit(endpoint).netloc
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/sts/aws4_request"
    signed = {"host": host, **headers}
    query = {
        "Action": "GetCallerIdentity",
        "Version": "2011-06-15",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{keys['AccessKeyId']}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(EXPIRES),
        "X-Amz-SignedHeaders": ";".join(sorted(signed)),
    }
    if keys.get("SessionToken"):
        query["X-Amz-Security-Token"] = keys["SessionToken"]
    asked = "&".join(f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in sorted(query))
    lines = [f"{name}:{signed[name]}" for name in sorted(signed)]
    canonical = "\n".join(["GET", "/", asked, *lines, "", ";".join(sorted(signed)), hashlib.sha256(b"").hexdigest()])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys['SecretAccessKey']}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return f"{endpoint}/?{asked}&X-Amz-Signature={hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()}"


def _region_of(endpoint: str) -> str:
    """The region in a regional endpoint's name; the global one is that of Northern Virginia."""
    parts = (urlsplit(endpoint).hostname or "").split(".")
    return parts[1] if len(parts) > 3 and parts[0] == "sts" else "us-east-1"
