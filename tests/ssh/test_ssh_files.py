"""Content of files: masked, refused or clear as the connection and policy say, and kept where that is wanted."""

from __future__ import annotations

import asyncio
import base64
import random
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ostiary.cli.recordings import records
from ostiary.config.load import load
from ostiary.masking.detectors import DETECTORS, scrub
from ostiary.masking.mask import mask
from ostiary.model.proofs import Intended
from ostiary.protocols.ssh import sftp
from ostiary.protocols.ssh.files import Files, _File
from ostiary.protocols.ssh.messages import string, u32
from ostiary.protocols.ssh.operations import Ground
from ostiary.protocols.ssh.sftp import Asking, Kind
from ostiary.vault.payload_reading import Record
from tests.ssh.conftest import Lab, make_lab
from tests.ssh.test_ssh_sessions import connected, replayed

CARD, SSN = b"4111 1111 1111 1111", b"078-05-1120"
GROUND = Ground(connection="web", home=None, protected=())
SEEN = """
@id("auditors-see") permit (principal in Ostiary::Group::"auditors", action == Ostiary::Action::"unmask", resource == Ostiary::DataClass::"ssn");
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with make_lab(tmp_path_factory.mktemp("files"), more_policy=SEEN, files="mask", keep_files=True) as made:
        yield made


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with make_lab(tmp_path_factory.mktemp("strict"), more_policy=SEEN, files="refuse") as made:
        yield made


def text(value: bytes, size: int = 200_000) -> bytes:
    """A long text with a value in the middle of every tenth of it."""
    part = (b"a line of text that says nothing\n" * size)[: size // 10]
    return b"".join(part[: len(part) // 2] + value + part[len(part) // 2 :] for _ in range(10))


def pieces(lab: Lab, name: str, size: int, places: Iterable[int]) -> dict[int, bytes]:
    """What is read of a file there, each place on its own."""

    async def read() -> dict[int, bytes]:
        async with await connected(lab) as connection, connection.start_sftp_client() as files, files.open(f"{lab.home}/{name}", "rb") as file:
            return {at: bytes(await file.read(size, at)) for at in places}

    return asyncio.run(read())


def long_values() -> bytes:
    """A text with a private key and a JWT that are longer than what is read beside a piece."""
    letters = base64.b64encode(bytes(random.Random(7).randbytes(6000)))
    key = b"\n".join(letters[at : at + 64] for at in range(0, 3200, 64))
    token = b"eyJhbGciOiJSUzI1NiJ9." + letters[3200:].replace(b"+", b"-").replace(b"/", b"_")
    plain = b"a line of text that says nothing\n" * 60
    return plain + b"-----BEGIN PRIVATE KEY-----\n" + key + b"\n-----END PRIVATE KEY-----\n" + plain + b"token " + token + b" end\n" + plain


@pytest.mark.parametrize(("size", "step", "backwards"), [(700, 499, False), (700, 499, True), (1024, 1024, False), (20_000, 3000, True)])
def test_a_value_longer_than_what_stands_beside_is_masked_from_any_place_in_it(lab: Lab, size: int, step: int, backwards: bool) -> None:
    whole = long_values()
    (lab.home / "values").write_bytes(whole)
    masked = scrub(whole)
    assert masked.count(b"*") > 7000
    places = range(0, len(whole), step)
    for at, got in pieces(lab, "values", size, reversed(places) if backwards else places).items():
        assert got == masked[at : at + size], at


def test_a_value_over_which_a_server_ends_its_answer_is_masked() -> None:
    """Servers may send less than was asked for, at any place."""
    whole = b"plain text and card " + CARD + b" and more\n"
    for short in range(1, len(whole)):
        assert read_by(Files(GROUND, detects=True, keeps=False, links=False), whole, short) == scrub(whole), short


def read_by(files: Files, whole: bytes, short: int) -> bytes:
    """Read all of a file from a server whose first answer is that short."""

    def ask(asking: Asking) -> bytes:
        list(files.asks(sftp.write_request(asking, asking.id)))
        return files.order(deque())

    def answered(packet: bytes) -> bytes:
        found = b"".join(mask(frozenset(), batch, DETECTORS).frames for batch, _ in files.results(packet))
        return found[5:]

    ask(Asking(kind=Kind.INIT, id=3))
    answered(sftp.packet(Kind.VERSION, u32(3)))
    files._handles[b"h"] = _File(Intended(None, "e", 0), "/f", reads=True, writes=False)  # type: ignore[arg-type]
    got, number = b"", 0
    while len(got) < len(whole):
        number += 1
        (raw,) = sftp.cut(bytearray(ask(Asking(kind=Kind.READ, id=number, handle=b"h", offset=len(got), length=1000))))
        sent = sftp.read_request(raw)
        assert sent is not None
        data = whole[sent.offset :][: short if number == 1 else sent.length]
        (raw,) = sftp.cut(bytearray(answered(sftp.packet(Kind.DATA, u32(sent.id), string(data)))))
        piece = bytes(sftp.read_answer(raw).content or b"")
        assert piece, "each answer brings something"
        got += piece
    return got


def test_what_is_downloaded_is_masked_however_it_is_read_and_what_is_uploaded_is_not(lab: Lab, tmp_path: Path) -> None:
    (lab.home / "long").write_bytes(text(b" " + SSN + b" "))
    assert lab.scp(lab.remote(lab.home / "long"), str(tmp_path / "got")).returncode == 0
    assert (tmp_path / "got").read_bytes() == text(b" *********** ")

    whole = b"ssn " + SSN + b" card " + CARD + b"\n"
    assert (lab.home / "note.txt").read_bytes() == whole
    for at, got in pieces(lab, "note.txt", 7, range(41)).items():
        assert got == scrub(whole)[at : at + 7], at

    (tmp_path / "up").write_bytes(b"mine " + SSN)
    assert lab.scp(str(tmp_path / "up"), lab.remote(lab.home / "up")).returncode == 0
    assert (lab.home / "up").read_bytes() == b"mine " + SSN


def test_policy_says_who_sees_which_class_in_clear(lab: Lab, strict: Lab, tmp_path: Path) -> None:
    for each in (lab, strict):
        (each.home / "ssn").write_bytes(b"ssn " + SSN + b"\n")
        target = tmp_path / each.home.parent.name
        assert each.scp(each.remote(each.home / "ssn"), str(target), groups=["auditors"]).returncode == 0
        assert target.read_bytes() == b"ssn " + SSN + b"\n"


def test_bytes_that_are_no_text_pass_as_they_are(lab: Lab, tmp_path: Path) -> None:
    data = bytes(range(256)) * 100 + SSN
    (lab.home / "binary").write_bytes(data)
    assert lab.scp(lab.remote(lab.home / "binary"), str(tmp_path / "binary")).returncode == 0
    assert (tmp_path / "binary").read_bytes() == data


def test_a_copy_of_what_was_moved_is_in_the_recording_and_masked(lab: Lab, tmp_path: Path) -> None:
    (lab.home / "kept").write_bytes(b"treasure map " + SSN + b"\n")
    assert lab.scp(lab.remote(lab.home / "kept"), str(tmp_path / "kept")).returncode == 0
    (tmp_path / "sent").write_bytes(b"a letter home\n")
    assert lab.scp(str(tmp_path / "sent"), lab.remote(lab.home / "sent")).returncode == 0
    sessions = [entry["session"] for entry in lab.entries("session.start")][-2:]
    data = [b"".join(r.data for r in records(load(lab.gateway.config), each, None) if isinstance(r, Record)) for each in sessions]
    assert b"treasure map ***********" in data[0]
    assert SSN not in data[0]
    assert b"a letter home" in data[1]
    for each in sessions:
        assert all(char.isprintable() or char in "\n\t" for char in replayed(lab, each))  # a tab may stand in an attribute's time


def test_a_file_in_which_something_is_found_is_refused_and_nothing_of_it_leaves(strict: Lab, tmp_path: Path) -> None:
    (strict.home / "long").write_bytes(text(b" card " + CARD + b" "))
    done = strict.scp(strict.remote(strict.home / "long"), str(tmp_path / "got"))
    assert (done.returncode, b"Permission denied" in done.stderr) == (1, True), done.stderr
    assert CARD not in (tmp_path / "got").read_bytes()
    (outcome,) = [e for e in strict.entries("outcome") if e["session"] == strict.last("session.end")["session"] and e["result"].get("masked")]
    assert outcome["result"]["status"] == "error"
    assert "card" in outcome["result"]["error"]
    (strict.home / "plain").write_bytes(text(b" nothing "))
    assert strict.scp(strict.remote(strict.home / "plain"), str(tmp_path / "plain")).returncode == 0
    assert (tmp_path / "plain").read_bytes() == text(b" nothing ")


def test_transfers_that_cannot_be_looked_into_need_to_be_permitted_by_name(lab: Lab, strict: Lab, tmp_path: Path) -> None:
    for each in (lab, strict):
        done = each.scp("-O", each.remote(each.home / "note.txt"), str(tmp_path / "old"))
        assert done.returncode != 0
        assert not (tmp_path / "old").exists()
