"""SAML 2.0 as service provider: a signed assertion in, an identity out. Web Browser SSO, HTTP-Redirect out and HTTP-POST back.

Theory of operation
-------------------
The holes in SAML are two readings of one document: the signature is checked on one element, and the name is read from another. So there is
one reading here, and it is narrow:

1. The bytes are UTF-8 XML without DTD, comments, CDATA, processing instructions or character references (`_text`): what splits
   text, or is read differently by another parser, is refused before any parser sees it.
2. The document has one shape (`_assertion`): a Response with exactly one Assertion, its child; one Signature, the Assertion's child (and at
   most one of the Response's own, which proves nothing here and is left out); no identifier twice.
3. That Assertion *alone* is made a document of its own and its signature checked (`ostiary.identity.xmlsig`), which demands a configured
   certificate and RSA-SHA256 over the whole of it, and gives back what was signed. Nothing else of the document is looked at any more:
   what an attacker wraps around it, or beside it, is gone.
4. Everything is read from what came back (`_believe`): issuer, times, audience, recipient, request, replay, attributes.

An assertion must be signed itself; a signature over the Response alone is refused. There is no login that we did not ask for (no
IdP-initiated SSO), no encrypted assertion, no artifact, no logout. SHA-1 and HMAC are refused.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import re
import secrets
import zlib
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from xml.sax.saxutils import escape, quoteattr

from cryptography import x509

from ostiary.config import types as config
from ostiary.identity import xmlsig
from ostiary.identity.chain import display_name, group_of, text_of
from ostiary.identity.dpop import Once
from ostiary.identity.jose import bad_token
from ostiary.identity.oidc import Attempt, Provided
from ostiary.identity.tokens import MAX_EMAIL, MAX_GROUPS, Proved, prove
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.identity import Authentication, Kind
from ostiary.model.printable import is_visible

MAX_RESPONSE: Final = 256 * 1024
"""Bytes of a decoded response; with hundreds of groups they have 60 KiB."""
SKEW_SECONDS: Final = 60
MAX_LOGIN_SECONDS: Final = 12 * 3600
MAX_ATTRIBUTES: Final = 256
_P: Final = "{urn:oasis:names:tc:SAML:2.0:protocol}"
_A: Final = "{urn:oasis:names:tc:SAML:2.0:assertion}"
_SUCCESS: Final = "urn:oasis:names:tc:SAML:2.0:status:Success"
_BEARER: Final = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_DECLARATION: Final = re.compile(
    rb"""<\?xml version=["']1\.0["']( encoding=["'](?i:utf-8)["'])?( standalone=["'](yes|no)["'])? ?\?>"""
)
_REFERENCE: Final = re.compile(rb"&(?!amp;|lt;|gt;|quot;|apos;|#13;|#xD;)")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII)


class SamlLogin:
    """Logins at one SAML identity provider."""

    def __init__(self, section: config.Saml, base_url: str, key: str = "saml") -> None:
        try:
            import lxml  # noqa: F401, PLC0415 - an extra
        except ImportError:
            raise ConfigError(key, "needs an extra: pip install 'ostiary[saml]'") from None
        self.issuer = section.issuer
        self._section = section
        self._acs = f"{base_url}/saml/acs"
        self._audience = section.audience or f"{base_url}/saml/metadata"
        self._certificates = _certificates(section.cert_file, f"{key}.cert_file")
        self._once = Once()

    async def begin(self, redirect_uri: str) -> tuple[str, Attempt]:
        """Where to send the browser: SAML Bindings, 3.4.4.1. `redirect_uri` is not used: the answer comes to our own address."""
        del redirect_uri
        attempt = Attempt(
            state=secrets.token_urlsafe(32), nonce=f"_{secrets.token_hex(20)}", verifier="", redirect_uri=self._acs
        )
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        request = (
            f'<samlp:AuthnRequest xmlns:samlp="{_P[1:-1]}" xmlns:saml="{_A[1:-1]}" ID={quoteattr(attempt.nonce)} Version="2.0"'
            f' IssueInstant="{now}" Destination={quoteattr(self._section.sso_url)}'
            ' ProtocolBinding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"'
            f" AssertionConsumerServiceURL={quoteattr(self._acs)}><saml:Issuer>{escape(self._audience)}</saml:Issuer>"
            "</samlp:AuthnRequest>"
        )
        deflated = zlib.compress(request.encode(), wbits=-15)
        query = urlencode({"SAMLRequest": base64.b64encode(deflated).decode(), "RelayState": attempt.state})
        return f"{self._section.sso_url}{'&' if urlsplit(self._section.sso_url).query else '?'}{query}", attempt

    def metadata(self) -> str:
        """What the identity provider is told of us: SAML Metadata, 2.4.4."""
        return (
            f'<?xml version="1.0"?><md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"'
            f' entityID={quoteattr(self._audience)}><md:SPSSODescriptor WantAssertionsSigned="true"'
            f' protocolSupportEnumeration="{_P[1:-1]}"><md:AssertionConsumerService index="0" isDefault="true"'
            ' Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"'
            f" Location={quoteattr(self._acs)}/></md:SPSSODescriptor></md:EntityDescriptor>"
        )

    async def finish(self, attempt: Attempt, code: str, iss: str | None, now: float) -> Provided:
        """Verify the response in `code` (SAMLResponse, as posted). Raises `NotAdmitted`."""
        del iss
        assertion = self._signed(_assertion(_text(code), attempt.nonce, self._acs))
        return Provided(self._believe(assertion, attempt.nonce, now), None)

    def _signed(self, alone: bytes) -> Any:
        """The Assertion in `alone` as its signature covers it; nothing but what was signed."""
        try:
            element = xmlsig.signed(alone, self._certificates)
        except xmlsig.NotSigned as error:
            bad_token(f"the assertion's signature does not hold: {error}")
        except Exception as error:  # noqa: BLE001 - whatever a library makes of hostile XML is a no
            bad_token(f"the assertion's signature cannot be read ({type(error).__name__})")
        if element.tag != f"{_A}Assertion":
            bad_token("something else than the assertion was signed")
        return element

    def _believe(self, assertion: Any, request: str, now: float) -> Proved:
        """SAML Profiles, 4.1.4.3, on an element that was signed."""
        if assertion.get("Version") != "2.0" or _only_text(_one(assertion, f"{_A}Issuer")) != self.issuer:
            raise NotAdmitted(Reason.UNKNOWN_ISSUER, "the assertion is of another issuer or version")
        if _time(assertion, "IssueInstant") > now + SKEW_SECONDS:
            bad_token("the assertion was issued in the future")
        subject = _one(assertion, f"{_A}Subject")
        confirmed = self._confirmed(subject, request, now)
        ends = min(confirmed, self._check_conditions(_one(assertion, f"{_A}Conditions"), now))
        name = text_of(_only_text(_one(subject, f"{_A}NameID")), "NameID")
        statements = assertion.findall(f"{_A}AuthnStatement")
        if not statements:
            bad_token("the assertion does not say that anybody logged in")
        at = min(_time(each, "AuthnInstant") for each in statements)
        if at > now + SKEW_SECONDS:
            bad_token("the login is in the future")
        sessions = [_time(each, "SessionNotOnOrAfter") for each in statements if "SessionNotOnOrAfter" in each.attrib]
        expires = min([now + MAX_LOGIN_SECONDS, *sessions])
        if expires <= now:
            raise NotAdmitted(Reason.EXPIRED_TOKEN, "the session at the issuer is over")
        identifier = text_of(assertion.get("ID"), "ID")
        if not self._once.use(f"{self.issuer} {identifier}", ends + SKEW_SECONDS, now):
            bad_token("the assertion was used before")
        return self._proved(assertion, name, identifier, int(expires), int(min(at, now)))

    def _proved(self, assertion: Any, name: str, identifier: str, expires: int, at: int) -> Proved:
        section, attributes = self._section, _attributes(assertion)

        def first(wanted: str) -> str | None:
            values = attributes.get(wanted, [])
            if len(values) > 1:
                bad_token(f"the attribute {wanted} has several values")
            return values[0] if values else None

        subject = (
            name if section.subject_attribute is None else text_of(first(section.subject_attribute), "the subject")
        )
        email = first(section.email_attribute)
        if email is not None and (len(email) > MAX_EMAIL or "@" not in email or not is_visible(email)):
            bad_token("the mail attribute is no address")
        groups = attributes.get(section.groups_attribute, [])
        if len(groups) > MAX_GROUPS:
            bad_token(f"more than {MAX_GROUPS} groups")
        token = hashlib.sha256(f"saml {self.issuer} {identifier}".encode()).hexdigest()
        identity = prove(
            issuer=self.issuer,
            subject=subject,
            kind=Kind.HUMAN,
            name=display_name(first(section.name_attribute), subject),
            email=email,
            groups=frozenset(group_of(group) for group in groups),
            acting=(),
            initiator=None,
            task=None,
            mandate=None,
            auth=Authentication(method="saml", token=token, key=None, at=at),
            expires=expires,
            audience=frozenset(),
        )
        return Proved(identity=identity, may_act=None, own=False)

    def _confirmed(self, subject: Any, request: str, now: float) -> float:
        """SAML Profiles, 4.1.4.2: a bearer confirmation that is for us, now, and for this request. When it ends."""
        for confirmation in subject.findall(f"{_A}SubjectConfirmation"):
            if confirmation.get("Method") != _BEARER:
                continue
            data = _one(confirmation, f"{_A}SubjectConfirmationData")
            if data.get("Recipient") != self._acs:
                raise NotAdmitted(Reason.WRONG_AUDIENCE, "the assertion's Recipient is somebody else")
            if data.get("InResponseTo") != request:
                bad_token("the assertion answers another request (InResponseTo)")
            if "NotBefore" in data.attrib:
                bad_token("the confirmation has a NotBefore, which a bearer's must not")
            ends = _time(data, "NotOnOrAfter")
            if now >= ends + SKEW_SECONDS:
                raise NotAdmitted(Reason.EXPIRED_TOKEN, "the confirmation has expired")
            return ends
        raise NotAdmitted(Reason.BAD_TOKEN, "the assertion has no bearer confirmation")

    def _check_conditions(self, conditions: Any, now: float) -> float:
        """SAML Core, 2.5.1: every condition must be understood and hold. When they end."""
        begins, ends = _time(conditions, "NotBefore"), _time(conditions, "NotOnOrAfter")
        if begins > now + SKEW_SECONDS:
            bad_token("the assertion is not valid yet")
        if now >= ends + SKEW_SECONDS:
            raise NotAdmitted(Reason.EXPIRED_TOKEN, "the assertion has expired")
        restrictions = 0
        for condition in conditions:
            match condition.tag.removeprefix(_A):
                case "AudienceRestriction":
                    restrictions += 1
                    if self._audience not in [_only_text(each) for each in condition.findall(f"{_A}Audience")]:
                        raise NotAdmitted(Reason.WRONG_AUDIENCE, "the assertion's audience is somebody else")
                case "OneTimeUse" | "ProxyRestriction":
                    pass  # each is used once here, and none is passed on
                case _:
                    bad_token("the assertion has a condition that is not understood")
        if not restrictions:
            raise NotAdmitted(Reason.WRONG_AUDIENCE, "the assertion is restricted to no audience")
        return ends


def _text(posted: str) -> bytes:
    """The response's bytes, if they are XML that every parser reads alike."""
    if len(posted) > 2 * MAX_RESPONSE:
        bad_token("the response is too large")
    try:
        raw = base64.b64decode("".join(posted.split()).encode("ascii"), validate=True)
        raw.decode("utf-8")
    except (binascii.Error, ValueError):
        bad_token("the response is not base64 of UTF-8")
    if len(raw) > MAX_RESPONSE:
        bad_token("the response is too large")
    declaration = _DECLARATION.match(raw)
    body = raw[declaration.end() :] if declaration else raw
    if b"<!" in body or b"<?" in body:
        bad_token("the response holds a DTD, a comment, CDATA or a processing instruction")
    if _REFERENCE.search(body):
        bad_token("the response holds an entity or a character reference")
    if b"\0" in body:
        bad_token("the response holds a NUL")
    return body.strip()


