"""An earlier version with agents at work is upgraded to this one, taken back, and uninstalled: by Helm and kustomize.

All of it happens on a cluster of its own, because it replaces the installation.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from tests.e2e.conftest import SETTLE_SECONDS
from tests.e2e.live import Live, always, eventually
from tests.e2e.reader import Reader, reading
from tests.e2e.rollouts import answers, start_prober
from tests.e2e.test_drain import AGENT, worker
from tests.requirements import requirement
from tests.support.bounds import TOLERANCE
from tests.support.clusters import own_kind_name
from tests.support.examples import example_objects, find
from tests.support.helm import NAMESPACE, Helm
from tests.support.versions import NOW, Version, earlier
from tools.cluster import contexts, images, kind
from tools.cluster.kind import KindCluster
from tools.machine.settings import from_environment

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(3600)]

CLUSTER = "interlock-upgrade"
BEFORE = "31d8db138d4eb544b0d0d8108eae51c8703591d0"
"""The version from which the test upgrades: one of the last whose operator replaced all guards at the same time."""
WORKLOADS = ("deployment/interlock", "deployment/interlock-kill", "deployment/interlock-audit")
KILL_SECONDS, CUT_SECONDS, END_SECONDS = 5.0, 1.0, 60.0
MOVED_SECONDS = 300.0
"""In which all guards have the image of the version: the operator renews them one after the other."""
VICTIM = "first-agent"
CLUSTER_WIDE = (
    "customresourcedefinitions,clusterroles,clusterrolebindings,validatingadmissionpolicies,priorityclasses,"
    "validatingadmissionpolicybindings,mutatingadmissionpolicies,mutatingadmissionpolicybindings,namespaces"
)
OF_AGENTS = (
    "deployments,services,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,leases,"
    "poddisruptionbudgets,controllerrevisions,jobs,pods"
)


class Way(Protocol):
    """A way to install this project."""

    def apply(self, version: Version) -> None:
        """Install a version, or upgrade to it, without waiting for its programs."""

    def back(self, version: Version) -> None:
        """Return to the version before, whose CRDs are older."""

    def uninstall(self) -> None:
        """Remove all but the CRDs."""

    def remove(self) -> None:
        """Remove the CRDs and the namespace, too."""


@dataclass(frozen=True)
class ByHelm:
    """The charts, as docs/how-to/install.md says."""

    at: Live
    helm: Helm

    def apply(self, version: Version) -> None:
        if self.at.attempt("get", "namespace", NAMESPACE).returncode != 0:
            self.at.kubectl("create", "namespace", NAMESPACE)
            self.at.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        self.helm("upgrade", "--install", "interlock-crds", version.folder / "charts/interlock-crds")
        values = ("--set", f"images.tag={version.tag}", "--set", "audit.persistence.enabled=false")
        self.helm("upgrade", "--install", "interlock", version.folder / "charts/interlock", *values)

    def back(self, version: Version) -> None:
        self.helm("rollback", "interlock")
        assert f":{version.tag}" in self.at.kubectl("-n", NAMESPACE, "get", "deployment", "interlock", "-o", "yaml")

    def uninstall(self) -> None:
        self.helm("uninstall", "interlock", "--wait")

    def remove(self) -> None:
        chart = NOW.folder / "charts/interlock-crds"
        self.helm("upgrade", "interlock-crds", chart, "--set", "keep=false")
        self.helm("uninstall", "interlock-crds", "--wait")
        self.at.kubectl("delete", "namespace", NAMESPACE)


@dataclass(frozen=True)
class ByKustomize:
    """An overlay, as docs/how-to/install.md says."""

    at: Live
    folder: Path

    def apply(self, version: Version) -> None:
        self.at.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(version.folder / "crds"))
        self.back(version)

    def back(self, version: Version) -> None:
        self.at.kubectl("apply", "-k", self._overlay(version))

    def uninstall(self) -> None:
        self.at.kubectl("delete", "-k", self._overlay(NOW))

    def remove(self) -> None:
        self.at.kubectl("delete", "-k", str(NOW.folder / "crds"))

    def _overlay(self, version: Version) -> str:
        """Write an overlay without CRDs, with the patches of the one for kind: there is no volume for records."""
        manifests = version.folder / "manifests"
        overlay = yaml.safe_load((manifests / "overlays/kind/kustomization.yaml").read_text())
        overlay["resources"] = [os.path.relpath(manifests / name, self.folder) for name in ("admission", "base")]
        (self.folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        return str(self.folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[KindCluster]:
    """A cluster of its own, with the images of this version."""
    settings = from_environment()
    with own_kind_name(CLUSTER, settings):
        made = kind.ensure(CLUSTER, settings=settings)
        contexts.check_kubeconfig(made.kubeconfig)
        images.ensure_on(made, ["operator", "guard", "audit", "example-agent", "example-crm"])
        yield made


@pytest.fixture(scope="module")
def before(cluster: KindCluster, tmp_path_factory: pytest.TempPathFactory) -> Version:
    return earlier(BEFORE, tmp_path_factory.mktemp("before"), cluster)


@pytest.fixture
def reader(cluster: KindCluster) -> Iterator[Reader]:
    with reading(cluster.kubeconfig) as found:
        yield found


@pytest.fixture(params=["helm", "kustomize"])
def way(request: pytest.FixtureRequest, cluster: KindCluster, reader: Reader, tmp_path: Path) -> Way:
    at = Live(cluster, reader)
    return (
        ByHelm(at, Helm(cluster.kubeconfig, cluster.context, tmp_path))
        if request.param == "helm"
        else ByKustomize(at, tmp_path)
    )


def settled(at: Live) -> None:
    """Wait until the programs of the installation are those that were applied last."""
    for workload in WORKLOADS:
        at.kubectl("-n", NAMESPACE, "rollout", "status", workload, f"--timeout={SETTLE_SECONDS}s")


def in_namespace(at: Live, name: str, objects: list[dict[str, Any]]) -> Live:
    """Apply objects to a new namespace; return the cluster as seen from it."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    here = at.within(name)
    here.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    here.apply(*objects)
    return here


