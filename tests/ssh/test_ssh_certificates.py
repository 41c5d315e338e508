"""Login by a certificate of the gateway's authority: made by the command, used by vanilla `ssh`, good for its key and its token alone."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ostiary.api.words import GRANT, JWT
from ostiary.identity.ssh import TOKEN, load_authority, read_login, read_user_key, thumbprint, user_certificate
from ostiary.model.errors import NotAdmitted
from tests.ssh.conftest import Lab


def certified(lab: Lab, folder: Path, *options: str, subject: str = "ana", **claims: Any) -> Path:
    """A key with a certificate, by the command."""
    token, key = folder / "token", folder / "key"
    token.write_text(lab.gateway.token(subject, **claims))
    token.chmod(0o600)
    done = lab.gateway.run("ssh-cert", "web", "--key", str(key), "--from", f"file:{token}", "-c", str(lab.gateway.config), *options)
    assert done.returncode == 0, done.stderr
    return key


def ssh(lab: Lab, key: Path, *words: str, config: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    options = ["-F", str(config or "none"), "-o", "BatchMode=yes"]
    if config is None:
        options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i", str(key), "-p", str(lab.port)]
        words = ("web@127.0.0.1", *words)
    return subprocess.run(["ssh", *options, *words], capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def test_the_command_makes_a_key_and_a_certificate_and_vanilla_ssh_logs_in_with_the_printed_stanza(lab: Lab, tmp_path: Path) -> None:
    key = certified(lab, tmp_path, groups=["operators"])
    assert key.stat().st_mode & 0o777 == 0o600
    printed = lab.gateway.run("ssh-config", "web", "--key", str(key), "-c", str(lab.gateway.config))
    assert printed.returncode == 0, printed.stderr
    config = tmp_path / "config"
    config.write_text(printed.stdout)
    done = ssh(lab, key, "web", f"cat {lab.home}/secret.env; echo done", config=config)
    assert (done.returncode, done.stdout) == (0, b"PASSWORD=hunter2hunter2\ndone\n"), done.stderr
    assert b"TERM" in ssh(lab, key, "-tt", "web", "true; echo TERM", config=config).stdout  # a terminal is in it
    intent = lab.last("intent")
    assert (intent["who"]["sub"], intent["who"]["groups"]) == ("ana", ["operators"])
    shown = subprocess.run(["ssh-keygen", "-L", "-f", f"{key}-cert.pub"], capture_output=True, text=True, check=True).stdout
    assert "user certificate" in shown
    assert "Principals: \n                web\n" in shown
    assert ":ana" in shown
    assert "permit-agent-forwarding" not in shown
    issued = [e for e in lab.entries("login") if "token.ssh" in json.dumps(e)]
    assert issued[-1]["who"]["sub"] == "ana"


def test_a_certificate_is_revoked_with_the_token_that_it_was_made_from(lab: Lab, tmp_path: Path) -> None:
    api = f"http://127.0.0.1:{lab.gateway.api_port}"
    form = {"grant_type": GRANT, "subject_token": lab.gateway.token("rose"), "subject_token_type": JWT, "audience": "web"}
    token = httpx.post(f"{api}/v1/token", data=form).json()["access_token"]
    key = asyncssh.generate_private_key("ssh-ed25519")
    body = {"public_key": key.export_public_key().decode(), "connections": ["web"]}
    answer = httpx.post(f"{api}/v1/ssh/certificates", json=body, headers={"authorization": f"Bearer {token}"}).json()
    certificate = asyncssh.import_certificate(answer["certificate"])

    async def act() -> None:
        async with await connected(lab, key, certificate) as connection:
            process = await connection.create_process("echo begun; sleep 600")
            await process.stdout.readline()
            assert (await asyncio.to_thread(httpx.post, f"{api}/v1/revoke", data={"token": token})).status_code == 200
            await asyncio.wait_for(connection.wait_closed(), 60)
        with pytest.raises(asyncssh.PermissionDenied):
            await connected(lab, key, certificate)

    asyncio.run(act())
    assert lab.last("session.end")["result"]["status"] == "REVOKED_TOKEN"


async def connected(lab: Lab, key: Any, certificate: Any, user: str = "web") -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        "127.0.0.1", lab.port, known_hosts=None, username=user, client_keys=[(key, certificate)], config=None, agent_path=None,
        password=None, preferred_auth=["publickey"],
    )  # fmt: skip


def forged(lab: Lab, key: Any, **changed: Any) -> str:
    """A certificate that the gateway's own authority signs, as it never would."""
    settings: dict[str, Any] = {
        "token": lab.gateway.token(), "principals": ["web"], "key_id": "x", "sources": (), "until": 1 << 40, "now": 100,
    }  # fmt: skip
    return user_certificate(
        changed.pop("authority", load_authority(lab.gateway.state / "keys")), read_user_key(key.export_public_key().decode()), **(settings | changed)
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda lab: {"authority": Ed25519PrivateKey.generate()}, None),
        (lambda lab: {}, "BAD_TOKEN"),  # a token that is not bound to the key
        (lambda lab: {"principals": ["db"]}, "WRONG_AUDIENCE"),
        (lambda lab: {"until": 200}, "EXPIRED_TOKEN"),
        (lambda lab: {"now": 1 << 39}, "EXPIRED_TOKEN"),
        (lambda lab: {"sources": ["192.0.2.0/24"]}, "BAD_TOKEN"),
        (lambda lab: {"token": "x"}, "BAD_TOKEN"),
    ],
    ids=["another authority", "unbound", "another connection", "expired", "not yet", "from elsewhere", "no token"],
)
def test_ssh_059_a_certificate_that_is_not_quite_right_lets_nobody_in_and_one_of_ours_is_on_record_once(
    lab: Lab, changed: Callable[[Lab], dict[str, Any]], reason: str | None
) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    line = forged(lab, key, **changed(lab))
    before, known = len(lab.entries("session.start")), len(lab.entries("login"))
    with pytest.raises((asyncssh.PermissionDenied, asyncssh.ConnectionLost)):
        asyncio.run(connected(lab, key, asyncssh.import_certificate(line)))
    assert len(lab.entries("session.start")) == before
    refused = [each["login"]["reason"] for each in lab.entries("login")[known:]]
    assert refused == ([] if reason is None else [reason])


