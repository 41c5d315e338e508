"""What a worker hears of alerts: which sessions end, and who has to ask for everything."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ostiary.model.errors import Reason
from ostiary.model.identity import VerifiedIdentity
from ostiary.store.news import News

ENDED: Final = "ended"
"""Topic of the news about sessions that an alert or an operator ends; the key is the session's id."""
ENDED_SECONDS: Final = 300
OPERATOR: Final = "operator"
DEMANDED: Final = "demanded"
"""Topic of the news about actors all of whose operations take approval; the key stands for the chain, or for a credential."""

Approvers = tuple[tuple[str, int], ...]


def operator_ends(why: str) -> dict[str, Any]:
    """What is told of a session that an operator ends."""
    return {"by": OPERATOR, "why": why}


def ending_of(body: Mapping[str, Any]) -> Reason:
    """Who ended a session, from what is told of it."""
    return Reason.ENDED_BY_OPERATOR if body.get("by") == OPERATOR else Reason.ENDED_BY_ALERT


def chain_key(who: VerifiedIdentity) -> str:
    """What stands for somebody with exactly those who act for them."""
    chain = [(who.issuer, who.subject), *((each.iss, each.sub) for each in who.acting)]
    return hashlib.sha256(msgspec.json.encode(chain)).hexdigest()


def credential_key(token: str) -> str:
    """What stands for a credential, and all that was made from it: the id hash of its token."""
    return f"credential {token}"


class Demands:
    """Who has to ask, as told so far."""

    def __init__(self) -> None:
        self._held: dict[str, News] = {}

    def heard(self, news: News) -> bool:
        """Take a piece of news; whether it is one about who has to ask."""
        if news.topic != DEMANDED:
            return False
        if news.body is None:
            self._held.pop(news.key, None)
        else:
            self._held[news.key] = news
        return True

    def of(self, who: VerifiedIdentity) -> Approvers:
        """Whose approval everything takes that `who` does now; empty: nobody's."""
        if not self._held:
            return ()
        wanted: dict[str, int] = {}
        for key in (chain_key(who), *map(credential_key, (who.auth.token, *who.auth.family))):
            news = self._held.get(key)
            if news is None or news.body is None or news.until <= time.time():
                continue
            for name, _, count in (str(each).partition(":") for each in news.body["groups"]):
                wanted[name] = max(wanted.get(name, 0), int(count or 1))
        return tuple(sorted(wanted.items()))
