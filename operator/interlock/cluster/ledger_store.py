"""The store of BudgetLedgers: those of known Agents, and the totals of known AgentPolicies.

Guards write the ledgers, and the operator follows them by a watch of its own. A ledger belongs to an Agent or an
AgentPolicy by its labels and its name alone, since it outlives both. Its status is kept as compressed JSON: a thousand
Agents have thousands of ledgers, each with the closed windows of a year.
"""

import json
import zlib
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from interlock.cluster.object_parser import read_agent
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.selective_watch import SelectiveWatch
from interlock.deployment.names import policy_label
from interlock.governance.budgets import LedgerIdentity
from interlock_contract.budget.ledger import Ledger, LedgerInvalid, parse_ledger
from interlock_contract.budget.ledger_names import total_ledger_name
from interlock_contract.clock import write_time
from interlock_contract.names import (
    AGENT_LABEL,
    APP_MANAGED_BY_LABEL,
    DAY_SECONDS_ANNOTATION,
    FIELD_MANAGER,
    MANAGED_BY,
    OWNER_ANNOTATION,
    POLICY_LABEL,
    POLICY_SINCE_ANNOTATION,
)
from interlock_kube.client import APPLY_PATCH, CONFLICT, JSON_PATCH, ApiError, Json, KubeClient, says_exists
from interlock_kube.resource_types import BUDGET_LEDGER, Key, key_of, version_of

SELECTOR: Final = f"{APP_MANAGED_BY_LABEL}={MANAGED_BY}"
MOST_FORMER: Final = 16
"""Most ledgers of one Agent that are kept of environments that it does not have, or has no longer."""
MOST_BYTES: Final = 256 * 1024
"""Most bytes of one ledger's status, compressed: more than one with 1 024 slices takes."""


@dataclass(frozen=True, slots=True)
class StoredLedger:
    """A ledger as the API server has it.

    Attributes:
        identity: Whose it is, from its spec.
        version: Its resource version.
        policy_label: The policy as its label names it.
        addressee: The owner of the Agent as the annotation names it.
        day_seconds: How long its days are, as the annotation says; empty for calendar days.
        is_tracked: Whether the API server notes who writes it, and when.
        data: Its status, as compressed JSON. Empty where it is larger than what is kept.
    """

    identity: LedgerIdentity
    version: int
    policy_label: str
    addressee: str
    day_seconds: str
    is_tracked: bool
    data: bytes

    @property
    def status(self) -> Any:
        """The status as it is stored; a text where it is too large, or too deep."""
        try:
            return json.loads(zlib.decompress(self.data)) if self.data else "too large"
        except RecursionError:
            return "too deep"

    def read(self) -> Ledger:
        """Return the ledger.

        Raises:
            LedgerInvalid: The status cannot be read, so no guard spends from it.
        """
        status = self.status
        if isinstance(status, str):
            raise LedgerInvalid(f"its status is {status}")
        return parse_ledger(status)


