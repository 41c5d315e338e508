"""A plugin of pytest for moto's own tests: their calls go through the gateway, signed with its keys; what they reset is moto itself.

moto's tests run against a server by moto's own switches (`TEST_SERVER_MODE`, `TEST_SERVER_MODE_ENDPOINT`), with and without the gateway.
What is added here, in the run through the gateway alone: the keys that the tests make up are the gateway's, and `/moto-api/reset`, which
is no call of AWS's, goes past it. It runs in moto's environment, so it knows nothing of Ostiary.
"""

from __future__ import annotations

import os
from typing import Any

import boto3.session
import requests
from moto.core.models import MockAWS, ServerModeMockAWS

KEYS = {
    "AWS_ACCESS_KEY_ID": os.environ["GATEWAY_ACCESS_KEY_ID"],
    "AWS_SECRET_ACCESS_KEY": os.environ["GATEWAY_SECRET_ACCESS_KEY"],
    "AWS_SESSION_TOKEN": os.environ["GATEWAY_SESSION_TOKEN"],
}
MADE_UP = ("ak", "test")
"""Access keys that the tests name without having been given them."""


def _begun(self: MockAWS, *arguments: Any) -> None:
    _begin(self, *arguments)
    self._fake_creds = dict(KEYS)


def _reset(_: ServerModeMockAWS) -> None:
    requests.post(os.environ["MOTO_ITSELF"] + "/moto-api/reset", timeout=60).raise_for_status()


def _client(self: boto3.session.Session, *arguments: Any, **given: Any) -> Any:
    if given.get("aws_access_key_id") in MADE_UP:
        given |= {
            "aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"],
            "aws_session_token": KEYS["AWS_SESSION_TOKEN"],
        }  # fmt: skip
    return _made(self, *arguments, **given)


_begin = MockAWS.__init__
_made = boto3.session.Session.client
MockAWS.__init__ = _begun  # type: ignore[method-assign]
ServerModeMockAWS.reset = _reset  # type: ignore[method-assign]
boto3.session.Session.client = _client  # type: ignore[assignment,method-assign]
