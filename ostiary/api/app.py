"""The HTTP API: the only door to the inside for tools and people. One module an area; each gives its routes.

Nothing here logs bodies, queries or headers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from ostiary.api.accounts import Accounts
from ostiary.api.delegations import Delegations
from ostiary.api.deps import Deps, Desk
from ostiary.api.devices import Devices
from ostiary.api.forms import FormRefused, oauth_error
from ostiary.api.jobs import Jobs
from ostiary.api.logins import Logins
from ostiary.api.patience import patient
from ostiary.api.scim import Scim
from ostiary.api.showing import with_certificates
from ostiary.api.ssh import SshAuthority, SshCertificates
from ostiary.api.tokens import MAX_AT_ONCE, Tokens
from ostiary.api.words import CLIENT_CREDENTIALS, CODE, DEVICE_CODE, GRANT, JWT_BEARER
from ostiary.identity.clients import ALGORITHMS

__all__ = ["Deps", "create_app", "server"]


def create_app(
    deps: Deps, more: Sequence[BaseRoute] = (), ssh: SshAuthority | None = None, devices: Devices | None = None
) -> Starlette:
    """The API as an ASGI application. `more`: the routes of other areas. `ssh`: where there is a listener for SSH."""
    desk = Desk(deps)
    logins = Logins(desk)
    if devices is not None:
        devices.open(desk, logins)
    general = _General(deps)
    areas = (Tokens(desk, logins), logins, Delegations(desk), Accounts(desk), Scim(desk), Jobs(desk), general)
    certificates = () if ssh is None else SshCertificates(desk, ssh).routes()
    app = Starlette(
        routes=[*(route for area in areas for route in area.routes()), *certificates, *more],
        exception_handlers={FormRefused: _form_refused},
    )
    app.router.redirect_slashes = False  # such a redirect leads to whatever host the request named
    return app


_WITH_CERTIFICATE: Final = {
    "token_endpoint": "token",
    "device_authorization_endpoint": "device_authorization",
    "revocation_endpoint": "revoke",
    "introspection_endpoint": "introspect",
}


class _General:
    """What is there for everybody: keys, metadata, health, metrics."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> list[Route]:
        return [
            Route("/.well-known/jwks.json", self.jwks, methods=["GET"]),
            Route("/.well-known/oauth-authorization-server", self.metadata, methods=["GET"]),
            Route("/.well-known/openid-configuration", self.metadata, methods=["GET"]),
            Route("/.well-known/actor-jwks.json", self.actor_jwks, methods=["GET"]),
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def jwks(self, _: Request) -> Response:
        """RFC 7517, 5: the keys that gateway tokens are signed with, the newest first."""
        return JSONResponse({"keys": self._deps.signer.public_keys()}, headers={"cache-control": "max-age=300"})

    async def actor_jwks(self, _: Request) -> Response:
        """RFC 7517, 5: the key that `X-Ostiary-Assertion` is signed with; it signs no token."""
        return JSONResponse({"keys": list(self._deps.actor_keys)}, headers={"cache-control": "max-age=300"})

    async def metadata(self, _: Request) -> Response:
        """RFC 8414, 2. The second address is where libpq looks (OpenID Connect Discovery, 4)."""
        base = self._deps.base_url
        algorithms = list(ALGORITHMS)
        found: dict[str, object] = {
            "issuer": base,
            "authorization_endpoint": f"{base}/oauth/authorize",
            "token_endpoint": f"{base}/oauth/token",
            "device_authorization_endpoint": f"{base}/oauth/device_authorization",
            "revocation_endpoint": f"{base}/oauth/revoke",
            "introspection_endpoint": f"{base}/oauth/introspect",
            "jwks_uri": f"{base}/.well-known/jwks.json",
            "response_types_supported": ["code"],
            "grant_types_supported": [CODE, CLIENT_CREDENTIALS, DEVICE_CODE, JWT_BEARER, GRANT],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "introspection_endpoint_auth_methods_supported": ["private_key_jwt"],
            "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
            "dpop_signing_alg_values_supported": algorithms,
            "authorization_details_types_supported": ["ostiary"],
            "authorization_response_iss_parameter_supported": True,
        }
        if (mtls := self._deps.mtls_url) is not None:
            # RFC 8705, 3.3 and 5.
            places = {name: f"{mtls}/oauth/{path}" for name, path in _WITH_CERTIFICATE.items()}
            found |= {"tls_client_certificate_bound_access_tokens": True, "mtls_endpoint_aliases": places}
        return JSONResponse(found, headers={"cache-control": "max-age=300"})

    async def healthz(self, _: Request) -> Response:
        """Whether this process answers."""
        return PlainTextResponse("ok\n")

    async def metrics(self, _: Request) -> Response:
        """Prometheus, text format. No label is a user's, a statement's or a token's."""
        return Response(generate_latest(self._deps.registry), media_type=CONTENT_TYPE_LATEST)


def server(
    app: Starlette, *, host: str, port: int, tls_cert: str | None, tls_key: str | None, client_ca: str | None = None
) -> uvicorn.Server:
    """A server for `app`; `await server.serve()` runs it. Port 0 takes a free one.

    `client_ca`: serve clients with a certificate of these authorities (PEM) alone.

    No access log: it would hold queries. No proxy headers: the address on record is the socket's.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        limit_concurrency=4 * MAX_AT_ONCE,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=64 * 1024,
        ws="none",
        http=patient(AutoHTTPProtocol),
    )
    if client_ca is not None:
        with_certificates(config, client_ca)
    return uvicorn.Server(config)


def _form_refused(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, FormRefused) else 400
    return oauth_error("invalid_request", str(error), status)
