"""The access matrix: agent x source x resource x operation, deny by default."""

from collections.abc import Iterable
from dataclasses import dataclass

from interlock.api.agentpolicy import AgentPolicy
from interlock.api.permissions import Permissions


@dataclass(frozen=True)
class MatrixCell:
    """What a policy's matrix gives one agent on one source.

    Attributes:
        rule: Where it says so, such as `agentpolicy/support/dataAccess[0]`.
        permissions: The resources by operation; `*` may stand in `read`.
    """

    rule: str
    permissions: Permissions


def matrix_cell(policy: AgentPolicy, agent: str, source: str) -> MatrixCell | None:
    """Return what the policy gives this agent on this source, or None where it has no row.

    Several rows may speak of the same agent and source; they add up.
    """
    rows = [
        (index, row)
        for index, row in enumerate(policy.spec.data_access)
        if row.source == source and agent in row.agents
    ]
    if not rows:
        return None
    indexes = ",".join(str(index) for index, _ in rows)
    return MatrixCell(
        rule=f"agentpolicy/{policy.metadata.name}/dataAccess[{indexes}]",
        permissions=Permissions(
            read=_union(row.read for _, row in rows),
            write=_union(row.write for _, row in rows),
            delete=_union(row.delete for _, row in rows),
        ),
    )


def _union(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(resource for resources in lists for resource in resources))
