"""CRDs, admission policies, kustomizations and charts on API servers of older minors, which run alone.

They show what these API servers accept and enforce. No controller, scheduler or kubelet of these versions runs.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from interlock.cluster.kubernetes_version import check_version
from interlock_kube.client import KubeClient
from interlock_process.kubeconfig import KubeconfigCredentials
from tests.integration.kubectl import AGENT, POLICY, Answer, Kubectl, edited
from tests.integration.tools.test_helm_install import CRDS, NAMESPACE, POLICIES_SECONDS, Installed
from tests.requirements import requirement
from tests.support.bounds import eventually
from tests.support.clusters import own_kwok_cluster
from tests.support.helm import Helm
from tools.charts.__main__ import CHARTS
from tools.charts.sources import ROOT
from tools.cluster import programs
from tools.cluster.kwok import KwokOptions
from tools.machine import versions

pytestmark = [pytest.mark.api, pytest.mark.nightly, pytest.mark.timeout(1800)]  # API servers may have to be built


@dataclass(frozen=True)
class Minor:
    """An older version.

    Attributes:
        program: Its API server.
        version: As it calls itself.
        admission: The folder of admission policies that it takes whole.
        lacks: How many features of Interlock it lacks.
    """

    program: str
    version: str
    admission: str
    lacks: int


MINORS = (
    Minor(programs.OLDEST, versions.KUBERNETES_OLDEST, "admission-1.33", 1),
    Minor(programs.OLDER, versions.KUBERNETES_OLDER, "admission", 0),
)


@dataclass(frozen=True)
class Older:
    """An API server of an older version on which nothing was installed, with the programs for it."""

    minor: Minor
    installed: Installed


@pytest.fixture(scope="module", params=MINORS, ids=lambda minor: str(minor.version))
def older(request: pytest.FixtureRequest) -> Iterator[Older]:
    minor: Minor = request.param
    options = KwokOptions(nodes=0, api_server=minor.program)
    with own_kwok_cluster("minor", options) as cluster, tempfile.TemporaryDirectory() as home:
        helm = Helm(cluster.kubeconfig, cluster.context, Path(home))
        yield Older(minor, Installed(cluster, Kubectl(cluster), helm))


def in_force(at: Installed) -> None:
    """Wait until a good Agent is created and one with a name that a policy refuses is not."""
    replies: list[Answer] = []

    def sent(manifest: Any, *options: str) -> Answer:
        replies.append(at.kubectl.run("create", *options, "-n", "default", "-f", "-", stdin=json.dumps(manifest)))
        return replies[-1]

    for manifest in (POLICY, AGENT):
        eventually(lambda one=manifest: sent(one).ok, lambda: replies[-1].text, POLICIES_SECONDS)  # type: ignore[misc]
    dashes = edited(AGENT, metadata__name="two--dashes")
    eventually(
        lambda: "agents-name.interlock.dev" in sent(dashes, "--dry-run=server").text,
        lambda: replies[-1].text,
        POLICIES_SECONDS,
    )
    at.kubectl.must("delete", "agents.interlock.dev,agentpolicies.interlock.dev", "-n", "default", "--all")


@requirement("operator.old-cluster")
async def test_the_operator_names_what_the_version_lacks(older: Older) -> None:
    client = KubeClient(KubeconfigCredentials(Path(older.installed.cluster.kubeconfig)))
    try:
        found = await check_version(client)
    finally:
        await client.close()
    assert (found.name, len(found.missing)) == (older.minor.version, older.minor.lacks)


@requirement("charts.older")
def test_helm_installs_the_charts_with_the_policies_that_the_version_serves(older: Older) -> None:
    at = older.installed
    at.kubectl.must("create", "namespace", NAMESPACE)
    at.helm("install", "interlock-crds", CHARTS / "interlock-crds")
    at.kubectl.must("wait", "--for=condition=Established", "--timeout=30s", *CRDS)
    at.helm("install", "interlock", CHARTS / "interlock")
    in_force(at)
    stamped = at.has("mutatingadmissionpolicies", "agents-kill-identity.interlock.dev")
    assert stamped == (older.minor.admission == "admission")
    at.helm("upgrade", "interlock", CHARTS / "interlock", "--set", "audit.keepDays=10")
    assert at.keep_days() == "10"
    at.helm("uninstall", "interlock")
    assert all(at.has(name) for name in CRDS)


@requirement("charts.older")
def test_kubectl_applies_the_kustomizations(older: Older) -> None:
    """It comes after the test that uninstalls the chart, and leaves the CRDs."""
    at = older.installed
    for folder in ("crds", "manifests/base", f"manifests/{older.minor.admission}"):
        at.kubectl.must("apply", "-k", str(ROOT / folder))
    at.kubectl.must("wait", "--for=condition=Established", "--timeout=30s", *CRDS)
    in_force(at)
    whole = at.kubectl.run("apply", "--dry-run=server", "-k", str(ROOT / "manifests/admission"))
    assert whole.ok == (older.minor.admission == "admission"), whole.text
