"""Self-test reports, written and read: no other text passes as one of ours."""

from datetime import UTC, datetime, timedelta

import pytest

from interlock_contract.names import DRIFT_PREFIX, SELFTEST_PREFIX
from interlock_contract.selftest_report import (
    MAX_REPORTS,
    SelfTestReport,
    dump_drifts,
    dump_report,
    find_surplus,
    parse_report,
    read_drifts,
    read_reports,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("said", [SelfTestReport("ab" * 32, 7), SelfTestReport("ab" * 32, 3, "Denied call 'x': Allow")])
def test_what_is_written_is_read(said: SelfTestReport) -> None:
    assert parse_report(dump_report(said, NOW)) == said


def test_a_long_flaw_is_cut() -> None:
    read = parse_report(dump_report(SelfTestReport("d", 0, "x" * 10_000), NOW))
    assert read is not None
    assert len(read.flaw) == 512


@pytest.mark.parametrize(
    "text",
    [
        "",
        "passed",
        "[]",
        "{}",
        '{"bundle":1,"calls":1}',
        '{"bundle":"d","calls":true}',
        '{"bundle":"d"}',
        '{"bundle":"d","calls":1,"flaw":0}',
        '{"bundle":"d","calls":1,"bundle":"d"}',
        '{"bundle":"d","calls":1,"more":[1]}',
        '{"bundle":"d","calls":1,"flaw":"' + "x" * 20_000 + '"}',
        "[" * 5_000,
    ],
)
def test_anything_else_says_nothing(text: str) -> None:
    assert parse_report(text) is None
    assert read_reports({f"{SELFTEST_PREFIX}pod": text}) == {}


def test_other_annotations_are_no_self_test_reports() -> None:
    text = dump_report(SelfTestReport("d", 1), NOW)
    assert read_reports({f"{SELFTEST_PREFIX}pod": text, "proof": text, "example.com/pod": text}) == {
        "pod": SelfTestReport("d", 1)
    }


def test_the_oldest_ones_above_the_limit_are_surplus_but_never_the_own_one() -> None:
    own = f"{SELFTEST_PREFIX}own"
    texts = [dump_report(SelfTestReport("d", 1), NOW + timedelta(seconds=age)) for age in range(MAX_REPORTS + 2)]
    annotations = {
        own: texts[0],
        "other": "x",
        **{f"{SELFTEST_PREFIX}p{age}": text for age, text in enumerate(texts) if age},
    }
    assert find_surplus(annotations, own) == [f"{SELFTEST_PREFIX}p1", f"{SELFTEST_PREFIX}p2"]
    kept = {
        key: text for key, text in annotations.items() if key not in (f"{SELFTEST_PREFIX}p1", f"{SELFTEST_PREFIX}p2")
    }
    assert find_surplus(kept, own) == []


def test_what_guards_have_found_changed_is_read_back_the_latest_of_all_and_nothing_else_is_believed() -> None:
    early, late = datetime(2026, 3, 2, 9, tzinfo=UTC), datetime(2026, 3, 2, 10, tzinfo=UTC)
    annotations = {
        f"{DRIFT_PREFIX}a-0": dump_drifts({"crm": early, "mail": late}),
        f"{DRIFT_PREFIX}a-1": dump_drifts({"crm": late}),
        f"{DRIFT_PREFIX}a-2": "nonsense",
        f"{DRIFT_PREFIX}a-6": dump_drifts({"crm": datetime(9999, 12, 31, tzinfo=UTC)}),
        f"{DRIFT_PREFIX}a-3": '["crm"]',
        f"{DRIFT_PREFIX}a-4": '{"crm": 5, "x": "2026-03-02T09:00:00"}',
        "other/a-5": dump_drifts({"forged": late}),
    }
    assert read_drifts(annotations, late) == {"crm": late, "mail": late}
