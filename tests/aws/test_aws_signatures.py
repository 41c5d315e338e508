"""Signatures, held against botocore's signer and AWS's own examples; bodies that are signed as they stream."""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from ostiary.model.errors import PeerMisbehaved
from ostiary.model.secrets import Secret
from ostiary.protocols.aws.chunks import ChunkReader
from ostiary.protocols.aws.sigv4 import NotSigned, Signed, escaped, read_signature, read_target, signing_key, verify
from tests.aws.account import Account
from tests.aws.wire import Reply, ask, send, signed

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SEGMENT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_characters="/\x7f"), min_size=1, max_size=8).filter(
    lambda text: not {".", ".."} & set(text.split("\\"))
)
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=8)


@given(st.sampled_from(["s3", "lambda"]), st.lists(SEGMENT, max_size=4), st.lists(st.tuples(SEGMENT, TEXT), max_size=4, unique_by=lambda each: each[0].lower()), st.binary(max_size=40))
def test_what_botocore_signs_is_verified_and_nothing_else_is(service: str, parts: list[str], query: list[tuple[str, str]], body: bytes) -> None:
    query = [(name, value) for name, value in query if not name.lower().startswith("x-amz-")]
    path = "/" + "/".join(escaped(part) for part in parts)
    target = path + ("?" + "&".join(f"{escaped(n)}={escaped(v)}" for n, v in query) if query else "")
    request = AWSRequest("PUT", f"https://host.example{target}", headers={"X-Amz-Meta-A": " b   c ", "Content-Type": "text/plain"}, data=body)
    (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials("OSTIKEY", SECRET, "token"), service, "us-east-1").add_auth(request)
    headers = (*((name.encode(), value.encode()) for name, value in request.headers.items()), (b"Host", b"host.example"))
    read = read_target(target.encode())
    said = read_signature(headers, read)
    payload = said.payload.decode() or hashlib.sha256(body).hexdigest()
    verify(said, b"PUT", read, headers, Secret(SECRET), payload)
    for method, secret, other in ((b"POST", SECRET, payload), (b"PUT", SECRET + "x", payload), (b"PUT", SECRET, "0" * 64)):
        with pytest.raises(NotSigned):
            verify(said, method, read, headers, Secret(secret), other)
    with pytest.raises(NotSigned):
        verify(said, b"PUT", read_target(target.encode() + (b"&" if query else b"?") + b"new=1"), headers, Secret(SECRET), payload)


