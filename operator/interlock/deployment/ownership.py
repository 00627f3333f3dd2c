"""Field ownership of a child, read from `metadata.managedFields`.

Server-side apply keeps additions of other field managers: a container, a variable, a rule. To remove them, `hand_over`
first moves their fields to our own entry. The next apply does not name these fields and so removes them, as
`k8s.io/client-go/util/csaupgrade` does.
"""

import copy
from collections.abc import Iterable
from typing import Any

from interlock_contract.names import FIELD_MANAGER, KILL_FIELD_MANAGER

ManagedFields = list[dict[str, Any]]

_RESTARTED_AT = ("f:spec", "f:template", "f:metadata", "f:annotations", "f:kubectl.kubernetes.io/restartedAt")
_REPLICAS = ("f:spec", "f:replicas")


def has_foreign_fields(managed: ManagedFields) -> bool:
    """Return True if another field manager owns a field outside of metadata and status.

    Two are allowed: the annotation of `kubectl rollout restart`, and the replicas that the kill controller set to zero.
    """
    return any(_is_foreign(entry) for entry in managed)


def hand_over(managed: ManagedFields) -> ManagedFields:
    """Return the list with all foreign fields moved to our own entry."""
    ours: dict[str, Any] = {}
    kept: ManagedFields = []
    newest = ""
    for entry in managed:
        if _is_ours(entry) or _is_foreign(entry):
            _merge(ours, entry.get("fieldsV1", {}))
            newest = max(newest, entry.get("time", ""))
        else:
            kept.append(entry)
    apply_entry = {
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "apiVersion": next((entry["apiVersion"] for entry in managed if _is_ours(entry)), managed[0]["apiVersion"]),
        "fieldsType": "FieldsV1",
        "fieldsV1": ours,
    }
    return [apply_entry | ({"time": newest} if newest else {}), *kept]


def _is_ours(entry: dict[str, Any]) -> bool:
    return bool(entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply")


def _is_foreign(entry: dict[str, Any]) -> bool:
    if _is_ours(entry) or entry.get("subresource") == "status":
        return False
    allowed: set[tuple[str, ...]] = {_RESTARTED_AT}
    if entry.get("manager") == KILL_FIELD_MANAGER:
        allowed.add(_REPLICAS)
    return any(
        path[0] not in ("f:metadata", "f:status") and path not in allowed for path in _leaves(entry.get("fieldsV1", {}))
    )


def _leaves(fields: dict[str, Any], path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    """Yield the path of every owned leaf.

    `{"f:spec": {".": {}, "f:replicas": {}}}` yields `("f:spec", "f:replicas")`. The `.` owns only the parent.
    """
    for name, below in fields.items():
        if name == ".":
            continue
        if below and set(below) != {"."}:
            yield from _leaves(below, (*path, name))
        elif not _is_parent_of_allowed((*path, name)):
            yield (*path, name)


def _is_parent_of_allowed(path: tuple[str, ...]) -> bool:
    return path == _RESTARTED_AT[: len(path)] and path != _RESTARTED_AT


def _merge(into: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, below in fields.items():
        _merge(into.setdefault(name, {}), copy.deepcopy(below))
