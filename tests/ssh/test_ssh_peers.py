"""Clients that do more with a connection than run one command: Ansible, multiplexing, rekeying, keepalives, slow readers, links in both orders."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import paramiko
import pytest

from ostiary.protocols.ssh import sftp
from ostiary.protocols.ssh.files import Files
from ostiary.protocols.ssh.messages import string, u32
from ostiary.protocols.ssh.operations import Ground
from tests.ssh.conftest import BY_PASSWORD, Lab, make_lab
from tests.ssh.test_ssh_sessions import connected, of, until

AUTOMATION = """
@id("automation") permit (principal in Ostiary::Group::"automation", action == Ostiary::Action::"opaque", resource is Ostiary::Command);
@id("piped") permit (principal in Ostiary::Group::"automation", action == Ostiary::Action::"execute", resource in Ostiary::Program::"web/dd");
"""
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.ping:
    - ansible.builtin.copy: {{src: {here}/given.txt, dest: {there}/given.txt, mode: "0640"}}
    - ansible.builtin.command: wc -c {there}/given.txt
      register: counted
    - ansible.builtin.assert: {{that: "counted.stdout is match('300000 ')"}}
    - ansible.builtin.fetch: {{src: {there}/given.txt, dest: {here}/taken.txt, flat: true}}
"""


@pytest.fixture(scope="module")
def automated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    # No cards: Ansible reads back the names of its temporary folders, and in seven of a thousand stand the digits of one.
    detect = ["email", "iban", "ssn", "secret"]
    with make_lab(
        tmp_path_factory.mktemp("automated"), more_policy=AUTOMATION, sections={"listen.ssh": {"rekey_bytes": 1 << 20}}, detect=detect
    ) as made:
        yield made


@pytest.mark.parametrize("way", ["sftp", "scp", "piped"])
def test_ansible_copies_runs_and_fetches(automated: Lab, tmp_path: Path, way: str) -> None:
    lab, there = automated, automated.home / way
    there.mkdir()
    (tmp_path / "given.txt").write_text("x" * 300_000)
    (tmp_path / "play.yml").write_text(PLAYBOOK.format(here=tmp_path, there=there))
    token = lab.gateway.token(groups=["automation"])
    settings = {
        "ansible_host": "127.0.0.1", "ansible_port": str(lab.port), "ansible_user": "web", "ansible_password": token, "ansible_ssh_transfer_method": way,
        "ansible_remote_tmp": f"{there}/tmp", "ansible_python_interpreter": sys.executable, "ansible_host_key_checking": "false",
        "ansible_ssh_common_args": "'" + " ".join(BY_PASSWORD) + "'", "ansible_control_path_dir": str(tmp_path / "cp"),
    }  # fmt: skip
    (tmp_path / "hosts").write_text("web " + " ".join(f"{name}={value}" for name, value in settings.items()) + "\n")
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    environment = {**os.environ, "HOME": str(tmp_path), "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"), "ANSIBLE_NOCOWS": "1", "ANSIBLE_HOST_KEY_CHECKING": "False", "LC_ALL": "C.UTF-8"}
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts"), str(tmp_path / "play.yml")]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (there / "given.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "taken.txt").read_text() == "x" * 300_000
    assert {each["who"]["sub"] for each in lab.entries("intent")} == {"ana"}
    assert any(str(there) in str(each["op"]) for each in lab.entries("intent"))


def test_one_connection_is_shared_and_each_command_on_it_decided(lab: Lab, tmp_path: Path) -> None:
    master = ["-o", "ControlMaster=auto", "-o", f"ControlPath={tmp_path}/c", "-o", "ControlPersist=60"]
    assert lab.ssh("echo first", options=(*master,)).stdout == b"first\n"
    session = lab.last("session.start")["session"]
    for number in range(3):
        assert lab.ssh(f"echo {number}", options=(*master,)).stdout == b"%d\n" % number
    refused = lab.ssh(f"cat {lab.srv}/flag", options=(*master,))
    assert (refused.returncode, refused.stdout) == (126, b"")
    assert lab.scp("-o", f"ControlPath={tmp_path}/c", lab.remote(lab.home / "note.txt"), str(tmp_path)).returncode == 0
    assert lab.last("session.start")["session"] == session, "all of it is one session"
    assert len(of(lab, session, "intent")) >= 5
    lab.ssh(options=(*master, "-O", "exit"))
    until(lambda: of(lab, session, "session.end"), "the session's end is on record")


@pytest.mark.parametrize("form", [(), ("-O",)], ids=["sftp", "scp"])
def test_keys_are_negotiated_anew_while_a_file_moves(automated: Lab, tmp_path: Path, form: tuple[str, ...]) -> None:
    """Both sides want it: the client each 256 KB, the gateway each MB."""
    lab, data = automated, os.urandom(4_000_000)
    (tmp_path / "up").write_bytes(data)
    there = lab.home / f"rekeyed{len(form)}"
    said = lab.scp(*form, "-v", "-o", "LogLevel=DEBUG1", "-o", "RekeyLimit=256K", str(tmp_path / "up"), lab.remote(there))
    assert there.read_bytes() == data, said.stderr
    assert said.stderr.count(b"SSH2_MSG_NEWKEYS sent") > 5
    assert lab.scp(*form, "-o", "RekeyLimit=256K", lab.remote(there), str(tmp_path / "down")).returncode == 0
    assert (tmp_path / "down").read_bytes() == data


