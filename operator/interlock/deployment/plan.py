"""The write plan: the children that a placement needs, compared with the live ones.

`desired_children` builds the manifests, `has_drifted` compares one with the live object, and `plan_children` returns
the pending writes in the order in which they must happen. A live object is also compared with what our last write left
(`ownership.content_digest`): that finds additions, which no manifest names.
"""

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from interlock.api.quantities import parse_quantity
from interlock.deployment.children.config import build_agent_config, build_agent_secret, build_bundle
from interlock.deployment.children.config_maps import build_config_map_copies
from interlock.deployment.children.disruption import build_disruption_budgets
from interlock.deployment.children.identity import (
    build_guard_role,
    build_guard_role_binding,
    build_lease,
    build_service_accounts,
)
from interlock.deployment.children.network import build_closed_policy, build_network_policies
from interlock.deployment.children.services import (
    build_internal_services,
    build_public_service,
    build_stage_services,
    build_task_service,
)
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.names import ChildKey, Manifest, bundle_text, key_of
from interlock.deployment.openings import withdraws
from interlock.deployment.ownership import AppliedObject, AppliedObjects, content_digest, unwanted_annotations
from interlock.deployment.placement import Placement
from interlock.deployment.switch_over import serves_less

_METADATA = "metadata"
_IGNORED = ("apiVersion", "kind", _METADATA)
_QUANTITIES = ("requests", "limits")
_SELECTOR = "selector"
"""A selector with one more label selects others, so it is compared as a whole."""


def has_drifted(desired: Manifest, live: Manifest) -> bool:
    """Return True if a desired value is missing from the live object or differs in it."""
    return drifted_member(desired, live) is not None


def differs(desired: Any, live: Any) -> bool:
    """Return True if a part of a live object lacks a desired value, or has it otherwise."""
    return _difference(desired, live) is not None


def drifted_member(desired: Manifest, live: Manifest) -> str | None:
    """Return the path of the first desired value that the live object lacks or has otherwise, None where there is none.

    An example: `spec.template.spec.containers[0].image`.
    """
    found = _metadata_difference(desired[_METADATA], live[_METADATA])
    if found is None:
        found = _member_difference({name: value for name, value in desired.items() if name not in _IGNORED}, live)
    return None if found is None else found.removeprefix(".")


def _metadata_difference(desired: dict[str, Any], live: dict[str, Any]) -> str | None:
    """Compare our labels, annotations and owner. Other metadata belongs to other tools."""
    found = _member_difference({name: desired.get(name, {}) for name in ("labels", "annotations")}, live)
    if found is None:
        found = next((f".annotations.{key}" for key in unwanted_annotations(desired, live)), None)
    if found is None and any(owner not in live.get("ownerReferences", []) for owner in desired["ownerReferences"]):
        found = ".ownerReferences"
    return None if found is None else f".{_METADATA}{found}"


def _member_difference(desired: dict[str, Any], live: dict[str, Any]) -> str | None:
    for name, value in desired.items():
        if name == _SELECTOR and value != live.get(name):
            return f".{name}"
        if name in _QUANTITIES and isinstance(value, dict) and isinstance(live.get(name), dict):
            found = _amount_difference(value, live[name])
        else:
            found = _difference(value, live.get(name))
        if found is not None:
            return f".{name}{found}"
    return None


def _difference(desired: Any, live: Any) -> str | None:
    if live is None:
        # The API server leaves out empty values.
        return "" if desired not in ("", [], {}, None) else None
    if isinstance(desired, dict):
        return _member_difference(desired, live) if isinstance(live, dict) else ""
    if isinstance(desired, list):
        if not isinstance(live, list) or len(desired) != len(live):
            return ""
        for index, (wanted, found) in enumerate(zip(desired, live, strict=True)):
            if (difference := _difference(wanted, found)) is not None:
                return f"[{index}]{difference}"
        return None
    return "" if desired != live else None


def _amount_difference(desired: dict[str, Any], live: dict[str, Any]) -> str | None:
    """Compare requests or limits as amounts, name by name."""
    return next((f".{name}" for name, value in desired.items() if _normal(value) != _normal(live.get(name))), None)


def _normal(value: Any) -> Decimal | Any:
    """Return a quantity as its amount: the API server rewrites `1000m` to `1`."""
    try:
        return parse_quantity(value)
    except ValueError:
        return value


WORKLOAD = "Deployment"
JOB = "Job"
SECRET = "Secret"  # noqa: S105 - a kind
"""The one kind of children that the operator does not read."""
GRANT = "RoleBinding"
NETWORK = "NetworkPolicy"
ACCOUNT = "ServiceAccount"
OUTLIVES_PODS = frozenset((NETWORK, GRANT, "Role", ACCOUNT, "Lease"))
"""Kinds that stay until the pods of their placement are gone: the network of a process that still runs stays closed,
and a guard settles what it has spent, and reports. The bundle goes with the Deployment: no guard obeys it any longer.
"""
ENFORCEMENT_BOUND = timedelta(seconds=10)
"""How long pods may run while an object that enforcement rests on cannot be restored."""


