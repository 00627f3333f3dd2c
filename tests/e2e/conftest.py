"""A real kind cluster with the operator in it, and a namespace for each test."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.live import Live
from tests.e2e.reader import reading
from tests.support.lanes import Lanes
from tools.cluster.kind import KindCluster

SETTLE_SECONDS = 120


@pytest.fixture(scope="session")
def operator(kind_cluster: KindCluster, lanes: Lanes) -> Iterator[Live]:
    """The operator, installed once as the README says, from the images of this tree."""
    with reading(kind_cluster.kubeconfig) as reader:
        live = Live(kind_cluster, reader)
        lanes.once("operator", lambda: install(live))
        yield live


def install(live: Live) -> None:
    """Install the CRDs, the operator and the collector, and wait until they work."""
    live.kubectl("apply", "--server-side", "--force-conflicts", "-k", "crds")
    live.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "crds/agents.yaml")
    live.kubectl("apply", "-k", "manifests/overlays/kind")
    workloads = ("deployment/interlock", "deployment/interlock-kill", "deployment/interlock-audit")
    live.kubectl("-n", "interlock-system", "rollout", "restart", *workloads)
    for workload in workloads:
        live.kubectl("-n", "interlock-system", "rollout", "status", workload, f"--timeout={SETTLE_SECONDS}s")


@contextmanager
def a_namespace(operator: Live) -> Iterator[Live]:
    """The cluster, seen from a new namespace that enforces Pod Security `restricted`."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    here = operator.within(name)
    here.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }
    )
    yield here
    here.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def live(operator: Live) -> Iterator[Live]:
    """The cluster, seen from a namespace of the test's own."""
    with a_namespace(operator) as here:
        yield here


@pytest.fixture(scope="module")
def shared(operator: Live) -> Iterator[Live]:
    """The cluster, seen from a namespace of the module, for tests that only read what runs in it."""
    with a_namespace(operator) as here:
        yield here


def audit_reader(live: Live, name: str, folder: Path) -> Path:
    """Make a ServiceAccount; return a file with a token of it for the collector."""
    live.kubectl("-n", live.namespace, "create", "serviceaccount", name)
    token = live.kubectl("-n", live.namespace, "create", "token", name, "--audience", "interlock-audit")
    (folder / name).write_text(token)
    return folder / name


@pytest.fixture
def auditor(live: Live, tmp_path: Path) -> Path:
    """A file with a token that may read the records of the test's namespace."""
    token = audit_reader(live, "auditor", tmp_path)
    account = f"--serviceaccount={live.namespace}:auditor"
    live.kubectl("-n", live.namespace, "create", "rolebinding", "auditor", "--clusterrole=interlock-auditor", account)
    return token


@pytest.fixture
def collector(live: Live) -> Iterator[str]:
    """The URL of the collector."""
    with live.within("interlock-system").forwarded("deployment/interlock-audit", 7420) as url:
        yield url
