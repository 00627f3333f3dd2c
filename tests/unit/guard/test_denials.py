import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock_audit.chain_verifier import ChainVerifier
from interlock_contract.audit_chain import open_line
from interlock_contract.strict_json import dump_json
from interlock_guard.audit.denials import RECORDED, WINDOW, DenialCounter
from interlock_guard.audit.recorder import Recorder, RecordFailed, Writer
from interlock_guard.audit.spool import Position, Spool, SpoolLimits
from interlock_guard.decision.decide import DecisionInput, Deny, DenyReason
from tests.requirements import requirement
from tests.unit.guard.test_records import BUNDLE, DENIED, GUARD, a_call, allowed

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
OTHER = Deny(DenyReason.OUT_OF_SCOPE, "mcpbinding/crm", "The region is not in the scope.")
FIELDS = {"agent": "a", "namespace": "n", "revision": "r", "stage": "s", "environment": "e"}


class Bench:
    def __init__(self, folder: Path, limits: SpoolLimits | None = None) -> None:
        self.now = START
        self.spool = Spool(folder / "spool", limits or SpoolLimits(), keeps=True)
        self.output = (folder / "output").open("wb")
        self.recorder = Recorder(Writer("triage", GUARD), self.spool, lambda: self.now, self.output.fileno())

    def deny(self, count: int, denial: Deny = DENIED, **arguments: Any) -> list[int]:
        return [self.recorder.record(BUNDLE, a_call(**arguments), denial) for _ in range(count)]

    def lines(self, kind: str) -> list[dict[str, Any]]:
        found, position = b"", Position()
        while (read := self.spool.read(position, 2**24))[0]:
            found, position = found + read[0], read[1]
        opened = [dict(open_line(line).fields) for line in found.splitlines()]
        return [fields for fields in opened if fields["kind"] == kind]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    yield found
    found.spool.close()
    found.output.close()


@requirement("records.denials-counted")
def test_denials_beyond_100_a_minute_of_one_rule_share_a_record(bench: Bench) -> None:
    seqs = bench.deny(RECORDED + 50)
    assert seqs[RECORDED:] == [-1] * 50
    assert (len(bench.lines("decision")), bench.lines("denials")) == (100, [])

    bench.now += WINDOW
    bench.recorder.write_ended_denials()

    [line] = bench.lines("denials")
    assert {name: line[name] for name in ("source", "decision", "reason", "rule", "count", "agent", "stage")} == {
        "source": "crm",
        "decision": "Deny",
        "reason": "ToolNotMapped",
        "rule": "mcpbinding/crm",
        "count": 50,
        "agent": "triage",
        "stage": "staging",
    }
    assert (line["since"], line["until"], line["time"]) == (
        *["2026-03-02T09:00:00.000Z"] * 2,
        "2026-03-02T09:01:00.000Z",
    )
    assert bench.recorder.counts["Deny", "ToolNotMapped", "crm"] == 150


@requirement("records.denials-counted")
def test_the_digest_is_that_of_the_records_that_would_have_been(bench: Bench) -> None:
    bench.deny(RECORDED)
    written = bench.lines("decision")[-1]
    bench.deny(3)
    bench.recorder.write_all_denials()

    names = list(written)
    fields = {name: written[name] for name in names[names.index("time") : -1]}
    [line] = bench.lines("denials")
    assert line["digest"] == hashlib.sha256((dump_json(fields) + b"\n") * 3).hexdigest()


@requirement("records.denials-counted")
def test_what_is_allowed_and_other_rules_are_recorded_one_by_one(bench: Bench) -> None:
    bench.deny(RECORDED + 10)
    before = len(bench.lines("decision"))

    assert all(bench.recorder.record(BUNDLE, a_call(), allowed()) > 0 for _ in range(300))
    assert all(seq > 0 for seq in bench.deny(RECORDED, OTHER))
    assert len(bench.lines("decision")) == before + 300 + RECORDED


@requirement("records.denials-counted")
def test_a_new_minute_has_records_again(bench: Bench) -> None:
    bench.deny(RECORDED + 1)
    bench.now += WINDOW

    assert all(seq > 0 for seq in bench.deny(RECORDED))
    assert [line["count"] for line in bench.lines("denials")] == [1]


def test_another_bundle_begins_after_the_denials_of_the_last_one(bench: Bench) -> None:
    bench.deny(RECORDED + 1)
    bench.recorder.record(None, DecisionInput("crm", "tools/call"), DENIED)

    assert len(bench.lines("denials")) == 1


def test_sources_that_are_not_there_are_one_rule(bench: Bench) -> None:
    for number in range(RECORDED + 5):
        bench.recorder.record(BUNDLE, DecisionInput(f"made-up-{number}", "tools/call"), DENIED)

    assert len(bench.lines("decision")) == RECORDED


def test_the_chain_is_whole(bench: Bench, tmp_path: Path) -> None:
    bench.deny(RECORDED + 5)
    bench.recorder.write_all_denials()
    bench.deny(1)
    bench.output.flush()

    verifier = ChainVerifier()
    for line in (tmp_path / "output").read_bytes().splitlines():
        assert verifier.add_line(line, "here") is not None
    assert verifier.finish().findings == ()


def test_denials_that_find_no_room_are_counted_as_unrecorded(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SpoolLimits(capacity=80_000, reserve=1))
    bench.deny(RECORDED + 7)
    with pytest.raises(RecordFailed):
        [bench.recorder.record(BUNDLE, a_call(), allowed()) for _ in range(1000)]
    before = bench.recorder.unrecorded

    bench.recorder.write_all_denials()

    assert bench.recorder.unrecorded == before + 7
    bench.spool.close()
    bench.output.close()


@requirement("records.denials-counted")
@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-90, 90)), max_size=400))
def test_no_denial_is_lost_or_counted_twice(denials: list[tuple[str, int]]) -> None:
    counter, now, recorded, counted = DenialCounter(), START, 0, 0
    for rule, seconds in denials:
        now += timedelta(seconds=seconds / 100)
        counted += sum(one["count"] for one in counter.take_ended(now))
        recorded += not counter.count((rule, "", ""), FIELDS, now, "")
    counted += sum(one["count"] for one in counter.take_all())

    assert recorded + counted == len(denials)


def test_a_counter_holds_a_bounded_number_of_rules() -> None:
    counter = DenialCounter()
    for number in range(3000):
        counter.count((str(number), "", ""), FIELDS, START, "")

    assert len(counter._windows) <= 1025  # noqa: SLF001 - what it holds
