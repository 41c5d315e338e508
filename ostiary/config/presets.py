"""What is the same for every issuer of one sort: defaults under an `[[issuers]]` section, which any setting in it overrides.

A preset says where the initiator, the run and the name stand in that sort's tokens, and when the initiator is *proved*. A person who
started a run stands in its token; a schedule, a bot and a re-run by somebody else have only an owner there, and are named as that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    # https://docs.github.com/actions/reference/openid-connect-reference
    "github": {
        "issuer": "https://token.actions.githubusercontent.com",
        "discovery": True,
        "kind": "workload",
        "algorithms": ["RS256"],
        "name_claim": "repository",
        "groups_claim": "",
        "task_claim": "run_id",
        "initiator_claim": "actor",
        "initiator_proved": True,
        # `actor` stays the first run's when somebody else runs it again, and is whoever wrote the file for a schedule.
        "initiator_proof": {
            "run_attempt": "1",
            "event_name": ["push", "workflow_dispatch", "pull_request", "release", "create", "delete", "issue_comment"],
        },
    },
    # https://docs.gitlab.com/ci/secrets/id_token_authentication/
    "gitlab": {
        "issuer": "https://gitlab.com",
        "discovery": True,
        "kind": "workload",
        "algorithms": ["RS256"],
        "name_claim": "project_path",
        "email_claim": "user_email",
        "groups_claim": "",
        "task_claim": "pipeline_id",
        "initiator_claim": "user_login",
        "initiator_proved": True,
        "initiator_proof": {"pipeline_source": ["push", "web", "merge_request_event", "ondemand_dast_scan"]},
    },
    # https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
    "kubernetes": {
        "discovery": True,
        "kind": "workload",
        "algorithms": ["RS256", "ES256"],
        "groups_claim": "",
        "subject_prefix": "system:serviceaccount:",
    },
    # https://github.com/spiffe/spiffe/blob/main/standards/JWT-SVID.md, 3: `kid` and `typ` of JWT or JOSE
    "spiffe": {
        "kind": "workload",
        "algorithms": ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"],
        "token_types": ["", "jwt", "jose"],
        "groups_claim": "",
        "subject_prefix": "spiffe://",
    },
    # https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference: managed identities have idtyp app
    "entra": {
        "discovery": True,
        "kind": "workload",
        "algorithms": ["RS256"],
        "name_claim": "azp",
        "required_claims": {"idtyp": "app"},
        "authorized_parties": ["*"],  # the managed identity's own client id
    },
    # https://cloud.google.com/docs/authentication/get-id-token: `email` names the service account
    "gcp": {
        "issuer": "https://accounts.google.com",
        "discovery": True,
        "kind": "workload",
        "algorithms": ["RS256"],
        "name_claim": "email",
        "groups_claim": "",
        "authorized_parties": ["*"],  # the service account's own id, as in `sub`
    },
}
OPEN_TO_ALL: Final = frozenset({"github", "gitlab", "gcp"})
"""Anybody in the world can have a token of these, for whatever audience they name: conditions say whose is meant."""


def under(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """`section` over the preset that it names, if it names one that there is. Claims that either requires are required."""
    preset = section.get("preset")
    found = PRESETS.get(preset) if isinstance(preset, str) else None
    if found is None:
        return section
    wanted = section.get("required_claims", {})
    both = {**found.get("required_claims", {}), **wanted} if isinstance(wanted, dict) else wanted
    return {**found, **section, **({"required_claims": both} if both else {})}
