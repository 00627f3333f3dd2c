"""The identity of a placement's stdio servers at a cloud: what it adds to the account and the pod of the guard.

The servers share the guard's pod, so all of them have the identity. The guard and the launcher do not: the webhooks of
AWS and Azure leave them out. Google's way is the metadata server, which answers every container of the pod.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from interlock.api.agent import Agent
from interlock.api.cloud_identity import CloudIdentity
from interlock.api.pod_policy import PodFeature
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import Refusal
from interlock.api.shared_types import ObjectMeta
from interlock.api.status import AgentReason
from interlock.deployment.placement import MetadataServer, Placement
from interlock_contract.names import AWS_ROLE, AZURE_CLIENT, GOOGLE_ACCOUNT
from interlock_contract.pod import GUARD_CONTAINER, LAUNCHER_CONTAINER

_OURS: Final = (GUARD_CONTAINER, LAUNCHER_CONTAINER)
METADATA_SERVER: Final = "169.254.169.254"
_METADATA_RULES: Final[list[dict[str, Any]]] = [
    # With network policies of the kernel's own (Dataplane V2), pods are seen to call the address itself.
    {
        "to": [{"ipBlock": {"cidr": f"{METADATA_SERVER}/32"}}],
        "ports": [{"port": 80, "protocol": "TCP"}],
    },
    # With those of Calico, they are seen to call the server on their node.
    {
        "to": [{"ipBlock": {"cidr": "169.254.169.252/32"}}],
        "ports": [{"port": 988, "protocol": "TCP"}],
    },
]
"""As Google documents them for "Workload Identity Federation for GKE", network policy."""


def identity_of(placement: Placement) -> CloudIdentity | None:
    """Return the identity of a placement's servers; None in a shared pod, which would give it to the agent, too.

    None as well for one of Google where no metadata server is allowed.
    """
    has_stdio = any(bound.binding.spec.server.stdio is not None for bound in placement.sources)
    is_allowed = PodFeature.CLOUD_IDENTITY in placement.policy.spec.pod_template.allowed
    if not placement.is_separate or not has_stdio or not is_allowed:
        return None
    found = first_identity(placement.policy.spec.cloud_identity, placement.agent.metadata, placement.stage.environment)
    return None if found is None or _lacks_metadata_server(found, placement.metadata_server) else found


def check_metadata_server(agent: Agent, policy: AgentPolicy, allowed: MetadataServer) -> Refusal | None:
    """Return why an agent's servers cannot have the identity that its policy gives them; None if they can.

    The address of Google's metadata server is that of the node's metadata service on other platforms, where servers
    would get the identity of the node.

    Args:
        agent: The Agent.
        policy: Its policy.
        allowed: Whose metadata server the installation allows.
    """
    if PodFeature.CLOUD_IDENTITY not in policy.spec.pod_template.allowed:
        return None
    for environment in dict.fromkeys(stage.environment for stage in agent.spec.stages):
        row = first_identity(policy.spec.cloud_identity, agent.metadata, environment)
        if row is None or policy.spec.isolation_in(environment) != "Separate":
            continue
        if _lacks_metadata_server(row, allowed):
            return Refusal(
                AgentReason.METADATA_SERVER_CLOSED,
                f"cloudIdentity {row.name} of AgentPolicy {policy.metadata.name} has {GOOGLE_ACCOUNT} for "
                f"{environment}, and the operator allows no metadata server, which would give servers the identity of "
                "their node outside of GKE; on GKE with Workload Identity Federation, set "
                "INTERLOCK_METADATA_SERVER=GKE for the operator, elsewhere remove the row",
            )
    return None


def _lacks_metadata_server(identity: CloudIdentity, allowed: MetadataServer) -> bool:
    return GOOGLE_ACCOUNT in identity.annotations and allowed != "GKE"


def first_identity(rows: Iterable[CloudIdentity], agent: ObjectMeta, environment: str) -> CloudIdentity | None:
    """Return the first row that applies to an agent in an environment."""
    return next(identities(rows, agent, environment), None)


def identities(rows: Iterable[CloudIdentity], agent: ObjectMeta, environment: str) -> Iterator[CloudIdentity]:
    """Yield the rows that apply to an agent in an environment."""
    return (row for row in rows if row.applies_to(agent) and (not row.environments or environment in row.environments))


def reviewed_identities(
    rows: Iterable[CloudIdentity], agent: ObjectMeta, environments: Iterable[str]
) -> tuple[CloudIdentity, ...]:
    """Return the identities of an agent as its revision has them: one row for each of its environments.

    Args:
        rows: The rows of the policy.
        agent: The agent.
        environments: The environments of its stages.
    """
    known = tuple(rows)
    found = ((environment, first_identity(known, agent, environment)) for environment in sorted(environments))
    return tuple(_row_for(agent, environment, row) for environment, row in found if row is not None)


def narrowed_identities(
    reviewed: tuple[CloudIdentity, ...],
    today: tuple[CloudIdentity, ...],
    agent: ObjectMeta,
    labelled: ObjectMeta,
    environments: Iterable[str],
) -> tuple[CloudIdentity, ...]:
    """Return today's rows with the identities that the revision was reviewed with, as far as a row has them today.

    One that is replaced is removed, too: otherwise, a rollback would bring back an identity that no row names. To
    change an identity without a gap, the former row stays after the new one until the revisions that use it are gone.

    Args:
        reviewed: The rows of the revision.
        today: The rows of the policy.
        agent: The agent with the labels of its revision.
        labelled: The agent with today's labels.
        environments: The environments of its stages.
    """
    held: list[CloudIdentity] = []
    is_same = True
    for environment in sorted(environments):
        before = first_identity(reviewed, agent, environment)
        named = (_annotations(one) for one in identities(today, labelled, environment))
        row = before if before is not None and _annotations(before) in named else None
        now = first_identity(today, agent, environment)
        is_same = is_same and _annotations(row) == _annotations(now)
        held += [] if row is None else [_row_for(agent, environment, row)]
    if is_same:
        return today
    return (*(row for row in today if not row.applies_to(agent)), *held)


def _row_for(agent: ObjectMeta, environment: str, row: CloudIdentity) -> CloudIdentity:
    return row.model_copy(update={"agents": (agent.name,), "agent_selector": None, "environments": (environment,)})


def _annotations(row: CloudIdentity | None) -> dict[str, str]:
    return {} if row is None else dict(row.annotations)


def account_annotations(placement: Placement) -> dict[str, str]:
    """Return the annotations of the guards' ServiceAccount."""
    identity = identity_of(placement)
    return {} if identity is None else dict(identity.annotations)


def pod_metadata(placement: Placement) -> tuple[dict[str, str], dict[str, str]]:
    """Return the labels and annotations of the guard's pod by which webhooks find it and leave our containers out."""
    annotations = account_annotations(placement)
    if AWS_ROLE in annotations:
        return {}, {"eks.amazonaws.com/skip-containers": ",".join(_OURS)}
    if AZURE_CLIENT in annotations:
        skipped = {"azure.workload.identity/skip-containers": ";".join(_OURS)}
        return {"azure.workload.identity/use": "true"}, skipped
    return {}, {}


def metadata_rules(placement: Placement) -> list[dict[str, Any]]:
    """Return the egress to the metadata server, where that is the platform's way to give a pod its identity."""
    return _METADATA_RULES if GOOGLE_ACCOUNT in account_annotations(placement) else []
