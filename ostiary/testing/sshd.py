"""A real OpenSSH server for tests: its own keys and configuration on a free port, nothing of /etc touched."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ostiary.model.errors import OstiaryError
from ostiary.testing.peers import free_port

START_SECONDS: Final = 20.0
SFTP_SERVER: Final = "/usr/lib/openssh/sftp-server"


class SshdDidNotStart(OstiaryError):
    """There is no sshd, or it does not start; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Sshd:
    """One running server, for the user that the test runs as."""

    home: Path
    host: str
    port: int
    user: str
    process: subprocess.Popen[bytes]

    @property
    def host_key(self) -> str:
        """The public host key, as the gateway's configuration takes it."""
        return (self.home / "host_key.pub").read_text().strip()

    @property
    def host_authority(self) -> str:
        """The public key of the authority that has signed the host key, for the name `127.0.0.1`, where it was asked for."""
        return (self.home / "host_ca.pub").read_text().strip()

    @property
    def client_key(self) -> Path:
        """A private key that lets in."""
        return self.home / "client_key"

    @property
    def authority(self) -> Path:
        """The private key of the authority whose user certificates let in."""
        return self.home / "user_ca"

    def log(self) -> str:
        """What it said so far (LogLevel VERBOSE)."""
        return (self.home / "log").read_text(errors="replace")

    def target(self, **more: object) -> dict[str, object]:
        """A connection of `ostiary.toml` to it, by a certificate of each session's own."""
        settings: dict[str, object] = {
            "type": "ssh",
            "address": f"{self.host}:{self.port}",
            "user": self.user,
            "host_keys": [self.host_key],
        }
        ways = {"key", "authority", "password"} & more.keys()
        return settings | ({} if ways else {"authority": f"file:{self.authority}"}) | more


@contextlib.contextmanager
def sshd(*options: str, certified: bool = False) -> Iterator[Sshd]:
    """Start a server; `options` are more lines of sshd_config. Stopped and deleted at the end. `certified`: its key has a certificate."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise SshdDidNotStart("there is no sshd: apt-get install openssh-server")
    home = Path(tempfile.mkdtemp(prefix="ostiary-sshd-"))
    user = pwd.getpwuid(os.getuid()).pw_name
    process: subprocess.Popen[bytes] | None = None
    try:
        for name in ("host_key", "client_key", "user_ca"):
            make_key(home / name)
        if certified:
            make_key(home / "host_ca")
            signing = ["ssh-keygen", "-q", "-s", str(home / "host_ca"), "-I", "host", "-h", "-n", "127.0.0.1", str(home / "host_key.pub")]
            subprocess.run(signing, check=True)
            options = (*options, f"HostCertificate {home}/host_key-cert.pub")
        shutil.copy(home / "client_key.pub", home / "authorized_keys")
        port = free_port()
        config = [
            f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {home}/host_key", f"PidFile {home}/pid",
            f"AuthorizedKeysFile {home}/authorized_keys", f"TrustedUserCAKeys {home}/user_ca.pub", "PermitRootLogin yes",
            "StrictModes no", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
            "LogLevel VERBOSE", f"Subsystem sftp {SFTP_SERVER}", "AcceptEnv *", "AllowStreamLocalForwarding yes",
            "MaxSessions 100", "MaxStartups 100", "PrintMotd no", "X11Forwarding yes", *options,
        ]  # fmt: skip
        (home / "sshd_config").write_text("\n".join(config) + "\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own place, emptied at boot
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(home / "sshd_config"), "-E", str(home / "log")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _wait(process, port, home / "log")
        yield Sshd(home, "127.0.0.1", port, user, process)
    finally:
        if process is not None:
            process.terminate()
            process.wait(10)
        shutil.rmtree(home, ignore_errors=True)


def make_key(path: Path) -> None:
    """Make an Ed25519 key pair."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SshdDidNotStart(log.read_text(errors="replace") if log.exists() else "it said nothing")
