"""What is written of HTTP services is checked when it is read, and the error names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary.config.load import parse
from ostiary.model.connections import HttpConnection
from ostiary.model.errors import ConfigError

FILE = """
[gateway]
name = "gw"
state_dir = "state"
[listen.http]
address = "127.0.0.1:15481"
[policy]
files = ["policy.cedar"]
[[issuers]]
issuer = "https://idp.example.com"
audience = "ostiary"
discovery = true
[connections.app]
type = "http"
address = "app.internal:443"
"""


@pytest.mark.parametrize(
    ("more", "key", "says"),
    [
        ('[connections.app.protect]\n"json:/a" = { class = "x", mask = "hash" }', "connections.app.mask_key", "is needed"),
        ("[connections.app.classes]\nx = { infer = true }", "connections.app.classes.x.infer", "means nothing"),
        ('pass_headers = ["X_Ostiary-Subject"]', "connections.app.pass_headers", "no caller may"),
        ('[[budgets]]\nname = "b"\nof = "rows"\nmost = 1\nper = "day"\nconnections = ["app"]', "budgets[0].of", "count bytes"),
        ('[[budgets]]\nname = "b"\nof = "rows"\nmost = 1\nper = "day"\nconnections = ["nope"]', "budgets[0].connections", "not configured"),
    ],
)
def test_what_would_do_nothing_or_harm_is_refused(tmp_path: Path, more: str, key: str, says: str) -> None:
    (tmp_path / "policy.cedar").write_text("permit (principal, action, resource);")
    with pytest.raises(ConfigError) as refused:
        parse((FILE + more).encode(), tmp_path / "ostiary.toml")
    assert key in str(refused.value)
    assert says in str(refused.value)


def test_a_mask_key_is_a_secret_of_the_connection(tmp_path: Path) -> None:
    (tmp_path / "policy.cedar").write_text("permit (principal, action, resource);")
    more = 'mask_key = "env:MASKS"\n[connections.app.protect]\n"json:/a" = { class = "x", mask = "token" }'
    app = parse((FILE + more).encode(), tmp_path / "ostiary.toml").connections["app"]
    assert isinstance(app, HttpConnection)
    assert app.secrets == (app.mask_key,)
