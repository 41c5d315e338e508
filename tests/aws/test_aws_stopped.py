"""Keys for AWS are good for as long as the token that they are, and whoever holds it: no longer."""

from __future__ import annotations

import httpx
import pytest
from botocore.exceptions import ClientError

from ostiary.api.client import aws_keys, exchange
from ostiary.model.secrets import Secret
from ostiary.testing.waiting import until
from tests.aws.account import Account


@pytest.mark.parametrize(("how", "reason"), [("revoked", "REVOKED_TOKEN"), ("isolated", "STOPPED_ACTOR")])
def test_whoever_is_stopped_calls_aws_no_more_and_the_open_session_ends(shared: Account, heard: list[str], how: str, reason: str) -> None:
    api, token = f"http://127.0.0.1:{shared.gateway.api_port}", shared.gateway.token(how)
    shared.keys[how] = aws_keys(api, Secret(token), connections=["aws-prod"])
    client = shared.client("s3", subject=how)
    client.list_buckets()
    if how == "revoked":
        done = httpx.post(f"{api}/v1/revoke", data={"token": token}, trust_env=False)
    else:
        admin = exchange(api, Secret(shared.gateway.token("sam", groups=["security"]))).token.reveal()
        body = {"issuer": shared.gateway.mint.issuer, "subject": how, "reason": "it went wild"}
        done = httpx.post(f"{api}/v1/stops", json=body, headers={"authorization": f"Bearer {admin}"}, trust_env=False)
    assert done.status_code == 200, done.text
    reached = len(heard)
    with pytest.raises(ClientError):
        while True:  # the worker hears of it within a second; each call until then is let in as before
            client.list_buckets()
            reached = len(heard)
    assert len(heard) == reached
    mine = {entry["session"] for entry in shared.records("session.start") if entry["who"]["sub"] == how}
    until(lambda: {entry["result"]["status"] for entry in shared.records("session.end") if entry["session"] in mine} == {reason})
    assert shared.records("login")[-1]["login"]["reason"] == reason