SIZES = ((65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"), (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"), (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"))
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"


def of_example(payload: bytes = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD") -> Signed:
    return Signed("AKIAIOSFODNN7EXAMPLE", "20130524", "us-east-1", "s3", (b"host",), SEED, "20130524T000000Z", None, Secret("t"), payload)


def example() -> bytes:
    return b"".join(b"%x;chunk-signature=%b\r\n%b\r\n" % (size, sign.encode(), b"a" * size) for size, sign in SIZES)


def reader(payload: bytes = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", trailer: str = "") -> ChunkReader:
    return ChunkReader(of_example(payload), signing_key(Secret(SECRET), "20130524", "us-east-1", "s3"), trailer)


@pytest.mark.parametrize("step", [1 << 20, 4096, 7])
def test_the_example_of_awss_documentation_is_verified_however_it_is_cut(step: int) -> None:
    chunks, whole = reader(), example()
    found = b"".join(b"".join(chunks.feed(whole[at : at + step])) for at in range(0, len(whole), step))
    assert chunks.is_done
    assert found == b"a" * 66560


@pytest.mark.parametrize("change", [(b"aaa", b"aab"), (b"10000;", b"0ffff;"), (b"ad80", b"ad81"), (b"0;chunk", b"0;chunk-x"), (b"b6c6", b"b6c7")])
def test_a_chunk_that_was_changed_is_not_passed_on(change: tuple[bytes, bytes]) -> None:
    with pytest.raises(PeerMisbehaved):
        reader().feed(example().replace(*change, 1))


def test_chunks_that_end_early_or_go_on_are_no_body() -> None:
    chunks = reader()
    chunks.feed(example()[:-4])
    with pytest.raises(PeerMisbehaved):
        chunks.close()
    with pytest.raises(PeerMisbehaved):
        reader().feed(example() + b"x")


@pytest.mark.parametrize("trailer", [b"x-amz-checksum-crc32:AAAAAA==\r\n", b"x-amz-checksum-sha256:NhX4DJ0pPtdAJof5SyLVjlKbjMeRb4+sf933+9WvTPg=\r\n", b""])
def test_a_checksum_that_does_not_fit_is_seen(trailer: bytes) -> None:
    chunks = reader(b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-checksum-crc32")
    with pytest.raises(PeerMisbehaved):
        chunks.feed(b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n")
        chunks.close()


@pytest.mark.parametrize("size", [1000, 9 << 20])
def test_content_with_a_checksum_behind_it_goes_through(shared: Account, size: int) -> None:
    content = b"abcdefgh" * (size // 8)
    crc = base64.b64encode(zlib.crc32(content).to_bytes(4, "big"))
    body = b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % (len(content), content, crc)
    shared.direct("s3").create_bucket(Bucket="trailers")
    headers = [
        ["x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"], ["x-amz-trailer", "x-amz-checksum-crc32"],
        ["x-amz-decoded-content-length", str(len(content))], ["content-encoding", "aws-chunked"], ["content-type", "text/plain"],
    ]  # fmt: skip
    request = signed(shared, "PUT", "/trailers/k", host="s3.amazonaws.com", headers=headers, body=body)
    reply = send(shared, request, host="s3.amazonaws.com")
    assert reply.status == 200, reply.body
    assert shared.direct("s3").get_object(Bucket="trailers", Key="k")["Body"].read() == content


@pytest.mark.parametrize("size", [1000, 9 << 20])
def test_content_whose_chunks_are_signed_goes_through(shared: Account, size: int) -> None:
    content = b"abcdefgh" * (size // 8)
    shared.direct("s3").create_bucket(Bucket="chunks")
    headers = [
        ["x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"], ["x-amz-decoded-content-length", str(len(content))],
        ["content-encoding", "aws-chunked"], ["content-type", "text/plain"],
    ]  # fmt: skip
    request = signed(shared, "PUT", "/chunks/k", host="s3.amazonaws.com", headers=headers)
    at, previous = request.headers["X-Amz-Date"], request.headers["Authorization"].rpartition("=")[2]
    key = signing_key(shared.granted().secret, at[:8], "us-east-1", "s3")
    body = b""
    for piece in [*(content[start : start + (1 << 20)] for start in range(0, len(content), 1 << 20)), b""]:
        hashes = [hashlib.sha256(b"").hexdigest(), hashlib.sha256(piece).hexdigest()]
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", at, f"{at[:8]}/us-east-1/s3/aws4_request", previous, *hashes])
        previous = hmac.digest(key, text.encode(), "sha256").hex()
        body += b"%x;chunk-signature=%b\r\n%b\r\n" % (len(piece), previous.encode(), piece)
    reply = send(shared, request, host="s3.amazonaws.com", body=body)
    assert reply.status == 200, reply.body
    assert shared.direct("s3").get_object(Bucket="chunks", Key="k")["Body"].read() == content


def presigned_with(account: Account, path: str, extra: str, method: str = "GET") -> Reply:
    """A presigned URL with more in its query, which is signed with it."""
    keys = account.granted()
    request = AWSRequest(method, f"http://s3.amazonaws.com{path}?{extra}")
    credentials = Credentials(keys.access_key, keys.secret.reveal(), keys.session_token.reveal())
    S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=60).add_auth(request)
    return send(account, request, host="s3.amazonaws.com")


def test_headers_in_the_query_of_a_presigned_request_are_headers_of_it(shared: Account, heard: list[str]) -> None:
    shared.direct("s3").create_bucket(Bucket="lifted")
    shared.direct("s3").put_object(Bucket="lifted", Key="k", Body=b"hello", ContentType="text/plain")
    shared.direct("s3").create_bucket(Bucket="secret-bucket-lifted")
    heard.clear()
    assert presigned_with(shared, "/lifted/k", "x-amz-checksum-mode=ENABLED&x-id=GetObject&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD").body == b"hello"
    source = "x-amz-copy-source=%2Fsecret-bucket-lifted%2Fk"
    assert b"no-secret-bucket" in presigned_with(shared, "/lifted/copy", source, "PUT").body, "and are judged as such"
    for twice in (source + "&X-Amz-Copy-Source=lifted/k", "x-amz-no-such-thing=1", "x-amz-expected-bucket-owner=666666666666", "x-amz-acl=%C3%BC"):
        assert presigned_with(shared, "/lifted/other", twice, "PUT").status in (400, 403)
    assert heard == ["GET /lifted/k"]


def test_they_are_none_where_the_signature_stands_in_a_header(shared: Account, heard: list[str]) -> None:
    assert ask(shared, "GET", "/plain/k?x-amz-checksum-mode=ENABLED", host="s3.amazonaws.com").status == 400
    assert heard == []
