"""The signature of one XML document's root by a certificate that was configured: the one form that SAML's signatures have.

XML Signature, 1.1 lets a signature choose what it covers, how that is changed first, and with what. Here it chooses nothing: one Reference, to
the root by its ID (SAML Core, 5.4.2); the transforms enveloped-signature and exclusive canonicalisation without comments, in this order (5.4.4);
SHA-256 and RSASSA-PKCS1-v1_5; the certificate in KeyInfo, which is believed only if it is one of those configured, to the byte. Any other element
beside those is a refusal.

The one freedom that is left is the PrefixList of exclusive canonicalisation (Exclusive XML Canonicalization, 4): namespaces that are used inside
values alone, as in `xsi:type="xs:string"`. Okta and whatever is built on OpenSAML write it. It adds declarations to what is hashed, and takes nothing from it.

What comes back is parsed anew from the very bytes that were hashed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Collection
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

MIN_RSA_BITS: Final = 2048
MAX_PREFIXES: Final = 16
DS: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_EXCLUSIVE: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"
_ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_RSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
_SHA256: Final = "http://www.w3.org/2001/04/xmlenc#sha256"
_PREFIX: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}|#default", re.ASCII)


class NotSigned(Exception):
    """The signature does not hold, or is not of the form that is read here. The sentence is for the log."""


def parsed(raw: bytes) -> Any:
    """A document's root. Nothing is fetched, and nothing is replaced by what a DTD says. Raises `NotSigned`."""
    from lxml import etree  # noqa: PLC0415 - an extra

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False, recover=False
    )
    try:
        return etree.fromstring(raw, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise NotSigned("not well-formed XML") from None


def canonical(element: Any, prefixes: Collection[str] = ()) -> bytes:
    """Exclusive XML Canonicalization 1.0, without comments."""
    from lxml import etree  # noqa: PLC0415 - an extra

    return bytes(etree.tostring(element, method="c14n", exclusive=True, with_comments=False, inclusive_ns_prefixes=list(prefixes) or None))


def alone(element: Any, signature: Any) -> bytes:
    """`element`, which `signature` in it is said to cover, as a document of its own with all that its canonical form can need from around it."""
    methods = [each for name in ("CanonicalizationMethod", "Transform") for each in signature.iter(f"{DS}{name}")]
    return canonical(element, {prefix for each in methods for prefix in _prefixes(each)})


def signed(document: bytes, certificates: Collection[x509.Certificate]) -> Any:
    """The root of `document` as one of `certificates` signed it, without the signature. Raises `NotSigned`."""
    root = parsed(document)
    (signature,) = _children(root.iter(f"{DS}Signature"), "Signature")
    info, value, key = _parts(signature, "SignedInfo", "SignatureValue", "KeyInfo")
    method, algorithm, reference = _parts(info, "CanonicalizationMethod", "SignatureMethod", "Reference")
    transforms, digest, digest_value = _parts(reference, "Transforms", "DigestMethod", "DigestValue")
    enveloped, exclusive = _parts(transforms, "Transform", "Transform")
    found = [each.get("Algorithm") for each in (method, algorithm, enveloped, exclusive, digest)]
    if found != [_EXCLUSIVE, _RSA_SHA256, _ENVELOPED, _EXCLUSIVE, _SHA256] or len(algorithm) or len(enveloped) or len(digest):
        raise NotSigned("an algorithm that is not accepted")
    if signature.getparent() is not root or not root.get("ID") or reference.get("URI") != f"#{root.get('ID')}":
        raise NotSigned("something else than the document was signed")
    _check(_trusted(key, certificates), _binary(value), canonical(info, _prefixes(method)))
    _take_out(signature)
    covered = canonical(root, _prefixes(exclusive))
    if not hmac.compare_digest(hashlib.sha256(covered).digest(), _binary(digest_value)):
        raise NotSigned("the document is not what was signed (digest)")
    return parsed(covered)


def _check(key: RSAPublicKey, signature: bytes, message: bytes) -> None:
    try:
        key.verify(signature, message, PKCS1v15(), SHA256())
    except InvalidSignature:
        raise NotSigned("the signature is another's") from None


def _trusted(info: Any, certificates: Collection[x509.Certificate]) -> RSAPublicKey:
    """The key of the certificate in KeyInfo, which must be one that is configured. Whatever else stands there is not looked at."""
    (shown,) = _children(info.iter(f"{DS}X509Certificate"), "X509Certificate")
    raw = _binary(shown)

    certificate = next((each for each in certificates if each.public_bytes(Encoding.DER) == raw), None)
    if certificate is None:
        raise NotSigned("the certificate is none of those configured")
    return rsa_key(certificate)


def rsa_key(certificate: x509.Certificate) -> RSAPublicKey:
    """The key of a certificate. Raises `NotSigned` for any that is no strong RSA key."""
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_RSA_BITS:
        raise NotSigned(f"a certificate without an RSA key of {MIN_RSA_BITS} bits or more")
    return key


def _parts(element: Any, *names: str) -> list[Any]:
    """An element's children, which have to be these, in this order."""
    if [child.tag for child in element] != [DS + name for name in names]:
        raise NotSigned(f"{element.tag.rpartition('}')[2]} does not hold {', '.join(names)} alone")
    return list(element)


def _children(found: Any, what: str) -> list[Any]:
    some = list(found)
    if len(some) != 1:
        raise NotSigned(f"not exactly one {what}")
    return some


def _prefixes(method: Any) -> list[str]:
    """The PrefixList of a canonicalisation; none has any other child."""
    if len(method) == 0:
        return []
    if len(method) > 1 or method[0].tag != f"{{{_EXCLUSIVE}}}InclusiveNamespaces" or len(method[0]):
        raise NotSigned("a canonicalisation with something else than a list of prefixes")
    prefixes = str(method[0].get("PrefixList", "")).split()
    if len(prefixes) > MAX_PREFIXES or not all(_PREFIX.fullmatch(each) for each in prefixes):
        raise NotSigned("a list of prefixes that is none")
    return prefixes


def _binary(element: Any) -> bytes:
    if len(element):
        raise NotSigned("an element where base64 should be")
    try:
        return base64.b64decode("".join(str(element.text or "").split()), validate=True)
    except (binascii.Error, ValueError):
        raise NotSigned("not base64") from None


def _take_out(signature: Any) -> None:
    """The enveloped-signature transform: without it, and with the text behind it."""
    parent, before, tail = signature.getparent(), signature.getprevious(), signature.tail or ""
    if before is not None:
        before.tail = (before.tail or "") + tail
    else:
        parent.text = (parent.text or "") + tail
    parent.remove(signature)
