"""Where `ostiary login` keeps a token: one file a gateway, for this user alone.

`$XDG_STATE_HOME/ostiary` (`~/.local/state/ostiary`), 0700, files 0600. With `OSTIARY_KEYRING=1` and the `keyring` package the desktop's
keyring is used instead; the file holds nothing then.
"""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.model.secrets import Secret

SERVICE = "ostiary"


def keep(api_url: str, token: Secret, seconds: int) -> None:
    """Keep a gateway's token until it expires."""
    text = json.dumps({"api": api_url, "token": token.reveal(), "expires": int(time.time()) + seconds})
    if (ring := _keyring()) is not None:
        ring.set_password(SERVICE, api_url, text)
        _path(api_url).unlink(missing_ok=True)
        return
    path = _path(api_url)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def held(api_url: str) -> Secret | None:
    """The token kept for this gateway; None: there is none that is good still."""
    text = _text(api_url)
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("api") != api_url or found.get("expires", 0) <= time.time():
        return None
    return Secret(found["token"])


def forget(api_url: str) -> None:
    """Keep no token for this gateway any more."""
    if (ring := _keyring()) is not None and ring.get_password(SERVICE, api_url) is not None:
        ring.delete_password(SERVICE, api_url)
    _path(api_url).unlink(missing_ok=True)


def needed(api_url: str) -> Secret:
    """The token kept for this gateway; else say how to get one."""
    found = held(api_url)
    if found is None:
        raise CommandFailed(ExitCode.NOT_ADMITTED, f"you are not logged in at {api_url}: run `ostiary login`")
    return found


def _path(api_url: str) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "ostiary" / f"{hashlib.sha256(api_url.encode()).hexdigest()[:32]}.json"


def _text(api_url: str) -> str | None:
    if (ring := _keyring()) is not None:
        found: str | None = ring.get_password(SERVICE, api_url)
        return found
    from ostiary.model.errors import ConfigError
    from ostiary.vault.references import read_private

    path = _path(api_url)
    try:
        return read_private(str(path), str(path)).decode("utf-8", "replace") if path.exists() else None
    except ConfigError as exc:
        raise CommandFailed(ExitCode.STORAGE, str(exc)) from None


def _keyring() -> Any:
    if os.environ.get("OSTIARY_KEYRING") != "1":
        return None
    try:
        import keyring
    except ImportError:
        raise CommandFailed(
            ExitCode.CONFIG, "OSTIARY_KEYRING=1 needs the keyring package: pip install keyring, or unset it"
        ) from None
    return keyring
