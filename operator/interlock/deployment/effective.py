"""What holds for a revision now: what it was reviewed with, and what Agent, AgentPolicy and MCPBindings say today.

A placement obeys both, whichever is narrower, row by row. So a rollback never widens anything, and what is tightened
holds everywhere at once. A field that is neither narrower nor wider is the reviewed one, and one that takes effect
immediately is today's: the table of `field_classes` says which is which.

    reviewed     today           holds for the revision
    image :1     image :2        image :1             Staged
    read a, b    read b, c       read b               Narrower
    replicas 1   replicas 3      replicas 3           Immediate
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from interlock.action.audit_mode import audited_by_environment, audited_sources
from interlock.api.agent import Agent, Stage
from interlock.api.binding import HttpServer, MCPBinding, MCPBindingSpec, Server
from interlock.api.environments import EnvironmentRules
from interlock.api.loops import LoopPolicy
from interlock.api.policy import AgentPolicy, AgentPolicySpec, DataAccessRow, ModelPolicy, ModelUpstream
from interlock.api.refusals import model_matches
from interlock.api.shared_types import ApiModel
from interlock.api.stdio_server import StdioServer
from interlock.api.verification import PinnedDefinition, PinState
from interlock.deployment.cloud_identity import narrowed_identities
from interlock.deployment.config_maps import NO_CONFIG_MAPS, LiveConfigMaps, keep, select, uses_of
from interlock.deployment.content import Content, Pins, ReviewedBinding, find_upstream, pins_of_binding
from interlock.deployment.egress_narrowing import EgressUses, narrowed_rows
from interlock.deployment.field_classes import child_path, classes_at
from interlock.deployment.field_groups import FieldClass
from interlock.deployment.narrowing import covers_domain, covers_prefix, longer, meet_lists, meet_names, meet_order
from interlock.deployment.tool_maps import MapContext, meet_prompts, meet_resources, meet_tools
from interlock.governance.access_matrix import Granted, matrix_cell, selected_label_keys

_NETWORKS: Final = ("None", "Public", "Private")
_WITHHELD_FIRST: Final[Mapping[str, tuple[str, str]]] = {
    "resourceDescriptions": ("Withheld", "Unreviewed"),
    "instructions": ("Withheld", "Pinned"),
}
Meet = Callable[[Any, Any], Any]
"""Returns the narrower of the reviewed value and today's."""
Meets = Mapping[str, Meet]
"""By the path of a field, or of fields that are narrowed together."""
Model = TypeVar("Model", bound=ApiModel)
ReviewedNames = defaultdict[str, tuple[dict[str, None], dict[str, None], dict[str, None]]]
"""What may be read, written and deleted, by source."""


class Effective(NamedTuple):
    """Agent, policy and bindings as they hold for one revision. Builders of placements take them like today's.

    `audited` has the sources in mode Audit by environment.
    """

    agent: Agent
    policy: AgentPolicy
    bindings: tuple[MCPBinding, ...]
    audited: Mapping[str, frozenset[str]] = MappingProxyType({})


def effective(
    content: Content,
    agent: Agent,
    policy: AgentPolicy,
    bindings: tuple[MCPBinding, ...],
    *,
    stage: Stage | None = None,
    stricter: frozenset[str] = frozenset(),
) -> Effective:
    """Return what holds for a revision.

    Args:
        content: What the revision was reviewed with.
        agent: The Agent today.
        policy: Its policy today.
        bindings: The MCPBindings of its namespace today.
        stage: The stage of the placement, as it was entered. Without it, tools are as strict as in a stage that is
            limited in every dimension.
        stricter: The environments that another policy holds to a stricter class today.
    """
    return _Merge(content, agent, policy, bindings, stage, stricter).result()


