"""A guard spends from ledgers of a real API server, with only the rights that a guard has."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from msgspec.structs import replace

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.ledger import Ledger, parse_ledger
from interlock_contract.bundle import dump_bundle, parse_bundle
from tests.integration.guard.budget_rig import DOLLAR, OWN, TOTAL, CountingProvider, a_budget_bundle, cost_of
from tests.integration.guard.fake_api_server import AGENT, NAMESPACE
from tests.integration.guard.fake_provider import KEY_FILES, REAL_KEYS
from tests.integration.guard.harness import Guard
from tests.integration.guard.model_rig import BEARER, CHAT, chat
from tests.integration.guard.test_guard_real_api import (
    AGENT_SPEC,
    Address,
    Kubectl,
    apply_bundle,
    kubectl,
    write_credentials,
)
from tests.support.bounds import until
from tests.support.ports import free_port
from tools.cluster.kwok import KwokCluster

pytestmark = [pytest.mark.api, pytest.mark.timeout(300)]
__all__ = ["kubectl"]

LEDGER_RIGHTS: list[dict[str, Any]] = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "guard-ledgers", "namespace": NAMESPACE},
        "rules": [
            {
                "apiGroups": ["interlock.dev"],
                "resources": ["budgetledgers"],
                "resourceNames": [OWN, TOTAL],
                "verbs": ["get", "list", "watch"],
            },
            {
                "apiGroups": ["interlock.dev"],
                "resources": ["budgetledgers/status"],
                "resourceNames": [OWN, TOTAL],
                "verbs": ["get", "update"],
            },
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "guard-ledgers", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "guard-ledgers"},
        "subjects": [{"kind": "ServiceAccount", "name": "guard", "namespace": NAMESPACE}],
    },
]


@dataclass
class Live:
    """A guard with a budget at a real API server."""

    kubectl: Kubectl
    guard: Guard
    provider: CountingProvider
    http: aiohttp.ClientSession

    async def post(self) -> int:
        url = f"http://127.0.0.1:{self.guard.port}{CHAT}"
        async with self.http.post(url, json=chat(max_completion_tokens=10), headers=BEARER) as response:
            await response.read()
            return response.status

    def ledger(self, name: str) -> Ledger:
        found = json.loads(self.kubectl("get", "budgetledgers", name, "-n", NAMESPACE, "-o", "json"))
        return parse_ledger(found.get("status"))


@pytest.fixture
async def live(kwok_cluster: KwokCluster, kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[Live]:
    provider = CountingProvider(free_port())
    await provider.start()
    metadata = {"name": AGENT, "namespace": NAMESPACE}
    agent = {"apiVersion": "interlock.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": AGENT_SPEC}
    uid = json.loads(kubectl("create", "-o", "json", "-f", "-", stdin=agent))["metadata"]["uid"]
    specs = {OWN: {"policy": "support", "agent": AGENT, "environment": "staging"}, TOTAL: {"policy": "support"}}
    ledgers = [
        {
            "apiVersion": "interlock.dev/v1alpha1",
            "kind": "BudgetLedger",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        }
        for name, spec in specs.items()
    ]
    kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": [*LEDGER_RIGHTS, *ledgers]})
    bundle = parse_bundle(a_budget_bundle(provider.port, budget=BundleBudget(OWN, DOLLAR, 9 * DOLLAR, TOTAL, DOLLAR)))
    apply_bundle(kubectl, dump_bundle(replace(bundle, agent=replace(bundle.agent, uid=uid))))
    config = yaml.safe_load(kwok_cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    guard = Guard(Address(config["server"]), tmp_path)
    write_credentials(guard, kubectl, Path(config["certificate-authority"]))
    keys = guard.folder / "secrets" / ".models"
    keys.mkdir(parents=True)
    for name, file in KEY_FILES.items():
        (keys / file).write_text(f"{REAL_KEYS[name]}\n")
    await guard.start()
    try:
        await until(lambda: guard.probe("/readyz"), "the guard is open")
        async with aiohttp.ClientSession() as http:
            yield Live(kubectl, guard, provider, http)
    finally:
        await guard.stop()
        await provider.stop()
        kubectl("delete", "agents.interlock.dev", AGENT, "-n", NAMESPACE, "--ignore-not-found", "--wait=false")
        kubectl("delete", "budgetledgers", "--all", "-n", NAMESPACE)


async def test_a_guard_spends_from_the_ledgers_that_its_role_names(live: Live) -> None:
    for _ in range(3):
        assert await live.post() == 200
    await live.guard.stop(15)
    for name in (OWN, TOTAL):
        ledger = live.ledger(name)
        assert ledger.day.spent == ledger.month.spent == 3 * cost_of(100, 10) == live.provider.charged
        assert ledger.committed("day") == ledger.day.spent
        assert ledger.day.start < ledger.day.end


async def test_a_killed_guard_settles_when_it_is_back(live: Live) -> None:
    live.provider.gate.clear()
    call = asyncio.create_task(live.post())
    await until(lambda: live.provider.answered == 1, "the call is under way")
    await live.guard.stop()
    with pytest.raises(aiohttp.ClientError):
        await call
    (before,) = live.ledger(OWN).slices
    await live.guard.start()
    await until(lambda: live.ledger(OWN).slices == () == live.ledger(TOTAL).slices, "the next run settles")
    assert live.provider.charged <= live.ledger(OWN).day.spent <= before.amount
