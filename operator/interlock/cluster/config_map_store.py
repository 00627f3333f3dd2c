"""The store of the ConfigMaps that Agents and MCPBindings refer to, kept compressed within a bound.

All ConfigMaps of the cluster are watched by their metadata, since anyone may name any of them. Only those that are
referred to are read and kept. So a namespace with thousands of others costs nothing, and an event of one of them ends
here.
"""

import json
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock.cluster.namespace_budget import MIB, NamespaceBudget, ObjectKey
from interlock.cluster.selective_watch import SelectiveWatch
from interlock.deployment.config_maps import ConfigMapContent, LiveConfigMap, LiveConfigMaps
from interlock_contract.names import APP_MANAGED_BY_LABEL, GROUP, MANAGED_BY
from interlock_kube.client import Json, KubeClient
from interlock_kube.object_reader import ObjectName
from interlock_kube.resource_types import CONFIG_MAP, Key, is_object_name, key_of, version_of

NAMESPACE_BYTES: Final = 16 * MIB
"""Most bytes, as JSON, of the ConfigMaps of one namespace that are referred to."""
PARSED_BYTES: Final = 8 * MIB
"""Most bytes, as JSON, of ConfigMaps that are kept parsed as well: those of the reconciles that come often."""
MOST_NAMES: Final = 1000
"""Most ConfigMaps that one object is taken to refer to. No valid one refers to so many."""

User = tuple[str, Key]
"""Kind, and namespace and name, of an Agent or MCPBinding that refers to ConfigMaps."""

_REFERENCES: Final = ("configMapKeyRef", "configMapRef", "configMap")


def names_in(raw: Any, *path: str) -> frozenset[str]:
    """Return the ConfigMaps that a part of an object names.

    Args:
        raw: The object as the API server gave it. It may be invalid, and have any members: then it grants nothing,
            whatever is read for it.
        path: The names of the members that lead to the part.
    """
    for member in path:
        raw = raw.get(member) if isinstance(raw, dict) else None
    found: set[str] = set()
    waiting = [raw]
    while waiting and len(found) < MOST_NAMES:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            references = (one.get(member) for member in _REFERENCES)
            names = (reference.get("name") for reference in references if isinstance(reference, dict))
            found.update(name for name in names if isinstance(name, str) and name)
            waiting += one.values()
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a ConfigMap.

    Attributes:
        version: Its resource version; 0 if it could not be read, so that any version is newer.
        content: Its content, compressed; None if it may not be used.
        refusal: Why it may not be used.
        size: Bytes of the content as JSON.
    """

    version: int
    content: bytes | None = None
    refusal: str = ""
    size: int = 0


class _ParsedContents:
    """The contents that were needed last, parsed, since each reconcile of a user needs the same ones.

    Args:
        most: Most bytes of them, as JSON.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[bytes, tuple[ConfigMapContent, int]] = {}
        """By the compressed content, which cannot be outdated. The one that was needed last is at the end."""
        self._sum = 0

    def of(self, content: bytes, size: int) -> ConfigMapContent:
        """Return a content; it is kept in place of those that were not needed for longer."""
        parsed, _ = self._kept.pop(content, (None, 0))
        if parsed is None:
            parsed = ConfigMapContent.model_validate_json(zlib.decompress(content))
            self._sum += size
        self._kept[content] = (parsed, size)
        while self._sum > self._most:
            oldest = next(iter(self._kept))
            self._sum -= self._kept.pop(oldest)[1]
        return parsed