def needs_revision(
    content: Content,
    agent: Agent,
    policy: AgentPolicy,
    bindings: tuple[MCPBinding, ...],
    config_maps: LiveConfigMaps = NO_CONFIG_MAPS,
    *,
    stricter: frozenset[str] = frozenset(),
) -> bool:
    """Return True if today's objects say more than, or something else than, what a revision was reviewed with.

    The first revision needs one in any case. Tightening, and a return within what was reviewed, need none. The end of
    mode Audit is an exception: what a revision did until then says nothing about what the policy permits, so another
    one has to pass the stages.

    Args:
        content: What the newest revision was reviewed with.
        agent: The Agent today.
        policy: Its policy today.
        bindings: The MCPBindings of its namespace today.
        config_maps: The ConfigMaps of its namespace today.
        stricter: The environments that another policy holds to a stricter class today.
    """
    labels = agent.metadata.labels
    if any(labels.get(key) != content.labels.get(key) for key in selected_label_keys(policy)):
        return True
    environments = {stage.environment for stage in agent.spec.stages}
    reviewed = {name: sources for name, sources in (content.audited or {}).items() if name in environments}
    if reviewed != audited_by_environment(agent, policy, bindings, stricter):
        return True
    uses = uses_of(agent, bindings)
    if select(uses, content.config_maps) != keep(uses, config_maps):
        return True
    found = effective(content, agent, policy, bindings)
    return (
        found.agent.spec != agent.spec
        or found.policy.spec != policy.spec
        or [_decisive(one) for one in found.bindings] != [_decisive(one) for one in bindings]
    )


def described_digest(
    known: Mapping[str, Content],
    agent: Agent,
    policy: AgentPolicy,
    bindings: tuple[MCPBinding, ...],
    new: Content,
    config_maps: LiveConfigMaps = NO_CONFIG_MAPS,
    *,
    stricter: frozenset[str] = frozenset(),
) -> str:
    """Return the digest of the first known revision that is what the objects of today describe, else of a new one.

    Args:
        known: Contents by their recorded digests, the newest revision first, then those to which a change may return.
        agent: The Agent today.
        policy: Its policy today.
        bindings: The MCPBindings of its namespace today.
        new: What a new revision would be reviewed with.
        config_maps: The ConfigMaps of its namespace today.
        stricter: The environments that another policy holds to a stricter class today.
    """
    fitting = (
        digest
        for digest, one in known.items()
        if not needs_revision(one, agent, policy, bindings, config_maps, stricter=stricter)
    )
    return next(fitting, new.digest)


def _decisive(binding: MCPBinding) -> tuple[str, MCPBindingSpec, Pins | None]:
    is_reviewed = binding.spec.server.stdio is not None
    return binding.metadata.name, binding.spec, pins_of_binding(binding) if is_reviewed else None


def merge(reviewed: Model, today: Model, path: str, meets: Meets) -> Model:
    """Return a part of a spec by the classes of its fields.

    Args:
        reviewed: The reviewed part.
        today: Today's part.
        path: Its path in the table of classes.
        meets: How what is narrower is found. A field of class Narrower without an entry raises a KeyError.
    """
    update: dict[str, Any] = {}
    for name in type(today).model_fields:
        before, now = getattr(reviewed, name), getattr(today, name)
        below = child_path(path, type(today), name)
        merged = _merge_field(before, now, below, meets)
        if merged is not now:
            update[name] = merged
    return today.model_copy(update=update) if update else today


def _merge_field(reviewed: Any, today: Any, path: str, meets: Meets) -> Any:
    classes = classes_at(path)
    if path in meets:
        return meets[path](reviewed, today)
    if classes <= {FieldClass.IMMEDIATE, FieldClass.ROLLOUT}:
        return today
    if classes == {FieldClass.STAGED}:
        return today if reviewed == today else reviewed
    if classes == {FieldClass.NARROWER} and not isinstance(today, ApiModel):
        raise KeyError(path)
    # Whether there is such a part at all goes through the stages.
    return reviewed if reviewed is None or today is None else merge(reviewed, today, path, meets)


