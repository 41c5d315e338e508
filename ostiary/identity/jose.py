"""A compact JWS, read strictly, and public keys pinned to one algorithm each.

Theory of operation
-------------------
A token is attacker's text until its signature holds, and most holes in token libraries are two readings of one text.
So there is one reading, and it is narrow (RFC 8725, 3):

* compact serialisation only (RFC 7515, 7.1): three base64url parts, unpadded, canonical to the last bit. JSON
  serialisation, JWE and detached payloads do not parse.
* header and claims are JSON objects in UTF-8 with no name twice (RFC 7519, 4 lets us refuse), no NaN, no number that is
  not exact in other readers.
* nothing in the header says where the key is. `jku`, `x5u`, `x5c` and `jwk` are refused rather than ignored: no honest
  issuer needs them here, so their presence is worth a record. `crit` names something that we do not implement: RFC
  7515, 4.1.11 says to refuse.
* the algorithm is a property of the key, never of the token: a key is pinned to one when its set is loaded, and the
  header must say the same word. `none` and the HMAC family are not in the table, so there is nothing to confuse.

The cryptography is joserfc's and below it OpenSSL's; only the reading is ours. What is *not* checked here: who the
issuer is, times, audience (`tokens`), and where keys come from (`jwks`).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ostiary.model.errors import NotAdmitted, Reason

MAX_TOKEN: Final = 16 * 1024
"""Characters of a token: twice what common servers take as a header line."""
MAX_HEADER: Final = 4 * 1024
"""Bytes of a decoded header: room for `x5t` and a long `kid`."""
MAX_KID: Final = 256
MAX_INTEGER_DIGITS: Final = 16
"""I-JSON (RFC 7493, 2.2): integers are exact below 2^53."""
MIN_RSA_BITS: Final = 2048
"""RFC 7518, 3.3."""
MAX_RSA_BITS: Final = 8192
"""A verification costs about 0.3 ms here; beyond it a key set is a way to burn our time."""

EC_CURVES: Final[Mapping[str, str]] = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
RSA_ALGORITHMS: Final[tuple[str, ...]] = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ED_ALGORITHMS: Final[tuple[str, ...]] = ("EdDSA", "Ed25519")
"""One algorithm under two names: RFC 8037, and RFC 9864 which narrows it to the curve."""
ALGORITHMS: Final = frozenset((*EC_CURVES.values(), *RSA_ALGORITHMS, *ED_ALGORITHMS))

_MATERIAL: Final[Mapping[str, tuple[str, ...]]] = {"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",)}
_USES: Final = ("sig", "jwt-svid")
"""RFC 7517, 4.2; and SPIFFE Trust Domain and Bundle, 4.2.2, whose other use, `x509-svid`, is none for tokens."""
_SECRETS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""RFC 7518, 6.2.2, 6.3.2 and 6.4.1: a prime alone gives an RSA key away."""
_SMALL_PRIMES: Final = math.prod(n for n in range(2, 1000) if all(n % d for d in range(2, n)))
_FIELD: Final = (1 << 255) - 19
_SMALL_ORDER: Final = frozenset({
    0, 1, _FIELD - 1, 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826, 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
})  # fmt: skip
"""The y of Ed25519's eight points of small order: under such a key a signature that fits one message in eight can be made without any secret."""
_FORBIDDEN_HEADERS: Final = ("jku", "x5u", "x5c", "jwk", "crit", "b64", "cty", "zip", "enc", "epk", "p2c", "p2s")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

PublicKey = RSAKey | ECKey | OKPKey


class UnusableKey(ValueError):
    """A JWK that no token will be verified with; the sentence says why."""


def bad_token(detail: str) -> NoReturn:
    """Refuse a token. `detail` is for the log and never quotes the token."""
    raise NotAdmitted(Reason.BAD_TOKEN, detail)


def quoted(value: object) -> str:
    """A short printable rendering of a hostile value, for details in the log."""
    return ascii(value if not isinstance(value, str) else value[:80])[:96]


