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
from ostiary.model.identity import VerifiedIdentity
from ostiary.store.news import News

REVOKED: Final = "revoked"
"""Topic: the key is the hex SHA-256 of a token's id."""
STOPPED: Final = "stopped"
"""Topic: the key is `actor_key` of whoever was stopped."""
_REASONS: Final = {
    reason.name: reason
    for reason in (Reason.REVOKED_TOKEN, Reason.STOPPED_ACTOR, Reason.LOST_OWNER, Reason.MISUSED_TOKEN)
}
_MAX_DETAIL: Final = 512


def actor_key(iss: str, sub: str) -> str:
    """What stands for one actor in the news: no separator that a name could hold is trusted."""
    return hashlib.sha256(f"{len(iss)}:{iss}{sub}".encode("utf-8", "surrogatepass")).hexdigest()


def stop_body(reason: Reason, detail: str) -> dict[str, Any]:
    """Say why, as news."""
    return {"reason": reason.name, "detail": detail[:_MAX_DETAIL]}


class Standing:
    """What was told so far. Give `heard` to the link, or to the board."""

    def __init__(self, is_current: Callable[[], bool] = lambda: True) -> None:
        self._is_current = is_current
        self._revoked: dict[str, News] = {}
        self._stopped: dict[str, News] = {}

    def heard(self, news: News) -> bool:
        """Take a piece of news; whether it is one that sessions end for."""
        held = {REVOKED: self._revoked, STOPPED: self._stopped}.get(news.topic)
        if held is None:
            return False
        if news.body is None:
            held.pop(news.key, None)
            return False
        held[news.key] = news
        return True

    def forget(self, now: float) -> None:
        """Drop what no longer matters, now and then."""
        for held in (self._revoked, self._stopped):
            for key in [key for key, news in held.items() if news.until <= now]:
                del held[key]

    def why_not(self, who: VerifiedIdentity) -> NotAdmitted | None:
        """Why `who` may not go on; None: nothing is known against it."""
        if (why := self.is_revoked((who.auth.token, *who.auth.family))) is not None:
            return why
        actors = ((who.issuer, who.subject), *((actor.iss, actor.sub) for actor in who.acting))
        return self.is_stopped(actors)

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


def _said(news: News, default: Reason) -> NotAdmitted:
    body = news.body or {}
    reason = _REASONS.get(str(body.get("reason")), default)
    return NotAdmitted(reason, str(body.get("detail", "")))
