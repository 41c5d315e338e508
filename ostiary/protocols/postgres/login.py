"""Logging in, both ways, without a socket: `ServerLogin` towards the client, `ClientLogin` towards the target.

Source: PostgreSQL documentation, "Message Flow", "Start-up", and "SASL Authentication".

Theory of operation
-------------------
**Towards the client** the gateway asks for a password in clear, which is a gateway token, and only over TLS, or on
loopback where the listener has no certificate. Each message of a login must come alone: a client has nothing to say before it was answered, and what stands
behind an SSLRequest was put there by somebody else (CVE-2021-23214). So `receive` takes bytes and gives one `Step`, or
None. Startup parameters are an allow-list: what is not on it is refused by name, because a setting that nobody looked
at changes how statements are read. `options` is taken apart as the server would, and may set the same few.

A client that names itself `OAUTH_USER` is asked for SASL OAUTHBEARER instead (RFC 7628), where `discovery` says where its tokens come from. The
server chooses the method and cannot offer two, and the user's name is all that the client has said by then. One that shows no token is told
where to get one, as libpq 18 expects, and turned away; it comes back with it.

**Towards the target** the gateway proves who it is and demands the same: with SCRAM the server's signature must come
and be right before AuthenticationOk counts. A password in clear goes out only inside TLS, or where the operator says so.
A target that asks for nothing (`trust`) is let be. Protocol 3.0 is asked for: every server speaks it, and its cancel
keys of four bytes are enough towards a target. What a target says while logging in is bounded by MAX_LOGIN_MESSAGES.

What is *not* checked here: whether the token is any good (`ostiary.identity`), certificates (`ssl`, in
`ostiary.upstream`), deadlines (whoever drives).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, assert_never

import msgspec

from ostiary.kernel.frames import AUTH_LIMIT
from ostiary.model.errors import Misdeed, NotAdmitted, PeerMisbehaved, Reason, Unsupported
from ostiary.model.identity import Claims, Said
from ostiary.model.secrets import Secret
from ostiary.protocols.postgres import decode, encode
from ostiary.protocols.postgres import messages as m
from ostiary.protocols.postgres.refusals import plain
from ostiary.protocols.postgres.scram import SCRAM, SCRAM_PLUS, Derivation, KeyCache, Keys, Scram

# --- towards the client -----------------------------------------------------------------------------------------------

ALLOWED_PARAMETERS: Final[dict[str, str]] = {
    name.lower(): name
    for name in (
        "application_name",
        "client_encoding",
        "DateStyle",
        "TimeZone",
        "extra_float_digits",
        "IntervalStyle",
        "client_min_messages",
    )
}
"""Settings a client may choose at startup, by lower-case name (PostgreSQL compares them without case), as written."""
OAUTHBEARER: Final = "OAUTHBEARER"
"""RFC 7628."""
OAUTH_USER: Final = "oauth"
"""`user` of a client that wants to be asked for OAUTHBEARER."""
MAX_VALUE: Final = 256
"""Characters of a startup parameter's value."""
ENCODINGS: Final = {"utf8": "UTF8", "unicode": "UTF8", "sqlascii": "UTF8"}
"""Spellings by their letters and digits alone, which is what PostgreSQL compares (clean_encoding_name). Who asks for no conversion
gets UTF8: without it, a target in another encoding would read names otherwise than they are judged here."""
MAX_TOKEN: Final = 16_384
"""Bytes of a gateway token; a JWT with many groups has 4 KiB."""


class Reply(msgspec.Struct, frozen=True):
    """Send this and go on listening."""

    data: bytes


class StartTls(msgspec.Struct, frozen=True):
    """Send this one byte, do the TLS handshake, call `secured()`, and go on listening inside."""

    data: bytes


class Cancel(msgspec.Struct, frozen=True):
    """Look the key up, cancel what it names, and close without a word ("Canceling Requests in Progress")."""

    request: m.CancelRequest


class Present(msgspec.Struct, frozen=True):
    """The client said who it is: prove the claims, then `welcome()` it, or turn it away with `refusals.goodbye()`."""

    claims: Claims
    parameters: dict[str, str]
    """Settings for the target's session, of ALLOWED_PARAMETERS, by the name written there."""
    refused: Unsupported | None
    """It asked for a setting that is not allowed here: turn it away, but only once it is on record who asked."""
    version: int
    """The protocol spoken from here: PROTOCOL_3_0 or more; a cancel key may have over 4 bytes from PROTOCOL_3_2 on."""


Step = Reply | StartTls | Cancel | Present


_Startup = tuple[int, str, str, dict[str, str], Unsupported | None]
"""Version, connection, user, settings, and why the settings are refused."""