@dataclass(frozen=True)
class _Merge:
    """The computation for one revision; see `effective`."""

    content: Content
    agent: Agent
    policy: AgentPolicy
    bindings: tuple[MCPBinding, ...]
    stage: Stage | None
    stricter: frozenset[str]

    def result(self) -> Effective:
        spec = merge(self.content.agent, self.agent.spec, "Agent.spec", {})
        metadata = self.agent.metadata.model_copy(update={"labels": dict(self.content.labels)})
        agent = self.agent.model_copy(update={"spec": spec, "metadata": metadata})
        policy = self.policy.model_copy(update={"spec": self._policy_spec(agent)})
        merged = (self._binding(one, agent, policy) for one in self.bindings)
        return Effective(agent, policy, tuple(one for one in merged if one is not None), self._audited())

    def _audited(self) -> dict[str, frozenset[str]]:
        """Return the sources that are in mode Audit today and were when the revision began, by environment."""
        reviewed = self.content.audited or {}
        return {
            name: audited_sources(self.agent, self.policy, self.bindings, name, self.stricter) & set(reviewed[name])
            for name in self._relevant_environments()
            if name in reviewed
        }

    def _policy_spec(self, agent: Agent) -> AgentPolicySpec:
        reviewed = self._reviewed_names()
        meets: dict[str, Meet] = {
            "AgentPolicy.spec.dataAccess[]": lambda _, rows: tuple(self._row(row, agent, reviewed) for row in rows),
            "AgentPolicy.spec.environments[]": lambda _, rules: self._environments(rules),
            "AgentPolicy.spec.models": self._models,
            "AgentPolicy.spec.loops": _meet_loops,
            "AgentPolicy.spec.egress[]": lambda before, rows: narrowed_rows(
                before,
                rows,
                agent.metadata,
                self.agent.metadata,
                EgressUses(frozenset(self.content.sources), frozenset(self._relevant_environments())),
            ),
            "AgentPolicy.spec.cloudIdentity[]": lambda before, rows: (
                rows
                if not self.content.uses_stdio
                else narrowed_identities(
                    before, rows, agent.metadata, self.agent.metadata, self._relevant_environments()
                )
            ),
            "AgentPolicy.spec.egressProxy.noProxy": partial(meet_lists, covers=covers_domain),
        }
        if not self.content.uses_proxy:
            meets["AgentPolicy.spec.egressProxy"] = lambda _, proxy: proxy
        return merge(self.content.policy, self.policy.spec, "AgentPolicy.spec", meets)

    def _row(self, row: DataAccessRow, agent: Agent, reviewed: ReviewedNames) -> DataAccessRow:
        """Return a row with what the revision was reviewed with. Rows for others stay, so that indexes stay."""
        if row.source not in self.content.sources or not row.applies_to(agent.metadata):
            return row
        if not row.applies_to(self.agent.metadata):  # a label that was taken away takes away at once what it gave
            return _changed(row, read=(), write=(), delete=())
        read, write, delete = reviewed[row.source]
        return _changed(
            row,
            read=meet_names(read, row.read),
            write=meet_names(write, row.write),
            delete=meet_names(delete, row.delete),
        )

    def _reviewed_names(self) -> ReviewedNames:
        """Return what reviewed rows let read, write and delete, by source."""
        found: ReviewedNames = defaultdict(lambda: ({}, {}, {}))
        for row in self.content.policy.data_access:
            for names, listed in zip(found[row.source], (row.read, row.write, row.delete), strict=True):
                names.update(dict.fromkeys(listed))
        return found

    def _relevant_environments(self) -> tuple[str, ...]:
        stages = (*self.agent.spec.stages, *((self.stage,) if self.stage else ()))
        return tuple(dict.fromkeys(stage.environment for stage in stages))

    def _environments(self, rules: tuple[EnvironmentRules, ...]) -> tuple[EnvironmentRules, ...]:
        result = list(rules)
        for name in self._relevant_environments():
            is_reviewed_shared = self.content.isolation.get(name) == "Shared"
            if is_reviewed_shared or self.policy.spec.isolation_in(name) == "Separate":
                continue
            declared = next((index for index, one in enumerate(result) if one.name == name), None)
            if declared is None:
                result.append(EnvironmentRules(name=name, isolation="Separate"))
            else:
                result[declared] = result[declared].model_copy(update={"isolation": "Separate"})
        return rules if tuple(result) == rules else tuple(result)

    def _models(self, reviewed: ModelPolicy, today: ModelPolicy) -> ModelPolicy:
        names = [use.name for use in self.content.agent.models]
        if not names:
            return today
        secrets = {use.api_key_from.secret_key_ref.name for use in self.content.agent.models}
        path = "AgentPolicy.spec.models"
        meets: dict[str, Meet] = {
            f"{path}.allow": partial(
                meet_lists,
                covers=covers_prefix,
                ignores=lambda glob: not any(model_matches(name, glob) for name in names),
            ),
            f"{path}.secretNames": partial(meet_lists, ignores=lambda name: name not in secrets),
            f"{path}.urls[]": lambda _, urls: self._upstreams(reviewed, today, urls),
            f"{path}.requestBytes": min,
            f"{path}.maxOutputTokens": min,
        }
        return merge(reviewed, today, path, meets)

    def _upstreams(
        self, reviewed: ModelPolicy, today: ModelPolicy, urls: tuple[ModelUpstream, ...]
    ) -> tuple[ModelUpstream, ...]:
        known = {upstream.name: upstream for upstream in reviewed.urls}
        result = {upstream.name: upstream for upstream in urls}
        for provider in self.content.providers:
            before, now = known.get(provider), find_upstream(today, provider)
            if before is None or now is None:
                result.pop(provider, None)
                continue
            merged = _meet_upstream(before, now)
            if merged != now:
                result[provider] = merged
        return tuple(result.values())

    def _binding(self, binding: MCPBinding, agent: Agent, policy: AgentPolicy) -> MCPBinding | None:
        """Return a binding as it holds for the revision; None where it serves no environment of it."""
        spec = binding.spec
        if spec.source not in self.content.sources:
            return binding
        reviewed = self.content.bindings.get(binding.metadata.name)
        if reviewed is not None and reviewed.spec.source != spec.source:
            reviewed = None
        relevant, served = self._relevant_environments(), reviewed.spec.environments if reviewed else ()
        environments = tuple(one for one in spec.environments if one in served or one not in relevant)
        if not environments:
            return None
        spec = _changed(spec, environments=environments)
        if reviewed is None:
            return binding if spec is binding.spec else binding.model_copy(update={"spec": spec})
        merged = self._binding_spec(reviewed.spec, spec, agent, policy)
        found = binding if merged is binding.spec else binding.model_copy(update={"spec": merged})
        return _with_pins(found, binding, reviewed)

    def _binding_spec(
        self, reviewed: MCPBindingSpec, today: MCPBindingSpec, agent: Agent, policy: AgentPolicy
    ) -> MCPBindingSpec:
        path = "MCPBinding.spec"
        names: dict[str, Meet] = {
            f"{path}.permissions.{operation}": meet_lists for operation in ("read", "write", "delete")
        }
        permissions = merge(reviewed.permissions, today.permissions, f"{path}.permissions", names)
        cell = matrix_cell(policy, agent.metadata, today.source)
        own = (use.permissions for use in agent.spec.bindings if use.source == today.source)
        grants: tuple[Granted, ...] = () if cell is None else (permissions, cell.permissions, *filter(None, own))
        context = MapContext(grants, self._limited(), self._scoped())
        words = {
            f"{path}.{field}": partial(meet_order, narrowest_first=order) for field, order in _WITHHELD_FIRST.items()
        }
        meets: dict[str, Meet] = {
            f"{path}.source": lambda _, source: source,
            f"{path}.environments": lambda _, environments: environments,
            f"{path}.permissions": lambda _, __: permissions,
            f"{path}.server": _meet_server,
            f"{path}.tools[]": partial(meet_tools, context=context),
            f"{path}.resources[]": partial(meet_resources, context=context),
            f"{path}.prompts[]": partial(meet_prompts, context=context),
            f"{path}.serverRequests": meet_lists,
            **{f"{path}.limits.{limit}": min for limit in ("requestBytes", "resultBytes", "inFlight")},
            **words,
        }
        return merge(reviewed, today, path, meets)

    def _limited(self) -> frozenset[str] | None:
        return None if self.stage is None else frozenset(limit.dimension for limit in self.stage.scope or ())

    def _scoped(self) -> frozenset[str]:
        stages = (*self.agent.spec.stages, *((self.stage,) if self.stage else ()))
        return frozenset(limit.dimension for stage in stages for limit in stage.scope or ())


