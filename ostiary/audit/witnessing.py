"""Asking witnesses for their cosignatures: the log's side of C2SP tlog-witness. Used by the sealer alone.

All witnesses are asked at once, each in a thread of its own, and none is waited for longer than `TIMEOUT_SECONDS`; one that did not
answer is left alone for a while, twice as long each time. What a witness knows is learnt from its own answers: a size that
is larger than the log's means that the log was rolled back, a refused proof that it was forked.
"""

from __future__ import annotations

import base64
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final, NamedTuple

from ostiary.audit.consistency import Subtree, consistency_proof
from ostiary.audit.cosignature import DASH, Named, WitnessPolicy
from ostiary.model.errors import LogFailed

TIMEOUT_SECONDS: Final = 2.0
_MAX_ANSWER: Final = 1 << 14
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


class WitnessSays(LogFailed):
    """A witness saw another history of this log: it was rolled back, or forked."""


class Signed(NamedTuple):
    """A checkpoint to be cosigned: its note, its text, and its tree."""

    note: str
    text: str
    size: int
    subtree: Subtree


class _Reply(NamedTuple):
    status: int
    type: str
    body: str


class _Asked:
    """One witness, and what is known of it."""

    def __init__(self, name: str, witness: Named) -> None:
        self.name = name
        self._key = witness.key
        self._url = f"{witness.url}/add-checkpoint"
        self.size = 0
        """The size that it cosigned last, as far as it said."""
        self.line = ""
        self.trouble = ""
        self.contradicts = ""
        """Why what it knows and this log cannot both be true."""
        self._misses = 0
        self._not_before = 0.0
        self._running: threading.Thread | None = None

    def start(self, signed: Signed, *, now: bool = False) -> None:
        """Ask, unless it is being asked still, or is left alone for now."""
        self.line = ""
        if self._running is not None and self._running.is_alive():
            return
        if not now and time.monotonic() < self._not_before:
            return
        self._running = threading.Thread(target=self._ask, args=(signed,), name=f"witness {self.name}", daemon=True)
        self._running.start()

    def join(self, deadline: float) -> None:
        if self._running is not None:
            self._running.join(max(0.0, deadline - time.monotonic()))
            if self._running.is_alive():
                self._missed("does not answer in time")

    def _ask(self, signed: Signed) -> None:
        try:
            self.contradicts = ""
            reply = self._post(signed)
            if reply.status == 409 and reply.type == "text/x.tlog.size":
                self.size = int(reply.body.strip())
                if self.size > signed.size:
                    self._missed(f"knows a larger tree, of {self.size} entries")
                    return
                reply = self._post(signed)
            self._heed(reply, signed)
        except (OSError, ValueError, http.client.HTTPException, LogFailed) as problem:
            self._missed(f"cannot be asked: {problem}")

    def _heed(self, reply: _Reply, signed: Signed) -> None:
        if reply.status == 200:
            for line in reply.body.splitlines(keepends=True):
                if line.startswith(DASH) and line.endswith("\n") and self._key.is_signed(signed.text, line[:-1]):
                    self.size, self.line, self._misses, self.trouble = signed.size, line, 0, ""
                    return
            self._missed("answered without a cosignature of its key")
        elif reply.status == 422 or (reply.status == 409 and reply.type != "text/x.tlog.size"):
            self.contradicts = f"saw another history of this log's first {self.size} entries"
            self._missed(self.contradicts)
        else:
            self._missed(f"refused: HTTP {reply.status} {reply.body.strip()[:100]}")

    def _post(self, signed: Signed) -> _Reply:
        proof = consistency_proof(self.size, signed.size, signed.subtree)
        lines = [f"old {self.size}", *(base64.b64encode(node).decode() for node in proof), "", signed.note]
        request = urllib.request.Request(  # noqa: S310 - the policy takes http and https only
            self._url, data="\n".join(lines).encode(), headers={"Content-Type": "text/plain"}, method="POST"
        )
        try:
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return _reply(answer.status, answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return _reply(refused.code, refused)

    def _missed(self, why: str) -> None:
        self._not_before = time.monotonic() + _PAUSES[min(self._misses, len(_PAUSES) - 1)]
        self._misses += 1
        self.trouble = why


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow nothing: a witness is where the policy says."""


_OPENER: Final = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


def _reply(status: int, answer: http.client.HTTPResponse | urllib.error.HTTPError) -> _Reply:
    body = answer.read(_MAX_ANSWER).decode("utf-8", "replace")
    return _Reply(status, answer.headers.get_content_type(), body)


class Witnesses:
    """All witnesses of a policy that have a URL."""

    def __init__(self, policy: WitnessPolicy, say: Callable[[str], None]) -> None:
        self._policy = policy
        self._asked = [_Asked(name, named) for name, named in policy.witnesses.items() if named.url]
        self._say = say
        self._told: dict[str, str] = {}
        self.satisfied_at = time.monotonic()
        """When a quorum last cosigned; at first, when this began."""
        self.is_short = False
        """Whether the last checkpoint lacks a quorum."""

    def cosign(self, signed: Signed) -> str:
        """Collect cosignatures: the note with what came in time."""
        for each in self._asked:
            each.start(signed)
        self._join()
        lines = {each.name: each.line for each in self._asked if each.line}
        self.is_short = not self._policy.is_satisfied(set(lines))
        if not self.is_short:
            self.satisfied_at = time.monotonic()
        for each in self._asked:
            if each.trouble != self._told.get(each.name, ""):
                self._told[each.name] = each.trouble
                self._say(f"witness {each.name} {each.trouble or 'cosigns again'}")
        return signed.note + "".join(lines.values())

    def is_enough(self, text: str, note: str) -> bool:
        """Whether a note has the cosignatures of a quorum already."""
        return self._policy.is_cosigned(text, note)

    def check_start(self, signed: Signed, entries: int) -> None:
        """Ask every witness what it knows, against a log that holds `entries` now. Raises `WitnessSays`.

        One that cannot be asked is told, and hinders nothing: `audit.witness_lag_seconds` is for that.
        """
        for each in self._asked:
            each.start(signed, now=True)
        self._join()
        for each in self._asked:
            if each.size > entries:
                raise WitnessSays(
                    f"the log was rolled back: witness {each.name} knows {each.size} entries, the disk has {entries}"
                )
            if each.contradicts:
                raise WitnessSays(f"the log was forked: witness {each.name} {each.contradicts}")
            if each.trouble and each.size <= signed.size:
                self._say(f"witness {each.name} {each.trouble}")

    def _join(self) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        for each in self._asked:
            each.join(deadline)
