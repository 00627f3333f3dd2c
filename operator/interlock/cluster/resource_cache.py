"""The cache of Agents, AgentPolicies and MCPBindings, fed by kopf's watches and by the operator's own writes.

An older version of an object never replaces a newer one: the answer to a write and the watch event of the same change
come in any order.

Of metadata only what the operator needs is kept, and of each namespace only as much as its budget allows. What does not
fit counts as unreadable, so that it grants nothing. Objects are kept by namespace, so that no lookup for an object of
one namespace takes longer because of the objects of another.
"""

import json
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from interlock.action.audit_mode import (
    StricterEnvironments,
    environments_outside_development,
    has_audit,
    stricter_environments,
)
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy, AgentPolicyStatus
from interlock.api.verification import BindingCondition
from interlock.cluster.agent_facts import AgentFacts, AgentSummary, AgentUses, facts_of
from interlock.cluster.config_map_store import names_in
from interlock.cluster.kept_metadata import with_needed_metadata
from interlock.cluster.namespace_budget import AGENT_BYTES, MIB, POLICY_BYTES, NamespaceBudget, ObjectKey
from interlock.cluster.object_parser import TOO_LARGE, parse_binding, parse_policy, parse_policy_status
from interlock.orchestration.claim_checks import ClaimUse
from interlock.reconcile.snapshot import Unreadable, readable, served_source_in
from interlock_contract.names import NEEDS_REVIEW
from interlock_kube.client import Json
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING, Key, ResourceType, key_of, version_of

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Entry:
    version: int
    data: bytes
    facts: AgentFacts


@dataclass(frozen=True, slots=True)
class _Policy:
    version: int
    policy: AgentPolicy | Unreadable
    status: AgentPolicyStatus | None


