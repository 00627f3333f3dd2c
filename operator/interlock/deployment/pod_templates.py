"""Which pod template a Deployment gets: the one of today, or the one that its pods run with.

A new version of the operator, or other settings of it, may write another template for the same agent. A Deployment
replaces its pods as soon as its template differs, so such a template waits until the agent may be updated. A change
that users made, or that withdraws something, does not wait.

The status records what was written the last time, or what would have been: by which version of the operator, from
which inputs, and as which template.

    recorded by this version    another template today    the change is not the operator's: written
    recorded by another one     other inputs today        users changed something meanwhile: written
    recorded by another one     the same inputs           the change is the operator's: it waits
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from interlock.deployment.names import ChildKey, Manifest
from interlock.deployment.openings import withdraws
from interlock.deployment.ownership import AppliedObject
from interlock.deployment.plan import ACCOUNT, SECRET, LiveChild, differs, was_changed
from interlock_contract.names import SCHEDULING_DIGEST

_CONFIG_MAP = "ConfigMap"


@dataclass(frozen=True)
class TemplateRecord:
    """What is recorded about the pod template of one Deployment.

    Attributes:
        operator: The digest of version and settings of the operator that built it.
        inputs: The digest of what it was built from, besides these.
        template: The digest of the template.
    """

    operator: str
    inputs: str
    template: str


@dataclass(frozen=True)
class TemplateChoice:
    """What a Deployment gets.

    Attributes:
        manifest: The manifest to write.
        record: What to record once the live object is like the manifest.
        is_outdated: Its pods run with the template of another version of the operator, or of other settings.
        is_kept: They go on doing so.
    """

    manifest: Manifest
    record: TemplateRecord
    is_outdated: bool = False
    is_kept: bool = False


def choose_template(
    desired: Manifest,
    live: LiveChild | None,
    applied: AppliedObject | None,
    recorded: TemplateRecord | None,
    *,
    operator: str,
    inputs: str,
    is_first: bool,
    may_update: bool,
) -> TemplateChoice:
    """Return what a Deployment gets.

    Args:
        desired: The manifest of today.
        live: The live object.
        applied: What our last write left of it. A template that others changed is not kept.
        recorded: What the status records.
        operator: The digest of version and settings of this operator.
        inputs: The digest of what the manifest was built from, besides these.
        is_first: Whether no version of the operator that records templates has written the status before.
        may_update: Whether the pods may be replaced because of the operator alone.
    """
    record = TemplateRecord(operator, inputs, digest_template(desired))
    today = TemplateChoice(desired, record)
    if live is None or applied is None or was_changed(live, applied):
        return today
    if not desired["spec"]["replicas"] or not live.manifest["spec"].get("replicas", 1):  # no pod would be replaced
        return today
    if not differs(desired["spec"]["template"], live.manifest["spec"]["template"]):
        return today
    if withdraws(desired, live.manifest) or _was_asked_for(record, recorded, is_first=is_first):
        return today
    if may_update:
        return TemplateChoice(desired, record, is_outdated=True)
    return TemplateChoice(keep_template(desired, live), record, is_outdated=True, is_kept=True)


def keep_template(desired: Manifest, live: LiveChild) -> Manifest:
    """Return the manifest of a Deployment with the template that its pods run with."""
    kept = {name: live.manifest["spec"][name] for name in ("selector", "template")}
    return _with_note_of(live.manifest, desired) | {"spec": desired["spec"] | kept}


def _with_note_of(live: Manifest, desired: Manifest) -> Manifest:
    """Return a manifest with the live note on where pods run: it is about the template that is kept."""
    metadata, found = desired["metadata"], live["metadata"].get("annotations") or {}
    notes = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != SCHEDULING_DIGEST}
    notes |= {SCHEDULING_DIGEST: found[SCHEDULING_DIGEST]} if SCHEDULING_DIGEST in found else {}
    return {**desired, "metadata": {**metadata, "annotations": notes}}


def _was_asked_for(today: TemplateRecord, recorded: TemplateRecord | None, *, is_first: bool) -> bool:
    """Return True if a template differs, or may differ, because of something else than the operator.

    A record that is lost, such as by CRDs of an earlier version, must not keep what users changed waiting for ever.
    """
    if recorded is None:
        return not is_first
    if recorded.operator == today.operator:
        return recorded.template != today.template
    return recorded.inputs != today.inputs


def digest_template(workload: Manifest) -> str:
    """Return the SHA-256, in hex, of the pod template of a Deployment's manifest."""
    return digest_parts(workload["spec"]["template"])


def digest_parts(*parts: Any) -> str:
    """Return the SHA-256, in hex, of parts as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def needed_by(workloads: Iterable[Manifest]) -> frozenset[ChildKey]:
    """Return the objects that pods of some Deployments mount or read variables from, and their ServiceAccounts.

    A version of the operator may name such an object otherwise, and pods that keep an earlier template need it.
    """
    return frozenset(key for one in workloads for key in _references(one["spec"]["template"].get("spec") or {}))


def _references(pod: Mapping[str, Any]) -> Iterable[ChildKey]:
    if name := pod.get("serviceAccountName"):
        yield ChildKey(ACCOUNT, name)
    for volume in pod.get("volumes") or ():
        projected = (volume.get("projected") or {}).get("sources") or ()
        for source in (volume, *projected):
            yield from _named(source)
    for container in (*(pod.get("initContainers") or ()), *(pod.get("containers") or ())):
        for one in container.get("envFrom") or ():
            yield from _named({"secret": one.get("secretRef"), "configMap": one.get("configMapRef")})
        for one in container.get("env") or ():
            found = one.get("valueFrom") or {}
            yield from _named({"secret": found.get("secretKeyRef"), "configMap": found.get("configMapKeyRef")})


def _named(source: Mapping[str, Any]) -> Iterable[ChildKey]:
    for member, kind in (("secret", SECRET), ("configMap", _CONFIG_MAP)):
        found = source.get(member) or {}
        if name := found.get("name") or found.get("secretName"):
            yield ChildKey(kind, name)
