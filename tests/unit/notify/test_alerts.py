import hashlib
from datetime import timedelta
from typing import Any

import pytest

from interlock_notify.alerts import read_alerts
from tests.requirements import requirement
from tests.unit.notify.ledgers import AT, DAY, UID, a_ledger, an_entry


def ids(ledger: dict[str, Any]) -> list[str]:
    return [alert.id for alert in read_alerts(ledger, "support")]


def test_an_alert_has_one_key_for_its_ledger_period_window_and_percent() -> None:
    assert ids(a_ledger(an_entry())) == [f"{UID}/day/{DAY}/50"]


def test_a_day_and_a_month_that_begin_at_one_moment_have_two_keys() -> None:
    month = {"start": DAY, "end": "2026-04-01T00:00:00Z", "spent": 1}

    assert len(set(ids(a_ledger(an_entry(), an_entry(period="month"), month=month)))) == 2


def test_no_key_holds_the_full_stop_that_separates_what_is_signed() -> None:
    assert all("." not in one for one in ids(a_ledger(an_entry(), name="triage.staging")))


def test_an_exhausted_budget_is_the_alert_at_100_percent_of_its_window() -> None:
    exhausted = {"at": "2026-03-02T20:00:00Z", "period": "day", "refused": 1_000, "holder": "pod/1"}

    (alert,) = read_alerts(a_ledger(exhausted=exhausted), "support")

    assert (alert.id, alert.percent) == (f"{UID}/day/{DAY}/100", 100)


def test_an_exhausted_budget_that_is_among_the_alerts_too_is_one_alert() -> None:
    exhausted = {"at": "2026-03-02T20:00:00Z", "period": "day"}

    assert ids(a_ledger(an_entry(100), exhausted=exhausted)) == [f"{UID}/day/{DAY}/100"]


def test_an_alert_says_what_its_present_window_has_spent() -> None:
    (alert,) = read_alerts(a_ledger(an_entry()), "support")

    assert alert.spent == 25_100_000_000
    assert alert.window_end is not None
    assert (alert.agent, alert.environment, alert.owner) == ("triage", "staging", "Ada Example ada@example.com")


def test_an_alert_of_a_window_that_is_over_does_not_say_what_another_window_has_spent() -> None:
    closed = [{"start": "2026-03-01T00:00:00Z", "end": DAY, "spent": 1}]

    (alert,) = read_alerts(a_ledger(an_entry(windowStart="2026-03-01T00:00:00Z"), days=closed), "support")

    assert (alert.spent, alert.window_end) == (None, None)


def test_an_alert_keeps_the_amounts_that_were_written_with_it() -> None:
    (alert,) = read_alerts(a_ledger(an_entry(spent=25_000_000_000, limit=50_000_000_000)), "support")

    assert (alert.spent, alert.limit) == (25_000_000_000, 50_000_000_000)


@pytest.mark.parametrize(
    "entry",
    [
        an_entry(0),
        an_entry(101),
        an_entry(True),  # noqa: FBT003 - JSON's true
        an_entry("50"),
        an_entry(50.0),
        an_entry(period="week"),
        an_entry(period=["day"]),
        an_entry(windowStart="2026-03-02"),
        an_entry(windowStart=None),
        an_entry(at="yesterday"),
        an_entry(at=5),
        an_entry(windowStart="2026-02-28T00:00:00Z"),  # the ledger has no such day
        an_entry(windowStart="2026-03-01T00:00:00Z"),  # nor this one, though it has such a month
        "50",
        None,
    ],
)
def test_an_entry_that_is_no_alert_is_left_out_and_keeps_no_other_from_being_read(entry: Any) -> None:
    assert ids(a_ledger(entry, an_entry(80))) == [f"{UID}/day/{DAY}/80"]


@pytest.mark.parametrize("status", [{"alerts": None}, {"alerts": {"a": 1}}, {"exhausted": "now"}, {"day": 5}])
def test_a_ledger_whose_status_is_damaged_has_no_alerts(status: dict[str, Any]) -> None:
    assert ids(a_ledger(**status)) == []


def test_a_new_ledger_has_no_alerts() -> None:
    ledger = a_ledger()
    del ledger["status"]

    assert ids(ledger) == []


def test_of_very_many_alerts_the_last_ones_count() -> None:
    many = [an_entry(percent) for percent in [*range(1, 101)] * 20]

    found = ids(a_ledger(*many))

    assert [int(one.rpartition("/")[2]) for one in found] == [*range(37, 101)]