def test_the_exit_status_comes_though_output_ended_long_before(automated: Lab) -> None:
    """A client that has nothing to send closes the channel when output ends; a status that comes later would be lost."""
    assert automated.ssh("exec >&- 2>&-; sleep 1; exit 3", groups=["automation"]).returncode == 3


def test_nothing_is_sent_in_front_of_what_is_said(lab: Lab) -> None:
    done = lab.run("ssh", "-vvv", *BY_PASSWORD, "-p", str(lab.port), "web@127.0.0.1", "echo on")
    assert (done.returncode, b"receive packet: type 98" in done.stderr) == (0, True), "it says what comes"
    assert b"receive packet: type 2\r" not in done.stderr, "no SSH_MSG_IGNORE"


def test_keepalives_are_answered(lab: Lab) -> None:
    done = lab.ssh("sleep 4; echo alive", options=("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"))
    assert (done.returncode, done.stdout) == (0, b"alive\n")


def test_a_reader_that_does_not_read_makes_the_host_wait_and_no_memory_grow(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab) as connection:
            process = await connection.create_process("seq 30000000", encoding=None, window=65536)
            assert await process.stdout.readexactly(1000)
            before = 0
            for _ in range(100):  # until nothing moves any more
                await asyncio.sleep(0.2)
                now = lab.gateway.resident_bytes()
                if before and abs(now - before) < 1 << 20:
                    break
                before = now
            assert lab.gateway.resident_bytes() - least < 64 << 20
            assert (await connection.run("echo others go on")).stdout == "others go on\n"
            process.close()

    least = lab.gateway.resident_bytes()
    asyncio.run(act())


def test_sixty_channels_at_once_and_one_more_is_refused(lab: Lab) -> None:
    async def act() -> None:
        async with await connected(lab) as connection:
            many = [await connection.create_process("cat", encoding=None) for _ in range(64)]
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.create_process("echo one more")
            for number, each in enumerate(many):
                each.stdin.write(b"%d\n" % number)
                each.stdin.write_eof()
            assert [await each.stdout.read() for each in many] == [b"%d\n" % number for number in range(64)]

    asyncio.run(act())


def links_of(lab: Lab, client: str, target: str, link: Path) -> None:
    """Make a link with that client, which has its own order of the two paths on the wire."""
    if client == "openssh":
        lab.sftp(f"-symlink {target} {link}")
    elif client == "paramiko":
        with paramiko.SSHClient() as logged_in, contextlib.suppress(OSError):
            logged_in.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            logged_in.connect("127.0.0.1", lab.port, "web", lab.gateway.token(), look_for_keys=False, allow_agent=False)
            logged_in.open_sftp().symlink(target, str(link))
    else:

        async def act() -> None:
            async with await connected(lab) as connection, connection.start_sftp_client() as files:
                await files.symlink(target, str(link))

        with contextlib.suppress(asyncssh.Error):
            asyncio.run(act())


@pytest.mark.parametrize("client", ["openssh", "asyncssh", "paramiko"])
def test_a_link_is_judged_the_right_way_round_whoever_asks(lab: Lab, client: str) -> None:
    link = lab.home / f"link-{client}"
    links_of(lab, client, "note.txt", link)
    assert link.readlink() == Path("note.txt")
    paths = [each["name"] for each in lab.last("intent")["op"]["objects"]]
    assert paths[0] == str(link)
    assert str(lab.home / "note.txt") in paths
    for target, where in ((str(lab.srv / "flag"), lab.home / f"evil-{client}"), ("note.txt", lab.srv / f"evil-{client}")):
        links_of(lab, client, target, where)
        assert not where.is_symlink()
        assert lab.last("deny")["op"]["name"] == "symlink"


def test_no_link_is_made_on_a_host_that_may_read_its_paths_either_way() -> None:
    files = Files(Ground(connection="web", home=None, protected=()), detects=False, keeps=False, links=False)
    list(files.asks(sftp.packet(sftp.Kind.INIT, u32(3))))
    files.order(deque())
    list(files.results(sftp.packet(sftp.Kind.VERSION, u32(3))))
    list(files.asks(sftp.packet(sftp.Kind.SYMLINK, u32(7), string(b"/a/x"), string(b"/a/y"))))
    for number in (1, 2):
        list(files.results(sftp.packet(sftp.Kind.NAME, u32(number), u32(1), string(b"/a"), string(b""), u32(0))))
    (operation,) = files.asks(b"")
    assert operation.facts.objection is not None
    assert "either order" in operation.facts.objection.message
