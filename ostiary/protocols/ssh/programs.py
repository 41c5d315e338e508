"""What programs do with the paths that they are given: the part of that which their arguments alone tell.

Three sorts of programs. *Known* ones (coreutils and their kin) have a row here that says which arguments are files and what happens
to them. *Launchers* run what their arguments, their input or their files say (shells, interpreters, `xargs`, `sudo`, editors,
network clients): such a command is opaque, and policy must permit it by name. Any *other* program is executed with what looks like
a path among its arguments, and policy is asked about both.

A row leaves out every option that runs something, reads a list of files, or writes where it does not say: with an option that is
not in the row the command is opaque. So the table can only be too strict.
"""

from __future__ import annotations

import re
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
    " print setopt unsetopt emulate integer float vared zparseopts compgen shift break continue"
    # run another program
    " env nohup setsid xargs sudo su doas runuser setpriv timeout nice ionice chrt taskset chroot unshare nsenter stdbuf script watch"
    " parallel strace ltrace gdb time flock start-stop-daemon at batch crontab systemd-run systemctl loginctl machinectl docker podman"
    " kubectl crictl ctr lxc screen tmux byobu expect unbuffer fakeroot faketime proot bwrap firejail capsh daemonize run-parts"
    " chpst s6-setuidgid gosu su-exec setarch linux32 linux64 i386 x86_64 choom prlimit numactl"
    # interpreters and languages
    " python python2 python3 perl ruby node nodejs deno bun php lua luajit tclsh wish guile awk gawk mawk nawk sed ed ex vi vim nvim"
    " view emacs nano pico less more most man info make cmake ninja gcc cc clang tar cpio rpm dpkg apt apt-get pip npm git hg svn m4 bc dc"
    " find locate sort psql mysql sqlite3 mongo redis-cli jq yq xsltproc java jshell go cargo rustc gdbserver openssl gpg"
    # more shells, wrappers, languages and editors
    " rbash rksh rzsh posh yash elvish nu pwsh xonsh rc es oksh lksh sash git-shell rvim rview gvim gview vimdiff vi.tiny original-awk pypy jython jruby"
    " raku ghci runghc scala groovy Rscript octave julia erl escript elixir iex sbcl clisp racket gforth ocaml sg newgrp pkexec run0 sudoedit vipw vigr perf valgrind"
    " catchsegv eatmydata chronic ifne entr dtach abduco tmate nsjail systemd-nspawn systemd-inhibit systemd-cat systemd-resolve ssh-agent ssh-copy-id ssh-keygen ssh-add"
    " newrole runcon softlimit envdir envuidgid setuidgid multilog runsv cgexec dbus-run-session dbus-launch busctl xvfb-run xinit startx aa-exec ip tc"
    " zip split tcpdump tshark nmap mail mailx mutt sendmail exim run-mailcap see w3m lynx links elinks emacsclient joe jed mc micro kak hx gnuplot"
    " tex latex pdftex pdflatex xelatex lualatex luatex gs convert magick ffmpeg rake bundle gem npx yarn pnpm pipx uv uvx poetry conda ctest ant mvn gradle"
    " bazel meson ansible ansible-playbook puppet chef-client salt-call terraform helm nix nix-shell nix-env guix snap flatpak yum dnf zypper apk pacman"
    " aptitude nerdctl buildah runc crun virsh kexec service supervisorctl pm2 debugfs gawk-csv pic troff groff tclsh wish"
    # go into folders that they are given, and print what lies there
    " diff"
    # reach another machine
    " ssh scp sftp rsync rlogin rsh telnet nc ncat netcat socat curl wget ftp lftp aria2c mosh dbclient sftp-server internal-sftp"
    # install, mount, change who may do what
    " install mount umount - hist redirect login nameref compound enum sched zpty zsocket ztcp zftp zcompile zle rehash unhash useradd usermod userdel passwd chpasswd visudo insmod modprobe sysctl ld ldconfig ld.so"
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
    reads_input: bool = True
    """Of a program that reads: the operand `-` is its input. To any other it is a file of that name."""
    takes_none: bool = False
    """With an operand it does something else: then the command is opaque."""


