"""What types cannot say about misuse, about who tells that jobs have ended, and about who tells of groups."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ostiary.config.types import File, GroupsSource, Issuer, JobWebhook, Misuse
from ostiary.model.errors import ConfigError


def misuse(written: Misuse) -> Misuse:
    """Check that somebody is named where a sign demands approval."""
    asked = [name for name in written.__struct_fields__ if getattr(written, name) == "approve"]
    if asked and not written.approvers:
        raise ConfigError("misuse.approvers", f"is empty, while {asked[0]} demands approval: name the groups that give it")
    return written


def groups_source(
    key: str, issuer: Issuer, secret: Callable[[str, str], object], file: Callable[[str, str], str]
) -> GroupsSource | None:
    """Make its secret a whole reference, and its file a whole path."""
    written = issuer.groups_source
    if written is None:
        return None
    if issuer.groups_claim not in ("groups", ("groups",)):
        raise ConfigError(key, 'tells what is left out of the claim "groups", and groups_claim names another: set groups_claim = "groups"')
    return msgspec.structs.replace(
        written,
        client_secret=str(secret(f"{key}.client_secret", written.client_secret)),
        ca_file=None if written.ca_file is None else file(f"{key}.ca_file", written.ca_file),
    )


def job_webhooks(written: File, secret: Callable[[str, str], object]) -> tuple[JobWebhook, ...]:
    """Check that each is of an issuer whose jobs have an id; secrets stay references, with whole paths."""
    tasks = {each.issuer: each.task_claim for each in written.issuers}
    found = []
    for index, webhook in enumerate(written.job_webhooks):
        key = f"job_webhooks[{index}]"
        if webhook.issuer not in tasks:
            raise ConfigError(f"{key}.issuer", "is none of the [[issuers]]")
        if tasks[webhook.issuer] is None:
            raise ConfigError(f"{key}.issuer", "has no task_claim, so its jobs cannot be told apart")
        found.append(msgspec.structs.replace(webhook, secret=str(secret(f"{key}.secret", webhook.secret))))
    return tuple(found)
