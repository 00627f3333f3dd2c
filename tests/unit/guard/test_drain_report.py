"""What a draining guard reports in the Lease, and when the operator takes a pod for drained."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from interlock_contract.drain_report import DrainReport, dump_drain, has_none_leaving, is_drained, read_drains

REPORT = DrainReport("0123456789abcdef" * 4, 3, datetime(2026, 3, 2, 9, tzinfo=UTC))
KEY = "drain.interlock.dev/a-0"


@pytest.mark.parametrize("counts", [(3, None), (3, 1), (None, 0)])
def test_a_report_is_read_back_by_the_name_of_its_pod(counts: tuple[int | None, int | None]) -> None:
    report = replace(REPORT, under_way=counts[0], under_way_leaving=counts[1])

    assert read_drains({KEY: dump_drain(report), "loops.interlock.dev/a-0": dump_drain(report)}) == {"a-0": report}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"at":"2026-03-02T09:00:00Z","bundle":"b","underWay":true}',
        '{"at":"2026-03-02T09:00:00Z","bundle":"b","underWay":-1}',
        '{"at":"2026-03-02T09:00:00Z","bundle":"b","underWay":1000001}',
        '{"at":"2026-03-02T09:00:00Z","bundle":"b","underWay":"0"}',
        '{"at":"2026-03-02T09:00:00Z","bundle":"b"}',
        '{"at":"2026-03-02T09:00:00Z","bundle":"b","underWay":null}',
        '{"at":"2026-03-02T09:00:00Z","bundle":"b","underWay":0,"underWayLeaving":-1}',
        '{"at":"yesterday","bundle":"b","underWay":0}',
        '{"at":"2026-03-02T09:00:00Z","bundle":7,"underWay":0}',
        '{"at":"2026-03-02T09:00:00Z","bundle":"b","underWay":0,"underWay":1}',
        f'{{"at":"2026-03-02T09:00:00Z","bundle":"{"b" * 1024}","underWay":0}}',
    ],
)
def test_what_is_no_report_counts_as_none(text: str) -> None:
    assert read_drains({KEY: text}) == {}


def test_a_pod_is_drained_only_by_its_own_report_on_this_bundle() -> None:
    drained = replace(REPORT, under_way=0)

    assert is_drained({"a-0": drained}, "a-0", REPORT.bundle)
    assert not is_drained({"a-0": REPORT}, "a-0", REPORT.bundle)
    assert not is_drained({"a-1": drained}, "a-0", REPORT.bundle)
    assert not is_drained({"a-0": drained}, "a-0", "f" * 64)


def test_a_guard_that_takes_tasks_is_not_drained_whatever_pods_of_its_agent_do() -> None:
    report = replace(REPORT, under_way=None, under_way_leaving=0)

    assert has_none_leaving({"a-0": report}, "a-0", REPORT.bundle)
    assert not is_drained({"a-0": report}, "a-0", REPORT.bundle)


def test_no_task_is_in_pods_that_go_only_by_a_report_on_the_bundle_that_names_them() -> None:
    assert not has_none_leaving({}, "a-0", REPORT.bundle)
    assert not has_none_leaving({"a-0": REPORT}, "a-0", REPORT.bundle)
    assert not has_none_leaving({"a-0": replace(REPORT, under_way_leaving=1)}, "a-0", REPORT.bundle)
    assert not has_none_leaving({"a-0": replace(REPORT, under_way_leaving=0)}, "a-0", "f" * 64)
