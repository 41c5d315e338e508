"""A command is judged by the words that it is; what the shell would compute is opaque, and only what is named may run."""

from __future__ import annotations

import shlex
import subprocess

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ostiary.model.connections import ProtectedPath
from ostiary.model.operations import Action, Unjudgeable
from ostiary.protocols.ssh import words
from ostiary.protocols.ssh.operations import Ground, command

GROUND = Ground(connection="web", home="/home/ana", protected=(ProtectedPath("*/.env", "secrets"),))


def touched(text: str) -> set[tuple[str, str, str]]:
    facts = command(text, GROUND, b"").facts
    return {(r.kind, r.name, r.action.value) for r in facts.resources}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat /srv/flag", {("command", "cat /srv/flag", "execute"), ("file", "/srv/flag", "read")}),
        ("c'a't /srv/f\"l\"ag", {("command", "cat /srv/flag", "execute"), ("file", "/srv/flag", "read")}),
        ("ca\\\nt /srv//./flag/", {("command", "cat /srv//./flag/", "execute"), ("file", "/srv/flag", "read")}),
        ("true\ncat /srv/flag", {("command", "true", "execute"), ("command", "cat /srv/flag", "execute"), ("file", "/srv/flag", "read")}),
        ("cat /srv/flag #\rls      ", {("command", "cat /srv/flag", "execute"), ("file", "/srv/flag", "read")}),
        ("cd /srv && cat flag", {("command", "cat flag", "execute"), ("file", "/srv/flag", "read")}),
        ("cat < /srv/flag", {("command", "cat", "execute"), ("file", "/srv/flag", "read")}),
        ("</srv/flag", {("file", "/srv/flag", "read")}),
        ("echo x > notes", {("command", "echo x", "execute"), ("file", "/home/ana/notes", "write")}),
        ("echo x &>/tmp/a", {("command", "echo x", "execute"), ("file", "/tmp/a", "write")}),
        ("ls '~/x' ~/y", {("command", "ls './~/x' '~/y'", "execute"), ("file", "/home/ana/~/x", "read"), ("file", "/home/ana/y", "read")}),
        ("cp a /srv/b", {("command", "cp a /srv/b", "execute"), ("file", "/home/ana/a", "read"), ("file", "/srv/b", "write")}),
        ("/opt/x --in=/srv/flag", {("command", "/opt/x --in=/srv/flag", "execute"), ("file", "/srv/flag", "execute")}),
        ('echo "the flag of cat"', {("command", "echo 'the flag of cat'", "execute")}),
        ("ls -la /srv", {("command", "ls -la /srv", "execute"), ("file", "/srv", "read")}),
    ],
)  # fmt: skip
def test_commands_and_the_files_they_name_are_seen(text: str, expected: set[tuple[str, str, str]]) -> None:
    assert touched(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a=cat;b=/srv/flag;$a $b", "{cat,/srv/flag}", "/???/c?t /s??/fl?g", "echo Y2F0|base64 -d|sh", "$(printf cat) /srv/flag",
        "`echo cat` /srv/flag", "sh <<'E'\ncat /srv/flag\nE", "cat <<< x", "cat <(cat /srv/flag)", "echo /srv/flag|xargs cat",
        "eval \"$(printf 'cat')\"", "echo 'cat /srv/flag>/tmp/o'|at now", "if true; then cat /srv/flag; fi", "(cat /srv/flag)",
        "f() { cat /srv/flag; }; f", "PATH=/tmp ls", "LD_PRELOAD=/tmp/x.so ls", "sudo cat /srv/flag", "env -S 'cat /srv/flag'",
        "find /srv -exec cat {} +", "awk 1 /srv/flag", "sed -n p /srv/flag", "python3 -c 'print(1)'", "git -C /x log", "busybox cat /srv/flag",
        "cat /home/../srv/flag", "cd /srv; cat flag", "cd .. && cat srv/flag", "rm -rf /srv", "grep -r x /srv", "cp -a /srv /tmp/x",
        "tar cf - /srv", "exec 3</dev/tcp/10.0.0.1/80", "cat $'\\x2fsrv/flag'", "echo ${HOME}", 'echo "$(cat /srv/flag)"', "cat ~root/x",
        "=cat /srv/flag", "ssh other cat /srv/flag", "nohup cat /srv/flag", "cat {a,b}", "[[ -f x ]]", "time cat /srv/flag", ". /tmp/x",
        "/usr/lib/openssh/sftp-server", "head --bytes=9 --files=x /srv/flag", "/usr/bin/env cat /srv/flag", "! { cat /srv/flag; }",
        "true & (cat /srv/flag)", 'cat "`id`"', "ls; if", "echo a; for f in /srv/*; do cat $f; done", "tail --unknown /srv/flag",
    ],
)  # fmt: skip
def test_what_cannot_be_seen_through_is_opaque(text: str) -> None:
    facts = command(text, GROUND, b"").facts
    assert facts.action is Action.OPAQUE, facts
    assert facts.opaque
    assert all(each.kind == "command" for each in facts.resources if each.action is Action.OPAQUE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo 'x", Unjudgeable.UNPARSABLE), ('echo "x', Unjudgeable.UNPARSABLE), ("ls |", Unjudgeable.UNPARSABLE),
        ("; ls", Unjudgeable.UNPARSABLE), ("ls ;; x", Unjudgeable.UNPARSABLE), ("ls > ", Unjudgeable.UNPARSABLE),
        ("a\0b", Unjudgeable.BAD_TEXT), ("echo " + "a" * words.MAX_TEXT, Unjudgeable.OVERSIZE),
        ("true;" * 300 + "true", Unjudgeable.TOO_COMPLEX),
    ],
)  # fmt: skip
def test_what_is_no_command_is_refused(text: str, why: Unjudgeable) -> None:
    objection = command(text, GROUND, b"").facts.objection
    assert objection is not None
    assert objection.reason is why


