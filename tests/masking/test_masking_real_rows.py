"""What a real PostgreSQL sends: in every type, format and COPY form, the planted value does not come out."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import psycopg
import pytest

from ostiary.masking import DETECTORS, mask, plan_copy, plan_rows
from ostiary.masking.mask import header_line
from ostiary.model.connections import Detector, Strategy
from ostiary.model.proofs import Batch, Content
from ostiary.model.results import CSV_COPY, TEXT_COPY, ColumnDescription, CopyPlan

SSN = "078-05-1120"
CARD = "4111111111111111"
LONG = SSN + " and words to make this text forty-eight bytes!!"[: 48 - len(SSN)]


@pytest.fixture(scope="module")
def link(postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        host=postgres.host, port=postgres.port, user=postgres.user, password=postgres.password, dbname=postgres.database,
        autocommit=True,
    ) as connection:  # fmt: skip
        connection.execute("CREATE EXTENSION IF NOT EXISTS hstore")
        connection.execute("CREATE EXTENSION IF NOT EXISTS citext")
        yield connection


def fetched(link: psycopg.Connection, sql: str, *, binary: bool) -> tuple[tuple[ColumnDescription, ...], bytes, bytes]:
    """Columns, one DataRow frame made of the very cells that came, and the cells joined."""
    cursor = link.cursor(binary=binary)
    cursor.execute(sql)
    result = cursor.pgresult
    assert result is not None
    columns = tuple(
        ColumnDescription(
            (result.fname(i) or b"").decode(), result.ftable(i), result.ftablecol(i), result.ftype(i), result.fsize(i),
            result.fmod(i), result.fformat(i),
        )
        for i in range(result.nfields)
    )  # fmt: skip
    cells = [result.get_value(0, i) for i in range(result.nfields)]
    body = struct.pack("!H", len(cells)) + b"".join(
        struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell for cell in cells
    )
    return columns, b"D" + struct.pack("!I", len(body) + 4) + body, b"".join(cell or b"" for cell in cells)


SPELLINGS = [
    f"'{LONG}'::text",
    f"'{LONG}'::varchar",
    f"'{LONG}'::char(60)",
    f"'{LONG}'::name",
    f"'{LONG}'::citext",
    f"ARRAY['a', '{LONG}']",
    f"ARRAY[['a', '{LONG}'], ['b', NULL]]",
    f"ARRAY['{LONG}']::varchar[]",
    f"ROW(1, true, '{LONG}', NULL)",
    f"ARRAY[ROW(1, ROW('{LONG}'))]",
    f"'k=>\"{LONG}\"'::hstore",
    f"json_build_object('a', '{LONG}')",
    f"jsonb_build_object('a', '{LONG}', 'b', 1)",
    f"ARRAY[jsonb_build_object('a', '{LONG}')]",
    f"xmlelement(name a, '{LONG}')",
    f"'{LONG}'::bytea",
    f"ARRAY['{LONG}'::bytea]",
    f"'{LONG}'::unknown",
]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_planted_value_does_not_come_out_of_any_type(link, spelling, binary):
    columns, frame, _ = fetched(link, f"SELECT {spelling} AS x, 'fine' AS y", binary=binary)
    plan = plan_rows(columns, {}, frozenset(), DETECTORS, (int(binary),))
    masked = mask(frozenset(), Batch(frame, Content.ROWS, plan, 1, strip=False), DETECTORS)
    assert masked.counts == (("ssn", 1),)
    assert SSN.encode() not in masked.frames
    assert SSN.encode().hex().encode() not in masked.frames
    assert masked.frames.endswith(b"\0\0\0\x04fine")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    "spelling",
    [
        f"{CARD}::int8",
        f"-{CARD}::int8",
        f"{CARD}::numeric",
        f"{CARD}.00::numeric",
        "4111111111111111110::numeric",
        "5100000000000008::numeric",
        f"ARRAY[1, {CARD}]",
        f"ARRAY[1.5, {CARD}]",
        f"ROW(1, {CARD})",
        f"json_build_object('c', {CARD})",
        f"jsonb_build_array({CARD}, -{CARD})",
    ],
)
def test_a_card_number_as_a_number_does_not_come_out(link, spelling, binary):
    columns, frame, raw = fetched(link, f"SELECT {spelling} AS x, 'fine' AS y", binary=binary)
    plan = plan_rows(columns, {}, frozenset(), frozenset({"card"}), (int(binary),))
    masked = mask(frozenset(), Batch(frame, Content.ROWS, plan, 1, strip=False), frozenset({"card"}))
    assert dict(masked.counts)["card"] >= 1
    assert raw[:-4] not in masked.frames
    assert CARD.encode() not in masked.frames
    assert struct.pack("!q", int(CARD)) not in masked.frames


@pytest.mark.parametrize("binary", [False, True])
def test_what_is_not_sensitive_passes_untouched(link, binary):
    sql = """SELECT gen_random_uuid(), now(), now()::text, 12345, 9007199254740993, 0.1::numeric, 3.14::float8, true,
                    ARRAY[1, 2, 3], ARRAY['a', 'b'], ROW(1, 'x'), '{"a": [1, 2.5e10]}'::jsonb, '10.0.0.1'::inet,
                    '\\x00ff10'::bytea, 'k=>v'::hstore, int4range(1, 5), interval '1 day', 'plain', gen_random_uuid()::text"""
    columns, frame, _ = fetched(link, sql, binary=binary)
    plan = plan_rows(columns, {}, frozenset(), DETECTORS, (int(binary),))
    masked = mask(frozenset(), Batch(frame, Content.ROWS, plan, 1, strip=False), DETECTORS)
    assert masked.frames is frame
    assert masked.counts == ()


@pytest.mark.parametrize("binary", [False, True])
def test_a_protected_column_is_found_by_table_and_number(link, binary):
    link.execute("DROP TABLE IF EXISTS victim; CREATE TABLE victim (id int, secret varchar(20), n numeric, j jsonb)")
    link.execute(f"INSERT INTO victim VALUES (1, '{SSN}', 42, '\"{SSN}\"')")
    oid = link.execute("SELECT 'victim'::regclass::oid::int").fetchone()[0]
    protected = {(oid, n): ("pii", Strategy.LAST4) for n in (2, 3, 4)}
    columns, frame, _ = fetched(link, "SELECT secret AS harmless, n, j, id AS secret FROM victim", binary=binary)
    plan = plan_rows(columns, protected, frozenset(), frozenset(), (int(binary),))
    masked = mask(frozenset(), Batch(frame, Content.ROWS, plan, 1, strip=False), frozenset())
    version = b"\x01" if binary else b""
    secret = b'"*******1120"'
    assert masked.counts == (("pii", 3),)
    assert masked.frames[7:] == (
        struct.pack("!i", 11) + b"*******1120" + struct.pack("!i", -1)
        + struct.pack("!i", len(version + secret)) + version + secret
        + (struct.pack("!ii", 4, 1) if binary else struct.pack("!i", 1) + b"1")
    )  # fmt: skip


def copied(link: psycopg.Connection, options: str, query: str = "SELECT * FROM copied") -> list[bytes]:
    with link.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT {options}") as copy:
        return [bytes(data) for data in copy]


def frames_of(messages: list[bytes]) -> bytes:
    return b"".join(b"d" + struct.pack("!I", len(m) + 4) + m for m in messages)


def form(
    *, csv: bool, delimiter: str, quote: str = '"', escape: str = '"', null: str | None = None, header: bool = False
) -> CopyPlan:
    return CopyPlan(
        csv=csv, delimiter=delimiter.encode(), quote=quote.encode() if csv else b"", escape=escape.encode() if csv else b"",
        null=(null if null is not None else "" if csv else "\\N").encode(), header=header, encoding="UTF8",
    )  # fmt: skip


def only_where_known(link, options):
    if options == "(HEADER)" and link.info.server_version < 15_00_00:
        pytest.skip("COPY has headers in text format since PostgreSQL 15")


FORMS = [
    ("", TEXT_COPY),
    ("(DELIMITER '-')", form(csv=False, delimiter="-")),
    ("(DELIMITER '@', NULL 'none')", form(csv=False, delimiter="@", null="none")),
    ("(FORMAT csv)", CSV_COPY),
    ("(FORMAT csv, FORCE_QUOTE *)", CSV_COPY),
    ("(FORMAT csv, DELIMITER '-', NULL 'none')", form(csv=True, delimiter="-", null="none")),
    ("(FORMAT csv, QUOTE '-', FORCE_QUOTE *)", form(csv=True, delimiter=",", quote="-", escape="-")),
    ("(FORMAT csv, QUOTE '0', ESCAPE '1', FORCE_QUOTE *)", form(csv=True, delimiter=",", quote="0", escape="1")),
    (
        "(FORMAT csv, QUOTE '@', ESCAPE '\\', HEADER)",
        form(csv=True, delimiter=",", quote="@", escape="\\", header=True),
    ),
    ("(HEADER)", form(csv=False, delimiter="\t", header=True)),
    ("(FORMAT binary)", None),
]


@pytest.mark.parametrize(("options", "shape"), FORMS)
def test_a_planted_value_does_not_come_out_of_copy(link, options, shape):
    only_where_known(link, options)
    link.execute("DROP TABLE IF EXISTS copied")
    link.execute('CREATE TABLE copied ("the-id" int, note text, raw bytea, list text[], doc jsonb, mail text, n int8)')
    values = (
        1,
        f'x\t"{SSN}"\n, end',
        SSN.encode(),
        ["a,b", f'"{SSN}"'],
        f'{{"a": "{SSN}"}}',
        "ana@example.com",
        int(CARD),
    )
    link.execute(
        "INSERT INTO copied VALUES (%s, %s, %s, %s, %s, %s, %s), (2, NULL, NULL, NULL, NULL, NULL, NULL)", values
    )
    columns = fetched(link, "SELECT * FROM copied", binary=False)[0]
    plan = plan_copy(columns, {}, frozenset(), DETECTORS, shape)
    content = Content.COPY_BINARY if shape is None else Content.COPY_TEXT
    messages = copied(link, options)
    masked = mask(frozenset(), Batch(frames_of(messages), content, plan, 2, strip=False), DETECTORS)
    assert dict(masked.counts) == {"ssn": 4, "email": 1, "card": 1}
    for planted in (SSN, SSN.encode().hex(), SSN.replace("-", "\\-"), SSN.replace("-", "--"), "example.com", CARD):
        assert planted.encode() not in masked.frames
    assert struct.pack("!q", int(CARD)) not in masked.frames
    if plan.copy is not None and plan.copy.header:
        assert messages[0] == header_line(plan.copy)
        assert masked.frames.startswith(frames_of(messages[:1]))


def test_no_star_among_hexadecimal_digits_hides_what_they_stand_for(link):
    look = frozenset({*DETECTORS, Detector("4111[0-9]+", "ours")})
    link.execute("DROP TABLE IF EXISTS hexed; CREATE TABLE hexed (list bytea[])")
    link.execute("INSERT INTO hexed VALUES (%s)", ([bytes.fromhex(CARD) + b"\xc2\xa0" + SSN.encode()],))
    columns, frame, _ = fetched(link, "SELECT * FROM hexed", binary=False)
    row = mask(frozenset(), Batch(frame, Content.ROWS, plan_rows(columns, {}, frozenset(), look, (0,)), 1, strip=False), look)
    options, shape = FORMS[0]
    plan = plan_copy(columns, {}, frozenset(), look, shape)
    frames = frames_of(copied(link, options, "SELECT * FROM hexed"))
    line = mask(frozenset(), Batch(frames, Content.COPY_TEXT, plan, 1, strip=False), look)
    for masked in (row, line):
        assert SSN.encode().hex().encode() not in masked.frames
        assert dict(masked.counts)["ssn"] == 1


@pytest.mark.parametrize(("options", "shape"), FORMS)
def test_masked_copy_can_be_read_back(link, options, shape):
    only_where_known(link, options)
    link.execute("DROP TABLE IF EXISTS back; DROP TABLE IF EXISTS source")
    link.execute("CREATE TABLE source (id int, secret text, kept text, num int, j json)")
    link.execute("CREATE TABLE back (LIKE source)")
    link.execute(
        "INSERT INTO source VALUES (1, 'tab\there, \"q\" é', 'kept\\ -\n\"@0', 7, NULL), (2, NULL, '', 8, NULL)"
    )
    source = fetched(link, "SELECT * FROM source", binary=False)[0]
    protected = {(source[0].table_oid, n): ("pii", Strategy.REDACT) for n in (2, 4)}
    plan = plan_copy(source, protected, frozenset(), frozenset(), shape)
    content = Content.COPY_BINARY if shape is None else Content.COPY_TEXT
    masked = mask(
        frozenset(),
        Batch(frames_of(copied(link, options, "SELECT * FROM source")), content, plan, 2, strip=False),
        frozenset(),
    )
    frames, bodies, at = masked.frames, [], 0
    while at < len(frames):
        length = int.from_bytes(frames[at + 1 : at + 5], "big")
        bodies.append(frames[at + 5 : at + 1 + length])
        at += 1 + length
    takes = options.replace(", FORCE_QUOTE *", "")
    with link.cursor() as cursor, cursor.copy(f"COPY back FROM STDIN {takes}") as copy:
        for body in bodies:
            copy.write(body)
    rows = link.execute("SELECT id, secret, kept, num FROM back ORDER BY id").fetchall()
    empty = None if shape is not None and shape.csv and shape.null == b"" and "FORCE" not in options else ""
    assert rows[0] == (1, "*" * 15, 'kept\\ -\n"@0', None)
    # Under NULL 'none' in text format a NULL and the value 'none' look alike, so both are starred.
    assert rows[1][:2] == (2, None if shape is None or shape.csv or shape.null == b"\\N" else "****")
    assert rows[1][2] in ("", empty)


def test_errors_of_a_real_target_lose_their_values(link):
    link.execute("CREATE TEMP TABLE uq (s text UNIQUE); INSERT INTO uq VALUES ('hiddenvalue')")
    for sql in (
        "INSERT INTO uq VALUES ('hiddenvalue')",
        "SELECT s::int FROM uq",
        "SELECT s::json FROM uq",
        "SELECT s::date FROM uq",
    ):
        with pytest.raises(psycopg.Error) as caught:
            link.execute(sql)
        said = caught.value.diag
        fields = {
            "S": said.severity,
            "C": said.sqlstate,
            "M": said.message_primary,
            "D": said.message_detail,
            "W": said.context,
        }
        fields |= {"n": said.constraint_name, "t": said.table_name, "s": said.schema_name}
        body = b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items() if v) + b"\0"
        frame = b"E" + struct.pack("!I", len(body) + 4) + body
        assert b"hiddenvalue" in frame
        masked = mask(frozenset(), Batch(frame, Content.MESSAGE, None, 0, strip=True), frozenset())
        assert b"hiddenvalue" not in masked.frames
        assert said.sqlstate.encode() in masked.frames