def _changed(model: Model, **values: Any) -> Model:
    """Return a model with other values, or the very same model where they are its own."""
    update = {name: value for name, value in values.items() if getattr(model, name) != value}
    return model.model_copy(update=update) if update else model


def _meet_loops(reviewed: LoopPolicy | None, today: LoopPolicy | None) -> LoopPolicy | None:
    if reviewed is None or today is None:
        return today or reviewed
    return _changed(
        today,
        identical_calls=min(reviewed.identical_calls, today.identical_calls),
        window=longer(reviewed.window, today.window),
        action=meet_order(reviewed.action, today.action, narrowest_first=("Kill", "Block")),
    )


def _meet_upstream(reviewed: ModelUpstream, today: ModelUpstream) -> ModelUpstream:
    return _changed(
        reviewed,
        network=_meet_network(reviewed, today) if reviewed.url == today.url else reviewed.network,
        extra_members=meet_lists(reviewed.extra_members, today.extra_members),
        content_hosts=meet_lists(reviewed.content_hosts, today.content_hosts),
    )


def _meet_server(reviewed: Server, today: Server) -> Server:
    """Return the reviewed server, with the narrower network if today's is the same one, and where pods run today."""
    if reviewed.http is not None and today.http is not None and reviewed.http.url == today.http.url:
        return _changed(reviewed, http=_changed(reviewed.http, network=_meet_network(reviewed.http, today.http)))
    if reviewed.stdio is not None and today.stdio is not None:
        return _changed(reviewed, stdio=_meet_stdio(reviewed.stdio, today.stdio))
    return reviewed


