"""The effective permissions under an AgentPolicy, computed by the function that guards decide with.

This is the one module that imports the guard's decision: a second implementation could give other answers.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any, Final, get_args

from msgspec.structs import replace
from pydantic import ValidationError

from interlock.action.audit_mode import audited_sources
from interlock.api.agent import Agent, Stage
from interlock.api.binding import MCPBinding
from interlock.api.policy import MAX_ROW_RESOURCES, MAX_ROWS, AccessRow, AgentPolicy, AgentPolicyStatus
from interlock.deployment.children.config import compile_bundle
from interlock.deployment.placement import Placement, bound_sources
from interlock.governance.access_matrix import matrix_cell
from interlock.reconcile.snapshot import sources_in
from interlock_contract.bundle import Bundle, BundleResource, BundleSource, BundleTool, Operation, Pin
from interlock_guard.decision import TOOLS_CALL, DecisionInput, Deny, State, decide

MAX_CELLS = 2048
"""Most cells in a policy's status. With this many the status stays below half a MiB, however long the names are."""

_MAX_AGENTS_BYTES: Final = 8 * 1024 * 1024
"""Most bytes of Agents that are read for one table. Further ones are counted as omitted."""
_ANY = "0" * 64
"""The digest of every tool here: whether a tool is the verified one is checked at each call, not in this table."""

_OPERATIONS: tuple[Operation, ...] = get_args(Operation)


@dataclass(frozen=True)
class AgentAccess:
    """The objects that decide about an agent's access, besides the agent itself.

    Attributes:
        policy: Its AgentPolicy.
        bindings: The MCPBindings of its namespace.
        stricter: The environments that another policy of its namespace holds to a stricter class.
    """

    policy: AgentPolicy
    bindings: tuple[MCPBinding, ...]
    stricter: frozenset[str] = frozenset()

    def tables_of(self, agent: Agent) -> tuple["AccessTable", ...]:
        """Return the tables of one agent: one for each of its sources in each environment of its stages.

        One stage represents all stages of an environment: they differ in scope only, which the tables leave out.
        """
        stages = {stage.environment: stage for stage in reversed(agent.spec.stages)}
        tables: list[AccessTable] = []
        for environment in sorted(stages, key=lambda one: (self.policy.spec.class_of(one).rank, one)):
            bundle = self._compile(agent, stages[environment])
            tables += [
                AccessTable(bundle, use.source, self._resources(agent, bundle, use.source))
                for use in agent.spec.bindings
            ]
        return tuple(tables)

    def rows_of(self, agent: Agent) -> tuple[AccessRow, ...]:
        """Return the rows of all tables of one agent."""
        return tuple(row for table in self.tables_of(agent) for row in table.rows())

    def _compile(self, agent: Agent, stage: Stage) -> Bundle:
        return compile_bundle(
            Placement(
                agent=agent,
                policy=self.policy,
                stage=stage,
                revision="",  # no decision depends on it
                sources=bound_sources(agent, self.bindings, stage.environment),
                audited=audited_sources(agent, self.policy, self.bindings, stage.environment, self.stricter),
                replicas=agent.spec.replicas,
                guard_image="",
            )
        )

    def _resources(self, agent: Agent, bundle: Bundle, source: str) -> tuple[str, ...]:
        """Return every data type of the source that the MCPBinding, the access matrix or the agent names."""
        served = next((found for found in bundle.sources if found.name == source), None)
        named = _named_by(served) if served else set()
        cell = matrix_cell(self.policy, agent.metadata, source)
        narrowed = [use.permissions for use in agent.spec.bindings if use.source == source]
        for given in (cell.permissions if cell else None, *narrowed):
            if given is not None:
                named.update(given.read, given.write, given.delete)
        return tuple(sorted(named - {"*"}))


@dataclass(frozen=True)
class AccessTable:
    """The table of one source of one bundle: every operation on each data type that any object names.

    Attributes:
        bundle: The bundle.
        source: The source.
        resources: The data types of its rows.
    """

    bundle: Bundle
    source: str
    resources: tuple[str, ...]

    @property
    def cells(self) -> int:
        """How many answers the table has."""
        return len(_OPERATIONS) * len(self.resources)

    def rows(self) -> tuple[AccessRow, ...]:
        """Return the answers, with equal ones in one row."""
        return tuple(_together(self._answers()))

    def _answers(self) -> Iterator[AccessRow]:
        """Yield the decision for each cell.

        The bundle of each decision maps one tool to the cell, so that a table costs as many steps as it has cells.
        """
        state = State(agent_uid=self.bundle.agent.uid, contact_at=0.0)
        served = tuple(found for found in self.bundle.sources if found.name == self.source)
        for operation, resource in product(_OPERATIONS, self.resources):
            probe = BundleTool(f"{operation}/{resource}", operation, resource)
            probed = replace(
                self.bundle,
                scope=(),  # a stage's scope is checked at each call
                sources=tuple(replace(found, tools=(probe,), pins=(Pin(probe.name, _ANY),)) for found in served),
            )
            call = DecisionInput(self.source, TOOLS_CALL, probe.name, {}, definition=_ANY)
            decision = decide(probed, state, call, 0.0)
            denial = decision if isinstance(decision, Deny) else decision.would_deny
            yield AccessRow(
                agent=probed.agent.name,
                source=self.source,
                environment=self.bundle.environment,
                operation=operation,
                resources=(resource,),
                decision="Deny" if isinstance(decision, Deny) else "Allow" if denial is None else "WouldDeny",
                reason="" if denial is None else denial.reason.value,
                rule=decision.rule if denial is None else denial.rule,
            )


