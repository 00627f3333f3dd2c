"""Who may raise a budget: admission on a real API server."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.integration.callers import Caller, Reply
from tests.integration.kubectl import AGENT, POLICY, Cluster, edited
from tests.integration.test_admission_release import KILL, Place, patch, switch
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

OVERRIDE, BY = "interlock.dev/budget-override", "interlock.dev/budget-override-by"
GRANTED = "+100 USD until=2026-12-01T18:00:00Z reason=quarter end"
NO_OVERRIDE = "interlock.dev/budget-override is no override: write an amount, a time and a reason"
POLICIES = ("agents-commands", "agents-kill-only", "identity")
ROLES = {"editor": ("edit",), "owner": ("admin",), "raiser": ("interlock-budget-override",)}
WAIT_SECONDS = 30.0


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[Place]:
    with Place.installed(kwok_cluster, POLICIES, ROLES, POLICY) as made:
        _wait_until_in_force(made)
        yield made


def _wait_until_in_force(place: Place) -> None:
    path = place.agent()
    attempts = {
        "agents-commands": lambda: override(place.users["editor"], f"{path}?dryRun=All", GRANTED),
        "agents-kill-only": lambda: patch(
            place.users["raiser"], f"{path}?dryRun=All", {"metadata": {"labels": {"a": "b"}}}
        ),
    }
    for name, attempt in attempts.items():
        bounds.eventually(
            lambda name=name, attempt=attempt: attempt().was_denied_by(name), f"policy {name} is in force", WAIT_SECONDS
        )
    # A controller adds our rights to the roles `edit` and `admin` one after the other.
    bounds.eventually(
        lambda: override(place.users["owner"], f"{path}?dryRun=All", GRANTED).was_denied_by("agents-commands"),
        "the role of the owner",
        WAIT_SECONDS,
    )


def override(caller: Caller, path: str, value: str | None, **more: str | None) -> Reply:
    return patch(caller, path, {"metadata": {"annotations": {OVERRIDE: value, **more}}})


def annotations(place: Place, path: str) -> dict[str, str]:
    found: dict[str, str] = place.admin.must("GET", path)["metadata"].get("annotations", {})
    return found


@requirement("budget.override")
def test_an_override_needs_a_right_that_no_role_of_kubernetes_has(place: Place) -> None:
    path = place.agent()
    for user in ("editor", "owner"):
        reply = override(place.users[user], path, GRANTED)
        assert reply.was_denied_by("agents-commands")
        assert f'{user}" may not set interlock.dev/budget-override of agent' in reply.text
    assert override(place.users["raiser"], path, GRANTED).status == 200
    assert annotations(place, path)[BY] == f"system:serviceaccount:{place.namespace}:raiser"


@requirement("budget.override")
def test_a_new_agent_brings_no_override_without_the_right(place: Place) -> None:
    manifest = edited(AGENT, metadata__name=f"a-{uuid4().hex[:8]}", metadata__annotations={OVERRIDE: GRANTED})
    assert place.users["editor"].send("POST", place.agents, manifest).was_denied_by("agents-commands")


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
    assert override(place.users["editor"], path, GRANTED + "s").was_denied_by("agents-commands")
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
    assert reply.was_denied_by("agents-commands")
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