def at_work(at: Live, isolation: str, *, grace: bool = True) -> Live:
    """Return a namespace with an agent that gets tasks without a pause.

    Args:
        at: The cluster.
        isolation: The isolation of the agent.
        grace: Whether its pods have a longer grace period than one second. The version before drains no pods.
    """
    name = f"at-work-{isolation.lower()}{'' if grace else '-1s'}"
    objects = worker(name, isolation)
    if not grace:
        del find(objects, "Agent")["spec"]["template"]["terminationGracePeriodSeconds"]
    here = in_namespace(at, name, objects)
    here.until_ready(AGENT, SETTLE_SECONDS)
    start_prober(here, AGENT, ["-"])
    return here


def victim(at: Live, name: str) -> Live:
    """Return a namespace with an agent that runs, to be killed."""
    here = in_namespace(at, name, example_objects("01-first-agent", name))
    here.until_ready(VICTIM, SETTLE_SECONDS)
    assert running(here)
    return here


def running(here: Live) -> list[str]:
    """Return the victim's running containers. Another version also verifies the binding again, in a pod of its own."""
    return [one for one in here.running_containers() if one.startswith(f"{VICTIM}-")]


def kill(here: Live) -> None:
    """Kill the agent of a namespace; its containers are gone in their usual time."""
    here.annotate(VICTIM, "the upgrade")
    eventually(lambda: not running(here), KILL_SECONDS * TOLERANCE, lambda: str(running(here)))


def containers(here: Live, name: str) -> dict[str, tuple[str, int]]:
    """Return image and restarts of each container with this name, by the uid of its pod."""
    found = {}
    for pod in here.pods(AGENT):
        status = pod["status"]
        for one in (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())):
            if one["name"] == name:
                found[pod["metadata"]["uid"]] = (one["image"], one["restartCount"])
    return found


