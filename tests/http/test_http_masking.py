"""A protected value does not leave in a body, a head, or another spelling of itself; what cannot be masked does not leave."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.masking.documents import Rules, Unmaskable
from ostiary.masking.http import MAX_HELD, ReplyMasker
from ostiary.masking.plan import Means, text_substitute
from ostiary.model.connections import ProtectedField, Strategy
from ostiary.model.proofs import Content
from ostiary.model.results import ReplyEnd, ReplyHead

SSN = "078-05-1120"
RULES = Rules(
    (
        ProtectedField("json:/people/*/name", "pii", Strategy.REDACT),
        ProtectedField("json:/**/card", "pci", Strategy.LAST4),
        ProtectedField("json:/secret", "pii", Strategy.NULL),
        ProtectedField("xml://person/name", "pii", Strategy.REDACT),
        ProtectedField("xml://person/@id", "pii", Strategy.NULL),
    )
)


NONE = Rules(())


def masked(
    body: bytes, kind: str = "application/json", *, cut: int = 0, rules: Rules = NONE, clear: frozenset[str] = frozenset(),
    detect: frozenset[str] = frozenset({"ssn"}), more: tuple[tuple[bytes, bytes], ...] = (), passes: frozenset[str] = frozenset(),
) -> tuple[bytes, bytes, int | None, dict[str, int]]:  # fmt: skip
    """(head, body, length that the head may state, counts)."""
    masker = ReplyMasker(detect, rules, passes)
    masker.show(clear)
    headers = ((b"Content-Type", kind.encode()), *more)
    parts: list[ReplyHead | bytes | ReplyEnd] = [ReplyHead(200, headers, has_body=True, length=len(body), of_read=True)]
    parts += [body[at : at + cut] for at in range(0, len(body), cut)] if cut else [body]
    parts.append(ReplyEnd())
    head = out = b""
    counts: dict[str, int] = {}
    for part in parts:
        for each in masker.mask(part):
            if each.content is Content.HTTP_HEAD:
                head += each.frames
            else:
                out += each.frames
            for name, number in each.counts:
                counts[name] = counts.get(name, 0) + number
    return head, out, masker.length, counts


@pytest.mark.parametrize("cut", [0, 1, 3, 7])
def test_fields_are_masked_by_pointer_however_the_body_is_cut(cut: int) -> None:
    said = {"people": [{"name": "Ana", "age": 3}, {"name": None}], "x": {"y": [{"card": "4111111111111111"}]}, "secret": {"a": [1, "b"]}, "ok": "Ana"}
    head, body, length, counts = masked(json.dumps(said).encode(), cut=cut, rules=RULES)
    assert json.loads(body) == {
        "people": [{"name": "***", "age": 3}, {"name": None}],
        "x": {"y": [{"card": "************1111"}]},
        "secret": {"a": [None, None]},
        "ok": "Ana",
    }
    assert length == len(body)
    assert counts == {"pii": 3, "pci": 1}
    assert b"HTTP/1.1 200 OK" in head


@pytest.mark.parametrize("place", ["/keys/**", "/keys/**/**", "/keys/*", "/keys"])
def test_a_place_that_ends_in_stars_hides_all_that_stands_below_it(place: str) -> None:
    said = {"keys": {"a": "violet", "b": {"deep": ["violet"]}}, "ok": "seen"}
    rules = Rules((ProtectedField(f"json:{place}", "pii", Strategy.REDACT),))
    assert json.loads(masked(json.dumps(said).encode(), rules=rules)[1]) == {
        "keys": {"a": "******", "b": {"deep": ["******"]}},
        "ok": "seen",
    }


@pytest.mark.parametrize("place", ["/**", "/**/*"])
def test_stars_alone_hide_everything(place: str) -> None:
    rules = Rules((ProtectedField(f"json:{place}", "pii", Strategy.REDACT),))
    assert b"violet" not in masked(b'{"a": "violet", "b": [{"c": "violet"}]}', rules=rules)[1]


def test_a_class_that_policy_shows_is_shown() -> None:
    body = b'{"people":[{"name":"Ana"}],"card":"4111111111111111"}'
    assert masked(body, rules=RULES, clear=frozenset({"pii"}))[1] == b'{"people":[{"name":"Ana"}],"card":"************1111"}'
    assert masked(b'{"a":"078-05-1120"}', clear=frozenset({"ssn"}))[1] == b'{"a":"078-05-1120"}'


@pytest.mark.parametrize(
    "body",
    [
        rb'{"a":"078-05-1120"}', rb'{"a":"\u0030\u0037\u0038-05-1120"}', rb'{"a":"x","a":"078-05-1120"}', rb'{"078-05-1120":1}',
        rb'{"\u0030\u0037\u0038-05-1120":1}', rb'[[[["078-05-1120"]]]]', b'"078-05-1120"', rb'{"a":"\"078-05-1120\""}',
        rb'{"a":"tel 078-05-1120\n"}', b'  {"a" : "078-05-1120" }\r\n',
    ],
)  # fmt: skip
def test_no_spelling_of_json_hides_a_value(body: bytes) -> None:
    for cut in (0, 1, 5):
        out = masked(body, cut=cut)[1]
        assert SSN not in out.decode()
        assert SSN not in json.dumps(json.loads(out))


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.just(SSN) | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    ),
    st.integers(1, 40),
    st.booleans(),
)
def test_json_stays_the_same_but_for_what_is_masked(said: object, cut: int, plain: bool) -> None:
    body = json.dumps(said, ensure_ascii=plain).encode()
    if b"\\ud" in body.lower() or b"=3" in body:
        return
    try:
        out = masked(body, cut=cut, rules=RULES, clear=frozenset({"pii", "pci"}))[1]
    except Unmaskable:
        return
    assert SSN.encode() not in out
    if SSN not in json.dumps(said, ensure_ascii=False):
        found = json.loads(out)
        assert found == said or "*" in out.decode()


@pytest.mark.parametrize("body", [b'{"a":1', b'{"a" 1}', b"{a:1}", b'{"a":1}}', b'{"a":NaN}', b"// c\n{}", b'{"a":1,}', b'{"a":"\x01"}', b"\xff\xfe{\0}\0"])
def test_with_protected_fields_what_is_not_json_does_not_leave(body: bytes) -> None:
    with pytest.raises(Unmaskable):
        masked(body, rules=RULES)


def test_a_large_body_is_masked_as_it_streams() -> None:
    said = [{"n": n, "ssn": SSN, "text": "x" * 50} for n in range(20_000)]
    body = json.dumps(said).encode()
    head, out, length, counts = masked(body, cut=65_536, more=((b"ETag", b'"abc"'),))
    assert len(body) > 4 * MAX_HELD
    assert [each["ssn"] for each in json.loads(out)] == ["***********"] * 20_000
    assert (length, counts) == (None, {"ssn": 20_000})
    assert b"ETag" not in head


@pytest.mark.parametrize("kind", ["text/plain", "text/csv", "application/x-ndjson", "text/event-stream", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("cut", [0, 1, 6])
def test_text_of_any_kind_is_scanned(kind: str, cut: int) -> None:
    out = masked(f"a: {SSN}\nb".encode(), kind, cut=cut)[1]
    assert out == b"a: ***********\nb"


def test_a_window_s_edge_hides_nothing() -> None:
    for shift in range(24):
        text = b"y" * (MAX_HELD - 12 + shift) + b" 078-05-1120 " + b"z" * MAX_HELD
        out = masked(text, "text/plain", cut=8192)[1]
        assert SSN.encode() not in out
        assert len(out) == len(text)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<b>&#48;&#x37;8-05-1120</b>"), ("text/plain", rb"\u0030\u0037\u0038-05-1120"), ("text/javascript", rb"'\x3078-05-1120'"),
        ("application/x-www-form-urlencoded", b"a=%30%37%38-05-1120"), ("text/plain", b"=3078-05-1120"), ("text/plain", b"078-=\r\n05-1120"),
        ("text/plain; charset=utf-16le", SSN.encode("utf-16-le")), ("text/plain", SSN.encode("utf-16-le")), ("text/plain; charset=utf-7", b"x"),
        ("application/octet-stream", b"x"), ("application/zip", b"PK"), ("application/protobuf", b"\x0a"), ("image/png", b'{"ssn":"078-05-1120"}'),
        ("image/png", b"\x89PNG\r\n\x1a\n 078-05-1120 "), ("multipart/mixed; boundary=x", b"--x\r\nContent-Transfer-Encoding: base64\r\n\r\nMDc4"),
        ("", b"078-05-1120"),
    ],
)  # fmt: skip
def test_what_cannot_be_masked_is_withheld(kind: str, body: bytes) -> None:
    with pytest.raises(Unmaskable):
        masked(body, kind)


@pytest.mark.parametrize("kind", ["", "application/octet-stream", "application/zip", "text/plain; charset=utf-16", "application/json"])
@pytest.mark.parametrize("length", [0, None])
@pytest.mark.parametrize("rules", [NONE, RULES])
def test_an_answer_whose_body_is_empty_is_not_withheld_for_its_type(kind: str, length: int | None, rules: Rules) -> None:
    masker = ReplyMasker(frozenset({"ssn"}), rules, frozenset())
    headers = ((b"Content-Type", kind.encode()),) if kind else ()
    left = masker.mask(ReplyHead(201, headers, has_body=True, length=length, of_read=False)) + masker.mask(ReplyEnd())
    assert [each.frames[:20] for each in left] == [b"HTTP/1.1 201 Created"]
    assert masker.length == 0


def test_and_nothing_of_one_of_unknown_length_leaves_once_it_has_a_byte() -> None:
    masker = ReplyMasker(frozenset({"ssn"}), NONE, frozenset())
    assert masker.mask(ReplyHead(200, (), has_body=True, length=None, of_read=True)) == []
    with pytest.raises(Unmaskable, match="nobody names"):
        masker.mask(b"x")


def test_what_the_operator_lets_pass_passes() -> None:
    assert masked(b"PK\x03", "application/zip", passes=frozenset({"application/zip"}))[1] == b"PK\x03"
    assert masked(b"\x89PNG\r\n\x1a\n....", "image/png")[1] == b"\x89PNG\r\n\x1a\n...."
    assert masked(b"\0\1", "application/octet-stream", detect=frozenset())[1] == b"\0\1"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_compressed_body_is_unpacked_first(coding: str, cut: int) -> None:
    body = json.dumps({"ssn": SSN}).encode()
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    head, out, length, _ = masked(packed, cut=cut, more=((b"Content-Encoding", coding.encode()),))
    assert json.loads(out) == {"ssn": "***********"}
    assert b"Content-Encoding" not in head
    assert length == len(out)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("br", b"x"), ("gzip, gzip", b"x"), ("gzip", b"not gzip"), ("gzip", gzip.compress(b"{}", mtime=0)[:-4]), ("gzip", gzip.compress(b"{}", mtime=0) + b"078-05-1120"),
        ("gzip", gzip.compress(b" " * (300 << 20), 1, mtime=0)),
    ],
)  # fmt: skip
def test_a_compressed_body_that_cannot_be_unpacked_within_bounds_is_withheld(coding: str, body: bytes) -> None:
    with pytest.raises(Unmaskable):
        masked(body, "text/plain", cut=65536, more=((b"Content-Encoding", coding.encode()),))


@pytest.mark.parametrize(
    "body",
    [
        b"<a>078-05-1120</a>", b"<a>&#48;78-05-1120</a>", b"<a><![CDATA[078-]]>05-1120</a>", b"<a>078-<!-- -->05-1120</a>",
        b"<a b='078-05-1120'/>", b"<a b='&#x30;78-05-1120' c='d'>x</a>", b"<?xml version='1.0'?>\n<a>\n078-05-1120\n</a>",
    ],
)  # fmt: skip
def test_no_spelling_of_xml_hides_a_value(body: bytes) -> None:
    from xml.etree import ElementTree as ET

    out = masked(body, "application/xml")[1]
    root = ET.fromstring(out)
    assert SSN not in "".join(root.itertext()) + "".join(root.attrib.values())


def test_xml_fields_are_masked_by_path() -> None:
    body = b'<x><person id="7" k="v"><name>Ana <b>Lee</b></name><age>3</age></person><name>shown</name></x>'
    out = masked(body, "text/xml", rules=RULES, detect=frozenset())[1]
    assert out == b'<x><person id="" k="v"><name>****<b>***</b></name><age>3</age></person><name>shown</name></x>'


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE a [<!ENTITY x "078-05-">]><a>&x;1120</a>', b"<a><!-- 078-05-1120 --></a>", b"<a>", b"<a><?p 078-05-1120?></a>",
        b"<a><n-078-05-1120/></a>", b"<a n-078-05-1120='1'/>", b"<a>&amp;#48;78-05-1120</a>", b"<a>%3078-05-1120</a>",
    ],
)  # fmt: skip
def test_xml_that_could_hide_a_value_is_withheld(body: bytes) -> None:
    with pytest.raises(Unmaskable):
        masked(body, "application/xml")


@pytest.mark.parametrize("aside", [b"<!--Ana Lee-->", b"<b><!--Ana Lee--></b>", b"<?was Ana Lee?>"])
def test_what_stands_beside_the_text_of_a_protected_element_does_not_leave(aside: bytes) -> None:
    with pytest.raises(Unmaskable):
        masked(b"<x><person><name>" + aside + b"</name></person></x>", "application/xml", rules=RULES, detect=frozenset())
    body = b"<x><!--Ana Lee--><person><name><!-- --></name></person></x>"
    assert masked(body, "application/xml", rules=RULES, detect=frozenset())[1] == body


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8", "windows-1252"])
def test_xml_in_whatever_encoding_says_the_same_but_for_what_is_masked(encoding: str) -> None:
    from xml.etree import ElementTree as ET

    body = f'<?xml version="1.0" encoding="{encoding}"?><m\xe9><b k="\xe9 078-05-1120" z="&#10;\xe9"/><c>\xe9 078-05-1120</c></m\xe9>'.encode(encoding)
    root = ET.fromstring(masked(body, "application/xml")[1])
    assert (root.tag, root[0].attrib, root[1].text) == ("m\xe9", {"k": "\xe9 ***********", "z": "\n\xe9"}, "\xe9 ***********")


def test_an_attribute_whose_name_cannot_be_written_anew_is_withheld() -> None:
    with pytest.raises(Unmaskable):
        masked('<?xml version="1.0" encoding="iso-8859-1"?><b \xe9="078-05-1120"/>'.encode("iso-8859-1"), "application/xml")


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "text/css"])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf \n", b"<?xml version='1.0'?>", b"<!-- from here -->"])
@pytest.mark.parametrize("cut", [0, 1])
def test_xml_under_another_name_is_read_as_xml(kind: str, before: bytes, cut: int) -> None:
    if kind == "text/html" and before.startswith(b"<!--"):
        return  # pages begin so
    body = before + b'<x><person id="7"><name>Ana</name></person></x>'
    try:
        out = masked(body, kind, rules=RULES, detect=frozenset(), cut=cut)[1]
    except Unmaskable:
        return
    assert b"Ana" not in out
    assert b'"7"' not in out


@pytest.mark.parametrize("page", [b"<!doctype html><p>a<br>b", b"<html><body><p>a</body></html>", b"<div>a<br>b</div>", b"<p>1 < 2", b"x <person"])
def test_a_page_is_no_xml(page: bytes) -> None:
    assert masked(page, "text/html", rules=RULES, detect=frozenset())[1] == page


@pytest.mark.parametrize("body", [b"n=078+05+1120", b"a=1&n=078+05+1120&b", b'{"next":"/x?n=4111+1111+1111+1111"}', b"n=DE89+3704+0044+0532+0130+00"])
def test_blanks_that_are_written_as_plus_signs_hide_nothing(body: bytes) -> None:
    detect = frozenset({"ssn", "card", "iban"})
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json" if body[:1] == b"{" else "text/html"):
        try:
            out = masked(body, kind, detect=detect)[1]
        except Unmaskable:
            continue
        assert out != body
    for harmless in (b"20240101120000+0100,20240102120000+0100", b"1+1=2", b"+49 151 12345678+1"):
        assert masked(harmless, "text/plain", detect=detect)[1] == harmless


@pytest.mark.parametrize(("said", "passes"), [(b"7bit", True), (b"  8bit", True), (b"base64", False), (b"\r\n base64", False)])
def test_a_part_says_that_it_has_no_encoding_with_blanks_or_without(said: bytes, passes: bool) -> None:
    body = b"--b\r\nContent-Transfer-Encoding: " + said + b"\r\n\r\nx\r\n--b--"
    if passes:
        assert masked(body, "multipart/mixed")[1] == body
    else:
        with pytest.raises(Unmaskable):
            masked(body, "multipart/mixed")


def test_heads_are_scanned_and_lose_what_tells_of_a_body_that_changed() -> None:
    more = (
        (b"X-Ssn", SSN.encode()), (b"Location", b"/u/%30%37%38-05-1120?token=abc"), (b"ETag", b'"1"'), (b"Set-Cookie", b"s=078-05-1120; Path=/"),
        (b"Cache-Control", b"public"),
    )  # fmt: skip
    head = masked(json.dumps({"a": SSN}).encode(), more=more)[0]
    assert SSN.encode() not in head
    assert b"ETag" not in head
    assert b"%30%37" not in head
    assert b"abc" not in head
    assert b"public" not in head
    assert b"Cache-Control: private, no-store" in head
    assert b"ETag" in masked(b'{"a":1}', more=more)[0]


MEANS = Means(b"k" * 16, {"name": (1, 0)})


def kept(strategy: Strategy, means: Means = MEANS) -> Rules:
    return Rules((ProtectedField("json:/**/name", "name", strategy), ProtectedField("xml://name", "name", strategy)), means)


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_fields_can_be_hashed_made_up_or_shown_in_part(cut: int) -> None:
    body = {"a": {"name": "Ana Hanna"}, "b": [{"name": "Ana Hanna"}, {"name": "Bea"}, {"name": 17}, {"name": ""}]}
    found = {
        how: json.loads(masked(json.dumps(body).encode(), cut=cut, rules=kept(how))[1])
        for how in (Strategy.HASH, Strategy.TOKEN, Strategy.PARTIAL)
    }
    hashed, made, part = found[Strategy.HASH], found[Strategy.TOKEN], found[Strategy.PARTIAL]
    assert hashed["a"]["name"] == hashed["b"][0]["name"] != hashed["b"][1]["name"]
    assert hashed["a"]["name"].startswith("h_")
    assert [len(word) for word in made["a"]["name"].split(" ")] == [3, 5]
    assert made["a"]["name"] != "Ana Hanna"
    assert [each["name"] for each in part["b"]] == ["A********", "B**", None, ""]
    column = text_substitute(Strategy.HASH, "name", MEANS)
    assert column is not None
    assert column.of(b"Ana Hanna") == hashed["a"]["name"].encode()  # as a column of the same class has it
    xml = masked(b"<p><name>Ana &#72;anna</name></p>", "application/xml", cut=cut, rules=kept(Strategy.HASH))[1]
    assert xml == b"<p><name>" + hashed["a"]["name"].encode() + b"</name></p>"


def test_without_a_key_nothing_is_left_of_what_would_be_hashed() -> None:
    for how in (Strategy.HASH, Strategy.TOKEN):
        assert masked(b'{"name":"Ana"}', rules=kept(how, Means()))[1] == b'{"name":null}'


# --- in windows, lines and events ----------------------------------------------------------------------------------------

TEXTS = st.one_of(st.text(max_size=12), st.sampled_from([SSN, f"a {SSN} b", "\\u0030", '"', "\\", "x" * 90, "07", "8-05-1120", "é{}[],:"]))
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(-9999, 9999), st.booleans(), st.none()),
    lambda each: st.one_of(st.lists(each, max_size=4), st.dictionaries(TEXTS, each, max_size=4)), max_leaves=12,
)  # fmt: skip


def starred_in(value: object) -> object:
    match value:
        case str():
            return value.replace(SSN, "*" * len(SSN))
        case list():
            return [starred_in(each) for each in value]
        case dict():
            return [[starred_in(key), starred_in(each)] for key, each in value.items()]
        case _:
            return value


def pairs(text: bytes) -> object:
    return json.loads(text, object_pairs_hook=lambda found: [list(each) for each in found])


@settings(max_examples=300, deadline=None)
@given(VALUES, st.booleans(), st.integers(1, 40), st.integers(1, 200))
def test_json_in_windows_is_masked_as_json_in_one_piece(value: object, plain: bool, cut: int, held: int) -> None:
    """Wherever the windows end; or it is withheld, for a spelling that cannot be replaced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ostiary.masking.http.MAX_HELD", held)
        try:
            out = masked(json.dumps(value, ensure_ascii=plain).encode(), cut=cut)[1]
        except Unmaskable:
            assert "\\" in json.dumps(value) or "%" in json.dumps(value) or "&" in json.dumps(value) or "=" in json.dumps(value)
            return
    assert pairs(out) == starred_in(value)