class _ByNamespace(Generic[V]):
    """Objects of one kind."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, V]] = {}

    def get(self, key: Key) -> V | None:
        """Return an object, None where it is not known."""
        return self.within(key[0]).get(key)

    def put(self, key: Key, found: V) -> None:
        """Keep an object."""
        self._objects.setdefault(key[0], {})[key] = found

    def drop(self, key: Key) -> None:
        """Forget an object that is known."""
        del self._objects[key[0]][key]
        if not self._objects[key[0]]:
            del self._objects[key[0]]

    def within(self, namespace: str) -> Mapping[Key, V]:
        """Return the objects of a namespace."""
        return self._objects.get(namespace, {})

    def __len__(self) -> int:
        """Return the number of all objects."""
        return sum(map(len, self._objects.values()))

    def keys(self) -> set[Key]:
        """Return the keys of all objects."""
        return {key for found in self._objects.values() for key in found}


class ResourceCache:
    """The three kinds that users apply.

    Args:
        read_again: Called with kind and key of an object that did not fit into its namespace's budget and does now.
    """

    def __init__(self, read_again: Callable[[str, Key], None] = lambda _kind, _key: None) -> None:
        self._read_again = read_again
        self.on_proxy_change: Callable[[str], None] = lambda _namespace: None
        """Called with a namespace whose bindings may be verified through another egress proxy, or by other rules."""
        self.on_agent_change: Callable[[Key, AgentFacts | None, AgentFacts | None], None] = lambda *_: None
        """Called with an Agent, what it was and what it is now; None where it is not known."""
        self.on_config_maps: Callable[[str, Key, frozenset[str]], None] = lambda *_: None
        """Called with kind and key of an Agent or MCPBinding, and the names of its ConfigMaps: none once it is gone."""
        self._agents: _ByNamespace[_Entry] = _ByNamespace()
        self._policies: _ByNamespace[_Policy] = _ByNamespace()
        self._bindings: _ByNamespace[tuple[int, MCPBinding | Unreadable]] = _ByNamespace()
        self._uids: dict[tuple[str, Key], str] = {}
        self._agent_budget = NamespaceBudget(AGENT_BYTES, self._has_room)
        self._policy_budget = NamespaceBudget(POLICY_BYTES, self._has_room)

    def is_newer(self, kind: str, key: Key, version: int) -> bool:
        """Return True unless this version of an object, or a newer one, is known."""
        return version > self._version(kind, key)

    def put_agent(self, raw: Json) -> bool:
        """Keep an Agent unless this version or a newer one is known; return True if it was kept."""
        key, version = key_of(raw), version_of(raw)
        if not self.is_newer(AGENT.kind, key, version):
            return False
        raw = with_needed_metadata(raw)
        text = _dump(raw)
        if not self._agent_budget.take((AGENT.kind, key), len(text)):
            raw = _without_spec(raw, f"the Agents of namespace {key[0]} take {_over(self._agent_budget)}")
            text = _dump(raw)
        before, entry = self._agents.get(key), _entry(raw, version, text)
        self._agents.put(key, entry)
        self._uids[AGENT.kind, key] = raw["metadata"]["uid"]
        self.on_config_maps(AGENT.kind, key, names_in(raw, "spec", "template"))
        self.on_agent_change(key, before.facts if before else None, entry.facts)
        return True

    def put_policy(self, raw: Json) -> set[Key]:
        """Keep an AgentPolicy; return the Agents under it if what they depend on in it has changed."""
        key, version = key_of(raw), version_of(raw)
        if not self.is_newer(AGENT_POLICY.kind, key, version):
            return set()
        known = self._policies.get(key)
        raw = with_needed_metadata(raw)
        too_much = self._policy_too_large(AGENT_POLICY, key, raw)
        parsed = too_much or parse_policy(raw)
        self._policies.put(key, _Policy(version, parsed, None if too_much else parse_policy_status(raw)))
        self._uids[AGENT_POLICY.kind, key] = raw["metadata"]["uid"]
        if _egress_of(known.policy if known else None) != _egress_of(parsed):
            self.on_proxy_change(key[0])
        if known is not None and _rules_of(known.policy) == _rules_of(parsed):
            return set()  # only its status, which the operator writes, or its labels
        return self.agents_under(key) | self._agents_judged_by(key, known.policy if known else None, parsed)

    def put_binding(self, raw: Json) -> set[Key]:
        """Keep an MCPBinding; return the Agents that it may concern, if what it grants them has changed."""
        key, version = key_of(raw), version_of(raw)
        if not self.is_newer(MCP_BINDING.kind, key, version):
            return set()
        known = self._bindings.get(key)
        raw = with_needed_metadata(raw)
        parsed = self._policy_too_large(MCP_BINDING, key, raw) or parse_binding(raw)
        self._bindings.put(key, (version, parsed))
        self._uids[MCP_BINDING.kind, key] = raw["metadata"]["uid"]
        self.on_config_maps(MCP_BINDING.kind, key, names_in(raw, "spec", "server", "stdio"))
        if known is not None and _grants_of(known[1]) == _grants_of(parsed):
            return set()  # only the run of a verification, which the operator writes, or its labels
        return self._agents_using(key[0], known[1] if known else None) | self._agents_using(key[0], parsed)

    def drop_agent(self, key: Key, version: int | None = None) -> bool:
        """Forget an Agent that was deleted at this version; return True unless one recreated since is kept."""
        known = self._agents.get(key)
        if known is not None and _is_newer(known.version, version):
            return False
        if known is not None:
            self._agents.drop(key)
        self._uids.pop((AGENT.kind, key), None)
        self._agent_budget.release((AGENT.kind, key))
        self.on_config_maps(AGENT.kind, key, frozenset())
        if known is not None:
            self.on_agent_change(key, known.facts, None)
        return True

    def drop_policy(self, key: Key, version: int | None = None) -> set[Key]:
        """Forget an AgentPolicy that was deleted at this version; return the Agents under it."""
        known = self._policies.get(key)
        if known is None or _is_newer(known.version, version):
            return set()
        self._policies.drop(key)
        del self._uids[AGENT_POLICY.kind, key]
        if _egress_of(known.policy) is not None:
            self.on_proxy_change(key[0])
        self._policy_budget.release((AGENT_POLICY.kind, key))
        return self.agents_under(key) | self._agents_judged_by(key, known.policy, None)

    def drop_binding(self, key: Key, version: int | None = None) -> set[Key]:
        """Forget an MCPBinding that was deleted at this version; return the Agents that it may concern."""
        known = self._bindings.get(key)
        if known is None or _is_newer(known[0], version):
            return set()
        self._bindings.drop(key)
        del self._uids[MCP_BINDING.kind, key]
        self._policy_budget.release((MCP_BINDING.kind, key))
        self.on_config_maps(MCP_BINDING.kind, key, frozenset())
        return self._agents_using(key[0], known[1])

    def agent(self, key: Key) -> Json | None:
        """Return an Agent as the API server gave it, without metadata of others; None where it is not known."""
        entry = self._agents.get(key)
        return json.loads(zlib.decompress(entry.data)) if entry else None

    def uid(self, kind: str, key: Key) -> str | None:
        """Return the uid of an Agent, AgentPolicy or MCPBinding, None where it is not known."""
        return self._uids.get((kind, key))

    def agents(self) -> set[Key]:
        """Return all agents known."""
        return self._agents.keys()

    def agent_count(self) -> int:
        """Return the number of all agents known."""
        return len(self._agents)

    def policy(self, key: Key) -> AgentPolicy | Unreadable | None:
        """Return an AgentPolicy, None where it is not known."""
        known = self._policies.get(key)
        return known.policy if known else None

    def policy_keys(self) -> set[Key]:
        """Return all policies known."""
        return self._policies.keys()

    def policies(self, namespace: str) -> tuple[AgentPolicy | Unreadable, ...]:
        """Return the AgentPolicies of a namespace, by name."""
        known = self._policies.within(namespace)
        return tuple(known[key].policy for key in sorted(known))

    def stricter_environments(self, policy: AgentPolicy) -> StricterEnvironments:
        """Return the environments that a policy holds for development, and another one of its namespace does not."""
        found = ((key[1], one.policy) for key, one in self._policies.within(policy.metadata.namespace).items())
        return stricter_environments(policy, {name: readable(one, AgentPolicy) for name, one in found})

    def policy_status(self, key: Key) -> AgentPolicyStatus | None:
        """Return an AgentPolicy's status as the API server has it; None where there is none that can be read."""
        known = self._policies.get(key)
        return known.status if known else None

    def summary(self, agent: Key) -> AgentSummary | None:
        """Return what an AgentPolicy's access table depends on in an Agent, None where the Agent is not known."""
        entry = self._agents.get(agent)
        return entry.facts.summary if entry else None

    def binding(self, key: Key) -> MCPBinding | Unreadable | None:
        """Return an MCPBinding, None where it is not known."""
        known = self._bindings.get(key)
        return known[1] if known else None

    def binding_keys(self) -> set[Key]:
        """Return all bindings known."""
        return self._bindings.keys()

    def bindings_in(self, namespace: str) -> set[Key]:
        """Return the keys of the MCPBindings of a namespace."""
        return set(self._bindings.within(namespace))

    def bindings(self, namespace: str) -> tuple[MCPBinding | Unreadable, ...]:
        """Return the MCPBindings of a namespace, by name."""
        known = self._bindings.within(namespace)
        return tuple(known[key][1] for key in sorted(known))

    def agents_under(self, policy: Key) -> set[Key]:
        """Return the agents that name the policy."""
        return {key for key, entry in self._agents.within(policy[0]).items() if entry.facts.summary.policy == policy}

    def policies_of_users(self, namespace: str, source: str) -> frozenset[str]:
        """Return the names of the AgentPolicies that Agents of a namespace with this source name."""
        found = (one.facts for one in self._agents.within(namespace).values())
        return frozenset(one.summary.policy[1] for one in found if source in one.uses.sources)

    def agents_served_by(self, key: Key) -> list[str]:
        """Return the names of the Agents that an MCPBinding serves, in order."""
        binding = self.binding(key)
        if not isinstance(binding, MCPBinding):
            return []
        found = self._agents.within(key[0]).items()
        return sorted(agent[1] for agent, entry in found if _serves(binding, entry.facts.uses))

    def claims_of_others(self, key: Key) -> tuple[ClaimUse, ...]:
        """Return what the other Agents of a namespace have to do with claims that this one names or holds, by name."""
        entry = self._agents.get(key)
        own = entry.facts.claims.named | entry.facts.claims.held if entry else frozenset()
        if not own:
            return ()
        others = (other.facts.claims for name, other in self._agents.within(key[0]).items() if name != key)
        found = (one for one in others if not own.isdisjoint(one.named | one.held))
        return tuple(sorted(found, key=lambda one: one.agent))

    def agents_with_claims(self, namespace: str, claims: Collection[str]) -> set[Key]:
        """Return the Agents of a namespace that name or hold one of these claims."""
        found = self._agents.within(namespace).items()
        return {key for key, one in found if not (one.facts.claims.named | one.facts.claims.held).isdisjoint(claims)}

    def bindings_of(self, namespace: str, sources: Iterable[str]) -> set[Key]:
        """Return the MCPBindings of a namespace that serve one of these sources."""
        wanted = frozenset(sources)
        found = self._bindings.within(namespace).items()
        return {key for key, (_, one) in found if isinstance(one, MCPBinding) and one.spec.source in wanted}

    def _agents_using(self, namespace: str, binding: MCPBinding | Unreadable | None) -> set[Key]:
        """Return the agents of the namespace that use the binding's source; one that names none concerns all."""
        if binding is None:
            return set()
        concerned = self._agents.within(namespace)
        source = binding.source if isinstance(binding, Unreadable) else binding.spec.source
        if source is None:
            return set(concerned)
        return {key for key, entry in concerned.items() if source in entry.facts.uses.sources}

    def _agents_judged_by(
        self, key: Key, before: AgentPolicy | Unreadable | None, after: AgentPolicy | Unreadable | None
    ) -> set[Key]:
        """Return the agents of policies with mode Audit if another policy now holds environments to other classes."""
        if _classes_of(before) == _classes_of(after):
            return set()
        found = self._policies.within(key[0]).items()
        known = ((name, readable(one.policy, AgentPolicy)) for name, one in found)
        auditing = (name for name, one in known if one is not None and has_audit(one))
        return {agent for name in auditing for agent in self.agents_under(name)}

    def _version(self, kind: str, key: Key) -> int:
        """Return the version that is known of an object, 0 where none is."""
        if kind == MCP_BINDING.kind:
            known = self._bindings.get(key)
            return known[0] if known else 0
        entry = self._agents.get(key) if kind == AGENT.kind else self._policies.get(key)
        return entry.version if entry else 0

    def _has_room(self, name: ObjectKey) -> None:
        """Have an object read again: any version of it is newer than what is known."""
        kind, key = name
        if kind == AGENT.kind and (agent := self._agents.get(key)):
            self._agents.put(key, replace(agent, version=0))
        elif kind == AGENT_POLICY.kind and (policy := self._policies.get(key)):
            self._policies.put(key, replace(policy, version=0))
        elif kind == MCP_BINDING.kind and (binding := self._bindings.get(key)):
            self._bindings.put(key, (0, binding[1]))
        self._read_again(kind, key)

    def _policy_too_large(self, kind: ResourceType, key: Key, raw: Json) -> Unreadable | None:
        if self._policy_budget.take((kind.kind, key), len(_dump(raw))):
            return None
        where = f"the AgentPolicies and MCPBindings of namespace {key[0]}"
        message = f"{where} take {_over(self._policy_budget)}"
        return Unreadable(kind.kind, key[1], message, source=served_source_in(raw))


