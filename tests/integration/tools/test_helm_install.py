"""The charts on a real API server: installed, upgraded, rolled back and uninstalled, as the page on installing says."""

import base64
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kubectl import AGENT, PLURALS, POLICY, Answer, Cluster, Kubectl, edited
from tests.requirements import requirement
from tests.support.bounds import eventually
from tests.support.clusters import own_kwok_cluster
from tests.support.helm import NAMESPACE, Helm
from tools.charts.__main__ import CHARTS
from tools.charts.sources import ROOT
from tools.cluster.kwok import KwokCluster, KwokOptions
from tools.machine.process import CommandFailedError

pytestmark = [pytest.mark.api, pytest.mark.nightly, pytest.mark.timeout(900)]

CRDS = [f"crd/{plural}.interlock.dev" for plural in PLURALS.values()]
DEPLOYMENTS = ("interlock", "interlock-audit", "interlock-kill")
POLICIES_SECONDS = 60.0


@dataclass(frozen=True)
class Installed:
    """A cluster, with kubectl and Helm for it."""

    cluster: Cluster
    kubectl: Kubectl
    helm: Helm

    def get(self, *arguments: str) -> Any:
        return self.kubectl.must("get", *arguments, "-o", "json").json()

    def has(self, *arguments: str) -> bool:
        return self.kubectl.run("get", *arguments).ok

    def generations(self) -> dict[str, int]:
        """Return the generation of each Deployment, which counts the changes of its spec."""
        return {name: self.get("deployment", name, "-n", NAMESPACE)["metadata"]["generation"] for name in DEPLOYMENTS}

    def pod_templates(self) -> dict[str, Any]:
        """Return the pod template of each Deployment. A Deployment's generation also counts annotations of Helm."""
        return {name: self.get("deployment", name, "-n", NAMESPACE)["spec"]["template"] for name in DEPLOYMENTS}

    def keep_days(self) -> str:
        container = self.get("deployment", "interlock-audit", "-n", NAMESPACE)["spec"]["template"]["spec"]["containers"]
        return str(container[0]["env"][0]["value"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[KwokCluster]:
    """A cluster of its own, without nodes: pods stay Pending."""
    with own_kwok_cluster("helm", KwokOptions(nodes=0)) as made:
        yield made


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Installed]:
    """Both charts, a policy and an Agent."""
    with tempfile.TemporaryDirectory() as home:
        helm = Helm(cluster.kubeconfig, cluster.context, Path(home))
        at = Installed(cluster, Kubectl(cluster), helm)
        at.kubectl.must("create", "namespace", NAMESPACE)
        at.kubectl.must("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        at.helm("install", "interlock-crds", CHARTS / "interlock-crds")
        at.kubectl.must("wait", "--for=condition=Established", "--timeout=30s", *CRDS)
        at.helm("install", "interlock", CHARTS / "interlock")  # with the images of the chart's version
        replies: list[Answer] = []
        for manifest in (POLICY, AGENT):

            def created(manifest: Any = manifest) -> bool:
                replies.append(at.kubectl.create(manifest, "default"))
                return replies[-1].ok

            eventually(created, lambda: replies[-1].text, POLICIES_SECONDS)
        yield at


@requirement("charts.installed")
def test_a_cluster_takes_both_charts(installed: Installed) -> None:
    assert installed.generations() == dict.fromkeys(DEPLOYMENTS, 1)
    replies: list[Answer] = []

    def refused() -> bool:
        manifest = json.dumps(edited(AGENT, metadata__name="two--dashes"))
        replies.append(installed.kubectl.run("create", "--dry-run=server", "-f", "-", stdin=manifest))
        return "agents-name.interlock.dev" in replies[-1].text

    eventually(refused, lambda: replies[-1].text, POLICIES_SECONDS)


@requirement("charts.installed")
def test_a_release_takes_half_of_what_a_secret_holds_at_most(installed: Installed) -> None:
    releases = installed.get("secrets", "-n", NAMESPACE, "-l", "owner=helm")["items"]
    assert len(releases) >= 2
    assert max(len(base64.b64decode(one["data"]["release"])) for one in releases) < 512 * 1024


@requirement("charts.installed")
def test_an_upgrade_changes_only_what_its_values_change_and_a_rollback_takes_it_back(installed: Installed) -> None:
    before = installed.generations()
    agent = installed.get("agents.interlock.dev", "support-triage")["metadata"]
    installed.helm("upgrade", "interlock", CHARTS / "interlock", "--set", "audit.keepDays=10")
    assert installed.keep_days() == "10"
    installed.helm("rollback", "interlock")
    assert installed.keep_days() == "184"
    after = installed.generations()
    assert {name for name in DEPLOYMENTS if before[name] != after[name]} == {"interlock-audit"}
    assert installed.get("agents.interlock.dev", "support-triage")["metadata"]["uid"] == agent["uid"]


@requirement("charts.installed")
def test_a_wrong_value_changes_nothing(installed: Installed) -> None:
    before = installed.generations()
    with pytest.raises(CommandFailedError, match="keepDys"):
        installed.helm("upgrade", "interlock", CHARTS / "interlock", "--set", "audit.keepDys=10")
    assert installed.generations() == before


@requirement("charts.installed")
def test_uninstalling_leaves_agents_and_records_until_the_crds_are_given_up(installed: Installed) -> None:
    """It takes both charts away."""
    installed.helm("uninstall", "interlock", "--wait")
    policies = ("validatingadmissionpolicies", "mutatingadmissionpolicies", "clusterroles", "deployments", "services")
    for kind in policies:
        left = installed.get(kind, "-A")["items"]
        assert [one["metadata"]["name"] for one in left if "interlock" in one["metadata"]["name"]] == []
    assert installed.has("pvc", "interlock-audit", "-n", NAMESPACE)

    installed.helm("uninstall", "interlock-crds", "--wait")
    assert installed.has("agents.interlock.dev", "support-triage")

    installed.helm("install", "interlock-crds", CHARTS / "interlock-crds")
    installed.helm("upgrade", "interlock-crds", CHARTS / "interlock-crds", "--set", "keep=false")
    assert installed.has("agents.interlock.dev", "support-triage")
    installed.helm("uninstall", "interlock-crds", "--wait")
    assert [one for one in CRDS if installed.has(one)] == []


@requirement("charts.installed")
def test_helm_takes_over_what_kustomize_installed_and_gives_it_back(installed: Installed, tmp_path: Path) -> None:
    """It comes after the test that takes both charts away."""
    folders = ("crds", "manifests/base", "manifests/admission")
    resources = [os.path.relpath(ROOT / name, tmp_path) for name in folders]
    (tmp_path / "kustomization.yaml").write_text(json.dumps({"resources": resources}))
    installed.kubectl.must("apply", "-k", str(tmp_path))
    before = installed.pod_templates()
    tags = {"interlock-crds": (), "interlock": ("--set", "images.tag=dev")}
    for chart, tag in tags.items():
        with pytest.raises(CommandFailedError, match="ownership metadata"):
            installed.helm("install", chart, CHARTS / chart, *tag)
        installed.helm("install", chart, CHARTS / chart, *tag, "--take-ownership", "--force-conflicts")
    assert installed.pod_templates() == before
    values = (*tags["interlock"], "--set", "audit.keepDays=10")
    installed.helm("upgrade", "interlock", CHARTS / "interlock", *values, "--force-conflicts")
    assert installed.keep_days() == "10"

    installed.kubectl.must("delete", "secrets", "-n", NAMESPACE, "-l", "owner=helm")
    installed.kubectl.must("apply", "-k", str(tmp_path))
    assert installed.keep_days() == "184"
    assert installed.helm("list", "--short").split() == []
