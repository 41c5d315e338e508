"""Plans: by table and number, never by name; by type; never weaker than policy said."""

from __future__ import annotations

import pytest

from ostiary.kernel.detect import NAMES
from ostiary.masking import DETECTORS, mask, plan_copy, plan_rows, scrub
from ostiary.model.connections import Strategy
from ostiary.model.errors import PeerMisbehaved
from ostiary.model.proofs import Batch, Content, Treatment
from ostiary.model.results import CSV_COPY, TEXT_COPY, ColumnDescription

NOTHING: frozenset[str] = frozenset()


def column(name: str = "c", *, table: int = 0, number: int = 0, oid: int = 25, form: int = 0) -> ColumnDescription:
    return ColumnDescription(name, table, number, oid, -1, -1, form)


def treatment(oid: int, strategy: Strategy = Strategy.LAST4, formats: tuple[int, ...] = ()) -> int:
    plan = plan_rows((column(table=9, number=2, oid=oid),), {(9, 2): ("pci", strategy)}, NOTHING, NOTHING, formats)
    assert plan.active
    assert plan.classes == ("pci",)
    return plan.treatments[0]


@pytest.mark.parametrize("oid", [25, 1043, 1042, 19, 114, 3802])
@pytest.mark.parametrize("formats", [(), (0,), (1,)])
def test_text_takes_its_strategy_in_both_formats(oid, formats):
    assert treatment(oid, Strategy.LAST4, formats) == Treatment.LAST4
    assert treatment(oid, Strategy.REDACT, formats) == Treatment.REDACT
    assert treatment(oid, Strategy.NULL, formats) == Treatment.NULL


@pytest.mark.parametrize(
    "oid", [16, 17, 18, 20, 21, 23, 142, 700, 701, 1009, 1015, 1082, 1184, 1700, 2249, 2950, 3614, 3904, 99999]
)
@pytest.mark.parametrize("formats", [(), (1,)])
def test_every_other_type_becomes_null(oid, formats):
    for strategy in Strategy:
        assert treatment(oid, strategy, formats) == Treatment.NULL


def test_an_alias_changes_nothing():
    protected = {(9, 2): ("pci", Strategy.REDACT)}
    plan = plan_rows(
        (column("harmless", table=9, number=2), column("card", table=9, number=3)), protected, NOTHING, NOTHING, ()
    )
    assert plan.treatments == bytes([Treatment.REDACT, Treatment.KEEP])


def test_a_computed_column_is_no_table_column():
    assert not plan_rows((column(),), {(0, 0): ("pci", Strategy.NULL)}, NOTHING, NOTHING, ()).active


def test_a_class_in_clear_is_kept_also_from_the_detectors():
    plan = plan_rows((column(table=9, number=2),), {(9, 2): ("pci", Strategy.NULL)}, frozenset({"pci"}), DETECTORS, ())
    assert plan.treatments == bytes([Treatment.KEEP])
    assert not plan.active


def test_detectors_look_at_every_type_that_can_hold_text():
    held = (25, 1043, 1042, 19, 114, 3802, 142, 17, 20, 1700, 1009, 1015, 2249, 3614, 99999)
    plan = plan_rows(tuple(column(oid=oid) for oid in held), {}, NOTHING, frozenset({"ssn"}), ())
    assert set(plan.treatments) == {Treatment.SCAN}
    plain = plan_rows(
        tuple(column(oid=oid) for oid in (16, 23, 701, 1082, 1184, 2950, 869)), {}, NOTHING, DETECTORS, ()
    )
    assert not plain.active
    assert not plan_rows((column(),), {}, NOTHING, NOTHING, ()).active
    assert not plan_rows((column(),), {}, frozenset({"ssn"}), frozenset({"ssn"}), ()).active


def test_formats_are_none_one_or_one_a_column():
    two = (column(oid=3802), column(oid=3802))
    families = [plan_rows(two, {}, NOTHING, DETECTORS, f).families for f in ((), (0,), (1,), (0, 1))]
    assert families[0] == families[1] != families[2]
    assert families[3] == families[0][:1] + families[2][1:]
    for wrong in ((0, 1, 0), (2,), (0, -1)):
        with pytest.raises(PeerMisbehaved):
            plan_rows(two, {}, NOTHING, DETECTORS, wrong)
    assert plan_rows((), {}, NOTHING, DETECTORS, ()).treatments == b""