class ConfigMapStore:
    """Follows the ConfigMaps that are referred to.

    Args:
        client: Speaks to the API server.
        changed: Called with an Agent or MCPBinding that refers to a ConfigMap which is another one now, or is known
            for the first time.
        most: Most bytes of the ConfigMaps of one namespace.
        parsed: Most bytes of those that are kept parsed.
    """

    def __init__(
        self,
        client: KubeClient,
        changed: Callable[[User], None],
        *,
        most: int = NAMESPACE_BYTES,
        parsed: int = PARSED_BYTES,
    ) -> None:
        self._changed = changed
        self._parsed = _ParsedContents(parsed)
        self._names: dict[User, frozenset[str]] = {}
        self._users: dict[Key, set[User]] = {}
        self._known: dict[Key, _Known | None] = {}
        """By namespace and name; None for one that does not exist. One that was not read yet is missing."""
        self._budget = NamespaceBudget(most, lambda name: self._watch.read(_object_name(name[1])))
        self._watch = SelectiveWatch(client, (CONFIG_MAP,), "", self, on_settled=self._settle)

    def refer(self, user: User, names: frozenset[str]) -> None:
        """Set the names of the ConfigMaps that an Agent or MCPBinding refers to. Unknown ones are read.

        What cannot be the name of any object does not exist, and no request is sent.
        """
        before, namespace = self._names.get(user, frozenset()), user[1][0]
        if names:
            self._names[user] = names
        else:
            self._names.pop(user, None)
        for name in names - before:
            key = (namespace, name)
            if key not in self._users and is_object_name(name):
                self._watch.read(_object_name(key))
            elif key not in self._users:
                self._known[key] = None
            self._users.setdefault(key, set()).add(user)
        for name in before - names:
            self._leave((namespace, name), user)

    def of(self, namespace: str, names: Iterable[str]) -> LiveConfigMaps:
        """Return the ConfigMaps of these names that are known."""
        keys = ((namespace, name) for name in names)
        return {key[1]: self._live(self._known[key]) for key in keys if key in self._known}

    async def run(self) -> None:
        """Follow all ConfigMaps, for ever."""
        await self._watch.run()

    async def synced(self) -> None:
        """Wait until all ConfigMaps that were referred to at the beginning are known."""
        await self._watch.synced()

    def _live(self, known: _Known | None) -> LiveConfigMap | None:
        if known is None:
            return None
        if known.content is None:
            return LiveConfigMap(refusal=known.refusal)
        return LiveConfigMap(self._parsed.of(known.content, known.size))

    def _leave(self, key: Key, user: User) -> None:
        users = self._users[key]
        users.discard(user)
        if not users:
            del self._users[key]
            self._known.pop(key, None)
            self._budget.release(_budgeted(key))

    def _set(self, key: Key, known: _Known | None) -> None:
        before = self._known.get(key)
        is_same = key in self._known and _shown(before) == _shown(known)
        self._known[key] = known
        if not is_same:
            for user in tuple(self._users[key]):
                self._changed(user)

    def _settle(self, name: ObjectName, error: Exception | None) -> None:
        """Note that a ConfigMap was read, is gone or cannot be read."""
        key = (name.namespace, name.name)
        if key not in self._users:
            return
        if error is not None:
            self._budget.release(_budgeted(key))
            self._set(key, _Known(0, refusal=f"cannot be read: {str(error) or type(error).__name__}"))
        elif key not in self._known:
            self._set(key, None)

    # The selection

    def owner_of(self, kind: str, found: Json) -> Hashable | None:  # noqa: ARG002 - as the protocol has it
        """Return the ConfigMap itself if it is referred to: no other one is remembered."""
        key = key_of(found)
        return key if key in self._users else None

    def is_known(self, owner: Hashable) -> bool:
        """Return True if the ConfigMap is referred to."""
        return owner in self._users

    def is_newer(self, kind: str, found: Json) -> bool:  # noqa: ARG002 - as the protocol has it
        """Return True unless this version of a ConfigMap, or a newer one, is kept."""
        known = self._known.get(key_of(found))
        return known is None or version_of(found) > known.version

    def put(self, kind: str, found: Json) -> None:  # noqa: ARG002 - as the protocol has it
        """Keep a ConfigMap that is referred to, unless it may not be used."""
        key, version = key_of(found), version_of(found)
        if refusal := _own(found["metadata"]):
            self._budget.release(_budgeted(key))
            self._set(key, _Known(version, refusal=refusal))
            return
        content = {name: found.get(name) or {} for name in ("data", "binaryData")}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        if not self._budget.take(_budgeted(key), len(text)):
            refusal = (
                f"is not read: the ConfigMaps to which agents and MCP servers of namespace {key[0]} refer take more "
                f"than {self._budget.most // MIB} MiB together"
            )
            self._set(key, _Known(0, refusal=refusal))
            return
        self._set(key, _Known(version, zlib.compress(text.encode(), level=1), size=len(text)))

    def drop(self, kind: str, key: Key, version: int, found: Json | None) -> None:  # noqa: ARG002 - as the protocol
        """Note that a ConfigMap does not exist any more, unless a newer one is kept."""
        if key not in self._users:
            return
        known = self._known.get(key)
        if known is not None and known.version > version:
            return
        self._budget.release(_budgeted(key))
        self._set(key, None)

    def held(self, kind: str) -> Iterable[Key]:  # noqa: ARG002 - as the protocol has it
        """Return the ConfigMaps that exist and are kept."""
        return [key for key, known in self._known.items() if known is not None]


def _own(metadata: Mapping[str, Any]) -> str:
    """Return why nothing may refer to a ConfigMap of Interlock; empty for any other one.

    It may be the bundle, the files or a copy of another agent, or the result of a verification.
    """
    owners = metadata.get("ownerReferences") or ()
    is_managed = (metadata.get("labels") or {}).get(APP_MANAGED_BY_LABEL) == MANAGED_BY
    if is_managed or any(str(one.get("apiVersion", "")).partition("/")[0] == GROUP for one in owners):
        return "belongs to Interlock, and no agent may read it: put what is needed into a ConfigMap of your own"
    return ""


def _shown(known: _Known | None) -> tuple[bytes | None, str] | None:
    """Return what users see of a ConfigMap: the version alone is no change."""
    return None if known is None else (known.content, known.refusal)


def _object_name(key: Key) -> ObjectName:
    return ObjectName(CONFIG_MAP.kind, *key)


def _budgeted(key: Key) -> ObjectKey:
    return CONFIG_MAP.kind, key
