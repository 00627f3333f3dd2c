"""From a placement to its children, and from children and what is there to the writes that are owed."""

from collections.abc import Mapping
from dataclasses import dataclass

from interlock.deployment.agent_config import build_agent_config
from interlock.deployment.bundle import build_bundle
from interlock.deployment.child import ChildKey, Manifest, key_of
from interlock.deployment.drift import has_drifted
from interlock.deployment.guard_service import build_services_between
from interlock.deployment.lease import build_lease
from interlock.deployment.network import build_network_policies
from interlock.deployment.placement import Placement
from interlock.deployment.rbac import build_guard_role, build_guard_role_binding
from interlock.deployment.service_account import build_service_account
from interlock.deployment.services import build_service
from interlock.deployment.workload import build_workloads

WORKLOAD = "Deployment"
GRANT = "RoleBinding"


@dataclass(frozen=True)
class LiveChild:
    """A child as it is at the API server.

    Attributes:
        manifest: The object, without managedFields.
        is_touched: Somebody else owns fields of it (see `ownership.has_foreign_fields`).
    """

    manifest: Manifest
    is_touched: bool = False


@dataclass(frozen=True)
class Plan:
    """The writes that are owed. Nothing in it: nothing to do.

    Attributes:
        prepare: To be applied before any pod may start, in any order.
        grants: To be applied once all of `prepare` stands: who may not bind just any Role is refused the binding to
            one that is not there yet.
        workloads: To be applied once all of `grants` stands.
        prune: To be deleted, workloads first.
    """

    prepare: tuple[Manifest, ...] = ()
    grants: tuple[Manifest, ...] = ()
    workloads: tuple[Manifest, ...] = ()
    prune: tuple[ChildKey, ...] = ()

    @property
    def is_empty(self) -> bool:
        """No write is owed."""
        return not (self.prepare or self.grants or self.workloads or self.prune)


def desired_children(placement: Placement) -> tuple[Manifest, ...]:
    """Return every child that a placement wants; an agent's own pods only once their guard has an address."""
    return (
        build_service_account(placement.agent),
        build_guard_role(placement),
        build_guard_role_binding(placement),
        build_bundle(placement),
        build_lease(placement),
        build_agent_config(placement),
        *build_network_policies(placement),
        build_service(placement.agent),
        *build_services_between(placement),
        *build_workloads(placement),
    )


def plan_children(desired: tuple[Manifest, ...], live: Mapping[ChildKey, LiveChild]) -> Plan:
    """Return what has to be written so that exactly the desired children stand, as they are desired."""
    owed = [manifest for manifest in desired if _is_owed(manifest, live.get(key_of(manifest)))]
    wanted = {key_of(manifest) for manifest in desired}
    surplus = [key for key in live if key not in wanted]
    return Plan(
        prepare=tuple(manifest for manifest in owed if manifest["kind"] not in (GRANT, WORKLOAD)),
        grants=tuple(manifest for manifest in owed if manifest["kind"] == GRANT),
        workloads=tuple(manifest for manifest in owed if manifest["kind"] == WORKLOAD),
        prune=tuple(sorted(surplus, key=lambda key: (key.kind != WORKLOAD, key))),
    )


def _is_owed(desired: Manifest, live: LiveChild | None) -> bool:
    return live is None or live.is_touched or has_drifted(desired, live.manifest)