def test_an_unknown_detector_is_an_error():
    with pytest.raises(ValueError, match="no such detector"):
        plan_rows((column(),), {}, NOTHING, frozenset({"crad"}), ())


def test_a_copy_plan_knows_its_names_and_form():
    plan = plan_copy((column("a"), column("b")), {}, NOTHING, DETECTORS, CSV_COPY)
    assert plan.copy is not None
    assert plan.copy.names == ("a", "b")
    assert plan_copy((column(oid=20),), {}, NOTHING, DETECTORS, None).copy is None


def test_the_detectors_are_those_of_the_kernel():
    assert frozenset(NAMES) == DETECTORS == {"card", "email", "iban", "ssn", "secret"}


def test_scrub_keeps_the_type_and_what_is_clean():
    clean = "nothing here"
    assert scrub(clean) is clean
    assert scrub("é 078-05-1120 ü") == "é *********** ü"
    assert scrub("jürgen@müller.example") == "*" * 21
    assert scrub(b"x 078-05-1120") == b"x ***********"
    assert scrub("078-05-1120", ["card"]) == "078-05-1120"
    assert scrub("bad \ud800 078-05-1120") == "bad \ud800 ***********"


def rows_batch(plan, content=Content.ROWS):
    return Batch(b"D\0\0\0\x15\0\x01\0\0\0\x0b078-05-1120", content, plan, 1, strip=False)


def test_mask_counts_by_class_and_by_detector():
    plan = plan_rows((column(table=9, number=2),), {(9, 2): ("pii", Strategy.LAST4)}, NOTHING, NOTHING, ())
    masked = mask(NOTHING, rows_batch(plan), NOTHING)
    assert masked.counts == (("pii", 1),)
    assert masked.frames.endswith(b"*******1120")
    plan = plan_rows((column(),), {}, NOTHING, DETECTORS, ())
    assert mask(NOTHING, rows_batch(plan), DETECTORS).counts == (("ssn", 1),)


def test_a_later_permit_may_show_what_the_plan_masked_and_never_the_other_way():
    protected = {(9, 2): ("pii", Strategy.NULL)}
    plan = plan_rows((column(table=9, number=2),), protected, NOTHING, NOTHING, ())
    assert mask(frozenset({"pii"}), rows_batch(plan), NOTHING).frames == rows_batch(plan).frames


def test_rows_that_nobody_described_are_not_passed():
    for content in (Content.ROWS, Content.COPY_TEXT, Content.COPY_BINARY):
        with pytest.raises(PeerMisbehaved):
            mask(NOTHING, rows_batch(None, content), DETECTORS)
    with pytest.raises(PeerMisbehaved):  # text COPY under a plan for binary
        mask(NOTHING, rows_batch(plan_rows((column(),), {}, NOTHING, DETECTORS, ()), Content.COPY_TEXT), DETECTORS)


def test_copy_in_an_encoding_where_ascii_bytes_are_halves_of_letters_is_refused():
    form = type(TEXT_COPY)(
        csv=False, delimiter=b"\t", quote=b"", escape=b"", null=b"\\N", header=False, encoding="SJIS"
    )
    plan = plan_copy((column(),), {}, NOTHING, DETECTORS, form)
    batch = Batch(b"d\0\0\0\x06a\n", Content.COPY_TEXT, plan, 1, strip=False)
    with pytest.raises(PeerMisbehaved):
        mask(NOTHING, batch, DETECTORS)


def test_control_frames_and_inactive_plans_pass_as_they_are():
    batch = Batch(b"Z\0\0\0\x05I", Content.CONTROL, None, 0, strip=False)
    assert mask(NOTHING, batch, DETECTORS).frames is batch.frames
    batch = rows_batch(plan_rows((column(oid=23),), {}, NOTHING, DETECTORS, ()))
    assert mask(NOTHING, batch, DETECTORS).frames is batch.frames
