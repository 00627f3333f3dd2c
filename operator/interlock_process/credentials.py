"""The credentials of a program of the control plane: those of a kubeconfig, or those of its pod."""

import os
from pathlib import Path

from interlock_kube.credentials import ApiCredentials, MountedCredentials


def find_credentials(kubeconfig: Path | None) -> ApiCredentials:
    """Return the credentials of the kubeconfig's current context, or without one those of this process' pod."""
    if kubeconfig is None:
        return MountedCredentials.of_pod(os.environ)
    from interlock_process.kubeconfig import KubeconfigCredentials  # noqa: PLC0415 - 30 MB that a pod does without

    return KubeconfigCredentials(kubeconfig)
