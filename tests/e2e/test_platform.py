"""A cluster as a platform team keeps it: what the values of policy, binding and Agent alone must be enough for.

A namespace denies all traffic by default, has a quota of CPU and memory, and enforces Pod Security `restricted`. At
length, its images are in a registry that asks for a password, and its pods belong on nodes with a taint. Objects and
commands are those of the how-tos "private registry" and "tenants".
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import a_namespace
from tests.e2e.live import ROOT, Live, eventually
from tests.requirements import requirement
from tests.support.clusters import POOL
from tests.support.examples import example_objects, find
from tests.support.page_commands import Terminal
from tests.support.registries import PASSWORD, USER, Registry, address_for_nodes, pull_without_tls, running_registry
from tools.cluster.images import NAMES

# crane and the registry may have to be built
pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(1200)]

AGENT, POLICY, BINDING = "first-agent", "development", "crm-development"
REGISTRY_PAGE, TENANTS_PAGE = (ROOT / "docs" / "how-to" / f"{name}.md" for name in ("private-registry", "tenants"))
PLACEHOLDER = "registry.example.com"
QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "team"},
    "spec": {
        "hard": {"pods": "8", "requests.cpu": "1", "requests.memory": "2Gi", "limits.cpu": "12", "limits.memory": "6Gi"}
    },
}
LIMITS = {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "20m", "memory": "64Mi"}}


def fragments(page: Path, kind: str) -> list[str]:
    """Return the blocks of a kind on a page."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)


def objects_of(page: Path) -> list[dict[str, Any]]:
    """Return the objects, and the parts of objects, that a page shows."""
    return [found for block in fragments(page, "yaml") for found in yaml.safe_load_all(block)]


def restrict(live: Live) -> None:
    """Close the namespace and give it a quota, and wait until the quota counts."""
    [closed] = [one for one in objects_of(TENANTS_PAGE) if one["kind"] == "NetworkPolicy"]
    del closed["metadata"]["namespace"]
    for one in (closed, QUOTA):
        live.kubectl("-n", live.namespace, "create", "-f", "-", stdin=json.dumps(one))
    eventually(lambda: "used" in live.get("resourcequota", "team").get("status", {}), 60, lambda: "no quota")


def values(namespace: str, **images: str) -> list[dict[str, Any]]:
    """Return the first example in staging, where agent and guard have a pod each, with limits as the quota asks for.

    Args:
        namespace: Where.
        images: Those of `agent` and `server`, the example's own by default.
    """
    objects = example_objects("01-first-agent", namespace)
    policy, binding, agent = (find(objects, kind)["spec"] for kind in ("AgentPolicy", "MCPBinding", "Agent"))
    policy["podTemplate"] = {"guardResources": {"limits": {"cpu": "500m"}}}
    agent["environment"] = "staging"
    binding["environments"] = ["staging"]
    for container, name in ((agent["template"], "agent"), (binding["server"]["stdio"], "server")):
        container.update({"resources": LIMITS} | ({"image": images[name]} if name in images else {}))
    return objects


def used(live: Live) -> dict[str, str]:
    """Return what the quota has counted."""
    found: dict[str, str] = live.get("resourcequota", "team")["status"]["used"]
    return found


@requirement("platform.restricted")
def test_an_agent_works_in_a_closed_namespace_with_a_quota(live: Live) -> None:
    restrict(live)
    live.apply(*values(live.namespace))
    live.until_ready(AGENT, 120)
    live.until_said(AGENT, "allowed: list_contacts", "denied: ")
    assert live.condition(AGENT, "EgressEnforced")["status"] == "True"
    assert used(live)["pods"] == "2"