class ServerLogin:
    """A client logs in. Feed it bytes with `receive`; each whole message gives one step.

    Raises `PeerMisbehaved` (cut), `Unsupported` and `NotAdmitted` (say `refusals.goodbye(error)`, then close).
    """

    __slots__ = (
        "_address",
        "_allows_clear",
        "_buf",
        "_discovery",
        "_finished",
        "_gssenc_asked",
        "_offers_tls",
        "_sasl",
        "_secured",
        "_startup",
        "_tls_asked",
    )

    def __init__(
        self, *, address: str, offers_tls: bool, allows_clear: bool, is_secured: bool = False, discovery: str = ""
    ) -> None:
        """`address`: the peer's, for the record. `allows_clear`: it may log in without TLS. `is_secured`: TLS came first.

        `discovery`: where a client that asks for OAUTHBEARER learns how to log in; empty: it is not offered.
        """
        self._discovery = discovery
        self._sasl = ""
        """Where a SASL exchange stands: empty (none), `asked`, `told` where to get a token."""
        self._address = address
        self._offers_tls = offers_tls
        self._allows_clear = allows_clear
        self._secured = is_secured
        self._tls_asked = is_secured
        self._gssenc_asked = is_secured
        self._buf = bytearray()
        self._finished = False
        self._startup: _Startup | None = None

    def secured(self) -> None:
        """TLS is up: what comes now came through it."""
        self._secured = True
        self._gssenc_asked = True

    def receive(self, data: bytes) -> Step | None:
        """Take what was read. None: more, please. Never more than one message at a time: TOO_EARLY otherwise."""
        self._buf += data
        if self._finished:
            raise PeerMisbehaved(Misdeed.TOO_EARLY, "a message before the login was answered")
        if self._startup is not None:
            return self._password(self._startup)
        packet = decode.next_startup(self._buf)
        if packet is None:
            return None
        self._nothing_behind()
        match packet:
            case m.SSLRequest():
                if self._tls_asked:
                    raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "SSLRequest")
                self._tls_asked = True
                return StartTls(b"S") if self._offers_tls else Reply(b"N")
            case m.GSSENCRequest():
                if self._gssenc_asked:
                    raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "GSSENCRequest")
                self._gssenc_asked = True
                return Reply(b"N")
            case m.CancelRequest():
                self._finished = True
                return Cancel(packet)
            case m.StartupMessage():
                return self._start(packet)
            case _:
                assert_never(packet)

    def _nothing_behind(self) -> None:
        if self._buf:
            raise PeerMisbehaved(Misdeed.TOO_EARLY, "bytes behind a login message")

    def _start(self, message: m.StartupMessage) -> Step:
        if not (self._secured or self._allows_clear):
            hint = "use sslmode=require (or verify-full), or connect through `ostiary connect`"
            raise NotAdmitted(Reason.NEEDS_TLS, hint=hint)
        version = min(message.version, m.PROTOCOL_3_2)
        unknown = tuple(name for name, _ in message.parameters if name.startswith("_pq_."))
        given = {name: value for name, value in message.parameters if not name.startswith("_pq_.")}
        user = given.pop("user", "")
        if not user:
            raise NotAdmitted(Reason.NO_TOKEN, "no user name in the startup packet", "say user=NAME")
        # As on a server: without a database name, the user's name stands for it.
        connection = given.pop("database", "") or user
        _setting("user", user)
        _setting("database", connection)
        refused: Unsupported | None = None
        settings: dict[str, str] = {}
        try:
            settings = startup_settings(given)
        except Unsupported as exc:
            refused = exc
        self._startup = version, connection, user, settings, refused
        reply = encode.CLEARTEXT_PASSWORD
        if user == OAUTH_USER and self._discovery:
            self._sasl = "asked"
            reply = encode.encode(m.AuthenticationSASL((OAUTHBEARER,)))
        if version != message.version or unknown:
            reply = encode.encode(m.NegotiateProtocolVersion(version, unknown)) + reply
        return Reply(reply)

    def _told(self, message: m.AuthenticationData) -> Reply | bytes:
        """One step of OAUTHBEARER: the token, or where to get one (RFC 7628, 3.2.2; PostgreSQL 18, 55.2.6)."""
        if self._sasl == "told":
            if decode.sasl_response(message).data != b"\x01":
                raise PeerMisbehaved(Misdeed.BAD_FIELD, "OAUTHBEARER: something else than the end of a failed exchange")
            raise NotAdmitted(Reason.NO_TOKEN, hint="log in first: libpq 18 does so by itself, with oauth_issuer set")
        first = decode.sasl_initial_response(message)
        if first.mechanism != OAUTHBEARER or first.data is None:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "another SASL mechanism than the one offered")
        token = bearer_token(first.data)
        if token:
            return token
        self._sasl = "told"
        told = {"status": "invalid_token", "openid-configuration": self._discovery, "scope": ""}
        return Reply(encode.encode(m.AuthenticationSASLContinue(msgspec.json.encode(told))))

    def _password(self, startup: _Startup) -> Step | None:
        if self._buf and self._buf[0] != ord("p"):
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "something else where a password was asked for")
        if len(self._buf) > AUTH_LIMIT + 1:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "PasswordMessage")
        message = decode.next_frontend(self._buf)
        if message is None:
            return None
        self._nothing_behind()
        if not isinstance(message, m.AuthenticationData):
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, type(message).__name__)
        if self._sasl:
            told = self._told(message)
            if isinstance(told, Reply):
                return told
            raw = told
        else:
            raw = decode.password_message(message).password
        self._finished = True
        version, connection, user, settings, refused = startup
        if not raw:
            raise NotAdmitted(Reason.NO_TOKEN, hint="give a gateway token as the password: `ostiary token`")
        token = m.utf8(raw)
        if token is None or len(raw) > MAX_TOKEN:
            raise NotAdmitted(Reason.BAD_TOKEN)
        said = Said(address=self._address, user=user, application=settings.get("application_name", ""))
        return Present(Claims(connection=connection, token=Secret(token), said=said), settings, refused, version)


