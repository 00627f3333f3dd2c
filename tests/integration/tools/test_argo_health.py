"""The health checks for Argo CD that the examples ship, run by the Lua that Argo CD runs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.api.agent_reasons import AgentReason
from interlock.api.policy import PolicyCondition, PolicyReason
from interlock.api.status import RECONCILE_FAILED, ConditionType
from interlock.api.verification import BindingCondition, BindingReason
from tests.requirements import requirement
from tests.support.go_programs import build_argo_lua, run_argo_lua

FILE = Path(__file__).parents[3] / "examples" / "gitops" / "argocd-cm.yaml"
PREFIX = "resource.customizations.health.interlock.dev_"
HEALTH = {"Healthy", "Progressing", "Suspended", "Degraded"}
SCRIPTS: dict[str, str] = {
    key.removeprefix(PREFIX): script for key, script in yaml.safe_load(FILE.read_text(encoding="utf-8"))["data"].items()
}
READY = {"Ready": ("True", AgentReason.PODS_READY)}

Conditions = Mapping[str, tuple[str, str]]
AGENTS: list[tuple[str, Conditions]] = [
    ("Healthy", READY),
    ("Healthy", READY | {"PromotionPending": ("True", AgentReason.SOAKING)}),
    ("Healthy", READY | {"BudgetExhausted": ("True", AgentReason.BUDGET_EXHAUSTED)}),
    ("Suspended", READY | {"PromotionPending": ("True", AgentReason.APPROVAL_REQUIRED)}),
    ("Suspended", READY | {"RolloutPaused": ("True", AgentReason.ROLLOUT_PAUSED)}),
    ("Progressing", {"Ready": ("False", AgentReason.PODS_NOT_READY)}),
    ("Progressing", {"Ready": ("Unknown", AgentReason.WAITING_FOR_OPERATOR)}),
    (
        "Progressing",
        {
            "Ready": ("False", AgentReason.PODS_NOT_READY),
            "RolloutPaused": ("True", AgentReason.ROLLOUT_PAUSED),
        },
    ),
    ("Progressing", {"Ready": ("False", AgentReason.BINDING_MISSING), "Stalled": ("False", AgentReason.PROGRESSING)}),
    (
        "Degraded",
        {
            "Ready": ("False", AgentReason.OWNER_MISSING),
            "Stalled": ("True", AgentReason.OWNER_MISSING),
        },
    ),
    ("Degraded", READY | {"Degraded": ("True", AgentReason.ABORTED)}),
    (
        "Suspended",
        {
            "Ready": ("False", AgentReason.KILL_SWITCH),
            "Stalled": ("True", AgentReason.KILL_SWITCH),
            "Killed": ("True", AgentReason.KILL_SWITCH),
        },
    ),
]
BINDINGS: list[tuple[str, Conditions]] = [
    ("Healthy", {"Ready": ("True", BindingReason.VERIFIED), "Drifted": ("False", BindingReason.NO_DRIFT)}),
    ("Progressing", {"Ready": ("Unknown", BindingReason.VERIFYING)}),
    ("Progressing", {"Ready": ("False", BindingReason.SERVER_UNAVAILABLE)}),
    ("Suspended", {"Ready": ("False", BindingReason.NOT_REVIEWED)}),
    ("Degraded", {"Ready": ("True", BindingReason.VERIFIED), "Drifted": ("True", BindingReason.TOOLS_CHANGED)}),
    (
        "Degraded",
        {"Ready": ("False", BindingReason.SPEC_INVALID), "Stalled": ("True", BindingReason.SPEC_INVALID)},
    ),
    (
        "Degraded",
        {"Ready": ("True", BindingReason.VERIFIED), "ReconcileFailed": ("True", AgentReason.RECONCILE_ERROR)},
    ),
]
POLICIES: list[tuple[str, Conditions]] = [
    ("Healthy", {"Ready": ("True", PolicyReason.IN_FORCE)}),
    ("Healthy", {"Ready": ("True", PolicyReason.IN_FORCE), "Violated": ("True", PolicyReason.AGENTS_REFUSED)}),
    ("Progressing", {"Ready": ("Unknown", PolicyReason.WAITING_FOR_OPERATOR)}),
    ("Degraded", {"Ready": ("False", PolicyReason.SPEC_INVALID), "Stalled": ("True", PolicyReason.SPEC_INVALID)}),
    (
        "Degraded",
        {"Ready": ("True", PolicyReason.IN_FORCE), "ReconcileFailed": ("True", AgentReason.RECONCILE_ERROR)},
    ),
]
CASES = [
    *(("Agent", *case) for case in AGENTS),
    *(("MCPBinding", *case) for case in BINDINGS),
    *(("AgentPolicy", *case) for case in POLICIES),
]


@pytest.fixture(scope="module")
def argo() -> Path:
    return build_argo_lua()


def with_status(conditions: Conditions, *, observed: int = 2, **more: Any) -> dict[str, Any]:
    """Return an object of generation 2 with these conditions."""
    found = [
        {"type": kind, "status": status, "reason": str(reason), "message": f"about {kind}"}
        for kind, (status, reason) in conditions.items()
    ]
    status = {"observedGeneration": observed, "conditions": found, **more}
    return {"metadata": {"name": "one", "generation": 2}, "status": status}


@requirement("gitops.argo-health")
def test_each_state_has_the_health_that_the_page_says(argo: Path) -> None:
    found = run_argo_lua(argo, [(SCRIPTS[kind], with_status(conditions)) for kind, _, conditions in CASES])
    assert [health for health, _ in found] == [health for _, health, _ in CASES]
    assert all("about " in message for _, message in found)


@requirement("gitops.argo-health")
@pytest.mark.parametrize("kind", SCRIPTS)
def test_an_object_that_the_operator_has_not_read_is_progressing(argo: Path, kind: str) -> None:
    unread: list[dict[str, Any]] = [
        {"metadata": {"name": "one", "generation": 1}},
        {"metadata": {"name": "one", "generation": 1}, "status": {"observedGeneration": 1}},
        with_status(READY, observed=1),  # what it says is about an earlier spec
    ]
    found = run_argo_lua(argo, [(SCRIPTS[kind], one) for one in unread])
    assert [health for health, _ in found] == ["Progressing"] * 3


@requirement("gitops.argo-health")
def test_a_kill_counts_before_the_operator_reports_it_and_not_after_its_release(argo: Path) -> None:
    killed = {"reason": "INC-42", "requestedAt": "2026-11-30T12:00:00Z"}
    released = killed | {"releasedAt": "2026-11-30T13:00:00Z"}
    checks = [
        (SCRIPTS["Agent"], with_status(READY, observed=1, kill=killed)),
        (SCRIPTS["Agent"], with_status(READY, kill=released)),
    ]
    assert run_argo_lua(argo, checks) == [("Suspended", "killed: INC-42"), ("Healthy", "PodsReady: about Ready")]


def test_a_script_that_fails_is_reported(argo: Path) -> None:
    """Argo CD opens no library for strings, so a script that uses one fails there."""
    assert [health for health, _ in run_argo_lua(argo, [('return {status = string.upper("x")}', {})])] == ["Error"]


def test_each_name_in_the_scripts_is_one_that_interlock_writes() -> None:
    types = {*ConditionType, *BindingCondition, *PolicyCondition, RECONCILE_FAILED}
    reasons = {*AgentReason, *BindingReason, *PolicyReason}
    for script in SCRIPTS.values():
        named = {one for one in re.findall(r'"([A-Z]\w+)"', script) if one not in HEALTH | {"True"}}
        named |= set(re.findall(r"conditions\.([A-Z]\w+)", script))
        assert named
        assert named <= {str(one) for one in types | reasons}
