"""A proof stands alone and proves one thing; an export says what entries say and goes on where it stopped."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.audit.export import UnknownFormat, export
from ostiary.audit.prove import NoProof, check, prove, root_from
from ostiary.audit.verify import Policy
from tests.audit_reader import makelog
from tests.audit_reader.makelog import Log, leaf_hash, root_of, small_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return small_log(tmp_path_factory.mktemp("state") / "audit/worker-0/2026", sessions=9, operations=18)


def policy_of(log: Log) -> Policy:
    return Policy.parse((log.base / "policy").read_text())


@pytest.mark.parametrize("index", [0, 1, 200, 255, 256, 257, -1])
def test_every_entry_can_be_proved_and_the_proof_holds_it(log: Log, index: int) -> None:
    index %= len(log.entries)
    proof = prove(log.base, index)
    proved = check(proof, policy_of(log))
    assert (proved.index, proved.size, proved.data) == (index, len(log.entries), log.entries[index])
    assert proved.origin == log.signer.name
    assert prove(log.base / "log", proved.entry["id"]) == proof


def test_the_text_is_a_tlog_proof(log: Log) -> None:
    lines = prove(log.base, 3).split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert base64.b64decode(lines[1].removeprefix("extra ")) == log.entries[3]
    assert lines[2] == "index 3"
    assert base64.b64decode(lines[3]) == leaf_hash(log.entries[2])
    note = (log.base / "log/checkpoint").read_text()
    assert "\n".join(lines).endswith(f"=\n\n{note}")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_proof_with_any_byte_changed_proves_nothing(log: Log, data: st.DataObject) -> None:
    proof = bytearray(prove(log.base, 5).encode())
    at = data.draw(st.integers(0, len(proof) - 1))
    proof[at] ^= data.draw(st.integers(1, 127))
    with pytest.raises(NoProof):
        check(proof.decode(errors="replace"), policy_of(log))


def test_another_key_or_another_entry_proves_nothing(log: Log, tmp_path: Path) -> None:
    other = Log(tmp_path, seed=2)
    with pytest.raises(NoProof, match="signature"):
        check(prove(log.base, 5), Policy.parse(f"log {other.signer.vkey}\nquorum none"))
    with pytest.raises(NoProof, match="no trusted key"):
        check(prove(log.base, 5), Policy({}))
    lines = prove(log.base, 5).split("\n")
    lines[1] = "extra " + base64.b64encode(log.entries[6]).decode()
    with pytest.raises(NoProof, match="does not lead"):
        check("\n".join(lines), policy_of(log))


def test_what_is_not_there_cannot_be_proved(log: Log, tmp_path: Path) -> None:
    for which in (-1, len(log.entries), "nothing"):
        with pytest.raises(NoProof):
            prove(log.base, which)
    with pytest.raises(NoProof):
        prove(tmp_path, 0)


def rfc_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1, word for word: PATH."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*rfc_path(m, leaves[:k]), root_of(leaves[k:])]
    return [*rfc_path(m - k, leaves[k:]), root_of(leaves[:k])]


def test_paths_of_every_leaf_of_small_trees_lead_to_the_root_and_no_others_do() -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(20)]
    for size in range(1, 21):
        root = root_of(leaves[:size])
        for index in range(size):
            path = rfc_path(index, leaves[:size])
            assert root_from(leaves[index], index, size, path) == root
            assert root_from(leaves[index], index, size, [*path, bytes(32)]) != root
            assert not path or root_from(leaves[index], index, size, path[:-1]) != root
    assert root_from(leaves[0], 5, 5, []) is None


def test_json_lines_hold_every_entry_as_it_stands_and_can_be_resumed(log: Log) -> None:
    state = log.base.parents[2]
    lines = list(export(state))
    assert [json.loads(line.line)["entry"] for line in lines] == [json.loads(entry) for entry in log.entries]
    assert all(log.entries[line.index] in line.line for line in lines)
    for start in (0, 1, 150, len(log.entries) - 1, len(log.entries)):
        rest = list(export(state, "jsonl", {"worker-0/2026": start}))
        assert rest == lines[start:]
    with pytest.raises(UnknownFormat, match="ocsf"):
        list(export(state, "csv"))


@pytest.mark.parametrize("form", ["jsonl", "ocsf"])
def test_text_of_a_caller_is_one_line_for_every_reader(tmp_path: Path, form: str) -> None:
    said = "".join(map(chr, range(0x7F, 0xA1))) + "\u2028\u2029\u202e\u200b\ufeff\u3164\U000e0041 é漢☎️"
    log = Log(tmp_path / "audit/worker-0/2026", "gw1-00112233445566aa/worker-0/2026")
    log.add("login", login={"status": "denied", "detail": f'{said}{{"index":7,"entry":{{}}}}', "connection": said}, client={"address": "a", "said": {"user": said}})
    log.write()
    (line,) = [each.line.decode() for each in export(tmp_path, form)]
    assert line.isprintable()
    assert line.splitlines() == [line]
    if form == "jsonl":
        assert makelog.jcs(json.loads(line)["entry"]) == log.entries[0]


def test_ocsf_events_have_what_their_class_demands(log: Log) -> None:
    state = log.base.parents[2]
    events = [json.loads(line.line) for line in export(state, "ocsf")]
    for event in events:
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["time"] > 1_700_000_000_000
        assert {"severity_id", "metadata", "category_uid", "status_id"} <= event.keys()
    by_kind = {event["metadata"]["event_code"]: event for event in events}
    deny = by_kind["deny"]
    assert (deny["class_uid"], deny["activity_id"], deny["action"], deny["status"]) == (6005, 7, "Denied", "Failure")
    assert deny["actor"]["user"]["name"] == "Ana Lima"
    assert deny["actor"]["invoked_by"] == "helper"
    assert deny["database"]["name"] == "shop"
    assert deny["dst_endpoint"] == {"hostname": "db", "port": 5432, "name": "orders-db"}
    assert by_kind["intent"]["query_info"]["query_string"].startswith("select * from orders_")
    assert by_kind["session.end"]["class_uid"] == 3002
    assert by_kind["anchor"]["class_uid"] == 6003
    assert makelog.PLANTED not in json.dumps(events)
