"""The router: which event wakes the reconcile of which object.

`ROUTES` is the whole table. `Router` applies it: it keeps the cache up to date with an event, and adds the keys of the
targets to the work queues.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final

from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.cluster.agent_facts import AgentFacts
from interlock.cluster.kept_metadata import has_changed
from interlock.cluster.resource_cache import ResourceCache
from interlock.reconcile.snapshot import Unreadable
from interlock_kube.client import Json
from interlock_kube.reconcile_loop import WorkQueue
from interlock_kube.resource_types import AGENT, AGENT_POLICY, Key, ResourceType, key_of

TABLE_SECONDS: Final = 1.0
"""How long an AgentPolicy's access table waits for more changes: a hundred Agents created together are one write."""
USERS_SECONDS: Final = 10.0
"""How long an MCPBinding waits until its status names the Agents that began or ended to use it."""


class Event(StrEnum):
    """What can happen."""

    AGENT_CHANGED = "an Agent was created, changed or deleted"
    AGENT_SUMMARY_CHANGED = "an Agent was created, deleted or refused by its policy, or its spec or labels changed"
    AGENT_USES_CHANGED = "an Agent began or ended to use the source of an MCPBinding"
    AGENT_CLAIMS_CHANGED = "an Agent began or ended to name or use a claim"
    POLICY_CHANGED = "an AgentPolicy was created, changed or deleted"
    POLICY_SPEC_CHANGED = "an AgentPolicy was created or deleted, or its spec changed"
    BINDING_CHANGED = "an MCPBinding was created, changed or deleted"
    BINDING_GRANTS_CHANGED = "an MCPBinding was created or deleted, or its spec, verification or pins changed"
    CONFIG_MAP_OF_AGENT_CHANGED = "a ConfigMap to which an Agent refers was created, changed or deleted"
    CONFIG_MAP_OF_BINDING_CHANGED = "a ConfigMap to which an MCPBinding refers was created, changed or deleted"
    AGENT_CHILD_CHANGED = "a child of an Agent was created, changed or deleted"
    BINDING_CHILD_CHANGED = "a child of an MCPBinding was created, changed or deleted"
    POLICY_CHILD_CHANGED = "an object of an AgentPolicy's notifier was created, changed or deleted"
    AGENT_PODS_CHANGED = "a pod of an Agent reported something else"
    LEDGER_CHANGED = "a BudgetLedger was created, changed or deleted"
    DRIFT_REPORTED = "a guard found a tool of an MCPBinding changed"
    EGRESS_PROXY_CHANGED = "an AgentPolicy has another egress proxy, or other sources under it"
    API_SERVER_MOVED = "the API server has other addresses"
    USERS_CHANGED = "the pods of a namespace get other users and groups"
    NODES_CHANGED = "a node came or went, or has other addresses"


class Target(StrEnum):
    """Whose reconcile an event wakes."""

    AGENT = "the Agent of the event"
    AGENTS = "all Agents that depend on the object of the event"
    POLICY = "the AgentPolicy of the event"
    POLICIES = "the AgentPolicies of the Agents that the event concerns"
    LEDGER = "the BudgetLedger of the event"
    LEDGERS = "the BudgetLedgers that the Agents of the event spend from"
    BINDING = "the MCPBinding of the event"
    BINDINGS = "all MCPBindings of the namespace of the event"
    BINDING_STATUS = "the MCPBinding of the event, within some seconds"
    AGENTS_WITH_CIDRS = "all Agents whose AgentPolicy opens addresses"
    EVERY_AGENT = "every Agent"
    EVERY_BINDING = "every MCPBinding"
    EVERY_POLICY = "every AgentPolicy"


ROUTES: Final[Mapping[Event, tuple[Target, ...]]] = {
    Event.AGENT_CHANGED: (Target.AGENT, Target.LEDGERS),
    Event.AGENT_SUMMARY_CHANGED: (Target.POLICIES,),
    Event.AGENT_USES_CHANGED: (Target.BINDING_STATUS,),
    Event.AGENT_CLAIMS_CHANGED: (Target.AGENTS,),
    Event.POLICY_CHANGED: (Target.POLICY,),
    Event.POLICY_SPEC_CHANGED: (Target.AGENTS, Target.POLICIES, Target.LEDGERS),
    Event.BINDING_CHANGED: (Target.BINDING,),
    Event.BINDING_GRANTS_CHANGED: (Target.AGENTS, Target.POLICIES),
    Event.CONFIG_MAP_OF_AGENT_CHANGED: (Target.AGENT,),
    Event.CONFIG_MAP_OF_BINDING_CHANGED: (Target.BINDING, Target.AGENTS),
    Event.AGENT_CHILD_CHANGED: (Target.AGENT,),
    Event.BINDING_CHILD_CHANGED: (Target.BINDING,),
    Event.POLICY_CHILD_CHANGED: (Target.POLICY,),
    Event.AGENT_PODS_CHANGED: (Target.AGENT, Target.LEDGERS),
    Event.LEDGER_CHANGED: (Target.LEDGER,),
    Event.DRIFT_REPORTED: (Target.BINDING,),
    Event.EGRESS_PROXY_CHANGED: (Target.BINDINGS,),
    Event.USERS_CHANGED: (Target.AGENTS, Target.BINDINGS, Target.POLICIES),
    Event.API_SERVER_MOVED: (Target.EVERY_AGENT, Target.EVERY_BINDING, Target.EVERY_POLICY),
    Event.NODES_CHANGED: (Target.AGENTS_WITH_CIDRS,),
}


