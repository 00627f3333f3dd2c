"""Records, counts and reports of requests that pass in mode Audit."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import structs

from interlock_contract.names import DENIALS_PREFIX
from interlock_contract.selftest_report import RepeatedDenials, dump_denials, read_denials
from interlock_contract.work_counts import (
    MAX_COUNT,
    MAX_TEXT,
    SettledCounts,
    WorkCounts,
    dump_counts,
    parse_counts,
    read_counts,
)
from interlock_guard.audit.denials import RECORDED
from interlock_guard.decision.decide import Allow, DecisionInput, Deny, DenyReason
from interlock_guard.work_counter import WorkCounter
from tests.unit.guard.test_records import BUNDLE, DENIED, WRITE, Bench, Start, a_call, start

__all__ = ["start"]

MATRIX = "agentpolicy/support/dataAccess[0]"
AUDITED = structs.replace(BUNDLE, sources=tuple(structs.replace(one, mode="Audit") for one in BUNDLE.sources))
UNMAPPED = Allow(MATRIX, structs.replace(WRITE, name="wipe", operation="delete", resource=""), DENIED)
MISSING = Deny(DenyReason.NOT_GRANTED_BY_MATRIX, MATRIX, "write on 'tasks' is not granted.", WRITE)
UNGRANTED = Allow(MATRIX, structs.replace(WRITE, operation="delete"), MISSING)
WIPE = DecisionInput("crm", "tools/call", "wipe", {}, annotations={"readOnlyHint": False})


def recorded(bench: Bench, request: DecisionInput, decision: Any) -> dict[str, Any]:
    seq = bench.recorder.record(AUDITED, request, decision)
    return dict(bench.stored()[seq].fields)


def parts(found: dict[str, Any], *names: str) -> list[Any]:
    return [found.get(name) for name in names]


def test_the_record_of_an_unmapped_tool_says_that_it_would_be_denied_and_what_its_server_hints(start: Start) -> None:
    found = recorded(start(), WIPE, UNMAPPED)
    assert parts(found, "decision", "reason", "rule") == ["WouldDeny", "ToolNotMapped", "mcpbinding/crm"]
    assert parts(found, "operation", "resource", "tool") == ["delete", "", "wipe"]
    assert parts(found, "mode", "binding", "matrix", "hint") == ["Audit", "crm-sandbox", MATRIX, "write"]


def test_the_record_of_a_call_without_a_grant_says_which_one_is_missing(start: Start) -> None:
    found = recorded(start(), a_call(), UNGRANTED)
    assert parts(found, "decision", "reason", "rule") == ["WouldDeny", "NotGrantedByMatrix", MATRIX]
    assert parts(found, "operation", "resource", "missing", "hint") == ["delete", "tasks", "write", None]


def test_a_list_of_a_source_in_mode_audit_is_marked_and_others_are_not(start: Start) -> None:
    bench, listing = start(), DecisionInput("crm", "tools/list")
    assert parts(recorded(bench, listing, Allow("mcpbinding/crm")), "decision", "mode") == ["Allow", "Audit"]
    seq = bench.recorder.record(BUNDLE, listing, Allow("mcpbinding/crm"))
    assert "mode" not in bench.stored()[seq].fields


def test_each_request_that_passes_has_a_record_and_is_counted_by_its_reason(start: Start) -> None:
    bench = start()
    seqs = [bench.recorder.record(AUDITED, WIPE, UNMAPPED) for _ in range(RECORDED + 5)]
    assert len(set(seqs)) == RECORDED + 5
    assert bench.recorder.counts == {("WouldDeny", "ToolNotMapped", "crm"): RECORDED + 5}


def test_many_requests_of_one_rule_are_reported_once_and_as_ones_that_passed(tmp_path: Path) -> None:
    bench, reports = Bench(tmp_path), list[RepeatedDenials]()
    bench.recorder._on_repeated = reports.append  # noqa: SLF001 - given at its creation elsewhere
    for _ in range(30):
        bench.recorder.record(AUDITED, WIPE, UNMAPPED)
    bench.close()
    assert [(one.reason, one.count, one.is_audit) for one in reports] == [("ToolNotMapped", 10, True)]


def test_a_report_of_requests_that_passed_is_read_back_and_is_none_for_an_earlier_operator() -> None:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    denied = RepeatedDenials("ToolNotMapped", "crm", "mcpbinding/crm", 10, at)
    passed = replace(denied, rule="mcpbinding/mail", is_audit=True)
    text = dump_denials([denied, passed])
    assert read_denials({f"{DENIALS_PREFIX}a-0": text}) == [denied, passed]
    assert '"2026-03-02T00:00:00.000Z 10 Audit"' in text, "its count is then no number"


def test_what_passes_is_counted_durably_and_is_no_denial() -> None:
    counter = WorkCounter()
    for decision in (UNMAPPED, UNMAPPED, UNGRANTED, Allow(MATRIX, WRITE), MISSING):
        counter.decide(WIPE, decision)
    counter.decide(DecisionInput("crm", "resources/read", uri="crm://x"), UNGRANTED)
    counts = counter.counts
    assert (counts.unmapped_passed, counts.ungranted_passed, counts.calls_denied) == (2, 2, 1)
    lease = {"counts.interlock.dev/pod-0": dump_counts(SettledCounts("a" * 16, counts))}
    assert read_counts(lease) == counts
    assert counts.since(counts) == WorkCounts()
    assert (counts + counts).unmapped_passed == 4


def test_the_largest_counts_fit_into_their_annotation() -> None:
    most = WorkCounts(unmapped_passed=MAX_COUNT, ungranted_passed=MAX_COUNT, calls_denied=MAX_COUNT)
    text = dump_counts(SettledCounts("a" * 16, most + most))
    assert len(text) < MAX_TEXT
    assert parse_counts(text) == SettledCounts("a" * 16, most)
