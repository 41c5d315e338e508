"""libpq 18 logs in by OAUTHBEARER with the device flow, as an application does: `PQsetAuthDataHook` (PostgreSQL 18, 32.20).

libpq's own module for the device flow (`libpq-oauth`) is in no package that tests can have here: the wheel of psycopg brings libpq without it. So the hook
is ours; the exchange, the discovery and the second connection that shows the token are libpq's. It runs in a process of its own, for a hook
holds for a whole process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psycopg
import pytest

from ostiary.testing.gateway import gateway, target
from ostiary.testing.issuer import LocalIssuer

SINCE = 18_00_00

CLIENT = '''
import ctypes, glob, json, re, sys, time
import httpx, psycopg
import psycopg_binary

class Request(ctypes.Structure):
    """PGoauthBearerRequest."""
    _fields_ = [(name, ctypes.c_char_p) for name in ("openid_configuration", "scope")] + [
        ("start", ctypes.c_void_p), ("cleanup", ctypes.c_void_p), ("token", ctypes.c_char_p), ("user", ctypes.c_void_p)]

HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
kept, told = [], []

def confirm(page, code):
    """A person with a browser, on any machine."""
    with httpx.Client(follow_redirects=True, trust_env=False) as browser:
        asked = browser.post(page, data={"user_code": code}).text
        browser.post(page.removesuffix("/device") + "/oauth/consent",
                     data={"consent": re.search(r'name="consent" value="([^"]+)"', asked)[1], "answer": "yes"})

@HOOK
def hook(kind, connection, data):
    if kind != 1:  # PQAUTHDATA_OAUTH_BEARER_TOKEN
        return 0
    request = ctypes.cast(data, ctypes.POINTER(Request)).contents
    where = request.openid_configuration.decode()
    told.append(where)
    http = httpx.Client(trust_env=False)
    found = http.get(where).json()
    begun = http.post(found["device_authorization_endpoint"], data={"client_id": "ostiary"}).json()
    confirm(begun["verification_uri"], begun["user_code"])
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": begun["device_code"], "client_id": "ostiary"}
    token = http.post(found["token_endpoint"], data=form).json()["access_token"]
    kept.append(ctypes.create_string_buffer(token.encode()))
    request.token = ctypes.cast(kept[-1], ctypes.c_char_p)
    return 1

(library,) = glob.glob(psycopg_binary.__path__[0] + ".libs/libpq-*.so*")
ctypes.CDLL(library).PQsetAuthDataHook(hook)
with psycopg.connect(sys.argv[1]) as connection:
    print(json.dumps({"row": connection.execute("select 7").fetchone(), "told": told}))
'''


def test_libpq_finds_out_where_to_log_in_does_so_and_is_let_in(postgres) -> None:
    if psycopg.pq.version() < SINCE or psycopg.pq.__impl__ != "binary":
        pytest.skip("the libpq that psycopg brings is older than 18, or is the system's")
    with LocalIssuer(audience="our-client") as people:
        issuer = {"issuer": people.issuer, "audience": "our-client", "algorithms": ["EdDSA"], "discovery": True, "login_client_id": "our-client"}
        policy = '@id("all") permit (principal, action, resource);'
        with gateway(connections={"db": target(postgres)}, policy=policy, tables={"issuers": [issuer]}) as gate:
            url = f"http://127.0.0.1:{gate.api_port}"
            words = f"host=127.0.0.1 port={gate.port} dbname=db user=oauth sslmode=disable oauth_issuer={url} oauth_client_id=ostiary"
            # Without TLS libpq talks to an issuer only for tests: PostgreSQL 18, 32.20.3.
            environment = {"PATH": os.environ["PATH"], "PGOAUTHDEBUG": "UNSAFE"}
            done = subprocess.run(
                [sys.executable, "-c", CLIENT, words], env=environment, capture_output=True, text=True, timeout=100, check=False
            )
            assert done.returncode == 0, done.stderr
            said = json.loads(done.stdout)
            assert said == {"row": [7], "told": [f"{url}/.well-known/openid-configuration"]}
            (start,) = [entry for entry in gate.entries() if entry["kind"] == "session.start"]
            assert (start["who"]["iss"], start["who"]["sub"]) == (people.issuer, "ana")