def test_a_large_json_is_masked_to_its_end_and_costs_no_second_look() -> None:
    rows = [{"id": n, "name": "x" * 50, "ssn": SSN if n == 9_000 else None, "note": "é" if n == 9_001 else "\n" if n == 9_002 else ""} for n in range(12_000)]
    out = json.loads(masked(json.dumps(rows, ensure_ascii=False).encode(), cut=65_536)[1])
    assert out[9_000]["ssn"] == "*" * 11
    assert [each for each in out if each["id"] != 9_000] == [each for each in rows if each["id"] != 9_000]


@pytest.mark.parametrize("bad", [b'{"a": tru}', b'{"a": "b\n"}', b'{"a": "\\x"}', b'{"a": "b', b"{'a': 1}", b"NaN", b'{"a": 01}'])
def test_what_is_no_json_is_withheld_where_it_has_to_be_taken_apart(bad: bytes) -> None:
    with pytest.raises(Unmaskable):
        masked(b'["' + SSN.encode() + b'",' + bad + b"]")


def flowing(kind: str, *pieces: bytes, rules: Rules = NONE) -> list[bytes]:
    """What leaves after each piece, the end being one more."""
    masker = ReplyMasker(frozenset({"ssn"}), rules, frozenset())
    masker.show(frozenset())
    list(masker.mask(ReplyHead(200, ((b"Content-Type", kind.encode()),), has_body=True, length=None, of_read=True)))
    return [b"".join(each.frames for each in masker.mask(part) if each.content is Content.HTTP_BODY) for part in (*pieces, ReplyEnd())]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_leaves_when_it_has_ended_masked_by_its_fields(end: bytes) -> None:
    said = b'event: n|id: 1|data: {"people": [{"name": "Ana"}],|data: "ssn": "078\\u002d05-1120"}||'.replace(b"|", end)
    cut = said.index(b"name")
    out = flowing("text/event-stream", said[:cut], said[cut:] + b": still here" + end, end, b"data: un", b"finished", rules=RULES)
    if end == b"\r":  # a CR at the very end may be half of a CRLF: the event waits for what follows
        out[2:4] = [out[2] + out[3], b""]
    assert out[0] == b""
    assert out[1].startswith(b"event: n\nid: 1\ndata: ")
    assert b"Ana" not in out[1]
    assert b"05-1120" not in out[1]
    assert b"".join(out[2:4]).startswith(b": still here")
    assert out[4:] == [b"", b"data: unfinished"]


