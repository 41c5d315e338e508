"""Logging a person in: the authorization endpoint, its pages, and the device flow. RFC 6749, 4.1; 7636; 8252; 8628; 9207; 9396.

Theory of operation
-------------------
We have no users and no passwords: whoever comes here is sent on to their own issuer (`ostiary.identity.oidc`) and comes back proved. Then
they are always asked, on one page, whether *this* client may have what it asks for: a program on their machine that sends them here
unseen, or a stranger's device code, gets nothing from a login that is still warm at the issuer.

A client with a key is an agent or a workload: what it is given is a *delegation*, bounded by the `authorization_details` that the page
shows, and kept until it ends or is revoked. The command line, which has no key, gets the person's own token.

What is under way lives in memory, for ten minutes and `MAX_PENDING` at most; a restart of the control process asks people to begin
again. Each is tied to the browser that began it by a cookie, so nobody can finish a login in somebody else's browser; whoever comes
back first is the person, and the page that they were shown is the one that is answered. Codes are used
once, and spent by a wrong verifier, too.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ostiary.api import pages
from ostiary.api.delegations import Given, given
from ostiary.api.deps import Desk, answer, said_by
from ostiary.api.forms import Unreadable, form_of, oauth_error, read_details, single
from ostiary.api.words import COMMAND_LINE
from ostiary.identity.clients import is_loopback_redirect
from ostiary.identity.exchange import Wanted
from ostiary.identity.gateway import MayAct
from ostiary.identity.jose import encode_base64url
from ostiary.identity.oidc import Attempt, Login
from ostiary.identity.records import Refused
from ostiary.identity.saml import MAX_RESPONSE, SamlLogin
from ostiary.identity.tokens import Proved
from ostiary.model.errors import LogFailed, NotAdmitted, Reason
from ostiary.store.database import StoreFailed

PENDING_SECONDS: Final = 600
CODE_SECONDS: Final = 60
"""RFC 6749, 4.1.2 says ten minutes at most; a client asks at once."""
MAX_PENDING: Final = 1000
POLL_SECONDS: Final = 2
DELEGATION_SECONDS: Final = 3600
MAX_WRONG: Final = 10
"""Wrong device codes of one network in `PENDING_SECONDS`; a person mistypes a few."""
NOT_BEGUN: Final = "This login was not begun in this browser, is too old, or was used already. Begin again."
COOKIE: Final = "ostiary_login"
HOST_COOKIE: Final = "__Host-ostiary_login"
"""Over https: one that no other host of the same domain can have set (RFC 6265bis, 4.1.3.2)."""
_USER_CODE: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""RFC 8628, 6.1: no vowels, nothing that looks like something else; 20^8 of them."""
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(slots=True, kw_only=True)
class Pending:
    """One login that is under way."""

    client: str
    redirect_uri: str | None
    """None: the device flow."""
    state: str | None
    challenge: str
    details: list[dict[str, Any]] | None
    seconds: int
    until: float
    browser: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """What the cookie of the browser holds that began it."""
    login: Login | SamlLogin | None = None
    attempt: Attempt | None = None
    person: Proved | None = None
    """Who logged in."""
    subject: Proved | None = None
    """What the client gets a token of, once the person said yes: themselves, or a delegation of theirs."""
    consent: str = ""
    is_refused: bool = False
    user_code: str = ""
    polled: float = float("-inf")
    purpose: str = ""
    ticket: str = ""
    shown: str = ""
    """Who asks, where that is no client of its own."""
    connection: str | None = None
    """What it asks for then: the device code is good for nothing else, and at the token endpoint for nothing at all."""