class LedgerStore:
    """Follows and creates ledgers.

    Args:
        client: Speaks to the API server.
        is_agent: Returns True if an Agent is known. The ledgers of others are not read.
        changed: Called with the key of a ledger that was created, changed or deleted.
        environments_of: Returns the environments of an Agent's stages, whose ledgers are always kept.
        day_seconds: Length of a day in tests and examples, None for calendar days.
    """

    def __init__(
        self,
        client: KubeClient,
        is_agent: Callable[[Key], bool],
        changed: Callable[[Key], None],
        environments_of: Callable[[Key], Collection[str]],
        day_seconds: int | None = None,
    ) -> None:
        self._client = client
        self._is_agent = is_agent
        self._changed = changed
        self._environments_of = environments_of
        self._day_seconds = "" if day_seconds is None else str(day_seconds)
        self._ledgers: dict[Key, StoredLedger] = {}
        self._by_agent: dict[Key, set[Key]] = {}
        self._totals: set[Key] = set()
        """Where the totals of known policies are, whether they exist or not."""
        self._watch = SelectiveWatch(client, (BUDGET_LEDGER,), SELECTOR, self)

    async def run(self) -> None:
        """Follow the ledgers, for ever."""
        await self._watch.run()

    async def synced(self) -> None:
        """Wait until all ledgers were read once."""
        await self._watch.synced()

    def get(self, key: Key) -> StoredLedger | None:
        """Return a ledger, None where it is not known."""
        return self._ledgers.get(key)

    def of_agent(self, agent: Key) -> list[Key]:
        """Return the ledgers of an Agent, in order."""
        return sorted(self._by_agent.get(agent, ()))

    def total_of(self, policy: Key) -> Key | None:
        """Return the key of a policy's total, None where there is none."""
        key = policy[0], total_ledger_name(policy[1])
        return key if key in self._ledgers else None

    def read_for(self, agent: Key, policy: str) -> dict[str, Ledger | str]:
        """Return the ledgers that an Agent may spend from, by name; a text says why one cannot be read.

        Args:
            agent: The Agent.
            policy: The name of its policy.
        """
        found: dict[str, Ledger | str] = {}
        for key in (*self.of_agent(agent), (agent[0], total_ledger_name(policy))):
            stored = self._ledgers.get(key)
            if stored is not None:
                try:
                    found[key[1]] = stored.read()
                except LedgerInvalid as error:
                    found[key[1]] = f"BudgetLedger {key[1]} cannot be read ({error})"
        return found

    # Owners

    def agent_seen(self, agent: Key) -> None:
        """Handle that an Agent exists: read its ledgers."""
        self._watch.adopt(("Agent", agent))

    def agent_gone(self, agent: Key) -> None:
        """Handle that an Agent exists no longer: forget its ledgers, which stay in the cluster."""
        for key in self.of_agent(agent):
            self._forget(key)

    def policy_seen(self, policy: Key) -> None:
        """Handle that an AgentPolicy exists: read its total."""
        key = policy[0], total_ledger_name(policy[1])
        if key not in self._totals:
            self._totals.add(key)
            self._watch.adopt(("AgentPolicy", key))

    def policy_gone(self, policy: Key) -> None:
        """Handle that an AgentPolicy exists no longer: forget its total, which stays in the cluster."""
        key = policy[0], total_ledger_name(policy[1])
        self._totals.discard(key)
        if key in self._ledgers:
            self._forget(key)

    # Writes

    async def create(self, namespace: str, identity: LedgerIdentity, addressee: str = "") -> None:
        """Create a ledger without any spend, and keep it; one that exists stays as it is.

        Guards open its windows, by the clock of the API server.

        Raises:
            ApiError: The API server refused.
        """
        annotations = {OWNER_ANNOTATION: addressee, DAY_SECONDS_ANNOTATION: self._day_seconds}
        annotations = {name: value for name, value in annotations.items() if value}
        labels = _labels(identity, identity.policy)
        ledger = {
            "apiVersion": BUDGET_LEDGER.api_version,
            "kind": BUDGET_LEDGER.kind,
            "metadata": {"name": identity.name, "namespace": namespace, "labels": labels, "annotations": annotations},
            "spec": identity.to_spec(),
        }
        try:
            created = await self._client.create(BUDGET_LEDGER.within(namespace), ledger)
        except ApiError as error:
            if not says_exists(error):
                raise
            created = await self._client.get(BUDGET_LEDGER.path(namespace, identity.name))
        self._keep(created)

    async def write(self, key: Key, status: Json) -> bool:
        """Replace the status of a ledger as it is known; return False if it has changed since.

        Raises:
            ApiError: The API server refused.
        """
        known = self._ledgers[key]
        patch = [
            {"op": "add", "path": "/metadata/resourceVersion", "value": str(known.version)},
            {"op": "add", "path": "/status", "value": status},
        ]
        path = BUDGET_LEDGER.path(*key, "status")
        try:
            written = await self._client.patch(path, patch, FIELD_MANAGER, content_type=JSON_PATCH)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            return False
        self._keep(written)
        return True

    async def address(self, key: Key, policy: str, addressee: str, now: datetime) -> None:
        """Let a ledger's labels name the Agent and its policy, and its annotations the Agent's owner and since when.

        Args:
            key: The ledger.
            policy: The AgentPolicy that governs it.
            addressee: The owner of the Agent.
            now: The time, which is recorded where the policy is another one than before.

        Raises:
            ApiError: The API server refused.
        """
        known = self._ledgers[key]
        annotations = {OWNER_ANNOTATION: addressee or None}
        if known.policy_label and known.policy_label != policy_label(policy):
            annotations[POLICY_SINCE_ANNOTATION] = write_time(now, "seconds")
        patch = {"metadata": {"labels": _labels(known.identity, policy), "annotations": annotations}}
        self._keep(await self._client.patch(BUDGET_LEDGER.path(*key), patch, FIELD_MANAGER))

    async def keep_day_length(self, key: Key) -> None:
        """Let a ledger's annotation say how long its days are, where it says otherwise.

        Raises:
            ApiError: The API server refused.
        """
        if self._ledgers[key].day_seconds != self._day_seconds:
            patch = {"metadata": {"annotations": {DAY_SECONDS_ANNOTATION: self._day_seconds or None}}}
            self._keep(await self._client.patch(BUDGET_LEDGER.path(*key), patch, FIELD_MANAGER))

    async def keep_tracked(self, key: Key) -> None:
        """Let the API server note again who writes a ledger, and when, if it does no longer.

        An administrator who empties `metadata.managedFields` ends that, and only an apply begins it again. Admission
        knows the time of a guard's write from there, so no guard could open the next day.

        Raises:
            ApiError: The API server refused.
        """
        if not self._ledgers[key].is_tracked:
            path = BUDGET_LEDGER.path(*key)
            self._keep(await self._client.patch(path, build_tracked(key), FIELD_MANAGER, content_type=APPLY_PATCH))

    async def read_again(self, key: Key) -> None:
        """Read a ledger now.

        Raises:
            ApiError: The API server refused.
        """
        self._keep(await self._client.get(BUDGET_LEDGER.path(*key)))

    # The selection

    def owner_of(self, _kind: str, found: Json) -> Hashable | None:
        """Return the Agent that the labels of a ledger name, or the place of a policy's total."""
        labels = found["metadata"].get("labels") or {}
        namespace, name = key_of(found)
        if AGENT_LABEL not in labels:
            return "AgentPolicy", (namespace, name)
        agent = labels[AGENT_LABEL]
        return ("Agent", (namespace, agent)) if name.startswith(f"{agent}.") else None

    def is_known(self, owner: Hashable) -> bool:
        """Return True if the Agent exists, or the AgentPolicy whose total this is."""
        if not isinstance(owner, tuple):
            return False
        kind, key = owner
        return self._is_agent(key) if kind == "Agent" else key in self._totals

    def is_newer(self, _kind: str, found: Json) -> bool:
        """Return True unless this version of a ledger, or a newer one, is kept, or the Agent has too many."""
        known = self._ledgers.get(key_of(found))
        if known is not None:
            return version_of(found) > known.version
        owner = self.owner_of(_kind, found)
        if not isinstance(owner, tuple):
            return False
        kind, agent = owner
        return kind != "Agent" or self._has_place(agent, key_of(found))

    def put(self, _kind: str, found: Json) -> None:
        """Keep a ledger."""
        self._keep(found)

    def drop(self, _kind: str, key: Key, version: int, _found: Json | None) -> None:
        """Forget a ledger, unless a newer one of its name is kept."""
        known = self._ledgers.get(key)
        if known is not None and known.version <= version:
            self._forget(key)

    def held(self, _kind: str) -> Iterable[Key]:
        """Return the ledgers that are kept."""
        return list(self._ledgers)

    def _keep(self, found: Json) -> None:
        key = key_of(found)
        if not self.is_newer(BUDGET_LEDGER.kind, found):
            return
        identity = identity_of(found)
        if identity is None:
            return
        metadata = found["metadata"]
        annotations = metadata.get("annotations") or {}
        data = zlib.compress(json.dumps(found.get("status") or {}, separators=(",", ":")).encode(), level=1)
        self._ledgers[key] = StoredLedger(
            identity,
            version_of(found),
            (metadata.get("labels") or {}).get(POLICY_LABEL, ""),
            annotations.get(OWNER_ANNOTATION, ""),
            annotations.get(DAY_SECONDS_ANNOTATION, ""),
            "managedFields" in metadata,
            data if len(data) <= MOST_BYTES else b"",
        )
        if identity.agent:
            self._by_agent.setdefault((key[0], identity.agent), set()).add(key)
        self._changed(key)

    def _has_place(self, agent: Key, ledger: Key) -> bool:
        """Return True if a ledger is of an environment of its Agent, or the Agent has few others."""
        own = {(agent[0], f"{agent[1]}.{environment}") for environment in self._environments_of(agent)}
        return ledger in own or len(self._by_agent.get(agent, set()) - own) < MOST_FORMER

    def _forget(self, key: Key) -> None:
        known = self._ledgers.pop(key)
        agent = key[0], known.identity.agent
        if agent in self._by_agent:
            self._by_agent[agent].discard(key)
            if not self._by_agent[agent]:
                del self._by_agent[agent]
        self._changed(key)