def test_events_and_lines_that_hold_nothing_pass_as_they_came() -> None:
    said = b"\xef\xbb\xbf:ok\r\n\r\ndata: a\ndata:b\n\nretry: 5\n\n"
    assert b"".join(flowing("text/event-stream", *[said[n : n + 1] for n in range(len(said))])) == said
    lines = b'{"a": 1}\n\n{"b": "%41"}\r\nplain\n{"c'
    assert b"".join(flowing("application/x-ndjson", *[lines[n : n + 1] for n in range(len(lines))])) == lines


def test_a_line_leaves_when_it_has_ended() -> None:
    out = flowing("application/x-ndjson", b'{"a": "078-05-', b'1120"}\n{"b":', b"1}\n", b'{"ssn": "\\u0030\\u0037\\u0038-05-1120"}')
    assert out == [b"", b'{"a": "***********"}\n', b'{"b":1}\n', b"", b'{"ssn": "***********"}']
    out = flowing("application/x-ndjson", b'{"secret": "a"}\n', b'{"secret": "b"}\n', rules=RULES)
    assert out == [b'{"secret": null}\n', b'{"secret": null}\n', b""]


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "text/javascript", "text/css"])
def test_json_under_another_name_is_read_as_json(kind: str) -> None:
    assert masked(b' {"secret": "s3cret", "a": 1}', kind, rules=RULES)[1] == b' {"secret": null, "a": 1}'
    assert masked(b"[info] nothing here", kind, rules=RULES)[1] == b"[info] nothing here"
    assert masked(b"<p>the secret: none</p>", kind, rules=RULES)[1] == b"<p>the secret: none</p>"


