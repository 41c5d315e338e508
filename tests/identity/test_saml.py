"""Every published attack of the surface `saml`, and the rest of its class: what was not signed by the issuer, for us, now, is nobody."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import re
import time
import zlib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from ostiary.config import types as config
from ostiary.identity.saml import SamlLogin
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from tests.identity.saml_idp import (
    ACS,
    AUDIENCE,
    BASE,
    DS,
    ISSUER,
    NS,
    THIEF_CERTIFICATE,
    THIEF_KEY,
    XS,
    A,
    SamlIdp,
    attribute,
    new_certificate,
    posted,
    stamp,
)

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/attacks/attacks.jsonl"


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


LATER = 86_400
"""Seconds ahead: cases are made when tests are collected, long before they run."""


class Stage:
    """Profile `saml-base`: one trusted issuer, and a login that was begun."""

    def __init__(self, folder: Path) -> None:
        self.idp = SamlIdp(folder)
        section = config.Saml(issuer=ISSUER, sso_url="https://idp.example.com/sso", cert_file=str(self.idp.file))
        self.login = SamlLogin(section, BASE)
        self.begin()

    def begin(self) -> str:
        url, self.attempt = asyncio.run(self.login.begin("-"))
        self.request = self.attempt.nonce
        return url

    def finish(self, response: str):
        return asyncio.run(self.login.finish(self.attempt, response, None, time.time())).proved.identity

    def refuse(self, document) -> NotAdmitted:
        with pytest.raises(NotAdmitted) as caught:
            self.finish(document if isinstance(document, str) else posted(document))
        return caught.value


def evil(signed: etree._Element, name: str = "_evil") -> etree._Element:
    """A copy of the signed assertion that names somebody else, without its signature."""
    made = copy.deepcopy(signed)
    made.set("ID", name)
    made.find("a:Subject/a:NameID", NS).text = "admin"
    for signature in made.findall("ds:Signature", NS):
        made.remove(signature)
    return made


# --- it works ---


def test_a_login_is_admitted_with_what_the_assertion_says(stage):
    who = stage.finish(posted(stage.idp.signed(stage.request)))
    assert (who.issuer, who.subject, who.name, who.email) == (ISSUER, "alice", "Alice", "alice@corp.example")
    assert (who.groups, who.auth.method) == ({"staff"}, "saml")
    assert who.expires <= time.time() + 3600


def test_a_response_that_is_signed_too_is_admitted_by_its_assertion(stage):
    document = stage.idp.sign(stage.idp.signed(stage.request))
    assert stage.finish(posted(document)).subject == "alice"


def test_the_request_names_us_and_where_to_answer(stage):
    query = parse_qs(urlsplit(stage.begin()).query)
    assert query["RelayState"] == [stage.attempt.state]
    request = etree.fromstring(zlib.decompress(base64.b64decode(query["SAMLRequest"][0]), wbits=-15))
    assert request.get("ID") == stage.request
    assert request.get("AssertionConsumerServiceURL") == ACS
    assert request.find("a:Issuer", NS).text == AUDIENCE
    metadata = etree.fromstring(stage.login.metadata().encode())
    assert metadata.get("entityID") == AUDIENCE


def test_names_and_groups_come_from_the_attributes_configured(tmp_path):
    stage = Stage(tmp_path)
    section = config.Saml(
        issuer=ISSUER, sso_url="https://idp.example.com/sso", cert_file=str(stage.idp.file), subject_attribute="uid",
        groups_attribute="memberOf", name_attribute="cn",
    )  # fmt: skip
    stage.login = SamlLogin(section, BASE)
    said = attribute("uid", "a17") + attribute("memberOf", "x", "y &amp; z") + attribute("cn", "Al")
    who = stage.finish(posted(stage.idp.signed(stage.request, attributes=said)))
    assert (who.subject, who.groups, who.name) == ("a17", {"x", "y & z"}, "Al")
    assert stage.refuse(stage.idp.signed(stage.request)).reason is Reason.BAD_TOKEN


# --- signature wrapping: "On Breaking SAML" (Somorovsky 2012) ---


def wrapped(kind: int, document: etree._Element) -> etree._Element:
    """XSW1 to XSW8. `document` is signed as a response (1, 2) or has a signed assertion (3 to 8)."""
    root = copy.deepcopy(document)
    original = root.find("a:Assertion", NS)
    if kind in (1, 2):
        signature = root.find("ds:Signature", NS)
        inner = copy.deepcopy(root)
        inner.remove(inner.find("ds:Signature", NS))
        root.set("ID", "_evil")
        root.find("a:Assertion/a:Subject/a:NameID", NS).text = "admin"
        if kind == 1:
            signature.append(inner)
        else:
            root.insert(0, inner)
        return root
    signature = original.find("ds:Signature", NS)
    bad, at = evil(original), list(root).index(original)
    match kind:
        case 3:
            root.insert(at, bad)
        case 4:
            root.remove(original)
            bad.append(original)
            root.append(bad)
        case 5:
            original.remove(signature)
            bad.insert(1, signature)
            root.remove(original)
            root.append(bad)
            root.append(original)
        case 6:
            original.remove(signature)
            root.remove(original)
            signature.append(original)
            bad.insert(1, signature)
            root.append(bad)
        case 7:
            extensions = etree.SubElement(root, f"{{{NS['p']}}}Extensions")
            extensions.append(bad)
            root.remove(extensions)
            root.insert(1, extensions)
        case 8:
            root.remove(original)
            original.remove(signature)
            holder = etree.SubElement(signature, f"{{{DS}}}Object")
            holder.append(original)
            bad.insert(1, signature)
            root.append(bad)
    return root


@pytest.mark.parametrize("kind", range(1, 9))
@pytest.mark.parametrize("same_id", [False, True])
def test_no_wrapping_makes_somebody_else_of_alice(stage, kind, same_id):
    good = stage.idp.signed(stage.request)
    document = stage.idp.sign(good) if kind in (1, 2) else good
    attack = wrapped(kind, document)
    if same_id:
        identifier = document.find("a:Assertion", NS).get("ID")
        for element in attack.iter(f"{{{A}}}Assertion"):
            element.set("ID", identifier)
    stage.refuse(attack)


def test_the_name_cannot_be_changed_behind_the_signature(stage):
    document = stage.idp.signed(stage.request)
    document.find("a:Assertion/a:Subject/a:NameID", NS).text = "admin"
    assert "signature" in stage.refuse(document).detail


# --- what is signed, by whom, how ---


def test_namespaces_that_only_values_use_are_signed_as_okta_and_opensaml_do(stage):
    """Exclusive XML Canonicalization, 4: `xs` stands in no name, only in `xsi:type`."""
    said = (
        '<saml:Attribute Name="groups"><saml:AttributeValue xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">staff'
        "</saml:AttributeValue></saml:Attribute>"
    )
    for where in ("Assertion", "AttributeStatement", "Response"):
        for signed_info in ("", "xs"):
            stage.begin()
            document = stage.idp.okta(stage.request, where, signed_info=signed_info, attributes=said)
            assert stage.finish(posted(document)).groups == {"staff"}
            stage.begin()
            document = etree.tostring(stage.idp.okta(stage.request, where, signed_info=signed_info, attributes=said)).decode()
            stage.refuse(posted(document.replace(">staff<", ">admin<")))
            stage.refuse(posted(document.replace('PrefixList="xs"', 'PrefixList="xsi"')))
            stage.refuse(posted(document.replace(f'"{XS}"', '"urn:other"')))


@pytest.mark.parametrize(
    "prefixes",
    ["a b c d e f g h i j k l m n o p q", "x:y", "&lt;", "\u00e9", "1a", "a" * 65],
)
def test_a_list_of_prefixes_that_is_none_is_refused(stage, prefixes):
    text = etree.tostring(stage.idp.okta(stage.request, "Assertion")).decode()
    assert "prefixes" in stage.refuse(posted(text.replace('PrefixList="xs"', f'PrefixList="{prefixes}"'))).detail


@pytest.mark.parametrize(
    ("parent", "tag"),
    [
        ("Signature", "Object"), ("Signature", "SignedInfo"), ("Signature", "SignatureValue"), ("SignedInfo", "Reference"), ("SignedInfo", "SignatureMethod"),
        ("Reference", "Transforms"), ("Reference", "DigestValue"), ("Transforms", "Transform"), ("SignatureMethod", "HMACOutputLength"), ("DigestMethod", "X"),
        ("CanonicalizationMethod", "X"), ("Transform", "XPath"), ("X509Data", "X509Certificate"), ("DigestValue", "X"), ("SignatureValue", "X"),
    ],
)  # fmt: skip
def test_a_signature_with_anything_more_in_it_is_refused(stage, parent, tag):
    for at in (0, 99):
        document = stage.idp.signed(stage.request)
        holder = document.find(f".//{{{DS}}}{parent}")
        holder.insert(at, etree.Element(f"{{{DS}}}{tag}"))
        stage.refuse(document)


def test_a_signature_of_the_response_alone_is_not_enough(stage):
    plain = stage.idp.response(stage.request, stage.idp.assertion(stage.request))
    stage.refuse(plain)
    stage.refuse(stage.idp.sign(plain))


def test_a_signature_moved_to_another_element_is_refused(stage):
    for other in ("#_other", "", "#"):
        document = stage.idp.signed(stage.request)
        document.find(".//ds:Reference", NS).set("URI", other)
        stage.refuse(document)


@pytest.mark.parametrize("name", ["ID", "Id", "id"])
def test_an_identifier_that_stands_twice_is_refused(stage, name):
    document = stage.idp.signed(stage.request)
    document.find("p:Status", NS).set(name, document.find("a:Assertion", NS).get("ID"))
    stage.refuse(document)


def test_two_signatures_of_one_assertion_are_refused(stage):
    document = stage.idp.signed(stage.request)
    assertion = document.find("a:Assertion", NS)
    assertion.append(copy.deepcopy(assertion.find("ds:Signature", NS)))
    stage.refuse(document)


def test_the_certificate_in_the_document_is_trusted_for_nothing(stage):
    assertion = etree.fromstring(stage.idp.assertion(stage.request, name_id="admin"))
    signed = stage.idp.sign(assertion, key=THIEF_KEY, cert=THIEF_CERTIFICATE)
    document = stage.idp.response(stage.request, "")
    document.append(signed)
    assert "none of those configured" in stage.refuse(document).detail
    # The thief's signature under the issuer's certificate.
    ours = base64.b64encode(stage.idp.certificate.public_bytes(Encoding.DER)).decode()
    document.find(".//ds:X509Certificate", NS).text = ours
    stage.refuse(document)
    # No key information at all.
    bare = stage.idp.signed(stage.request)
    signature = bare.find(".//ds:Signature", NS)
    signature.remove(signature.find("ds:KeyInfo", NS))
    stage.refuse(bare)


def test_sha1_md5_and_hmac_are_refused(stage):
    document = stage.idp.response(stage.request, "")
    document.append(stage.idp.sign(etree.fromstring(stage.idp.assertion(stage.request)), sha1=True))
    stage.refuse(document)
    for algorithm in (
        "http://www.w3.org/2000/09/xmldsig#hmac-sha1",
        "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-md5",
        "http://www.w3.org/2000/09/xmldsig#dsa-sha1",
        "",
    ):
        forged = stage.idp.signed(stage.request, name_id="admin")
        method = forged.find(".//ds:SignatureMethod", NS)
        method.set("Algorithm", algorithm)
        mac = hmac.HMAC(stage.idp.certificate.public_bytes(Encoding.PEM), hashes.SHA256())
        mac.update(etree.tostring(forged.find(".//ds:SignedInfo", NS), method="c14n", exclusive=True))
        forged.find(".//ds:SignatureValue", NS).text = base64.b64encode(mac.finalize()).decode()
        stage.refuse(forged)


@pytest.mark.parametrize(
    "transform",
    [
        "http://www.w3.org/TR/1999/REC-xslt-19991116",
        "http://www.w3.org/TR/1999/REC-xpath-19991116",
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments",
    ],
)
def test_a_transform_that_changes_what_is_signed_is_refused(stage, transform):
    document = stage.idp.signed(stage.request)
    transforms = document.find(".//ds:Transforms", NS)
    etree.SubElement(transforms, f"{{{DS}}}Transform", Algorithm=transform)
    stage.refuse(document)


# --- documents that two parsers read differently ---

BOMB = "<!DOCTYPE x [" + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "lol"}">' for n in range(10)) + "]>"


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE x>",
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/evil.dtd">',
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p">%p;]>',
        "<!DOCTYPE x [<!ATTLIST Assertion ID ID #IMPLIED>]>",
        BOMB,
    ],
)
def test_a_dtd_is_refused_before_anything_is_parsed(stage, doctype):
    text = etree.tostring(stage.idp.signed(stage.request)).decode()
    assert "DTD" in stage.refuse(posted(doctype + text)).detail
    assert "DTD" in stage.refuse(posted('<?xml version="1.0"?>' + doctype + text)).detail


@pytest.mark.parametrize(
    "name",
    [
        "admin<!-- -->.evil",
        "<![CDATA[admin]]>",
        "<![CDATA[ad]]>min",
        "&#97;dmin",
        "ad<?x y?>min",
        "&admin;",
        "&#x61;dmin",
    ],
)
def test_text_that_is_split_or_spelled_by_reference_is_refused(stage, name):
    text = etree.tostring(stage.idp.signed(stage.request)).decode()
    stage.refuse(posted(text.replace(">alice<", f">{name}<")))
    try:
        signed = etree.tostring(stage.idp.signed(stage.request, name_id=name)).decode()
    except etree.XMLSyntaxError:
        return
    if signed.count(">admin<") == 0:
        stage.refuse(posted(signed))


def test_elements_inside_a_name_are_refused(stage):
    for name in ("<saml:X>admin</saml:X>", "alice<saml:X/>", ""):
        stage.refuse(stage.idp.signed(stage.request, name_id=name))


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.decode().encode("utf-16"),
        lambda raw: b'<?xml version="1.0" encoding="utf-16"?>' + raw,
        lambda raw: b'<?xml version="1.0" encoding="latin1"?>' + raw,
        lambda raw: b'<?xml version="1.1"?>' + raw,
        lambda raw: raw.replace(b"Version=", b"Version='2.0' Version=", 1),
        lambda raw: raw + raw,
        lambda raw: raw[:-5],
        lambda raw: raw + b"x",
        lambda raw: raw.replace(b"alice", b"al\0ice"),
        lambda raw: raw.replace(b"alice", b"al\xffice"),
        lambda raw: b"",
        lambda raw: b"[]",
        lambda raw: b"<a>" * 100_000,
        lambda raw: raw + b" " * 300_000,
    ],
)
def test_what_is_not_one_plain_document_is_refused(stage, change):
    stage.refuse(posted(change(etree.tostring(stage.idp.signed(stage.request)))))


def test_what_is_not_base64_is_refused(stage):
    good = posted(stage.idp.signed(stage.request))
    for bad in (good[:-1], "!" + good, good + "é", "%" * 10):
        stage.refuse(bad)


@pytest.mark.parametrize("tag", ["EncryptedAssertion", "assertion", "Assertion"])
def test_a_second_or_hidden_assertion_is_refused(stage, tag):
    document = stage.idp.signed(stage.request)
    for namespace in (A, "urn:other"):
        again = copy.deepcopy(document)
        etree.SubElement(again.find("p:Status", NS), f"{{{namespace}}}{tag}")
        stage.refuse(again)


# --- for whom, when, in answer to what ---


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"issuer": "https://evil.example.com"}, Reason.UNKNOWN_ISSUER),
        ({"issuer": f"{ISSUER}/"}, Reason.UNKNOWN_ISSUER),
        ({"version": "1.1"}, Reason.UNKNOWN_ISSUER),
        ({"recipient": 'Recipient="https://other.example/acs"'}, Reason.WRONG_AUDIENCE),
        ({"recipient": ""}, Reason.WRONG_AUDIENCE),
        ({"in_response_to": 'InResponseTo="_other"'}, Reason.BAD_TOKEN),
        ({"in_response_to": ""}, Reason.BAD_TOKEN),
        ({"method": "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"}, Reason.BAD_TOKEN),
        ({"method": "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"}, Reason.BAD_TOKEN),
        ({"data": f'NotBefore="{stamp(-5)}"'}, Reason.BAD_TOKEN),
        ({"confirmed_until": stamp(-120)}, Reason.EXPIRED_TOKEN),
        ({"not_after": stamp(-120)}, Reason.EXPIRED_TOKEN),
        ({"not_before": stamp(LATER)}, Reason.BAD_TOKEN),
        ({"not_after": "tomorrow"}, Reason.BAD_TOKEN),
        ({"not_after": "2099-01-01T00:00:00+02:00"}, Reason.BAD_TOKEN),
        ({"issued": stamp(LATER)}, Reason.BAD_TOKEN),
        ({"conditions": ""}, Reason.WRONG_AUDIENCE),
        ({"conditions": "<saml:AudienceRestriction/>"}, Reason.WRONG_AUDIENCE),
        (
            {
                "conditions": "<saml:AudienceRestriction><saml:Audience>https://x</saml:Audience></saml:AudienceRestriction>"
            },
            Reason.WRONG_AUDIENCE,
        ),
        (
            {
                "conditions": f"<saml:AudienceRestriction><saml:Audience>{AUDIENCE}</saml:Audience></saml:AudienceRestriction>"
                "<saml:AudienceRestriction><saml:Audience>https://x</saml:Audience></saml:AudienceRestriction>"
            },
            Reason.WRONG_AUDIENCE,
        ),
        ({"conditions": "<saml:Condition/>"}, Reason.BAD_TOKEN),
        ({"authn": ""}, Reason.BAD_TOKEN),
        ({"authn": f'<saml:AuthnStatement AuthnInstant="{stamp(LATER)}"/>'}, Reason.BAD_TOKEN),
        (
            {"authn": f'<saml:AuthnStatement AuthnInstant="{stamp(-9)}" SessionNotOnOrAfter="{stamp(-1)}"/>'},
            Reason.EXPIRED_TOKEN,
        ),
    ],
)
def test_an_assertion_for_another_place_time_or_request_is_refused(stage, over, reason):
    assert stage.refuse(stage.idp.signed(stage.request, **over)).reason is reason


@pytest.mark.parametrize(
    "response",
    [
        {"status": "urn:oasis:names:tc:SAML:2.0:status:Responder"},
        {"status": ""},
        {"in_response_to": "_other"},
        {"in_response_to": ""},
        {"destination": 'Destination="https://other.example/acs"'},
        {"version": "1.1"},
    ],
)
def test_a_response_that_failed_or_is_for_another_is_refused(stage, response):
    stage.refuse(stage.idp.signed(stage.request, response=response))


def test_the_same_assertion_is_good_once(stage):
    response = posted(stage.idp.signed(stage.request))
    assert stage.finish(response).subject == "alice"
    assert "used before" in stage.refuse(response).detail


def test_a_login_that_we_did_not_ask_for_is_refused(stage):
    other = posted(stage.idp.signed(stage.request))
    stage.begin()
    assert "InResponseTo" in stage.refuse(other).detail


@pytest.mark.parametrize(
    "said",
    [
        attribute("groups", "staff") + attribute("groups", "admin"),
        attribute("groups", "staff") + attribute("Groups", "admin"),
        attribute("groups", "staff") + attribute("GROUPS", "admin"),
        attribute("mail", "a@x", "b@x"),
        attribute("mail", "nobody"),
        attribute("displayName", "A", "B"),
        attribute("groups", "<saml:X>admin</saml:X>"),
        attribute("groups", ""),
        attribute("", "x"),
        "".join(attribute(f"a{n}", "x") for n in range(300)),
    ],
)
def test_attributes_that_are_two_opinions_are_refused(stage, said):
    stage.refuse(stage.idp.signed(stage.request, attributes=said))


def test_configuration_that_trusts_nothing_is_refused(tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    section = config.Saml(issuer=ISSUER, sso_url="https://idp.example.com/sso", cert_file=str(empty))
    with pytest.raises(ConfigError, match="certificate"):
        SamlLogin(section, BASE)
    for weak in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256R1())):
        empty.write_bytes(new_certificate("weak", weak)[1].public_bytes(Encoding.PEM))
        with pytest.raises(ConfigError, match="RSA key of 2048"):
            SamlLogin(section, BASE)


# --- the corpus ---

HELD_BY = {
    **{f"SAML-{n:03}": "test_no_wrapping_makes_somebody_else_of_alice" for n in range(1, 9)},
    "SAML-010": "test_a_signature_of_the_response_alone_is_not_enough",
    "SAML-011": "test_an_identifier_that_stands_twice_is_refused",
    "SAML-012": "test_what_is_not_one_plain_document_is_refused",
    "SAML-015": "test_a_dtd_is_refused_before_anything_is_parsed",
    "SAML-016": "test_the_certificate_in_the_document_is_trusted_for_nothing",
    "SAML-017": "test_the_same_assertion_is_good_once",
    "SAML-020": "test_an_assertion_for_another_place_time_or_request_is_refused",
    "SAML-021": "test_sha1_md5_and_hmac_are_refused",
    "SAML-023": "test_attributes_that_are_two_opinions_are_refused",
    "SAML-024": "test_text_that_is_split_or_spelled_by_reference_is_refused",
}


def test_no_published_item_is_left_out():
    items = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    for item in items:
        if item["protocol"] == "saml":
            assert re.fullmatch(r"SAML-\d{3}", item["id"])
            assert HELD_BY[item["id"]] in globals(), item["title"]
