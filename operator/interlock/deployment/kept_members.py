"""Deployments whose pods stay as they are, since it cannot be read where they must run today, or with which resources.

Such fields take effect immediately, and no revision has them. So while one of them cannot be read, only the live
Deployments know the last value that could.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from interlock.deployment.children.scheduling import scheduling_digest
from interlock.deployment.names import ChildKey, Manifest, key_of
from interlock.deployment.plan import WORKLOAD, LiveChild
from interlock_contract.names import SCHEDULING_DIGEST
from interlock_contract.pod import EGRESS_CHECK_CONTAINER, GUARD_CONTAINER, LAUNCHER_CONTAINER

_OWN: Final = frozenset((GUARD_CONTAINER, LAUNCHER_CONTAINER, EGRESS_CHECK_CONTAINER))
"""Interlock's own containers in the pods of agents."""


def keep_members(
    desired: Iterable[Manifest],
    live: Mapping[ChildKey, LiveChild],
    members: Collection[str],
    *,
    own_resources: bool = False,
) -> tuple[Manifest, ...]:
    """Return manifests whose Deployments have some members of the pod's spec as the live Deployments have them.

    A Deployment that does not exist is left out: its pods would start where no one wants them, or with too little.

    Args:
        desired: The manifests.
        live: The live objects.
        members: The members of a pod's spec, such as `affinity`; none of them if all can be read.
        own_resources: Whether Interlock's own containers have the resources of the live ones.
    """
    if not members and not own_resources:
        return tuple(desired)
    return tuple(_kept(desired, live, members, own_resources=own_resources))


def _kept(
    desired: Iterable[Manifest], live: Mapping[ChildKey, LiveChild], members: Collection[str], *, own_resources: bool
) -> Iterator[Manifest]:
    for manifest in desired:
        found = live.get(key_of(manifest))
        if manifest["kind"] != WORKLOAD:
            yield manifest
        elif found is not None:
            yield _with_live_members(manifest, found.manifest, members, own_resources=own_resources)


def _with_live_members(
    manifest: Manifest, live: Manifest, members: Collection[str], *, own_resources: bool
) -> Manifest:
    spec = manifest["spec"]
    template, running = spec["template"], live["spec"]["template"]["spec"]
    pod = {name: value for name, value in template["spec"].items() if name not in members}
    pod |= {name: running[name] for name in sorted(members) if name in running}
    pod |= _with_live_resources(pod, running) if own_resources else {}
    metadata = manifest["metadata"]
    notes = metadata.get("annotations", {}) | {SCHEDULING_DIGEST: scheduling_digest(pod)}
    return {
        **manifest,
        "metadata": {**metadata, "annotations": notes},
        "spec": {**spec, "template": {**template, "spec": pod}},
    }


def _with_live_resources(pod: Mapping[str, Any], running: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lists of containers of a pod in which Interlock's own have the resources of the running ones."""
    lists = [name for name in ("initContainers", "containers") if name in pod]
    known = {one["name"]: one.get("resources") or {} for name in lists for one in running.get(name) or ()}
    return {
        name: [
            one | {"resources": known[one["name"]]} if one["name"] in _OWN & known.keys() else one for one in pod[name]
        ]
        for name in lists
    }