def bearer_token(response: bytes) -> bytes:
    """The token in a client's OAUTHBEARER message (RFC 7628, 3.1); empty: it shows none. Raises `PeerMisbehaved`."""
    header, *parts = response.split(b"\x01")
    if header not in (b"n,,", b"y,,") or parts[-2:] != [b"", b""]:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "OAUTHBEARER: not a client's first message")
    found: dict[bytes, bytes] = {}
    for pair in parts[:-2]:
        name, equals, value = pair.partition(b"=")
        if not equals or not name.isalpha() or name in found:
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "OAUTHBEARER: a pair that is none, or stands twice")
        found[name] = value
    auth = found.get(b"auth", b"")
    if not auth:
        return b""
    scheme, _, token = auth.partition(b" ")
    if scheme.lower() != b"bearer" or not token or b" " in token:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "OAUTHBEARER: not a bearer token")
    return token


def startup_settings(given: Mapping[str, str]) -> dict[str, str]:
    """The settings that a startup packet asks for, apart from user and database, `options` taken apart.

    Raises `Unsupported`, naming the parameter, for what is not in ALLOWED_PARAMETERS.
    """
    settings: dict[str, str] = {}
    plainly_named = {name: value for name, value in given.items() if name not in ("options", "replication")}
    if given.get("replication", "").lower() not in ("", "0", "off", "false", "no"):
        raise Unsupported("replication connections are not spoken here", "leave out the parameter replication")
    # The server applies `options` first, so that what is named plainly wins.
    for source in (split_options(given.get("options", "")), plainly_named.items()):
        for name, value in source:
            written = ALLOWED_PARAMETERS.get(name.lower())
            if written is None:
                allowed = ", ".join(ALLOWED_PARAMETERS.values())
                raise Unsupported(
                    f'startup parameter "{plain(name[:MAX_VALUE])}" is not allowed here', f"allowed are: {allowed}"
                )
            settings[written] = _setting(written, value)
    # Never the database's own encoding: what is judged here is read as UTF-8.
    settings.setdefault("client_encoding", "UTF8")
    return settings


def _setting(name: str, value: str) -> str:
    if len(value) > MAX_VALUE or not value.isprintable():
        raise Unsupported(f'startup parameter "{name}" has a value that is not allowed here')
    if name == "client_encoding":
        letters = "".join(c for c in value.lower() if c.isascii() and c.isalnum())
        if letters not in ENCODINGS or not re.fullmatch(r"'?[A-Za-z0-9_-]+'?", value):
            raise Unsupported(
                f'client_encoding "{plain(value)}" is not allowed here', "use UTF8: statements are read in it"
            )
        return ENCODINGS[letters]
    return value