def _assertion(body: bytes, request: str, acs: str) -> bytes:
    """The one Assertion of the Response as a document of its own. What is checked here is not signed, and only refuses."""
    try:
        root = xmlsig.parsed(body)
    except xmlsig.NotSigned:
        bad_token("the response is not well-formed XML")
    if root.tag != f"{_P}Response" or root.get("Version") != "2.0":
        bad_token("not a SAML 2.0 response")
    if root.get("InResponseTo") != request:
        bad_token("the response answers another request (InResponseTo)")
    if root.get("Destination", acs) != acs:
        raise NotAdmitted(Reason.WRONG_AUDIENCE, "the response's Destination is somebody else")
    if [code.get("Value") for code in root.findall(f"{_P}Status/{_P}StatusCode")] != [_SUCCESS]:
        bad_token("the identity provider says that the login failed (Status)")
    assertion, signature = _check_shape(root)
    try:
        return xmlsig.alone(assertion, signature)
    except xmlsig.NotSigned as error:
        bad_token(f"the assertion's signature does not hold: {error}")


def _check_shape(root: Any) -> tuple[Any, Any]:
    """The one Assertion and the one Signature of it; no identifier stands twice, wherever in the document."""
    everything = list(root.iter())
    if len(everything) > 10_000 or not all(isinstance(element.tag, str) for element in everything):
        bad_token("the response is not a plain document")
    assertions = [e for e in everything if e.tag.rpartition("}")[2].lower() in ("assertion", "encryptedassertion")]
    if len(assertions) != 1 or assertions[0].tag != f"{_A}Assertion" or assertions[0].getparent() is not root:
        bad_token("the response holds not exactly one assertion in its place, unencrypted")
    signatures = [e for e in everything if e.tag.rpartition("}")[2].lower() == "signature"]
    of = [signature.getparent() for signature in signatures]
    if sum(parent is assertions[0] for parent in of) != 1 or any(p is not root and p is not assertions[0] for p in of):
        bad_token("the assertion is not signed itself, exactly once")
    if sum(parent is root for parent in of) > 1 or any(e.tag == f"{xmlsig.DS}Object" for e in everything):
        bad_token("the response has more than one signature, or one with something inside")
    (signature,) = [s for s, parent in zip(signatures, of, strict=True) if parent is assertions[0]]
    references = [e for e in signature.iter() if e.tag == f"{xmlsig.DS}Reference"]
    identifier = assertions[0].get("ID")
    if not identifier or [each.get("URI") for each in references] != [f"#{identifier}"]:
        bad_token("the signature is of something else than the assertion")
    seen: set[str] = set()
    for element in everything:
        for name, value in element.attrib.items():
            if name.rpartition("}")[2].lower() == "id":
                if value in seen:
                    bad_token("an identifier stands twice")
                seen.add(value)
    return assertions[0], signature