@pytest.mark.parametrize(
    "text",
    [
        b'call({"secret": "s3cret"})', b'for(;;);{"secret":"s3cret"}', b'<script>let x = {"card" : "4111"}</script>', b"x = {'Secret': 's3cret'}",
        b'{"secret": "s3cret"} trailing', b'{"s\\u0065cret": "s3cret"} trailing', b'"{\\"secret\\": \\"s3cret\\"}"', b"<a data-x='{&quot;secret&quot;:1}'>",
        b"x" * 300_000 + b'{"secret": "s3cret"}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("cut", [0, 7])
def test_text_that_names_a_protected_field_is_withheld(text: bytes, cut: int) -> None:
    with pytest.raises(Unmaskable):
        masked(text, "text/html", rules=RULES, cut=cut)


@pytest.mark.parametrize("number", ["4111111111111111", "4.111111111111111e15", "41111111111111110E-1", "4111111111111111.0", "4111111111111111.00e0"])
@pytest.mark.parametrize("more", ['"', '"\\n', '{"a": 1e400, "b": 0.5e-99999, "c": 1.50}"'])
def test_a_number_is_judged_as_it_reads(number: str, more: str) -> None:
    said = more.strip('"').replace('"', "'")
    body = f'{{"n": {number}, "t": "{said}"}}'.encode()
    out = masked(body, detect=frozenset({"card"}))[1]
    assert json.loads(out)["n"] is None
    assert b"1111" not in out


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/json-seq", "text/event-stream", "application/json", "text/plain"])
@pytest.mark.parametrize("number", ["4.111111111111111e15", "4111111111111111.0", '{"n": 4.111111111111111e15}', '{"n": "4111111111111111"}'])
@pytest.mark.parametrize("rules", [NONE, RULES])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_number_is_judged_as_it_reads_in_lines_events_sequences_and_behind_a_mark(kind: str, number: str, rules: Rules, cut: int) -> None:
    before = {"text/event-stream": b"data: ", "application/json-seq": b"\x1e"}.get(kind, b"\xef\xbb\xbf")
    if kind == "text/plain" and (rules is NONE or not number.startswith("{")):
        return  # text is looked through as it stands
    said = before + number.encode() + b"\n" + (b"\n" if kind == "text/event-stream" else b"")
    out = masked(said, kind, detect=frozenset({"card"}), rules=rules, cut=cut)[1]
    assert b"1111" not in out
    assert out.startswith(before)


# --- decoys: what the plain look finds, and another spelling takes apart ---------------------------------------------------

HIDDEN = {
    "percent": (b"078-05-1120%30%30 ", b"%30%37%38-05-1120"), "references": (b"078-05-1120&#48; ", b"&#48;78-05-1120"),
    "escapes": (b"078-05-1120\\x30 ", b"\\x30\\x37\\x38-05-1120"), "printable": (b"078-05-1120=30 ", b"=3078-05-1120"),
}


@pytest.mark.parametrize("how", HIDDEN)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-ndjson", "application/json", "text/event-stream"])
def test_a_value_that_is_spelled_out_is_not_offset_by_one_that_ceases_to_be_one(how: str, kind: str) -> None:
    decoy, hidden = HIDDEN[how]
    body = decoy * 3 + hidden
    if "json" in kind:
        body = b'{"t": "%b"}\n' % body.replace(b"\\", b"\\\\")
    elif kind == "text/event-stream":
        body = b"data: " + body + b"\n\n"
    with pytest.raises(Unmaskable):
        masked(body, kind)


@pytest.mark.parametrize("how", HIDDEN)
def test_nor_in_a_head(how: str) -> None:
    decoy, hidden = HIDDEN[how]
    head = masked(b"", "text/plain", more=((b"X-Told", decoy * 3 + hidden), (b"X-Plain", b"ssn 078-05-1120"), (b"X-Hidden", hidden)))[0]
    assert b"X-Told: ***\r\n" in head
    assert b"X-Hidden: ***\r\n" in head
    assert b"X-Plain: ssn ***********\r\n" in head