@dataclass(frozen=True)
class Platform:
    """A restricted namespace whose images need a password and whose pods belong on the second node.

    Attributes:
        live: The namespace.
        node: Name of the second node.
        registry: Has agent and server, each under the tag 1.
        unauthorized: What the MCPBinding said before there was a password.
    """

    live: Live
    node: str
    registry: Registry
    unauthorized: str

    @property
    def images(self) -> dict[str, str]:
        """The images of agent and server by their tags."""
        return {name: f"{self.registry.address}/agents/{name}:1" for name in ("agent", "server")}

    def digest(self, name: str) -> str:
        """Return the digest that the tag of an image has now."""
        return self.registry.crane("digest", self.images[name])

    def patch(self, kind: str, name: str, change: dict[str, Any]) -> None:
        """Change an object of the namespace."""
        where = ("-n", self.live.namespace, "patch", f"{kind}.interlock.dev", name, "--type=merge")
        self.live.kubectl(*where, "-p", json.dumps(change))

    def agents(self) -> dict[str, dict[str, Any]]:
        """Return the pods with the agent that do not end, by name."""
        found = {pod["metadata"]["name"]: pod for pod in self.live.pods_with(AGENT, "agent")}
        return {name: pod for name, pod in found.items() if "deletionTimestamp" not in pod["metadata"]}


def policy_fragments() -> list[dict[str, Any]]:
    """Return what the page adds to a policy: first the password for pods, then that images have digests."""
    return [one for one in objects_of(REGISTRY_PAGE) if "podTemplate" in one["spec"]]


def follow(platform: Platform, folder: Path) -> None:
    """Give the password as the page says: a Secret, and its name in the policy."""
    live = platform.live
    [command] = fragments(REGISTRY_PAGE, "console")
    assert f"--docker-username={USER} " in command
    for written, here in ((PLACEHOLDER, platform.registry.address), ("-n agents", f"-n {live.namespace}")):
        assert written in command
        command = command.replace(written, here)
    path = os.pathsep.join([str(live.cluster.kubectl.parent), os.environ["PATH"]])
    environment = {"PATH": path, "KUBECONFIG": str(live.cluster.kubeconfig), "PASSWORD": PASSWORD}
    with Terminal(folder, environment) as terminal:
        answer = terminal.run(command.strip(), seconds=60)
    assert answer.code == 0, answer.output
    platform.patch("agentpolicies", POLICY, policy_fragments()[0])


def push(live: Live, registry: Registry, folder: Path) -> None:
    """Push the images of the example's agent and server, each under the tag 1."""
    for name, ours in (("agent", "example-agent"), ("server", "example-crm")):
        archive = folder / f"{name}.tar"
        live.cluster.engine.docker("save", "--output", str(archive), f"{NAMES}/{ours}:dev")
        registry.crane("push", archive, f"{registry.address}/agents/{name}:1")
        archive.unlink()


def verified(live: Live) -> dict[str, str]:
    """Return the condition of the MCPBinding."""
    conditions = live.get("mcpbindings", BINDING).get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == "Verified"), {"status": "Unknown", "message": ""})