def until_moved(here: Live, tag: str) -> None:
    """Wait until each guard has the image of a version, and the agent is whole."""

    def moved() -> bool:
        guards = containers(here, "guard").values()
        return len(guards) == 2 and all(image.endswith(f":{tag}") for image, _ in guards)

    eventually(moved, MOVED_SECONDS, lambda: here.kubectl("-n", here.namespace, "get", "pods", "-o", "wide"))
    here.until_ready(AGENT, SETTLE_SECONDS)


def until_answered(here: Live, count: int = 20) -> None:
    """Wait until the prober has so many more answers; none of all was a failure."""
    first = len(answers(here).lines)
    eventually(lambda: len(answers(here).lines) >= first + count, 60, lambda: str(len(answers(here).lines)))
    failures = answers(here).failures
    assert not failures, f"{here.namespace}: {json.dumps(failures)}"


def pods_in(at: Live, namespaces: list[str]) -> list[str]:
    """Return the agents' pods in some namespaces."""
    found = [pod for name in namespaces for pod in at.within(name).items("pods", "interlock.dev/agent")]
    return [pod["metadata"]["name"] for pod in found]


def left_over(at: Live, namespaces: list[str]) -> list[str]:
    """Return what is left of the installation, and of Interlock's objects in some namespaces."""
    wide = [one for one in at.kubectl("get", CLUSTER_WIDE, "-o", "name").split() if "interlock" in one]
    found = [
        at.kubectl("-n", name, "get", OF_AGENTS, "-o", "name", "-l", "app.kubernetes.io/managed-by=interlock")
        for name in namespaces
    ]
    return [*wide, *(one for names in found for one in names.split())]


@requirement("upgrade.on-a-cluster")
def test_agents_at_work_stay_through_an_upgrade_a_rollback_and_an_uninstallation(
    way: Way, before: Version, cluster: KindCluster, reader: Reader
) -> None:
    at = Live(cluster, reader)
    way.apply(before)
    settled(at)
    shared, separate = (at_work(at, isolation) for isolation in ("Shared", "Separate"))
    short = [at_work(at, isolation, grace=False) for isolation in ("Shared", "Separate")]
    victims = [victim(at, f"victim-{number}") for number in range(4)]
    agents = containers(separate, "agent")

    with ThreadPoolExecutor(1) as meanwhile:
        for step, version in ((way.apply, NOW), (way.back, before)):
            under_way = meanwhile.submit(step, version)
            kill(victims.pop())
            under_way.result()
            kill(victims.pop())
            settled(at)
            for here in (shared, separate, *short):
                until_moved(here, version.tag)
                until_answered(here)
            while short:  # the version before ends pods with their grace period
                at.kubectl("delete", "namespace", short.pop().namespace)
            assert containers(separate, "agent") == agents, "pods of separate agents stay"

    way.apply(NOW)
    settled(at)
    until_moved(separate, NOW.tag)
    way.uninstall()
    until_answered(shared)
    until_answered(separate)
    pods = {pod["metadata"]["uid"] for pod in separate.pods(AGENT)}
    separate.annotate(AGENT, "nobody ends its pods")
    eventually(
        lambda: bool(answers(separate).failures), CUT_SECONDS * TOLERANCE, lambda: str(answers(separate).lines[-3:])
    )
    always(lambda: {pod["metadata"]["uid"] for pod in separate.pods(AGENT)} == pods, 3, lambda: str(pods))

    way.apply(NOW)
    settled(at)
    eventually(lambda: not separate.pods(AGENT), END_SECONDS, lambda: str(separate.pods(AGENT))[-2000:])
    namespaces = [shared.namespace, separate.namespace, *(f"victim-{number}" for number in range(4))]
    at.kubectl("delete", "agents.interlock.dev,mcpbindings.interlock.dev,agentpolicies.interlock.dev", "-A", "--all")
    eventually(lambda: not pods_in(at, namespaces), END_SECONDS, lambda: str(pods_in(at, namespaces)))
    way.uninstall()
    way.remove()
    eventually(lambda: not left_over(at, namespaces), END_SECONDS, lambda: json.dumps(left_over(at, namespaces)))
    at.kubectl("delete", "namespace", *namespaces)
