"""The guard's watch at a real API server, with only the rights that a guard has."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from interlock_contract.bundle import digest, parse_bundle
from tests.integration.guard.fake_api_server import AGENT, BUNDLE, NAMESPACE
from tests.integration.guard.harness import SCRIPTED, SOURCE, Answer, Client, Guard, StdioServer, a_bundle
from tests.support.bounds import check_promise, until
from tools.cluster.kwok import KwokCluster

pytestmark = [pytest.mark.api, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[3]
KILL_SECONDS = 1.0
READ = ["get", "list", "watch"]
AGENT_SPEC = {
    "owner": {"name": "Ada Example", "email": "ada@example.com"},
    "purpose": "Sort incoming support tickets",
    "policyRef": {"name": "support"},
    "environment": "development",
    "template": {"image": "registry.example.com/agent:1.0"},
}
RIGHTS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "guard", "namespace": NAMESPACE}},
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "guard", "namespace": NAMESPACE},
        "rules": [
            {"apiGroups": ["interlock.dev"], "resources": ["agents"], "resourceNames": [AGENT], "verbs": READ},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [BUNDLE], "verbs": READ},
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "guard", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "guard"},
        "subjects": [{"kind": "ServiceAccount", "name": "guard", "namespace": NAMESPACE}],
    },
]

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def kubectl(kwok_cluster: KwokCluster) -> Iterator[Kubectl]:
    def run(*arguments: str, stdin: Any = None) -> str:
        command = [
            str(kwok_cluster.kubectl),
            "--kubeconfig",
            str(kwok_cluster.kubeconfig),
            "--context",
            kwok_cluster.context,
            *arguments,
        ]
        text = None if stdin is None else json.dumps(stdin)
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
    run("wait", "--for=condition=Established", "--timeout=30s", "crd/agents.interlock.dev")
    run("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": RIGHTS})
    yield run
    run("delete", "namespace", NAMESPACE)  # and wait: another module of this cluster creates it again


@dataclass
class Live:
    """A guard at a real API server, with a server and a client."""

    kubectl: Kubectl
    guard: Guard
    client: Client

    async def answers_with(self, reason: str | None) -> Answer:
        last: list[Answer] = []

        async def reached() -> bool:
            last[:] = [await self.client.call("echo")]
            return last[0].reason == reason

        await until(reached, f"calls are answered with {reason}")
        return last[0]


@dataclass
class Address:
    """What a guard needs to know of an API server."""

    url: str


@pytest.fixture
async def live(kwok_cluster: KwokCluster, kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[Live]:
    metadata = {"name": AGENT, "namespace": NAMESPACE}
    agent = {"apiVersion": "interlock.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": AGENT_SPEC}
    uid = json.loads(kubectl("create", "-o", "json", "-f", "-", stdin=agent))["metadata"]["uid"]
    apply_bundle(kubectl, a_bundle(["echo"], uid=uid))
    config = yaml.safe_load(kwok_cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    guard = Guard(Address(config["server"]), tmp_path)
    write_credentials(guard, kubectl, Path(config["certificate-authority"]))
    await guard.start()
    server = StdioServer(guard.pipes / SOURCE, [sys.executable, str(SCRIPTED), str(tmp_path / "executed")])
    try:
        await guard.started()
        await server.start()
        await guard.source_ready()
        async with aiohttp.ClientSession() as session:
            yield Live(kubectl, guard, Client(session, guard.url))
    finally:
        await guard.stop()
        await server.kill()
        kubectl("delete", "agents.interlock.dev", AGENT, "-n", NAMESPACE, "--ignore-not-found", "--wait=false")


def write_credentials(guard: Guard, kubectl: Kubectl, authority: Path) -> None:
    """Write what the kubelet projects into the guard's container."""
    guard.token.parent.mkdir()
    guard.token.write_text(kubectl("create", "token", "guard", "-n", NAMESPACE, "--duration", "1h"))
    (guard.token.parent / "ca.crt").write_bytes(authority.read_bytes())


def apply_bundle(kubectl: Kubectl, text: str) -> None:
    metadata = {"name": BUNDLE, "namespace": NAMESPACE}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"bundle.json": text}}
    named = json.dumps({"status": {"bundleDigests": [digest(text)]}})
    kubectl(
        "patch", "agents.interlock.dev", AGENT, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", named
    )
    kubectl("apply", "-f", "-", stdin=config_map)


async def annotate(live: Live, value: str) -> None:
    command = ("annotate", "agents.interlock.dev", AGENT, "-n", NAMESPACE, "--overwrite")
    await asyncio.to_thread(live.kubectl, *command, f"interlock.dev/kill-switch={value}")


async def test_kubectl_annotate_kills_within_a_second_and_only_off_releases(live: Live) -> None:
    await live.answers_with(None)
    await annotate(live, "data leak")
    returned = time.monotonic()
    answer = await live.answers_with("Killed")
    check_promise(time.monotonic() - returned, KILL_SECONDS, "a guard obeys kubectl annotate")
    assert (answer.status, answer.body["error"]["data"]["message"]) == (503, "data leak")
    assert not await live.guard.probe("/readyz")
    await annotate(live, "off")
    assert (await live.answers_with("ServerUnavailable")).status == 200  # the kill has ended the server


async def test_a_bundle_that_forbids_a_tool_is_in_force_at_once(live: Live) -> None:
    await live.answers_with(None)
    uid = json.loads(live.kubectl("get", "agents.interlock.dev", AGENT, "-n", NAMESPACE, "-o", "json"))["metadata"][
        "uid"
    ]
    text = a_bundle(["slow"], uid=uid)
    assert parse_bundle(text).agent.uid == uid
    await asyncio.to_thread(apply_bundle, live.kubectl, text)
    await live.answers_with("ToolNotMapped")


async def test_a_deleted_agent_closes_its_guard_and_a_new_one_of_that_name_does_not_open_it(live: Live) -> None:
    await live.answers_with(None)
    await asyncio.to_thread(live.kubectl, "delete", "agents.interlock.dev", AGENT, "-n", NAMESPACE)
    await live.answers_with("AgentMismatch")
    metadata = {"name": AGENT, "namespace": NAMESPACE}
    agent = {"apiVersion": "interlock.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": AGENT_SPEC}
    await asyncio.to_thread(live.kubectl, "create", "-f", "-", stdin=agent)
    await until(lambda: live.guard.probe("/startupz"), "the guard sees the new agent")
    await live.answers_with("AgentMismatch")
