"""Who may not go on: revoked tokens, and people, agents and workloads that were stopped. What the control process told.

A worker holds all of it in memory, so a login asks nobody. A token is refused when it, or anything that it descends from (the
token, delegation or service account that it was made of), was revoked; or when its subject, or anybody in its acting chain, was stopped.
Sessions that are open are asked again with each piece of news.

Not knowing is a no: where what was told may not have been heard (`ostiary.store.link`), nobody is let in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Job, Kind, VerifiedIdentity
from ostiary.store.news import News

REVOKED: Final = "revoked"
"""Topic: the key is the hex SHA-256 of a token's id."""
STOPPED: Final = "stopped"
"""Topic: the key is `actor_key` of whoever was stopped."""
ENDED_JOBS: Final = "ended-jobs"
"""Topic: the key is `actor_key` of the issuer and the id of the job."""
_REASONS: Final = {
    reason.name: reason
    for reason in (Reason.REVOKED_TOKEN, Reason.STOPPED_ACTOR, Reason.LOST_OWNER, Reason.MISUSED_TOKEN)
}
_MAX_DETAIL: Final = 512


def actor_key(iss: str, sub: str) -> str:
    """What stands for one actor in the news: no separator that a name could hold is trusted."""
    return hashlib.sha256(f"{len(iss)}:{iss}{sub}".encode("utf-8", "surrogatepass")).hexdigest()


def job_body(at: float, by: str, *, ends: bool) -> dict[str, Any]:
    """Say that a job ended, as news: when, who told, and whether its sessions end with it."""
    return {"at": at, "by": by[:_MAX_DETAIL], "ends": ends}


def stop_body(reason: Reason, detail: str) -> dict[str, Any]:
    """Say why, as news."""
    return {"reason": reason.name, "detail": detail[:_MAX_DETAIL]}


class Standing:
    """What was told so far. Give `heard` to the link, or to the board."""

    def __init__(self, is_current: Callable[[], bool] = lambda: True) -> None:
        self._is_current = is_current
        self._revoked: dict[str, News] = {}
        self._stopped: dict[str, News] = {}
        self._over: dict[str, News] = {}

    def heard(self, news: News) -> bool:
        """Take a piece of news; whether it is one that sessions end for."""
        held = {REVOKED: self._revoked, STOPPED: self._stopped, ENDED_JOBS: self._over}.get(news.topic)
        if held is None:
            return False
        if news.body is None:
            held.pop(news.key, None)
            return False
        held[news.key] = news
        return news.topic != ENDED_JOBS or bool(news.body.get("ends"))

    def forget(self, now: float) -> None:
        """Drop what no longer matters, now and then."""
        for held in (self._revoked, self._stopped, self._over):
            for key in [key for key, news in held.items() if news.until <= now]:
                del held[key]

    def why_not(self, who: VerifiedIdentity) -> NotAdmitted | None:
        """Why `who` may not go on; None: nothing is known against it."""
        if (why := self.is_revoked((who.auth.token, *who.auth.family))) is not None:
            return why
        actors = ((who.issuer, who.subject), *((actor.iss, actor.sub) for actor in who.acting))
        if (why := self.is_stopped(actors)) is not None:
            return why
        over = self._over_for(who)
        if not any((news.body or {}).get("ends") for _, news in over):
            return None
        return NotAdmitted(Reason.MISUSED_TOKEN, f"misuse ended_job: {_after(over)}")

    def after_its_job(self, who: VerifiedIdentity) -> str:
        """That the job which `who` was proved for, or which acts for them, has ended, in words; empty: it has not, as far as was told."""
        return _after(self._over_for(who))

    def _over_for(self, who: VerifiedIdentity) -> list[tuple[Job, News]]:
        """The ends of the jobs that `who` was proved for, or that act for them. A run that is started again has tokens from after it."""
        if not self._over:
            return []
        told = ((job, self._over.get(actor_key(job.iss, job.id))) for job in jobs_of(who))
        return [(job, news) for job, news in told if news is not None and job.at <= float((news.body or {}).get("at", 0))]

    def is_revoked(self, tokens: Iterable[str]) -> NotAdmitted | None:
        """Why one of these tokens was revoked; None: none was."""
        for token in tokens:
            if (news := self._revoked.get(token)) is not None:
                return _said(news, Reason.REVOKED_TOKEN)
        return None

    def is_stopped(self, actors: Iterable[tuple[str, str]]) -> NotAdmitted | None:
        """Why one of these (issuer, subject) was stopped; None: none was."""
        if not self._stopped:
            return None
        for iss, sub in actors:
            if (news := self._stopped.get(actor_key(iss, sub))) is not None:
                return _said(news, Reason.STOPPED_ACTOR)
        return None

    def check(self, who: VerifiedIdentity) -> None:
        """Raise `NotAdmitted` unless `who` may come in."""
        if not self._is_current():
            raise NotAdmitted(Reason.CONTROL_UNREACHABLE, "who was revoked is not known now", "try again in a moment")
        if (why := self.why_not(who)) is not None:
            raise why


def jobs_of(who: VerifiedIdentity) -> tuple[Job, ...]:
    """The runs that had a part in what `who` shows: those among the actors, and the one that it is itself."""
    if who.kind is not Kind.WORKLOAD or who.task is None:
        return who.auth.jobs
    return (*who.auth.jobs, Job(who.issuer, who.task, who.auth.at))


def _after(over: list[tuple[Job, News]]) -> str:
    if not over:
        return ""
    job, news = over[0]
    return f"the job {job.id} has ended, as {(news.body or {}).get('by', 'it')} told"


def _said(news: News, default: Reason) -> NotAdmitted:
    body = news.body or {}
    reason = _REASONS.get(str(body.get("reason")), default)
    return NotAdmitted(reason, str(body.get("detail", "")))