@dataclass(frozen=True)
class LiveChild:
    """A child as the API server has it.

    Attributes:
        manifest: The object, without managedFields.
    """

    manifest: Manifest


@dataclass(frozen=True)
class WritePlan:
    """The pending writes.

    Attributes:
        prepare: Manifests to apply before any pod may start, in any order.
        shrink: Bundles that leave work to other placements, to apply after all of `prepare`, where these gain it.
        grants: RoleBindings to apply after all of `prepare`. The API server refuses a RoleBinding to a missing Role.
        workloads: Deployments to apply after all of `grants`, then Jobs to create.
        missing: The keys of manifests that have no live object, so that they are created.
        others_content: The keys of manifests whose content another program writes. They are created, and from then on
            only their metadata is repaired.
        prune: Children to delete, Deployments first. Those of `OUTLIVES_PODS` are deleted after their pods.
        held: Deployments whose write would start pods, which nothing may do at the moment.
        ending: Those of `workloads` whose pods are deleted before they are written, with the grace period of a kill:
            their controller would give them that of their template. They are scaled to zero, or others gave their pods
            a longer period.
    """

    prepare: tuple[Manifest, ...] = ()
    shrink: tuple[Manifest, ...] = ()
    grants: tuple[Manifest, ...] = ()
    workloads: tuple[Manifest, ...] = ()
    missing: frozenset[ChildKey] = frozenset()
    others_content: frozenset[ChildKey] = frozenset()
    prune: tuple[ChildKey, ...] = ()
    held: tuple[ChildKey, ...] = ()
    ending: frozenset[ChildKey] = frozenset()

    @property
    def is_empty(self) -> bool:
        """True if no write is pending."""
        return not (self.has_writes or self.prune)

    @property
    def pending(self) -> tuple[Manifest, ...]:
        """All manifests to apply, in their order."""
        return (*self.prepare, *self.shrink, *self.grants, *self.workloads)

    @property
    def has_writes(self) -> bool:
        """True if an object is to be created or replaced."""
        return bool(self.pending)

    @property
    def waits_for_pods(self) -> bool:
        """True if only objects are pending that stay until the pods of their placement are gone."""
        return not self.has_writes and bool(self.prune) and all(key.kind in OUTLIVES_PODS for key in self.prune)


def desired_children(*placements: Placement, public: Placement | None = None) -> tuple[Manifest, ...]:
    """Return every child that an agent needs, each once: those of each placement, and those of the agent as a whole.

    Args:
        placements: The agent's placements, the newest first, with their own names (`peers.named`).
        public: The one that the agent's public Service selects; None for the first one.
    """
    if not placements:
        return ()
    separate = [one for one in placements if one.is_separate]
    return (
        *(manifest for one in placements for manifest in _children_of(one)),
        *([build_closed_policy(separate[0].agent)] if separate else []),
        build_public_service(public or placements[0]),
        *build_stage_services(placements),
    )


def _children_of(placement: Placement) -> tuple[Manifest, ...]:
    """Return every child of one placement. A separate agent's pods wait for the address of their guard."""
    return (
        *build_service_accounts(placement),
        build_guard_role(placement),
        build_guard_role_binding(placement),
        build_bundle(placement),
        build_lease(placement),
        build_agent_config(placement),
        *build_config_map_copies(placement),
        build_agent_secret(placement),
        *build_network_policies(placement),
        *build_internal_services(placement),
        *build_task_service(placement),
        *build_disruption_budgets(placement),
        *build_workloads(placement),
    )


