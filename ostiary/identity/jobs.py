"""What CI systems say of the end of a job: their webhooks, read. Whose they are is proved by the secret, and nothing else is believed of them."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from ostiary.model.secrets import Secret

GITLAB_ENDS: Final = frozenset({"success", "failed", "canceled", "skipped"})
MIN_SECRET: Final = 16

EndJob = Callable[[str, str, float, str], Awaitable[None]]
"""Tell that a job has ended: issuer, task, when, who says so."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that is over."""

    task: str
    at: str
    """When, as it was said."""


class GithubRun(msgspec.Struct, frozen=True):
    """What is read of `workflow_run`."""

    id: int
    updated_at: str = ""


class GithubEvent(msgspec.Struct, frozen=True):
    """https://docs.github.com/webhooks/webhook-events-and-payloads#workflow_run."""

    action: str
    workflow_run: GithubRun


class GitlabPipeline(msgspec.Struct, frozen=True):
    """What is read of `object_attributes`."""

    id: int
    status: str
    finished_at: str | None = None


class GitlabEvent(msgspec.Struct, frozen=True):
    """https://docs.gitlab.com/user/project/integrations/webhook_events/#pipeline-events."""

    object_attributes: GitlabPipeline


@dataclass(frozen=True, slots=True)
class Hook:
    """A CI system that tells of its jobs."""

    kind: str
    """`github` or `gitlab`."""
    issuer: str
    secret: Secret

    def is_its(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether a webhook is this system's. GitHub signs (HMAC-SHA-256), GitLab shows its secret."""
        secret = self.secret.reveal().encode()
        if self.kind == "github":
            made = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
            return hmac.compare_digest(made.encode(), _plain(headers.get("x-hub-signature-256", "")))
        return hmac.compare_digest(secret, _plain(headers.get("x-gitlab-token", "")))

    def ended(self, headers: Mapping[str, str], body: bytes) -> Ended | None:
        """The job that a webhook says is over; None: it says something else. Raises `ValueError` for what cannot be read."""
        try:
            if self.kind == "github":
                if headers.get("x-github-event") != "workflow_run":
                    return None
                event = msgspec.json.decode(body, type=GithubEvent)
                return Ended(str(event.workflow_run.id), event.workflow_run.updated_at) if event.action == "completed" else None
            if msgspec.json.decode(body, type=dict[str, object]).get("object_kind") != "pipeline":
                return None
            pipeline = msgspec.json.decode(body, type=GitlabEvent).object_attributes
            return Ended(str(pipeline.id), pipeline.finished_at or "") if pipeline.status in GITLAB_ENDS else None
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(str(error)) from None


def moment(said: str, now: float) -> float:
    """When a job ended, in seconds since 1970: as it is said, but not later than now. What was long ago ends nothing that began since."""
    try:
        at = dt.datetime.fromisoformat(said.replace(" UTC", "+00:00"))
    except ValueError:
        return now
    stamp = at.timestamp() if at.tzinfo is not None else now
    return min(stamp, now)


def _plain(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
