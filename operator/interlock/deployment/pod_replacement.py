"""How a Deployment replaces its pods: those of the earlier template stay until their tasks have ended.

Kubernetes ends an earlier pod as soon as another one is available, with the grace period of its template. So a
Deployment of an agent that takes tasks holds its earlier pods with another template: for each of them a new one is
started, and none of these counts as available. Once the earlier ones have drained, it holds them no longer, and its
controller ends exactly these. What is under way is in the objects alone:

    template   holds   pods
    B          yes     A is Ready, B starts
    B          yes     A drains, B is Ready and takes all new tasks
    B          no      A ends

Pods end immediately if they may not run any longer, or if nothing is under way in them.
"""

from typing import Any, Final

from interlock.deployment.children.workload import PROGRESS_SECONDS
from interlock.deployment.names import Manifest, template_metadata, with_template_annotation
from interlock.deployment.plan import WORKLOAD, LiveChild, differs
from interlock.deployment.pod_templates import digest_template
from interlock_contract.names import TEMPLATE_DIGEST

HOLD_SECONDS: Final = 172_800
"""How long a Deployment holds its earlier pods without an operator that ends the hold: twice the longest drain."""
_HOLD: Final[dict[str, Any]] = {
    "minReadySeconds": HOLD_SECONDS,
    "progressDeadlineSeconds": HOLD_SECONDS + PROGRESS_SECONDS,  # must be longer
    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}},
}


def with_template_digest(manifest: Manifest) -> Manifest:
    """Return a manifest whose pods say from which template they were started, if it has any."""
    if manifest["kind"] != WORKLOAD:
        return manifest
    return {
        **manifest,
        "spec": with_template_annotation(manifest["spec"], TEMPLATE_DIGEST, digest_template(manifest)),
    }


def template_digest(workload: Manifest | None) -> str:
    """Return the digest of a Deployment's template; empty without one, as earlier versions wrote it."""
    if workload is None:
        return ""
    return str((template_metadata(workload).get("annotations") or {}).get(TEMPLATE_DIGEST, ""))


def holds_pods(workload: Manifest | None) -> bool:
    """Return True if a Deployment holds the pods of its earlier template."""
    return workload is not None and workload["spec"].get("minReadySeconds", 0) == HOLD_SECONDS


def hold_pods(manifest: Manifest) -> Manifest:
    """Return a Deployment that holds the pods of its earlier template.

    Of two pods that use one claim the old one goes first, so such a Deployment cannot.
    """
    if manifest["spec"].get("strategy", {}).get("type") == "Recreate":
        return manifest
    return {**manifest, "spec": {**manifest["spec"], **_HOLD}}


def pace_replacement(desired: Manifest, live: LiveChild | None, *, drains: bool, may_end: bool) -> Manifest:
    """Return the manifest of a Deployment as it must be now: with or without a hold.

    Args:
        desired: The manifest of the Deployment.
        live: The live object.
        drains: Whether something may be under way in its pods, and they may finish it.
        may_end: Whether nothing is under way in those of the earlier template, or there are none.
    """
    if live is None or not desired["spec"]["replicas"] or not live.manifest["spec"].get("replicas", 1):
        return desired
    if differs(desired["spec"]["template"], live.manifest["spec"]["template"]):
        return hold_pods(desired) if drains else desired
    return hold_pods(desired) if holds_pods(live.manifest) and not may_end else desired