_VARIANT: Final = re.compile(r"([A-Za-z][A-Za-z_-]*?)[.-]?([0-9][0-9.]*|static|basic|tiny|nox|gtk3?|athena|distrib|real|orig|minimal|dbg)")
"""`bash-static`, `python3.11`, `vim.tiny`: the same program under another name."""

_READ, _WRITE, _DELETE = Action.READ, Action.WRITE, Action.DELETE
_COPY: Final = "force interactive no-clobber no-target-directory preserve verbose update"

KNOWN: Final[dict[str, Row]] = {
    **dict.fromkeys(names("true false : pwd whoami arch nproc tty logname"), Row(None, "LP", words="help version")),
    **dict.fromkeys(names("echo exit"), Row(None)), "users": Row(_READ, reads_input=False),
    "printf": Row(None),
    "sleep": Row(None), "basename": Row(None, "az", "s"), "dirname": Row(None, "z"), "seq": Row(None, "w", "fs"),
    "id": Row(None, "agGnruzZ", words="group groups name real user zero"), "groups": Row(None),
    "uname": Row(None, "asnrvmpio", words="all kernel-name nodename kernel-release kernel-version machine operating-system"),
    "uptime": Row(None, "ps", words="pretty since"), "hostname": Row(None, "fsdiIA", takes_none=True), "free": Row(None, "bkmghltw", "sc"),
    "ps": Row(None, "aAdefFHjlLMNrTuwxyZ", "oOCGgpstUu", "no-headers forest sort= format="),
    "cat": Row(_READ, "AbeEnstTuv", words="number number-nonblank show-all show-ends show-tabs squeeze-blank"),
    "tac": Row(_READ, "br", "s"), "nl": Row(_READ, "p", "bdfhilnsvw"),
    "head": Row(_READ, "qvz0123456789", "nc", "bytes= lines= quiet silent verbose"),
    "tail": Row(_READ, "fFqvz0123456789", "ncs", "bytes= lines= follow follow= quiet silent verbose retry pid="),
    "wc": Row(_READ, "cmlLw", words="bytes chars lines words max-line-length"),
    "ls": Row(_READ, "aAbBcCdfFgGhHiklLmnNopqQrsStuUvxXZ1", "ITw", "all almost-all color color= human-readable size reverse time= sort= full-time directory time-style= group-directories-first", recursive="R", reads_input=False),
    "dir": Row(_READ, "aAlhrtS1", recursive="R", reads_input=False),
    "stat": Row(_READ, "Lft", "c", "format= printf= dereference file-system terse"),
    "file": Row(_READ, "bikLNprsv", "F", "brief mime mime-type"),
    "readlink": Row(_READ, "femnqsvz", reads_input=False), "realpath": Row(_READ, "emLPqsz", reads_input=False),
    "du": Row(_READ, "abchHklLmsSx0", "dBt", "all apparent-size bytes total human-readable max-depth= summarize si", reads_input=False),
    "df": Row(_READ, "ahHiklPT", "Btx", "all human-readable inodes local portability print-type output output=", reads_input=False),
    **dict.fromkeys(names("md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum"), Row(_READ, "btz", words="binary text tag zero")),
    **dict.fromkeys(names("cksum sum"), Row(_READ)),
    **dict.fromkeys(names("base64 base32"), Row(_READ, "di", "w", "decode ignore-garbage wrap=")),
    "od": Row(_READ, "bcdfFilosxXv", "AjNSt"), "hexdump": Row(_READ, "bcCdovx", "ns"), "xxd": Row(_READ, last=_WRITE),
    "strings": Row(_READ, "afow", "ent"),
    "cut": Row(_READ, "nsz", "bcdf", "bytes= characters= delimiter= fields= only-delimited complement output-delimiter="),
    "fold": Row(_READ, "bs", "w"), "column": Row(_READ, "tx", "csNo"), "paste": Row(_READ, "sz", "d"), "rev": Row(_READ), "expand": Row(_READ, "i", "t"),
    "cmp": Row(_READ, "bls", "in"), "comm": Row(_READ, "123z"), "join": Row(_READ, "iz", "aevj12ot"),
    "tr": Row(None, "cCdst"), "dd": Row(None, words="help version"),
    "grep": Row(_READ, "aEFGHhiIlLnoPqsUvwxyzZcT", "ABCme", "color color= count ignore-case invert-match line-number only-matching quiet max-count= after-context= before-context= context= files-with-matches extended-regexp fixed-strings word-regexp no-messages", first_is_text=True, recursive="rR"),
    "touch": Row(_WRITE, "acfhm", "dt", "no-create date= time="), "mkdir": Row(_WRITE, "pv", "m", "mode= parents verbose"), "truncate": Row(_WRITE, "co", "s", "size= no-create"),
    "tee": Row(_WRITE, "aip", words="append ignore-interrupts"),
    "rm": Row(_DELETE, "fiIdv", words="force interactive verbose one-file-system preserve-root", recursive="rR"),
    "rmdir": Row(_DELETE, "v", words="verbose ignore-fail-on-non-empty"), "unlink": Row(_DELETE), "shred": Row(_DELETE, "fuvxz", "ns"),
    "cp": Row(_READ, "dfHiLnpPTuvx", words=_COPY, last=_WRITE, recursive="rRa"),
    "mv": Row(_DELETE, "finTuv", words=_COPY, last=_WRITE),
    "ln": Row(_WRITE, "finPTv", words="force verbose no-dereference no-target-directory", last=_WRITE),
    "chmod": Row(_WRITE, "cfv", words="changes quiet silent verbose", first_is_text=True, recursive="R"),
    "chown": Row(_WRITE, "cfhv", words="changes quiet silent verbose no-dereference", first_is_text=True, recursive="R"),
    "chgrp": Row(_WRITE, "cfhv", words="changes quiet silent verbose no-dereference", first_is_text=True, recursive="R"),
}  # fmt: skip
"""By name: GNU coreutils 9, grep 3, procps 4."""
_RENAME: Final = names("cp mv ln")
_LISTS: Final = names("ls dir du")
"""Without an operand they say what the folder holds in which they run."""
_TESTS: Final = names("test [")
_COMPUTING: Final = names("-v -R -eq -ne -lt -le -gt -ge")
"""Shells read what these are given as names and numbers, and run the substitutions in a subscript."""
_COMPARE: Final = names("grep cmp comm join")
"""Their exit status says what stands in a file."""


