"""The configuration is read once, strictly; every fault names its key and says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.config import checks, masks
from ostiary.config.checks import column_name
from ostiary.config.load import _table, load, parse
from ostiary.config.types import Config, File
from ostiary.config.words import split_address
from ostiary.kernel.detect import NAMES
from ostiary.kernel.national import NATIONAL
from ostiary.model.connections import Detector, Durability, Protected, Recording, Strategy
from ostiary.model.errors import ConfigError
from ostiary.model.identity import Kind
from ostiary.model.secrets import SecretRef

WHOLE = """
[gateway]
name = "gw1"
state_dir = "state"

[listen.postgresql]
address = "127.0.0.1:15432"

[policy]
files = ["policy.cedar"]

[[issuers]]
issuer = "https://idp.example.com"
audience = "ostiary"
discovery = true
kind = "workload"

[connections.orders-db]
type = "postgresql"
address = "db.example.com:5432"
database = "shop"
user = "svc"
password = "file:db.password"
labels = { env = "prod", team = "shop" }

[connections.orders-db.protect]
"public.customers.card" = { class = "pci", mask = "last4" }
'public."Odd.Table".Email' = { class = "pii" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.cedar").write_text("permit (principal, action, resource);")
    (tmp_path / "db.password").write_text("xyzzy")
    return tmp_path


def read(folder: Path, text: str) -> Config:
    return parse(text.encode(), folder / "ostiary.toml")


def refused(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return caught.value


def test_a_whole_file_becomes_frozen_values(folder: Path) -> None:
    (folder / "ostiary.toml").write_text(WHOLE)
    config = load(folder / "ostiary.toml")
    assert config.gateway.state_dir == str(folder / "state")
    assert config.policy.files == (str(folder / "policy.cedar"),)
    assert config.issuers[0].kind is Kind.WORKLOAD
    assert config.listen.postgresql is not None
    assert (config.listen.postgresql.host, config.listen.postgresql.port) == ("127.0.0.1", 15432)
    assert config.audit.durability is Durability.STRICT
    connection = config.connections["orders-db"]
    assert connection.labels == ("env=prod", "team=shop")
    assert connection.upstream.password == SecretRef("file", str(folder / "db.password"))
    assert (connection.upstream.host, connection.upstream.port, connection.upstream.tls) == (
        "db.example.com",
        5432,
        "verify-full",
    )
    assert (connection.durability, connection.recording) == (Durability.STRICT, Recording.FULL)
    assert connection.protect == (
        Protected("public", "customers", "card", "pci", Strategy.LAST4),
        Protected("public", "Odd.Table", "email", "pii", Strategy.REDACT),
    )
    assert config.dangers() == ()
    with pytest.raises(AttributeError):
        config.gateway = config.gateway  # type: ignore[misc]


def test_a_connection_keeps_its_own_durability_else_the_logs(folder: Path) -> None:
    text = WHOLE.replace('user = "svc"', 'user = "svc"\ndurability = "buffered"')
    assert read(folder, text).connections["orders-db"].durability is Durability.BUFFERED
    text = WHOLE + '[audit]\ndurability = "buffered"\n'
    assert read(folder, text).connections["orders-db"].durability is Durability.BUFFERED


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ('name = "gw1"', 'name = "gw1"\nstate_dri = "x"', "gateway.state_dri", "did you mean `state_dir`?"),
        ('name = "gw1"', "", "gateway.name", "missing"),
        ('name = "gw1"', "name = 5", "gateway.name", "must be `str`, not `int`"),
        ('name = "gw1"', 'name = "gw1"\nlog_level = "loud"', "gateway.log_level", "one of: debug, info, warning, error"),
        ("[gateway]", "[gatewai]", "gatewai", "did you mean `gateway`?"),
        ("[listen.postgresql]", "[listen.mysql]", "listen.mysql", "unknown key"),
        ('"127.0.0.1:15432"', '"127.0.0.1"', "listen.postgresql.address", "host:port"),
        ('"127.0.0.1:15432"', '"127.0.0.1:99999"', "listen.postgresql.address", "65535"),
        ('"127.0.0.1:15432"', '"::1:15432"', "listen.postgresql.address", "[address]:port"),
        ('"127.0.0.1:15432"', '"0.0.0.0:15432"', "listen.postgresql.tls_cert", "not on loopback"),
        ('"127.0.0.1:15432"', '"127.0.0.1:15480"', "listen.postgresql.address", "same as api.address"),
        ('"127.0.0.1:15432"', '"127.0.0.1:1"\ntls_key = "k"', "listen.postgresql.tls_cert", "tls_key is set"),
        ('"127.0.0.1:15432"', '"127.0.0.1:1"\nclient_ca = "policy.cedar"', "listen.postgresql.client_ca", "set tls_cert"),
        ("[policy]", '[api]\nmtls_address = "127.0.0.1:1"\n[policy]', "api.client_ca", "mtls_address is set"),
        ("[policy]", '[api]\nclient_ca = "policy.cedar"\n[policy]', "api.mtls_address", "client_ca is set"),
        ("[policy]", '[api]\nmtls_address = "127.0.0.1:1"\nclient_ca = "policy.cedar"\n[policy]', "api.client_ca", "set tls_cert"),
        ("[policy]", '[api]\nmtls_address = "127.0.0.1:15432"\nclient_ca = "policy.cedar"\n[policy]', "api.mtls_address", "is the same as"),
        ('["policy.cedar"]', '["polizy.cedar"]', "policy.files[0]", "there is no file"),
        ('["policy.cedar"]', '["policy.cedar", "policy.cedar"]', "policy.files[1]", "second time"),
        ('["policy.cedar"]', "[]", "policy.files", "is empty"),
        ('["policy.cedar"]', '"policy.cedar"', "policy.files", "must be `array`"),
        ('["policy.cedar"]', "[1]", "policy.files", "must be `str`"),
        ('kind = "workload"', 'kind = "robot"', "issuers[0].kind", "one of: human, workload, agent"),
        ('kind = "workload"', 'algorithms = ["none"]', "issuers[0].algorithms", "EdDSA"),
        ('kind = "workload"', 'algorithms = ["HS256"]', "issuers[0].algorithms", "EdDSA"),
        ('kind = "workload"', "algorithms = []", "issuers[0].algorithms", "is empty"),
        ("discovery = true", "", "issuers[0]", "exactly one way"),
        ("discovery = true", 'jwks_url = "http://idp.example.com/k"', "issuers[0].jwks_url", "must be https"),
        ("discovery = true", 'jwks_url = "https://a:b@idp.example.com/k"', "issuers[0].jwks_url", "user or a password"),
        ("discovery = true", 'jwks_file = "none.json"', "issuers[0].jwks_file", "there is no file"),
        ('type = "postgresql"', 'type = "oracle"', "connections.orders-db.type", "postgresql"),
        ('type = "postgresql"', 'type = "postgresql"\ntls = "disable"', "connections.orders-db.tls", "danger_plaintext"),
        ('type = "postgresql"', 'type = "postgresql"\ntls = "require"', "connections.orders-db.tls", "verify-full, verify-ca, disable"),
        ('"db.example.com:5432"', '"db.example.com:0"', "connections.orders-db.address", "port"),
        ('"file:db.password"', '"file:none"', "connections.orders-db.password", "there is no file"),
        ('"file:db.password"', '"env:"', "connections.orders-db.password", "file:/path"),
        ('mask = "last4"', 'mask = "last5"', 'connections.orders-db.protect."public.customers.card".mask', "redact, last4, partial, hash, token, null"),
        ('class = "pci", ', "", 'connections.orders-db.protect."public.customers.card".class', "missing"),
        ('"public.customers.card"', '"customers.card"', 'connections.orders-db.protect."customers.card"', "schema.table.column"),
        ('user = "svc"', 'user = "svc"\ndetect = ["crad"]', "connections.orders-db.detect[0]", "card"),
        ('user = "svc"', 'user = "svc"\ndetectors = { staff = { pattern = "(" } }', "connections.orders-db.detectors.staff.pattern", "RE2"),
        ('user = "svc"', 'user = "svc"\ndetectors = { staff = { pattern = "a*" } }', "connections.orders-db.detectors.staff.pattern", "empty"),
        ('user = "svc"', 'user = "svc"\ndetectors = { card = { pattern = "a" } }', "connections.orders-db.detectors.card", "already"),
        ('user = "svc"', 'user = "svc"\ndetectors = { nl_bsn = { pattern = "a" } }', "connections.orders-db.detectors.nl_bsn", "already"),
        ('user = "svc"', 'user = "svc"\ndetectors = {' + ", ".join(f'c{n} = {{ pattern = "a" }}' for n in range(33)) + "}",
         "connections.orders-db.detectors", "at most 32"),
        ('user = "svc"', 'user = "svc"\nkey_file = "k"', "connections.orders-db.cert_file", "key_file is set"),
        ("orders-db", '"orders db"', "connections.orders db", "letters"),
        ('env = "prod"', "env = 1", "connections.orders-db.labels", "must be `str`"),
    ],
)  # fmt: skip
def test_every_fault_names_its_key_and_says_what_to_do(folder: Path, old: str, new: str, key: str, says: str) -> None:
    assert old in WHOLE
    error = refused(folder, WHOLE.replace(old, new))
    assert error.key == key
    assert says in str(error)


