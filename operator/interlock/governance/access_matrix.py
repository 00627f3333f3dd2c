"""The access matrix: agent x source x resource x operation, deny by default."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import ObjectMeta


class Granted(Protocol):
    """Resources by operation: those of one object, or of several together."""

    @property
    def read(self) -> tuple[str, ...]:
        """Resources that may be read."""

    @property
    def write(self) -> tuple[str, ...]:
        """Resources that may be created or changed."""

    @property
    def delete(self) -> tuple[str, ...]:
        """Resources that may be deleted."""


@dataclass(frozen=True)
class MatrixPermissions:
    """The resources of all rows together, by operation. Unlike those of one row, they have no bound of their number."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()


@dataclass(frozen=True)
class MatrixCell:
    """What a policy's matrix gives one agent on one source.

    Attributes:
        rule: Where it says so, such as `agentpolicy/support/dataAccess[0]`.
        permissions: The resources by operation; `*` may stand in `read`.
    """

    rule: str
    permissions: MatrixPermissions


def matrix_cell(policy: AgentPolicy, agent: ObjectMeta, source: str) -> MatrixCell | None:
    """Return what the policy gives this agent on this source, or None where it has no row.

    Several rows may apply to the same agent and source, by its name or by its labels. They add up.
    """
    rows = [
        (index, row)
        for index, row in enumerate(policy.spec.data_access)
        if row.source == source and row.applies_to(agent)
    ]
    if not rows:
        return None
    indexes = _format_indexes([index for index, _ in rows])
    return MatrixCell(
        rule=f"agentpolicy/{policy.metadata.name}/dataAccess[{indexes}]",
        permissions=MatrixPermissions(
            read=_union(row.read for _, row in rows),
            write=_union(row.write for _, row in rows),
            delete=_union(row.delete for _, row in rows),
        ),
    )


def selected_label_keys(policy: AgentPolicy) -> frozenset[str]:
    """Return the keys of all labels by which a row of the policy selects."""
    selectors = [row.agent_selector for row in policy.spec.data_access]
    selectors += [row.agent_selector for row in policy.spec.egress]
    selectors += [row.agent_selector for row in policy.spec.cloud_identity]
    return frozenset(key for selector in selectors if selector is not None for key in selector.match_labels)


def _union(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(resource for resources in lists for resource in resources))


def _format_indexes(indexes: list[int]) -> str:
    """Return indexes as `0,2,5-9`: all 256 of a policy must fit into the name of a rule."""
    runs: list[list[int]] = []
    for index in indexes:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    longer_than_two = 2
    return ",".join(
        f"{run[0]}-{run[-1]}" if len(run) > longer_than_two else ",".join(str(index) for index in run) for run in runs
    )