def _is_newer(known: int, version: int | None) -> bool:
    return version is not None and known > version


def _dump(raw: Json) -> str:
    return json.dumps(raw, separators=(",", ":"))


def _over(budget: NamespaceBudget) -> str:
    return f"more than {budget.most // MIB} MiB together"


_NEEDED = ("name", "namespace", "uid", "resourceVersion", "generation", "deletionTimestamp", "annotations")


def _without_spec(raw: Json, reason: str) -> Json:
    """Return what is kept of an Agent that does not fit: enough for its kill and its status."""
    metadata = {name: raw["metadata"][name] for name in _NEEDED if name in raw["metadata"]}
    kept: Json = {name: raw[name] for name in ("apiVersion", "kind", "status") if name in raw}
    return kept | {"metadata": metadata, TOO_LARGE: reason}


def _serves(binding: MCPBinding, uses: AgentUses) -> bool:
    return binding.spec.source in uses.sources and not uses.environments.isdisjoint(binding.spec.environments)


def _entry(raw: Json, version: int, text: str) -> _Entry:
    return _Entry(version=version, data=zlib.compress(text.encode(), level=1), facts=facts_of(raw))


def _egress_of(policy: AgentPolicy | Unreadable | None) -> object:
    """Return what verifications depend on in an AgentPolicy; None where it says nothing about them.

    One that withholds nothing may be the first that allows a server, so each of them counts. So does one that cannot
    be read, by which no server may run.
    """
    if isinstance(policy, Unreadable):
        return policy, _egress_of(readable(policy, AgentPolicy))
    if policy is None:
        return None
    about = policy.spec.egress_proxy, policy.spec.pod_template
    is_deleted = policy.metadata.deletion_timestamp is not None
    return about, frozenset(row.source for row in policy.spec.data_access), is_deleted