class Router:
    """Applies the table.

    Args:
        cache: The objects that users apply.
        agents: The work queue of Agents.
        policies: The work queue of AgentPolicies.
        bindings: The work queue of MCPBindings.
        ledgers: The work queue of BudgetLedgers.
    """

    def __init__(
        self,
        cache: ResourceCache,
        agents: WorkQueue[Key],
        policies: WorkQueue[Key],
        bindings: WorkQueue[Key],
        ledgers: WorkQueue[Key],
    ) -> None:
        self._cache = cache
        self.ledgers_of: Callable[[Key], Iterable[Key]] = lambda _agent: ()
        """Returns the BudgetLedgers that an Agent spends from."""
        self._ledgers = ledgers
        cache.on_agent_change = self._wake_dependents
        self._policies = policies
        cache.on_proxy_change = lambda namespace: self.wake(Event.EGRESS_PROXY_CHANGED, (namespace, ""))
        self._add: dict[Target, Callable[[Key, set[Key], set[Key]], None]] = {
            Target.AGENT: lambda key, _agents, _policies: agents.add(key),
            Target.AGENTS: lambda _key, concerned, _policies: _add_all(agents, concerned),
            Target.POLICY: lambda key, _agents, _policies: self._add_table(key),
            Target.POLICIES: lambda _key, concerned, named: self._add_tables(concerned, named),
            Target.LEDGER: lambda key, _agents, _policies: ledgers.add(key),
            Target.LEDGERS: lambda key, concerned, _policies: self._add_ledgers({key, *concerned}),
            Target.BINDING: lambda key, _agents, _policies: bindings.add(key),
            Target.BINDINGS: lambda key, _agents, _policies: _add_all(bindings, cache.bindings_in(key[0])),
            Target.BINDING_STATUS: lambda key, _agents, _policies: bindings.add_sooner(key, USERS_SECONDS),
            Target.AGENTS_WITH_CIDRS: lambda _key, _agents, _policies: _add_all(agents, agents_with_cidrs(cache)),
            Target.EVERY_AGENT: lambda _key, _agents, _policies: _add_all(agents, cache.agents()),
            Target.EVERY_BINDING: lambda _key, _agents, _policies: _add_all(bindings, cache.binding_keys()),
            Target.EVERY_POLICY: lambda _key, _agents, _policies: self._add_tables(set(), cache.policy_keys()),
        }

    def handle_object(self, kind: ResourceType, raw: Json) -> None:
        """Handle that an Agent, AgentPolicy or MCPBinding was created or changed."""
        key = key_of(raw)
        if kind is AGENT:
            if self._cache.put_agent(raw):
                self.wake(Event.AGENT_CHANGED, key)
        elif kind is AGENT_POLICY:
            self.wake(Event.POLICY_CHANGED, key)
            self.wake(Event.POLICY_SPEC_CHANGED, key, self._cache.put_policy(raw))
        else:
            self.wake(Event.BINDING_CHANGED, key)
            self.wake(Event.BINDING_GRANTS_CHANGED, key, self._cache.put_binding(raw))

    def handle_answer(self, kind: ResourceType, raw: Json) -> bool:
        """Handle the answer to a write of the status of an AgentPolicy or MCPBinding.

        A user may have changed the object since it was read. The watch event of that change has a version that is known
        by then, so the object is not read again. The answer wakes what reading it would have woken. A status alone
        wakes what depends on it, and not the object itself.

        Returns:
            Whether it is kept; False where the object was deleted meanwhile.
        """
        key, is_policy = key_of(raw), kind is AGENT_POLICY
        known = self._cache.policy(key) if is_policy else self._cache.binding(key)
        if known is None:
            return False
        was_edited = _was_edited(known, raw)
        agents = self._cache.put_policy(raw) if is_policy else self._cache.put_binding(raw)
        if was_edited:
            self.wake(Event.POLICY_CHANGED if is_policy else Event.BINDING_CHANGED, key)
        if was_edited or agents:
            self.wake(Event.POLICY_SPEC_CHANGED if is_policy else Event.BINDING_GRANTS_CHANGED, key, agents)
        return True

    def handle_deletion(self, kind: ResourceType, key: Key, version: int | None) -> None:
        """Handle that an object was deleted at this version; one that was recreated since stays known.

        The reconcile of a deleted object does nothing but end its back-off and its timer.
        """
        if kind is AGENT:
            if self._cache.drop_agent(key, version):
                self.wake(Event.AGENT_CHANGED, key)
        elif kind is AGENT_POLICY:
            self.wake(Event.POLICY_CHANGED, key)
            self.wake(Event.POLICY_SPEC_CHANGED, key, self._cache.drop_policy(key, version))
        else:
            self.wake(Event.BINDING_CHANGED, key)
            self.wake(Event.BINDING_GRANTS_CHANGED, key, self._cache.drop_binding(key, version))

    def handle_config_map(self, kind: str, key: Key) -> None:
        """Handle that a ConfigMap is another one to which an Agent or MCPBinding refers."""
        if kind == AGENT.kind:
            self.wake(Event.CONFIG_MAP_OF_AGENT_CHANGED, key)
        else:
            served = [(key[0], name) for name in self._cache.agents_served_by(key)]
            self.wake(Event.CONFIG_MAP_OF_BINDING_CHANGED, key, served)

    def wake(self, event: Event, key: Key = ("", ""), agents: Iterable[Key] = (), policies: Iterable[Key] = ()) -> None:
        """Add the keys of the event's targets to the work queues.

        Args:
            event: What happened.
            key: Of the object that it happened to.
            agents: The Agents that it concerns besides.
            policies: AgentPolicies that it concerns besides those of the Agents.
        """
        for target in ROUTES[event]:
            self._add[target](key, set(agents), set(policies))

    def wake_namespace(self, event: Event, namespace: str) -> None:
        """Wake all Agents, AgentPolicies and MCPBindings of a namespace that an event is for."""
        agents = {key for key in self._cache.agents() if key[0] == namespace}
        policies = {key for key in self._cache.policy_keys() if key[0] == namespace}
        self.wake(event, (namespace, ""), agents, policies)

    def _add_tables(self, agents: set[Key], policies: set[Key]) -> None:
        summaries = (self._cache.summary(agent) for agent in agents)
        for policy in policies | {summary.policy for summary in summaries if summary is not None}:
            self._add_table(policy)

    def _add_ledgers(self, agents: set[Key]) -> None:
        for agent in agents:
            _add_all(self._ledgers, set(self.ledgers_of(agent)))

    def _add_table(self, policy: Key) -> None:
        self._policies.add_sooner(policy, TABLE_SECONDS)

    def _wake_dependents(self, key: Key, before: AgentFacts | None, after: AgentFacts | None) -> None:
        """Wake the objects that depend on what has changed in an Agent: policies, bindings, and Agents with its claims.

        The cache calls this also for an Agent that the operator has written, whose watch event wakes nothing.
        """
        if (before and before.summary) != (after and after.summary):
            policies = {facts.summary.policy for facts in (before, after) if facts is not None}
            self.wake(Event.AGENT_SUMMARY_CHANGED, policies=policies)
        if _used_by(before) != _used_by(after):
            sources = {source for facts in (before, after) if facts is not None for source in facts.uses.sources}
            for binding in self._cache.bindings_of(key[0], sources):
                self.wake(Event.AGENT_USES_CHANGED, binding)
        if (before and before.claims) != (after and after.claims):
            claims = {one for facts in (before, after) if facts for one in facts.claims.named | facts.claims.held}
            others = self._cache.agents_with_claims(key[0], claims) - {key} if claims else set[Key]()
            self.wake(Event.AGENT_CLAIMS_CHANGED, key, others)


def _was_edited(known: AgentPolicy | MCPBinding | Unreadable, raw: Json) -> bool:
    """Return True if a user changed an object since the version that is known."""
    if isinstance(known, Unreadable):
        return bool(known.generation != raw["metadata"].get("generation", 0))
    return has_changed(known.metadata, raw)


def _used_by(facts: AgentFacts | None) -> object:
    """Return what the bindings of an Agent depend on: also its policy, by which their verifications run."""
    return facts and (facts.uses, facts.summary.policy)


def agents_with_cidrs(cache: ResourceCache) -> set[Key]:
    """Return the agents whose policies open addresses, from which those of nodes are left out."""
    policies = ((key, cache.policy(key)) for key in cache.policy_keys())
    opening = (
        key
        for key, one in policies
        if isinstance(one, AgentPolicy) and any(peer.cidr is not None for row in one.spec.egress for peer in row.to)
    )
    return {agent for key in opening for agent in cache.agents_under(key)}


def _add_all(queue: WorkQueue[Key], keys: set[Key]) -> None:
    for key in keys:
        queue.add(key)
