"""Who may write ledgers: admission on a real API server. `test_admission_guard_writes` has what guards may write."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from interlock.api.ledger import BudgetLedger
from interlock.reconcile.ledger_repair import repair_ledger
from interlock_contract.budget.leases import LedgerTerms
from interlock_contract.budget.ledger import Ledger, LedgerInvalid, LedgerWindow, dump_ledger, parse_ledger
from interlock_contract.budget.ledger_names import total_ledger_name
from interlock_contract.clock import utc_now
from tests.integration.kubectl import Cluster, edited
from tests.integration.ledger_place import (
    DAY,
    FULL,
    HOUR,
    LABELLED,
    MANAGER,
    NAMED_ALIKE,
    OTHER_GUARD,
    OTHER_POD,
    POD,
    WRITER,
    LedgerPlace,
    a_ledger,
    a_slice,
    changed,
    ledger_place,
    write,
)
from tests.integration.protected import account, grant
from tests.integration.test_admission_release import patch
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

WAIT_SECONDS = 30.0
_RBAC = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[LedgerPlace]:
    yield from ledger_place(kwok_cluster)


@pytest.fixture
def stored(place: LedgerPlace) -> Iterator[str]:
    with place.full_ledgers() as path:
        yield path


@requirement("budget.ledger-kept")
def test_a_ledger_is_kept_as_it_was_written(place: LedgerPlace, stored: str) -> None:
    found = place.admin.must("GET", stored)
    assert parse_ledger(found["status"]) == FULL
    assert BudgetLedger.model_validate(found).spec.agent == "support-triage"


@requirement("budget.ledger-kept")
@pytest.mark.parametrize(
    "status",
    [
        {"day": {"start": "2026-05-29T00:00:00+00:00"}},
        {"day": {"start": "2026-05-29T00:00:00.5Z"}},
        {"day": {"start": "2026-02-30T00:00:00Z"}},
        {"day": {"end": "9999-12-31T23:59:59Z"}},
        {"recent": {"start": "1969-12-31T23:59:59Z"}},
        {"alerts": [{key: value for key, value in dump_ledger(FULL)["alerts"][0].items() if key != "limit"}]},
        {"alerts": [{key: value for key, value in dump_ledger(FULL)["alerts"][0].items() if key != "spent"}]},
        {"slices": [{**dump_ledger(FULL)["slices"][0], "podUid": ""}]},
        {"rate": {"slices": [{**dump_ledger(FULL)["rate"]["slices"][0], "podUid": ""}]}},
        {"credit": {**dump_ledger(FULL)["credit"], "reason": ""}},
        {"credit": {**dump_ledger(FULL)["credit"], "by": ""}},
        {"credit": {**dump_ledger(FULL)["credit"], "id": ""}},
        {"credit": {**dump_ledger(FULL)["credit"], "amount": 10**15 + 1}},
        {"exhausted": {**dump_ledger(FULL)["exhausted"], "refused": 10**15 + 1}},
        {"exhausted": {**dump_ledger(FULL)["exhausted"], "holder": ""}},
    ],
    ids=str,
)
def test_no_one_stores_what_guards_cannot_read(place: LedgerPlace, stored: str, status: dict[str, object]) -> None:
    assert patch(place.admin, f"{stored}/status", {"status": status}).status == 422


@requirement("budget.ledger-writers")
def test_users_with_all_rights_on_ledgers_write_none(place: LedgerPlace, stored: str) -> None:
    for user in ("editor", "owner"):
        caller = place.users[user]
        for reply in (
            caller.send("POST", place.ledgers, a_ledger("staging")),
            patch(caller, stored, LABELLED),
            patch(caller, f"{stored}/status", {"status": {"day": {"spent": 0}}}),
            caller.send("DELETE", stored),
            caller.send("DELETE", place.ledgers),
        ):
            assert reply.was_denied_by("budgetledgers"), reply.text
            assert "since the spend of agents is counted from it" in reply.text


@requirement("budget.ledger-writers")
def test_a_guard_writes_the_status_of_its_own_ledger_and_of_the_total(place: LedgerPlace, stored: str) -> None:
    more = changed(day=replace(FULL.day, spent=5_060))
    for path in (stored, place.total):
        assert write(place.guard(), path, more).status == 200
    assert write(place.guard(OTHER_GUARD, OTHER_POD), place.total, more).status == 200


@requirement("budget.ledger-writers")
def test_no_one_else_writes_as_a_guard(place: LedgerPlace, stored: str) -> None:
    for caller in (
        place.guard(OTHER_GUARD),  # of another agent
        *(place.guard(name) for name in NAMED_ALIKE),
        place.guard(pod_uid=""),  # a token that names no pod
        place.guard("plain"),  # a pod of no guard
    ):
        assert write(caller, stored, FULL).was_denied_by("budgetledgers")
    assert write(place.guard("plain"), place.total, FULL).was_denied_by("budgetledgers")
    elsewhere = account("default", OTHER_GUARD)
    grant(place.admin, place.namespace, "elsewhere-ledgers", elsewhere, WRITER)
    stranger = place.admin.impersonating(f"system:serviceaccount:default:{OTHER_GUARD}", pod="pod", pod_uid=POD)
    bounds.eventually(lambda: stranger.send("GET", place.total).status == 200, "RBAC knows the binding", WAIT_SECONDS)
    assert write(stranger, place.total, FULL).was_denied_by("budgetledgers")


@requirement("budget.ledger-writers")
def test_a_guard_neither_creates_nor_deletes_nor_relabels(place: LedgerPlace, stored: str) -> None:
    caller = place.guard()
    assert caller.send("POST", place.ledgers, a_ledger("staging")).was_denied_by("budgetledgers")
    assert caller.send("DELETE", stored).was_denied_by("budgetledgers")
    assert patch(caller, f"{stored}?fieldManager={MANAGER}", LABELLED).was_denied_by("budgetledgers")


@requirement("budget.ledger-kept")
def test_whose_ledger_it_is_never_changes(place: LedgerPlace, stored: str) -> None:
    reply = patch(place.admin, stored, {"spec": {"agent": "other"}})
    assert reply.was_denied_by("budgetledgers")
    assert "for ever" in reply.text


@requirement("budget.ledger-kept")
def test_a_ledger_has_the_name_that_guards_read(place: LedgerPlace) -> None:
    long = "p" * 250
    for manifest, is_named in (
        (a_ledger("staging"), True),
        (edited(a_ledger("staging"), metadata__name="support-triage.production"), False),
        (edited(a_ledger(agent=None), metadata__name="other.total"), False),
        (edited(a_ledger(agent=None), metadata__name=total_ledger_name(long), spec__policy=long), True),
        (edited(a_ledger(agent=None), metadata__name="x.policy.total-ledger", spec__policy=long), False),
    ):
        reply = place.admin.send("POST", f"{place.ledgers}?dryRun=All", manifest)
        assert (reply.status == 201) is is_named, reply.text
        assert is_named or "must have the name that guards read" in reply.text


# The operator.


@requirement("budget.ledger-writers")
def test_the_operator_takes_nothing_back(place: LedgerPlace, stored: str) -> None:
    operator = place.operator
    assert operator.send("POST", f"{place.ledgers}?dryRun=All", a_ledger("staging")).status == 201
    assert patch(operator, stored, {"metadata": {"labels": {"interlock.dev/policy": "support"}}}).status == 200
    closed = changed(day=replace(FULL.day, spent=5_300), slices=(), credit=None)
    assert write(operator, stored, closed).status == 200
    for lowered in (
        changed(),
        replace(closed, month=replace(closed.month, spent=0)),
        replace(closed, days=()),
        replace(closed, days=(replace(closed.days[0], spent=1),)),
        replace(closed, months=()),
        replace(closed, day=replace(closed.day, start=closed.day.start - HOUR, end=closed.day.end - HOUR)),
        replace(closed, day=LedgerWindow(closed.day.end, closed.day.end + DAY)),
        replace(
            closed,
            day=LedgerWindow(closed.day.end, closed.day.end + DAY),
            days=(replace(closed.day, end=closed.day.end - 1), *closed.days),
        ),
        replace(closed, day=LedgerWindow(closed.day.start - HOUR, closed.day.start), days=(closed.day, *closed.days)),
        replace(closed, month=LedgerWindow(closed.month.end, closed.month.end + 30 * DAY)),
        Ledger(),
    ):
        reply = write(operator, stored, lowered)
        assert reply.was_denied_by("budgetledgers"), lowered
        assert "lower what was spent" in reply.text
    assert write(place.admin, stored, changed()).status == 200  # an administrator may repair it


@requirement("budget.ledger-writers")
def test_of_the_closed_windows_the_oldest_make_room_for_the_operator_too(place: LedgerPlace, stored: str) -> None:
    def closed(last: int, count: int, length: int) -> tuple[LedgerWindow, ...]:
        return tuple(LedgerWindow(last - (n + 1) * length, last - n * length, spent=9) for n in range(count))

    full = changed(days=closed(FULL.day.start, 35, DAY), months=closed(FULL.month.start, 13, 30 * DAY))
    write(place.admin, stored, full)
    rolled = replace(
        full,
        day=LedgerWindow(FULL.day.end, FULL.day.end + DAY),
        days=(full.day, *full.days[:-1]),
        month=LedgerWindow(FULL.month.end, FULL.month.end + 30 * DAY),
        months=(full.month, *full.months[:-1]),
    )
    for without in (
        replace(rolled, days=rolled.days[:-1]),
        replace(rolled, months=rolled.months[:-1]),
        replace(rolled, days=(rolled.days[0], *rolled.days[2:], full.days[-1])),
    ):
        assert write(place.operator, stored, without).was_denied_by("budgetledgers")
    assert write(place.operator, stored, rolled).status == 200


@requirement("budget.ledger-repaired")
def test_the_operator_ends_a_window_that_is_longer_than_any(place: LedgerPlace, stored: str) -> None:
    for period, seconds in (("day", 48 * HOUR), ("month", 33 * DAY)):
        window = LedgerWindow(FULL.day.start, FULL.day.start + seconds + 1, spent=7)
        ended = replace(window, end=FULL.day.end)
        write(place.admin, stored, changed(**{period: window}))
        assert write(place.operator, stored, changed(**{period: replace(ended, spent=6)})).was_denied_by(
            "budgetledgers"
        )
        assert write(place.operator, stored, changed(**{period: ended})).status == 200
        write(place.admin, stored, changed(**{period: replace(window, end=window.end - 1)}))
        assert write(place.operator, stored, changed(**{period: ended})).was_denied_by("budgetledgers")
        write(place.admin, stored, FULL)


def _damaged(**members: Any) -> Any:
    return {**dump_ledger(FULL), **members}


_DAY, _CLOSED = dump_ledger(FULL)["day"], dump_ledger(FULL)["days"][0]


@requirement("budget.ledger-repaired")
@pytest.mark.parametrize(
    "status",
    [
        _damaged(day={**_DAY, "end": _DAY["start"]}),
        _damaged(day={**_DAY, "start": "2099-01-02T00:00:00Z", "end": "2099-01-01T00:00:00Z"}),
        _damaged(day={"end": _DAY["end"], "spent": 7}),
        _damaged(day={"spent": 7}),
        _damaged(day={"spent": 7}, days=[_DAY]),
        _damaged(day={**_DAY, "end": _DAY["start"]}, days=[]),
        _damaged(days=[{"start": _CLOSED["start"]}]),
        _damaged(month={}),
        _damaged(days=[{**_CLOSED, "end": _DAY["end"]}]),
        _damaged(days=[_CLOSED, _CLOSED]),
        _damaged(days=[{}, _CLOSED]),
        _damaged(days=[{**_CLOSED, "start": "1970-01-01T00:00:00Z"}]),
        _damaged(slices=[dump_ledger(FULL)["slices"][0]] * 2),
    ],
)
def test_the_operator_may_write_each_repair(place: LedgerPlace, stored: str, status: Any) -> None:
    found = place.admin.must("GET", stored)
    reply = place.admin.send("PUT", f"{stored}/status", {**found, "status": status})
    assert reply.status == 200, reply.text
    kept = place.admin.must("GET", stored)["status"]
    with pytest.raises(LedgerInvalid):
        parse_ledger(kept)
    reply = write(place.operator, stored, repair_ledger(kept, LedgerTerms(10_000, None), int(utc_now().timestamp())))
    assert reply.status == 200, reply.text


@requirement("budget.ledger-kept")
def test_the_operator_deletes_only_a_ledger_without_any_spend(place: LedgerPlace, stored: str) -> None:
    unspent = Ledger(
        replace(FULL.day, spent=0),
        replace(FULL.month, spent=0),
        days=(replace(FULL.days[0], spent=0),),
        months=(replace(FULL.months[0], spent=0),),
    )
    for spent in (
        replace(unspent, day=replace(FULL.day, spent=1)),
        replace(unspent, month=replace(FULL.month, spent=1)),
        replace(unspent, days=FULL.days),
        replace(unspent, months=FULL.months),
        replace(unspent, slices=FULL.slices[:1]),
    ):
        write(place.admin, stored, spent)
        reply = place.operator.send("DELETE", stored)
        assert reply.was_denied_by("budgetledgers")
        assert "outlives the Agent" in reply.text
    write(place.admin, stored, replace(unspent, slices=(a_slice(OTHER_POD, 0),)))
    assert place.operator.send("DELETE", stored).status == 200
    place.admin.must("POST", place.ledgers, a_ledger())
    assert place.operator.send("DELETE", stored).status == 200  # a new one
    place.admin.must("POST", place.ledgers, a_ledger())


@requirement("budget.ledger-writers")
def test_the_end_of_a_namespace_ends_its_ledgers(place: LedgerPlace) -> None:
    groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
    callers = [
        place.admin.impersonating(f"system:serviceaccount:kube-system:{controller}", *groups)
        for controller in ("namespace-controller", "generic-garbage-collector")
    ]
    callers.append(place.admin.impersonating("system:kube-controller-manager", "system:authenticated"))
    user = {"kind": "User", "name": "system:kube-controller-manager", "apiGroup": _RBAC}
    for number, subject in enumerate((user, account("kube-system", "namespace-controller"))):
        grant(place.admin, place.namespace, f"controller-{number}-ledgers", subject, WRITER)
    manifest = a_ledger("staging")
    path = f"{place.ledgers}/{manifest['metadata']['name']}"
    for caller in callers:
        place.admin.must("POST", place.ledgers, manifest)
        bounds.eventually(lambda caller=caller: caller.send("DELETE", path).status == 200, "deleted", WAIT_SECONDS)
    assert callers[0].send("POST", place.ledgers, manifest).was_denied_by("budgetledgers")
    place.admin.must("POST", place.ledgers, manifest)
    assert patch(callers[0], f"{path}/status", {"status": {"day": {"spent": 1}}}).was_denied_by("budgetledgers")
    place.admin.must("DELETE", path)