def test_a_tail_is_a_power_of_two(folder: Path) -> None:
    assert refused(folder, WHOLE + "[audit]\ntail_bytes = 3000000\n").key == "audit.tail_bytes"


def test_detect_takes_the_detectors_that_there_are() -> None:
    assert frozenset(NAMES) == masks.DETECTORS
    assert frozenset(NATIONAL) == masks.NATIONAL


def test_detectors_of_ones_own_are_on_and_have_a_class(folder: Path) -> None:
    more = 'user = "svc"\ndetect = ["card", "nl_bsn", "staff"]\ndetectors = { staff = { pattern = "EMP", class = "people" }, x = { pattern = "X" } }'
    connection = read(folder, WHOLE.replace('user = "svc"', more)).connections["orders-db"]
    assert connection.detect == {"card", "nl_bsn", Detector("EMP", "people"), Detector("X", "x")}
    assert connection.detected == {"card", "nl_bsn", "people", "x"}


def test_a_password_in_the_file_is_refused_and_never_quoted(folder: Path) -> None:
    for secret in (
        "hunter2-planted",
        "postgres:hunter2-planted",
        "file",
        "env:hunter2-planted!",
        "vault:hunter2-planted",
    ):
        error = refused(folder, WHOLE.replace("file:db.password", secret))
        assert error.key == "connections.orders-db.password"
        assert "hunter2" not in str(error)
        assert "file:/path" in str(error)


