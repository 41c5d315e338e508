"""Who tells that a job has ended: the CI system, by its webhook, or the job itself, as the last thing that it does.

A token does not say that its job is over, and its own end is another: most jobs end long before. So it is told, and from then on whatever
was made for that job is misuse (`[misuse]`, `ended_job`). Only tokens from before that moment are meant: a run that is started again has the same
id, and tokens of its own.

* GitHub: the webhook `workflow_run`, signed (`X-Hub-Signature-256`), when it says `completed`.
* GitLab: the webhook for pipelines, with its secret token (`X-Gitlab-Token`), when it says how the pipeline ended.
* `POST /v1/jobs/end`, with the job's own token: of whatever issuer.

None of them can do more than end a job.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ostiary.api.deps import Desk, answer, refused_json, said_by
from ostiary.api.forms import FormRefused, body_of
from ostiary.api.showing import bearer
from ostiary.identity.jobs import moment
from ostiary.model.errors import NotAdmitted, Reason
from ostiary.model.identity import Kind, VerifiedIdentity
from ostiary.store.database import StoreFailed

MAX_HOOK: Final = 1 << 20
"""Bytes of a webhook; those of one run have about 50 KiB."""


class Jobs:
    """The handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Where they are."""
        kinds = sorted({hook.kind for hook in self._desk.deps.job_hooks})
        told = [Route(f"/v1/jobs/{kind}", partial(self._told, kind), methods=["POST"]) for kind in kinds]
        return [Route("/v1/jobs/end", self._by_itself, methods=["POST"]), *told]

    async def _by_itself(self, request: Request) -> Response:
        desk, deps = self._desk, self._desk.deps
        who: VerifiedIdentity | None = None
        try:
            who = (await bearer(request, deps.verifier, deps.base_url, deps.clock())).identity
            if who.kind is not Kind.WORKLOAD or who.acting or who.task is None:
                raise NotAdmitted(Reason.NOT_PERMITTED, "not a job's own token, or of an issuer without task_claim")  # noqa: TRY301
        except NotAdmitted as error:
            await desk.recorded("job.end", said_by(request), who, error)
            if who is None:
                return refused_json("the token was not accepted", 401)
            return refused_json("only a job itself ends it, with a token that names its run", 403)
        return await self._over(request, who, who.issuer, who.task, deps.clock(), "itself")

    async def _told(self, kind: str, request: Request) -> Response:
        try:
            body = await body_of(request, MAX_HOOK)
        except FormRefused as error:
            return refused_json(str(error), error.status)
        # Every secret of that kind is tried, whichever fits.
        hook = next((each for each in self._desk.deps.job_hooks if each.kind == kind and each.is_its(request.headers, body)), None)
        if hook is None:
            await self._desk.recorded("job.end", said_by(request), None, NotAdmitted(Reason.BAD_TOKEN, "not the webhook's secret"))
            return refused_json("the webhook's secret is another", 401)
        try:
            ended = hook.ended(request.headers, body)
        except ValueError:
            return refused_json("not an event that can be read", 400)
        if ended is None:
            return Response(status_code=204)
        return await self._over(request, None, hook.issuer, ended.task, moment(ended.at, self._desk.deps.clock()), kind)

    async def _over(self, request: Request, who: VerifiedIdentity | None, issuer: str, task: str, at: float, by: str) -> Response:
        # First ended, then recorded: if the record fails it is told again, and the job is over all the same.
        try:
            await self._desk.deps.end_job(issuer, task, at, by)
        except StoreFailed:
            return refused_json("it cannot be kept now; try again", 503)
        if not await self._desk.recorded("job.end", said_by(request), who, None, detail=f"{task} of {issuer}, told by {by}"):
            return refused_json("it cannot be recorded now; try again", 503)
        return answer({"task": task})
