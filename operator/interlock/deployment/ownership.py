"""Ownership of live objects: whose an object is, whether others changed it, and the patch that makes it ours again.

Each write of ours replaces the whole content of an object, so that no addition survives, whichever field manager owns
it. The answer of the API server holds our content, its own defaults, and additions of webhooks. The object must stay
like that answer, so the status of its owner keeps the digest of it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock.deployment.names import ChildKey, Manifest, with_template_annotation
from interlock_contract.names import APP_MANAGED_BY_LABEL, CLOUD_KEYS, MANAGED_BY

_NO_CONTENT: Final = ("apiVersion", "kind", "metadata", "status")
_LEFT_TO_OTHERS: Final[Mapping[str, tuple[str, ...]]] = {"ServiceAccount": ("secrets", "imagePullSecrets")}
"""Members that controllers of some clusters fill in, such as OpenShift's. They grant nothing."""
_RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"


@dataclass(frozen=True)
class AppliedObject:
    """An object as our last write left it.

    Attributes:
        uid: Its `metadata.uid`; empty for a Secret that existed already.
        digest: The digest of its content, see `content_digest`; empty for a Secret, which is not read.
    """

    uid: str
    digest: str


AppliedObjects = Mapping[ChildKey, AppliedObject]


def applied_object(live: Manifest) -> AppliedObject:
    """Return what is kept of the API server's answer to a write."""
    return AppliedObject(live["metadata"].get("uid", ""), content_digest(live))


def content_digest(live: Manifest) -> str:
    """Return the SHA-256, in hex, of the content of a live object.

    Metadata, status, and what other controllers write by right are no content: the replicas of a Deployment, which the
    kill controller sets to zero, and the annotation of `kubectl rollout restart`.
    """
    left_out = (*_NO_CONTENT, *_LEFT_TO_OTHERS.get(live["kind"], ()))
    content = {name: value for name, value in live.items() if name not in left_out}
    if live["kind"] == "Deployment":
        content["spec"] = _without_replicas_and_restart(content["spec"])
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def is_owned(live: Manifest, owner: Mapping[str, Any], applied: AppliedObject | None) -> bool:
    """Return True if a live object is the owner's.

    Args:
        live: The live object.
        owner: The ownerReference that the object must carry.
        applied: What the status of the owner records of the object. The recorded uid proves that we created it, even
            where others removed the ownerReference.

    Every user can put our ownerReference on an object, and would have it adopted with the tokens that they made for it.
    Only the operator can set the label of managed objects, so an object needs both.
    """
    metadata = live["metadata"]
    if applied is not None and metadata.get("uid") == applied.uid:
        return True
    is_managed = metadata.get("labels", {}).get(APP_MANAGED_BY_LABEL) == MANAGED_BY
    return is_managed and any(found.get("uid") == owner["uid"] for found in metadata.get("ownerReferences", ()))


def is_left_over(live: Manifest, owner: Mapping[str, Any]) -> bool:
    """Return True if all owners of a live object are earlier objects of our owner's name, which no longer exist."""
    owners = live["metadata"].get("ownerReferences", ())
    return bool(owners) and all(
        all(found.get(name) == owner[name] for name in ("apiVersion", "kind", "name")) and found["uid"] != owner["uid"]
        for found in owners
    )


def replacement(manifest: Manifest, live: Manifest, *, keeps_content: bool = False) -> list[dict[str, Any]]:
    """Return the JSON patch that replaces the content of a live object with the manifest's.

    Labels, annotations and further owners of others stay. The API server refuses the patch if the object has changed
    since it was read.

    Args:
        manifest: The object as it must be.
        live: The object as it was read.
        keeps_content: Whether another program writes the content, so that only the metadata is repaired.
    """
    wanted, found = manifest["metadata"], live["metadata"]
    uids = {owner["uid"] for owner in wanted["ownerReferences"]}
    others = [owner for owner in found.get("ownerReferences", ()) if owner["uid"] not in uids]
    metadata = {
        "resourceVersion": found["resourceVersion"],
        "labels": {**found.get("labels", {}), **wanted["labels"]},
        "ownerReferences": [*wanted["ownerReferences"], *others],
    }
    if "annotations" in wanted:
        unwanted = unwanted_annotations(wanted, found)
        kept_annotations = {name: one for name, one in found.get("annotations", {}).items() if name not in unwanted}
        metadata["annotations"] = {**kept_annotations, **wanted["annotations"]}
    repaired = [{"op": "add", "path": f"/metadata/{name}", "value": value} for name, value in metadata.items()]
    if keeps_content:
        return repaired
    content = {name: value for name, value in manifest.items() if name not in _NO_CONTENT}
    if manifest["kind"] == "Deployment":
        content["spec"] = _with_restart_of(content["spec"], live["spec"])
    kept = (*_NO_CONTENT, *_LEFT_TO_OTHERS.get(manifest["kind"], ()), *content)
    return [
        *repaired,
        # "remove" would fail where another writer was faster, and null is how the API server writes an absent member.
        *({"op": "add", "path": f"/{name}", "value": None} for name in live if name not in kept),
        *({"op": "add", "path": f"/{name}", "value": value} for name, value in content.items()),
    ]


def unwanted_annotations(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the annotations by which a cloud gives an identity to pods, and which the operator does not want.

    Other annotations of others stay.

    Args:
        wanted: The metadata as it must be.
        live: The metadata as it was read.
    """
    found, stated = live.get("annotations") or {}, wanted.get("annotations") or {}
    return tuple(key for key in CLOUD_KEYS if key in found and key not in stated)


def _without_replicas_and_restart(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment's spec as it is compared; older API servers write a time of creation into the template."""
    template = spec.get("template", {})
    metadata = {name: value for name, value in template.get("metadata", {}).items() if name != "creationTimestamp"}
    notes = {name: value for name, value in metadata.get("annotations", {}).items() if name != _RESTARTED_AT}
    return {
        **{name: value for name, value in spec.items() if name != "replicas"},
        "template": {**template, "metadata": {**metadata, "annotations": notes}},
    }


def _with_restart_of(spec: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment's spec with the live annotation of `kubectl rollout restart`: without it all pods roll."""
    restarted = live["template"].get("metadata", {}).get("annotations", {}).get(_RESTARTED_AT)
    if restarted is None:
        return spec
    return with_template_annotation(spec, _RESTARTED_AT, restarted)