def split_options(options: str) -> list[tuple[str, str]]:
    """Take `options` apart as the server does (pg_split_opts): only `-c name=value` and `--name=value` are let in."""
    if not options:
        return []
    # Words end at what C's isspace() calls space; a backslash takes the next character as it is.
    raw = re.findall(r"(?:\\.?|[^\\ \t\n\v\f\r])+", options, re.DOTALL)
    words = [re.sub(r"\\(.?)", r"\1", word, flags=re.DOTALL) for word in raw]
    pairs: list[tuple[str, str]] = []
    rest = iter(words)
    for word in rest:
        if word == "-c":
            text = next(rest, "")
        elif word.startswith(("-c", "--")):
            text = word[2:]
        else:
            raise Unsupported(
                f'startup parameter "options" with "{plain(word[:MAX_VALUE])}" is not allowed here',
                "only -c name=value",
            )
        name, equals, value = text.partition("=")
        if not equals:
            raise Unsupported('startup parameter "options" has a setting without a value', "write -c name=value")
        # The server reads `-` in these names as `_` (ParseLongOption).
        pairs.append((name.replace("-", "_"), value))
    return pairs


def welcome(parameters: Iterable[tuple[str, str]], process_id: int, secret_key: bytes) -> bytes:
    """Let a client in: AuthenticationOk, ParameterStatus for each, BackendKeyData, ReadyForQuery.

    `secret_key`: 4 bytes, or 4 to 256 where `Present.version` is PROTOCOL_3_2.
    """
    statuses = _statuses(tuple(parameters))
    return b"".join((encode.AUTHENTICATION_OK, statuses, encode.encode(m.BackendKeyData(process_id, secret_key)), encode.READY["I"]))


@lru_cache(maxsize=64)
def _statuses(parameters: tuple[tuple[str, str], ...]) -> bytes:
    return b"".join(encode.encode(m.ParameterStatus(name, value)) for name, value in parameters)


# --- towards the target -----------------------------------------------------------------------------------------------

MAX_LOGIN_MESSAGES: Final = 1000
"""Messages of a target before it is ready; PostgreSQL sends about 20."""
MAX_LOGIN_FRAME: Final = 1 << 16
"""Bytes of one of them."""


class LoggedIn(msgspec.Struct, frozen=True):
    """The target is ready for work."""

    parameters: dict[str, str]
    process_id: int
    secret_key: bytes
    """What a CancelRequest must show; empty: the target gave none."""

    def __repr__(self) -> str:
        return f"LoggedIn(process_id={self.process_id})"


