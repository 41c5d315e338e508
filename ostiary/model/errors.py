"""Errors, sorted by whose fault they are, in closed lists: tests and the log compare names, not sentences."""

from __future__ import annotations

import enum


class Side(enum.StrEnum):
    """Which end of the gateway a peer is on."""

    CLIENT = "client"
    TARGET = "target"


class OstiaryError(Exception):
    """Base of every error this package raises on purpose."""


class Misdeed(enum.Enum):
    """Every way a peer can misbehave. The log stores these names; never reuse one."""

    BAD_LENGTH = "message length out of range"
    BAD_TEXT = "text is not valid in the session's encoding"
    BAD_FIELD = "a field has a value that the protocol does not know"
    OUT_OF_TURN = "message not allowed in this state"
    TRAILING_BYTES = "bytes left over after the last field"
    UNKNOWN_TAG = "no such message type"
    TOO_EARLY = "bytes sent before the other side agreed to read them"
    BAD_PROOF = "the peer could not prove that it knows the secret"
    TOO_COSTLY = "the peer asks for more work than is reasonable"
    TOO_SLOW = "the peer did not finish in time"


class PeerMisbehaved(OstiaryError):
    """The bytes broke the protocol: a bug at the peer, or an attack. Always fatal to the connection."""

    def __init__(self, why: Misdeed, detail: str = "") -> None:
        super().__init__(f"{why.value}: {detail}" if detail else why.value)
        self.why = why


class Unsupported(OstiaryError):
    """The peer speaks correctly what this gateway does not speak. Refused politely; `hint` says what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


class Reason(enum.Enum):
    """Every reason for which somebody is not let in, or an operation is not run, apart from policy.

    The log stores these names; never reuse one.
    """

    NO_TOKEN = "no token was given"  # noqa: S105 - a sentence about tokens, not one of them
    BAD_TOKEN = "the token is not valid"  # noqa: S105 - a sentence about tokens, not one of them
    EXPIRED_TOKEN = "the token has expired"  # noqa: S105 - a sentence about tokens, not one of them
    REVOKED_TOKEN = "the token was revoked"  # noqa: S105 - a sentence about tokens, not one of them
    WRONG_AUDIENCE = "the token is not for this gateway or connection"
    UNKNOWN_ISSUER = "the token's issuer is not trusted here"
    ISSUER_UNREACHABLE = "the token's issuer cannot be asked for its keys"
    NO_SUCH_CONNECTION = "there is no such connection"
    NEEDS_TLS = "this listener answers over TLS only"
    LOG_UNAVAILABLE = "the record cannot be made durable"
    RECORDINGS_FULL = "a limit on recordings was reached"
    TARGET_UNREACHABLE = "the target cannot be reached"
    TARGET_REFUSED = "the target did not let the gateway in"
    CATALOGUE_UNAVAILABLE = "the target's catalogue cannot be read"
    TOO_MANY_SESSIONS = "a limit on sessions was reached"
    TOO_MANY_ROWS = "the result has more rows than policy allows"
    IDLE = "the session was idle for too long"
    UNSUPPORTED = "the session asks for something that is not allowed here"
    MALFORMED = "the request cannot be read in one way"
    UNMASKABLE = "the answer cannot be masked, so it is withheld"
    NOT_PERMITTED = "policy does not permit this connection"
    BUDGET_SPENT = "a budget is spent"
    ENDED_BY_ALERT = "an alert ended this session"
    ENDED_BY_OPERATOR = "an operator ended this session"
    GRANT_OVER = "the time for which this connection was granted is over"
    GRANT_REVOKED = "what granted this connection was taken back"
    STOPPED_ACTOR = "whoever acts here was stopped"
    LOST_OWNER = "whoever acts here, or owns what it acts with, is disabled"
    MISUSED_TOKEN = "the token is used in an unusual way"  # noqa: S105 - a sentence about tokens, not one of them
    CONTROL_UNREACHABLE = "the gateway cannot check the token now"
    TOO_MUCH_AT_ONCE = "the bodies of this connection's requests come to more than is held at once"


class NotAdmitted(OstiaryError):
    """Somebody could not be let in, or something cannot go on. The sentence is fit for the caller."""

    def __init__(self, reason: Reason, detail: str = "", hint: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
        self.hint = hint


class ConfigError(OstiaryError):
    """The operator wrote something we cannot run with. Names the key, and says what to do."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


class LogFailed(OstiaryError):
    """The audit log cannot be written: nothing may run. Final after an fsync error, else until the cause is gone."""
