"""`ostiary login`, `logout`, `whoami`: a person's own token, kept for the other commands."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ostiary.cli.asking import answers, code_of
from ostiary.cli.codes import CommandFailed, ExitCode
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, load
from ostiary.cli.output import Output, emit_json, say
from ostiary.cli.tokens import Api, CaFile

if TYPE_CHECKING:
    from ostiary.api.client import Granted
    from ostiary.model.secrets import Secret

LOGIN_SECONDS = 600


def api_url(api: str | None, config: Path) -> str:
    """The API's URL, from the option or the configuration."""
    return api.rstrip("/") if api is not None else load(config).api.base_url


def login(
    device: Annotated[
        bool, typer.Option("--device", help="Show a code to type on another device, instead of opening a browser here.")
    ] = False,
    issuer: Annotated[str | None, typer.Option(help="Where you have your account, if there are several.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the browser; else only say where to go.")] = True,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Log in at your organisation's login page, in a browser, and keep the token for the other commands."""
    from ostiary.cli.held import keep

    url, trust = api_url(api, config), None if ca_file is None else str(ca_file)
    granted = _by_device(url, trust) if device else _by_browser(url, trust, issuer, opens=browser)
    keep(url, granted.token, granted.seconds)
    say(f"logged in at {url}; good for {max(1, granted.seconds // 60)} minutes")


def _by_device(url: str, trust: str | None) -> Granted:
    from ostiary.api.client import ApiRefused, begin_device, grant
    from ostiary.api.words import COMMAND_LINE, DEVICE_CODE

    try:
        begun = begin_device(url, ca_file=trust)
        where, code = str(begun["verification_uri"]), str(begun["user_code"])
        say(f"open {where} in a browser and type {code}")
        pause = min(max(1, int(begun.get("interval", 5))), 30)
        form = {"grant_type": DEVICE_CODE, "device_code": str(begun["device_code"]), "client_id": COMMAND_LINE}
        ends = time.monotonic() + LOGIN_SECONDS
        while time.monotonic() < ends:
            time.sleep(pause)
            try:
                return grant(url, form, ca_file=trust)
            except ApiRefused as exc:
                if exc.error == "slow_down":
                    pause += 1
                elif exc.error != "authorization_pending":
                    raise
    except ApiRefused as exc:
        raise CommandFailed(code_of(exc), f"{url}: {_why(exc)}") from None
    except (KeyError, TypeError, ValueError):
        raise CommandFailed(ExitCode.PROTOCOL, f"{url} does not answer as a gateway does") from None
    raise CommandFailed(ExitCode.NOT_ADMITTED, "nobody typed the code in time")


def _why(exc: Exception) -> str:
    refused = getattr(exc, "error", "")
    return {"access_denied": "you said no", "expired_token": "nobody typed the code in time"}.get(refused, str(exc))


def _by_browser(url: str, trust: str | None, issuer: str | None, *, opens: bool) -> Granted:
    """RFC 8252: a page of ours on loopback hears the answer; PKCE makes it worthless to whoever else does."""
    import base64
    import hashlib
    import secrets
    from urllib.parse import urlencode

    from ostiary.api.client import grant
    from ostiary.api.words import CODE, COMMAND_LINE
    from ostiary.cli.loopback import Ear

    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    digest = hashlib.sha256(verifier.encode()).digest()
    with Ear() as ear:
        query = {
            "response_type": "code",
            "client_id": COMMAND_LINE,
            "redirect_uri": ear.url,
            "state": state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        if issuer is not None:
            query["issuer"] = issuer
        where = f"{url}/oauth/authorize?{urlencode(query)}"
        if opens:
            import webbrowser

            opens = webbrowser.open(where)
        say(("if no browser opened, go to " if opens else "go to ") + where)
        heard = ear.wait(LOGIN_SECONDS, state)
        redirect = ear.url
    if heard.get("iss") != url:
        raise CommandFailed(ExitCode.PROTOCOL, "the answer came from another gateway; nothing was sent to it")
    if "code" not in heard:
        said = {"access_denied": "you said no"}.get(heard.get("error", ""), heard.get("error", "no answer"))
        raise CommandFailed(ExitCode.NOT_ADMITTED, f"{url}: {said}")
    form = {
        "grant_type": CODE,
        "code": heard["code"],
        "client_id": COMMAND_LINE,
        "redirect_uri": redirect,
        "code_verifier": verifier,
    }
    with answers(url):
        return grant(url, form, ca_file=trust)


def logout(api: Api = None, ca_file: CaFile = None, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """End the token that `ostiary login` keeps, everywhere, and forget it. Delegations go on: revoke them by name."""
    from ostiary.api.client import revoke
    from ostiary.cli.held import forget, held

    url = api_url(api, config)
    token = held(url)
    if token is None:
        forget(url)
        say("you were not logged in")
        return
    with answers(url, more="; you are still logged in"):
        revoke(url, token, ca_file=None if ca_file is None else str(ca_file))
    forget(url)
    say("logged out")


def whoami(
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Say what the token that `ostiary login` keeps proves."""
    from ostiary.cli.output import emit_lines

    found = asked(api, config, ca_file, "GET", "/v1/whoami")
    if output is Output.JSON:
        emit_json(found)
        return
    lines = [f"{found.get('name')} ({found.get('subject')} at {found.get('issuer')}), {found.get('kind')}"]
    lines += [f"through {actor.get('name')} ({actor.get('sub')})" for actor in found.get("acting", [])]
    lines += [f"groups: {', '.join(found['groups'])}"] if found.get("groups") else []
    lines.append(f"until {found.get('expires')}")
    emit_lines(lines)


def asked(
    api: str | None,
    config: Path,
    ca_file: Path | None,
    method: str,
    path: str,
    *,
    form: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
    token: Secret | None = None,
) -> dict[str, Any]:
    """Ask the API as whoever is logged in, or as whoever `token` proves."""
    from ostiary.api.client import ask
    from ostiary.cli.held import needed

    url = api_url(api, config)
    with answers(url):
        return ask(
            url,
            method,
            path,
            needed(url) if token is None else token,
            form=form,
            body=body,
            ca_file=None if ca_file is None else str(ca_file),
        )
