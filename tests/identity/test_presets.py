"""Tokens of clouds, in the shape that their makers document, signed by an issuer of the test's own, under the presets as they stand."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from ostiary.config import types as config
from ostiary.config.presets import under
from ostiary.identity.issuers import issuer_configured
from ostiary.identity.standing import Standing
from ostiary.identity.tokens import Proved
from ostiary.identity.verifier import Verifier
from ostiary.model.errors import NotAdmitted
from ostiary.testing.issuer import LocalIssuer

TENANT = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
# https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference, a managed identity's, versions 2.0 and 1.0
ENTRA_2 = {
    "aio": "E2VgYDg...", "azp": "00001111-aaaa-2222-bbbb-3333cccc4444", "azpacr": "2", "idtyp": "app", "oid": "object-1", "rh": "0.AAAA",
    "sub": "object-1", "tid": TENANT, "uti": "AbCd", "ver": "2.0",
}  # fmt: skip
ENTRA_1 = {
    "aio": "E2VgYDg...", "appid": "00001111-aaaa-2222-bbbb-3333cccc4444", "appidacr": "2", "idp": "https://sts.windows.net/x/",
    "idtyp": "app", "oid": "object-1", "rh": "0.AAAA", "sub": "object-1", "tid": TENANT, "uti": "AbCd", "ver": "1.0",
    "xms_mirid": "/subscriptions/s/resourcegroups/g/providers/Microsoft.Compute/virtualMachines/vm",
}  # fmt: skip
# https://cloud.google.com/docs/authentication/token-types#id: a service account's, with and without the instance's own details
GCP = {"azp": "112010400000000710080", "sub": "112010400000000710080", "email": "ci@p.iam.gserviceaccount.com", "email_verified": True}
GCE = GCP | {"google": {"compute_engine": {"instance_id": "1", "instance_name": "vm", "project_id": "p", "zone": "z"}}}


# https://docs.github.com/actions/reference/openid-connect-reference: a push to a branch
GITHUB = {
    "sub": "repo:shop/deploy:ref:refs/heads/main", "repository": "shop/deploy", "repository_owner": "shop", "actor": "bob", "run_id": "8123",
    "run_attempt": "1", "event_name": "push", "sha": "4f2c", "ref": "refs/heads/main", "runner_environment": "github-hosted",
}  # fmt: skip
# https://docs.gitlab.com/ci/secrets/id_token_authentication/: a pipeline of a push
GITLAB = {
    "sub": "project_path:shop/deploy:ref_type:branch:ref:main", "project_path": "shop/deploy", "user_login": "bob", "user_email": "bob@shop.example",
    "pipeline_id": "8123", "pipeline_source": "push", "job_id": "9", "ref": "main", "sha": "4f2c",
}  # fmt: skip
# https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/: a bound token
KUBERNETES = {
    "sub": "system:serviceaccount:shop:deploy",
    "kubernetes.io": {"namespace": "shop", "pod": {"name": "deploy-1", "uid": "u"}, "serviceaccount": {"name": "deploy", "uid": "v"}},
}


def proved(preset: str, claims: dict[str, Any], **settings: Any) -> Proved:
    with LocalIssuer("RS256", audience="api://ostiary") as idp:
        section = under({"preset": preset, "audience": "api://ostiary", "issuer": idp.issuer} | settings)
        written = msgspec.convert({**section, "jwks_url": idp.jwks_url}, config.Issuer)
        verifier = Verifier([issuer_configured(written)], gateway=None, standing=Standing())
        now = int(time.time())
        whole = {"iss": idp.issuer, "aud": "api://ostiary", "iat": now, "nbf": now, "exp": now + 3600} | claims
        token = idp.mint({}, **whole)
        return asyncio.run(verifier.verify_token(token, time.time()))


@pytest.mark.parametrize(
    ("preset", "claims", "subject", "name"),
    [
        ("entra", ENTRA_2, "object-1", ENTRA_2["azp"]),
        ("entra", ENTRA_1, "object-1", "object-1"),
        ("gcp", GCP, "112010400000000710080", "ci@p.iam.gserviceaccount.com"),
        ("gcp", GCE, "112010400000000710080", "ci@p.iam.gserviceaccount.com"),
    ],
)
def test_a_clouds_workload_is_known_by_its_token(preset: str, claims: dict[str, Any], subject: str, name: str) -> None:
    conditions = {"required_claims": {"email": "ci@p.iam.gserviceaccount.com"}} if preset == "gcp" else {}
    who = proved(preset, claims, **conditions).identity
    assert (who.subject, who.name, who.kind.value, who.groups) == (subject, name, "workload", frozenset())


@pytest.mark.parametrize(
    "more",
    [
        {"idtyp": "user"}, {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.windows.net/x"}}},
        {"hasgroups": True}, {"_claim_names": {"groups": "src1"}}, {"aud": "api://other"},
    ],
)  # fmt: skip
def test_a_persons_token_and_one_without_its_groups_are_no_managed_identitys(more: dict[str, Any]) -> None:
    with pytest.raises(NotAdmitted):
        proved("entra", ENTRA_2 | more)


def test_what_a_preset_requires_is_required_beside_what_the_section_does() -> None:
    with pytest.raises(NotAdmitted, match="idtyp"):
        proved("entra", ENTRA_2 | {"idtyp": "user"}, required_claims={"tid": TENANT})
    assert proved("entra", ENTRA_2, required_claims={"tid": TENANT}).identity.subject == "object-1"


def test_another_projects_service_account_is_refused() -> None:
    with pytest.raises(NotAdmitted, match="email"):
        proved("gcp", GCP, required_claims={"email": "ci@other.iam.gserviceaccount.com"})


def test_a_party_that_asked_for_the_token_is_still_looked_at_where_no_preset_says_otherwise() -> None:
    with pytest.raises(NotAdmitted, match="azp"):
        proved("kubernetes", {"sub": "system:serviceaccount:a:b", "azp": "somebody"})


@pytest.mark.parametrize(
    ("preset", "claims", "is_proved"),
    [
        ("github", GITHUB, True),
        ("github", GITHUB | {"event_name": "workflow_dispatch"}, True),
        ("github", GITHUB | {"run_attempt": "2"}, False),
        ("github", GITHUB | {"event_name": "schedule"}, False),
        ("github", GITHUB | {"event_name": "a kind of event that is new"}, False),
        ("github", GITHUB | {"actor": "renovate[bot]"}, False),
        ("github", {name: value for name, value in GITHUB.items() if name != "run_attempt"}, False),
        ("gitlab", GITLAB, True),
        ("gitlab", GITLAB | {"pipeline_source": "web"}, True),
        ("gitlab", GITLAB | {"pipeline_source": "schedule"}, False),
        ("gitlab", GITLAB | {"pipeline_source": "trigger"}, False),
    ],
)
def test_a_run_names_its_initiator_no_stronger_than_its_token_does(preset: str, claims: dict[str, Any], is_proved: bool) -> None:
    required = {"repository": "shop/deploy"} if preset == "github" else {"project_path": "shop/deploy"}
    who = proved(preset, claims, required_claims=required).identity
    assert who.initiator is not None
    assert (who.initiator.sub, who.initiator.proved) == (claims.get("actor", "bob"), is_proved)
    assert (who.subject, who.name, who.task, who.kind.value) == (claims["sub"], "shop/deploy", "8123", "workload")


def test_a_run_of_another_repository_is_refused() -> None:
    with pytest.raises(NotAdmitted, match="repository"):
        proved("github", GITHUB | {"repository": "evil/fork"}, required_claims={"repository": "shop/deploy"})


def test_a_pod_is_its_service_account_and_nobody_elses_token_is_one() -> None:
    who = proved("kubernetes", KUBERNETES).identity
    assert (who.subject, who.kind.value, who.groups, who.initiator) == ("system:serviceaccount:shop:deploy", "workload", frozenset(), None)
    with pytest.raises(NotAdmitted, match="subject"):
        proved("kubernetes", KUBERNETES | {"sub": "system:node:one"})


def test_a_workload_of_spiffe_is_its_id() -> None:
    assert proved("spiffe", {"sub": "spiffe://shop.example/ns/shop/sa/deploy"}).identity.subject == "spiffe://shop.example/ns/shop/sa/deploy"
    with pytest.raises(NotAdmitted, match="subject"):
        proved("spiffe", {"sub": "https://shop.example/ns/shop/sa/deploy"})