@pytest.fixture(scope="module")
def platform(operator: Live, second_node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Agent and binding, Ready after the page on private registries was followed."""
    folder = tmp_path_factory.mktemp("platform")
    address = address_for_nodes(operator.cluster)
    pull_without_tls(operator.cluster, address, address)
    with (
        running_registry(folder, address, has_password=True, tools=["crane"]) as registry,
        a_namespace(operator) as live,
    ):
        push(live, registry, folder)
        restrict(live)
        here = Platform(live, second_node, registry, "")
        objects = values(live.namespace, **here.images)
        templates = [one["spec"].get("podTemplate", {}) for one in objects_of(TENANTS_PAGE) if "spec" in one]
        [pool] = [one["default"] for one in templates if "default" in one]
        assert pool["nodeSelector"] == POOL
        find(objects, "AgentPolicy")["spec"]["podTemplate"]["default"] = pool
        agent = find(objects, "Agent")["spec"]
        agent["template"]["imagePullPolicy"] = "Always"
        live.apply(*objects, find(objects, "Agent") | {"spec": agent | {"replicas": 2}})
        eventually(lambda: "auth" in verified(live)["message"], 90, lambda: str(verified(live)))
        unauthorized = verified(live)["message"]
        follow(here, folder)
        live.until_ready(AGENT, 180)
        yield Platform(live, second_node, registry, unauthorized)


@requirement("platform.private-registry")
def test_agent_and_binding_run_by_their_values_alone(platform: Platform) -> None:
    live = platform.live
    assert all(part in platform.unauthorized for part in ("container mcp-crm", "agents/server:1"))

    pods = live.items("pods")
    assert {pod["spec"]["nodeName"] for pod in pods} == {platform.node}
    assert {tuple(one["name"] for one in pod["spec"]["imagePullSecrets"]) for pod in pods} == {("registry",)}
    containers = [one for pod in pods for one in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ()))]
    pulled = {one["image"] for one in containers if one["image"].startswith(platform.registry.address)}
    assert pulled == set(platform.images.values())
    mounted = [volume for pod in pods for volume in pod["spec"]["volumes"] if "secret" in volume]
    assert [one for one in mounted if one["secret"]["secretName"] == "registry"] == []
    assert PASSWORD not in json.dumps(pods)
    live.until_said(AGENT, "allowed: list_contacts", "denied: ")
    assert live.condition(AGENT, "EgressEnforced")["status"] == "True"
    assert used(live)["pods"] == "4", "two of the agent and two guards; a pod that has ended is not counted"


def log(live: Live, pod: str) -> str:
    """Return what the agent in a pod has printed."""
    return live.reader.log(live.namespace, pod, "agent")


def refused_since_allowed(live: Live, pod: str) -> int:
    """Return how often a pod was refused since its last call that a guard allowed, before guards knew its image."""
    return len(
        re.findall(r"^(?:denied: ImageChanged|failed: )", log(live, pod).rpartition("allowed: ")[2], re.MULTILINE)
    )


@requirement("platform.moved-tag")
def test_a_pod_with_the_image_of_a_moved_tag_is_refused_and_the_other_works_on(platform: Platform) -> None:
    live, image = platform.live, platform.images["agent"]
    recorded = platform.digest("agent")
    gone, kept = sorted(platform.agents())
    platform.registry.crane("mutate", image, "--label", "moved=yes", "--tag", image)
    moved = platform.digest("agent")
    assert moved != recorded
    try:
        live.kubectl("-n", live.namespace, "delete", "pod", gone)
        eventually(
            lambda: live.condition(AGENT, "Ready")["reason"] == "ImageChanged",
            90,
            lambda: str(live.condition(AGENT, "Ready")),
        )
        [other] = platform.agents().keys() - {kept}
        message = live.condition(AGENT, "Ready")["message"]
        assert all(part in message for part in (other, recorded, moved, "1 of 2 pods ready"))
        eventually(lambda: refused_since_allowed(live, other) >= 3, 60, lambda: log(live, other)[-2000:])
        guards = [pod["metadata"]["name"] for pod in live.pods_with(AGENT, "guard")]
        assert any("ImageChanged" in live.reader.log(live.namespace, name, "guard") for name in guards)
        worked = log(live, kept).count("allowed: ")
        eventually(lambda: log(live, kept).count("allowed: ") > worked, 60, lambda: log(live, kept)[-2000:])
    finally:
        platform.registry.crane("tag", f"{image.rpartition(':')[0]}@{recorded}", "1")
    live.kubectl("-n", live.namespace, "delete", "pod", other)
    live.until_ready(AGENT, 90)


@requirement("platform.digests")
def test_a_policy_that_asks_for_digests_refuses_tags(platform: Platform) -> None:
    live = platform.live
    by_digest = {name: f"{tag.rpartition(':')[0]}@{platform.digest(name)}" for name, tag in platform.images.items()}
    platform.patch("agentpolicies", POLICY, policy_fragments()[1])
    until_refused(live, "Governed", platform.images["agent"])
    eventually(lambda: not live.running_containers(), 60, lambda: str(live.running_containers()))
    platform.patch("agents", AGENT, {"spec": {"template": {"image": by_digest["agent"]}}})
    until_refused(live, "ActionsBound", platform.images["server"])
    platform.patch("mcpbindings", BINDING, {"spec": {"server": {"stdio": {"image": by_digest["server"]}}}})
    live.until_ready(AGENT, 120)


def until_refused(live: Live, layer: str, image: str) -> None:
    """Wait until a layer refuses the agent because of an image."""

    def is_refused() -> bool:
        found = live.condition(AGENT, layer)
        return (found["status"], found["reason"]) == ("False", "DigestRequired") and image in found["message"]

    eventually(is_refused, 60, lambda: str(live.condition(AGENT, layer)))
