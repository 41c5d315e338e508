"""What a worker hears of alerts: which sessions end, and who has to ask for everything."""

from __future__ import annotations

import hashlib
import time
from typing import Final

import msgspec

from ostiary.model.identity import VerifiedIdentity
from ostiary.store.news import News

ENDED: Final = "ended"
"""Topic of the news about sessions that an alert ends; the key is the session's id."""
DEMANDED: Final = "demanded"
"""Topic of the news about actors all of whose operations take approval; the key stands for the chain."""

Approvers = tuple[tuple[str, int], ...]


def chain_key(who: VerifiedIdentity) -> str:
    """What stands for somebody with exactly those who act for them."""
    chain = [(who.issuer, who.subject), *((each.iss, each.sub) for each in who.acting)]
    return hashlib.sha256(msgspec.json.encode(chain)).hexdigest()


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
        news = self._held.get(chain_key(who))
        if news is None or news.body is None or news.until <= time.time():
            return ()
        groups = (str(each).partition(":") for each in news.body["groups"])
        return tuple(sorted((name, int(count or 1)) for name, _, count in groups))
