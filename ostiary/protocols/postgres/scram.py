"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the client's side, on hashlib and hmac.

Sources: RFC 5802 (SCRAM), RFC 7677 (with SHA-256), RFC 5929, 4 (tls-server-end-point), RFC 4013 (SASLprep), and
PostgreSQL documentation, "SASL Authentication". No randomness here: the nonce is given.

Why not a library: the expensive step, PBKDF2, is 0.7 ms and more for every new connection, and only ClientKey and
ServerKey come out of it. `KeyCache` keeps those by (credential, salt, iterations), and the step itself is handed to the
caller as a `Derivation`, so that it may run off the event loop.

What a hostile server can do is bounded: the length of what it says, and MAX_ITERATIONS. What is *not* checked here:
that the server says something at all; `login.py` refuses AuthenticationOk without the server's proof.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from collections import OrderedDict
from typing import Final

import msgspec

from ostiary.model.errors import Misdeed, NotAdmitted, PeerMisbehaved, Reason
from ostiary.model.secrets import Secret

SCRAM: Final = "SCRAM-SHA-256"
SCRAM_PLUS: Final = "SCRAM-SHA-256-PLUS"

MAX_ITERATIONS: Final = 200_000
"""50 times PostgreSQL's default (`scram_iterations` 4096): a tenth of a second of CPU for a connection."""
MAX_MESSAGE: Final = 2048
"""Bytes of one message of the server; PostgreSQL's have under 200."""
MAX_NONCE: Final = 512
MAX_SALT: Final = 256
MAX_CACHED: Final = 1024


class Keys(msgspec.Struct, frozen=True):
    """What comes out of the password: RFC 5802, 3."""

    client_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "Keys(…)"