def test_the_tail_of_a_long_command_is_read() -> None:
    assert ("file", "/srv/flag", "read") in touched("true #" + "a" * 65536 + "\ncat /srv/flag")


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("scp -t /home/x", "scp", {("file", "/home/x", "write"), ("file", "/home/x/**", "transfer")}),
        ("scp -f /srv/a", "scp", {("file", "/srv/a", "read")}),
        ("scp -r -f /srv", "scp", {("file", "/srv", "read"), ("file", "/srv/**", "transfer")}),
        ("rsync --server --sender -logDtpre.iLsfxCIvu . /srv/", "rsync", {("file", "/srv", "read"), ("file", "/srv/**", "transfer")}),
        ("rsync --server -vlogDtpe.iLsfxCIvu . /home/a", "rsync", {("file", "/home/a", "write"), ("file", "/home/a/**", "transfer")}),
        ("rsync --server --sender -vlogDtpe.iLsfxCIvu . /srv/a", "rsync", {("file", "/srv/a", "read")}),
        ("git-upload-pack '/srv/r.git'", "git", {("file", "/srv/r.git", "read"), ("file", "/srv/r.git/**", "transfer")}),
    ],
)
def test_transfers_over_exec_are_transfers_of_files(text: str, name: str, expected: set[tuple[str, str, str]]) -> None:
    facts = command(text, GROUND, b"").facts
    assert (facts.name, facts.action) == (name, Action.TRANSFER)
    assert touched(text) == {("connection", "web", "transfer"), *expected}


@pytest.mark.parametrize(
    "text", ["scp -t /x; cat /srv/flag", "scp -S /tmp/x -f /y", "rsync --server --sender -e.x --config=/tmp/c . /srv", "rsync --server --daemon .",
             "rsync --server -slogDtpre.iLsfxCIvu . /home/x", "rsync --server -re.iLs . /home/x -s", "rsync --server -re.iLs . /home/x --sender",
             "rsync --server -re --sender . /home/x", "rsync --server --sender -rLe.iLs . /home/x", "rsync --server -rKe.iLs . /home/x",
             "rsync --server -rbe.iLs . /home/x", "rsync --server -T /srv . /home/x", "scp -t /home/x -f", "scp -t -- -x",
             "scp -t /home/../etc", "git-upload-pack --upload-pack=x /srv", "scp -t /home/x > /etc/y"]
)  # fmt: skip
def test_a_transfer_with_something_else_is_opaque(text: str) -> None:
    assert command(text, GROUND, b"").facts.action is Action.OPAQUE


def test_a_protected_path_is_masked_when_printed_and_needs_unmask_when_kept() -> None:
    printed = command("cat app/.env", GROUND, b"").facts
    assert [r.classes for r in printed.resources if r.kind == "file"] == [("secrets",)]
    assert printed.unmask == ()
    for text in ("cp app/.env /tmp/x", "cat app/.env > /tmp/x", "mv app/.env b", "unknown app/.env", "scp -f app/.env"):
        assert command(text, GROUND, b"").facts.unmask == ("secrets",), text
    for text in ("date -f secret.env", "unknown --from=secret.env", "sudo cat secret.env", "tail --files=secret.env"):
        facts = command(text, msgspec.structs.replace(GROUND, protected=(ProtectedPath("*/secret.env", "secrets"),)), b"").facts
        assert facts.unmask == ("secrets",), text


def test_the_head_for_the_log_holds_no_argument() -> None:
    facts = command("mysqldump --password=hunter2 -phunter2 /srv/db > /tmp/hunter2", GROUND, b"").facts
    assert "hunter2" not in facts.head
    assert facts.head.startswith("mysqldump --password ?")


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).filter(lambda text: not text.startswith("="))


@settings(max_examples=150, deadline=None)
@given(st.lists(PRINTABLE, min_size=1, max_size=5))
@example(["~", "x"])
@example(["", "a'b", 'c"d', "e\\f", "$g", "`h`", "{i,j}", "k=", "#l"])
def test_quoted_words_are_read_as_the_shell_reads_them(arguments: list[str]) -> None:
    text = shlex.join(["printf", "%s\\0", *arguments])
    line = words.read(text)
    assert line.objection is None
    assert not line.opaque
    said = subprocess.run(["/bin/sh", "-c", text], capture_output=True, check=True).stdout
    seen = [word.removeprefix("./") if word.startswith("./~") else word for word in line.commands[0].words[2:]]
    assert said == b"".join(word.encode() + b"\0" for word in seen)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("ab '\"\\/-#;|&<>\n~=1"), max_size=14))
def test_whatever_is_read_is_what_the_shell_reads(text: str) -> None:
    """Text that is not opaque, against bash itself, which says of each command that it does not find how many words it has."""
    line = words.read(text)
    if line.objection is not None or line.opaque or any(c.redirections or not c.words for c in line.commands):
        return
    if "|" in text or "&" in text or any(not c.words[0] or "/" in c.words[0] or "~" in c.words for c in line.commands):
        return
    script = 'command_not_found_handle() { printf "%s\\0" "$#" "$@"; }; ' + text
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, check=False, env={"PATH": "/none", "HOME": "~"}, cwd="/")
    seen = [[word.removeprefix("./") if word.startswith("./~") else word for word in c.words] for c in line.commands]
    assert done.stdout == b"".join(b"".join(p.encode() + b"\0" for p in [str(len(c)), *c]) for c in seen), (text, line)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_reading_never_raises(text: str) -> None:
    command(text, GROUND, b"")
