"""An identity provider for SAML: builds responses and signs them with signxml, which shares no code with what verifies them."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml import CanonicalizationMethod, DigestAlgorithm, SignatureMethod, SignatureReference, XMLSigner

P = "urn:oasis:names:tc:SAML:2.0:protocol"
A = "urn:oasis:names:tc:SAML:2.0:assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
XS = "http://www.w3.org/2001/XMLSchema"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
NS = {"p": P, "a": A, "ds": DS}
ISSUER = "https://idp.example.com/saml"
BASE = "https://gw1.example"
ACS = f"{BASE}/saml/acs"
AUDIENCE = f"{BASE}/saml/metadata"


def stamp(seconds: float) -> str:
    return dt.datetime.fromtimestamp(time.time() + seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_certificate(name: str = "idp", key: Any = None) -> tuple[Any, x509.Certificate]:
    key = key or rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=1))
    return key, made.not_valid_after(now + dt.timedelta(days=30)).sign(key, hashes.SHA256())


class Signer(XMLSigner):
    """Says of enveloped signatures, too, which prefixes it took in: signxml takes them in and does not say so."""

    def _build_transforms_for_reference(self, *, transforms_node: Any, reference: Any, exclude_c14n_transform_element: bool = True) -> None:
        super()._build_transforms_for_reference(
            transforms_node=transforms_node, reference=reference, exclude_c14n_transform_element=exclude_c14n_transform_element
        )
        if reference.inclusive_ns_prefixes:
            etree.SubElement(transforms_node[-1], f"{{{EXCLUSIVE}}}InclusiveNamespaces", PrefixList=" ".join(reference.inclusive_ns_prefixes))


class LaxSigner(Signer):
    """Signs with whatever it is told to: an attacker's signer has no scruples."""

    def check_deprecated_methods(self) -> None:
        """SHA-1 is what some tests are about."""


class SamlIdp:
    """Signs whatever it is told to."""

    def __init__(self, folder: Path) -> None:
        self.key, self.certificate = KEY, CERTIFICATE
        self.file = folder / "idp.pem"
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def assertion(self, request: str, **over: Any) -> str:
        said = {
            "id": f"_{secrets.token_hex(12)}",
            "issuer": ISSUER,
            "name_id": "alice",
            "method": "urn:oasis:names:tc:SAML:2.0:cm:bearer",
            "recipient": f'Recipient="{ACS}"',
            "in_response_to": f'InResponseTo="{request}"',
            "confirmed_until": stamp(300),
            "not_before": stamp(-10),
            "not_after": stamp(300),
            "conditions": f"<saml:AudienceRestriction><saml:Audience>{AUDIENCE}</saml:Audience></saml:AudienceRestriction>",
            "authn": f'<saml:AuthnStatement AuthnInstant="{stamp(-5)}" SessionNotOnOrAfter="{stamp(3600)}"/>',
            "issued": stamp(-5),
            "attributes": attribute("displayName", "Alice") + attribute("mail", "alice@corp.example") + attribute("groups", "staff"),
            "version": "2.0",
            "data": "",
        } | over  # fmt: skip
        return (
            f'<saml:Assertion xmlns:saml="{A}" ID="{said["id"]}" Version="{said["version"]}" IssueInstant="{said["issued"]}">'
            f"<saml:Issuer>{said['issuer']}</saml:Issuer><saml:Subject><saml:NameID>{said['name_id']}</saml:NameID>"
            f'<saml:SubjectConfirmation Method="{said["method"]}"><saml:SubjectConfirmationData {said["recipient"]}'
            f' {said["in_response_to"]} NotOnOrAfter="{said["confirmed_until"]}" {said["data"]}/></saml:SubjectConfirmation>'
            f'</saml:Subject><saml:Conditions NotBefore="{said["not_before"]}" NotOnOrAfter="{said["not_after"]}">'
            f"{said['conditions']}</saml:Conditions>{said['authn']}"
            f"<saml:AttributeStatement>{said['attributes']}</saml:AttributeStatement></saml:Assertion>"
        )

    def response(self, request: str, inner: str, **over: Any) -> etree._Element:
        said = {
            "in_response_to": request,
            "destination": f'Destination="{ACS}"',
            "status": "urn:oasis:names:tc:SAML:2.0:status:Success",
            "version": "2.0",
        } | over
        text = (
            f'<samlp:Response xmlns:samlp="{P}" xmlns:saml="{A}" ID="_{secrets.token_hex(12)}" Version="{said["version"]}"'
            f' IssueInstant="{stamp(0)}" {said["destination"]} InResponseTo="{said["in_response_to"]}">'
            f"<saml:Issuer>{ISSUER}</saml:Issuer>"
            f'<samlp:Status><samlp:StatusCode Value="{said["status"]}"/></samlp:Status>{inner}</samlp:Response>'
        )
        return etree.fromstring(text)

    def sign(
        self, element: etree._Element, *, sha1: bool = False, key: Any = None, cert: Any = None, prefixes: str = "", signed_info: str = ""
    ) -> etree._Element:
        """`element`, which has an ID, with an enveloped signature behind its Issuer."""
        signer = (LaxSigner if sha1 else Signer)(
            signature_algorithm=SignatureMethod.RSA_SHA1 if sha1 else SignatureMethod.RSA_SHA256,
            digest_algorithm=DigestAlgorithm.SHA1 if sha1 else DigestAlgorithm.SHA256,
            c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
        )
        placeholder = etree.Element(f"{{{DS}}}Signature", {"Id": "placeholder"}, nsmap={"ds": DS})
        element.insert(1, placeholder)
        chain = [(cert or self.certificate).public_bytes(Encoding.PEM).decode()]
        covers = SignatureReference(URI=f"#{element.get('ID')}", inclusive_ns_prefixes=prefixes.split())
        return signer.sign(element, key=key or self.key, cert=chain, reference_uri=[covers], inclusive_ns_prefixes=signed_info.split())

    def okta(self, request: str, where: str, *, signed_info: str = "", **over: Any) -> etree._Element:
        """A good response whose assertion uses the prefix `xs` in values alone; it is declared at the element `where`."""
        tag = "Assertion" if where == "Response" else where
        text = self.assertion(request, **over).replace(f"<saml:{tag}", f'<saml:{tag} xmlns:xs="{XS}"', 1)
        document = self.response(request, "", destination=f'xmlns:xs="{XS}"' if where == "Response" else "")
        document.append(self.sign(etree.fromstring(text), prefixes="xs", signed_info=signed_info))
        return etree.fromstring(etree.tostring(document))

    def signed(self, request: str, *, response: dict[str, Any] | None = None, **over: Any) -> etree._Element:
        """A good response: its assertion is signed."""
        assertion = self.sign(etree.fromstring(self.assertion(request, **over)))
        document = self.response(request, "", **(response or {}))
        document.append(assertion)
        return etree.fromstring(etree.tostring(document))


def attribute(name: str, *values: str) -> str:
    inner = "".join(f"<saml:AttributeValue>{value}</saml:AttributeValue>" for value in values)
    return f'<saml:Attribute Name="{name}">{inner}</saml:Attribute>'


def posted(document: etree._Element | bytes | str) -> str:
    raw = (
        document
        if isinstance(document, bytes)
        else document.encode()
        if isinstance(document, str)
        else etree.tostring(document)
    )
    return base64.b64encode(raw).decode()


KEY, CERTIFICATE = new_certificate()
THIEF_KEY, THIEF_CERTIFICATE = new_certificate("thief")