def _attributes(assertion: Any) -> dict[str, list[str]]:
    """Every attribute with its values. One that stands twice, in whatever case, is two opinions."""
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for attribute in _each(assertion, f"{_A}AttributeStatement", f"{_A}Attribute"):
        name = attribute.get("Name")
        if not name or name.lower() in seen or len(seen) >= MAX_ATTRIBUTES:
            bad_token("an attribute has no name, or stands twice")
        seen.add(name.lower())
        found[name] = [_only_text(value) for value in attribute.findall(f"{_A}AttributeValue")]
    return found


def _each(parent: Any, *names: str) -> Iterator[Any]:
    yield from parent.findall("/".join(names))


def _one(parent: Any, name: str) -> Any:
    found = parent.findall(name)
    if len(found) != 1:
        bad_token(f"the assertion has not exactly one {name.rpartition('}')[2]}")
    return found[0]


def _only_text(element: Any) -> str:
    """An element's text, where that is all it holds."""
    if len(element):
        bad_token("an element holds others where text should be")
    return str(element.text or "").strip()


def _time(element: Any, name: str) -> float:
    """SAML Core, 1.3.3: a time in UTC."""
    value = element.get(name, "")
    if _TIME.fullmatch(value) is None:
        bad_token(f"{name} is missing, or no time in UTC")
    try:
        return dt.datetime.fromisoformat(value).timestamp()
    except ValueError:
        bad_token(f"{name} is no time")


def _certificates(path: str, key: str) -> list[x509.Certificate]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path from the configuration
            found = x509.load_pem_x509_certificates(file.read(1 << 20))
    except (OSError, ValueError) as error:
        raise ConfigError(key, f"holds no certificate that can be read ({type(error).__name__})") from None
    if not found:
        raise ConfigError(key, "holds no certificate")
    for certificate in found:
        try:
            xmlsig.rsa_key(certificate)
        except xmlsig.NotSigned as error:
            raise ConfigError(key, f"holds {error}: assertions are signed with RSA-SHA256") from None
    return found