@dataclass(frozen=True, slots=True)
class Jws:
    """A compact JWS as it was read. Nothing in it is proved until `PinnedKey.check` accepts it."""

    alg: str
    kid: str | None
    typ: str
    """Lower case, without `application/` (RFC 7515, 4.1.9); empty: absent."""
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """A public key with the one algorithm that it is for."""

    kid: str | None
    alg: str
    thumbprint: str
    """RFC 7638, SHA-256."""
    key: PublicKey

    def check(self, jws: Jws) -> None:
        """Raise `NotAdmitted` unless `jws` was signed by this key under its own algorithm."""
        if jws.alg != self.alg:
            bad_token("algorithm is not the one that the key is for")
        if not verify_signature(self.alg, jws.signing_input, jws.signature, self.key):
            bad_token("signature does not match")


def verify_signature(alg: str, message: bytes, signature: bytes, key: PublicKey) -> bool:
    """Whether `signature` is `key`'s over `message`; any error of the library is a no."""
    try:
        return JWSRegistry.algorithms[alg].verify(message, signature, key)
    except (JoseError, ValueError, TypeError, UnsupportedAlgorithm):
        return False


def decode_base64url(text: str) -> bytes:
    """RFC 7515, 2: base64url without padding, and only the canonical spelling. Raises `ValueError`."""
    if _BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        raise ValueError("not base64url")
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if encode_base64url(raw) != text:
        raise ValueError("not the canonical base64url")
    return raw