@pytest.mark.parametrize(("since", "count"), [("2026-03-02T14:06:00Z", 1), ("2026-03-02T14:06:01Z", 0), ("soon", 1)])
def test_an_alert_from_before_the_ledger_came_to_the_policy_is_left_out(since: str, count: int) -> None:
    ledger = a_ledger(an_entry())
    ledger["metadata"]["annotations"]["interlock.dev/policy-since"] = since

    assert len(ids(ledger)) == count  # a minute of difference between clocks loses none


def test_texts_of_users_stay_on_one_line() -> None:
    ledger = a_ledger(an_entry())
    ledger["metadata"]["annotations"]["interlock.dev/owner"] = "Ada\n\u202eExample\x1b[0m"

    (alert,) = read_alerts(ledger, "support")

    assert alert.owner.isprintable()


FAST = {"windowStart": "2026-03-02T14:00:00Z", "at": AT, "spent": 6_000_000_000, "median": 1_000_000_000}


def test_an_alert_of_velocity_has_one_key_for_its_ledger_and_ten_minutes() -> None:
    ledger = a_ledger(an_entry(), velocityAlerts=[FAST, FAST])

    _, alert = read_alerts(ledger, "support")

    assert alert.id == f"{UID}/velocity/2026-03-02T14:00:00Z"
    assert (alert.spent, alert.median, alert.period, alert.agent) == (6_000_000_000, 1_000_000_000, None, "triage")
    assert alert.window_end == alert.window_start + timedelta(minutes=10)


def test_a_median_of_zero_is_left_out_by_ledgers() -> None:
    (alert,) = read_alerts(a_ledger(velocityAlerts=[{**FAST, "median": 0}]), "support")
    (bare,) = read_alerts(a_ledger(velocityAlerts=[{k: v for k, v in FAST.items() if k != "median"}]), "support")

    assert alert == bare
    assert bare.median == 0


LAST = {"windowStart": "9999-12-31T23:59:59Z"}
"""Its window would end after the last year, which no reader of other ledgers may stumble over."""


@pytest.mark.parametrize(
    "changed",
    [
        {"spent": -1},
        {"spent": None},
        {"median": "1"},
        {"at": ""},
        {"windowStart": 5},
        {"windowStart": "2026-03-02T14:00:01Z"},  # no ten minutes begin there
        LAST,
    ],
)
def test_an_entry_that_is_no_alert_of_velocity_is_left_out(changed: dict[str, Any]) -> None:
    assert read_alerts(a_ledger(velocityAlerts=[{**FAST, **changed}, 5]), "support") == ()


COUNTED = {
    "model": "openai/gpt-4.1",
    "direction": "input",
    "windowStart": DAY,
    "hourStart": "2026-03-02T14:00:00Z",
    "at": AT,
    "tokens": 50_000,
    "bytes": 100_000,
    "dayTokens": 250_000,
    "dayBytes": 1_000_000,
}


@requirement("budget.tokens-per-byte")
def test_an_alert_of_tokens_has_one_key_for_its_ledger_model_and_day() -> None:
    other = {**COUNTED, "model": "openai/gpt-4.1-mini"}
    first, second = read_alerts(a_ledger(tokenAlerts=[COUNTED, COUNTED, other]), "support")

    assert first.id == f"{UID}/tokens/{DAY}/{hashlib.sha256(b'openai/gpt-4.1').hexdigest()[:12]}"
    assert first.id != second.id
    assert "." not in first.id
    assert first.reported is not None
    assert (first.reported.tokens, first.reported.day_size, first.period) == (50_000, 1_000_000, None)


def test_a_count_of_zero_is_left_out_by_ledgers() -> None:
    (alert,) = read_alerts(a_ledger(tokenAlerts=[{k: v for k, v in COUNTED.items() if k != "tokens"}]), "support")

    assert alert.reported is not None
    assert alert.reported.tokens == 0


@pytest.mark.parametrize(
    "changed",
    [
        *({"bytes": size} for size in (0, -1, None, "1", True)),
        *({"dayBytes": 0}, {"direction": "up"}, {"direction": []}, {"model": ""}, {"model": 5}),
        *({name: "yesterday"} for name in ("windowStart", "hourStart", "at")),
        {"windowStart": "2026-02-28T00:00:00Z"},  # a day that the ledger does not have
    ],
)
def test_an_entry_that_is_no_alert_of_tokens_is_left_out(changed: dict[str, Any]) -> None:
    assert read_alerts(a_ledger(tokenAlerts=[{**COUNTED, **changed}, 5]), "support") == ()
