"""The command line: clear answers, documented exit codes, never a traceback, nothing secret where others can read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ostiary.cli import reference
from ostiary.cli.codes import ExitCode, code_for
from ostiary.cli.main import main
from ostiary.cli.tokens import _run
from ostiary.model.errors import ConfigError, LogFailed, Misdeed, NotAdmitted, OstiaryError, PeerMisbehaved, Reason
from ostiary.model.secrets import Secret
from ostiary.testing.peers import Peer, free_port

ROOT = Path(__file__).parents[2]
Run = Callable[..., int]

POLICY = """
@id("reads") @limit("10")
permit (principal in Ostiary::Group::"support", action == Ostiary::Action::"read", resource in Ostiary::Connection::"orders-db");
@id("no-deletes") @message("Not here.")
forbid (principal, action == Ostiary::Action::"delete", resource in Ostiary::Label::"env=prod");
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policy.cedar").write_text(POLICY)
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "password").write_text("planted-hunter2")
    (tmp_path / "ostiary.toml").write_text(f"""
[gateway]
name = "gw1"
state_dir = "state"
[listen.postgresql]
address = "127.0.0.1:{free_port()}"
[policy]
files = ["policy.cedar"]
[[issuers]]
issuer = "https://idp.example.com"
audience = "ostiary"
discovery = true
[connections.orders-db]
type = "postgresql"
address = "127.0.0.1:{free_port()}"
database = "shop"
user = "svc"
tls = "disable"
password = "file:password"
labels = {{ env = "prod" }}
""")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("OSTIARY_")]:
        monkeypatch.delenv(name)
    return tmp_path


def run(*arguments: str) -> int:
    return main(list(arguments))


