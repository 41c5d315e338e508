"""Groups that are left out of a token are asked for where the operator said, or the login is refused: never read as none.

Microsoft Graph needs a tenant, which no test can have: a server of our own answers as its documentation says
(directoryObject: getMemberObjects), and misbehaves as it never should.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from ostiary.config import types as config
from ostiary.config.trust import groups_source
from ostiary.identity.overage import MAX_ANSWER, GroupSource
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import ConfigError, NotAdmitted, Reason
from ostiary.model.secrets import Secret, SecretRef
from ostiary.testing.gateway import gateway
from ostiary.testing.pgclient import ServerError
from ostiary.vault.references import resolve

OID = "4f0c1a52-0000-4000-8000-00000000ana1"
OVERAGE = {
    "_claim_names": {"groups": "src1"},
    "_claim_sources": {"src1": {"endpoint": "http://127.0.0.1:1/evil"}},
    "groups": None,
    "oid": OID,
}


@dataclass
class Graph:
    """What would answer for Microsoft Graph, and for its token endpoint."""

    port: int = 0
    members: dict[str, list[Any]] = field(default_factory=lambda: {OID: [f"g{n}" for n in range(250)]})
    says: bytes | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: Any = 3600
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def settings(self, **over: Any) -> config.GroupsSource:
        table = {
            "url": f"http://127.0.0.1:{self.port}/v1.0/directoryObjects/{{id}}/getMemberObjects",
            "token_url": f"http://127.0.0.1:{self.port}/token", "client_id": "gw", "client_secret": "env:X",
            "scope": "https://graph.microsoft.com/.default",
        }  # fmt: skip
        return config.GroupsSource(**(table | over))

    def source(self, **over: Any) -> GroupSource:
        return GroupSource(self.settings(**over), "issuers[0].groups_source", lambda: Secret("hush"))

    def answer(self, path: str, authorization: str, body: bytes) -> tuple[int, bytes]:
        if path == "/token":
            form = parse_qs(body.decode())
            self.asked.append((path, authorization, form))
            assert form["grant_type"] == ["client_credentials"]
            assert (form["client_id"], form["client_secret"]) == (["gw"], ["hush"])
            return 200, json.dumps({"access_token": "at", "token_type": "Bearer", "expires_in": self.seconds}).encode()
        self.asked.append((path, authorization, json.loads(body)))
        if self.says is not None:
            return self.status, self.says
        found = self.members.get(path.split("/")[3])
        if found is None:
            return 404, b'{"error": {"code": "Request_ResourceNotFound"}}'
        return self.status, json.dumps({"@odata.context": "x", "value": found}).encode()


@pytest.fixture
def graph() -> Iterator[Graph]:
    made = Graph()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, said = made.answer(self.path, self.headers.get("authorization", ""), body)
            self.send_response(status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


def token(house: Any, **over: Any) -> str:
    minted: str = house.idp.mint(**(OVERAGE | over))
    return minted


def believed(house: Any, source: GroupSource | None, *tokens: str) -> list[frozenset[str]]:
    async def go() -> list[frozenset[str]]:
        sources = {} if source is None else {house.idp.issuer: source}
        verifier = Verifier([house.issuer()], gateway=house.gateway, standing=house.standing, groups=sources)
        return [(await verifier.verify_token(each, time.time())).identity.groups for each in tokens]

    return asyncio.run(go())


def refused(house: Any, source: GroupSource | None, shown: str) -> NotAdmitted:
    with pytest.raises(NotAdmitted) as caught:
        believed(house, source, shown)
    return caught.value


def test_groups_that_are_left_out_are_asked_for(house, graph):
    first, second = believed(house, graph.source(), token(house), token(house, _claim_names=None, _claim_sources=None, hasgroups=True))
    assert first == second == {f"g{n}" for n in range(250)}
    assert [path for path, _, _ in graph.asked] == ["/token", *[f"/v1.0/directoryObjects/{OID}/getMemberObjects"] * 2]
    assert graph.asked[1][1:] == ("Bearer at", {"securityEnabledOnly": False})


def test_what_is_told_goes_by_what_is_configured_and_never_by_the_tokens_own_address(house, graph):
    (groups,) = believed(house, graph.source(only=("g1", "g7", "not-theirs")), token(house))
    assert groups == {"g1", "g7"}


def test_a_token_that_holds_its_groups_is_not_asked_about(house, graph):
    (groups,) = believed(house, graph.source(), house.idp.mint(groups=["staff"], hasgroups=False))
    assert groups == {"staff"}
    assert graph.asked == []


def test_nobody_is_asked_about_a_token_that_is_refused_anyway(house, graph):
    for over in ({"exp": 1}, {"aud": "other"}, {"sub": ""}, {"act": {"sub": "ana"}}):
        refused(house, graph.source(), token(house, **over))
    head, body, signature = token(house).split(".")
    refused(house, graph.source(), f"{head}.{body}.{signature[:-4]}AAAA")
    assert graph.asked == []


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"oid": None}, "whose they are"),
        ({"oid": 7}, "whose they are"),
        ({"oid": "../../me"}, "whose they are"),
        ({"oid": "a?b"}, "whose they are"),
        ({"oid": "00000000-0000-0000-0000-000000000000"}, "nobody of that id"),
        ({"groups": ["admin"]}, "stand in the token"),
        ({"_claim_names": {"groups": "src1", "roles": "src1"}}, "more than groups"),
        ({"_claim_names": ["groups"]}, "more than groups"),
    ],
)
def test_a_token_that_is_of_two_minds_is_refused(house, graph, over, says):
    error = refused(house, graph.source(), token(house, **over))
    assert error.reason is Reason.BAD_TOKEN
    assert says in error.detail


def test_where_nobody_is_to_be_asked_it_is_refused(house):
    error = refused(house, None, token(house))
    assert error.reason is Reason.BAD_TOKEN
    assert "overage" in error.detail


@pytest.mark.parametrize(
    "spoil",
    [
        {"status": 500}, {"status": 401}, {"status": 403}, {"status": 302, "headers": {"location": "/elsewhere"}}, {"says": b"[]"},
        {"says": b"{}"}, {"says": b'{"value": {}}'}, {"says": b'{"value": ["a"], "value": ["admin"]}'}, {"says": b"not json"},
        {"says": b'{"value": ["a"], "@odata.nextLink": "https://graph/next"}'}, {"says": b'{"value": []}' + b" " * MAX_ANSWER},
        {"members": {OID: [f"g{n}" for n in range(12_001)]}}, {"headers": {"content-encoding": "gzip"}}, {"seconds": "soon"},
    ],
)  # fmt: skip
def test_an_answer_that_is_not_whole_refuses_the_login(house, graph, spoil):
    for name, value in spoil.items():
        setattr(graph, name, value)
    assert refused(house, graph.source(), token(house)).reason is Reason.ISSUER_UNREACHABLE


@pytest.mark.parametrize("members", [[7], [None], [""], ["a\u202eb"], ["x" * 600]])
def test_a_group_that_is_no_name_refuses_the_login(house, graph, members):
    graph.members = {OID: members}
    refused(house, graph.source(), token(house))


def test_who_has_more_groups_than_a_token_holds_is_refused_unless_some_are_named(house, graph):
    graph.members = {OID: [f"{n:036}" for n in range(1500)]}
    assert "at most 1000" in refused(house, graph.source(), token(house)).detail
    (groups,) = believed(house, graph.source(only=(f"{7:036}",)), token(house))
    assert groups == {f"{7:036}"}


def test_a_place_that_is_down_is_no_fault_of_the_token(house, graph):
    source = graph.source(url="http://127.0.0.1:1/{id}")
    assert refused(house, source, token(house)).reason is Reason.ISSUER_UNREACHABLE


def test_our_own_token_is_fetched_again_before_its_end_and_after_a_no(house, graph):
    graph.seconds = 30
    believed(house, graph.source(), token(house), token(house))
    assert [path for path, _, _ in graph.asked].count("/token") == 2


def test_a_secret_that_cannot_be_read_is_a_refusal_that_says_so(house, graph):
    source = GroupSource(graph.settings(), "issuers[0].groups_source", partial(resolve, SecretRef("file", "/nonexistent/secret")))
    why = refused(house, source, token(house))
    assert why.reason is Reason.ISSUER_UNREACHABLE
    assert "file:/nonexistent/secret" in why.detail
    assert graph.asked == []


@pytest.mark.parametrize("claim", ["roles", "", ["realm_access", "roles"]])
def test_a_source_of_groups_is_for_the_claim_that_it_tells_of(claim):
    source = {"url": "https://graph.example/{id}", "token_url": "https://login.example/t", "client_id": "c", "client_secret": "env:S"}
    path = tuple(claim) if isinstance(claim, list) else claim
    told = config.Issuer(issuer="https://login.example", audience="x", groups_claim=path, groups_source=config.GroupsSource(**source))
    with pytest.raises(ConfigError, match="groups_claim"):
        groups_source("issuers[0].groups_source", told, lambda _, place: place, lambda _, place: place)


@pytest.mark.parametrize(
    "over",
    [
        {"url": "http://graph.example/{id}"}, {"url": "https://graph.example/all"}, {"url": "https://graph.example/{id}/{id}"},
        {"token_url": "http://login.example/token"}, {"url": "https://u:p@graph.example/{id}"},
    ],
)  # fmt: skip
def test_a_configuration_that_asks_in_clear_or_about_nobody_is_refused(graph, over):
    with pytest.raises(ConfigError, match="groups_source"):
        graph.source(**over)


def test_the_token_endpoint_asks_and_a_listener_does_not(graph):
    """The worker, which reads what strangers send, has nothing that could ask."""
    table = {name: getattr(graph.settings(), name) for name in ("url", "token_url", "client_id")}
    source = table | {"client_secret": "file:@HOME@/secrets/graph"}
    target = {"type": "postgresql", "address": "127.0.0.1:1", "database": "x", "user": "x", "tls": "disable"}
    with gateway(
        connections={"db": target}, policy="permit (principal, action, resource);", issuer={"groups_source": source},
        secrets_by_name={"graph": "hush"},
    ) as gate:  # fmt: skip
        claims = gate.mint.claims("ana", **OVERAGE)
        shown = gate.mint.token({name: value for name, value in claims.items() if value is not None})
        url = f"http://127.0.0.1:{gate.api_port}"
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": shown}
        form["subject_token_type"] = "urn:ietf:params:oauth:token-type:jwt"
        given = httpx.post(f"{url}/v1/token", data=form, trust_env=False, timeout=30)
        assert given.status_code == 200, given.text
        me = httpx.get(f"{url}/v1/whoami", headers={"authorization": f"Bearer {given.json()['access_token']}"}, trust_env=False)
        assert set(me.json()["groups"]) == {f"g{n}" for n in range(250)}
        asked = len(graph.asked)
        with pytest.raises(ServerError):
            gate.connect("db", token=shown)
        assert len(graph.asked) == asked
