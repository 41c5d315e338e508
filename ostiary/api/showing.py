"""How a request shows a token, and what else it proves: a key (DPoP, RFC 9449), or the certificate of its TLS connection (RFC 8705).

The certificate comes with the connection and is never read from a header: whoever could send one could be anybody.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from ostiary.api.patience import patient
from ostiary.identity.bound import certificate_key
from ostiary.identity.dpop import KeyProof
from ostiary.identity.tokens import Proved
from ostiary.identity.verifier import Verifier
from ostiary.listener.accept import asked_for_certificates, peer_certificate
from ostiary.model.errors import NotAdmitted, Reason

TLS: Final = "ostiary.certificate"
"""Where a scope holds what stands for the client's certificate."""


class CertifiedProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # which class it is, uvicorn says at run time
    """HTTP whose application hears of the client's certificate."""

    app: Any

    def connection_made(self, transport: asyncio.Transport) -> None:
        """TLS is up."""
        super().connection_made(transport)
        certificate = peer_certificate(transport)
        if certificate is not None:
            app: ASGIApp = self.app
            self.app = _certified(app, certificate_key(certificate))


def _certified(app: ASGIApp, key: str) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, TLS: key}, receive, send)

    return serve


def with_certificates(config: uvicorn.Config, authorities: str) -> None:
    """Have a server ask every client for a certificate of these authorities, and serve none without."""

    def context(_: uvicorn.Config, made: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        found = made()
        asked_for_certificates("api.client_ca", found, authorities)
        found.verify_mode = ssl.CERT_REQUIRED
        return found

    config.ssl_context_factory = context
    config.http = patient(CertifiedProtocol)


def certificate_of(request: Request) -> str | None:
    """What stands for the certificate of the client's connection; None: it showed none."""
    found = request.scope.get(TLS)
    return found if isinstance(found, str) else None


def proved_key(request: Request, verifier: Verifier, base_url: str, token: str | None, now: float) -> KeyProof | None:
    """The key that this request proves (RFC 9449, 4.3), to be spent; None: it brings no proof. Raises `NotAdmitted`."""
    proofs = request.headers.getlist("dpop")
    if not proofs:
        return None
    if len(proofs) > 1:
        raise NotAdmitted(Reason.BAD_TOKEN, "more than one proof")
    return verifier.proofs.read(proofs[0], request.method, base_url + request.url.path, token, now)


async def bearer(request: Request, verifier: Verifier, base_url: str, now: float) -> Proved:
    """Who makes this request: RFC 6750, 2.1; RFC 9449, 7.1; RFC 8705, 3. Raises `NotAdmitted`."""
    shown = request.headers.getlist("authorization")
    scheme, _, token = (shown[0] if len(shown) == 1 else "").partition(" ")
    token = token.strip(" ")
    if scheme.lower() not in ("bearer", "dpop") or not token:
        raise NotAdmitted(Reason.NO_TOKEN, "no bearer token")
    read = proved_key(request, verifier, base_url, token, now) if scheme.lower() == "dpop" else None
    if read is None and scheme.lower() == "dpop":
        raise NotAdmitted(Reason.BAD_TOKEN, "no proof of the key")
    key = None if read is None else read.key
    proved = await verifier.verify_token(token, now, key=key, certificate=certificate_of(request))
    if read is not None:
        verifier.proofs.spend(read, now)
    if proved.is_delegation:
        raise NotAdmitted(Reason.BAD_TOKEN, "a delegation says nothing about who shows it")
    return proved
