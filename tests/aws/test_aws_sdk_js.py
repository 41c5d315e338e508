"""The AWS SDK for JavaScript, as it calls by default (checksums, streaming trailers, CBOR), comes to the same through the gateway as directly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostiary.testing import npm
from tests.aws.account import Account, account

SCRIPT = Path(__file__).with_name("sdk.mjs")
PACKAGES = [
    "@aws-sdk/client-s3@3.1175.0", "@aws-sdk/client-dynamodb@3.1169.0", "@aws-sdk/client-sts@3.1174.0", "@aws-sdk/client-iam@3.1169.0",
    "@aws-sdk/client-ec2@3.1169.0", "@aws-sdk/client-lambda@3.1164.0", "@aws-sdk/client-sqs@3.1175.0", "@aws-sdk/client-cloudwatch-logs@3.1169.0",
    "@aws-sdk/client-secrets-manager@3.1164.0", "@aws-sdk/client-cloudwatch@3.1164.0", "@aws-sdk/lib-storage@3.1175.0",
    "@aws-sdk/s3-request-presigner@3.1169.0",
]  # fmt: skip
EVERYTHING = """
permit (principal, action, resource);
permit (principal, action in [Ostiary::Action::"opaque", Ostiary::Action::"unmask", Ostiary::Action::"infer"], resource);
"""


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDK, and the script that uses it."""
    folder = tmp_path_factory.mktemp("sdk")
    try:
        npm.install(folder, *PACKAGES)
    except npm.NoRegistry as why:
        pytest.skip(str(why))
    shutil.copy(SCRIPT, folder)
    return folder


@pytest.fixture(scope="module")
def open_account(moto: str) -> Iterator[Account]:
    with account(moto, EVERYTHING) as made:
        yield made


def steps(sdk: Path, prefix: str, endpoint: str, keys: dict[str, str]) -> dict[str, Any]:
    """What came of each call, without the prefix that keeps two runs apart."""
    done = subprocess.run(
        ["node", SCRIPT.name], cwd=sdk, capture_output=True, text=True, timeout=240, check=False,
        env=os.environ | keys | {"ENDPOINT": endpoint, "PREFIX": prefix, "AWS_MAX_ATTEMPTS": "4", "AWS_EC2_METADATA_DISABLED": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line.replace(prefix, "PREFIX")) for line in done.stdout.splitlines()]
    return {line.pop("name"): line for line in lines}


@pytest.mark.timeout(900)  # an installation, and the whole script twice
def test_every_call_of_the_javascript_sdk_comes_to_the_same_as_directly(sdk: Path, open_account: Account) -> None:
    granted = open_account.granted()
    keys = {
        "AWS_ACCESS_KEY_ID": granted.access_key, "AWS_SECRET_ACCESS_KEY": granted.secret.reveal(),
        "AWS_SESSION_TOKEN": granted.session_token.reveal(),
    }  # fmt: skip
    direct = steps(sdk, "jsdirect", open_account.moto, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    assert len(direct) > 50
    assert steps(sdk, "jsgateway", open_account.url, keys) == direct
    names = {entry["op"]["name"] for entry in open_account.records("intent")}
    assert {"s3:UploadPart", "dynamodb:TransactWriteItems", "ec2:CreateVpc", "iam:CreateRole", "logs:FilterLogEvents"} <= names
