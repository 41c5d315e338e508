"""Every command in the README and the pages for users runs here, in the demo's world or in one made as the page says."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from ostiary.demo import shop
from ostiary.demo.world import World, world
from ostiary.testing.gateway import to_toml
from ostiary.testing.issuer import LocalIssuer
from ostiary.testing.peers import ServerTls, free_port, postgres_cluster
from tests.docs.pages import MUST_BE_MARKED, blocks, script

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "docs" / name for name in ("postgresql.md", "masking.md", "identity.md", "audit.md", "http.md", "policy.md", "approvals.md", "alerts.md")]
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    with world(usual_ports=False) as made:
        yield made


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for name, value in over.items():
        out[name] = merged(out[name], value) if isinstance(value, dict) and isinstance(out.get(name), dict) else value
    return out


def run(text: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["/bin/sh", "-s"],
        input=text,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_no_command_goes_untested_without_a_reason(page: Path) -> None:
    bare = [f"line {b.line}: {b.language}" for b in blocks(page) if b.language in MUST_BE_MARKED and not b.verb]
    odd = [f"line {b.line}: {b.verb}" for b in blocks(page) if b.verb not in {"", "run", "file", "serve", "not run"}]
    unexplained = [f"line {b.line}" for b in blocks(page) if b.verb == "not run" and not b.detail]
    assert not bare + odd + unexplained


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page: Path, here: World, tmp_path: Path) -> None:
    ca, second = trustme.CA(), free_port()
    served = ca.issue_cert("localhost", "127.0.0.1")
    served.cert_chain_pems[0].write_to_path(str(here.folder / "gateway.pem"))
    served.private_key_pem.write_to_path(str(here.folder / "gateway.key"))
    (here.folder / "gateway.key").chmod(0o600)
    ca.cert_pem.write_to_path(str(here.folder / "ca.pem"))
    replace = {
        "15432": str(here.port), "15480": str(here.api_port), "15433": str(second), "15499": str(free_port()), "15498": str(free_port()), "0.0.0.0": "127.0.0.1",
        "gateway.example.com": "localhost", "/etc/ostiary/": f"{here.folder}/", "http://127.0.0.1:9000": here.issuer.issuer,
    }  # fmt: skip

    def overlay(name: str, text: str) -> None:
        base = tomllib.loads((here.folder / "ostiary.toml").read_text())
        ours = {
            "gateway": {"name": "second", "state_dir": f"{page.stem}-state"},
            "api": {"address": f"127.0.0.1:{free_port()}"},
        }
        (here.folder / name).write_text(to_toml(merged(merged(base, ours), tomllib.loads(text))))

    text = script(page, replace=replace, python=sys.executable, folder=here.folder, overlay=overlay)
    run(text, here.folder, here.environment | {"USER": "me", "PYTHONPATH": os.environ.get("PYTHONPATH", "")})


def test_the_readme_leads_from_nothing_to_a_running_gateway(here: World, tmp_path: Path) -> None:
    ca = trustme.CA()
    target = ca.issue_cert("localhost")
    tls = ServerTls(target.cert_chain_pems[0].bytes(), target.private_key_pem.bytes())
    password = secrets.token_urlsafe(12)
    (tmp_path / "db-ca.pem").write_bytes(ca.cert_pem.bytes())
    (tmp_path / "shop.password").touch(mode=0o600)
    (tmp_path / "shop.password").write_text(password)
    with postgres_cluster(auth="scram-sha-256", password="root", tls=tls) as peer, LocalIssuer() as issuer:
        peer.psql(f"CREATE ROLE ostiary LOGIN PASSWORD '{password}'; CREATE DATABASE shop OWNER ostiary")
        peer.psql(f"GRANT ALL ON SCHEMA public TO ostiary; SET ROLE ostiary; {shop.TABLES}", "shop")
        for name, person in (("ana.jwt", shop.ANA), ("dora.jwt", shop.DORA)):
            (tmp_path / name).touch(mode=0o600)
            (tmp_path / name).write_text(issuer.mint(person, exp=int(time.time()) + 7200))
        replace = {
            "15432": str(free_port()), "15480": str(free_port()), "/etc/ostiary/": f"{tmp_path}/",
            "/var/lib/ostiary": str(tmp_path / "state"), "https://idp.example.com": issuer.issuer,
            "db.example.com:5432": f"localhost:{peer.port}", "[policy]\nfiles": "[audit]\nstall_ms = 10000\n\n[policy]\nfiles",
        }  # fmt: skip
        text = script(README, replace=replace, python=sys.executable, folder=tmp_path, overlay=lambda *_: None)
        run(text, tmp_path, here.environment | {"HOME": str(tmp_path)})


def test_the_picture_is_well_formed_and_loads_nothing() -> None:
    pictures = list((ROOT / "docs" / "images").glob("*.svg"))
    assert pictures
    for picture in pictures:
        text = picture.read_text()
        assert not re.search(r"<script|<!DOCTYPE|<!ENTITY|<foreignObject|xlink:href|href=|@import|url\(http", text), (
            picture.name
        )
        subprocess.run(
            [sys.executable, "-c", "import sys, xml.dom.minidom as m; m.parse(sys.argv[1])", str(picture)], check=True
        )
        assert "<title" in text, "pictures are read aloud too"
