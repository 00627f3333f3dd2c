"""A fake of `interlock_kube.client.Client`: an API server in memory, as far as our own writes can observe.

The fake sets no defaults, and validates only what is immutable. It keeps resource versions, uids and
metadata.generation, merges patches, and refuses what a test configures.
What the real one answers is tested in tests/integration.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from interlock_kube.client import (
    APPLY_PATCH,
    CONFLICT,
    INVALID,
    JSON,
    JSON_PATCH,
    MERGE_PATCH,
    NOT_FOUND,
    TABLE,
    ApiError,
    Json,
)

READS = ("GET", "DRY-RUN")


def copy_json(value: Any) -> Any:
    """Return a copy of JSON, in a fraction of the time of `copy.deepcopy`: every request copies an object."""
    if isinstance(value, dict):
        return {name: copy_json(below) for name, below in value.items()}
    if isinstance(value, list):
        return [copy_json(below) for below in value]
    return value


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


_OBJECT = re.compile(r"/namespaces/[^/]+/[^/]+/|^/apis/[^/]+/[^/]+/(?!namespaces/)[^/]+/[^/]+$")
"""Paths of single objects, in a namespace or of the cluster."""


@dataclass
class FakeClient:
    """Objects by path, and the requests for them."""

    objects: dict[str, Json] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    version: int = 100
    pods_linger: bool = False
    """Whether deleted pods stay, terminating, until a test takes them away."""

    # What tests do

    def refuse(self, method: str, path: str, *, status: int = 500, times: int = 1) -> None:
        """Let the next requests of this method to paths with this part fail."""
        self.break_with(ApiError(status, f"no {method} today"), method, path, times=times)

    def break_with(self, error: Exception, method: str, path: str, *, times: int = 1) -> None:
        """Let the next requests fail with this error."""
        self.refusals.append(Refusal(method, path, error, times))

    def put(self, path: str, manifest: Json) -> Json:
        """Put an object there, as another user would."""
        return self._store(path, copy_json(manifest))

    def add_foreign(self, path: str, addition: Json) -> None:
        """Add to an object as another user."""
        self._store(path, _merge(copy_json(self.objects[path]), copy_json(addition)))

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
            return copy_json(self.objects[path])
        if not _OBJECT.search(path):
            return self._page(path, query or {})
        raise ApiError(NOT_FOUND, "not found")

    async def create(self, path: str, body: Json, *, is_dry_run: bool = False, accept: str = JSON) -> Json:
        """Create an object; one of its name may not exist."""
        if is_dry_run:
            self._asked("DRY-RUN", path, body)
            return copy_json(body)
        target = f"{path}/{body['metadata']['name']}"
        self._asked("POST", target, body)
        if target in self.objects:
            raise ApiError(CONFLICT, f'"{body["metadata"]["name"]}" already exists')
        created = copy_json(body)
        created["metadata"].setdefault("uid", f"uid-{self.version + 1}")
        stored = copy_json(self._store(target, created))
        return stored if accept == JSON else {"kind": "PartialObjectMetadata", "metadata": stored["metadata"]}

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
        live = copy_json(self.objects[target])
        if content_type == JSON_PATCH:
            _replace_members(live, body)
            self._check(self.objects[target], live)
        else:
            known = body.get("metadata", {}).get("resourceVersion", live["metadata"]["resourceVersion"])
            if known != live["metadata"]["resourceVersion"]:
                raise ApiError(CONFLICT, "the object was changed meanwhile")
            _merge(live, copy_json(body))
            if content_type == APPLY_PATCH:
                live["metadata"].setdefault("managedFields", [])
        return copy_json(self._store(target, live))

    async def delete(self, path: str, options: Json, *, accept: str = JSON) -> None:  # noqa: ARG002 - as above
        """Delete an object; one that is gone already is as good as deleted."""
        self._asked("DELETE", path, options)
        uid = options.get("preconditions", {}).get("uid")
        if path in self.objects and uid not in (None, self.objects[path]["metadata"].get("uid")):
            raise ApiError(CONFLICT, "the uid in the precondition does not match")
        self.objects.pop(path, None)

    async def delete_all(self, path: str, selector: str, options: Json) -> None:
        """Delete all objects of a collection that the label selector matches."""
        if not selector:
            raise ValueError("an empty selector matches everything")
        self._asked("DELETE", f"{path}?{selector}", options)
        for found in list(self._listed(path, {"labelSelector": selector})):
            if self.pods_linger and found["kind"] == "Pod":
                found["metadata"]["deletionTimestamp"] = "2026-03-02T09:00:00Z"
                continue
            self.objects.pop(f"{path}/{found['metadata']['name']}")

    def _page(self, path: str, query: Mapping[str, str]) -> Json:
        """Return the objects of a list from the one that the token names, as many as are asked for."""
        objects, begin = list(self._listed(path, query)), int(query.get("continue", "0"))
        end = begin + int(query.get("limit", len(objects)))
        token = {"continue": str(end)} if end < len(objects) else {}
        return {"items": copy_json(objects[begin:end]), "metadata": token}

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
            rows.append({"cells": [kill.get(name) for name in columns.values()], "object": copy_json(found)})
        return {"columnDefinitions": [{"name": name} for name in columns], "rows": rows, "metadata": {}}

    def _asked(self, method: str, path: str, body: Any) -> None:
        self.requests.append((method, path))
        self.bodies.append(copy_json(body))
        for refusal in self.refusals:
            if refusal.meets(method, path):
                refusal.times -= 1
                raise refusal.error

    def _listed(self, path: str, query: Mapping[str, str]) -> Iterator[Json]:
        fields = [one for one in query.get("fieldSelector", "").split(",") if one]
        phases = {one.partition("!=")[2] for one in fields if one.startswith("status.phase!=")}
        field, _, value = next((one for one in fields if "!=" not in one), "").partition("=")
        pairs = [pair.split("=") for pair in query.get("labelSelector", "").split(",") if "=" in pair]
        wanted = {key: value for key, value in pairs if not key.endswith("!")}
        unwanted = {(key.removesuffix("!"), value) for key, value in pairs if key.endswith("!")}
        for known, found in self.objects.items():
            collection = known.rpartition("/")[0]
            if path not in (collection, re.sub(r"/namespaces/[^/]+", "", collection)):
                continue
            is_field = field in ("", "spec.serviceAccountName") and (
                not field or found.get("spec", {}).get("serviceAccountName") == value
            )
            labels = found["metadata"].get("labels", {}).items()
            if found.get("status", {}).get("phase") in phases:
                continue
            if is_field and wanted.items() <= labels and not unwanted & labels:
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
            if manifest.get("kind") == "ControllerRevision":  # the one kind whose age is read
                metadata.setdefault("creationTimestamp", "2026-03-02T08:00:00Z")
        elif before.get("spec") != manifest.get("spec"):
            metadata["generation"] = before["metadata"]["generation"] + 1
        self.objects[path] = manifest
        return manifest

    def _check(self, before: Json, after: Json) -> None:
        if after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
            raise ApiError(CONFLICT, "the object was changed meanwhile")
        data = [{name: one.get(name) for name in ("data", "binaryData", "immutable")} for one in (before, after)]
        if before.get("immutable") and data[0] != data[1]:
            raise ApiError(INVALID, "data: Forbidden: field is immutable when `immutable` is set")


def _replace_members(into: Json, patch: list[Json]) -> None:
    """Apply a JSON patch whose operations all add or replace a member of the object or of its metadata."""
    for one in patch:
        _, *parents, name = one["path"].split("/")
        assert one["op"] == "add"
        assert parents in ([], ["metadata"])
        below = into
        for parent in parents:
            below = below[parent]
        if one["value"] is None:
            below.pop(name, None)
        else:
            below[name] = copy_json(one["value"])


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
