"""AWS's own command line through the gateway, with keys that `ostiary aws` and `ostiary env` give it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from ostiary.testing.gateway import GatewayDidNotStart
from tests.aws.account import Account, account

AWS = Path(sys.executable).with_name("aws")
OSTIARY = f"{sys.executable} -m ostiary.cli.main"


@pytest.fixture
def token(shared: Account) -> Path:
    place = shared.gateway.home / "ana.jwt"
    place.touch(mode=0o600)
    place.write_text(shared.gateway.token("ana"))
    return place


def run(account: Account, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    known = account.gateway.environment | {"PATH": path, "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}
    return subprocess.run(
        command, env=known | environment, cwd=account.gateway.home, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_aws_command_works_with_credential_process_and_each_call_is_on_record(shared: Account, token: Path) -> None:
    home = shared.gateway.home
    (home / "aws-config").write_text(
        f"[default]\nregion = us-east-1\nendpoint_url = {shared.url}\n"
        f"credential_process = {OSTIARY} aws aws-prod --from file:{token} --purpose backup\n"
    )

    def aws(*words: str) -> subprocess.CompletedProcess[str]:
        return run(shared, [str(AWS), *words], AWS_CONFIG_FILE=str(home / "aws-config"))

    (home / "told").write_text("told through the gateway")
    made = aws("s3", "mb", "s3://commands")
    assert made.returncode == 0, made.stderr
    assert aws("s3", "cp", str(home / "told"), "s3://commands/told").returncode == 0
    assert aws("s3", "cp", "s3://commands/told", "-").stdout == "told through the gateway"
    listed = aws("s3api", "list-buckets", "--query", "Buckets[].Name")
    assert "commands" in listed.stdout
    found = shared.gateway.run("audit", "search", "--kind", "intent", "--connection", "aws-prod", "-o", "json").stdout
    session = next(entry["session"] for line in found.splitlines() if (entry := json.loads(line))["op"]["name"] == "s3:ListBuckets")
    replayed = shared.gateway.run("sessions", "replay", session).stdout
    assert "> GET /?x-id=ListBuckets HTTP/1.1\n" in replayed or "> GET / HTTP/1.1\n" in replayed
    assert "  HTTP/1.1 200 OK\n" in replayed
    assert "<Name>commands</Name>" in replayed
    assert "something is missing" not in replayed
    refused = aws("s3", "rm", "s3://commands/told")
    assert refused.returncode != 0
    assert "no-delete" in refused.stdout + refused.stderr
    found = shared.gateway.run("audit", "search", "--action", "delete", "--connection", "aws-prod", "-o", "json")
    (denied,) = [entry for line in found.stdout.splitlines() if "commands/told" in json.dumps(entry := json.loads(line))]
    assert denied["op"]["name"] == "s3:DeleteObject"
    assert denied["who"]["sub"] == "ana"
    assert denied["op"]["objects"][0]["name"] == "arn:aws:s3:::commands/told"


def test_a_shell_works_with_what_ostiary_env_prints(shared: Account, token: Path) -> None:
    script = f'set -e; eval "$({OSTIARY} env aws-prod --from file:{token})"; {shlex.quote(str(AWS))} sts get-caller-identity --region us-east-1'
    done = run(shared, ["sh", "-c", script])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Account"]


def test_keys_are_for_who_shows_a_token_and_for_no_secret_of_the_target(shared: Account, token: Path) -> None:
    nobody = run(shared, [*shlex.split(OSTIARY), "aws", "aws-prod", "--from", "env:NOTHING_THERE"])
    assert nobody.returncode != 0
    assert "Traceback" not in nobody.stderr
    printed = run(shared, [*shlex.split(OSTIARY), "aws", "aws-prod", "--from", f"file:{token}"]).stdout
    assert json.loads(printed)["Version"] == 1
    assert "the-real-secret" not in printed


def test_presigning_downloads_of_large_files_and_queues_work_as_the_documentation_says(shared: Account, token: Path) -> None:
    home = shared.gateway.home
    (home / "profile").write_text(
        f"[profile prod]\nregion = us-east-1\nendpoint_url = {shared.url}\ncredential_process = {OSTIARY} aws aws-prod --from file:{token}\n"
        "s3 =\n    signature_version = s3v4\n    multipart_threshold = 1GB\n"
    )

    def aws(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run(shared, [str(AWS), *words], AWS_CONFIG_FILE=str(home / "profile"), AWS_PROFILE="prod", **more)

    large = b"a line of text\n" * 700_000
    (home / "large").write_bytes(large)
    assert aws("s3", "mb", "s3://large").returncode == 0
    assert aws("s3", "cp", str(home / "large"), "s3://large/large").returncode == 0
    fetched = aws("s3", "cp", "s3://large/large", str(home / "back"))
    assert fetched.returncode == 0, fetched.stderr
    assert (home / "back").read_bytes() == large
    (home / "small").write_text("told by a link")
    assert aws("s3", "cp", str(home / "small"), "s3://large/small").returncode == 0
    assert httpx.get(aws("s3", "presign", "s3://large/small").stdout.strip()).text == "told by a link"
    assert aws("sqs", "list-queues", "--endpoint-url", shared.url).returncode == 0


def test_what_s3_takes_in_a_form_is_refused_by_name(shared: Account) -> None:
    form = shared.client("s3", signature_version="s3v4").generate_presigned_post("forms", "a.txt")
    told = httpx.post(form["url"], data=form["fields"], files={"file": b"x"})
    assert told.status_code == 403
    assert "are not read: presign a PUT" in told.text


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"protect": {"dynamodb:Scann json:/Items": {"class": "pii"}}}, 'protect."dynamodb:Scann json:/Items": AWS has no call dynamodb:Scann; did you mean dynamodb:Scan?'),
        ({"protect": {"dynamo:Scan json:/Items": {"class": "pii"}}}, 'protect."dynamo:Scan json:/Items": AWS has no service dynamo'),
        ({"danger_hands_out": ["ecr:GetAuthorisationToken"]}, "danger_hands_out: AWS has no call ecr:GetAuthorisationToken; did you mean ecr:GetAuthorizationToken?"),
    ],
)  # fmt: skip
def test_a_call_that_aws_does_not_have_is_no_configuration(moto: str, written: dict[str, Any], said: str) -> None:
    with pytest.raises(GatewayDidNotStart, match=re.escape(f"connections.aws-prod.{said}")), account(moto, **written):
        pass