class Derivation(msgspec.Struct, frozen=True):
    """Work that has to be done before the login can go on: `run()` it, here or in a thread."""

    password: Secret
    salt: bytes
    iterations: int

    def __repr__(self) -> str:
        return f"Derivation(iterations={self.iterations})"

    def run(self) -> Keys:
        """PBKDF2 and two HMACs: RFC 5802, 3. Releases the GIL while it works."""
        salted = hashlib.pbkdf2_hmac("sha256", prepared(self.password.reveal()), self.salt, self.iterations)
        return Keys(hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256"))


class KeyCache:
    """Keys by (credential, salt, iterations), the oldest use forgotten first. As secret as the passwords themselves."""

    def __init__(self, size: int = MAX_CACHED) -> None:
        self._size = size
        self._keys: OrderedDict[tuple[bytes, bytes, int], Keys] = OrderedDict()

    def __repr__(self) -> str:
        return f"KeyCache({len(self._keys)})"

    def find(self, work: Derivation) -> Keys | None:
        """The keys that `work` would give, if they are known."""
        place = self._place(work)
        keys = self._keys.get(place)
        if keys is not None:
            self._keys.move_to_end(place)
        return keys

    def keep(self, work: Derivation, keys: Keys) -> None:
        """Remember what `work` gave. Only after the server's proof: a wrong password is not worth a place."""
        self._keys[self._place(work)] = keys
        if len(self._keys) > self._size:
            self._keys.popitem(last=False)

    @staticmethod
    def _place(work: Derivation) -> tuple[bytes, bytes, int]:
        return hashlib.sha256(work.password.reveal().encode()).digest(), work.salt, work.iterations


class Scram:
    """One exchange: `first()`, `challenge()`, `proof()`, `check_server()`, in this order (RFC 5802, 5)."""

    __slots__ = ("_auth", "_bare", "_gs2", "_keys", "_nonce", "_password", "_server_first", "mechanism", "work")

    def __init__(self, mechanism: str, password: Secret, nonce: str, binding: bytes | None) -> None:
        """`binding`: hash of the server's certificate (RFC 5929, 4.1), None outside TLS or where it cannot be had."""
        self.mechanism = mechanism
        self._password = password
        self._nonce = nonce
        # RFC 5802, 6: `y` says "I could bind, and you did not offer it", so that whoever took the offer out of the
        # list is found out by the server.
        if mechanism == SCRAM_PLUS and binding is not None:
            self._gs2 = b"p=tls-server-end-point,,", binding
        else:
            self._gs2 = (b"n,," if binding is None else b"y,,"), b""
        self._bare = f"n=,r={nonce}".encode()  # PostgreSQL takes the user from the startup packet
        self._server_first = b""
        self._auth = b""
        self._keys: Keys | None = None
        self.work: Derivation | None = None

    def __repr__(self) -> str:
        return f"Scram({self.mechanism})"

    def first(self) -> bytes:
        """client-first-message."""
        return self._gs2[0] + self._bare

    def challenge(self, message: bytes) -> Derivation:
        """Read server-first-message. Raises `PeerMisbehaved`."""
        nonce, salt, rounds = _attributes(message, "r", "s", "i")
        # The nonce must begin with ours and add to it: else this is a replay (RFC 5802, 5.1).
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or len(nonce) > MAX_NONCE:
            raise PeerMisbehaved(Misdeed.BAD_PROOF, "SCRAM nonce")
        if not (rounds.isascii() and rounds.isdigit()) or rounds.startswith("0"):
            raise PeerMisbehaved(Misdeed.BAD_FIELD, "SCRAM iteration count")
        if len(rounds) > 9 or int(rounds) > MAX_ITERATIONS:
            raise PeerMisbehaved(Misdeed.TOO_COSTLY, f"SCRAM with more than {MAX_ITERATIONS} iterations")
        raw = _base64(salt)
        if not 1 <= len(raw) <= MAX_SALT:
            raise PeerMisbehaved(Misdeed.BAD_LENGTH, "SCRAM salt")
        self._server_first = message
        self._nonce = nonce
        self.work = Derivation(self._password, raw, int(rounds))
        return self.work

    def proof(self, keys: Keys) -> bytes:
        """client-final-message."""
        bound = base64.b64encode(self._gs2[0] + self._gs2[1])
        without_proof = b"c=" + bound + b",r=" + self._nonce.encode()
        self._auth = b",".join((self._bare, self._server_first, without_proof))
        self._keys = keys
        signature = hmac.digest(hashlib.sha256(keys.client_key).digest(), self._auth, "sha256")
        proof = bytes(a ^ b for a, b in zip(keys.client_key, signature, strict=True))
        return without_proof + b",p=" + base64.b64encode(proof)

    def check_server(self, message: bytes) -> Keys:
        """Read server-final-message: the server must know the password too; the keys that proved right.

        Raises `PeerMisbehaved` (BAD_PROOF among others), `NotAdmitted` where it says that we do not.
        """
        if message.startswith(b"e="):
            raise NotAdmitted(Reason.TARGET_REFUSED, "the target did not accept the credential")
        (signature,) = _attributes(message, "v")
        if self._keys is None:
            raise PeerMisbehaved(Misdeed.OUT_OF_TURN, "SCRAM")
        expected = hmac.digest(self._keys.server_key, self._auth, "sha256")
        if not hmac.compare_digest(expected, _base64(signature)):
            raise PeerMisbehaved(Misdeed.BAD_PROOF, "SCRAM server signature")
        return self._keys


def _attributes(message: bytes, *names: str) -> list[str]:
    """The values of exactly these attributes, in this order. Extensions (RFC 5802, 5.1, `m=` and others) are refused."""
    if len(message) > MAX_MESSAGE:
        raise PeerMisbehaved(Misdeed.BAD_LENGTH, "SCRAM message")
    try:
        parts = message.decode("ascii").split(",")
    except UnicodeDecodeError:
        raise PeerMisbehaved(Misdeed.BAD_TEXT, "SCRAM message") from None
    if [part[:2] for part in parts] != [f"{name}=" for name in names]:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "SCRAM attributes")
    values = [part[2:] for part in parts]
    if not all(value and value.isprintable() and " " not in value for value in values):
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "SCRAM attributes")
    return values


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise PeerMisbehaved(Misdeed.BAD_FIELD, "SCRAM base64") from None


def prepared(password: str) -> bytes:
    """SASLprep (RFC 4013); what it prohibits is used as it is, as PostgreSQL does (src/common/saslprep.c)."""
    if password.isascii() and password.isprintable():
        return password.encode()
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c)
    )  # RFC 4013, 2.1
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    return (password if not normal or _is_prohibited(normal) else normal).encode("utf-8", "surrogatepass")


_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)
"""RFC 4013, 2.3, and 2.5 for unassigned code points."""


def _is_prohibited(text: str) -> bool:
    if any(table(c) for c in text for table in _PROHIBITED):
        return True
    # RFC 3454, 6: text with right-to-left characters has no left-to-right ones, and begins and ends with one of them.
    if any(map(stringprep.in_table_d1, text)):
        ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
        return not ends or any(map(stringprep.in_table_d2, text))
    return False
