"""Telling the world outside of questions and what became of them: signed webhooks, and a Slack channel.

A message holds no literal of a statement and no parameter: the normalised head, past the detectors, and where to look. Slack gets
buttons only where the whole of a question stands in the message, which a statement with literals does not: for those it gets a link.

Telling waits for nobody: messages stand in a bounded queue, are tried a few times, and are dropped with a line in the diagnostics. An
approval never hangs on one of them, because what they link to is the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import httpx
import msgspec
import structlog

from ostiary.config.types import Approvals
from ostiary.model.secrets import Secret
from ostiary.vault.references import parse_ref, resolve

MAX_QUEUE: Final = 1000
TRIES: Final = 4
PAUSE_SECONDS: Final = 0.5
"""Before the second try; twice as long before each further one."""
TIMEOUT_SECONDS: Final = 10.0
SIGNATURE: Final = "Ostiary-Signature"

_log = structlog.get_logger("ostiary")

Spawn = Callable[[Coroutine[Any, Any, Any], str], Any]


def signature(secret: Secret, at: int, body: bytes) -> str:
    """Return the value of `Ostiary-Signature`: HMAC-SHA-256 over the time, a dot, and the body."""
    mac = hmac.new(secret.reveal().encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


class Outlets:
    """Everybody who is told."""

    def __init__(self, settings: Approvals, *, scrub: Callable[[str], str], spawn: Spawn, page: str) -> None:
        self._scrub = scrub
        self._page = page
        self._hooks = [
            (hook.url, resolve(parse_ref(hook.secret, "approvals.webhooks"))) for hook in settings.webhooks
        ]
        slack = settings.slack
        self._slack = None if slack is None else resolve(parse_ref(slack.webhook, "approvals.slack.webhook"))
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(MAX_QUEUE)
        self._telling = spawn(self._tell_all(), "outlets") if self._hooks or self._slack else None

    def tell(self, what: str, said: dict[str, Any]) -> None:
        """Put a message on its way. Never waits, never raises."""
        if self._telling is None:
            return
        try:
            self._queue.put_nowait((what, self._clean(said)))
        except asyncio.QueueFull:
            _log.error("a message about approvals was dropped: too many wait", what=what)

    async def close(self) -> None:
        """Stop telling."""
        if self._telling is not None:
            self._telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._telling

    def _clean(self, said: dict[str, Any]) -> dict[str, Any]:
        return {name: self._scrub(value) if isinstance(value, str) and name != "id" else value for name, value in said.items()}

    async def _tell_all(self) -> None:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, follow_redirects=False) as client:
            while True:
                what, said = await self._queue.get()
                page = f"{self._page}/v1/approvals/{said['id']}" if "id" in said else self._page
                body = msgspec.json.encode({"event": what, "at": int(time.time()), "link": page} | said)
                for url, secret in self._hooks:
                    await self._post(client, url, body, secret)
                if self._slack is not None:
                    await self._post(client, self._slack.reveal(), msgspec.json.encode(slack_message(what, said, page)), None)

    async def _post(self, client: httpx.AsyncClient, url: str, body: bytes, secret: Secret | None) -> None:
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
            headers = {"content-type": "application/json"}
            if secret is not None:
                headers[SIGNATURE] = signature(secret, int(time.time()), body)
            try:
                answer = await client.post(url, content=body, headers=headers)
            except (httpx.HTTPError, OSError) as exc:
                why = type(exc).__name__
                continue
            if answer.is_success:
                return
            why = f"status {answer.status_code}"
        _log.error("a message about approvals did not arrive", why=why)


def _plain(text: object) -> str:
    """Escape what Slack reads as a command: its documentation, "Escaping text"."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_message(what: str, said: dict[str, Any], page: str) -> dict[str, Any]:
    """Return a message in Slack's blocks. Buttons only where the question stands in it whole: a grant has no bytes but these."""
    lines = [f"*{_plain(what)}* {_plain(said.get('who', said.get('by', '')))}"]
    lines += [f"{name}: {_plain(said[name])}" for name in ("connection", "name", "head", "said", "reason") if said.get(name)]
    blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)[:2900]}}]
    if what == "asked" and said.get("kind") == "grant":
        value = f"{said['id']} {said['digest']}"
        blocks.append({
            "type": "actions",
            "elements": [
                {"type": "button", "action_id": each, "value": value, "text": {"type": "plain_text", "text": each.title()}}
                for each in ("approve", "deny")
            ],
        })  # fmt: skip
    elif what == "asked":
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"See all of it and answer: <{page}>"}]})
    return {"text": f"{what} {said.get('id', '')}", "blocks": blocks}