def test_ssh_058_a_stolen_certificate_without_its_key_lets_nobody_in_nor_does_what_it_carries(lab: Lab, tmp_path: Path) -> None:
    key = certified(lab, tmp_path)
    line = Path(f"{key}-cert.pub").read_text()
    blob = asyncssh.import_certificate(line).public_data
    authority = load_authority(lab.gateway.state / "keys").public_key().public_bytes_raw()
    token, bound = read_login(blob, authority, "web", time.time())
    assert bound == thumbprint(read_user_key(Path(f"{key}.pub").read_text()))
    with pytest.raises(NotAdmitted):
        read_login(blob, authority, "db", time.time())

    async def by_token() -> None:
        await asyncssh.connect("127.0.0.1", lab.port, known_hosts=None, username="web", password=token.reveal(), client_keys=None, config=None)

    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(by_token())
    other = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises((asyncssh.Error, ValueError)):
        asyncio.run(connected(lab, other, asyncssh.import_certificate(line)))
    stolen, real = asyncssh.import_certificate(line), asyncssh.read_private_key(key)
    known = len(lab.entries("login"))
    with pytest.MonkeyPatch.context() as patch:
        sign = type(real).sign
        patch.setattr(type(real), "sign", lambda _self, data, algorithm: sign(other, data, algorithm))
        with pytest.raises((asyncssh.Error, ValueError)):
            asyncio.run(connected(lab, real, stolen))
    assert [each["login"]["reason"] for each in lab.entries("login")[known:]] == ["BAD_TOKEN"]


def test_a_certificate_for_no_connection_is_for_none() -> None:
    authority, key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    builder = ser.SSHCertificateBuilder().public_key(key.public_key()).serial(1).type(ser.SSHCertificateType.USER).key_id(b"x")
    builder = builder.valid_for_all_principals().valid_after(1).valid_before(9).add_extension(TOKEN, b"t")
    for made, reason in ((builder, "connections"), (builder.add_critical_option(b"force-command", b"x"), "connections")):
        blob = base64.b64decode(made.sign(authority).public_bytes().split(b" ")[1])
        with pytest.raises(NotAdmitted, match=reason):
            read_login(blob, authority.public_key().public_bytes_raw(), "web", 5)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_reading_any_bytes_as_a_certificate_is_a_no(data: bytes, cut: int) -> None:
    whole = b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com" + data
    for blob in (data, whole, whole[:cut]):
        with pytest.raises(NotAdmitted):
            read_login(blob, bytes(32), "web", 5)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"public_key": "x", "connections": ["web"]}, "public key"),
        ({"public_key": "@KEY@", "connections": []}, "name at least one"),
        ({"public_key": "@KEY@", "connections": ["web"], "sources": ["here"]}, "here"),
        ({"public_key": "@KEY@", "connections": ["web"], "force": 1}, "force"),
        ({"public_key": "@KEY@", "connections": ["nowhere"]}, ""),
    ],
)
def test_a_request_that_cannot_be_met_says_why(lab: Lab, body: dict[str, Any], sentence: str) -> None:
    api = f"http://127.0.0.1:{lab.gateway.api_port}"
    form = {"grant_type": GRANT, "subject_token": lab.gateway.token(), "subject_token_type": JWT, "audience": "web"}
    token = httpx.post(f"{api}/v1/token", data=form).json()["access_token"]
    line = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    sent = {name: line if value == "@KEY@" else value for name, value in body.items()}
    answer = httpx.post(f"{api}/v1/ssh/certificates", json=sent, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code in {400, 403}
    assert sentence in answer.json()["error"]
    assert httpx.post(f"{api}/v1/ssh/certificates", json=sent).status_code in {400, 403}