class Logins:
    """The handlers, and what is under way."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._by_state: dict[str, Pending] = {}
        self._by_consent: dict[str, Pending] = {}
        self._by_code: dict[str, Pending] = {}
        self._by_device: dict[str, Pending] = {}
        self._by_user_code: dict[str, Pending] = {}
        self._redeemed: dict[str, tuple[str, int]] = {}
        """Codes that were traded in, with the token that came of each and when it ends."""
        self._wrong: dict[str, list[float]] = {}
        """When each address typed a code that there is not."""

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("/oauth/authorize", self.authorize, methods=["GET"]),
            Route("/oauth/callback", self.callback, methods=["GET"]),
            Route("/saml/acs", self.acs, methods=["POST"]),
            Route("/saml/metadata", self.saml_metadata, methods=["GET"]),
            Route("/oauth/resume", self.resume, methods=["GET"]),
            Route("/oauth/consent", self.consent, methods=["POST"]),
            Route("/oauth/device_authorization", self.device_authorization, methods=["POST"]),
            Route("/device", self.device_page, methods=["GET"]),
            Route("/device", self.device, methods=["POST"]),
        ]

    def _clock(self) -> float:
        return self._desk.deps.clock()

    # --- what the token endpoint asks ---

    def redeem(self, code: str, client: str, redirect_uri: str | None, verifier: str) -> Pending | None:
        """What `code` stands for, once; None: it is not good, not any more, or not this client's."""
        pending = self._by_code.get(_mark(code))
        if pending is None or pending.until <= self._clock():
            return None
        right = pending.client == client and pending.redirect_uri == redirect_uri and _fits(verifier, pending.challenge)
        # Whatever comes of it, the code is spent: whoever guesses at its verifier has one guess.
        del self._by_code[_mark(code)]
        return pending if right else None

    def gave(self, code: str, token: str, until: int) -> None:
        """Remember what came of a code, for whoever shows it again."""
        if len(self._redeemed) >= MAX_PENDING:
            now = self._clock()
            self._redeemed = {key: held for key, held in self._redeemed.items() if held[1] > now}
        if len(self._redeemed) >= MAX_PENDING:
            del self._redeemed[next(iter(self._redeemed))]
        self._redeemed[_mark(code)] = (token, until)

    def shown_again(self, code: str) -> tuple[str, int] | None:
        """The token that came of a code which was traded in already: somebody else has the code, so it ends (RFC 6749, 4.1.2)."""
        return self._redeemed.pop(_mark(code), None)

    def poll(self, device_code: str, client: str, connection: str | None = None) -> Pending | str:
        """RFC 8628, 3.5: what the device code stands for, once it was granted; else the error to say. `connection`: see `Pending`."""
        pending = self._by_device.get(_mark(device_code))
        now = self._clock()
        if pending is None or pending.client != client or pending.connection != connection:
            return "invalid_grant"
        if pending.until <= now:
            return "expired_token"
        too_soon, pending.polled = now - pending.polled < POLL_SECONDS - 0.5, now
        if pending.is_refused or pending.subject is not None:
            del self._by_device[_mark(device_code)]
            return "access_denied" if pending.is_refused else pending
        return "slow_down" if too_soon else "authorization_pending"

    # --- the browser's way ---

    async def authorize(self, request: Request) -> Response:
        """RFC 6749, 4.1.1. A client or address that is not known is told to the person, and nobody is sent there."""
        query = request.query_params
        client, redirect_uri = query.get("client_id", ""), query.get("redirect_uri", "")
        if len(query) != len(query.multi_items()):
            return pages.problem("A parameter stands twice in this address.")
        if not self._is_registered(client, redirect_uri):
            return pages.problem(
                "The program that sent you here is not known, or asks to be answered at another address."
            )
        pending = Pending(
            client=client,
            redirect_uri=redirect_uri,
            state=query.get("state"),
            challenge=query.get("code_challenge", ""),
            details=None,
            seconds=DELEGATION_SECONDS,
            until=self._clock() + PENDING_SECONDS,
            purpose=query.get("purpose", "")[:512],
            ticket=query.get("ticket", "")[:512],
        )
        if query.get("response_type") != "code":
            return self._back(pending, error="unsupported_response_type")
        if query.get("code_challenge_method") != "S256" or _CHALLENGE.fullmatch(pending.challenge) is None:
            return self._back(pending, error="invalid_request", error_description="PKCE with S256 is required")
        if query.get("scope") not in (None, ""):
            return self._back(pending, error="invalid_scope")
        if (problem := self._read_details(pending, query.get("authorization_details"), query.get("expires_in"))) != "":
            return self._back(pending, error="invalid_authorization_details", error_description=problem)
        return await self._to_issuer(request, pending, query.get("issuer"))

    def _is_registered(self, client: str, redirect_uri: str) -> bool:
        if client == COMMAND_LINE:
            return is_loopback_redirect(redirect_uri)
        configured = self._desk.deps.clients.find(client)
        return configured is not None and redirect_uri in configured.redirects

    def _read_details(self, pending: Pending, details: str | None, seconds: str | None) -> str:
        """Take what is asked for; a sentence where it cannot be."""
        try:
            pending.details = read_details(details)
        except Unreadable as error:
            return str(error)
        if seconds is not None:
            if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 9):
                return "expires_in is not a number of seconds"
            pending.seconds = int(seconds)
        if pending.client != COMMAND_LINE and pending.details is None:
            return "an agent says in authorization_details what it needs"
        return ""

    async def _to_issuer(self, request: Request, pending: Pending, issuer: str | None) -> Response:
        """Send the browser on to the person's issuer."""
        logins = self._desk.deps.logins
        chosen = [login for login in logins if issuer in (None, login.issuer)]
        if not chosen:
            return pages.problem(
                "Nobody can log in with a browser here: no issuer has login_client_id in the configuration."
            )
        if not self._has_room():
            return pages.problem("Too many logins are under way. Try again in a few minutes.", 503)
        if len(chosen) > 1:
            again = dict.fromkeys(login.issuer for login in chosen)
            return pages.choose(list(again), self._again(pending))
        pending.login = chosen[0]
        try:
            url, pending.attempt = await pending.login.begin(f"{self._desk.deps.base_url}/oauth/callback")
        except NotAdmitted as error:
            await self._desk.recorded("login", said_by(request), None, error)
            return pages.problem("Your organisation's login page cannot be reached now. Try again.", 503)
        self._by_state[pending.attempt.state] = pending
        response = RedirectResponse(url, 303, headers=pages.HEADERS)
        secure = self._desk.deps.base_url.startswith("https:")
        response.set_cookie(
            cookie_name(self._desk.deps.base_url), pending.browser, max_age=PENDING_SECONDS, httponly=True, samesite="lax", secure=secure, path="/"
        )
        return response

    def _again(self, pending: Pending) -> Callable[[str], str]:
        """The address of this very request with an issuer chosen; a device's login is begun from its own form."""

        def address(issuer: str) -> str:
            if pending.redirect_uri is None:
                return f"/device?{urlencode({'user_code': pending.user_code, 'issuer': issuer})}"
            asked = {
                "response_type": "code",
                "client_id": pending.client,
                "redirect_uri": pending.redirect_uri,
                "code_challenge": pending.challenge,
                "code_challenge_method": "S256",
                "issuer": issuer,
                "expires_in": str(pending.seconds),
            }
            if pending.state is not None:
                asked["state"] = pending.state
            if pending.details is not None:
                asked["authorization_details"] = pages.compact(pending.details)
            return f"/oauth/authorize?{urlencode(asked)}"

        return address

    async def callback(self, request: Request) -> Response:
        """The person is back from their OpenID provider."""
        query = request.query_params
        pending = self._by_state.pop(query.get("state", ""), None)
        if pending is None or not self._is_open(pending) or not self._is_its_browser(request, pending):
            return pages.problem(NOT_BEGUN)
        if not isinstance(pending.login, Login) or "code" not in query:
            return pages.problem("Your organisation's login page did not let you in.", 403)
        problem = await self._finish(request, pending, query["code"], query.get("iss"))
        return self._consent_page(pending) if problem is None else problem

    async def acs(self, request: Request) -> Response:
        """A SAML response (SAML Bindings, 3.5.4). Another site posts it, so no cookie comes with it: the next request brings it."""
        form = await form_of(request, 4 * MAX_RESPONSE)
        pending = self._by_state.pop(single(form, "RelayState") or "", None)
        response = single(form, "SAMLResponse")
        if pending is None or not self._is_open(pending) or isinstance(pending.login, Login) or response is None:
            return pages.problem(NOT_BEGUN)
        problem = await self._finish(request, pending, response, None)
        if problem is not None:
            return problem
        ticket = secrets.token_urlsafe(24)
        self._by_state[ticket] = pending
        return RedirectResponse(f"/oauth/resume?{urlencode({'ticket': ticket})}", 303, headers=pages.HEADERS)

    async def resume(self, request: Request) -> Response:
        """Go on after a SAML login, in the browser that began it."""
        pending = self._by_state.pop(request.query_params.get("ticket", ""), None)
        if pending is None or pending.person is None or not self._is_its_browser(request, pending):
            return pages.problem(NOT_BEGUN)
        return self._consent_page(pending)

    async def saml_metadata(self, _: Request) -> Response:
        """What SAML identity providers are told of us."""
        for login in self._desk.deps.logins:
            if not isinstance(login, Login):
                return Response(login.metadata(), media_type="application/samlmetadata+xml")
        return pages.problem("No SAML identity provider is configured.", 404)

    def _is_its_browser(self, request: Request, pending: Pending) -> bool:
        """Whether this is the browser that began the login."""
        shown = request.cookies.get(cookie_name(self._desk.deps.base_url), "")
        return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), pending.browser.encode())

    def _is_open(self, pending: Pending) -> bool:
        """Whether a person may still come back to it: whoever came back first has it."""
        return pending.until > self._clock() and pending.person is None

    async def _finish(self, request: Request, pending: Pending, code: str, iss: str | None) -> Response | None:
        """Prove who came back; None: `pending.person` is set, and that is on record. Else the page to show."""
        if pending.login is None or pending.attempt is None:
            return pages.problem(NOT_BEGUN)
        refused: NotAdmitted | None = None
        person: Proved | None = None
        try:
            provided = await pending.login.finish(pending.attempt, code, iss, self._clock())
            await self._desk.deps.returned(provided)
            self._desk.deps.verifier.check(provided.proved.identity)
            person = provided.proved
        except NotAdmitted as error:
            refused = error
        except (StoreFailed, LogFailed):
            return pages.problem("The login cannot be kept, so it did not happen. Try again.", 503)
        if pending.person is not None and refused is None:
            refused = NotAdmitted(Reason.NOT_PERMITTED, "somebody else came back to this login first")
        if refused is None:
            pending.person = person
        who = None if person is None else person.identity
        if not await self._desk.recorded("login", said_by(request), who, refused, detail=f"for {pending.client}"):
            if refused is None:
                pending.person = None
            return pages.problem("The login cannot be recorded, so it did not happen. Try again.", 503)
        if refused is not None:
            unreachable = refused.reason is Reason.ISSUER_UNREACHABLE
            return pages.problem(
                "Your issuer cannot be reached." if unreachable else "The login was not accepted.", 403
            )
        return None

    def _consent_page(self, pending: Pending) -> Response:
        if pending.person is None:
            return pages.problem(NOT_BEGUN)
        pending.consent = secrets.token_urlsafe(24)
        self._by_consent[pending.consent] = pending
        return pages.consent(
            pending.consent, pending.person.identity, pending.shown or self._client_name(pending.client), pending.details,
            pending.seconds, _origin(pending.redirect_uri), is_device=pending.redirect_uri is None,
        )  # fmt: skip

    def _client_name(self, client: str) -> str:
        configured = self._desk.deps.clients.find(client)
        return "the Ostiary command line" if configured is None else f"{configured.name} ({configured.id})"

    async def consent(self, request: Request) -> Response:
        """The person said yes or no."""
        form = await form_of(request)
        asked = single(form, "consent") or ""
        pending = self._by_consent.pop(asked, None)
        if (
            pending is None
            or pending.person is None
            or pending.consent != asked  # the page that was shown last is the one that is answered
            or pending.until <= self._clock()
            or not self._is_its_browser(request, pending)
        ):
            return pages.problem("This page is too old, or was answered already. Begin again.")
        if single(form, "answer") != "yes":
            pending.is_refused = True
            await self._desk.recorded(
                "consent", said_by(request), pending.person.identity,
                NotAdmitted(Reason.NOT_PERMITTED, f"the person said no to {pending.client}"),
            )  # fmt: skip
            return self._back(pending, error="access_denied")
        if (problem := await self._granted(request, pending)) != "":
            return pages.problem(problem, 403)
        if pending.redirect_uri is None:
            return pages.done()
        code = secrets.token_urlsafe(32)
        pending.until = self._clock() + CODE_SECONDS
        self._by_code[_mark(code)] = pending
        return self._back(pending, code=code)

    async def _granted(self, request: Request, pending: Pending) -> str:
        """Give the client what it asked for; a sentence where that cannot be."""
        person = pending.person
        configured = self._desk.deps.clients.find(pending.client)
        if person is None:
            return "Nobody is logged in."
        if configured is None:
            if not await self._desk.recorded(
                "consent", said_by(request), person.identity, None, detail=pending.client
            ):
                return "Your consent cannot be recorded, so it did not happen. Try again."
            pending.subject = person  # only now: a device may ask at any moment
            return ""
        wanted = Wanted(details=pending.details, purpose=pending.purpose, ticket=pending.ticket)
        to = MayAct(iss=self._desk.deps.base_url, sub=configured.id)
        try:
            made: Given = await given(self._desk, person, to, wanted, pending.seconds, said_by(request))
        except NotAdmitted as error:
            return f"This cannot be granted: {error.detail}."
        except (Refused, StoreFailed, LogFailed) as error:
            return f"This cannot be granted: {error}."
        pending.subject = made.proved
        return ""

    def _back(self, pending: Pending, **answers: str) -> Response:
        """Send the browser back to the client, or tell the person where there is no address (RFC 6749, 4.1.2; 9207)."""
        if pending.redirect_uri is None:
            return pages.problem("Nothing was granted. You can close this page.")
        found = answers | {"iss": self._desk.deps.base_url}
        if pending.state is not None:
            found["state"] = pending.state
        glue = "&" if urlsplit(pending.redirect_uri).query else "?"
        return RedirectResponse(f"{pending.redirect_uri}{glue}{urlencode(found)}", 303, headers=pages.HEADERS)

    # --- the device flow ---

    async def device_authorization(self, request: Request) -> Response:
        """RFC 8628, 3.1 and 3.2."""
        form = await form_of(request)
        client = single(form, "client_id") or ""
        if client != COMMAND_LINE and self._desk.deps.clients.find(client) is None:
            return oauth_error("invalid_client", "no such client", 401)
        if not self._has_room():
            return oauth_error("temporarily_unavailable", "too many logins are under way; try again", 503)
        pending = Pending(
            client=client,
            redirect_uri=None,
            state=None,
            challenge="",
            details=None,
            seconds=DELEGATION_SECONDS,
            until=self._clock() + PENDING_SECONDS,
            purpose=single(form, "purpose") or "",
            ticket=single(form, "ticket") or "",
        )
        details, seconds = single(form, "authorization_details"), single(form, "expires_in")
        if (problem := self._read_details(pending, details, seconds)) != "":
            return oauth_error("invalid_authorization_details", problem)
        return answer(self._show_code(pending))

    def _show_code(self, pending: Pending) -> dict[str, Any]:
        """RFC 8628, 3.2: what the device is told, and shows."""
        device_code = secrets.token_urlsafe(32)
        letters = "".join(secrets.choice(_USER_CODE) for _ in range(8))
        pending.user_code = f"{letters[:4]}-{letters[4:]}"
        self._by_device[_mark(device_code)] = pending
        self._by_user_code[letters] = pending
        uri = f"{self._desk.deps.base_url}/device"
        return {
            "device_code": device_code,
            "user_code": pending.user_code,
            "verification_uri": uri,
            "verification_uri_complete": f"{uri}?user_code={pending.user_code}",
            "expires_in": PENDING_SECONDS,
            "interval": POLL_SECONDS,
        }

    def begin_device(self, shown: str, connection: str) -> dict[str, Any] | None:
        """Begin the flow for a listener that shows the code itself; `shown` tells the person who asks, for `connection`.

        None: not now, or not here.
        """
        if not self._desk.deps.logins or not self._has_room():
            return None
        return self._show_code(
            Pending(
                client=COMMAND_LINE, redirect_uri=None, state=None, challenge="", details=None, seconds=DELEGATION_SECONDS,
                until=self._clock() + PENDING_SECONDS, shown=shown, connection=connection,
            )
        )  # fmt: skip

    def drop_device(self, device_code: str) -> None:
        """Whoever showed that code has gone."""
        pending = self._by_device.pop(_mark(device_code), None)
        if pending is not None:
            self._by_user_code.pop(pending.user_code.replace("-", ""), None)

    async def device_page(self, request: Request) -> Response:
        """Ask for the code. It is shown, not acted on, when it stands in the address: somebody may have sent that."""
        return pages.device(request.query_params.get("user_code", ""), request.query_params.get("issuer", ""))

    async def device(self, request: Request) -> Response:
        """The person typed the code that their device shows."""
        form = await form_of(request)
        letters = "".join(c for c in (single(form, "user_code") or "").upper() if c in _USER_CODE)
        if self._guesses_too_much(request):
            return pages.problem("Too many wrong codes came from your network. Try again in some minutes.", 429)
        pending = self._by_user_code.get(letters)
        if pending is None:
            self._wrong.setdefault(_network(request), []).append(self._clock())
        if pending is None or pending.until <= self._clock() or pending.person is not None:
            return pages.problem("There is no such code, or it is too old. Look at your device again.")
        pending.browser = secrets.token_urlsafe(24)  # of whoever typed it last; a cookie that somebody else has is good no more
        return await self._to_issuer(request, pending, single(form, "issuer"))

    def _guesses_too_much(self, request: Request) -> bool:
        """RFC 8628, 5.1. Where so many networks guess that they cannot be told apart, nobody's code is taken."""
        since = self._clock() - PENDING_SECONDS
        if len(self._wrong) >= MAX_PENDING:
            self._wrong = {network: times for network, times in self._wrong.items() if times[-1] > since}
        network = _network(request)
        times = [at for at in self._wrong.pop(network, ()) if at > since]
        if times:
            self._wrong[network] = times
        return len(times) >= MAX_WRONG or (not times and len(self._wrong) >= MAX_PENDING)

    def _has_room(self) -> bool:
        """Forget what is over, and say whether one more fits."""
        now = self._clock()
        full = False
        for held in (self._by_state, self._by_consent, self._by_code, self._by_device, self._by_user_code):
            if len(held) >= MAX_PENDING:
                for key in [key for key, pending in held.items() if pending.until <= now]:
                    del held[key]
            full = full or len(held) >= MAX_PENDING
        return not full


def cookie_name(base_url: str) -> str:
    """The cookie that ties a login to a browser."""
    return HOST_COOKIE if base_url.startswith("https:") else COOKIE


def _network(request: Request) -> str:
    """What is likely one household or company: a /24, or a /64."""
    host = "" if request.client is None else request.client.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network(f"{address}/{24 if address.version == 4 else 64}", strict=False))


def _mark(secret: str) -> str:
    """Codes are kept by their hash, so looking one up takes no time that tells of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _fits(verifier: str, challenge: str) -> bool:
    """RFC 7636, 4.6."""
    made = encode_base64url(hashlib.sha256(verifier.encode("ascii", "replace")).digest())
    return 43 <= len(verifier) <= 128 and hmac.compare_digest(made, challenge)


def _origin(uri: str | None) -> str:
    if uri is None:
        return ""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"
