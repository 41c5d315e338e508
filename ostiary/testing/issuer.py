"""A small OpenID-like issuer on loopback, for the demo and for tests. Never for anything else: it asks for no password.

It serves discovery and keys over HTTP and mints whatever tokens it is asked for. Tests also use it to misbehave:
`down`, `rotate`, extra keys, documents of the test's own making.

Run as `python -m ostiary.testing.issuer` it stays up and hands out Ana's, her agent's and a pipeline's tokens at
`/token?user=ana|agent|ci`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc.jwk import ECKey, OKPKey, RSAKey

from ostiary.identity.jose import PublicKey, sign_compact

AUDIENCE: Final = "ostiary"
ANA: Final[Mapping[str, Any]] = {
    "sub": "ana",
    "name": "Ana Souza",
    "email": "ana@shop.example",
    "email_verified": True,
    "groups": ["support", "staff"],
}
AGENT: Final[Mapping[str, Any]] = {"sub": "agent:coder", "name": "Ana's coding agent"}
PIPELINE: Final[Mapping[str, Any]] = {
    "sub": "repo:shop/deploy:ref:refs/heads/main",
    "name": "shop/deploy",
    "run_id": "8123",
    "run_attempt": "1",
    "event_name": "push",
    "actor": "bob",
    "repository": "shop/deploy",
    "sha": "4f2c0000",
}


def new_key(alg: str) -> PublicKey:
    """A fresh private key for `alg`."""
    match alg:
        case "EdDSA" | "Ed25519":
            return OKPKey.generate_key("Ed25519")
        case "ES256" | "ES384" | "ES512":
            curve = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg]
            return ECKey.generate_key(cast("Any", curve))
        case _:
            return RSAKey.generate_key(2048)


class LocalIssuer:
    """An issuer at `http://127.0.0.1:<port>`; a context manager that serves from a thread of its own."""

    def __init__(self, algorithm: str = "EdDSA", *, port: int = 0, audience: str = AUDIENCE) -> None:
        self.algorithm = algorithm
        self.audience = audience
        self.keys: dict[str, tuple[str, PublicKey]] = {}
        self.kid = ""
        self.down = False
        """Answer everything with 503."""
        self.fetches = 0
        """How often the key set was asked for."""
        self.documents: dict[str, bytes] = {}
        """Path to body: what to serve instead of the truth."""
        self.redirects: dict[str, str] = {}
        """Path to Location."""
        self.person: Mapping[str, Any] = ANA
        """Who is logged in at it, whatever browser comes: it asks for no password."""
        self.disabled: set[str] = set()
        """Subjects whose refresh tokens are good no more."""
        self._codes: dict[str, dict[str, str]] = {}
        self.over: dict[str, Any] = {}
        """What its ID tokens say instead of the truth."""
        self.rotate()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def issuer(self) -> str:
        """What stands in `iss`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def jwks_url(self) -> str:
        """Where the keys are."""
        return f"{self.issuer}/jwks.json"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def rotate(self, *, keep_old: bool = True) -> str:
        """Sign with a new key from now on; its kid."""
        if not keep_old:
            self.keys.clear()
        key = new_key(self.algorithm)
        self.kid = key.thumbprint()[:16]
        self.keys[self.kid] = (self.algorithm, key)
        return self.kid

    def add_key(self, kid: str, algorithm: str) -> PublicKey:
        """Publish one more key."""
        key = new_key(algorithm)
        self.keys[kid] = (algorithm, key)
        return key

    def jwks(self) -> dict[str, Any]:
        """The public set (RFC 7517, 5)."""
        return {
            "keys": [
                {**key.as_dict(private=False), "kid": kid, "alg": alg, "use": "sig"}
                for kid, (alg, key) in self.keys.items()
            ]
        }

    def claims(self, who: Mapping[str, Any] = ANA, **over: Any) -> dict[str, Any]:
        """The claims of a good login of `who`, with `over` on top; None takes a claim away."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "iat": now,
            "auth_time": now,
            "exp": now + 3600,
            "jti": secrets.token_hex(12),
            **who,
            **over,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def mint(self, who: Mapping[str, Any] = ANA, *, header: Mapping[str, Any] | None = None, **over: Any) -> str:
        """A token for `who`; `header` and `over` replace what it would say."""
        alg, key = self.keys[self.kid]
        head = {"alg": alg, "typ": "JWT", "kid": self.kid, **(header or {})}
        return sign_compact({k: v for k, v in head.items() if v is not None}, self.claims(who, **over), key)

    def mint_agent(self, who: Mapping[str, Any] = ANA, *agents: Mapping[str, Any], **over: Any) -> str:
        """A token of `who` through `agents`, the one at the keyboard first (default: her coding agent)."""
        act: dict[str, Any] | None = None
        for agent in reversed(agents or (AGENT,)):
            act = {"sub": agent["sub"], "name": agent.get("name", agent["sub"]), **({"act": act} if act else {})}
        return self.mint(who, act=act, **over)

    def mint_pipeline(self, **over: Any) -> str:
        """A token of a pipeline's run, as CI systems issue them."""
        return self.mint(PIPELINE, **over)

    def authorize(self, query: Mapping[str, str]) -> str:
        """Log `person` in: the address that the browser is sent back to (OpenID Connect Core, 3.1.2)."""
        code = secrets.token_urlsafe(12)
        self._codes[code] = dict(query)
        return (
            f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query.get('state', ''), 'iss': self.issuer})}"
        )

    def grant(self, form: Mapping[str, str]) -> tuple[int, bytes]:
        """Its token endpoint: codes with PKCE, and refresh tokens."""
        refused = 400, b'{"error":"invalid_grant"}'
        if form.get("grant_type") == "refresh_token":
            subject = form.get("refresh_token", "").removeprefix("refresh-")
            return (
                refused
                if subject in self.disabled
                else (200, json.dumps({"refresh_token": form["refresh_token"]}).encode())
            )
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or asked["redirect_uri"] != form.get("redirect_uri"):
            return refused
        made = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=")
        if made.decode() != asked.get("code_challenge"):
            return refused
        claims = {"aud": asked["client_id"], "nonce": asked.get("nonce")} | self.over
        answer = {"id_token": self.mint(self.person, **claims), "refresh_token": f"refresh-{self.person['sub']}"}
        return 200, json.dumps(answer).encode()

    def respond(self, path: str) -> tuple[int, bytes, str | None]:
        """What the server answers: status, body, Location."""
        parts = urlsplit(path)
        if parts.path == "/jwks.json":
            self.fetches += 1
        if self.down:
            return 503, b"down", None
        if parts.path in self.redirects:
            return 302, b"", self.redirects[parts.path]
        if parts.path in self.documents:
            return 200, self.documents[parts.path], None
        match parts.path:
            case "/.well-known/openid-configuration":
                found = {
                    "issuer": self.issuer,
                    "jwks_uri": self.jwks_url,
                    "id_token_signing_alg_values_supported": [],
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/grant",
                }
                return 200, json.dumps(found).encode(), None
            case "/authorize":
                return 302, b"", self.authorize({name: values[0] for name, values in parse_qs(parts.query).items()})
            case "/jwks.json":
                return 200, json.dumps(self.jwks()).encode(), None
            case "/token":
                user = parse_qs(parts.query).get("user", ["ana"])[0]
                minted = {"ana": self.mint, "agent": self.mint_agent, "ci": self.mint_pipeline}.get(user)
                return (404, b"", None) if minted is None else (200, minted().encode(), None)
            case _:
                return 404, b"", None


def _handler(issuer: LocalIssuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*issuer.respond(self.path))

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
            form = {name: values[0] for name, values in parse_qs(raw).items()}
            self._answer(*(issuer.grant(form) if self.path == "/grant" else (501, b"<html>")), None)

        def _answer(self, status: int, body: bytes, location: str | None) -> None:
            self.send_response(status)
            if location is not None:
                self.send_header("location", location)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            """Keep quiet: paths hold tokens' users, and tests have no use for them."""

    return Handler


def main() -> None:
    """Serve until interrupted; print the issuer's URL first."""
    arguments = argparse.ArgumentParser(description="A local issuer for demonstrations.")
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--algorithm", default="EdDSA")
    chosen = arguments.parse_args()
    with LocalIssuer(chosen.algorithm, port=chosen.port) as issuer:
        sys.stdout.write(f"{issuer.issuer}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