def plan_children(
    desired: tuple[Manifest, ...],
    live: Mapping[ChildKey, LiveChild],
    applied: AppliedObjects,
    *,
    starts_pods: bool = True,
    creates_secrets: bool = False,
    stopped: Container[ChildKey] = (),
    kept: Collection[ChildKey] = (),
) -> WritePlan:
    """Return the writes after which exactly the desired children exist, as they are desired.

    Args:
        desired: The manifests.
        live: The live objects.
        applied: What our last writes left. A live object that is not in there is written once, to know what it must
            stay like.
        starts_pods: Whether new pods may start.
        creates_secrets: Whether to create Secrets that were created before: others may have deleted them.
        stopped: The Deployments without pods because of a kill or an exhausted budget.
        kept: Objects that stay as they are, although they are not desired.
    """

    def needs_write(manifest: Manifest) -> bool:
        if manifest["kind"] == SECRET:
            return creates_secrets or key_of(manifest) not in applied
        if manifest["kind"] == JOB:  # it runs once, so one that exists, or has existed, is never written again
            return key_of(manifest) not in live and key_of(manifest) not in applied
        found = live.get(key_of(manifest))
        return (
            found is None
            or has_drifted(manifest, found.manifest)
            or key_of(manifest) not in applied
            or was_changed(found, applied[key_of(manifest)])
        )

    def is_shrinking(manifest: Manifest) -> bool:
        found = live.get(key_of(manifest))
        return found is not None and serves_less(manifest, found.manifest)

    def must_end(workload: Manifest) -> bool:
        key, found = key_of(workload), live.get(key_of(workload))
        if found is None or _replicas(found) == 0:
            return False
        is_others = key in applied and was_changed(found, applied[key])
        return key in stopped or (is_others and _grace_of(found.manifest) > _grace_of(workload))

    pending = [manifest for manifest in desired if needs_write(manifest)]
    wanted = {key_of(manifest) for manifest in desired}
    # A child that lost its owner or labels is not among the live ones, but its pods may run.
    surplus = (live.keys() | applied.keys()) - wanted - set(kept)
    workloads = [one for one in pending if one["kind"] == WORKLOAD]
    held: list[ChildKey] = []
    ended: list[ChildKey] = []
    if not starts_pods:
        workloads, held, ended = _without_new_pods(workloads, live, applied)
    jobs = [one for one in pending if one["kind"] == JOB and starts_pods]
    return WritePlan(
        prepare=tuple(one for one in pending if one["kind"] not in (GRANT, WORKLOAD, JOB) and not is_shrinking(one)),
        shrink=tuple(filter(is_shrinking, pending)),
        grants=tuple(manifest for manifest in pending if manifest["kind"] == GRANT),
        workloads=(*workloads, *jobs),
        missing=frozenset(key_of(manifest) for manifest in pending if key_of(manifest) not in live),
        others_content=frozenset(map(key_of, jobs)),  # a Job of this name that is not known yet stays as it is
        prune=tuple(sorted(surplus, key=lambda key: (key.kind != WORKLOAD, key))),
        held=tuple(held),
        ending=frozenset((*ended, *(key_of(one) for one in workloads if must_end(one)))),
    )


def _grace_of(workload: Manifest) -> int:
    """Return the grace period of a Deployment's pods; Kubernetes has 30 s for those that state none."""
    pod: dict[str, Any] = workload["spec"].get("template", {}).get("spec", {})
    return int(pod.get("terminationGracePeriodSeconds", 30))


def _replicas(workload: LiveChild) -> int:
    replicas: int = workload.manifest["spec"].get("replicas", 1)
    return replicas


def unrestored(plan: WritePlan, applied: AppliedObjects, written: AppliedObjects) -> tuple[ChildKey, ...]:
    """Return the objects that enforcement rests on, that existed once, and that a failed plan has not written.

    Args:
        plan: The plan.
        applied: What earlier writes left.
        written: What the writes of this plan left.
    """
    keys = (key_of(manifest) for manifest in plan.pending if _enforcement_rests_on(manifest))
    return tuple(key for key in keys if key in applied and key not in written)


def workloads_of(live: Iterable[ChildKey]) -> tuple[ChildKey, ...]:
    """Return the Deployments among some objects."""
    return tuple(key for key in live if key.kind == WORKLOAD)


def _enforcement_rests_on(manifest: Manifest) -> bool:
    return manifest["kind"] in _ENFORCING or bundle_text(manifest) is not None


_ENFORCING = (WORKLOAD, GRANT, "Role", NETWORK)


def was_changed(live: LiveChild, applied: AppliedObject) -> bool:
    """Return True if others changed the content of a live object since our last write."""
    return content_digest(live.manifest) != applied.digest


def _without_new_pods(
    workloads: list[Manifest], live: Mapping[ChildKey, LiveChild], applied: AppliedObjects
) -> tuple[list[Manifest], list[ChildKey], list[ChildKey]]:
    """Return what may be written of Deployments while no pod may start, and the keys of those that are held or end.

    A Deployment that others changed ends, so that it is written without replicas: its pods may be theirs, and new ones
    may not replace them. So does one whose pods were started with more than is open now.
    """
    written, held, ended = [], [], []
    for workload in workloads:
        key, spec = key_of(workload), workload["spec"]
        found = live.get(key)
        replicas = _replicas(found) if found is not None else 0
        if spec["replicas"] == 0:
            written.append(workload)
        elif found is not None and (
            (key in applied and was_changed(found, applied[key])) or withdraws(workload, found.manifest)
        ):
            written.append(workload | {"spec": spec | {"replicas": 0}})
            ended.append(key)
        elif found is not None and spec["replicas"] < replicas and not _differs_otherwise(workload, found.manifest):
            written.append(workload)
        elif found is None or has_drifted(workload, found.manifest):
            held.append(key)
    return written, held, ended


def _differs_otherwise(workload: Manifest, live: Manifest) -> bool:
    """Return True if a Deployment differs from the live one in more than its replicas."""
    same = workload | {"spec": workload["spec"] | {"replicas": live["spec"].get("replicas", 1)}}
    return has_drifted(same, live)
