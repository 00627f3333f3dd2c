"""Deployments whose pods stay where they run, since it cannot be read where they must run today.

Fields that say where pods run take effect immediately, and no revision has them. So while one of them cannot be read,
only the live Deployments know the last value that could.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from interlock.deployment.children.scheduling import scheduling_digest
from interlock.deployment.names import ChildKey, Manifest, key_of
from interlock.deployment.plan import WORKLOAD, LiveChild
from interlock_contract.names import SCHEDULING_DIGEST


def keep_scheduling(
    desired: Iterable[Manifest], live: Mapping[ChildKey, LiveChild], members: Collection[str]
) -> tuple[Manifest, ...]:
    """Return manifests whose Deployments have some members of the pod's spec as the live Deployments have them.

    A Deployment that does not exist is left out: its pods would start where no one wants them.

    Args:
        desired: The manifests.
        live: The live objects.
        members: The members of a pod's spec, such as `affinity`; none of them if all can be read.
    """
    return tuple(_kept(desired, live, members)) if members else tuple(desired)


def _kept(
    desired: Iterable[Manifest], live: Mapping[ChildKey, LiveChild], members: Collection[str]
) -> Iterator[Manifest]:
    for manifest in desired:
        found = live.get(key_of(manifest))
        if manifest["kind"] != WORKLOAD:
            yield manifest
        elif found is not None:
            yield _with_live_members(manifest, found.manifest, members)


def _with_live_members(manifest: Manifest, live: Manifest, members: Collection[str]) -> Manifest:
    spec = manifest["spec"]
    template, running = spec["template"], live["spec"]["template"]["spec"]
    pod = {name: value for name, value in template["spec"].items() if name not in members}
    pod |= {name: running[name] for name in sorted(members) if name in running}
    metadata = manifest["metadata"]
    notes = metadata.get("annotations", {}) | {SCHEDULING_DIGEST: scheduling_digest(pod)}
    return {
        **manifest,
        "metadata": {**metadata, "annotations": notes},
        "spec": {**spec, "template": {**template, "spec": pod}},
    }