def build_policy_status(access: AgentAccess, agents: Iterator[Agent | None], count: int) -> AgentPolicyStatus:
    """Return a policy's status: the effective permissions of the agents under it, as far as there is room.

    Args:
        access: The policy, and the bindings of its namespace.
        agents: The agents under it in the order of their names, None for one that cannot be read. They are taken one
            by one, and no further than there is room.
        count: The number of agents under it.
    """
    rows: tuple[AccessRow, ...] = ()
    cells = shown = 0
    for agent in agents:
        tables = access.tables_of(agent) if agent is not None else ()
        cells += sum(table.cells for table in tables)
        if cells > MAX_CELLS:  # counted before any cell is decided, since rows that add up name thousands
            break
        more = tuple(row for table in tables for row in table.rows())
        if len(rows) + len(more) > MAX_ROWS:
            break
        rows += more
        shown += 1
    return AgentPolicyStatus(
        observed_generation=access.policy.metadata.generation, access=rows, agents_omitted=count - shown
    )


def build_access_request(
    policy: AgentPolicy,
    bindings: Iterable[MCPBinding],
    agents: Iterable[Mapping[str, Any] | None],
    count: int,
    stricter: frozenset[str] = frozenset(),
) -> bytes:
    """Return the input of `answer_policy`.

    Args:
        policy: The policy.
        bindings: The MCPBindings of its namespace.
        agents: The agents under it in the order of their names, as the API server gave them. They are taken one by one.
        count: The number of agents under it.
        stricter: The environments that another policy of its namespace holds to a stricter class.
    """
    sources: set[str] = set()
    texts: list[str] = []
    size = rows = 0
    for agent in agents:
        found = agent or {}
        uses = sources_in(found)
        # An agent has a row for each of its sources at least, so that no more than so many have room.
        rows += len(uses)
        if rows > MAX_ROWS or size > _MAX_AGENTS_BYTES:
            break
        is_there = agent is not None and not found["metadata"].get("deletionTimestamp")
        texts.append(json.dumps({**found, "status": None}) if is_there else "null")
        size += len(texts[-1])
        sources.update(uses)
    served = [
        one.model_copy(update={"status": None}).model_dump_json(by_alias=True, exclude_none=True)
        for one in bindings
        if one.spec.source in sources
    ]
    written = policy.model_copy(update={"status": None}).model_dump_json(by_alias=True, exclude_none=True)
    classes = json.dumps(sorted(stricter))
    parts = f'"policy":{written},"bindings":[{",".join(served)}],"agents":[{",".join(texts)}],"stricter":{classes}'
    return f'{{"count":{count},{parts}}}'.encode()


def answer_policy(request: bytes) -> bytes:
    """Return a policy's status as JSON.

    Authors of policies, bindings and agents decide how long that takes: this runs in a worker process.

    Args:
        request: What `build_access_request` returns.
    """
    wanted = json.loads(request)
    bindings = tuple(MCPBinding.model_validate(one) for one in wanted["bindings"])
    access = AgentAccess(AgentPolicy.model_validate(wanted["policy"]), bindings, frozenset(wanted["stricter"]))
    status = build_policy_status(access, map(_read_agent, wanted["agents"]), wanted["count"])
    return status.model_dump_json(by_alias=True, exclude_none=True).encode()


def _read_agent(raw: Any) -> Agent | None:
    try:
        return Agent.model_validate(raw)
    except ValidationError:
        return None


def _named_by(source: BundleSource) -> set[str]:
    entries: tuple[BundleTool | BundleResource, ...] = (*source.tools, *source.resources, *source.prompts)
    granted = {resource for grant in source.grants for resource in (*grant.read, *grant.write, *grant.delete)}
    return granted | {entry.resource for entry in entries}


def _together(answers: Iterator[AccessRow]) -> Iterator[AccessRow]:
    """Yield the answers by operation, with equal answers in one row."""
    ordered = sorted(answers, key=lambda row: (_OPERATIONS.index(row.operation), *_alike(row), row.resources))
    for _, group in groupby(ordered, key=lambda row: (row.operation, *_alike(row))):
        rows = list(group)
        for start in range(0, len(rows), MAX_ROW_RESOURCES):
            named = tuple(row.resources[0] for row in rows[start : start + MAX_ROW_RESOURCES])
            yield rows[0].model_copy(update={"resources": named})


def _alike(row: AccessRow) -> tuple[str, str, str]:
    return row.decision, row.reason, row.rule
