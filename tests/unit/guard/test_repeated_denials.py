"""Ten denials of one rule within a minute: found once, told through the Lease, and read back as they were."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.names import DENIALS_PREFIX
from interlock_contract.selftest_report import RepeatedDenials, dump_denials, read_denials
from interlock_guard.audit.denials import RepetitionFinder
from interlock_guard.selftest.reporter import SelfTestReporter
from tests.requirements import requirement
from tests.support.bounds import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULE, OTHER = ("ToolNotMapped", "mcpbinding/crm", "crm"), ("OutOfScope", "mcpbinding/crm", "crm")


def times_found(finder: RepetitionFinder, seconds: float, count: int, rule: tuple[str, str, str] = RULE) -> list[int]:
    """Deny so many requests at this distance; return which of them was reported."""
    at = (NOW + timedelta(seconds=seconds * number) for number in range(count))
    return [number for number, now in enumerate(at, 1) if finder.count(rule, now) is not None]


@requirement("status.denials")
def test_the_tenth_denial_of_a_rule_within_a_minute_is_reported_and_none_for_ten_minutes_after_it() -> None:
    assert times_found(RepetitionFinder(), 6, 100) == [10]
    assert times_found(RepetitionFinder(), 1, 700) == [10, 619]
    assert RepetitionFinder().count(RULE, NOW) is None


@requirement("status.denials")
def test_denials_that_are_rarer_or_of_different_rules_are_not_reported() -> None:
    assert times_found(RepetitionFinder(), 6.8, 100) == []
    finder = RepetitionFinder()
    for _ in range(9):
        assert finder.count(RULE, NOW) is None
        assert finder.count(OTHER, NOW) is None
    assert finder.count(RULE, NOW) == RepeatedDenials("ToolNotMapped", "crm", "mcpbinding/crm", 10, NOW)


def test_an_agent_that_is_denied_by_many_rules_costs_bounded_memory() -> None:
    finder = RepetitionFinder()
    for number in range(5000):
        for _ in range(10):
            finder.count(("OutOfScope", f"row {number}", "crm"), NOW)
    assert len(finder._times) <= 1024  # noqa: SLF001 - memory is what is bounded
    assert len(finder._found_at) <= 1024  # noqa: SLF001


@requirement("status.denials")
@pytest.mark.parametrize("source", ["crm", ""])
@pytest.mark.parametrize("rule", ["mcpbinding/crm", "", "agentpolicy/support spec.dataAccess[0]"])
def test_what_is_written_is_read(source: str, rule: str) -> None:
    report = RepeatedDenials("ToolNotMapped", source, rule, 10, NOW)
    assert read_denials({f"{DENIALS_PREFIX}a-0": dump_denials([report])}) == [report]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"ToolNotMapped": "2026-01-01T00:00:00Z 10"}',
        '{"ToolNotMapped crm": 10}',
        '{"ToolNotMapped crm x": "2026-01-01T00:00:00 10"}',
        '{"ToolNotMapped crm x": "2026-01-01T00:00:00Z ten"}',
        '{"ToolNotMapped crm x": "2026-01-01T00:00:00Z 99999999999999"}',
        '{"Tool\\u001bNotMapped crm x": "2026-01-01T00:00:00Z 10"}',
        "[" * 5000,
    ],
)
def test_anything_else_says_nothing(text: str) -> None:
    assert read_denials({f"{DENIALS_PREFIX}a-0": text}) == []


@given(st.dictionaries(st.text(max_size=40), st.text(max_size=40), max_size=4))
def test_no_annotation_raises(annotations: dict[str, str]) -> None:
    read_denials({f"{DENIALS_PREFIX}{key}": value for key, value in annotations.items()})


@requirement("status.denials")
async def test_the_lease_has_the_last_eight_reports_in_one_write() -> None:
    written: list[dict[str, str]] = []

    class Lease:
        async def patch(self, _path: str, body: Any, _manager: str) -> Any:
            written.append(body["metadata"]["annotations"])
            return {"metadata": {"annotations": written[-1]}}

    client: Any = Lease()
    reporter = SelfTestReporter(client, "/lease", "a-0", clock=lambda: NOW)
    for number in range(10):
        reporter.report_denials(RepeatedDenials("OutOfScope", "crm", f"row {number}", 10, NOW))
    task = asyncio.create_task(reporter.run(lambda _: None))
    await until(lambda: bool(written), "the reports are in the Lease")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [one.rule for one in read_denials(written[0])] == [f"row {number}" for number in range(2, 10)]
    assert len(written) == 1
