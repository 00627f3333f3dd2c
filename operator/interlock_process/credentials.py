"""The credentials of a program of the control plane: those of a kubeconfig, or those of its pod."""

import os
from pathlib import Path

from interlock_kube.credentials import ApiCredentials, CredentialsUnavailable, MountedCredentials


def find_credentials(kubeconfig: Path | None) -> ApiCredentials:
    """Return the credentials of the kubeconfig's current context, or without one those of this process' pod.

    Raises:
        CredentialsUnavailable: A kubeconfig is given, and the library that reads kubeconfigs is not installed.
    """
    if kubeconfig is None:
        return MountedCredentials.of_pod(os.environ)
    try:
        from interlock_process.kubeconfig import KubeconfigCredentials  # noqa: PLC0415 - 22 MB that a pod does without
    except ModuleNotFoundError as error:
        raise CredentialsUnavailable(
            f"INTERLOCK_KUBECONFIG={kubeconfig} needs the package kubernetes, which images lack: "
            "pip install 'interlock[kubeconfig]', or unset it to use the ServiceAccount of this pod"
        ) from error
    return KubeconfigCredentials(kubeconfig)