def _meet_stdio(reviewed: StdioServer, today: StdioServer) -> StdioServer:
    is_same = reviewed.image == today.image
    return _changed(
        reviewed,
        network=_meet_network(reviewed, today) if is_same else reviewed.network,
        image_pull_secrets=today.image_pull_secrets,
        node_selector=today.node_selector,
        tolerations=today.tolerations,
    )


Networked = TypeVar("Networked", HttpServer, StdioServer, ModelUpstream)


def _meet_network(reviewed: Networked, today: Networked) -> str:
    return meet_order(reviewed.network, today.network, narrowest_first=_NETWORKS)


def _with_pins(binding: MCPBinding, today: MCPBinding, reviewed: ReviewedBinding) -> MCPBinding:
    """Return a binding with the pins of the server that the revision uses.

    Others accept what an HTTP server lists while the revision runs, so of the same one today's pins hold.
    """
    server, before = today.spec.server, reviewed.spec.server
    is_same_http = before.http is not None and server.http is not None and before.http.url == server.http.url
    if is_same_http or today.status is None or reviewed.pins == pins_of_binding(today):
        return binding
    pins = reviewed.pins
    pinned = PinnedDefinition(name="instructions", state=PinState.VERIFIED, pinned_digest=pins.instructions)
    verification = today.verification.model_copy(
        update={
            "tools": _definitions(pins.tools),
            "prompts": _definitions(pins.prompts),
            "instructions": pinned if pins.instructions else None,
            "protocol": pins.protocol,
        }
    )
    return binding.model_copy(update={"status": today.status.model_copy(update={"verification": verification})})


def _definitions(digests: Mapping[str, str]) -> tuple[PinnedDefinition, ...]:
    return tuple(
        PinnedDefinition(name=name, state=PinState.VERIFIED, digest=digest, pinned_digest=digest)
        for name, digest in digests.items()
    )
