"""The metadata of Agents, AgentPolicies and MCPBindings that the operator keeps: what it reads, and nothing else.

Users write most of metadata. What is kept of it has bounds, whatever they write.
"""

from typing import Any, Final

from interlock.api.shared_types import ObjectMeta
from interlock_contract.kill import shorten
from interlock_contract.names import (
    ACCEPT_DRIFT,
    BUDGET_OVERRIDE,
    BUDGET_OVERRIDE_BY,
    KILL_SWITCH,
    NEEDS_REVIEW,
    ROLLOUT_COMMANDS,
    SPEC_AUTHOR,
)
from interlock_kube.client import Json

_ANNOTATIONS: Final = (
    *(KILL_SWITCH, NEEDS_REVIEW, ACCEPT_DRIFT, BUDGET_OVERRIDE, BUDGET_OVERRIDE_BY, SPEC_AUTHOR),
    *(name for command in ROLLOUT_COMMANDS for name in (command, f"{command}-by")),
)


def with_needed_metadata(raw: Json) -> Json:
    """Return an object with the beginnings of the annotations that the operator reads, and without other metadata.

    Other annotations, also such in our name, can be large, and no budget counts what is kept for a kill. Of
    `managedFields` the name of one manager is kept, the author of a spec where no annotation names one.
    """
    metadata = dict(raw["metadata"])
    manager = find_spec_manager(metadata.pop("managedFields", None))
    if manager:
        metadata["managedFields"] = [{"manager": manager}]
    if "annotations" in metadata:
        found = metadata["annotations"] or {}
        metadata["annotations"] = {name: shorten(found[name]) for name in _ANNOTATIONS if name in found}
    return {**raw, "metadata": metadata}


def has_changed(before: ObjectMeta, written: Json) -> bool:
    """Return True if a user changed an object between its snapshot and the answer to a write of its status.

    Args:
        before: The metadata of the snapshot.
        written: The answer.
    """
    now = ObjectMeta.model_validate(with_needed_metadata(written)["metadata"])
    return (before.generation, before.labels, before.annotations, before.deletion_timestamp) != (
        now.generation,
        now.labels,
        now.annotations,
        now.deletion_timestamp,
    )


def find_spec_manager(managed: Any) -> str:
    """Return the field manager that changed a spec last, by the time that the API server wrote; empty where none did.

    Args:
        managed: `metadata.managedFields`, which users may write too. Only the outermost keys of its fields are read.
    """
    entries = [one for one in managed if isinstance(one, dict)] if isinstance(managed, list) else []
    found = [
        (str(one.get("time", "")), shorten(one.get("manager", "")))
        for one in entries
        if isinstance(one.get("fieldsV1"), dict) and "f:spec" in one["fieldsV1"] and not one.get("subresource")
    ]
    return max(found, key=lambda one: one[0])[1] if found else ""
