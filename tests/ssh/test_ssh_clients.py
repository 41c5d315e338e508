"""Vanilla clients before a real OpenSSH server: every command and file is decided, masked, and on record under who did it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from pathlib import Path

import asyncssh
import paramiko
import pytest

from tests.ssh.conftest import BY_PASSWORD, Lab


def test_a_command_runs_and_its_streams_and_status_come_back(lab: Lab) -> None:
    done = lab.ssh("echo hi; echo oops >&2; true; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"hi\n", b"oops\n")
    intent, outcome = lab.last("intent"), lab.last("outcome")
    assert intent["who"]["sub"] == "ana"
    assert intent["op"]["name"] == "exec"
    assert [each["name"] for each in intent["op"]["objects"] if each["kind"] == "command"] == ["echo", "echo", "true", "exit"]
    assert outcome["ref"] == intent["id"]
    assert outcome["result"]["tag"] == "exit 3"


def test_the_hosts_own_log_names_the_person_and_the_session(lab: Lab) -> None:
    assert lab.ssh("true").returncode == 0
    session = lab.last("session.start")["session"]
    assert f'Accepted certificate ID "ostiary:{session}:ana"' in lab.server.log()


def test_input_and_output_of_any_size_come_through(lab: Lab) -> None:
    data = os.urandom(3_000_000).replace(b"@", b"_")
    done = lab.ssh("cat", stdin=data)
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_output_is_masked_and_a_protected_file_whole(lab: Lab) -> None:
    assert lab.ssh(f"cat {lab.home}/note.txt").stdout == b"ssn *********** card *******************\n"
    assert lab.last("outcome")["result"]["masked"] == {"card": 1, "ssn": 1}
    hidden = lab.ssh(f"cat {lab.home}/secret.env").stdout
    assert hidden == b"*" * (len(hidden) - 1) + b"\n"
    assert lab.last("outcome")["result"]["masked"] == {"keys": 1}
    shown = lab.ssh(f"cat {lab.home}/secret.env", groups=["operators"])
    assert shown.stdout == b"PASSWORD=hunter2hunter2\n"
    assert b"hunter2" not in b"".join(content for path, content in lab.gateway.written() if path.suffix in {".wal", ""})


def test_a_refused_command_says_why_and_is_on_record(lab: Lab) -> None:
    done = lab.ssh(f"cat {lab.srv}/flag")
    assert done.returncode == 126
    assert b"policy no-flag forbids read on file" in done.stderr
    denied = lab.last("deny")
    assert denied["decision"]["policies"] == ["no-flag"]
    assert denied["stmt"]["len"] == len(f"cat {lab.srv}/flag")
    assert denied["stmt"]["blob"]


def test_environment_passes_by_the_list_alone(lab: Lab) -> None:
    options = ("-o", "SetEnv=LC_TEST=yes", "-o", "SetEnv=LD_PRELOAD=/tmp/x.so")
    denied = lab.ssh("env", options=options)
    assert denied.returncode == 126  # a launcher
    done = lab.run("ssh", *BY_PASSWORD, *options, "-p", str(lab.port), "web@127.0.0.1", "env", groups=["operators"])
    assert b"LD_PRELOAD" not in done.stdout


@pytest.mark.parametrize("form", [(), ("-O",)], ids=["sftp", "scp"])
def test_scp_moves_files_both_ways_and_the_record_holds_size_and_digest(lab: Lab, tmp_path: Path, form: tuple[str, ...]) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "up").write_bytes(data)
    there = lab.home / f"file{len(form)}"
    assert lab.scp(*form, str(tmp_path / "up"), lab.remote(there)).returncode == 0
    assert there.read_bytes() == data
    assert lab.scp(*form, lab.remote(there), str(tmp_path / "down")).returncode == 0
    assert (tmp_path / "down").read_bytes() == data
    if not form:
        digest = hashlib.sha256(data).hexdigest()
        tags = [entry["result"].get("tag", "") for entry in lab.entries("outcome")]
        assert tags.count(f"2000000 bytes, sha256 {digest}") >= 2
    refused = lab.scp(*form, str(tmp_path / "up"), lab.remote(lab.srv / "new"))
    assert refused.returncode != 0
    assert not (lab.srv / "new").exists()


def test_sftp_is_judged_file_by_file(lab: Lab, tmp_path: Path) -> None:
    (lab.home / "a").write_text("content")
    (tmp_path / "u").write_text("upload")
    done = lab.sftp(
        f"cd {lab.home}\nls -l\nget a {tmp_path}/a\nput {tmp_path}/u u\nrename u v\nchmod 600 v\nmkdir d\nrmdir d\nsymlink v w\nrm v\n"
        f"get {lab.srv}/flag {tmp_path}/flag\n"
    )
    assert (tmp_path / "a").read_text() == "content", done
    assert not (tmp_path / "flag").exists()
    names = [entry["op"]["name"] for entry in lab.entries("intent")]
    for name in ("open", "opendir", "posix-rename", "setstat", "mkdir", "rmdir", "symlink", "remove"):
        assert name in names, name
    assert lab.last("deny")["op"]["objects"][0]["name"].startswith(str(lab.srv))


def test_links_and_dots_lead_nowhere_that_policy_does_not_permit(lab: Lab, tmp_path: Path) -> None:
    (lab.home / "out").symlink_to(lab.srv)  # made by somebody else
    (lab.home / "deep").mkdir(exist_ok=True)
    script = "\n".join(
        [f"get {lab.home}/out/flag {tmp_path}/1", f"get {lab.home}/../srv/flag {tmp_path}/2", f"get {lab.home}/deep/../out/flag {tmp_path}/3",
         f"symlink {lab.srv}/flag {lab.home}/mine", f"ln {lab.srv}/flag {lab.home}/mine2", f"rename {lab.home}/note.txt {lab.home}/out/new",
         f"put {tmp_path}/x {lab.home}/out/x", f"mkdir {lab.home}/out/dir", f"ls {lab.home}/out", f"rm {lab.home}/out/flag"]
    )  # fmt: skip
    (tmp_path / "x").write_text("x")
    said = lab.sftp("-" + script.replace("\n", "\n-"))
    assert b"FLAG{" not in said.stdout + said.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert not (lab.home / "mine").is_symlink()
    assert not (lab.home / "mine2").exists()
    assert sorted(path.name for path in lab.srv.iterdir()) == ["flag"]
    (lab.home / "out").unlink()


def test_a_protected_file_is_not_taken_nor_copied_past_its_mask(lab: Lab, tmp_path: Path) -> None:
    lab.sftp(f"-get {lab.home}/secret.env {tmp_path}/s\n-rename {lab.home}/secret.env {lab.home}/plain\n-ln {lab.home}/secret.env {lab.home}/plain2")
    assert list(tmp_path.iterdir()) == []
    assert (lab.home / "secret.env").exists()
    assert not (lab.home / "plain2").exists()
    assert lab.scp("-O", lab.remote(lab.home / "secret.env"), str(tmp_path)).returncode != 0
    lab.sftp(f"get {lab.home}/secret.env {tmp_path}/s", groups=["operators"])
    assert (tmp_path / "s").read_text() == "PASSWORD=hunter2hunter2\n"


def test_rsync_moves_a_tree_both_ways(lab: Lab, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "one").write_bytes(os.urandom(100_000))
    (tree / "sub" / "two").write_text("two")
    there = lab.remote(lab.home / "tree")
    up = lab.rsync("-a", "--delete", f"{tree}/", there + "/")
    assert up.returncode == 0, up
    # What it takes may hold `*.env`, which is protected.
    assert lab.rsync("-a", there + "/", f"{tmp_path}/back/").returncode != 0
    assert lab.rsync("-dt", there + "/", f"{tmp_path}/back/").returncode != 0
    down = lab.rsync("-a", there + "/", f"{tmp_path}/back/", groups=["operators"])
    assert down.returncode == 0, down
    assert (tmp_path / "back" / "one").read_bytes() == (tree / "one").read_bytes()
    assert lab.rsync("-a", lab.remote(lab.srv) + "/", f"{tmp_path}/stolen/").returncode != 0
    assert lab.last("deny")["op"]["name"] == "rsync"


def test_git_clones_and_pushes(lab: Lab, tmp_path: Path) -> None:
    bare = lab.home / "repo.git"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    url = f"ssh://web@127.0.0.1:{lab.port}{bare}"
    env = {**lab.environment(groups=["operators"]), "GIT_SSH_COMMAND": lab.shell_transport(), "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(tmp_path)}

    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@x.y", *words], check=True, env=env, cwd=tmp_path, capture_output=True)

    git("clone", "-q", url, "work")
    (tmp_path / "work" / "f").write_text("x" * 1000)
    git("-C", "work", "add", "f")
    git("-C", "work", "commit", "-qm", "one")
    git("-C", "work", "push", "-q", "origin", "HEAD:main")
    git("clone", "-q", "-b", "main", url, "again")
    assert (tmp_path / "again" / "f").read_text() == "x" * 1000


def test_paramiko_runs_commands_and_reads_files(lab: Lab) -> None:
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("127.0.0.1", lab.port, "web", lab.gateway.token(), look_for_keys=False, allow_agent=False)
    try:
        _, out, _ = client.exec_command(f"cat {lab.home}/note.txt")
        assert b"***" in out.read()
        data = os.urandom(500_000)
        with client.open_sftp() as sftp:
            with sftp.open(str(lab.home / "p"), "wb") as file:
                file.write(data)
            with sftp.open(str(lab.home / "p"), "rb") as file:
                file.prefetch()
                assert file.read() == data
            with pytest.raises(PermissionError):
                sftp.open(str(lab.srv / "flag"))
    finally:
        client.close()


def test_many_channels_share_a_session(lab: Lab) -> None:
    async def act() -> None:
        options = {"known_hosts": None, "username": "web", "password": lab.gateway.token(), "client_keys": None, "config": None}
        async with asyncssh.connect("127.0.0.1", lab.port, **options) as connection:
            many = await asyncio.gather(*(connection.run(f"echo {n}; seq 2000") for n in range(20)))
            assert [str(each.stdout).split("\n")[0] for each in many] == [str(n) for n in range(20)]
            refused = await connection.run(f"cat {lab.srv}/flag")
            assert refused.exit_status == 126
            assert (await connection.run("echo still")).stdout == "still\n"

    asyncio.run(act())
    session = lab.last("session.start")["session"]
    assert len([e for e in lab.entries("intent") if e["session"] == session]) == 21


def test_the_gateways_own_host_key_comes_with_a_certificate(lab: Lab, tmp_path: Path) -> None:
    authority = (lab.gateway.state / "keys" / "ssh-host-ca.pub").read_text()
    (tmp_path / "known").write_text(f"@cert-authority [127.0.0.1]:{lab.port} {authority}")
    options = ["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "PubkeyAuthentication=no"]
    assert lab.run("ssh", *options, "-p", str(lab.port), "web@127.0.0.1", "true").returncode == 0


@pytest.mark.parametrize("connection", ["nowhere", "web%root", "web\nx", "root", "web:22", ""])
def test_the_user_name_is_a_connection_and_nothing_else(lab: Lab, connection: str) -> None:
    async def act() -> None:
        await asyncssh.connect(
            "127.0.0.1", lab.port, known_hosts=None, username=connection, password=lab.gateway.token(), client_keys=None, config=None
        )

    with pytest.raises((asyncssh.Error, ValueError)):
        asyncio.run(act())


@pytest.mark.parametrize("token", ["", "x", "eyJhbGciOiJub25lIn0.e30."])
def test_no_token_no_login_and_the_attempt_is_on_record(lab: Lab, token: str) -> None:
    async def act() -> None:
        await asyncssh.connect(
            "127.0.0.1", lab.port, known_hosts=None, username="web", password=token, client_keys=None, config=None, preferred_auth=["password"]
        )  # fmt: skip

    before = len(lab.entries("login"))
    with pytest.raises(asyncssh.Error):
        asyncio.run(act())
    assert len(lab.entries("login")) > before
