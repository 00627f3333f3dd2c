"""A fake of `interlock_kube.client.Client`: an API server in memory, as far as our own writes can observe.

The fake validates nothing and sets no defaults. It keeps resource versions and metadata.generation,
merges patches, lets additions of others stand until an apply owns them, and refuses what a test configures.
What the real one answers is tested in tests/integration.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from interlock_kube.client import CONFLICT, JSON, JSON_PATCH, MERGE_PATCH, NOT_FOUND, TABLE, ApiError, Json

READS = ("GET",)


@dataclass
class Refusal:
    """A failure to come: what it meets, what it says, how often."""

    method: str
    path: str
    error: Exception
    times: int

    def meets(self, method: str, path: str) -> bool:
        """Return True if it is for this request, and is not used up."""
        return self.times > 0 and self.method == method and self.path in path


@dataclass
class FakeClient:
    """Objects by path, and the requests for them."""

    objects: dict[str, Json] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    version: int = 100

    # What tests do

    def refuse(self, method: str, path: str, *, status: int = 500, times: int = 1) -> None:
        """Let the next requests of this method to paths with this part fail."""
        self.break_with(ApiError(status, f"no {method} today"), method, path, times=times)

    def break_with(self, error: Exception, method: str, path: str, *, times: int = 1) -> None:
        """Let the next requests fail with this error."""
        self.refusals.append(Refusal(method, path, error, times))

    def put(self, path: str, manifest: Json) -> Json:
        """Put an object there, as another user would."""
        return self._store(path, copy.deepcopy(manifest))

    def add_foreign(self, path: str, entry: Json, addition: Json) -> None:
        """Add to an object as another user, who owns what was added."""
        live = _merge(copy.deepcopy(self.objects[path]), copy.deepcopy(addition))
        live["metadata"]["managedFields"].append(copy.deepcopy(entry))
        self._store(path, live)

    def writes(self) -> list[tuple[str, str]]:
        """Return what was written, in order."""
        return [(method, path) for method, path in self.requests if method not in READS]

    def forget_requests(self) -> None:
        """Start counting from zero."""
        self.requests.clear()
        self.bodies.clear()

    def of_kind(self, kind: str) -> dict[str, Json]:
        """Return the objects of a kind, by path."""
        return {path: found for path, found in self.objects.items() if found.get("kind") == kind}

    # What the Client does

    async def get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        accept: str = JSON,
        most: int = 0,  # noqa: ARG002 - as the Client has it
    ) -> Json:
        """Return an object, or a list of them."""
        self._asked("GET", path, None)
        if path.endswith("/scale"):
            found = self.objects[path.removesuffix("/scale")]
            return {"kind": "Scale", "spec": {"replicas": found["spec"].get("replicas", 1)}}
        if accept == TABLE:
            return self._table(self._listed(path, query or {}))
        if path in self.objects:
            return copy.deepcopy(self.objects[path])
        if path.rsplit("/", 1)[-1].endswith("s"):
            return {"items": [copy.deepcopy(found) for found in self._listed(path, query or {})], "metadata": {}}
        raise ApiError(NOT_FOUND, "not found")

    async def create(self, path: str, body: Json) -> Json:
        """Create an object."""
        self._asked("POST", path, body)
        return copy.deepcopy(self._store(f"{path}/{body['metadata']['name']}", copy.deepcopy(body)))

    async def apply(self, path: str, manifest: Json, manager: str) -> Json:
        """Apply: what others own stays, what is ours alone and no longer named goes."""
        self._asked("APPLY", path, manifest)
        live = self.objects.get(path)
        wanted = copy.deepcopy(manifest)
        foreign = []
        if live is not None:
            foreign = [entry for entry in live["metadata"]["managedFields"] if entry["manager"] != manager]
            server_side = {"resourceVersion", "generation", "uid"} & set(live["metadata"])
            wanted["metadata"] |= {name: live["metadata"][name] for name in server_side}
            if "status" in live:
                wanted["status"] = copy.deepcopy(live["status"])
            if foreign:
                wanted = _merge(copy.deepcopy(live), wanted)
        own = {"manager": manager, "operation": "Apply", "apiVersion": manifest["apiVersion"], "fieldsV1": {"f:x": {}}}
        wanted["metadata"]["managedFields"] = [own, *foreign]
        return copy.deepcopy(self._store(path, wanted))

    async def patch(
        self,
        path: str,
        body: Any,
        manager: str,  # noqa: ARG002 - as the Client has it
        *,
        content_type: str = MERGE_PATCH,
    ) -> Json:
        """Patch an object."""
        self._asked("PATCH", path, body)
        target = path.removesuffix("/status").removesuffix("/scale")
        if target not in self.objects:
            raise ApiError(NOT_FOUND, "not found")
        live = copy.deepcopy(self.objects[target])
        if content_type == JSON_PATCH:
            self._json_patch(live, body)
        else:
            known = body.get("metadata", {}).get("resourceVersion", live["metadata"]["resourceVersion"])
            if known != live["metadata"]["resourceVersion"]:
                raise ApiError(CONFLICT, "the object was changed meanwhile")
            _merge(live, copy.deepcopy(body))
        return copy.deepcopy(self._store(target, live))

    async def delete(self, path: str, options: Json) -> None:
        """Delete an object; one that is gone already is as good as deleted."""
        self._asked("DELETE", path, options)
        uid = options.get("preconditions", {}).get("uid")
        if path in self.objects and uid not in (None, self.objects[path]["metadata"].get("uid")):
            raise ApiError(CONFLICT, "the uid in the precondition does not match")
        self.objects.pop(path, None)

    async def delete_all(self, path: str, selector: str, options: Json) -> None:
        """Delete all objects of a collection that the label selector matches."""
        self._asked("DELETE", f"{path}?{selector}", options)
        for found in list(self._listed(path, {"labelSelector": selector})):
            self.objects.pop(f"{path}/{found['metadata']['name']}")

    def _table(self, objects: Iterator[Json]) -> Json:
        """Return Agents as a table of the columns that show `status.kill`."""
        columns = {
            "Kill-Requested": "requestedAt",
            "Kill-Released": "releasedAt",
            "Kill-Reason": "reason",
            "Kill-By": "by",
        }
        rows = []
        for found in objects:
            kill = found.get("status", {}).get("kill") or {}
            rows.append({"cells": [kill.get(name) for name in columns.values()], "object": copy.deepcopy(found)})
        return {"columnDefinitions": [{"name": name} for name in columns], "rows": rows, "metadata": {}}

    def _asked(self, method: str, path: str, body: Any) -> None:
        self.requests.append((method, path))
        self.bodies.append(copy.deepcopy(body))
        for refusal in self.refusals:
            if refusal.meets(method, path):
                refusal.times -= 1
                raise refusal.error

    def _listed(self, path: str, query: Mapping[str, str]) -> Iterator[Json]:
        field, _, value = query.get("fieldSelector", "").partition("=")
        wanted = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if "=" in pair)
        for known, found in self.objects.items():
            collection = known.rpartition("/")[0]
            is_there = path in (collection, re.sub(r"/namespaces/[^/]+", "", collection))
            is_field = field in ("", "spec.serviceAccountName") and (
                not field or found.get("spec", {}).get("serviceAccountName") == value
            )
            if is_there and is_field and wanted.items() <= found["metadata"].get("labels", {}).items():
                yield found

    def _store(self, path: str, manifest: Json) -> Json:
        before = self.objects.get(path)
        if before == manifest:
            return before
        self.version += 1
        metadata = manifest.setdefault("metadata", {})
        metadata.setdefault("managedFields", [])
        metadata["resourceVersion"] = str(self.version)
        if before is None:
            metadata.setdefault("generation", 1)
        elif before.get("spec") != manifest.get("spec"):
            metadata["generation"] = before["metadata"]["generation"] + 1
        self.objects[path] = manifest
        return manifest

    def _json_patch(self, live: Json, body: list[Json]) -> None:
        test, replace = body
        if test["value"] != live["metadata"]["resourceVersion"]:
            raise ApiError(CONFLICT, "the object was changed meanwhile")
        live["metadata"]["managedFields"] = copy.deepcopy(replace["value"])


def _merge(into: Json, patch: Json) -> Json:
    """Merge as RFC 7386 says, in place."""
    for name, value in patch.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict):
            below = into.get(name)
            into[name] = _merge(below if isinstance(below, dict) else {}, value)
        else:
            into[name] = value
    return into
