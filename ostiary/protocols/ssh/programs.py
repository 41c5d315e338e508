"""What programs do with the paths that they are given: the part of that which their arguments alone tell.

Three sorts of programs. *Known* ones (coreutils and their kin) have a row here that says which arguments are files and what happens
to them. *Launchers* run what their arguments, their input or their files say (shells, interpreters, `xargs`, `sudo`, editors,
network clients): such a command is opaque, and policy must permit it by name. Any *other* program is executed with what looks like
a path among its arguments, and policy is asked about both.

A row leaves out every option that runs something, reads a list of files, or writes where it does not say: with an option that is
not in the row the command is opaque. So the table can only be too strict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from ostiary.model.operations import Action
from ostiary.protocols.ssh.words import Simple, names

SYSTEM: Final = frozenset({"/bin", "/usr/bin", "/sbin", "/usr/sbin"})
"""Where a program is what its name says: folders that only root may write."""

LAUNCHERS: Final = names(
    # shells, and what a shell does in itself
    "sh bash dash zsh ksh mksh ash fish csh tcsh busybox toybox eval exec source . command builtin trap alias unalias export set"
    " unset declare typeset readonly local hash enable shopt read mapfile readarray complete bind let getopts return"
    " function coproc pushd popd dirs fc history jobs fg bg wait disown suspend logout umask ulimit zmodload autoload"
    # run another program
    " env nohup setsid xargs sudo su doas runuser setpriv timeout nice ionice chrt taskset chroot unshare nsenter stdbuf script watch"
    " parallel strace ltrace gdb time flock start-stop-daemon at batch crontab systemd-run systemctl loginctl machinectl docker podman"
    " kubectl crictl ctr lxc screen tmux byobu expect unbuffer fakeroot faketime proot bwrap firejail capsh daemonize run-parts"
    " chpst s6-setuidgid gosu su-exec setarch linux32 linux64 i386 x86_64 choom prlimit numactl"
    # interpreters and languages
    " python python2 python3 perl ruby node nodejs deno bun php lua luajit tclsh wish guile awk gawk mawk nawk sed ed ex vi vim nvim"
    " view emacs nano pico less more most man info make cmake ninja gcc cc clang tar cpio rpm dpkg apt apt-get pip npm git hg svn m4 bc dc"
    " find locate sort psql mysql sqlite3 mongo redis-cli jq yq xsltproc java jshell go cargo rustc gdbserver openssl gpg"
    # reach another machine
    " ssh scp sftp rsync rlogin rsh telnet nc ncat netcat socat curl wget ftp lftp aria2c mosh dbclient sftp-server internal-sftp"
    # install, mount, change who may do what
    " install mount umount useradd usermod userdel passwd chpasswd visudo insmod modprobe sysctl ld ldconfig ld.so"
)
"""Programs that run, or reach, what cannot be seen here. `find`, `sort`, `git` and `sed` are no exceptions: each has such an option."""


class Row(msgspec.Struct, frozen=True):
    """What a known program does with its arguments."""

    operands: Action | None
    """What happens to the files that it names; None: its operands are no files."""
    flags: str = ""
    """Letters of options without a value."""
    valued: str = ""
    """Letters of options with a value that is no file."""
    words: str = ""
    """Long options, as `name` or `name=` where they take a value."""
    last: Action | None = None
    """What happens to the last operand, where it differs."""
    first_is_text: bool = False
    """The first operand is no file: a pattern, a mode, an owner."""
    recursive: str = ""
    """Letters of options that reach everything beneath an operand: then the command is opaque."""


_READ, _WRITE, _DELETE = Action.READ, Action.WRITE, Action.DELETE
_COPY: Final = "archive force interactive no-clobber no-target-directory preserve verbose update backup"

KNOWN: Final[dict[str, Row]] = {
    **dict.fromkeys(names("true false : pwd whoami arch nproc tty logname users"), Row(None, "LP", words="help version")),
    **dict.fromkeys(("echo",), Row(None)),
    "printf": Row(None),
    "sleep": Row(None), "basename": Row(None, "az", "s"), "dirname": Row(None, "z"), "seq": Row(None, "w", "fs"),
    "id": Row(None, "agGnruzZ", words="group groups name real user zero"), "groups": Row(None),
    "uname": Row(None, "asnrvmpio", words="all kernel-name nodename kernel-release kernel-version machine operating-system"),
    "uptime": Row(None, "ps", words="pretty since"), "hostname": Row(None, "fsdiIA"), "free": Row(None, "bkmghltw", "sc"),
    "ps": Row(None, "aAdefFHjlLMNrTuwxyZ", "oOCGgpstUu", "no-headers forest sort= format="),
    "cat": Row(_READ, "AbeEnstTuv", words="number number-nonblank show-all show-ends show-tabs squeeze-blank"),
    "tac": Row(_READ, "br", "s"), "nl": Row(_READ, "p", "bdfhilnsvw"),
    "head": Row(_READ, "qvz0123456789", "nc", "bytes= lines= quiet silent verbose"),
    "tail": Row(_READ, "fFqvz0123456789", "ncs", "bytes= lines= follow follow= quiet silent verbose retry pid="),
    "wc": Row(_READ, "cmlLw", words="bytes chars lines words max-line-length"),
    "ls": Row(_READ, "aAbBcCdfFgGhHiklLmnNopqQrsStuUvxXZ1R", "ITw", "all almost-all color color= human-readable size reverse time= sort= full-time directory recursive time-style= group-directories-first"),
    "dir": Row(_READ, "aAlhrtS1"),
    "stat": Row(_READ, "Lft", "c", "format= printf= dereference file-system terse"),
    "file": Row(_READ, "bikLNprsv", "F", "brief mime mime-type"),
    "readlink": Row(_READ, "femnqsvz"), "realpath": Row(_READ, "emLPqsz"),
    "du": Row(_READ, "abchHklLmsSx0", "dBt", "all apparent-size bytes total human-readable max-depth= summarize si"),
    "df": Row(_READ, "ahHiklPT", "Btx", "all human-readable inodes local portability print-type output output="),
    **dict.fromkeys(names("md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum cksum sum"), Row(_READ, "btz", words="binary text tag zero")),
    **dict.fromkeys(names("base64 base32"), Row(_READ, "di", "w", "decode ignore-garbage wrap=")),
    "od": Row(_READ, "bcdfFilosxXv", "AjNStw"), "hexdump": Row(_READ, "bcCdovx", "ns"), "xxd": Row(_READ, "abcegiprsu", "lo"),
    "strings": Row(_READ, "afw", "ento"),
    "cut": Row(_READ, "nsz", "bcdf", "bytes= characters= delimiter= fields= only-delimited complement output-delimiter="),
    "fold": Row(_READ, "bs", "w"), "column": Row(_READ, "tx", "csNo"), "paste": Row(_READ, "sz", "d"), "rev": Row(_READ), "expand": Row(_READ, "i", "t"),
    "cmp": Row(_READ, "bls", "in"), "comm": Row(_READ, "123z"), "join": Row(_READ, "iz", "aevj12ot"),
    "diff": Row(_READ, "abBcdeEilnNpqstTuwWy", "CUWLI", "brief unified= context= ignore-case side-by-side color color="), "tr": Row(None, "cCdst"),
    "grep": Row(_READ, "aEFGHhiIlLnoPqsUvwxyzZcT", "ABCme", "color color= count ignore-case invert-match line-number only-matching quiet max-count= regexp= after-context= before-context= context= files-with-matches extended-regexp fixed-strings word-regexp no-messages", first_is_text=True, recursive="rR"),
    "touch": Row(_WRITE, "acfhm", "dt", "no-create date= time="), "mkdir": Row(_WRITE, "pv", "m", "mode= parents verbose"), "truncate": Row(_WRITE, "co", "s", "size= no-create"),
    "tee": Row(_WRITE, "aip", words="append ignore-interrupts"),
    "rm": Row(_DELETE, "fiIdv", words="force interactive verbose one-file-system preserve-root", recursive="rR"),
    "rmdir": Row(_DELETE, "pv", words="parents verbose ignore-fail-on-non-empty"), "unlink": Row(_DELETE), "shred": Row(_DELETE, "fuvxz", "ns"),
    "cp": Row(_READ, "bdfHilLnpPTuvx", words=_COPY, last=_WRITE, recursive="rRa"),
    "mv": Row(_DELETE, "bfinTuv", words=_COPY, last=_WRITE),
    "ln": Row(_READ, "bfinPTv", words="force verbose no-dereference no-target-directory", last=_WRITE),
    "chmod": Row(_WRITE, "cfv", words="changes quiet silent verbose", first_is_text=True, recursive="R"),
    "chown": Row(_WRITE, "cfhv", words="changes quiet silent verbose no-dereference", first_is_text=True, recursive="R"),
    "chgrp": Row(_WRITE, "cfhv", words="changes quiet silent verbose no-dereference", first_is_text=True, recursive="R"),
}  # fmt: skip
"""By name: GNU coreutils 9, grep 3, procps 4."""


class Touch(msgspec.Struct, frozen=True):
    """A path as it was written, and what happens to it."""

    path: str
    action: Action


class Understood(msgspec.Struct, frozen=True):
    """What one simple command would do."""

    program: str
    touches: tuple[Touch, ...]
    opaque: str
    """Why it must be permitted by name; empty: it need not."""
    unsure: bool = False
    """Any word of it may name a file, too."""


class _Beyond(Exception):
    """The row does not cover this."""


def understand(command: Simple) -> Understood:
    """Say what a command touches."""
    touched = [Touch(each.name, Action(each.access.value)) for each in command.redirections]
    if not command.words:
        return Understood("", tuple(touched), "")
    program = command.words[0]
    folder, _, base = program.rpartition("/")
    name = base if not folder or folder in SYSTEM else ""
    arguments = command.words[1:]
    if name in LAUNCHERS or base in LAUNCHERS or base.startswith(("python", "perl", "ruby", "php", "lua", "ld-")):
        return Understood(program, tuple(touched), f"{base} runs what cannot be seen here", unsure=True)
    row = KNOWN.get(name)
    if row is None:
        likely = [Touch(path, Action.EXECUTE) for path in _likely(arguments)]
        return Understood(program, (*touched, *likely), "", unsure=True)
    try:
        return Understood(program, (*touched, *_operands(row, arguments)), "")
    except _Beyond as exc:
        likely = [Touch(path, row.operands or _READ) for path in _likely(arguments)]
        return Understood(program, (*touched, *likely), f"{base} with {exc}", unsure=True)


def _operands(row: Row, arguments: tuple[str, ...]) -> Iterator[Touch]:
    if row.operands is None and not row.flags and not row.words:
        return  # its arguments are text
    operands = list(_split(row, arguments))
    if row.first_is_text:
        operands = operands[1:]
    if row.operands is None:
        return
    for index, operand in enumerate(operands):
        if operand == "-":
            continue
        is_last = index == len(operands) - 1
        yield Touch(operand, row.last if row.last is not None and is_last and index else row.operands)


def _split(row: Row, arguments: tuple[str, ...]) -> Iterator[str]:
    """Yield the operands: XBD 12.2, with GNU's long options and options behind operands."""
    given = iter(arguments)
    for argument in given:
        if argument == "--":
            yield from given
        elif argument.startswith("--"):
            name, equals, _ = argument[2:].partition("=")
            if name + equals not in row.words.split():
                if equals or f"{name}=" not in row.words.split():
                    raise _Beyond(f"--{name}")
                next(given, None)
        elif argument.startswith("-") and argument != "-":
            _letters(row, argument, given)
            if row.first_is_text and "e" in argument and "e" in row.valued:
                raise _Beyond("-e")  # then its first operand is a file after all
        else:
            yield argument


def _letters(row: Row, argument: str, given: Iterator[str]) -> None:
    for at, letter in enumerate(argument[1:], 2):
        if letter in row.recursive:
            raise _Beyond(f"-{letter}, which reaches all that lies beneath")
        if letter in row.valued:
            if at == len(argument):
                next(given, None)
            return
        if letter not in row.flags:
            raise _Beyond(f"-{letter}")


def _likely(arguments: tuple[str, ...]) -> Iterator[str]:
    """Whatever could be a path among the arguments of a program that nobody knows."""
    for argument in arguments:
        candidate = argument
        if argument.startswith("-"):
            _, equals, value = argument.partition("=")
            candidate = value if equals else argument[argument.find("/") :] if "/" in argument else ""
        if candidate and (candidate[0] in "/~." or "/" in candidate):
            yield candidate
