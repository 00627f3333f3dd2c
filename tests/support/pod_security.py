"""The Pod Security Standard `restricted`, as far as the fields of a pod spec can break it.

Written from https://kubernetes.io/docs/concepts/security/pod-security-standards/ (1.37); the API server of the
integration tests enforces the real one.
"""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
}
HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")
PROFILES = ("RuntimeDefault", "Localhost")


def restricted_violations(pod: Json) -> list[str]:
    """Return what of a pod spec Pod Security `restricted` refuses."""
    return [*_pod(pod), *(found for container in _containers(pod) for found in _container(container, pod))]


def _containers(pod: Json) -> Iterator[Json]:
    for group in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(group, [])


def _pod(pod: Json) -> Iterator[str]:
    yield from (f"{name} is on" for name in HOST_NAMESPACES if pod.get(name))
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is {', '.join(kinds)}"
    security = pod.get("securityContext", {})
    if security.get("sysctls"):
        yield "sysctls are set"
    if security.get("runAsUser") == 0:
        yield "the pod runs as root"


def _container(container: Json, pod: Json) -> Iterator[str]:
    name = container["name"]
    own, shared = container.get("securityContext", {}), pod.get("securityContext", {})
    capabilities = own.get("capabilities", {})
    profile = own.get("seccompProfile", shared.get("seccompProfile", {})).get("type")
    broken = {
        "privileged": own.get("privileged", False),
        "may escalate": own.get("allowPrivilegeEscalation") is not False,
        "keeps capabilities": capabilities.get("drop") != ["ALL"],
        "adds capabilities": bool(set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}),
        "may be root": own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True,
        "runs as root": own.get("runAsUser") == 0,
        "has no seccomp profile": profile not in PROFILES,
        "changes procMount": own.get("procMount", "Default") != "Default",
        "has host ports": any(port.get("hostPort") for port in container.get("ports", [])),
        "probes another host": any(_probed_host(container, probe) for probe in _PROBES),
    }
    yield from (f"{name} {what}" for what, is_broken in broken.items() if is_broken)


_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def _probed_host(container: Json, probe: str) -> bool:
    handler = container.get(probe, {})
    return any(handler.get(kind, {}).get("host") for kind in ("httpGet", "tcpSocket"))