class Touch(msgspec.Struct, frozen=True):
    """A path as it was written, and what happens to it."""

    path: str
    action: Action
    to: tuple[str, ...] = ()
    """Where it is moved to: what lies beneath it goes there, too."""
    implied: bool = False
    """A folder that is made where it is missing: one that is there in any case is none."""


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
    computes = base in _TESTS and not _COMPUTING.isdisjoint(arguments)
    if computes or _launches(base):
        return Understood(program, tuple(touched), f"{base} runs what cannot be seen here", unsure=True)
    row = KNOWN.get(name)
    if row is None:
        likely = [Touch(path, Action.EXECUTE) for path in _likely(arguments)]
        return Understood(program, (*touched, *likely), "", unsure=True)
    try:
        return Understood(program, (*touched, *_touches(name, row, arguments)), "")
    except _Beyond as exc:
        likely = [Touch(path, row.operands or _READ) for path in _likely(arguments)]
        return Understood(program, (*touched, *likely), f"{base} with {exc}", unsure=True)


def _launches(base: str) -> bool:
    variant = _VARIANT.fullmatch(base)
    known = base in LAUNCHERS or (variant is not None and variant[1] in LAUNCHERS and base not in KNOWN)
    return known or base.startswith(("python", "perl", "ruby", "php", "lua", "ld-"))


def tells(program: str) -> bool:
    """Whether it does more with what it reads than print it: nobody knows it, or its status says what it read."""
    folder, _, base = program.rpartition("/")
    return base not in KNOWN or base in _COMPARE or (folder != "" and folder not in SYSTEM)


