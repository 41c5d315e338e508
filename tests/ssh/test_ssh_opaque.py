"""Commands whose effect hides: a text that some shell reads otherwise, a program that runs another, a path that leads elsewhere.

Each is opaque, or judged by what it does; real shells say what they make of the texts.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ostiary.model.operations import Action
from ostiary.protocols.ssh import words
from ostiary.protocols.ssh.operations import command
from tests.ssh.test_ssh_words import GROUND, touched

SHELLS = [each for each in ("dash", "bash", "ksh", "mksh", "zsh", "busybox") if shutil.which(each)]


@pytest.mark.parametrize(
    "text",
    [
        # a line that goes on between a dollar sign and its name
        "cat $\\\nLC_X", 'cat "$\\\nLC_X"', "cat $\\\n'\\x2fsrv/flag'", "cat $\\\n{LC_X}", "cat $\\\n(echo x)", 'cat "$\\\n(echo x)"',
        # what zsh and ksh expand, and others do not
        "cat $=LC_X", "cat $~LC_X", "cat $+LC_X", "cat $^LC_X", "cat $é", "echo x >! /srv/x", "echo x >>! /srv/x", "echo x &>!/srv/x", "cat /srv/f<->",
        "cat </srv/f<1-9>", "- cat /srv/flag", "sched +0 cat /srv/flag", "redirect cat", "=cat x", "! ! cat /srv/flag",
        # another encoding
        'LC_ALL=zh_CN.GBK\necho “\\"; cat /srv/flag; echo \\"”', "LC_CTYPE=ja_JP.SJIS ls é", "LANG=x.BIG5 LC_X=a echo é",
        "LANGUAGE=../../tmp/x ls", "TZ=/srv/flag date", "TZ=:/srv/flag date", "LC_ALL=/tmp/x ls", "TZ=../x date",
        # another name of a program that runs others
        "rbash -c id", "bash5 -c id", "bash-static -c id", "sh.distrib -c id", "vim.tiny -c '!id'", "vim.basic x", "original-awk 1", "pypy3 -c 1", "tclsh8.6 x",
        "posh -c id", "pwsh -c id", "rvim x", "zsh5 -c id", "/usr/lib/klibc/bin/dash -c id", "/snap/bin/nu -c id", "mksh-static -c id", "lua5.4 x", "gawk-5.1 1",
        # programs that run what they are given
        "split --filter=sh /srv/flag", "ip netns exec x id", "tcpdump -z sh", "zip x y -TT sh", "sg root id", "pkexec id", "perf stat id", "eatmydata id",
        "ssh-agent id", "ssh-keygen -D /tmp/x.so", "run0 id", "chronic id", "entr id", "dtach -n x id", "xvfb-run id", "gs -x", "service x restart", "npx x", "mail -s x y",
        # links that every host has
        "cat /proc/self/root/srv/flag", "cat /proc/1/cwd/flag", "cat //proc/self/./root/srv/flag", "cat < /proc/thread-self/root/srv/flag", "cat /dev/fd/3",
        "cat /proc/self/task/1/root/srv/flag", "echo x > /proc/self/fd/3", "cp /proc/self/exe /tmp/x",
        # a folder that nobody went to
        "cd /none && true; cat flag", "false && cd /srv && true; cat flag", "cd /none && true\ncat flag", "cd /none && true & cat flag", "cd /none && true || cat flag",
        "cd /srv && true; ls", "cd /srv && cat a; echo x > flag",
        # transfers with more
        "rsync --server --sender --files-from=- -re.iLs . /", "rsync --server --mkpath -re.iLs . /home/x", "git upload-archive /srv/x", "git-upload-archive '/srv/x'",
        "git -c core.pager=sh upload-pack /srv/x", "sh -c 'x'; rsync --server -re.iLs . /home/x", "env rsync --server -re.iLs . /home/x",
        "dd if=/srv/flag of=/tmp/x --files=x", "dd files=/srv/flag",
    ],
)  # fmt: skip
def test_a_command_whose_effect_the_text_does_not_tell_is_opaque(text: str) -> None:
    facts = command(text, GROUND, b"").facts
    assert facts.action is Action.OPAQUE, facts
    assert facts.opaque


@pytest.mark.parametrize("variables", [("LC_ALL=zh_CN.GBK",), ("LANG=ja_JP.SJIS",), ("LC_CTYPE=zh_TW",), ("LC_ALL=en_US.UTF-8", "LC_CTYPE=x.BIG5")])
def test_a_text_that_the_sent_locale_reads_otherwise_is_opaque(variables: tuple[str, ...]) -> None:
    assert command("echo “a”", GROUND, b"", variables).facts.action is Action.OPAQUE
    assert command("echo a", GROUND, b"", variables).facts.action is Action.EXECUTE


@pytest.mark.parametrize("variables", [(), ("LC_ALL=en_US.UTF-8", "LANG=C", "LC_CTYPE=C.UTF-8", "LC_NAME=de_DE.utf8"), ("LC_TIME=POSIX",)])
def test_a_text_in_the_common_encoding_is_read(variables: tuple[str, ...]) -> None:
    assert command("echo “a”", GROUND, b"", variables).facts.action is Action.EXECUTE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dd if=/srv/flag of=/tmp/x bs=1M count=1", {("file", "/srv/flag", "read"), ("file", "/tmp/x", "write")}),
        ("dd status=none if=a", {("file", "/home/ana/a", "read")}),
        ("tool in=/srv/flag", {("file", "/home/ana/in=/srv/flag", "execute"), ("file", "/srv/flag", "execute")}),
        ("mkdir -p /srv/a/b", {("file", "/srv", "write"), ("file", "/srv/a", "write"), ("file", "/srv/a/b", "write")}),
        ("mkdir -vp a/b/c", {("file", f"/home/ana/{each}", "write") for each in ("a", "a/b", "a/b/c")}),
        ("mkdir --parents /home/ana/a/b", {("file", f"/home/ana/{each}", "write") for each in ("a", "a/b")}),
        ("mkdir /srv/a/b", {("file", "/srv/a/b", "write")}),
        ("cd /srv && cat a && cat b | head", {("file", "/srv/a", "read"), ("file", "/srv/b", "read")}),
        ("cat $/x", {("file", "/home/ana/$/x", "read")}),
        ("cat\u00a0/srv/flag", set()), ("cat /srv/flag\u0085ls", {("file", "/srv/flag\u0085ls", "read")}), ("cat /srv/flag\u2028id", {("file", "/srv/flag\u2028id", "read")}),
    ],
)  # fmt: skip
def test_files_are_seen_where_a_program_names_them_otherwise(text: str, expected: set[tuple[str, str, str]]) -> None:
    assert {each for each in touched(text) if each[0] == "file"} == expected
    assert command(text, GROUND, b"").facts.action is not Action.OPAQUE


def test_git_is_asked_about_every_name_that_it_tries() -> None:
    for text, names in (("git-upload-pack '/srv/X.git'", {"/srv/X.git", "/srv/X.git.git"}), ("git-receive-pack '/srv/X'", {"/srv/X", "/srv/X.git"})):
        files = {name for kind, name, action in touched(text) if kind == "file" and action != "transfer"}
        assert files == names
        assert {f"{each}/**" for each in names} <= {name for _, name, action in touched(text) if action == "transfer"}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "text",
    ["echo a$ b", "echo $/x", "echo a$,b", "echo 'a'$", 'echo "a$" "$." "a$ b"', "echo $%", "echo $:x", "echo a]b ]", "echo x^y a#b", "echo a~b ~/x", "echo {}", "echo a,b=c",
     "echo a\\\nb", 'echo "a\\\nb"', "echo a\u00a0b", "echo 'a\u0085b'", "! echo a", "echo a; ! echo b", "echo a &&\necho b", "echo [ ]", "echo -- -n"],
)  # fmt: skip
def test_what_is_not_opaque_is_read_as_every_shell_that_is_here_reads_it(shell: str, text: str, tmp_path: Path) -> None:
    line = words.read(text)
    assert not line.opaque
    name = ["busybox", "sh"] if shell == "busybox" else [shell]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/home/ana", "LC_ALL": "C.UTF-8", "LC_X": "/srv/flag"}
    ran = subprocess.run([*name, "-c", text], capture_output=True, check=False, env=environment, cwd=tmp_path, timeout=20)
    seen = [" ".join(each.words[1:]).replace("~/", "/home/ana/") for each in line.commands]
    assert ran.stdout.decode() == "".join(f"{each}\n" for each in seen)
