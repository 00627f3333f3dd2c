import copy
from typing import Any

import pytest

from interlock_contract.budget.ledger import (
    BudgetAlert,
    Credit,
    Exhausted,
    Ledger,
    LedgerInvalid,
    LedgerWindow,
    Slice,
    dump_ledger,
    parse_ledger,
)

START = 1_780_012_800  # 2026-05-29T00:00:00Z
DAY = 86_400
LEDGER = Ledger(
    LedgerWindow(START, START + DAY, 25, 5),
    LedgerWindow(START - 28 * DAY, START + 3 * DAY, 40, 5),
    slices=(Slice("pod-a/1", "pod-a", 60, START, START - 28 * DAY, START + 9, settled=25, wanted=3),),
    credit=Credit(100, START + DAY, "launch", START + 5, 5, "maria@example.com", "7f"),
    days=(LedgerWindow(START - DAY, START, 15), LedgerWindow(START - 3 * DAY, START - 2 * DAY)),
    months=(LedgerWindow(START - 58 * DAY, START - 28 * DAY, 7),),
    alerts=(BudgetAlert(50, "day", START, START + 8, 25, 50),),
    exhausted=Exhausted(START + 9, "day", 11, "pod-a/1"),
)


def damaged(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(dump_ledger(LEDGER))
    inner: Any = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return document


def test_a_ledger_is_read_back_as_it_was_written() -> None:
    assert parse_ledger(dump_ledger(LEDGER)) == LEDGER


def test_times_are_those_of_kubernetes_and_defaults_are_left_out() -> None:
    document = dump_ledger(LEDGER)
    assert document["day"] == {
        "start": "2026-05-29T00:00:00Z",
        "end": "2026-05-30T00:00:00Z",
        "spent": 25,
        "credited": 5,
    }
    assert document["days"][1] == {"start": "2026-05-26T00:00:00Z", "end": "2026-05-27T00:00:00Z"}
    assert document["slices"][0]["renewedAt"] == "2026-05-29T00:00:09Z"
    assert dump_ledger(Ledger()) == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("day",), None),
        (("day", "spent"), -1),
        (("day", "spent"), 1.5),
        (("day", "spent"), True),
        (("day", "spent"), "25"),
        (("day", "spent"), 2**53),
        (("day", "credited"), -1),
        (("day", "start"), 1_780_012_800),
        (("day", "start"), "2026-05-29T00:00:00+00:00"),
        (("day", "start"), "2026-05-29T00:00:00.5Z"),
        (("day", "start"), "2026-W22-5T00:00:00Z"),
        (("day", "start"), "2026-13-29T00:00:00Z"),
        (("day", "start"), "1969-05-29T00:00:00Z"),
        (("day", "end"), "2026-05-29T00:00:00Z"),
        (("day", "mood"), 1),
        (("mood",), 1),
        (("slices", 0, "amount"), -1),
        (("slices", 0, "settled"), -1),
        (("slices", 0, "holder"), ""),
        (("slices", 0, "holder"), "x" * 129),
        (("slices", 0, "dayStart"), "2026-05-30T00:00:00Z"),
        (("slices", 0, "monthStart"), "2026-05-30T00:00:00Z"),
        (("slices",), [dump_ledger(LEDGER)["slices"][0]] * 2),
        (("slices",), [{**dump_ledger(LEDGER)["slices"][0], "holder": f"pod/{n}"} for n in range(1025)]),
        (("days", 0, "end"), "2026-05-29T00:00:01Z"),
        (("days",), [dump_ledger(LEDGER)["days"][0]] * 36),
        (("months", 0, "end"), "2026-05-01T00:00:01Z"),
        (("credit", "amount"), 10**15 + 1),
        (("credit", "reason"), ""),
        (("alerts", 0, "percent"), 0),
        (("alerts", 0, "period"), "year"),
        (("exhausted", "refused"), None),
        (("exhausted", "refused"), 10**15 + 1),
        (("day", "end"), "2026-05-31T00:00:01Z"),  # no day has more than 48 hours
        (("month", "end"), "9999-12-31T23:59:59Z"),
        (("months", 0, "start"), "2026-03-28T23:59:59Z"),
    ],
    ids=str,
)
def test_a_damaged_ledger_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    with pytest.raises(LedgerInvalid):
        parse_ledger(damaged(path, value))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"day": value}
    return value


NO_LEDGERS: list[Any] = [[], "", 0, False, [1], {1: 2}, {"day": {"start": float("inf")}}]


@pytest.mark.parametrize("status", NO_LEDGERS, ids=type)
def test_a_status_that_is_no_object_is_refused(status: Any) -> None:
    with pytest.raises(LedgerInvalid):
        parse_ledger(status)


@pytest.mark.parametrize("where", ["the status", "a list"])
def test_a_status_of_any_depth_is_refused(where: str) -> None:
    deep = nested(10**5)
    with pytest.raises(LedgerInvalid):
        parse_ledger(deep if where == "the status" else {"slices": deep})


def test_the_refusal_names_the_path() -> None:
    with pytest.raises(LedgerInvalid, match=r"^slices\[0\]\.amount: "):
        parse_ledger(damaged(("slices", 0, "amount"), -1))
    with pytest.raises(LedgerInvalid, match=r"^days\[0\]: must end before the next one starts"):
        parse_ledger(damaged(("days", 0, "end"), "2026-05-29T00:00:01Z"))