class ClientLogin:
    """The gateway logs in. Send `start()`, feed every message of the target to `receive`, send what it gives.

    Raises `PeerMisbehaved`, and `NotAdmitted` (TARGET_REFUSED) with a sentence that never holds the credential.
    """

    __slots__ = (
        "_binding",
        "_cache",
        "_clear_allowed",
        "_count",
        "_is_in",
        "_key",
        "_nonce",
        "_parameters",
        "_password",
        "_scram",
        "_settings",
        "_stage",
        "_user",
        "done",
    )

    def __init__(
        self,
        *,
        user: str,
        database: str,
        password: Secret | None,
        settings: Mapping[str, str],
        nonce: str,
        clear_allowed: bool,
        binding: bytes | None,
        cache: KeyCache,
    ) -> None:
        """`nonce`: 18 random bytes or more, printable. `clear_allowed`: inside TLS. `binding`: see `Scram`."""
        self._user = user
        self._settings = (("user", user), ("database", database), *settings.items())
        self._password = password
        self._nonce = nonce
        self._clear_allowed = clear_allowed
        self._binding = binding
        self._cache = cache
        self._parameters: dict[str, str] = {}
        self._key = m.BackendKeyData(0, b"")
        self._scram: Scram | None = None
        self._stage = "asked"
        self._count = 0
        self.done: LoggedIn | None = None
        """Set once the target said ReadyForQuery."""

    def __repr__(self) -> str:
        return f"ClientLogin(stage={self._stage!r})"

    def start(self) -> bytes:
        """The startup packet."""
        return encode.encode(m.StartupMessage(m.PROTOCOL_3_0, self._settings))

    def receive(self, message: m.Backend) -> bytes | Derivation:
        """Take one message; what to send (often nothing), or work to do: give its result to `derived`."""
        self._count += 1
        if self._count > MAX_LOGIN_MESSAGES:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, "too many messages in a login")
        if isinstance(message, m.NoticeResponse):
            return b""
        if isinstance(message, m.ErrorResponse):
            raise self._refused(message)
        if self._stage == "in":
            return self._settle(message)
        return self._authenticate(message)

    def derived(self, keys: Keys) -> bytes:
        """The keys that a `Derivation` gave; what to send."""
        scram = self._scram
        if scram is None or self._stage != "deriving":
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "SCRAM")
        self._stage = "proving"
        return encode.encode(m.SASLResponse(scram.proof(keys)))

    def _authenticate(self, message: m.Backend) -> bytes | Derivation:
        match self._stage, message:
            case (("asked" | "answered" | "proved"), m.AuthenticationOk()):
                self._stage = "in"
                return b""
            case _, m.AuthenticationOk() if self._scram is not None:
                raise PeerMisbehaved(Misdeed.BAD_PROOF, "AuthenticationOk before the target proved itself")
            case "asked", m.AuthenticationCleartextPassword():
                return self._clear()
            case "asked", m.AuthenticationMD5Password():
                return self._md5(message.salt)
            case "asked", m.AuthenticationSASL():
                return self._sasl(message.mechanisms)
            case "asked", m.AuthenticationOther():
                raise NotAdmitted(
                    Reason.TARGET_REFUSED,
                    f"it asks for authentication method {message.method}, which is not spoken here",
                    "let the target's pg_hba.conf ask this user for scram-sha-256",
                )
            case "sasl", m.AuthenticationSASLContinue() if self._scram is not None:
                return self._challenged(self._scram.challenge(message.data))
            case "proving", m.AuthenticationSASLFinal() if self._scram is not None:
                keys = self._scram.check_server(message.data)
                if self._scram.work is not None:
                    self._cache.keep(self._scram.work, keys)
                self._stage = "proved"
                return b""
            case _:
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, f"{type(message).__name__} in a login")

    def _given_password(self) -> Secret:
        if self._password is None:
            raise NotAdmitted(Reason.TARGET_REFUSED, "it asks for a password, and none is configured")
        return self._password

    def _clear(self) -> bytes:
        password = self._given_password()
        if not self._clear_allowed:
            raise NotAdmitted(
                Reason.TARGET_REFUSED,
                "it asks for the password in clear on a connection without TLS",
                "set tls on the connection, or let the target's pg_hba.conf ask for scram-sha-256",
            )
        self._stage = "answered"
        return encode.encode(m.PasswordMessage(password.reveal().encode()))

    def _md5(self, salt: bytes) -> bytes:
        """md5(md5(password + user) + salt): "Start-up", AuthenticationMD5Password. MD5 is the protocol's choice."""
        secret = (self._given_password().reveal() + self._user).encode()
        inner = hashlib.md5(secret, usedforsecurity=False).hexdigest().encode()
        outer = hashlib.md5(inner + salt, usedforsecurity=False).hexdigest().encode()
        self._stage = "answered"
        return encode.encode(m.PasswordMessage(b"md5" + outer))

    def _sasl(self, mechanisms: tuple[str, ...]) -> bytes:
        password = self._given_password()
        if SCRAM_PLUS in mechanisms and self._binding is not None:
            mechanism = SCRAM_PLUS
        elif SCRAM in mechanisms:
            mechanism = SCRAM
        else:
            raise NotAdmitted(Reason.TARGET_REFUSED, "it offers no authentication mechanism that is spoken here")
        self._scram = Scram(mechanism, password, self._nonce, self._binding)
        self._stage = "sasl"
        return encode.encode(m.SASLInitialResponse(mechanism, self._scram.first()))

    def _challenged(self, work: Derivation) -> bytes | Derivation:
        self._stage = "deriving"
        keys = self._cache.find(work)
        return work if keys is None else self.derived(keys)

    @property
    def is_settling(self) -> bool:
        """The target is saying its settings."""
        return self._stage == "in"

    def settle(self, values: Mapping[str, str], count: int) -> None:
        """Take ParameterStatus messages that were read already: so many, which say this. Only while `is_settling`."""
        self._count += count
        if self._count > MAX_LOGIN_MESSAGES:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, "too many messages in a login")
        if self._stage != "in":
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "ParameterStatus in a login")
        self._parameters.update(values)

    def _settle(self, message: m.Backend) -> bytes:
        """Between AuthenticationOk and ReadyForQuery: "Start-up"."""
        match message:
            case m.ParameterStatus():
                self._parameters[message.name] = message.value
            case m.BackendKeyData():
                self._key = message
            case m.ReadyForQuery():
                self._stage = "ready"
                self.done = LoggedIn(self._parameters, self._key.process_id, self._key.secret_key)
            case _:
                raise PeerMisbehaved(Misdeed.OUT_OF_TURN, f"{type(message).__name__} in a login")
        return b""

    def _refused(self, message: m.ErrorResponse) -> NotAdmitted:
        """The target's own words, without the credential: a hostile target may say it back."""
        text = message.text("M")
        if self._password is not None and self._password.reveal():
            text = text.replace(self._password.reveal(), "…")
        return NotAdmitted(Reason.TARGET_REFUSED, f"{plain(text[:500])} (SQLSTATE {plain(message.text('C')[:5])})")
