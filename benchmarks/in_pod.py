"""A program of the control plane as its pod starts it, for figures of memory.

The program reads the token and the certificate of its ServiceAccount where the kubelet mounts them, and cannot import
what its image lacks: kopf loads the official client wherever that is installed, 22 MB that no pod has.
"""

import subprocess
import sys
from pathlib import Path

from interlock_contract.names import OPERATOR_NAMESPACE
from tests.integration.operator.api import Access
from tests.support.operator_process import OperatorProcess
from tools.cluster.kwok import KwokCluster

ROOT = Path(__file__).parents[1]
SERVICE_ACCOUNT = "interlock"
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{SERVICE_ACCOUNT}"
MOUNTED = "/run/secrets/kubernetes.io/serviceaccount"
START = """
import runpy, sys
sys.modules["kubernetes"] = None
runpy.run_module("interlock", run_name="__main__", alter_sys=True)
"""
MOUNT = f'mount -t tmpfs none /run && mkdir -p {MOUNTED} && cp "$0"/* {MOUNTED} && exec "$@"'


def operator_in_pod(cluster: KwokCluster, folder: Path, log: Path) -> OperatorProcess:
    """Return the operator's process with the operator's own rights, not started.

    Args:
        cluster: Has the CRDs and the operator's namespace.
        folder: Gets the files that the kubelet mounts in a pod.
        log: Gets what the operator logs.
    """
    kubectl = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig)]
    for command in (
        ("create", "serviceaccount", SERVICE_ACCOUNT, "--namespace", OPERATOR_NAMESPACE),
        ("apply", "-f", "manifests/base/rbac.yaml"),
    ):
        subprocess.run([*kubectl, *command], cwd=ROOT, check=True, timeout=60, stdout=subprocess.DEVNULL)
    token = [*kubectl, "create", "token", SERVICE_ACCOUNT, "--namespace", OPERATOR_NAMESPACE, "--duration", "1h"]
    access = Access.of(cluster.kubeconfig)
    folder.mkdir(exist_ok=True)
    (folder / "token").write_bytes(subprocess.run(token, check=True, timeout=60, stdout=subprocess.PIPE).stdout)
    (folder / "ca.crt").write_bytes(Path(access.authority).read_bytes())
    environment = {"KUBERNETES_SERVICE_HOST": access.host, "KUBERNETES_SERVICE_PORT": str(access.port)}
    unshare = ("unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT, str(folder))
    return OperatorProcess(None, log, environment, (*unshare, sys.executable, "-c", START))
