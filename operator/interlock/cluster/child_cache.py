"""The cache of children of Agents or MCPBindings, as compressed JSON: a thousand Agents have eight thousand.

A child belongs to the owner that its `ownerReferences` name as its controller. Editors of a namespace can name any
owner there, so the cache bounds what it keeps for one owner.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from interlock.deployment.names import ChildKey
from interlock.deployment.plan import LiveChild
from interlock_contract.names import AGENT_LABEL, APP_MANAGED_BY_LABEL, GROUP, MANAGED_BY, REVISION_LABEL, STAGE_LABEL
from interlock_kube.client import Json
from interlock_kube.metadata import own_annotations
from interlock_kube.resource_types import Key, key_of, version_of

SELECTOR = f"{APP_MANAGED_BY_LABEL}={MANAGED_BY}"

AgentKey = tuple[str, str]
"""Namespace and name of the Agent, or MCPBinding, that a child belongs to."""

MAX_OWNER_BYTES: Final = 4 * 1024 * 1024
"""Most bytes that the children of one owner take, compressed. Of further children only names and owner are kept."""

_OF_PLACEMENT: Final = (AGENT_LABEL, REVISION_LABEL, STAGE_LABEL)
_METADATA: Final = ("name", "namespace", "uid", "resourceVersion", "generation", "deletionTimestamp")


class ChildOwner(NamedTuple):
    """The Agent or MCPBinding that a child names as its controller."""

    kind: str
    key: AgentKey
    uid: str


def controller_of(manifest: Json) -> ChildOwner | None:
    """Return the owner of a child, None where it has none of ours."""
    metadata = manifest["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller") and owner["apiVersion"].partition("/")[0] == GROUP:
            return ChildOwner(owner["kind"], (metadata["namespace"], owner["name"]), owner["uid"])
    return None


@dataclass(frozen=True, slots=True)
class _Stored:
    version: int
    owner: str
    data: bytes


class ChildCache:
    """The children of all Agents by Agent, or those of all MCPBindings by MCPBinding.

    Args:
        owner_kind: The kind of the owners.
        most: Most bytes for the children of one owner.
    """

    def __init__(self, owner_kind: str = "Agent", *, most: int = MAX_OWNER_BYTES) -> None:
        self.owner_kind = owner_kind
        self._most = most
        self._by_agent: dict[AgentKey, dict[ChildKey, _Stored]] = {}
        self._owners: dict[tuple[str, Key], AgentKey] = {}
        self._deleted: dict[tuple[str, Key], int] = {}  # at which version, while it is being written

    def owner(self, kind: str, key: Key) -> AgentKey | None:
        """Return the owner under which an object is kept, None where it is not kept."""
        return self._owners.get((kind, key))

    def is_newer(self, kind: str, manifest: Json) -> bool:
        """Return True for a child of which neither this version, nor a newer one, nor its deletion is known."""
        agent, key = self._owner_of(manifest), ChildKey(kind, manifest["metadata"]["name"])
        if agent is None:
            return False
        known = self._by_agent.get(agent, {}).get(key)
        newest = max(self._deleted.get((kind, key_of(manifest)), 0), known.version if known else 0)
        return version_of(manifest) > newest

    def put(self, kind: str, manifest: Json) -> AgentKey | None:
        """Keep a child unless this version, a newer one or its deletion is known; return its owner if kept."""
        agent, key = self._owner_of(manifest), ChildKey(kind, manifest["metadata"]["name"])
        if agent is None or not self.is_newer(kind, manifest):
            return None
        before = self.owner(kind, key_of(manifest))
        if before is not None and before != agent:
            self.discard(before, key)
        children = self._by_agent.setdefault(agent, {})
        others = sum(len(one.data) for name, one in children.items() if name != key)
        children[key] = _stored(kind, manifest, self._most - others)
        self._owners[kind, key_of(manifest)] = agent
        return agent

    @contextmanager
    def writing(self, kind: str, manifest: Json) -> Iterator[None]:
        """Write an object in this context: the answer may come after the event that the object was deleted since."""
        written = kind, key_of(manifest)
        self._deleted[written] = 0
        try:
            yield
        finally:
            del self._deleted[written]

    def drop(self, kind: str, key: Key, version: int) -> AgentKey | None:
        """Forget an object that was gone at this version; return its owner unless a newer one is known."""
        if (kind, key) in self._deleted:
            self._deleted[kind, key] = version
        owner, child = self._owners.get((kind, key)), ChildKey(kind, key[1])
        if owner is None or self._by_agent[owner][child].version > version:
            return None
        self.discard(owner, child)
        return owner

    def discard(self, agent: AgentKey, key: ChildKey) -> None:
        """Forget one child."""
        children = self._by_agent.get(agent, {})
        if children.pop(key, None) is not None:
            self._owners.pop((key.kind, (agent[0], key.name)), None)
        if not children:
            self._by_agent.pop(agent, None)

    def forget(self, agent: AgentKey, *, but: str = "") -> None:
        """Forget the children of an owner, but those of the owner with this uid."""
        for key in [key for key, stored in self._by_agent.get(agent, {}).items() if stored.owner != but]:
            self.discard(agent, key)

    def held(self, kind: str) -> list[Key]:
        """Return the objects of a kind that are kept."""
        return [key for found, key in self._owners if found == kind]

    def keys_of(self, agent: AgentKey) -> AbstractSet[ChildKey]:
        """Return the keys of an owner's children."""
        return self._by_agent.get(agent, {}).keys()

    def uid_of(self, agent: AgentKey, key: ChildKey) -> str:
        """Return the uid of a child; empty where it is not known."""
        stored = self._by_agent.get(agent, {}).get(key)
        uid: str = _loaded(stored)["metadata"].get("uid", "") if stored else ""
        return uid

    def selector_of(self, agent: AgentKey, key: ChildKey) -> str:
        """Return the label selector of a child's pods; empty where the child is not known, or is for no pods.

        A workload and a NetworkPolicy say which pods they are for. Other objects are for those of their placement.
        """
        stored = self._by_agent.get(agent, {}).get(key)
        found = _loaded(stored) if stored else {}
        spec = found.get("spec") or {}
        labels = (spec.get("selector") or spec.get("podSelector") or {}).get("matchLabels", {})
        if not labels:
            own = found.get("metadata", {}).get("labels") or {}
            labels = {name: own[name] for name in _OF_PLACEMENT if name in own}
            labels = labels if len(labels) == len(_OF_PLACEMENT) else {}
        return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))

    def of(self, agent: AgentKey, uid: str) -> Mapping[ChildKey, LiveChild]:
        """Return the children of the owner with this uid; an earlier owner of the same name had others."""
        return {
            key: LiveChild(_loaded(stored))
            for key, stored in self._by_agent.get(agent, {}).items()
            if stored.owner == uid
        }

    def _owner_of(self, manifest: Json) -> AgentKey | None:
        owner = controller_of(manifest)
        return owner.key if owner is not None and owner.kind == self.owner_kind else None


