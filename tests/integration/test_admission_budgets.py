"""Who may raise a budget and write ledgers, and what guards may write there: admission on a real API server."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from msgspec.structs import replace

from interlock.api.ledger import BudgetLedger
from interlock_contract.budget.ledger import (
    BudgetAlert,
    Credit,
    Exhausted,
    Ledger,
    LedgerWindow,
    RecentSpend,
    Slice,
    VelocityAlert,
    dump_ledger,
    parse_ledger,
)
from interlock_contract.budget.ledger_names import ledger_name, total_ledger_name
from interlock_contract.budget.rates import MinuteRate, RateSlice
from tests.integration.callers import Caller, Json, Reply
from tests.integration.kubectl import AGENT, POLICY, ROOT, Cluster, Kubectl, edited
from tests.integration.protected import account, grant
from tests.integration.test_admission_release import KILL, Place, patch, switch
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

OVERRIDE, BY = "interlock.dev/budget-override", "interlock.dev/budget-override-by"
GRANTED = "+100 USD until=2026-12-01T18:00:00Z reason=quarter end"
NO_OVERRIDE = "interlock.dev/budget-override is no override: write an amount, a time and a reason"
POLICIES = ("agents-budget-override", "agents-budget-override-identity", "agents-kill-only", "budgetledgers")
ROLES = {"editor": ("edit",), "owner": ("admin",), "raiser": ("interlock-budget-override",)}
WAIT_SECONDS = 30.0
GUARD, OTHER_GUARD = "support-triage-guard", "other-guard"
POD, OTHER_POD = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
WRITER = "interlock-test-ledger-writer"
DAY = 86_400
LABELLED: Json = {"metadata": {"labels": {"a": "b"}}}
_RBAC = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[Place]:
    client = Kubectl(kwok_cluster)
    client.install_crds()
    files = [option for name in POLICIES for option in ("-f", str(ROOT / "manifests/admission" / f"{name}.yaml"))]
    for name in ("namespace", "rbac"):
        client.must("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "manifests/base" / f"{name}.yaml"))
    client.must("apply", "--server-side", "--force-conflicts", *files)
    made = Place.create(kwok_cluster, ROLES, POLICY)
    _grant_ledgers(made)
    _wait_until_in_force(made)
    yield made
    client.must("delete", "--ignore-not-found", *files)
    made.admin.send("DELETE", f"/api/v1/namespaces/{made.namespace}")


def _grant_ledgers(place: Place) -> None:
    """Give users and guards all rights on ledgers that a role can give, so that admission alone decides."""
    rules = [{"apiGroups": ["interlock.dev"], "resources": ["budgetledgers", "budgetledgers/status"], "verbs": ["*"]}]
    made = place.admin.send("POST", f"/apis/{_RBAC}/v1/clusterroles", {"metadata": {"name": WRITER}, "rules": rules})
    assert made.status in {201, 409}, made.text
    for name in ("editor", "owner", GUARD, OTHER_GUARD, "plain"):
        grant(place.admin, place.namespace, f"{name}-ledgers", account(place.namespace, name), WRITER)
    grant(place.admin, place.namespace, "operator-ledgers", account("interlock-system", "interlock"), WRITER)


def _wait_until_in_force(place: Place) -> None:
    path = place.agent()
    ledger = ledgers(place)

    def stamped() -> bool:
        reply = patch(place.admin, f"{path}?dryRun=All", {"metadata": {"annotations": {OVERRIDE: GRANTED}}})
        return reply.status == 200 and BY in reply.json()["metadata"]["annotations"]

    attempts = {
        "agents-budget-override": lambda: override(place.users["editor"], f"{path}?dryRun=All", GRANTED),
        "agents-kill-only": lambda: patch(
            place.users["raiser"], f"{path}?dryRun=All", {"metadata": {"labels": {"a": "b"}}}
        ),
        "budgetledgers": lambda: place.users["editor"].send("POST", f"{ledger}?dryRun=All", a_ledger()),
    }
    for name, attempt in attempts.items():
        bounds.eventually(
            lambda name=name, attempt=attempt: attempt().was_denied_by(name), f"policy {name} is in force", WAIT_SECONDS
        )
    bounds.eventually(stamped, "so is the stamp", WAIT_SECONDS)


def override(caller: Caller, path: str, value: str | None, **more: str | None) -> Reply:
    return patch(caller, path, {"metadata": {"annotations": {OVERRIDE: value, **more}}})


def annotations(place: Place, path: str) -> dict[str, str]:
    found: dict[str, str] = place.admin.must("GET", path)["metadata"].get("annotations", {})
    return found


# The override.


@requirement("budget.override")
def test_an_override_needs_a_right_that_no_role_of_kubernetes_has(place: Place) -> None:
    path = place.agent()
    for user in ("editor", "owner"):
        reply = override(place.users[user], path, GRANTED)
        assert reply.was_denied_by("agents-budget-override")
        assert f'{user}" may not raise the budget of agent' in reply.text
    assert override(place.users["raiser"], path, GRANTED).status == 200
    assert annotations(place, path)[BY] == f"system:serviceaccount:{place.namespace}:raiser"


@requirement("budget.override")
def test_a_new_agent_brings_no_override_without_the_right(place: Place) -> None:
    manifest = edited(AGENT, metadata__name=f"a-{uuid4().hex[:8]}", metadata__annotations={OVERRIDE: GRANTED})
    assert place.users["editor"].send("POST", place.agents, manifest).was_denied_by("agents-budget-override")


@requirement("budget.override")
def test_an_override_names_who_set_it(place: Place) -> None:
    path, raiser = place.agent(), place.users["raiser"]
    mine = f"system:serviceaccount:{place.namespace}:raiser"
    assert override(raiser, path, GRANTED, **{BY: "ada@example.com"}).status == 200
    assert annotations(place, path)[BY] == mine
    patch(raiser, path, {"metadata": {"annotations": {BY: "ada@example.com"}}})
    assert annotations(place, path)[BY] == mine
    patch(raiser, path, {"metadata": {"annotations": {BY: None}}})
    assert annotations(place, path)[BY] == mine


@requirement("budget.override")
def test_anyone_who_may_edit_withdraws_an_override_and_its_name(place: Place) -> None:
    path = place.agent()
    assert override(place.users["raiser"], path, GRANTED).status == 200
    assert override(place.users["editor"], path, GRANTED + "s").was_denied_by("agents-budget-override")
    assert override(place.users["editor"], path, None).status == 200
    assert annotations(place, path).keys().isdisjoint({OVERRIDE, BY})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "+100",
        "100 USD until=2026-12-01T18:00:00Z reason=x",
        "-100 USD until=2026-12-01T18:00:00Z reason=x",
        "+1e3 USD until=2026-12-01T18:00:00Z reason=x",
        "+1000001 USD until=2026-12-01T18:00:00Z reason=x",
        "+NaN USD until=2026-12-01T18:00:00Z reason=x",
        "+100 EUR until=2026-12-01T18:00:00Z reason=x",
        "+100 USD until=2026-12-01 reason=x",
        "+100 USD until=2026-13-01T18:00:00Z reason=x",
        "+100 USD until=2026-12-01T24:00:00Z reason=x",
        "+100 USD until=2026-12-01T18:00:00 reason=x",
        "+100 USD until=2026-12-01T18:00:00Z",
        "+100 USD until=2026-12-01T18:00:00Z reason=",
        "+100 USD until=2026-12-01T18:00:00Z reason= ",
        "+100 USD until=2026-12-01T18:00:00Z reason=a\nb",
        "+100 USD until=2026-12-01T18:00:00Z reason=" + "x" * 257,
        "+100 USD  until=2026-12-01T18:00:00Z reason=x",
    ],
)
@requirement("budget.override")
def test_what_is_no_override_is_refused(place: Place, value: str) -> None:
    reply = override(place.users["raiser"], place.agent(), value)
    assert reply.was_denied_by("agents-budget-override")
    assert NO_OVERRIDE in reply.text


@requirement("budget.override", "protection.kill-only")
def test_who_may_raise_a_budget_may_change_nothing_else_but_the_kill_switch(place: Place) -> None:
    path, raiser = place.agent(), place.users["raiser"]
    assert patch(raiser, path, {"spec": {"replicas": 3}}).was_denied_by("agents-kill-only")
    assert switch(raiser, path, "x").status == 200


@requirement("budget.override")
def test_a_kill_passes_whatever_override_the_agent_has(place: Place) -> None:
    path = place.agent()
    assert override(place.users["raiser"], path, GRANTED).status == 200
    assert switch(place.users["editor"], path, "x").status == 200
    assert annotations(place, path)[KILL] == "x"


# Ledgers.


def ledgers(place: Place) -> str:
    return f"/apis/interlock.dev/v1alpha1/namespaces/{place.namespace}/budgetledgers"


def a_ledger(environment: str = "development", agent: str | None = "support-triage") -> Json:
    spec = {"policy": "support"} | ({"agent": agent, "environment": environment} if agent else {})
    name = ledger_name(agent, environment) if agent else total_ledger_name("support")
    return {"apiVersion": "interlock.dev/v1alpha1", "kind": "BudgetLedger", "metadata": {"name": name}, "spec": spec}


def holder(pod: str) -> str:
    return f"{pod}/1796000000000"


def a_slice(pod: str, amount: int, day: int = 20 * DAY) -> Slice:
    return Slice(holder(pod), pod, amount, day, 0, day + 60)


CREDIT = Credit(10**9, 25 * DAY, "quarter end", 20 * DAY, spent=7, by="ada", id="7f")
FULL = Ledger(
    day=LedgerWindow(20 * DAY, 21 * DAY, spent=5_000, credited=7),
    month=LedgerWindow(0, 31 * DAY, spent=90_000),
    slices=(a_slice(POD, 100), a_slice(OTHER_POD, 200), a_slice(OTHER_POD, 0, 19 * DAY)),
    credit=CREDIT,
    days=(LedgerWindow(19 * DAY, 20 * DAY, spent=4_000),),
    alerts=(BudgetAlert(50, "day", 20 * DAY, 20 * DAY + 5, 5_000, 10_000),),
    exhausted=Exhausted(20 * DAY + 9, "day", 300, holder(POD)),
    recent=RecentSpend(20 * DAY, (300, *[0] * 144)),
    velocity_alerts=(VelocityAlert(20 * DAY, 20 * DAY + 7, 300, 0),),
    rate=MinuteRate(
        20 * DAY,
        (RateSlice(holder(POD), POD, 5, 900), RateSlice(holder(OTHER_POD), OTHER_POD, 7, 800, 1, 2, 20 * DAY + 3)),
    ),
)
_RATE_SLICES = FULL.rate.slices


@pytest.fixture
def stored(place: Place) -> Iterator[str]:
    """The path of a ledger that the operator has created, with everything in it; the ledger of the total too."""
    path = f"{ledgers(place)}/{a_ledger()['metadata']['name']}"
    for manifest in (a_ledger(), a_ledger(agent=None)):
        place.admin.must("POST", ledgers(place), manifest)
        write(place.admin, f"{ledgers(place)}/{manifest['metadata']['name']}", FULL)
    yield path
    for manifest in (a_ledger(), a_ledger(agent=None)):
        place.admin.must("DELETE", f"{ledgers(place)}/{manifest['metadata']['name']}")


def write(caller: Caller, path: str, ledger: Ledger) -> Reply:
    """Write a ledger as guards do: read it, and put its status."""
    found = caller.must("GET", path)
    found["status"] = dump_ledger(ledger)
    return caller.send("PUT", f"{path}/status", found)


def guard(place: Place, name: str = GUARD, pod_uid: str = POD) -> Caller:
    user = f"system:serviceaccount:{place.namespace}:{name}"
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{place.namespace}", "system:authenticated")
    return place.admin.impersonating(user, *groups, pod="pod" if pod_uid else "", pod_uid=pod_uid)


def changed(**members: object) -> Ledger:
    return replace(FULL, **members)


@requirement("budget.ledger-kept")
def test_a_ledger_is_kept_as_it_was_written(place: Place, stored: str) -> None:
    found = place.admin.must("GET", stored)
    assert parse_ledger(found["status"]) == FULL
    assert BudgetLedger.model_validate(found).spec.agent == "support-triage"


@requirement("budget.ledger-writers")
def test_users_with_all_rights_on_ledgers_write_none(place: Place, stored: str) -> None:
    for user in ("editor", "owner"):
        caller = place.users[user]
        for reply in (
            caller.send("POST", ledgers(place), a_ledger("staging")),
            patch(caller, stored, LABELLED),
            patch(caller, f"{stored}/status", {"status": {"day": {"spent": 0}}}),
            caller.send("DELETE", stored),
            caller.send("DELETE", ledgers(place)),
        ):
            assert reply.was_denied_by("budgetledgers"), reply.text
            assert "since the spend of agents is counted from it" in reply.text


@requirement("budget.ledger-writers")
def test_a_guard_writes_the_status_of_its_own_ledger_and_of_the_total(place: Place, stored: str) -> None:
    more = changed(day=LedgerWindow(20 * DAY, 21 * DAY, spent=5_060, credited=7), slices=FULL.slices)
    for path in (stored, f"{ledgers(place)}/support.total"):
        assert write(guard(place), path, more).status == 200
    assert write(guard(place, OTHER_GUARD, OTHER_POD), f"{ledgers(place)}/support.total", more).status == 200


@requirement("budget.ledger-writers")
def test_no_one_else_writes_as_a_guard(place: Place, stored: str) -> None:
    for caller in (
        guard(place, OTHER_GUARD),  # of another agent
        guard(place, pod_uid=""),  # a token that names no pod
        guard(place, "plain"),  # a pod of no guard
    ):
        assert write(caller, stored, FULL).was_denied_by("budgetledgers")
    total = f"{ledgers(place)}/support.total"
    assert write(guard(place, "plain"), total, FULL).was_denied_by("budgetledgers")
    elsewhere = account("default", OTHER_GUARD)
    grant(place.admin, place.namespace, "elsewhere-ledgers", elsewhere, WRITER)
    stranger = place.admin.impersonating(f"system:serviceaccount:default:{OTHER_GUARD}", pod="pod", pod_uid=POD)
    bounds.eventually(lambda: stranger.send("GET", total).status == 200, "RBAC knows the binding", WAIT_SECONDS)
    assert write(stranger, total, FULL).was_denied_by("budgetledgers")


@requirement("budget.ledger-writers")
def test_a_guard_neither_creates_nor_deletes_nor_relabels(place: Place, stored: str) -> None:
    caller = guard(place)
    assert caller.send("POST", ledgers(place), a_ledger("staging")).was_denied_by("budgetledgers")
    assert caller.send("DELETE", stored).was_denied_by("budgetledgers")
    assert patch(caller, stored, LABELLED).was_denied_by("budgetledgers")


NEXT_DAY = LedgerWindow(21 * DAY, 22 * DAY)


@pytest.mark.parametrize(
    ("ledger", "words"),
    [
        (changed(day=LedgerWindow(20 * DAY, 21 * DAY, spent=4_999)), "lower what was spent"),
        (changed(month=LedgerWindow(0, 31 * DAY, spent=0)), "lower what was spent"),
        (changed(day=LedgerWindow(19 * DAY, 20 * DAY, spent=9_000), days=()), "go back to an earlier day"),
        (
            changed(
                day=LedgerWindow(19 * DAY, 20 * DAY, spent=9_000),
                days=(LedgerWindow(20 * DAY, 21 * DAY, spent=5_000), *FULL.days),
            ),
            "go back to an earlier day",
        ),
        (changed(day=NEXT_DAY, days=(LedgerWindow(19 * DAY, 20 * DAY, spent=9_000),)), "lower what was spent"),
        (Ledger(), "lower what was spent"),
        (changed(day=NEXT_DAY), "lower what was spent"),  # the day is not among the closed ones
        (changed(day=NEXT_DAY, days=(LedgerWindow(20 * DAY, 21 * DAY, spent=1),)), "lower what was spent"),
        (changed(month=LedgerWindow(31 * DAY, 59 * DAY)), "lower what was spent"),
        (changed(days=()), "lower what was spent"),
        (changed(days=(LedgerWindow(19 * DAY, 20 * DAY, spent=3_999),)), "lower what was spent"),
        (changed(credit=None), "may not change the override"),
        (changed(credit=replace(CREDIT, amount=2 * 10**9)), "may not change the override"),
        (changed(credit=replace(CREDIT, until=26 * DAY)), "may not change the override"),
        (changed(credit=replace(CREDIT, by="eve")), "may not change the override"),
        (changed(credit=replace(CREDIT, reason="x")), "may not change the override"),
        (changed(credit=replace(CREDIT, given_at=21 * DAY)), "may not change the override"),
        (changed(credit=replace(CREDIT, id="80")), "may not change the override"),
        (changed(slices=(a_slice(POD, 100),)), "slices of other pods"),
        (changed(slices=(a_slice(POD, 100), a_slice(OTHER_POD, 199))), "slices of other pods"),
        (changed(slices=(*FULL.slices, a_slice(GUARD, 1))), "slices of other pods"),
        (changed(slices=(*FULL.slices, a_slice(GUARD, 0))), "slices of other pods"),
        (changed(rate=MinuteRate(20 * DAY, _RATE_SLICES[:1])), "rate slices of other pods"),
        (changed(rate=MinuteRate(20 * DAY, (replace(_RATE_SLICES[1], calls=6),))), "rate slices of other pods"),
        (changed(rate=MinuteRate(20 * DAY - 60, _RATE_SLICES)), "go back to an earlier minute"),
        (changed(rate=MinuteRate()), "go back to an earlier minute"),
    ],
)
@requirement("budget.ledger-writers")
def test_a_guard_takes_nothing_back_and_gives_itself_nothing(
    place: Place, stored: str, ledger: Ledger, words: str
) -> None:
    for path in (stored, f"{ledgers(place)}/support.total"):
        reply = write(guard(place), path, ledger)
        assert reply.was_denied_by("budgetledgers"), reply.text
        assert words in reply.text


@requirement("budget.rates")
def test_a_guard_changes_its_own_slice_of_the_minute_and_begins_the_next_one(place: Place, stored: str) -> None:
    own = changed(rate=MinuteRate(20 * DAY, (RateSlice(holder(POD), POD, 9), _RATE_SLICES[1])))
    next_one = changed(rate=MinuteRate(20 * DAY + 60, (RateSlice(holder(POD), POD, 3),)))
    for ledger in (own, next_one):
        assert write(guard(place), stored, ledger).status == 200


@requirement("budget.ledger-writers")
def test_a_guard_closes_the_day_and_the_month(place: Place, stored: str) -> None:
    rolled = changed(day=NEXT_DAY, days=(LedgerWindow(20 * DAY, 21 * DAY, spent=5_000, credited=7), *FULL.days))
    assert write(guard(place), stored, rolled).status == 200
    closed = changed(
        day=LedgerWindow(31 * DAY, 32 * DAY),
        days=(LedgerWindow(21 * DAY, 22 * DAY), *rolled.days),
        month=LedgerWindow(31 * DAY, 59 * DAY),
        months=(LedgerWindow(0, 31 * DAY, spent=90_100),),
        slices=(FULL.slices[1],),  # its own slice is settled, and the empty one of the other pod is dropped
        credit=replace(CREDIT, spent=0),
        exhausted=None,
    )
    assert write(guard(place), stored, closed).status == 200


@requirement("budget.ledger-writers")
def test_the_oldest_of_the_closed_windows_make_room(place: Place, stored: str) -> None:
    def closed(first: int, last: int, length: int) -> tuple[LedgerWindow, ...]:
        """Windows from one day before the epoch's `first` to `last`, the newest first."""
        return tuple(LedgerWindow((n - 1) * length, n * length, spent=9) for n in range(last, first - 1, -1))

    days, months = closed(2, 36, DAY), closed(2, 14, 31 * DAY)
    full = changed(
        day=LedgerWindow(36 * DAY, 37 * DAY, spent=5),
        days=days,
        months=months,
        month=LedgerWindow(434 * DAY, 465 * DAY),
    )
    write(place.admin, stored, full)
    ended = LedgerWindow(36 * DAY, 37 * DAY, spent=5)
    rolled = replace(full, day=LedgerWindow(37 * DAY, 38 * DAY), days=(ended, *days[:-1]))
    ended = LedgerWindow(434 * DAY, 465 * DAY)
    rolled = replace(rolled, month=LedgerWindow(465 * DAY, 493 * DAY), months=(ended, *months[:-1]))
    for without in (replace(rolled, days=rolled.days[:-1]), replace(rolled, months=rolled.months[:-1])):
        assert write(guard(place), stored, without).was_denied_by("budgetledgers")
    assert write(
        guard(place), stored, replace(rolled, days=(rolled.days[0], *rolled.days[2:], days[-1]))
    ).was_denied_by("budgetledgers")
    assert write(guard(place), stored, rolled).status == 200


