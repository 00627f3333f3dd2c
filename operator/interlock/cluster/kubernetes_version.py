"""The version of Kubernetes, and what this version lacks of what Interlock uses.

The operator reads the version once, at its start. On a version that is too old it does not start, since the API server
refused rules of the CRDs already. On one that lacks less, it starts and its log names what is missing.
"""

import logging
import re
from dataclasses import dataclass
from typing import Final

from interlock_kube.client import KubeClient

_log = logging.getLogger(__name__)

Minor = tuple[int, int]

MINIMUM: Final[Minor] = (1, 33)
"""The oldest version on which Interlock runs."""

_STAMPS: Final = (
    "MutatingAdmissionPolicies: the API server does not write who killed an agent or changed a spec, so names of "
    "killers are unverified (manifests/admission-1.33 has the other policies)"
)
_SINCE: Final[tuple[tuple[Minor, str], ...]] = (
    ((1, 30), "ValidatingAdmissionPolicies, which protect the objects of agents"),
    ((1, 31), "unhealthyPodEvictionPolicy of PodDisruptionBudgets"),
    ((1, 32), "selectable fields of CRDs"),
    ((1, 33), "native sidecars, ServiceCIDRs, and macros of CEL with two variables in CRDs and admission policies"),
    ((1, 36), _STAMPS),
)
"""What Interlock uses, with the minor that has it as a stable API."""


class KubernetesTooOld(Exception):  # noqa: N818 - it says what the cluster is
    """The API server is older than the oldest supported version."""


@dataclass(frozen=True, slots=True)
class KubernetesVersion:
    """The version of a cluster.

    Attributes:
        name: As the API server calls itself, such as v1.37.2.
        missing: What it lacks of what Interlock uses.
    """

    name: str
    missing: tuple[str, ...]


def missing_before(minor: Minor) -> tuple[str, ...]:
    """Return what a version lacks of what Interlock uses."""
    return tuple(feature for since, feature in _SINCE if minor < since)


async def check_version(client: KubeClient) -> KubernetesVersion:
    """Return the API server's version, and log what it lacks.

    Raises:
        KubernetesTooOld: It is older than 1.33; the message names what is missing.
    """
    found = await client.get("/version")
    minor = int(found["major"]), int(re.match(r"\d+", found["minor"])[0])  # type: ignore[index]
    version = KubernetesVersion(str(found["gitVersion"]), missing_before(minor))
    if minor < MINIMUM:
        raise KubernetesTooOld(
            f"this cluster runs Kubernetes {version.name}, but Interlock needs 1.33 or newer: upgrade the cluster "
            f"first. It lacks {'; '.join(version.missing)}"
        )
    for feature in version.missing:
        _log.warning("Kubernetes lacks a feature", extra={"kubernetes": version.name, "missing": feature})
    return version
