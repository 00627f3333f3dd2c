import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import bounds
from tests.support.offspring import end_with_parent
from tools.cluster import contexts, kwok
from tools.cluster.kwok import KwokCluster, KwokOptions
from tools.machine.process import run
from tools.machine.settings import from_environment

pytestmark = pytest.mark.api

END_SECONDS = 20.0
AUDIT_POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"
OWNER = """
import sys
from tools.cluster import kwok
kwok.create(sys.argv[1], kwok.KwokOptions(nodes=0))
print("up", flush=True)
sys.stdin.read()
"""


def test_a_cluster_is_a_real_api_server_with_a_kubeconfig_of_its_own(kwok_cluster: KwokCluster) -> None:
    kubectl, kubeconfig = kwok_cluster.kubectl, kwok_cluster.kubeconfig
    assert run([kubectl, "--kubeconfig", kubeconfig, "get", "--raw", "/readyz"]) == "ok"
    assert contexts.is_ours(kwok_cluster.context)
    assert kwok_cluster.kubeconfig.stat().st_mode & 0o077 == 0
    assert kwok_cluster.name in kwok.names(kwok_cluster.settings)


def test_options_reach_the_cluster_and_deleting_leaves_nothing(tmp_path: Path) -> None:
    policy = tmp_path / "audit.yaml"
    policy.write_text(AUDIT_POLICY)
    name = f"interlock-options-{os.getpid()}"
    cluster = kwok.create(name, KwokOptions(nodes=3, audit_policy=policy, unlimited_qps=True))
    try:
        nodes = run([cluster.kubectl, "--kubeconfig", cluster.kubeconfig, "get", "nodes", "--output", "name"])
        assert len(nodes.split()) == 3
        assert cluster.audit_log is not None
        assert '"kind":"Event"' in cluster.audit_log.read_text()
    finally:
        cluster.delete()
    assert name not in kwok.names(cluster.settings)
    assert not cluster.kubeconfig.exists()
    _wait_until_ended(name)


def test_the_cluster_of_a_killed_process_is_gone_after_the_next_start() -> None:
    settings = from_environment()
    name = f"interlock-orphan-{os.getpid()}"
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        kwok.delete_stale(settings)
        assert _processes_of(name), "a cluster whose owner lives was deleted"
        owner.kill()
        owner.wait(timeout=10)
    kwok.delete_stale(settings)
    assert name not in kwok.names(settings)
    _wait_until_ended(name)


def _wait_until_ended(name: str) -> None:
    """Wait until a deleted cluster has no process: one that was killed needs a processor to end."""
    bounds.eventually(lambda: not _processes_of(name), lambda: f"none is left: {_processes_of(name)}", END_SECONDS)


def _processes_of(name: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
        except OSError:
            continue
        if f"/clusters/{name}/".encode() in words:
            found.append(entry.parent.name)
    return found
