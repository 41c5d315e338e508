"""moto's own tests of S3, STS and DynamoDB: against a server of moto's, and against the same through the gateway as an AWS account."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import boto3

from conformance.sources import HERE, CannotFetch, pypi_source, virtual_environment
from conformance.suites import Results, by_pytest, folder_for
from ostiary.api.client import aws_keys
from ostiary.model.secrets import Secret
from ostiary.testing.gateway import gateway
from ostiary.testing.peers import free_port

POLICY: Final = HERE.parent / "tests" / "attacks" / "profiles" / "permit-all.cedar"
TESTS: Final = ("tests/test_s3", "tests/test_sts", "tests/test_dynamodb")
REGIONS: Final = tuple(boto3.Session().get_available_regions("dynamodb"))
"""Those of the partition `aws`: a connection is of one."""

HANDED_OUT: Final = (
    "sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity", "sts:GetSessionToken", "sts:GetFederationToken",
    "iam:CreateAccessKey", "iam:CreateLoginProfile",
)  # fmt: skip
"""What the gateway never passes on unless an operator names it, as here: else the tests of STS would try nothing."""


@contextlib.contextmanager
def moto_server() -> Iterator[str]:
    """A server of moto's in a process of its own; its URL."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    env = os.environ | {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=5):
                break
            time.sleep(0.1)
        else:
            raise CannotFetch("moto's server did not start")
        yield url
    finally:
        process.terminate()
        process.wait(30)


def run(name: str, endpoint: str, only: list[str], **more: str) -> Results:
    """Run the tests against that endpoint; `more`: of the environment."""
    release = version("moto")
    tree = pypi_source("moto", release)
    python = virtual_environment(
        "moto", f"moto[all,server]=={release}", f"boto3=={version('boto3')}", f"botocore=={version('botocore')}", "pytest", "freezegun"
    )
    plugin = ["-p", "conformance_moto_plugin"] if more else []
    out = folder_for("moto", name)
    (out / "conformance_moto_plugin.py").write_bytes((HERE / "moto_plugin.py").read_bytes())
    env = os.environ | {
        "TEST_SERVER_MODE": "true", "TEST_SERVER_MODE_ENDPOINT": endpoint, "PYTHONPATH": str(out), "AWS_CONFIG_FILE": str(out / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(out / "none"), "AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1", "TESTS_SKIP_REQUIRES_DOCKER": "true",
    }  # fmt: skip
    arguments = [*(only or TESTS), *plugin, "-m", "not requires_docker", "-p", "no:warnings", "-p", "no:cacheprovider"]
    return by_pytest(python, arguments, tests_alone(tree, out), out, env | more)


def tests_alone(tree: Path, out: Path) -> Path:
    """A folder with the tests and nothing that could be imported instead of the installed moto."""
    place = out / "alone"
    place.mkdir()
    shutil.copytree(tree / "tests", place / "tests")
    for name in ("setup.cfg", "pyproject.toml"):
        if (tree / name).exists():
            (place / name).write_bytes((tree / name).read_bytes())
    return place


def directly(only: list[str]) -> Results:
    """Against moto."""
    with moto_server() as url:
        return run("direct", url, only)


def through(only: list[str]) -> Results:
    """Against moto through the gateway."""
    port = free_port()
    with moto_server() as url:
        settings: dict[str, object] = {
            "type": "aws", "address": url.removeprefix("http://"), "tls": "disable", "account_id": "123456789012", "regions": list(REGIONS),
            "identity": {"access_key": "AKIAGATEWAY", "secret": "file:secrets/key"}, "recording": "events", "durability": "buffered",
            "detect": [], "danger_hands_out": list(HANDED_OUT),
        }  # fmt: skip
        with gateway(
            connections={"aws": settings}, policy=POLICY.read_text(), sections={"listen.aws": {"address": f"127.0.0.1:{port}"}},
            secrets_by_name={"key": "the-real-secret"},
        ) as gate:  # fmt: skip
            token = Secret(gate.token("conformance", exp=int(time.time()) + 6 * 3600))
            keys = aws_keys(f"http://127.0.0.1:{gate.api_port}", token, connections=["aws"])
            given = {
                "GATEWAY_ACCESS_KEY_ID": keys.access_key, "GATEWAY_SECRET_ACCESS_KEY": keys.secret.reveal(),
                "GATEWAY_SESSION_TOKEN": keys.session_token.reveal(), "MOTO_ITSELF": url,
            }  # fmt: skip
            try:
                return run("gateway", f"http://127.0.0.1:{port}", only, **given)
            finally:
                (folder := Path("/tmp/ostiary-conformance/moto/gateway")).mkdir(parents=True, exist_ok=True)
                (folder / "gateway.log").write_text("\n".join(gate.said))
                print(f"keys were good for {keys.seconds} s", file=sys.stderr)