def test_check_config_says_that_all_is_well(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check-config") == ExitCode.OK
    assert "is fine" in capsys.readouterr().out
    assert run("check-config", "-o", "json") == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert found["connections"] == ["orders-db"]
    assert found["policies"] == 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[gateway]", "[gatewey]", "gatewey: unknown key; did you mean `gateway`?"),
        ('user = "svc"', 'usr = "svc"', "connections.orders-db.usr: unknown key; did you mean `user`?"),
        ("policy.cedar", "none.cedar", "policy.files[0]: there is no file"),
        ("file:password", "planted-hunter2", "connections.orders-db.password: is not a reference"),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_key(
    home: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, says: str
) -> None:
    file = home / "ostiary.toml"
    file.write_text(file.read_text().replace(old, new))
    for command in (["check-config"], ["connections", "list"], ["serve"]):
        assert run(*command) == ExitCode.CONFIG
        heard = capsys.readouterr()
        assert not heard.out
        assert says in heard.err
        assert heard.err.count("\n") == 1
        assert "hunter2" not in heard.err


def test_check_config_reads_the_witnesses_and_names_the_key_and_the_line(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = home / "ostiary.toml"
    text = config.read_text()
    config.write_text(f'{text}[audit]\nwitness_policy = "witnesses.policy"\n')
    (home / "witnesses.policy").write_text("quorum none\n")
    assert run("check-config") == ExitCode.OK
    capsys.readouterr()
    (home / "witnesses.policy").write_text("witness w1 nonsense\nquorum w1\n")
    assert run("check-config") == ExitCode.CONFIG
    heard = capsys.readouterr().err
    assert "audit.witness_policy" in heard
    assert "line 1" in heard


def test_check_config_finds_a_wrong_policy_a_lax_secret_and_a_misspelt_connection(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "policy.cedar").write_text(POLICY.replace('"orders-db"', '"order-db"'))
    assert run("check-config") == ExitCode.OK
    assert "policy reads names connection 'order-db', which is not configured" in capsys.readouterr().err
    (home / "policy.cedar").write_text(POLICY.replace('Action::"read"', 'Action::"raed"'))
    assert run("check-config") == ExitCode.CONFIG
    assert "policy.cedar line 2, policy `reads`" in capsys.readouterr().err
    (home / "policy.cedar").write_text(POLICY)
    (home / "password").chmod(0o644)
    assert run("check-config") == ExitCode.CONFIG
    assert "chmod 600" in capsys.readouterr().err


def test_init_makes_the_keys_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "-o", "json") == ExitCode.OK
    made = json.loads(capsys.readouterr().out)
    keys = home / "state" / "keys"
    assert {"root.key", "root.vkey", "kek-1.key", "token.key"} <= {path.name for path in keys.iterdir()}
    assert all(not path.stat().st_mode & 0o077 for path in keys.glob("*.key"))
    assert made["root_key"] == (keys / "root.vkey").read_text().strip()
    assert run("init") == ExitCode.CONFIG
    assert "never overwritten" in capsys.readouterr().err


def test_connections_are_listed_without_their_secrets(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("connections", "list") == ExitCode.OK
    assert "orders-db" in capsys.readouterr().out
    assert run("connections", "list", "-o", "json") == ExitCode.OK
    out = capsys.readouterr().out
    (row,) = json.loads(out)
    assert row["labels"] == ["env=prod"]
    assert "password" not in out


def test_a_target_that_nobody_serves_is_named_with_what_is_wrong(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("connections", "test", "-o", "json") == ExitCode.NO
    (row,) = json.loads(capsys.readouterr().out)
    assert not row["ok"]
    assert "cannot be reached" in row["problem"]


def test_a_target_that_answers_says_which_version_it_is(
    home: Path, capsys: pytest.CaptureFixture[str], postgres: Peer
) -> None:
    text = (home / "ostiary.toml").read_text()
    head, _, _ = text.partition("[connections")
    target = (
        f'type = "postgresql"\nuser = "{postgres.user}"\ntls = "disable"\naddress = "{postgres.host}:{postgres.port}"\n'
    )
    (home / "ostiary.toml").write_text(
        f'{head}[connections.orders-db]\n{target}database = "{postgres.database}"\n'
        f'[connections.lost]\n{target}database = "nowhere"\n'
    )
    assert run("connections", "test", "-o", "json") == ExitCode.NO
    lost, found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert found["server"].startswith("PostgreSQL ")
    assert not lost["ok"]
    assert "nowhere" in lost["problem"]
    assert run("connections", "test", "orders-db") == ExitCode.OK


def test_policy_explain_says_who_decided_and_why(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["policy", "explain", "orders-db", "-o", "json", "--action", "read", "--resource", "relation:public.orders"]
    assert run(*asked, "--group", "support", "--actor", "agent:coder") == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["policies"], found["row_limit"]) == ("permit", ["reads"], 10)
    assert run(*asked) == ExitCode.NO
    assert json.loads(capsys.readouterr().out)["message"] == "no policy permits read on relation public.orders"
    assert (
        run("policy", "explain", "orders-db", "--action", "delete", "--resource", "relation:public.orders")
        == ExitCode.NO
    )
    heard = capsys.readouterr().out
    assert heard.startswith("DENY")
    assert "policy no-deletes forbids delete on relation public.orders: Not here." in heard


@pytest.mark.parametrize(
    "wrong",
    [
        ["--action", "raed"],
        ["--kind", "robot"],
        ["--actor", "coder"],
        ["--resource", "orders"],
        ["--resource", "teapot:x"],
        ["--nope"],
    ],
)
def test_a_command_line_that_is_not_understood_ends_with_usage(
    home: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    assert run("policy", "explain", "orders-db", *wrong) == ExitCode.USAGE
    heard = capsys.readouterr()
    assert heard.err.startswith("ostiary: ")
    assert "--help" in heard.err


def test_an_unknown_connection_suggests_the_one_that_was_meant(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("connections", "test", "order-db") == ExitCode.CONFIG
    assert "did you mean orders-db?" in capsys.readouterr().err


def test_policy_check_takes_files_without_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.cedar", tmp_path / "bad.cedar"
    good.write_text(POLICY)
    bad.write_text("permit (principal, action, resource) when { context.nope };")
    assert run("policy", "check", str(good), "-o", "json") == ExitCode.OK
    assert [row["id"] for row in json.loads(capsys.readouterr().out)["policies"]] == ["reads", "no-deletes"]
    assert run("policy", "check", str(bad)) == ExitCode.CONFIG
    assert f"{bad} line 1" in capsys.readouterr().err
    assert run("policy", "check", str(tmp_path / "none.cedar")) == ExitCode.STORAGE


def test_a_token_is_never_taken_from_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("token", "orders-db") == ExitCode.USAGE
    assert "OSTIARY_SUBJECT_TOKEN" in capsys.readouterr().err
    assert run("token", "--from", "planted-token") == ExitCode.CONFIG
    assert "planted" not in capsys.readouterr().err


def test_a_gateway_that_is_not_there_is_said_so(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTIARY_SUBJECT_TOKEN", "planted-token")
    assert run("token", "--api", f"http://127.0.0.1:{free_port()}") == ExitCode.UNAVAILABLE
    heard = capsys.readouterr()
    assert "cannot be reached" in heard.err
    assert "planted" not in heard.err + heard.out


def test_a_client_finds_the_token_in_a_private_file_that_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "old")
    monkeypatch.setenv("OSTIARY_SUBJECT_TOKEN", "issuer-token")
    seen = tmp_path / "seen"
    script = f'stat -c %a "$PGPASSFILE" > {seen}; cat "$PGPASSFILE" >> {seen}; echo "$PGPASSFILE" >> {seen}; env >> {seen}; exit 7'
    assert _run(["sh", "-c", script], {"PGHOST": "127.0.0.1", "PGPORT": "1"}, Secret("a:b\\c")) == 7
    mode, line, place, *environment = seen.read_text().splitlines()
    assert mode == "600"
    assert line == "*:*:*:*:a\\:b\\\\c"
    assert not Path(place).exists()
    assert "PGHOST=127.0.0.1" in environment
    assert not [line for line in environment if line.startswith(("PGPASSWORD=", "OSTIARY_SUBJECT_TOKEN="))]


def test_a_client_that_is_not_there_or_is_killed_ends_as_in_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["/no/such/client"], {}, Secret("x")) == 127
    assert "/no/such/client" in capsys.readouterr().err
    assert _run(["sh", "-c", "kill -9 $$"], {}, Secret("x")) == 137


def test_sessions_and_audit_on_an_empty_log(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init") == ExitCode.OK
    assert run("sessions", "list", "-o", "json") == ExitCode.OK
    assert capsys.readouterr().out.endswith("[]\n")
    assert run("audit", "search", "x") == ExitCode.NO
    assert run("audit", "tail") == ExitCode.OK
    assert run("audit", "show", "nothing") == ExitCode.NO
    assert run("audit", "verify") == ExitCode.INCOMPLETE
    assert run("sessions", "show", "nothing") == ExitCode.NO
    assert run("sessions", "replay", "../../keys") == ExitCode.NO
    assert run("audit", "search", "--since", "yesterday") == ExitCode.NO
    assert "not a time" in capsys.readouterr().err


def test_what_strangers_wrote_cannot_drive_the_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "relation:public.\x1b[2J\u202eorders"
    run("policy", "explain", "orders-db", "--action", "read", "--resource", name)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\\x1b[2J" in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", shell) == ExitCode.OK
    assert "_OSTIARY_COMPLETE" in capsys.readouterr().out


def test_completion_knows_the_connections(home: Path) -> None:
    environment = os.environ | {
        "_OSTIARY_COMPLETE": "complete_bash",
        "COMP_WORDS": "ostiary connect ord",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "ostiary.cli.main"],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["orders-db"]


def test_no_traceback_reaches_a_person(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("planted-secret")

    monkeypatch.setattr("ostiary.config.load.load", broken)
    assert run("check-config") == ExitCode.BUG
    heard = capsys.readouterr()
    assert (
        heard.err
        == "ostiary: an unexpected ZeroDivisionError; run it again with `ostiary --debug` and report what it prints\n"
    )
    monkeypatch.setenv("OSTIARY_DEBUG", "1")
    assert run("check-config") == ExitCode.BUG
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_stops_reading_is_no_error(home: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "ostiary.cli.main", "policy", "explain", "orders-db"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.returncode == ExitCode.PIPE
    assert not done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a", "b"), ExitCode.CONFIG),
        (NotAdmitted(Reason.TARGET_UNREACHABLE), ExitCode.UNAVAILABLE),
        (NotAdmitted(Reason.BAD_TOKEN), ExitCode.NOT_ADMITTED),
        (LogFailed("x"), ExitCode.STORAGE),
        (PeerMisbehaved(Misdeed.BAD_TEXT), ExitCode.PROTOCOL),
        (OstiaryError("x"), ExitCode.NO),
        (FileNotFoundError("x"), ExitCode.STORAGE),
        (KeyError("x"), ExitCode.BUG),
    ],
)
def test_the_exit_code_says_whose_fault_it_is(error: Exception, code: ExitCode) -> None:
    assert code_for(error) is code


# --- the documentation ------------------------------------------------------------------------------------------------


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert page == reference.page(), "run: python -m ostiary.cli.reference > docs/cli.md"


def test_every_command_and_option_is_explained() -> None:
    for path, command in reference.commands():
        assert command.help, f"{path} has no help"
        for parameter in command.params:
            assert parameter.name == "help" or parameter.help, f"{path} {parameter.name} has no help"


def test_every_command_that_prints_a_result_takes_output() -> None:
    without = {"ostiary serve", "ostiary connect", "ostiary completion", "ostiary audit prove", "ostiary audit export"}
    without |= {"ostiary login", "ostiary logout", "ostiary aws", "ostiary env"}  # the last two in others' formats
    without |= {"ostiary witness init", "ostiary witness serve"}
    for path, command in reference.commands():
        assert path in without or "output" in {parameter.name for parameter in command.params}, path


def test_help_imports_nothing_heavy() -> None:
    heavy = "cedarpy|cryptography|httpx|starlette|uvicorn|asyncpg|msgspec|rich|sqlite3|asyncio"
    script = (
        "import sys; from ostiary.cli.main import main; main(['--help']);"
        f"print(sorted(n for n in sys.modules if n in {heavy.split('|')!r}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == "[]"
