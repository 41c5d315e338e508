"""The few pages that a person sees while logging in: no script, no other origin, nothing that was not escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Callable
from typing import Any, Final

from starlette.responses import HTMLResponse, Response

from ostiary.model.identity import VerifiedIdentity

_STYLE: Final = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}"
    "h1{font-size:1.25rem}dt{font-weight:600}dd{margin:0 0 .5rem 1rem;overflow-wrap:anywhere}"
    "button{font:inherit;padding:.5rem 1.25rem;margin-right:.75rem}input{font:inherit;padding:.4rem;letter-spacing:.1em}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_WORDS: Final = {
    "connections": "On these connections",
    "actions": "Doing only",
    "resources": "Only with",
    "effects": "No more in all than",
}


def _page(title: str, body: str, status: int = 200, *, forms_to: str | None = "") -> Response:
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)} - Ostiary</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><main><h1>{html.escape(title)}</h1>{body}</main></body></html>"
    )
    # A form's redirect counts as its target, so the client's own address has to be among them.
    # None: to wherever the person's issuer leads, through hosts that are not known here.
    forms = "" if forms_to is None else f" form-action 'self'{' ' * bool(forms_to)}{forms_to};"
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}';{forms} frame-ancestors 'none'; base-uri 'none'"
    return HTMLResponse(text, status, headers=HEADERS | {"content-security-policy": policy})


def problem(sentence: str, status: int = 400) -> Response:
    """Say what went wrong."""
    return _page("This did not work", f"<p>{html.escape(sentence)}</p>", status)


def done() -> Response:
    """The device has what it asked for."""
    return _page("Done", "<p>You can close this page and go back to your device.</p>")


def compact(details: list[dict[str, Any]]) -> str:
    """`authorization_details` as a parameter."""
    return json.dumps(details, separators=(",", ":"))


def choose(issuers: list[str], address: Callable[[str], str]) -> Response:
    """Ask at which issuer the person has an account."""
    links = "".join(f'<li><a href="{html.escape(address(each))}">{html.escape(each)}</a></li>' for each in issuers)
    return _page("Where do you log in?", f"<ul>{links}</ul>")


def device(user_code: str, issuer: str) -> Response:
    """Ask for the code that a device shows."""
    hidden = f'<input type="hidden" name="issuer" value="{html.escape(issuer)}">' if issuer else ""
    return _page(
        "Log a device in",
        "<p>Type the code that your device shows. If you did not start this yourself, just now, close this page: whoever"
        " sent you the code would be logged in as you.</p>"
        f'<form method="post" action="/device"><input name="user_code" value="{html.escape(user_code[:16])}" required'
        f' autocomplete="off" autocapitalize="characters" aria-label="Code">{hidden} <button>Go on</button></form>',
        forms_to=None,
    )


def consent(
    token: str,
    who: VerifiedIdentity,
    client: str,
    details: list[dict[str, Any]] | None,
    seconds: int,
    origin: str,
    *,
    is_device: bool,
) -> Response:
    """Ask the person whether this client may have what it asks for."""
    rows = [("You are", f"{who.name} ({who.subject} at {who.issuer})"), ("Asking", client)]
    for item in details or []:
        rows += [(_WORDS[name], _listed(item[name])) for name in _WORDS if name in item]
    if details is not None:
        rows.append(("For", f"{max(1, seconds // 60)} minutes; you can end it any time with: ostiary delegate revoke"))
    listed = "".join(f"<dt>{html.escape(label)}</dt><dd>{html.escape(value)}</dd>" for label, value in rows)
    warning = "<p>Say yes only if the device that asks is before you.</p>" if is_device else ""
    wants = "act for you" if details is not None else "log in as you"
    return _page(
        f"May it {wants}?",
        f'<dl>{listed}</dl>{warning}<form method="post" action="/oauth/consent">'
        f'<input type="hidden" name="consent" value="{html.escape(token)}">'
        '<button name="answer" value="yes">Yes</button><button name="answer" value="no">No</button></form>',
        forms_to=origin,
    )


def _listed(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{most} {name}" for name, most in value.items())
    return ", ".join(str(each) for each in value) if isinstance(value, list) and value else "nothing"
