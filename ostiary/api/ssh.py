"""Certificates for SSH: a key of the caller's own, certified for as long as the token is good that asks for it."""

from __future__ import annotations

import ipaddress
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ostiary.api.deps import Desk, answer, refused_json, said_by
from ostiary.api.forms import FormRefused, json_of, read_json
from ostiary.identity.exchange import Wanted, exchange
from ostiary.identity.gateway import Minted
from ostiary.identity.ssh import UserKey, read_user_key, thumbprint, user_certificate
from ostiary.identity.tokens import Proved
from ostiary.model.errors import NotAdmitted
from ostiary.model.identity import VerifiedIdentity
from ostiary.store.database import StoreFailed

MAX_BODY: Final = 16 * 1024
MAX_SOURCES: Final = 16


class SshAuthority(msgspec.Struct, frozen=True):
    """What the API needs to certify keys, and to say how the listener is known."""

    key: Ed25519PrivateKey
    host: dict[str, str]
    """What clients are told: the listener's `address`, and the line that vouches for its host key."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for a certificate."""

    public_key: str
    connections: list[str]
    sources: list[str] = []


class SshCertificates:
    """The handlers."""

    def __init__(self, desk: Desk, authority: SshAuthority) -> None:
        self._desk = desk
        self._authority = authority

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("/v1/ssh", self.about, methods=["GET"]),
            Route("/v1/ssh/certificates", self.certify, methods=["POST"]),
        ]

    async def about(self, _: Request) -> Response:
        """How SSH clients know the gateway. Nothing in it is secret."""
        return answer(self._authority.host)

    async def certify(self, request: Request) -> Response:
        """Certify a key. The certificate carries a token that is exchanged from the one shown, bound to that key."""
        try:
            asked, key = await _read(request)
        except FormRefused as exc:
            return refused_json(str(exc), exc.status)
        except ValueError as exc:
            return refused_json(str(exc), 400)
        desk, deps = self._desk, self._desk.deps
        now = deps.clock()
        subject: Proved | None = None
        minted: Minted | None = None
        refused: NotAdmitted | None = None
        try:
            subject = await desk.bearer(request)
            wanted = Wanted(
                connections=frozenset(asked.connections), key=thumbprint(key),
                purpose=subject.identity.purpose, ticket=subject.identity.ticket,
            )  # fmt: skip
            minted = exchange(deps.signer, subject, None, wanted, known=deps.connections, now=now)
        except NotAdmitted as exc:
            refused = exc
        who = minted.identity if minted is not None else None if subject is None else subject.identity
        named = frozenset(asked.connections) & deps.connections
        if not await desk.recorded("token.ssh", said_by(request), who, refused, named, detail="a certificate for SSH"):
            return refused_json("the request cannot be recorded; nothing was issued", 503)
        if minted is None:
            return refused_json("the token was not accepted" if refused is None else str(refused), 403)
        try:
            await deps.saw(minted.identity)
        except StoreFailed:
            return refused_json("the login cannot be noted; nothing was issued", 503)
        certificate = user_certificate(
            self._authority.key, key, token=minted.token, principals=sorted(set(asked.connections)),
            key_id=_key_id(minted.identity), sources=asked.sources, until=minted.identity.expires, now=int(now),
        )  # fmt: skip
        return answer({"certificate": certificate, "expires": minted.identity.expires} | self._authority.host)


async def _read(request: Request) -> tuple[Asked, UserKey]:
    """Raises `ValueError` and `FormRefused`, whose sentences are fit for the caller."""
    asked = read_json(await json_of(request, MAX_BODY), Asked)
    if not asked.connections:
        raise ValueError("connections: name at least one")
    if len(asked.sources) > MAX_SOURCES:
        raise ValueError(f"sources: at most {MAX_SOURCES}")
    for source in asked.sources:
        ipaddress.ip_network(source)
    return asked, read_user_key(asked.public_key)


def _key_id(who: VerifiedIdentity) -> str:
    """For people who look at the certificate; the gateway goes by the token alone."""
    chain = "/".join([*(actor.name or actor.sub for actor in who.acting), who.subject])
    plain = "".join(c if c.isascii() and c.isprintable() and not c.isspace() else "_" for c in chain)
    return f"ostiary:{who.auth.token[:16]}:{plain}"
