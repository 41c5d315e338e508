"""Secrets are found where a reference says, and refused where somebody else could have read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ostiary.model.errors import ConfigError
from ostiary.model.secrets import SecretRef
from ostiary.vault.keys import KeyEncryptionKey, create_key_file, load_key_file
from ostiary.vault.references import parse_ref, resolve


def secret_file(tmp_path: Path, data: bytes, mode: int = 0o600) -> SecretRef:
    path = tmp_path / "secret"
    path.write_bytes(data)
    path.chmod(mode)
    return SecretRef("file", str(path))


@pytest.mark.parametrize(
    "text", ["hunter2", "hunter2:x", "env:", "env:hunter 2", "env:1A", "file:relative", "file:", "FILE:/x", ""]
)
def test_a_mistyped_reference_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_ref(text, "connections.db.password")
    assert caught.value.key == "connections.db.password"
    assert "hunter" not in str(caught.value)


def test_a_reference_reads_as_it_was_written() -> None:
    assert str(parse_ref("env:PGPASS", "k")) == "env:PGPASS"
    assert str(parse_ref("file:/run/x:y", "k")) == "file:/run/x:y"


@pytest.mark.parametrize(
    ("raw", "value"), [(b"x", "x"), (b"x\n", "x"), (b"x\r\n", "x"), (b"x\n\n", "x\n"), (b" x ", " x ")]
)
def test_one_line_ending_is_stripped_and_nothing_else(tmp_path: Path, raw: bytes, value: str) -> None:
    assert resolve(secret_file(tmp_path, raw)).reveal() == value


@pytest.mark.parametrize("raw", [b"", b"\n", b"a\0b", b"\xff\xfe", b"x" * 70_000])
def test_what_can_be_no_secret_is_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(ConfigError):
        resolve(secret_file(tmp_path, raw))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o620, 0o602, 0o610, 0o601])
def test_a_file_open_to_others_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        resolve(secret_file(tmp_path, b"x", mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file that root owns")
def test_a_group_may_read_what_root_owns(tmp_path: Path) -> None:
    assert resolve(secret_file(tmp_path, b"x", 0o440)).reveal() == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    ref = secret_file(tmp_path, b"x")
    os.chown(ref.place, 12345, 12345)
    with pytest.raises(ConfigError, match="another user"):
        resolve(ref)


def test_folders_pipes_and_absent_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("pipe", "absent", "."):
        with pytest.raises(ConfigError):
            resolve(SecretRef("file", str(tmp_path / name)))


def test_the_environment_gives_a_value_or_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_TEST_SECRET", "s3cret\n")
    secret = resolve(SecretRef("env", "OSTIARY_TEST_SECRET"))
    assert secret.reveal() == "s3cret"
    assert "s3cret" not in repr(secret)
    monkeypatch.delenv("OSTIARY_TEST_SECRET")
    with pytest.raises(ConfigError, match="not set"):
        resolve(SecretRef("env", "OSTIARY_TEST_SECRET"))


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    made = create_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key_file(path) == made
    assert len(bytes.fromhex(made.id)) == 8
    with pytest.raises(ConfigError, match="destroy"):
        create_key_file(path)
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="5 bytes"):
        load_key_file(path)
    with pytest.raises(ValueError, match="32"):
        KeyEncryptionKey.from_bytes(b"")