def agent_of(manifest: Json) -> AgentKey:
    """Return the agent that a labelled pod belongs to."""
    return manifest["metadata"]["namespace"], manifest["metadata"]["labels"][AGENT_LABEL]


def _loaded(stored: _Stored) -> Json:
    loaded: Json = json.loads(zlib.decompress(stored.data))
    return loaded


def _stored(kind: str, manifest: Json, most: int) -> _Stored:
    """Return what is kept of a child.

    One that is too large is kept as one that lacks everything, so that a reconcile replaces or deletes it.
    """
    metadata, owner = manifest["metadata"], controller_of(manifest)
    kept = {name: metadata[name] for name in _METADATA if name in metadata}
    whole = {
        **{name: value for name, value in manifest.items() if name not in ("apiVersion", "kind", "metadata")},
        "kind": kind,
        "metadata": {
            **kept,
            "labels": metadata.get("labels") or {},
            "annotations": own_annotations(metadata),
            "ownerReferences": metadata.get("ownerReferences") or [],
        },
    }
    data = _compressed(whole)
    if len(data) > most:
        data = _compressed({"kind": kind, "metadata": {**kept, "labels": {}}, "spec": {}})
    return _Stored(
        version=version_of(manifest),
        owner=owner.uid if owner else "",
        data=data,
    )


def _compressed(manifest: Json) -> bytes:
    return zlib.compress(json.dumps(manifest, separators=(",", ":")).encode(), level=1)
