"""A guard writes to a ledger only what its transitions write: admission on a real API server."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from interlock.cluster.ledger_store import build_tracked
from interlock_contract.budget.ledger import (
    BudgetAlert,
    Credit,
    Exhausted,
    Ledger,
    LedgerWindow,
    RecentSpend,
    VelocityAlert,
)
from interlock_contract.budget.money import MAX_MONEY
from interlock_contract.budget.rates import MinuteRate, RateSlice
from interlock_contract.budget.tokens_per_byte import ModelTokens
from interlock_contract.clock import utc_now
from interlock_kube.client import APPLY_PATCH
from tests.integration.kubectl import Cluster
from tests.integration.ledger_place import (
    DAY,
    END,
    FULL,
    GUARD,
    HOUR,
    MANAGER,
    MONTH,
    OTHER_POD,
    POD,
    START,
    LedgerPlace,
    a_ledger,
    a_slice,
    changed,
    holder,
    ledger_place,
    write,
)
from tests.requirements import requirement

pytestmark = pytest.mark.api

NEXT_DAY, NEXT_MONTH = LedgerWindow(END, END + DAY), LedgerWindow(END, END + 31 * DAY)
SLICES, RATES = FULL.slices, FULL.rate.slices
DAYS, MONTHS = (FULL.day, *FULL.days), (FULL.month, *FULL.months)
CREDIT, ALERT = FULL.credit, FULL.alerts[0]
assert CREDIT is not None
LATE = START - DAY
"""The day before the present one of the ledger."""
SETTLED = {
    "day": replace(FULL.day, spent=5_060),
    "month": replace(FULL.month, spent=90_060),
    "slices": (replace(SLICES[0], amount=40, settled=60), *SLICES[1:]),
}
DAY_CLOSED = changed(day=NEXT_DAY, days=DAYS, slices=(*SLICES[:2], *SLICES[3:]))
MONTH_CLOSED = changed(month=NEXT_MONTH, months=MONTHS, slices=(*SLICES[:2], *SLICES[3:]))


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[LedgerPlace]:
    yield from ledger_place(kwok_cluster)


@pytest.fixture(scope="module")
def paths(place: LedgerPlace) -> Iterator[tuple[str, str]]:
    with place.full_ledgers():
        yield place.own, place.total


def rolled(**members: object) -> Ledger:
    """Return the ledger after a guard has closed its day."""
    return replace(DAY_CLOSED, **members)


def day(start: int, end: int, spent: int = 0) -> Ledger:
    return rolled(day=LedgerWindow(start, end, spent))


def month(start: int, end: int) -> Ledger:
    return replace(MONTH_CLOSED, month=LedgerWindow(start, end))


def given_back(amount: int = CREDIT.amount) -> Ledger:
    """Return the ledger after money has come back to the credit."""
    day, month = replace(FULL.day, credited=2), replace(FULL.month, credited=2)
    return changed(day=day, month=month, credit=replace(CREDIT, amount=amount, spent=2))


def own(*slices: object) -> Ledger:
    """Return the ledger with more slices than it has."""
    return changed(slices=(*SLICES, *slices))


def rate(start: int, *slices: RateSlice) -> Ledger:
    return changed(rate=MinuteRate(start, slices))


def a_rate(number: int, holder_pod: str = POD) -> RateSlice:
    return RateSlice(holder(holder_pod, number), POD, 1)


def due(percent: int = 80, at: int = END + 5, spent: int = 5_000, limit: int = 6_000) -> BudgetAlert:
    return BudgetAlert(percent, "day", START, at, spent, limit)


WINDOWS, OPENS = "lower what was spent, nor change days and months", "may open only a day and a month"
OVERRIDE, OTHERS, OWN = "may not change the override", "slices of other pods", "may have up to 8 slices"
RATE, ALERTS, SPEND = "may not change the rate slices", "may not change alerts", "may add what it settles"


@pytest.mark.parametrize(
    ("ledger", "words"),
    [
        # Spend, and windows that have begun.
        (changed(day=replace(FULL.day, spent=4_999)), WINDOWS),
        (changed(month=replace(FULL.month, spent=0)), WINDOWS),
        (changed(day=replace(FULL.day, start=START + 1)), WINDOWS),
        (changed(month=replace(FULL.month, start=MONTH - 1)), WINDOWS),
        (changed(days=()), WINDOWS),
        (changed(days=(replace(FULL.days[0], spent=3_999),)), WINDOWS),
        (changed(days=(replace(FULL.days[0], start=LATE + 1),)), WINDOWS),
        (changed(days=(replace(FULL.days[0], end=START - 1),)), WINDOWS),
        (changed(days=(*FULL.days, LedgerWindow(LATE - DAY, LATE, 9))), WINDOWS),
        (changed(months=()), WINDOWS),
        (changed(months=(replace(FULL.months[0], spent=1),)), WINDOWS),
        (Ledger(), WINDOWS),
        (rolled(days=FULL.days), WINDOWS),
        (rolled(days=(replace(FULL.day, spent=1), *FULL.days)), WINDOWS),
        (rolled(days=(replace(FULL.day, end=END - 1), *FULL.days)), WINDOWS),
        (replace(MONTH_CLOSED, months=FULL.months), WINDOWS),
        (replace(MONTH_CLOSED, months=(replace(FULL.month, spent=1), *FULL.months)), WINDOWS),
        (changed(day=LedgerWindow(LATE, START, 9_000), days=()), WINDOWS),
        # Windows that are opened.
        (day(END - 1, END + DAY), OPENS),
        (month(END - 1, END + 30 * DAY), OPENS),
        (day(END + 3 * HOUR, END + 26 * HOUR), OPENS),
        (month(END + 3 * HOUR, END + 30 * DAY), OPENS),
        (day(END, END + 22 * HOUR - 1), OPENS),
        (month(END, END + 26 * DAY - 1), OPENS),
        (day(END, END + 48 * HOUR + 1), OPENS),
        (month(END, END + 33 * DAY + 1), OPENS),
        # The override.
        (changed(credit=None), OVERRIDE),
        (changed(credit=replace(CREDIT, amount=2 * 10**9)), OVERRIDE),
        (changed(credit=replace(CREDIT, until=CREDIT.until + 1)), OVERRIDE),
        (changed(credit=replace(CREDIT, by="eve")), OVERRIDE),
        (changed(credit=replace(CREDIT, reason="x")), OVERRIDE),
        (changed(credit=replace(CREDIT, given_at=START + 1)), OVERRIDE),
        (changed(credit=replace(CREDIT, id="80")), OVERRIDE),
        (changed(day=replace(FULL.day, credited=8)), OVERRIDE),
        (changed(month=replace(FULL.month, credited=8)), OVERRIDE),
        (changed(days=(replace(FULL.days[0], credited=4),)), OVERRIDE),
        (rolled(day=replace(NEXT_DAY, credited=1)), OVERRIDE),
        (replace(MONTH_CLOSED, month=replace(NEXT_MONTH, credited=1)), OVERRIDE),
        (changed(credit=replace(CREDIT, spent=6)), OVERRIDE),
        (changed(credit=replace(CREDIT, spent=10**9 + 1)), OVERRIDE),
        # Slices of others.
        (changed(slices=SLICES[:1]), OTHERS),
        (changed(slices=(SLICES[0], replace(SLICES[1], amount=199), *SLICES[2:])), OTHERS),
        (changed(slices=(*SLICES[:2], *SLICES[3:])), OTHERS),
        (own(a_slice(GUARD, 1)), OTHERS),
        (own(a_slice(GUARD, 0)), OTHERS),
        (rolled(slices=SLICES), OTHERS),
        (rolled(slices=(*SLICES[:2], SLICES[4])), OTHERS),
        (replace(MONTH_CLOSED, slices=(*SLICES[:2], SLICES[4])), OTHERS),
        (replace(DAY_CLOSED, month=NEXT_MONTH, months=MONTHS), OTHERS),
        # Its own slices.
        (own(replace(a_slice(POD, 1), holder=holder(OTHER_POD))), OWN),
        (own(replace(a_slice(POD, 1), holder=POD)), OWN),
        (own(SLICES[0]), OWN),
        (own(*(a_slice(POD, 1, run=run) for run in range(1, 8))), OWN),
        (own(a_slice(POD, 0, END)), OWN),
        (own(a_slice(POD, 0, START, END)), OWN),
        (own(a_slice(POD, 1, LATE, run=1)), OWN),
        (own(a_slice(POD, 1, START, MONTH - DAY)), OWN),
        (own(a_slice(POD, 1, LATE - DAY)), OWN),
        (changed(slices=(*SLICES[:4], replace(SLICES[4], amount=51))), OWN),
        (changed(slices=(*SLICES[:4], replace(SLICES[4], month_start=MONTH - DAY))), OWN),
        # The minute of the rate limits.
        (rate(END - 60, *RATES[:1]), RATE),
        (rate(END - 60, replace(RATES[1], calls=6)), RATE),
        (rate(END - 120, *RATES), RATE),
        (changed(rate=MinuteRate()), RATE),
        (rate(END - 120, RATES[0]), RATE),
        (rate(END, *RATES), RATE),
        (rate(END + 30, RATES[0]), RATE),
        (rate(END + 3 * HOUR, RATES[0]), RATE),
        (rate(END - 60, *RATES, *(a_rate(number) for number in range(1, 9))), RATE),
        (rate(END - 60, *RATES, a_rate(1, OTHER_POD)), RATE),
        (rate(END - 60, *RATES, RATES[0]), RATE),
        # Alerts.
        (changed(alerts=()), ALERTS),
        (changed(alerts=(replace(ALERT, at=START + 6),)), ALERTS),
        (changed(alerts=(ALERT, ALERT)), ALERTS),
        (changed(alerts=(ALERT, due())), ALERTS),
        (rolled(alerts=(due(), ALERT)), ALERTS),
        (rolled(alerts=(ALERT, due(), due())), ALERTS),
        (rolled(alerts=(ALERT, due(), due(limit=6_001))), ALERTS),
        (rolled(alerts=(ALERT, due(50))), ALERTS),
        (rolled(alerts=(ALERT, due(at=END - 1))), ALERTS),
        (rolled(alerts=(ALERT, due(at=END + DAY))), ALERTS),
        (rolled(alerts=(ALERT, due(spent=5_001))), ALERTS),
        (rolled(alerts=(ALERT, due(limit=6_251))), ALERTS),
        (rolled(alerts=(ALERT, replace(due(), window_start=LATE))), ALERTS),
        (rolled(alerts=(ALERT, replace(due(), period="month"))), ALERTS),
        (changed(velocity_alerts=()), ALERTS),
        (changed(velocity_alerts=(*FULL.velocity_alerts, VelocityAlert(END - 600, END, 9, 1))), ALERTS),
        (changed(token_alerts=()), ALERTS),
        # The spend of the last day, and the last refusal.
        (changed(recent=None), SPEND),
        (changed(**SETTLED, recent=RecentSpend(END - 1200, (361, 20, 10))), SPEND),
        (changed(**SETTLED, recent=RecentSpend(END - 1200, (299, 20, 10))), SPEND),
        (changed(**SETTLED, recent=RecentSpend(END - 1200, (360, 21, 10))), SPEND),
        (changed(**SETTLED, recent=RecentSpend(END - 1200, (360, 20))), SPEND),
        (changed(**SETTLED, recent=RecentSpend(END, (60, 1, 300, 20, 10))), SPEND),
        (changed(**SETTLED, recent=RecentSpend(END, (61, 0, 300, 20, 10))), SPEND),
        (changed(**SETTLED, recent=RecentSpend(END - 1200 + 30, (360, 20, 10))), SPEND),
        (changed(**SETTLED, recent=RecentSpend(END - 1800, (360, 20, 10))), SPEND),
        (changed(**SETTLED, recent=RecentSpend(END - 1800, (60, 10))), SPEND),
        (changed(**SETTLED, recent=RecentSpend(END + 3 * HOUR, (60, *[0] * 19, 300, 20, 10))), SPEND),
        (changed(tokens=(*FULL.tokens, *FULL.tokens)), SPEND),
        (changed(tokens=(ModelTokens("a", END + 3 * HOUR, (1,)),)), SPEND),
        (changed(tokens=(ModelTokens("a", END + 60, (1,)),)), SPEND),
        (changed(exhausted=Exhausted(END + HOUR // 2, "day", 200, holder(OTHER_POD))), SPEND),
        (changed(exhausted=Exhausted(END + 3 * HOUR, "day", 200, holder(POD))), SPEND),
        (changed(exhausted=Exhausted(END - 3 * HOUR, "day", 200, holder(POD))), SPEND),
    ],
)
@requirement("budget.ledger-writers")
def test_a_guard_writes_only_what_its_transitions_write(
    place: LedgerPlace, paths: tuple[str, str], ledger: Ledger, words: str
) -> None:
    reply = write(place.guard(), paths[0], ledger)
    assert reply.was_denied_by("budgetledgers"), reply.text
    assert words in reply.text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FULL, changed(**SETTLED, recent=RecentSpend(END - 1200, (360, 20, 10)))),
        (FULL, changed(**SETTLED, recent=RecentSpend(END, (60, 0, 300, 20, 10)))),
        (changed(recent=None), changed(**SETTLED, recent=RecentSpend(END, (60,)))),
        (
            changed(recent=RecentSpend(END - 200 * 600, (9,) * 145)),
            changed(**SETTLED, recent=RecentSpend(END, (60, *[0] * 144))),
        ),
        (FULL, DAY_CLOSED),
        (FULL, MONTH_CLOSED),
        (FULL, replace(DAY_CLOSED, month=NEXT_MONTH, months=MONTHS, slices=(*SLICES[:2], SLICES[4]), exhausted=None)),
        (FULL, day(END, END + 22 * HOUR)),
        (FULL, day(END, END + 48 * HOUR)),
        (FULL, month(END, END + 26 * DAY)),
        (FULL, month(END, END + 33 * DAY)),
        (FULL, rolled(alerts=(ALERT, due()))),
        (FULL, replace(MONTH_CLOSED, alerts=(ALERT, BudgetAlert(99, "month", MONTH, END, 90_000, 90_001)))),
        (Ledger(), Ledger(NEXT_DAY, NEXT_MONTH, (a_slice(POD, 9, END, END),))),
        (changed(slices=()), changed(slices=tuple(a_slice(POD, 1, run=run) for run in range(8)))),
        (FULL, changed(slices=(replace(SLICES[0], amount=10**9), *SLICES[1:4], replace(SLICES[4], amount=49)))),
        (FULL, changed(slices=SLICES[1:4])),
        (FULL, own(replace(a_slice(POD, 0, LATE - DAY, run=1), settled=9))),
        (
            changed(month=replace(FULL.month, spent=MAX_MONEY)),
            changed(month=replace(FULL.month, spent=MAX_MONEY), recent=RecentSpend(END - 1200, (360, 20, 10))),
        ),
        (
            FULL,  # takes from the override
            changed(
                day=replace(FULL.day, credited=10),
                month=replace(FULL.month, credited=10),
                credit=replace(CREDIT, spent=10),
            ),
        ),
        (FULL, given_back()),
        (
            changed(credit=replace(CREDIT, amount=0)),  # was withdrawn, and money comes back to it
            given_back(amount=0),
        ),
        (FULL, rate(END - 60, RateSlice(holder(POD), POD, 9), RATES[1])),
        (FULL, rate(END, *(a_rate(number) for number in range(8)))),
        (FULL, changed(exhausted=Exhausted(START + 9, "day", 200, holder(POD)))),
        (FULL, changed(exhausted=None)),
    ],
)
@requirement("budget.ledger-writers")
def test_a_guard_writes_what_its_transitions_write(
    place: LedgerPlace, paths: tuple[str, str], before: Ledger, after: Ledger
) -> None:
    for path in paths:
        place.reset(path, before)
        reply = write(place.guard(), path, after)
        assert reply.status == 200, reply.text
        place.reset(path)


@requirement("budget.ledger-writers")
def test_a_guard_records_a_refusal_of_now(place: LedgerPlace, paths: tuple[str, str]) -> None:
    now = int(utc_now().timestamp())
    for path in paths:
        place.reset(path, changed(exhausted=None))
        reply = write(place.guard(), path, changed(exhausted=Exhausted(now, "month", 200, holder(POD))))
        assert reply.status == 200, reply.text
        place.reset(path)


@requirement("budget.override")
def test_without_an_override_nothing_is_credited(place: LedgerPlace, paths: tuple[str, str]) -> None:
    place.reset(paths[1], changed(credit=None))
    raised = changed(credit=None, day=replace(FULL.day, credited=8), month=replace(FULL.month, credited=8))
    assert write(place.guard(), paths[1], raised).was_denied_by("budgetledgers")
    given = replace(raised, credit=Credit(1, END + DAY, "none", END, spent=1))
    assert write(place.guard(), paths[1], given).was_denied_by("budgetledgers")
    place.reset(paths[1])


@requirement("budget.ledger-writers")
def test_a_guard_opens_no_window_that_is_over(place: LedgerPlace, paths: tuple[str, str]) -> None:
    long_ago = LedgerWindow(LATE - 3 * DAY, LATE - 2 * DAY)
    place.reset(paths[0], changed(day=long_ago, days=(), slices=()))
    after = changed(day=LedgerWindow(long_ago.end, long_ago.end + DAY), days=(long_ago,), slices=())
    reply = write(place.guard(), paths[0], after)
    assert reply.was_denied_by("budgetledgers")
    assert OPENS in reply.text
    place.reset(paths[0])


@requirement("budget.ledger-writers")
def test_a_guard_counts_tokens_in_the_ledger_of_its_agent_alone(place: LedgerPlace, paths: tuple[str, str]) -> None:
    old = ModelTokens("b", END - 60, (1,))  # as no guard writes it any longer
    place.reset(paths[0], changed(tokens=(*FULL.tokens, old)))
    after = changed(tokens=(replace(FULL.tokens[0], calls=(9, 3)), old, ModelTokens("a", END, (1,))))
    assert write(place.guard(), paths[0], after).status == 200
    reply = write(place.guard(), paths[1], changed(tokens=(ModelTokens("a", END, (1,)),)))
    assert reply.was_denied_by("budgetledgers")
    place.reset(paths[0])


@requirement("budget.alerts")
def test_a_guard_raises_no_alert_of_a_day_without_spend(place: LedgerPlace, paths: tuple[str, str]) -> None:
    unspent = replace(FULL.day, spent=0)
    place.reset(paths[0], changed(day=unspent, alerts=()))
    after = rolled(days=(unspent, *FULL.days), alerts=(due(spent=0, limit=0),))
    assert write(place.guard(), paths[0], after).was_denied_by("budgetledgers")
    place.reset(paths[0])


@requirement("budget.ledger-writers")
def test_the_oldest_windows_and_alerts_make_room_for_the_newest(place: LedgerPlace, paths: tuple[str, str]) -> None:
    days = tuple(LedgerWindow(START - (n + 1) * DAY, START - n * DAY, 9) for n in range(35))
    months = tuple(LedgerWindow(MONTH - (n + 1) * 30 * DAY, MONTH - n * 30 * DAY, 9) for n in range(13))
    alerts = tuple(replace(ALERT, percent=percent) for percent in range(1, 65))
    full = changed(days=days, months=months, alerts=alerts)
    place.reset(paths[0], full)
    after = replace(
        full, day=NEXT_DAY, days=(FULL.day, *days[:-1]), month=NEXT_MONTH, months=(FULL.month, *months[:-1])
    )
    after = replace(after, slices=(*SLICES[:2], SLICES[4]), alerts=(*alerts[1:], due()))
    for without in (
        replace(after, days=after.days[:-1]),
        replace(after, months=after.months[:-1]),
        replace(after, days=(FULL.day, *days[1:])),
        replace(after, alerts=(*alerts[:-1], due())),
        replace(after, alerts=(*alerts[2:], due())),
    ):
        assert write(place.guard(), paths[0], without).was_denied_by("budgetledgers")
    assert write(place.guard(), paths[0], after).status == 200
    place.reset(paths[0])


@requirement("budget.ledger-writers")
def test_only_a_ledger_for_tests_has_short_days(place: LedgerPlace) -> None:
    manifest = a_ledger("staging", **{"interlock.dev/day-seconds": "60"})
    path = f"{place.ledgers}/{manifest['metadata']['name']}"
    place.admin.must("POST", place.ledgers, manifest)
    start = int(utc_now().timestamp()) // 60 * 60  # the tests of a long run come hours after this file was read
    for end in (start + DAY, start + 120, start + 59, start):
        reply = write(place.guard(), path, Ledger(LedgerWindow(start, end), NEXT_MONTH))
        assert reply.was_denied_by("budgetledgers")
        assert OPENS in reply.text
    short = LedgerWindow(start, start + 60)
    assert write(place.guard(), path, Ledger(short, short)).was_denied_by("budgetledgers")  # no short month
    assert write(place.guard(), path, Ledger(short, NEXT_MONTH)).status == 200
    place.admin.must("DELETE", path)


@requirement("budget.ledger-writers")
def test_the_time_of_a_write_is_that_of_the_api_server(place: LedgerPlace, paths: tuple[str, str]) -> None:
    for manager in ("", "other"):
        reply = write(place.guard(), paths[0], FULL, manager=manager)
        assert reply.was_denied_by("budgetledgers")
        assert "must write BudgetLedger" in reply.text
    later = day(END + 3 * HOUR, END + 27 * HOUR)
    entry = {
        "manager": MANAGER,
        "operation": "Update",
        "subresource": "status",
        "apiVersion": "interlock.dev/v1alpha1",
        "time": "2099-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:status": {"f:rate": {}}},
    }
    for forged in (
        {},
        {"operation": "Apply"},
        {"subresource": ""},
        {"manager": "a"},
        {"apiVersion": "interlock.dev/v1"},
    ):
        reply = write(place.guard(), paths[0], later, managedFields=[entry | forged])
        assert reply.was_denied_by("budgetledgers"), forged
        assert OPENS in reply.text
    assert write(place.guard(), paths[0], later, managedFields=[{}]).was_denied_by("budgetledgers")


@requirement("budget.ledger-writers")
def test_an_apply_of_the_operator_begins_the_notes_of_times_again(place: LedgerPlace) -> None:
    path = f"{place.ledgers}/support-triage.staging"
    place.admin.must("POST", place.ledgers, a_ledger("staging"))
    place.reset(path)
    place.admin.must("PATCH", path, {"metadata": {"managedFields": [{}]}}, "application/merge-patch+json")
    assert "managedFields" not in place.admin.must("GET", path)["metadata"]
    assert write(place.guard(), path, rolled()).status == 422  # whose expression has no time
    ledger = build_tracked((place.namespace, "support-triage.staging"))
    place.operator.must("PATCH", f"{path}?fieldManager=interlock", ledger, APPLY_PATCH)
    assert write(place.guard(), path, rolled()).status == 200
    place.admin.must("DELETE", path)


@requirement("budget.ledger-writers")
def test_the_largest_ledger_costs_the_api_server_less_than_it_allows(
    place: LedgerPlace, paths: tuple[str, str]
) -> None:
    pods = [f"{n:08x}-2222-4222-8222-222222222222" for n in range(1016)]
    mine, others = [a_slice(POD, 9, run=run) for run in range(8)], [a_slice(pod, n % 2) for n, pod in enumerate(pods)]
    rates = [RateSlice(holder(pod), pod, 7, 800) for pod in pods]
    full = changed(
        days=tuple(LedgerWindow(START - (n + 1) * DAY, START - n * DAY, 9) for n in range(35)),
        months=tuple(LedgerWindow(MONTH - (n + 1) * 30 * DAY, MONTH - n * 30 * DAY, 9) for n in range(13)),
        slices=(*others, *mine),
        alerts=tuple(replace(ALERT, percent=percent) for percent in range(1, 65)),
        recent=RecentSpend(END - 1200, tuple(range(1, 146))),
        rate=MinuteRate(END - 60, (*rates, *(a_rate(number) for number in range(8)))),
    )
    place.reset(paths[1], full)
    settled = {"day": SETTLED["day"], "month": SETTLED["month"]}
    spent = replace(full, **settled, recent=RecentSpend(END, (60, 0, *range(1, 144))), slices=(*others, *mine[:-1]))
    kept = tuple(one for one in others if one.amount)
    later = replace(full, day=NEXT_DAY, days=(FULL.day, *full.days[:-1]), month=NEXT_MONTH, slices=(*kept, *mine))
    later = replace(later, months=(FULL.month, *full.months[:-1]), alerts=(*full.alerts[1:], due()))
    for after in (spent, later):
        reply = write(place.guard(), paths[1], after)
        assert reply.status == 200, reply.text
        place.reset(paths[1], full)
    place.reset(paths[1])
