"""The gates that hold in a stage: the stricter of its own and its policy's. Pure."""

from typing import Final

from interlock.api.agent import Agent
from interlock.api.gates import GateLimits, StageGates
from interlock.api.messages import GATES_UNDERCUT, TASK_GATE_WITHOUT_TASKS
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import parse_duration
from interlock_contract.budget.money import parse_money

_MINIMUMS: Final = ("min_tasks", "min_calls")
_MAXIMUMS: Final = ("max_error_percent", "max_p95_latency", "max_denied_percent", "max_cost_per_task")
_OF_TASKS: Final = ("min_tasks", "max_cost_per_task")
NO_GATES: Final = StageGates()


def find_gates(own: StageGates | None, of_policy: GateLimits | None, *, has_tasks: bool, is_last: bool) -> StageGates:
    """Return the gates that hold in a stage: of each, the stricter of the stage's own and the policy's.

    The policy's gates hold before a stage is entered. In the last stage, after which none follows, they hold only if
    the stage has gates of its own. Gates on tasks of the policy do not hold for an agent that takes none.

    Args:
        own: The stage's own gates.
        of_policy: The policy's gates.
        has_tasks: Whether the agent takes tasks.
        is_last: Whether the stage is the rollout's last.
    """
    limits = of_policy if of_policy is not None and not (is_last and own is None) else GateLimits()
    if own is None and limits == GateLimits():
        return NO_GATES
    found = (own or NO_GATES).model_dump()
    for field, required in limits.model_dump().items():
        if required is not None and (has_tasks or field not in _OF_TASKS):
            given = found[field]
            found[field] = required if given is None or _is_weaker(field, given, required) else given
    if not has_tasks:
        found |= dict.fromkeys(_OF_TASKS)
    return StageGates.model_validate(found)


def gates_of_stages(agent: Agent, policy: AgentPolicy) -> dict[str, StageGates]:
    """Return the gates that hold in each of an agent's stages, by the stage's name."""
    stages, has_tasks = agent.spec.stages, agent.spec.tasks is not None
    return {
        stage.name: find_gates(
            stage.gates, policy.spec.rollout.gates, has_tasks=has_tasks, is_last=index == len(stages) - 1
        )
        for index, stage in enumerate(stages)
    }


def gated_stages(agent: Agent, policy: AgentPolicy) -> frozenset[str]:
    """Return the names of the stages with gates or tests, in which a missing verdict is none."""
    gates = gates_of_stages(agent, policy)
    return frozenset(stage.name for stage in agent.spec.stages if has_gates(gates[stage.name]) or stage.tests)


def has_gates(gates: StageGates) -> bool:
    """Return True if there is anything to judge."""
    return bool(gates.metrics) or any(getattr(gates, field) is not None for field in (*_MINIMUMS, *_MAXIMUMS))


def gate_refusals(
    stage: str, own: StageGates | None, of_policy: GateLimits | None, policy: str, *, has_tasks: bool
) -> list[str]:
    """Return why a stage may not have these gates: they are weaker than the policy's, or need tasks.

    Args:
        stage: Name of the stage.
        own: The stage's own gates.
        of_policy: The policy's gates.
        policy: Name of the policy.
        has_tasks: Whether the agent takes tasks.
    """
    if own is None:
        return []
    given = own.model_dump(by_alias=False)
    refusals = []
    if not has_tasks and any(given[field] is not None for field in _OF_TASKS):
        refusals.append(TASK_GATE_WITHOUT_TASKS.format(stage=stage))
    for field, required in () if of_policy is None else of_policy.model_dump().items():
        if required is not None and given[field] is not None and _is_weaker(field, given[field], required):
            name = GateLimits.model_fields[field].alias or field
            refusals.append(
                GATES_UNDERCUT.format(stage=stage, field=name, value=given[field], required=required, policy=policy)
            )
    return refusals


def _is_weaker(field: str, given: object, required: object) -> bool:
    """Return True if a gate is weaker than the policy's."""
    if field == "on_breach":
        return (given, required) == ("Hold", "Rollback")
    one, other = _size(field, given), _size(field, required)
    return one < other if field in _MINIMUMS else one > other


def _size(field: str, value: object) -> int:
    text = str(value)
    if field == "max_p95_latency":
        return milliseconds(text)
    return parse_money(text) if field == "max_cost_per_task" else int(text)


def milliseconds(latency: str) -> int:
    """Return a limit of latencies in milliseconds."""
    return round(parse_duration(latency).total_seconds() * 1000)
