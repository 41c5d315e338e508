"""`ostiary approvals`: what waits for people, and their answers."""

# ruff: noqa: PLC0415 - imports wait until a command needs them

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ostiary.cli.asking import answers
from ostiary.cli.options import DEFAULT_CONFIG, ConfigFile, OutputFormat, load
from ostiary.cli.output import Output, emit_json, emit_lines, emit_safe, say, table
from ostiary.cli.tokens import SUBJECT_TOKEN, Api, CaFile, SubjectToken, subject_token

app = typer.Typer(no_args_is_help=True, help="Questions that wait for people: list, show, answer.", rich_markup_mode=None)

QuestionId = Annotated[str, typer.Argument(help="The question's id.")]
Reason = Annotated[str, typer.Option(help="Why, for the record and for whoever asked.")]
WATCH_SECONDS = 1.0


def _call(
    config: Path, api: str | None, subject: str, ca_file: Path | None, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    from ostiary.api.client import MAX_PAGE, ask

    url = api if api is not None else load(config).api.base_url
    with answers(url):
        return ask(
            url, method, path, subject_token(url, subject), body=body, most=MAX_PAGE,
            ca_file=None if ca_file is None else str(ca_file),
        )  # fmt: skip


def _row(each: dict[str, Any]) -> dict[str, Any]:
    needed = ", ".join(f"{count} of {group}" for group, count in each["needed"].items())
    left = max(0, each["expires"] - int(time.time()))
    return {
        "id": each["id"], "who": each["who"], "connection": each["connection"], "what": each["head"] or each["name"],
        "needs": needed, "state": each["state"], "left": f"{left // 60}:{left % 60:02d}",
    }  # fmt: skip


@app.command("list")
def list_(
    past: Annotated[bool, typer.Option("--past", help="Also those that are over.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until there is one.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print nothing but their ids, one a line.")] = False,
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List the questions that you may answer, and your own."""
    path = f"/v1/approvals?past={str(past).lower()}"
    while not (found := _call(config, api, subject, ca_file, "GET", path)["approvals"]) and wait:
        time.sleep(WATCH_SECONDS)
    if ids:
        emit_lines([each["id"] for each in found])
    elif output is Output.JSON:
        emit_json(found)
    else:
        table([_row(each) for each in found], ["id", "who", "connection", "what", "needs", "state", "left"], empty="none")


@app.command("show")
def show(
    question: QuestionId,
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show all of a question: who asks for whom, every byte of what would run, and what to look out for."""
    found = _call(config, api, subject, ca_file, "GET", f"/v1/approvals/{question}")
    if output is Output.JSON:
        emit_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    row = _row(found)
    emit_lines([f"{found['id']}  {found['state']}  {row['left']} left", f"who         {found['who']}"])
    emit_lines([f"connection  {found['connection']}", f"needs       {row['needs']}", f"because     {found['message']}"])
    emit_lines([f"touches     {', '.join(found['objects'])}"] + [f"says        {found['said']}"] * bool(found["said"]))
    if "statement" in found:
        emit_lines([f"LOOK OUT    {flag}" for flag in found["flags"]])
        # The API has spelled out whatever could act on a terminal; a second escaping would double its backslashes.
        emit_safe(["", *found["statement"].split("\n"), ""])
        emit_safe([f"${number} = {value}" for number, value in enumerate(found["parameters"], 1)])
    for each in found["answers"]:
        verb = "approved" if each["yes"] else "denied"
        emit_lines([f"{each['who']} {verb} it" + (f": {each['reason']}" if each["reason"] else "")])
    emit_lines([f"digest      {found['digest']}"])


def _answer(
    verb: str, question: str, digest: str, reason: str, subject: str, api: str | None, ca_file: Path | None, config: Path,
    output: Output,
) -> None:
    if not digest:
        # What is answered is what is shown here, now: the digest in the answer says so.
        found = _call(config, api, subject, ca_file, "GET", f"/v1/approvals/{question}")
        if output is Output.TEXT:
            _print(found)
        digest = found["digest"]
    body = {"digest": digest, "reason": reason}
    done = _call(config, api, subject, ca_file, "POST", f"/v1/approvals/{question}/{verb}", body)
    _done(done, f"{question} is {done['state']}", output)


def _done(done: dict[str, Any], sentence: str, output: Output) -> None:
    if output is Output.JSON:
        emit_json(done)
    else:
        say(sentence)


@app.command("approve")
def approve(
    question: QuestionId,
    digest: Annotated[str, typer.Option(help="The digest that `show` printed; without it, the question is shown first.")] = "",
    reason: Reason = "",
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Approve exactly this operation, once. Nobody approves what they asked themselves, or what asks in their name."""
    _answer("approve", question, digest, reason, subject, api, ca_file, config, output)


@app.command("deny")
def deny(
    question: QuestionId,
    digest: Annotated[str, typer.Option(help="The digest that `show` printed; without it, the question is shown first.")] = "",
    reason: Reason = "",
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Deny it: one no is enough, and whoever waits is told at once, with the reason."""
    _answer("deny", question, digest, reason, subject, api, ca_file, config, output)


@app.command("watch")
def watch(
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Print each question when it is asked, and when it is over; for ever, until Ctrl-C."""
    known: dict[str, str] = {}
    while True:
        for each in reversed(_call(config, api, subject, ca_file, "GET", "/v1/approvals?past=true")["approvals"]):
            if known.get(each["id"]) != each["state"] and (known or each["state"] == "open"):
                row = _row(each)
                if output is Output.JSON:
                    emit_json(each)
                else:
                    emit_lines([f"{row['id']}  {row['state']}  {row['who']}  {row['connection']}  {row['what']}"])
            known[each["id"]] = each["state"]
        known.setdefault("", "")
        time.sleep(WATCH_SECONDS)


@app.command("request")
def request(
    connection: Annotated[str, typer.Argument(help="The connection.")],
    reason: Annotated[str, typer.Option(help="Why you need it.")],
    minutes: Annotated[int, typer.Option(min=1, help="For how long.")] = 30,
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Ask for a connection for a while. Once it is granted the minutes run, and sessions end with them."""
    body = {"connection": connection, "minutes": minutes, "reason": reason}
    done = _call(config, api, subject, ca_file, "POST", "/v1/grants", body)
    if output is Output.JSON:
        emit_json(done)
    else:
        emit_lines([str(done["id"])])


@app.command("revoke")
def revoke(
    grant: Annotated[str, typer.Argument(help="The id of the request that was granted, or under which the glass was broken.")],
    reason: Reason = "",
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Take back a connection that was granted for a time, or a broken glass: sessions that were opened under it end at once."""
    done = _call(config, api, subject, ca_file, "POST", f"/v1/grants/{grant}/revoke", {"reason": reason})
    _done(done, f"{grant} is over", output)


@app.command("break-glass")
def break_glass(
    connection: Annotated[str, typer.Argument(help="The connection.")],
    reason: Annotated[str, typer.Option(help="What the emergency is.")],
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Pass every approval on one connection for a while: for people of a named group, on record, told to everybody, and reviewed later."""
    done = _call(config, api, subject, ca_file, "POST", "/v1/break-glass", {"connection": connection, "reason": reason})
    if output is Output.JSON:
        emit_json(done)
        return
    emit_lines([str(done["id"])])
    say(f"until {time.strftime('%H:%M:%S', time.gmtime(done['until']))} UTC; somebody else has to review it")


@app.command("broken")
def broken(
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List the times that the glass was broken, and what reviews found."""
    found = _call(config, api, subject, ca_file, "GET", "/v1/break-glass")["break_glass"]
    if output is Output.JSON:
        emit_json(found)
    else:
        table(found, ["id", "who", "connection", "reason", "reviewer", "note"], empty="never")


@app.command("review")
def review(
    glass: Annotated[str, typer.Argument(help="The id under which the glass was broken.")],
    note: Annotated[str, typer.Option(help="What you found.")],
    subject: SubjectToken = SUBJECT_TOKEN,
    api: Api = None,
    ca_file: CaFile = None,
    config: ConfigFile = DEFAULT_CONFIG,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Say that you have looked at what was done behind the broken glass."""
    done = _call(config, api, subject, ca_file, "POST", f"/v1/break-glass/{glass}/review", {"note": note})
    _done(done, "reviewed", output)