def _classes_of(policy: AgentPolicy | Unreadable | None) -> frozenset[str] | None:
    """Return the environments that a policy declares and not for development; None where it cannot be read."""
    if policy is None:
        return frozenset()
    found = readable(policy, AgentPolicy)
    return None if found is None else environments_outside_development(found)


def _rules_of(policy: AgentPolicy | Unreadable) -> object:
    """Return what Agents depend on in an AgentPolicy: its spec, and whether it is being deleted."""
    if isinstance(policy, Unreadable):
        rest = readable(policy, AgentPolicy)
        return policy, None if rest is None else _rules_of(rest)
    return policy.spec, policy.metadata.deletion_timestamp is None


def _grants_of(binding: MCPBinding | Unreadable) -> object:
    """Return what Agents depend on in an MCPBinding.

    That is its spec, whether that is judged, reviewed and verified, what is pinned, and whether it is being deleted.
    """
    if isinstance(binding, Unreadable):
        rest = readable(binding, MCPBinding)
        return binding, None if rest is None else _grants_of(rest)
    verified = binding.status.condition(BindingCondition.VERIFIED) if binding.status else None
    known = binding.verification
    pins = tuple(
        tuple((one.name, one.pinned_digest) for one in definitions)
        for definitions in (known.tools, known.prompts or (), (known.instructions,) if known.instructions else ())
    )
    condition = (verified.status, verified.message) if verified else None
    metadata = binding.metadata
    marks = NEEDS_REVIEW in metadata.annotations, metadata.deletion_timestamp is None
    return binding.spec, binding.is_judged, marks, condition, known.verified_at is None, pins
