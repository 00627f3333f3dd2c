"""What a draining guard reports in the Lease, and when the operator takes a pod for drained."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from interlock_contract.drain_report import DrainReport, dump_drain, is_drained, read_drains

REPORT = DrainReport("0123456789abcdef" * 4, 3, datetime(2026, 3, 2, 9, tzinfo=UTC))
KEY = "drain.interlock.dev/a-0"


def test_a_report_is_read_back_by_the_name_of_its_pod() -> None:
    assert read_drains({KEY: dump_drain(REPORT), "loops.interlock.dev/a-0": dump_drain(REPORT)}) == {"a-0": REPORT}


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