@requirement("budget.ledger-writers")
def test_a_guard_opens_the_windows_of_a_new_ledger(place: Place) -> None:
    manifest = a_ledger("staging")
    path = f"{ledgers(place)}/{manifest['metadata']['name']}"
    place.admin.must("POST", ledgers(place), manifest)
    assert write(guard(place), path, Ledger(day=FULL.day, month=FULL.month, slices=(FULL.slices[0],))).status == 200
    place.admin.must("DELETE", path)


@requirement("budget.ledger-kept")
def test_whose_ledger_it_is_never_changes(place: Place, stored: str) -> None:
    reply = patch(place.admin, stored, {"spec": {"agent": "other"}})
    assert reply.was_denied_by("budgetledgers")
    assert "for ever" in reply.text


@requirement("budget.ledger-kept")
def test_a_ledger_has_the_name_that_guards_read(place: Place) -> None:
    long = "p" * 250
    for manifest, is_named in (
        (a_ledger("staging"), True),
        (edited(a_ledger("staging"), metadata__name="support-triage.production"), False),
        (edited(a_ledger(agent=None), metadata__name="other.total"), False),
        (edited(a_ledger(agent=None), metadata__name=total_ledger_name(long), spec__policy=long), True),
        (edited(a_ledger(agent=None), metadata__name="x.policy.total-ledger", spec__policy=long), False),
    ):
        reply = place.admin.send("POST", f"{ledgers(place)}?dryRun=All", manifest)
        assert (reply.status == 201) is is_named, reply.text
        assert is_named or "must have the name that guards read" in reply.text