def test_a_broken_line_names_the_line_and_never_its_value(folder: Path) -> None:
    error = refused(folder, WHOLE.replace('password = "file:db.password"', 'password = "hunter2-planted'))
    assert "line 23" in error.key
    assert "`password`" in error.key
    assert "hunter2" not in str(error)


def test_a_key_written_twice_is_an_error(folder: Path) -> None:
    error = refused(folder, WHOLE.replace('user = "svc"', 'user = "svc"\nuser = "other"'))
    assert "`user`" in error.key
    assert "twice" in str(error)
    error = refused(folder, WHOLE + "[gateway]\nname = 'x'\n")
    assert "`gateway`" in error.key
    assert "twice" in str(error)


def test_two_issuers_with_one_name_are_an_error(folder: Path) -> None:
    more = '[[issuers]]\nissuer = "https://idp.example.com"\naudience = "x"\ndiscovery = true\n'
    error = refused(folder, WHOLE + more)
    assert error.key == "issuers[1].issuer"


def test_one_column_protected_twice_is_an_error(folder: Path) -> None:
    error = refused(folder, WHOLE + '"Public.customers.CARD" = { class = "pii" }\n')
    assert "second time" in str(error)


def test_dangers_are_listed(folder: Path) -> None:
    text = WHOLE.replace('"127.0.0.1:15432"', '"0.0.0.0:15432"\ndanger_plaintext = true')
    text = text.replace('user = "svc"', 'user = "svc"\ntls = "disable"\ndanger_plaintext = true')
    text += "[api]\ndanger_plaintext = false\n"
    dangers = read(folder, text).dangers()
    assert dangers == ("connections.orders-db.danger_plaintext", "listen.postgresql.danger_plaintext")


def test_loopback_needs_no_tls(folder: Path) -> None:
    text = WHOLE.replace('"db.example.com:5432"', '"localhost:5432"\ntls = "disable"')
    assert read(folder, text).connections["orders-db"].upstream.tls == "disable"
    for address in ("127.0.0.9:1", "[::1]:1", "localhost:1"):
        assert read(folder, WHOLE.replace("127.0.0.1:15432", address)).listen.postgresql is not None
    for address in ("127.evil.example:1", "10.0.0.1:1", "[::]:1"):
        assert refused(folder, WHOLE.replace("127.0.0.1:15432", address)).key == "listen.postgresql.tls_cert"


def test_a_file_that_is_not_there_or_not_text_is_a_clear_error(folder: Path) -> None:
    with pytest.raises(ConfigError, match="ostiary init"):
        load(folder / "none.toml")
    with pytest.raises(ConfigError, match="UTF-8"):
        parse(b"\xff\xfe", folder / "ostiary.toml")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_the_bytes_are_the_only_error_is_a_config_error(content: bytes) -> None:
    with pytest.raises(ConfigError):
        parse(content, Path("/nowhere/ostiary.toml"))


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["gateway", "listen", "policy", "issuers", "connections", "api"]), JSON))
def test_whatever_the_shape_is_the_only_error_is_a_config_error(value: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        checks.freeze(_table("", value, File), Path("/nowhere/ostiary.toml"), "")


@given(st.text(max_size=60))
def test_a_column_is_three_parts_or_nothing(text: str) -> None:
    parts = column_name(text)
    if parts is not None:
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
        assert column_name(quoted) == parts


@given(st.text(max_size=60))
def test_an_address_is_a_host_and_a_port_or_a_sentence(text: str) -> None:
    try:
        host, port = split_address(text)
    except ValueError as exc:
        assert str(exc)  # noqa: PT017 - any text may come, a good address among them
    else:
        assert host
        assert 0 <= port <= 65535
