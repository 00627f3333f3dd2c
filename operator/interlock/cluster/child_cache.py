"""The cache of children of Agents or MCPBindings, as compressed JSON: a thousand Agents have eight thousand."""

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from interlock.deployment.names import ChildKey
from interlock.deployment.ownership import has_foreign_fields
from interlock.deployment.plan import LiveChild
from interlock_contract.names import AGENT_LABEL, APP_MANAGED_BY_LABEL, MANAGED_BY
from interlock_kube.client import Json
from interlock_process.metrics import skip_on_defect

SELECTOR = f"{APP_MANAGED_BY_LABEL}={MANAGED_BY}"

AgentKey = tuple[str, str]
"""Namespace and name of the Agent, or MCPBinding, that a child belongs to."""


@dataclass(frozen=True, slots=True)
class _Stored:
    version: int
    owner: str
    data: bytes
    is_touched: bool


class ChildCache:
    """The children of all Agents by Agent, or those of all MCPBindings by MCPBinding.

    Args:
        label: The label that marks these children.
    """

    def __init__(self, label: str = AGENT_LABEL) -> None:
        self._label = label
        self._by_agent: dict[AgentKey, dict[ChildKey, _Stored]] = {}
        self._deleted: dict[tuple[AgentKey, ChildKey], int] = {}  # at which version, while it is being written

    def holds(self, manifest: Json) -> bool:
        """Return True if an object is one of these children."""
        return self._label in manifest["metadata"].get("labels", {})

    def put(self, kind: str, manifest: Json) -> AgentKey | None:
        """Keep the object unless this version, a newer one or its deletion is known; return its owner if kept."""
        agent = self._owner_of(manifest)
        key = ChildKey(kind, manifest["metadata"]["name"])
        version = int(manifest["metadata"]["resourceVersion"])
        known = self._by_agent.get(agent, {}).get(key)
        if version <= max(self._deleted.get((agent, key), 0), known.version if known else 0):
            return None
        self._by_agent.setdefault(agent, {})[key] = _stored(kind, manifest, version)
        return agent

    @contextmanager
    def writing(self, kind: str, manifest: Json) -> Iterator[None]:
        """Write an object in this context: the answer may come after the event that the object was deleted since."""
        written = self._owner_of(manifest), ChildKey(kind, manifest["metadata"]["name"])
        self._deleted[written] = 0
        try:
            yield
        finally:
            del self._deleted[written]

    def drop(self, kind: str, manifest: Json) -> AgentKey | None:
        """Forget an object that was deleted; return its owner unless a newer one is known."""
        agent = self._owner_of(manifest)
        key = ChildKey(kind, manifest["metadata"]["name"])
        version = int(manifest["metadata"]["resourceVersion"])
        if (agent, key) in self._deleted:
            self._deleted[agent, key] = version
        known = self._by_agent.get(agent, {}).get(key)
        if known is None or known.version > version:
            return None
        self.discard(agent, key)
        return agent

    def discard(self, agent: AgentKey, key: ChildKey) -> None:
        """Forget one child."""
        children = self._by_agent.get(agent, {})
        children.pop(key, None)
        if not children:
            self._by_agent.pop(agent, None)

    def replace(self, kind: str, manifests: tuple[Json, ...]) -> set[AgentKey]:
        """Take over a whole list of one kind; return the owners of all children that were added, changed or removed."""
        changed, listed = set(), set()
        for manifest in manifests:
            with skip_on_defect(kind, manifest):
                agent = self._owner_of(manifest)
                listed.add((agent, manifest["metadata"]["name"]))
                if self.put(kind, manifest) is not None:
                    changed.add(agent)
        gone = [
            (agent, key)
            for agent, children in self._by_agent.items()
            for key in children
            if key.kind == kind and (agent, key.name) not in listed
        ]
        for agent, key in gone:
            self.discard(agent, key)
            changed.add(agent)
        return changed

    def _owner_of(self, manifest: Json) -> AgentKey:
        return agent_of(manifest) if self._label == AGENT_LABEL else binding_of(manifest)

    def selector_of(self, agent: AgentKey, key: ChildKey) -> str:
        """Return the label selector of a workload's pods; empty where the workload is not known."""
        stored = self._by_agent.get(agent, {}).get(key)
        labels = _loaded(stored)["spec"]["selector"]["matchLabels"] if stored else {}
        return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))

    def of(self, agent: AgentKey, uid: str) -> Mapping[ChildKey, LiveChild]:
        """Return the children of the owner with this uid; an earlier owner of the same name had others."""
        return {
            key: LiveChild(_loaded(stored), stored.is_touched)
            for key, stored in self._by_agent.get(agent, {}).items()
            if stored.owner == uid
        }


def agent_of(manifest: Json) -> AgentKey:
    """Return the agent that a labelled child belongs to."""
    return manifest["metadata"]["namespace"], manifest["metadata"]["labels"][AGENT_LABEL]


def binding_of(manifest: Json) -> AgentKey:
    """Return the MCPBinding that a child belongs to, by its owner reference: a label is too short for some names."""
    owners = manifest["metadata"].get("ownerReferences", [])
    name = next((owner["name"] for owner in owners if owner["kind"] == "MCPBinding"), "")
    return manifest["metadata"]["namespace"], name


def _loaded(stored: _Stored) -> Json:
    loaded: Json = json.loads(zlib.decompress(stored.data))
    return loaded


def _stored(kind: str, manifest: Json, version: int) -> _Stored:
    managed = manifest["metadata"].get("managedFields", [])
    kept = {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind", "metadata")}
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    owners = manifest["metadata"].get("ownerReferences", [])
    text = json.dumps({"kind": kind, "metadata": metadata} | kept, separators=(",", ":"))
    return _Stored(
        version=version,
        owner=next((owner["uid"] for owner in owners if owner["kind"] in ("Agent", "MCPBinding")), ""),
        data=zlib.compress(text.encode(), level=1),
        is_touched=has_foreign_fields(managed),
    )