def environments_of(cache: ResourceCache, key: Key) -> set[str]:
    """Return the environments of an Agent's stages, none where it is not known or cannot be read."""
    raw = cache.agent(key)
    agent = read_agent(raw) if raw is not None else None
    return {stage.environment for stage in agent.spec.stages} if agent is not None else set()


def build_tracked(key: Key) -> Json:
    """Return what is applied to a ledger so that the API server notes its writers again: a label that it has."""
    metadata = {"name": key[1], "namespace": key[0], "labels": {APP_MANAGED_BY_LABEL: MANAGED_BY}}
    return {"apiVersion": BUDGET_LEDGER.api_version, "kind": BUDGET_LEDGER.kind, "metadata": metadata}


def _labels(identity: LedgerIdentity, policy: str) -> dict[str, str]:
    """Return the labels of a ledger, by which it is watched.

    Args:
        identity: Whose it is.
        policy: The AgentPolicy that governs it now.
    """
    agent = {AGENT_LABEL: identity.agent} if identity.agent else {}
    return {APP_MANAGED_BY_LABEL: MANAGED_BY, POLICY_LABEL: policy_label(policy), **agent}


def identity_of(found: Json) -> LedgerIdentity | None:
    """Return whose ledger an object is, None where spec and name do not say so."""
    spec: Any = found.get("spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("policy"), str):
        return None
    identity = LedgerIdentity(spec["policy"], str(spec.get("agent") or ""), str(spec.get("environment") or ""))
    try:
        return identity if identity.name == found["metadata"]["name"] else None
    except ValueError:  # no ledger has such a name
        return None