@requirement("budget.ledger-writers")
def test_the_operator_takes_nothing_back_and_deletes_nothing(place: Place, stored: str) -> None:
    groups = ("system:serviceaccounts", "system:serviceaccounts:interlock-system", "system:authenticated")
    operator = place.admin.impersonating("system:serviceaccount:interlock-system:interlock", *groups)
    assert operator.send("POST", f"{ledgers(place)}?dryRun=All", a_ledger("staging")).status == 201
    assert patch(operator, stored, {"metadata": {"labels": {"interlock.dev/policy": "support"}}}).status == 200
    closed = changed(day=LedgerWindow(20 * DAY, 21 * DAY, spent=5_300, credited=7), slices=(), credit=None)
    assert write(operator, stored, closed).status == 200
    lowered = changed(day=LedgerWindow(20 * DAY, 21 * DAY, spent=5_000))
    assert write(operator, stored, lowered).was_denied_by("budgetledgers")
    assert operator.send("DELETE", stored).was_denied_by("budgetledgers")
    assert write(place.admin, stored, lowered).status == 200  # an administrator may repair it


@requirement("budget.ledger-writers")
def test_the_end_of_a_namespace_ends_its_ledgers(place: Place) -> None:
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
    path = f"{ledgers(place)}/{manifest['metadata']['name']}"
    for caller in callers:
        place.admin.must("POST", ledgers(place), manifest)
        bounds.eventually(lambda caller=caller: caller.send("DELETE", path).status == 200, "deleted", WAIT_SECONDS)
    assert callers[0].send("POST", ledgers(place), manifest).was_denied_by("budgetledgers")
    place.admin.must("POST", ledgers(place), manifest)
    status: Json = {"status": {"day": {"spent": 1}}}
    assert patch(callers[0], f"{path}/status", status).was_denied_by("budgetledgers")
    place.admin.must("DELETE", path)