def _touches(name: str, row: Row, arguments: tuple[str, ...]) -> Iterator[Touch]:
    """What a known program touches. Raises `_Beyond` where its row does not say."""
    if any(_is_more(name, argument) for argument in arguments):
        raise _Beyond("an option that does something else")
    if row.operands is None and not row.flags and not row.words:
        return  # its arguments are text
    operands = list(_split(row, arguments))
    if row.takes_none and operands:
        raise _Beyond("an operand")
    if name in _LISTS and not operands:
        yield Touch(".", _READ)
    if name == "du" and not any(word == "--summarize" or (word[:1] == "-" != word[1:2] and "s" in word) for word in arguments):
        raise _Beyond("all that lies beneath")
    if name == "dd":
        yield from _copied(operands)
    elif name == "mkdir" and any(word == "--parents" or (word[:1] == "-" != word[1:2] and "p" in word) for word in arguments):
        yield from (Touch(each, _WRITE, implied=each != operand) for operand in operands for each in (*_parents(operand), operand))
    elif name in _RENAME:
        yield from _renamed(row, operands, is_exact=_is_exact(arguments))
    elif row.operands is not None:
        yield from _operands(row, operands[1:] if row.first_is_text else operands)


def _operands(row: Row, operands: list[str]) -> Iterator[Touch]:
    for index, operand in enumerate(operands):
        if operand == "-" and row.operands is _READ and row.last is None and row.reads_input:
            continue
        is_last = index == len(operands) - 1
        yield Touch(operand, row.last if row.last is not None and is_last and index else row.operands or _READ)


def _parents(path: str) -> Iterator[str]:
    """The folders above it that are made where they are missing; those that are there whenever the path makes sense are left out."""
    parts = path.rstrip("/").split("/")
    for at in range(1, len(parts)):
        above = "/".join(parts[:at])
        if above not in {"", ".", "~"}:
            yield above


def _copied(operands: list[str]) -> Iterator[Touch]:
    """`dd`: `if=FILE of=FILE`, and numbers and words. Raises `_Beyond` for anything else."""
    for operand in operands:
        name, equals, value = operand.partition("=")
        if name in {"if", "of"} and equals:
            yield Touch(value, _READ if name == "if" else _WRITE)
        elif name not in {"bs", "ibs", "obs", "cbs", "count", "skip", "seek", "iseek", "oseek", "conv", "iflag", "oflag", "status"}:
            raise _Beyond(operand)


def _is_more(name: str, argument: str) -> bool:
    """What no table of letters says: bash's `printf -v NAME` assigns, ksh and zsh compute numbers, and binutils read options from `@FILE`."""
    match name:
        case "printf":
            return argument.startswith("-v") or ("[" in argument and not {"$", "`"}.isdisjoint(argument))
        case "exit":
            return not argument.isdigit()
        case "strings":
            return argument.startswith("@")
        case _:
            return False


def _is_exact(arguments: tuple[str, ...]) -> bool:
    """Whether the last operand is no folder to put things into: `-T`."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(word == "--no-target-directory" or (word[:1] == "-" != word[1:2] and "T" in word) for word in options)


def _renamed(row: Row, operands: list[str], *, is_exact: bool) -> Iterator[Touch]:
    """`cp`, `mv` and `ln`: the last operand is the new name, or a folder for it; which of both only the host knows."""
    if len(operands) < 2:
        raise _Beyond("one operand")
    *sources, last = operands
    inside = () if is_exact else tuple(f"{last.rstrip('/')}/{each.rstrip('/').rpartition('/')[2]}" for each in sources)
    targets = (last, *inside)
    for each in sources:
        moves = row.operands is _DELETE
        yield Touch(each, _READ, targets if moves else ())
        if row.operands is not None and row.operands is not _READ:
            yield Touch(each, row.operands, targets if moves else ())
    yield from (Touch(each, _WRITE) for each in targets)


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
                raise _Beyond("-e")  # then its first operand is a file after all; so it is with `--regexp`
        else:
            yield argument


def _letters(row: Row, argument: str, given: Iterator[str]) -> None:
    if "9" in row.flags and argument[1].isdigit() and not argument[1:].isdigit():
        raise _Beyond("letters behind a number")  # `-5c` is a number of characters, and takes no value
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
        _, equals, value = argument.partition("=")
        found = {argument, value} if equals else {argument}
        if argument.startswith("-"):
            found = {value} if equals else {argument[argument.find("/") :]} if "/" in argument else set()
        yield from sorted(each for each in found if each and (each[0] in "/~." or "/" in each))