def encode_base64url(raw: bytes) -> str:
    """RFC 7515, 2: base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _exact_int(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise ValueError("integer out of range")
    return int(text)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("number out of range")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_no_name_twice, parse_int=_exact_int, parse_float=_finite_float, parse_constant=_no_constant
)


def strict_json(raw: bytes) -> Any:
    """One JSON value in UTF-8, no name twice, no number that another reader rounds, no half of a character. Raises `ValueError`."""
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # RFC 7493, 2.1: a lone surrogate is no text
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def strict_object(raw: bytes) -> dict[str, Any]:
    """The same of a JSON object. Raises `ValueError`."""
    value = strict_json(raw)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of error for whoever reads hostile text
    return value


def parse_compact(token: str) -> Jws:
    """Read a token; raise `NotAdmitted` (`BAD_TOKEN`) for anything but one strict compact JWS.

    Reads, and proves nothing: see `PinnedKey.check`.
    """
    return _parse(token)[0]


def parse_proof(token: str) -> tuple[Jws, PinnedKey]:
    """Read a DPoP proof (RFC 9449, 4.2), the one JWS that brings its own key, and check that it is signed with that.

    It proves that somebody holds the key, and nothing about who. Raises `NotAdmitted`.
    """
    jws, jwk = _parse(token, brings_key=True)
    try:
        key = pin(jwk, (jws.alg,))
    except UnusableKey as error:
        bad_token(f"the key of the proof cannot be used: {error}")
    key.check(jws)
    return jws, key


def _parse(token: str, *, brings_key: bool = False) -> tuple[Jws, object]:
    if len(token) > MAX_TOKEN:
        bad_token("longer than 16 KiB")
    parts = token.split(".", 5)
    if len(parts) == 5:
        bad_token("encrypted tokens are not accepted")
    if len(parts) != 3:
        bad_token("not a compact JWS")
    try:
        raw_header, raw_claims, signature = (decode_base64url(part) for part in parts)
    except (ValueError, binascii.Error):
        bad_token("not canonical base64url")
    if len(raw_header) > MAX_HEADER:
        bad_token("header longer than 4 KiB")
    try:
        header = strict_object(raw_header)
        claims = strict_object(raw_claims)
    except ValueError as error:
        bad_token(f"not strict JSON: {quoted(str(error))}")
    jwk = header.pop("jwk", None) if brings_key else None
    alg, kid, typ = _read_header(header)
    jws = Jws(
        alg=alg,
        kid=kid,
        typ=typ,
        claims=claims,
        signing_input=f"{parts[0]}.{parts[1]}".encode("ascii"),
        signature=signature,
    )
    return jws, jwk


def _read_header(header: dict[str, Any]) -> tuple[str, str | None, str]:
    for name in _FORBIDDEN_HEADERS:
        if name in header:
            bad_token(f"header parameter {name} is not accepted")
    alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        bad_token(f"algorithm {quoted(alg)} is not accepted")
    if "kid" in header and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        bad_token("kid is not a short string")
    if not isinstance(typ, str):
        bad_token("typ is not a string")
    return alg, kid, typ.lower().removeprefix("application/")


def sign_compact(header: Mapping[str, object], claims: Mapping[str, object], key: PublicKey) -> str:
    """A compact JWS of `claims` under `header`, whose `alg` says how; `key` holds the private part."""
    head = encode_base64url(json.dumps(header, separators=(",", ":")).encode())
    body = encode_base64url(json.dumps(claims, separators=(",", ":")).encode())
    message = f"{head}.{body}".encode("ascii")
    signature = JWSRegistry.algorithms[cast("str", header["alg"])].sign(message, key)
    return f"{head}.{body}.{encode_base64url(signature)}"


def pin(jwk: object, allowed: tuple[str, ...]) -> PinnedKey:
    """A JWK (RFC 7517) as a public key pinned to one of `allowed`; `UnusableKey` says why not.

    `alg` where the key states it, else what its type and curve imply; an RSA key that states none is taken only if
    exactly one RSA algorithm is allowed, for it must not be the token that chooses.
    """
    if not isinstance(jwk, dict):
        raise UnusableKey("not an object")
    kid, use, ops = jwk.get("kid"), jwk.get("use", "sig"), jwk.get("key_ops", ["verify"])
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise UnusableKey("kid is not a short string")
    if use not in _USES or not isinstance(ops, list) or "verify" not in ops:
        raise UnusableKey("not for signatures")
    if not _SECRETS.isdisjoint(jwk):
        raise UnusableKey("holds secret material")
    alg = _pinned_algorithm(jwk, allowed)
    key = _import_public(jwk)
    return PinnedKey(kid=kid, alg=alg, thumbprint=key.thumbprint(), key=key)


def _pinned_algorithm(jwk: dict[str, Any], allowed: tuple[str, ...]) -> str:
    fitting: list[str]
    match jwk.get("kty"), jwk.get("crv"):
        case "RSA", None:
            fitting = [alg for alg in RSA_ALGORITHMS if alg in allowed]
        case "EC", str(curve) if curve in EC_CURVES:
            fitting = [alg for alg in (EC_CURVES[curve],) if alg in allowed]
        case "OKP", "Ed25519":
            fitting = [alg for alg in ED_ALGORITHMS if alg in allowed]
        case _:
            raise UnusableKey("key type or curve is not accepted")
    stated = jwk.get("alg")
    if stated is not None:
        if stated not in fitting:
            raise UnusableKey("its alg is not allowed, or does not fit its type")
        return cast("str", stated)
    if len(fitting) != 1:
        raise UnusableKey("states no alg, and not exactly one fits")
    return fitting[0]


def _import_public(jwk: dict[str, Any]) -> PublicKey:
    try:
        material = {name: decode_base64url(jwk[name]) for name in _MATERIAL[jwk["kty"]]}
    except (KeyError, TypeError, ValueError):
        raise UnusableKey("its numbers are missing or not base64url") from None
    if jwk["kty"] == "RSA":
        _check_rsa(int.from_bytes(material["n"]), int.from_bytes(material["e"]))
    if jwk["kty"] == "OKP":
        _check_ed25519(int.from_bytes(material["x"], "little"))
    try:
        match jwk["kty"]:
            case "RSA":
                return RSAKey.import_key({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]})
            case "EC":
                point = ECKey.import_key({"kty": "EC", "crv": jwk["crv"], "x": jwk["x"], "y": jwk["y"]})
                point.get_op_key("verify")  # a point that is not on the curve shows here, not at the first login
                return point
            case _:
                return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": jwk["x"]})
    except (TypeError, ValueError, JoseError, UnsupportedAlgorithm) as error:
        raise UnusableKey(f"cannot be read ({type(error).__name__})") from None


def _check_rsa(modulus: int, exponent: int) -> None:
    """RFC 7518, 3.3 for the size. An exponent of 1 makes every signature true; an even one is no RSA at all."""
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise UnusableKey("RSA modulus is not 2048 to 8192 bits")
    if exponent < 3 or exponent % 2 == 0 or exponent.bit_length() > 32:
        raise UnusableKey("RSA exponent is not odd and 3 to 2^32")
    if math.gcd(modulus, _SMALL_PRIMES) != 1 or math.isqrt(modulus) ** 2 == modulus:
        raise UnusableKey("RSA modulus is not the product of two large primes")


def _check_ed25519(encoded: int) -> None:
    """RFC 8032, 5.1.3 and 8.9, without the sign's bit."""
    y = encoded & ((1 << 255) - 1)
    if y >= _FIELD or y in _SMALL_ORDER:
        raise UnusableKey("Ed25519 point of small order, or spelled beyond the field")
