"""Slack's interactive messages: who clicked what, believed only with Slack's own signature over it.

Slack's documentation, "Verifying requests from Slack": `v0:TIMESTAMP:BODY` under HMAC-SHA-256 with the signing secret. A
request older than five minutes, or one that was seen before, is refused, whatever its signature.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

import msgspec

from ostiary.model.identity import VerifiedIdentity
from ostiary.model.secrets import Secret

MAX_AGE_SECONDS: Final = 300
MAX_SEEN: Final = 100_000

Person = Callable[[str, int], VerifiedIdentity | None]
"""Who the Slack user of that id is, at that time; None: nobody here."""


class NotSlack(Exception):
    """The request is not one that Slack has just sent. The sentence is for the log."""


class Click(msgspec.Struct, frozen=True):
    """Somebody answered a question in Slack."""

    who: VerifiedIdentity
    question: str
    digest: str
    yes: bool


class _User(msgspec.Struct):
    id: str


class _Action(msgspec.Struct):
    action_id: str
    value: str


class _Payload(msgspec.Struct):
    user: _User
    actions: list[_Action]


class SlackDoor:
    """One Slack app's requests."""

    def __init__(self, secret: Secret, person: Person) -> None:
        self._secret = secret
        self._person = person
        self._seen: dict[str, int] = {}

    def click(self, body: bytes, timestamp: str, signature: str, now: int) -> Click:
        """Read a request; raises `NotSlack`."""
        self._check(body, timestamp, signature, now)
        try:
            (text,) = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=8)["payload"]
            payload = msgspec.json.decode(text, type=_Payload)
            (action,) = payload.actions
            question, digest = action.value.split(" ")
        except (ValueError, KeyError, msgspec.MsgspecError, RecursionError):
            raise NotSlack("the payload is not that of a button") from None
        if action.action_id not in ("approve", "deny"):
            raise NotSlack("the button is not one of ours")
        who = self._person(payload.user.id, now)
        if who is None:
            raise NotSlack("that Slack user is nobody here")
        return Click(who, question, digest, action.action_id == "approve")

    def _check(self, body: bytes, timestamp: str, signature: str, now: int) -> None:
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16) or abs(now - int(timestamp)) > MAX_AGE_SECONDS:
            raise NotSlack("the timestamp is not of the last five minutes")
        mac = hmac.new(self._secret.reveal().encode(), f"v0:{timestamp}:".encode() + body, hashlib.sha256)
        if not hmac.compare_digest(f"v0={mac.hexdigest()}".encode(), signature.encode()):
            raise NotSlack("the signature is not Slack's")
        self._seen = {key: at for key, at in self._seen.items() if now - at <= 2 * MAX_AGE_SECONDS}
        if signature in self._seen or len(self._seen) >= MAX_SEEN:
            raise NotSlack("the request was seen before")
        self._seen[signature] = now
