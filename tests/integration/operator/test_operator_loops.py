"""An agent that loops is killed by its policy: a real guard finds the loop, and the kill controller ends the agent."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from interlock_contract.loops import describe_loop, read_loops
from interlock_contract.names import ON_LOOP_LABEL
from tests.integration.callers import Caller
from tests.integration.guard.harness import Guard
from tests.integration.operator import objects
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.objects import KILL_SWITCH, KILL_SWITCH_BY
from tests.integration.operator.printed import check_page
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.bounds import until

pytestmark = pytest.mark.api

MODEL = "openai/gpt-4o-mini"
KILLER = "system:serviceaccount:interlock-system:interlock-kill"
KILL_SECONDS = 15.0
PENNILESS = [{"name": "development", "isolation": "Shared", "dailyBudget": "0.000001"}]
"""A budget that no call fits into: each one is counted and then refused, and none is sent anywhere."""


@dataclass
class Address:
    """What a guard needs to know of an API server."""

    url: str


def a_looping_agent(sandbox: Sandbox, name: str = "triage", policy_name: str = objects.POLICY, **loops: Any) -> None:
    """Apply an agent with a model, and its policy; wait until it runs."""
    policy = objects.policy(name=policy_name)
    allowed = {"allow": [MODEL], "secretNames": ["openai"]}
    policy["spec"] |= {"models": allowed, "environments": PENNILESS, "loops": loops}
    sandbox.api.create(policy, sandbox.namespace)
    key = {"secretKeyRef": {"name": "openai", "key": "key"}}
    models = [{"name": MODEL, "apiKeyFrom": key}]
    sandbox.create(name, bindings=[], models=models, policyRef={"name": policy_name})
    sandbox.wait_ready(name)


def lease_of(sandbox: Sandbox, name: str = "triage") -> Json:
    return sandbox.child(name, "Lease")


def annotations_of(sandbox: Sandbox) -> dict[str, str]:
    return sandbox.agent("triage")["metadata"].get("annotations") or {}


def issue_token(operators: Operators, sandbox: Sandbox, pod: Json) -> str:
    """Return the token that the pod's node would mount into the guard: only a node gets one that names its pod."""
    admin, rbac = Caller.administrator(operators.cluster.kubeconfig), "rbac.authorization.k8s.io"
    roles = f"/apis/{rbac}/v1/namespaces/{sandbox.namespace}"
    rules = [{"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}]
    admin.must("POST", f"{roles}/roles", {"metadata": {"name": "nodes"}, "rules": rules})
    binding = {
        "metadata": {"name": "nodes"},
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "nodes"},
        "subjects": [{"apiGroup": rbac, "kind": "Group", "name": "system:nodes"}],
    }
    admin.must("POST", f"{roles}/rolebindings", binding)
    node = admin.impersonating(f"system:node:{pod['spec']['nodeName']}", "system:nodes", "system:authenticated")
    reference = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    body = {"spec": {"expirationSeconds": 3600, "boundObjectRef": reference}}
    path = f"/api/v1/namespaces/{sandbox.namespace}/serviceaccounts/{pod['spec']['serviceAccountName']}/token"
    eventually(lambda: node.send("POST", f"{path}?dryRun=All", body).status == 201, "the node may")
    token: str = node.must("POST", path, body)["status"]["token"]
    return token


def a_guard(operators: Operators, sandbox: Sandbox, folder: Path, name: str = "triage") -> Guard:
    """Return the guard of the agent's pod, with that pod's token, not started."""
    (pod,) = sandbox.pods(name)
    cluster = yaml.safe_load(operators.cluster.kubeconfig.read_text(encoding="utf-8"))["clusters"][0]["cluster"]
    own = {
        "INTERLOCK_AGENT": name,
        "INTERLOCK_NAMESPACE": sandbox.namespace,
        "INTERLOCK_POD": pod["metadata"]["name"],
        "INTERLOCK_BUNDLE": lease_of(sandbox, name)["metadata"]["name"],
    }
    guard = Guard(Address(cluster["server"]), folder, pod_uid=pod["metadata"]["uid"], more=own)
    guard.token.parent.mkdir(parents=True)
    guard.token.write_text(issue_token(operators, sandbox, pod))
    (guard.token.parent / "ca.crt").write_bytes(Path(cluster["certificate-authority"]).read_bytes())
    return guard


@asynccontextmanager
async def running(guard: Guard) -> AsyncIterator[Guard]:
    await guard.start()
    try:
        await until(lambda: guard.probe("/readyz"), lambda: f"the guard is open: {guard.log()}")
        yield guard
    finally:
        await guard.stop()


async def ask(guard: Guard, key: str, prompt: str) -> str:
    """Call the model; return why that was refused."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}]}
    url = f"http://127.0.0.1:{guard.port}/openai/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json=body, headers={"Authorization": f"Bearer {key}"}) as response,
    ):
        reason: str = (await response.json())["error"]["message"].rpartition("(Interlock: ")[2].removesuffix(")")
        return reason


def key_of(sandbox: Sandbox) -> str:
    secrets = sandbox.api.listed("secrets", sandbox.namespace)
    (found,) = [one["data"]["key"] for one in secrets if "key" in (one.get("data") or {})]
    return base64.b64decode(found).decode()


@requirement("loops.kill")
def test_a_loop_kills_the_agent_once_while_the_operator_is_away(
    operators: Operators, sandbox: Sandbox, tmp_path: Path
) -> None:
    operators.use()
    a_looping_agent(sandbox, identicalCalls=3, window="60s", action="Kill")
    assert sandbox.bundle("triage")["loops"] == {"action": "Kill", "identicalCalls": 3, "windowSeconds": 60}
    assert lease_of(sandbox)["metadata"]["labels"][ON_LOOP_LABEL] == "Kill"
    (pod,) = sandbox.pods("triage")
    key, guard = key_of(sandbox), a_guard(operators, sandbox, tmp_path)
    operators.stop()

    async def loop() -> list[str]:
        async with running(guard):
            different = [await ask(guard, key, f"question {number}") for number in range(4)]
            assert "LoopDetected" not in different
            found = [await ask(guard, key, "the same question") for _ in range(3)]

            async def is_killed() -> bool:
                return await ask(guard, key, "another question") == "Killed"

            await until(is_killed, lambda: f"the guard is killed: {guard.log()}")
            return found

    assert asyncio.run(loop()) == ["BudgetExhausted", "BudgetExhausted", "LoopDetected"]

    report = read_loops(lease_of(sandbox)["metadata"]["annotations"])[pod["metadata"]["name"]]
    value = describe_loop(pod["metadata"]["name"], report)
    assert value.startswith("loop: 3 identical calls of openai/gpt-4o-mini in 60s, reported by pod triage-")
    assert annotations_of(sandbox)[KILL_SWITCH] == value
    assert annotations_of(sandbox)[KILL_SWITCH_BY] == KILLER
    eventually(lambda: not sandbox.pods("triage"), "no pod is left", KILL_SECONDS)
    eventually(lambda: sandbox.replicas("triage") == 0, "no replica is wanted", KILL_SECONDS)
    kill = eventually(lambda: sandbox.agent("triage")["status"].get("kill"), "the kill is recorded", KILL_SECONDS)
    assert (kill["reason"], kill["by"]) == (value, f"unverified:{KILLER}")  # this cluster stamps no names

    sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"annotations": {KILL_SWITCH: "off"}}})
    released = lambda: sandbox.agent("triage")["status"]["kill"].get("releasedAt")  # noqa: E731
    eventually(released, "the release is recorded", KILL_SECONDS)
    operators.killer.stop()
    operators.killer.start()
    operators.use()
    sandbox.wait_ready("triage")  # the report is still in the Lease
    assert annotations_of(sandbox)[KILL_SWITCH] == "off"
    assert read_loops(lease_of(sandbox)["metadata"]["annotations"]) == {pod["metadata"]["name"]: report}


@requirement("loops.forged")
def test_a_report_of_a_pod_that_is_not_the_agents_or_for_a_policy_that_blocks_kills_nothing(
    operators: Operators, sandbox: Sandbox, tmp_path: Path
) -> None:
    operators.use()
    a_looping_agent(sandbox, identicalCalls=3, action="Block")
    assert lease_of(sandbox)["metadata"]["labels"][ON_LOOP_LABEL] == "Block"
    key, guard = key_of(sandbox), a_guard(operators, sandbox, tmp_path)

    async def loop() -> list[str]:
        async with running(guard):
            found = [await ask(guard, key, "the same question") for _ in range(5)]
            return [*found, await ask(guard, key, "another question")]

    assert asyncio.run(loop()) == [*["BudgetExhausted"] * 2, *["LoopDetected"] * 3, "BudgetExhausted"]
    assert read_loops(lease_of(sandbox)["metadata"].get("annotations") or {}) == {}
    assert KILL_SWITCH not in annotations_of(sandbox)

    # The policy now kills, and the cluster's administrator forges the report of a pod that does not exist.
    change = {"spec": {"loops": {"action": "Kill"}}}
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, change)
    eventually(lambda: lease_of(sandbox)["metadata"]["labels"][ON_LOOP_LABEL] == "Kill", "the Lease is labelled")
    text = '{"at":"2026-01-01T00:00:00.000000Z","call":"crm/x","calls":3,"digest":"","windowSeconds":60}'
    for name in ("gone", "another"):
        forged = {"metadata": {"annotations": {f"loops.interlock.dev/{name}": text}}}
        sandbox.api.patch("leases", sandbox.namespace, lease_of(sandbox)["metadata"]["name"], forged)
    (pod,) = sandbox.pods("triage")
    assert KILL_SWITCH not in annotations_of(sandbox)
    # The report of a pod of the agent counts, so the others were read before it.
    last = {"metadata": {"annotations": {f"loops.interlock.dev/{pod['metadata']['name']}": text}}}
    sandbox.api.patch("leases", sandbox.namespace, lease_of(sandbox)["metadata"]["name"], last)
    value = eventually(lambda: annotations_of(sandbox).get(KILL_SWITCH), "the switch is set", KILL_SECONDS)
    assert f"reported by pod {pod['metadata']['name']} at" in value


PAGE = (Path(__file__).parents[3] / "docs" / "runbooks" / "AgentLoop.md").read_text(encoding="utf-8")


@requirement("loops.runbook")
def test_every_command_of_the_runbook_prints_what_the_page_says(
    operators: Operators, sandbox: Sandbox, tmp_path: Path
) -> None:
    operators.use()
    name, policy = "first-agent", "development"
    a_looping_agent(sandbox, name, policy, action="Block")
    key, guard = key_of(sandbox), a_guard(operators, sandbox, tmp_path / "guard", name)
    kills = {"spec": {"loops": {"action": "Kill"}}}

    async def loop() -> None:
        async with running(guard):
            for _ in range(30):
                await ask(guard, key, "a refused question")
            events = lambda: sandbox.api.listed("events", sandbox.namespace)  # noqa: E731
            denied = lambda: [one["note"] for one in events() if one["reason"] == "RequestsDenied"]  # noqa: E731
            await until(lambda: "LoopDetected" in str(denied()), "the Event that the page lists is posted")
            sandbox.api.patch("agentpolicies", sandbox.namespace, policy, kills)

            async def is_killed() -> bool:
                return await ask(guard, key, "the same question") == "Killed"

            await until(is_killed, lambda: f"the guard is killed: {guard.log()}")

    asyncio.run(loop())
    eventually(lambda: sandbox.agent(name)["status"].get("kill"), "the kill is recorded", KILL_SECONDS)
    check_page(PAGE, operators.cluster, sandbox.namespace, tmp_path, commands=8)
