"""The reports of an agent's pods: since when each is Ready, and how often the agent's container ended by itself.

A soak counts the time in which a stage was Ready. The operator does not write while nothing changes, so after a restart
only the pods prove that a stage stayed Ready. They say so by the clocks of their nodes, which may be wrong. No pod is
Ready before the API server has created it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any, Final

from interlock.api.environments import Isolation
from interlock.deployment.names import AGENT_POD, DELETED_FIRST, GUARD_POD, POD_DELETION_COST, Manifest, revision_label
from interlock.deployment.observed.causes import PodCause, find_cause, without_figures
from interlock.deployment.observed.egress_check import EgressCheckReport, read_egress_check
from interlock.deployment.observed.pod_images import PodImage, is_image_unknown, read_images
from interlock.deployment.openings import openings_in
from interlock_contract.bundle_schema import read_schemas
from interlock_contract.names import (
    APP_COMPONENT_LABEL,
    BUNDLE_SCHEMAS,
    ENDPOINT,
    ENDPOINT_LABEL,
    GUARD_LABEL,
    ISOLATION_LABEL,
    REVISION_LABEL,
    STAGE_LABEL,
    TEMPLATE_DIGEST,
)
from interlock_contract.pod import AGENT_CONTAINER

_COMPONENTS: Final[dict[str, tuple[str, ...]]] = {"Shared": (AGENT_POD,), "Separate": (AGENT_POD, GUARD_POD)}
"""The components whose pods serve only together, by isolation."""
_GRANULARITY: Final = timedelta(seconds=1)
"""The kubelet cuts the time of a transition to whole seconds."""
_LOST: Final = ("Unknown", "ContainerStatusUnknown")
"""Reasons of a container that ended with its node or its container runtime."""
_DISRUPTED: Final = "DisruptionTarget"
"""The condition of a pod that is evicted or preempted, or ends with its node."""
_MOST_CAUSES: Final = 560
"""Characters of all causes. The message of a condition has room for them, and for the command after them."""
TEMPLATE_HASH_LABEL: Final = "pod-template-hash"
"""Label of the pods and ReplicaSets that the Deployment's controller makes from one pod template."""
_NO_CAUSE: Final = PodCause()
_ENDED: Final = ("Failed", "Succeeded")
"""The phases of a pod none of whose containers runs or will run again."""


@dataclass(frozen=True, slots=True)
class PodGroup:
    """What the pods of one Deployment share.

    Attributes:
        stage: The stage of their placement.
        revision: The revision of their placement, as in its label.
        isolation: Whether agent and guard share a pod.
        component: Whether the agent runs in them, or the guard alone.
    """

    stage: str
    revision: str
    isolation: str
    component: str


@dataclass(frozen=True, slots=True)
class ReadySpan:
    """A time in which one pod was Ready without a break.

    Attributes:
        group: The pod's group.
        since: Since when it was certainly Ready.
        until: Until when.
    """

    group: PodGroup
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class PodReport:
    """The report of one pod.

    Attributes:
        uid: The pod's uid.
        group: The pod's group.
        ready_since: Since when it is certainly Ready, None while it is not.
        ready_until: When a pod that is not Ready lost its readiness, None where it does not say so.
        ends: How often the agent's container ended in this pod, except by the end of the pod itself.
        is_last_lost: The last of these ends came with the end of the node or of the container runtime.
        cause: Why it is not ready.
        egress_check: The report of the egress check, None where the pod has none.
        name: The pod's name.
        is_marked: The pod is marked as one that goes: the ReplicaSet's controller deletes it before others, and no
            Service leads to it. None where only one of the two holds.
        addresses: The IP addresses of a separate agent's pod, in their canonical form. Empty for other pods.
        images: The images that tags have led to in it; empty for a pod that has ended as a whole, which runs none.
        is_image_unknown: A tag may have led to an image in it that is not known yet, or no longer.
        has_other_image: One of them is not that with which its revision was Ready first. Nothing of such a pod counts.
        claims: The names of the claims that it mounts; empty once all its containers have ended for good.
        is_ending: It is terminating, so that it is no part of its placement any more.
        openings: What it was started with that can be withdrawn, see `openings`.
        template_hash: What the Deployment's controller names its ReplicaSet by, empty if it has none.
        has_ended: All its containers have ended for good.
        schemas: The versions of the bundle's schema that its guard reads; None without a guard.
        template: The digest of the template that it was started from; empty if an earlier version has started it.
    """

    uid: str
    group: PodGroup
    ready_since: datetime | None = None
    ready_until: datetime | None = None
    ends: int = 0
    is_last_lost: bool = False
    cause: PodCause = _NO_CAUSE
    egress_check: EgressCheckReport | None = None
    name: str = ""
    is_marked: bool | None = False
    addresses: tuple[str, ...] = ()
    images: tuple[PodImage, ...] = ()
    is_image_unknown: bool = False
    has_other_image: bool = False
    claims: frozenset[str] = frozenset()
    is_ending: bool = False
    openings: str = ""
    template_hash: str = ""
    has_ended: bool = False
    schemas: frozenset[int] | None = None
    template: str = ""


@dataclass(frozen=True)
class AgentPods:
    """All that is known about the pods of one agent.

    Attributes:
        reports: The reports of its pods that are not terminating.
        past: When its pods were Ready before.
        ending: The reports of its pods that are terminating and that something waits for: they mount claims, or their
            guards do not read the newest schema of the bundle.
        leaving: The names of all its pods that were deleted and may still run; None where that is not known.
    """

    reports: tuple[PodReport, ...] = ()
    past: tuple[ReadySpan, ...] = ()
    ending: tuple[PodReport, ...] = ()
    leaving: frozenset[str] | None = None

    def cause(self, stage: str, revision: str) -> str:
        """Return why pods of a placement are not ready, each different cause once; empty where none says so.

        Causes that differ in figures alone, such as an address, are one. A pod that has ended as a whole counts only if
        no other one says anything. The order does not depend on that of the pods, which changes as they are replaced.
        """
        found = [one.cause for one in self.of(stage, revision) if one.cause.message]
        found = [one for one in found if not one.is_over] or found
        causes = {without_figures(message): message for message in sorted((one.message for one in found), reverse=True)}
        messages = sorted(causes.values())
        shown = [one if len(one) <= _MOST_CAUSES else f"{one[: _MOST_CAUSES - 3]}..." for one in messages[:1]]
        for message in messages[1:]:
            if len("; ".join((*shown, message))) <= _MOST_CAUSES:
                shown.append(message)
        omitted = len(messages) - len(shown)
        return "; ".join((*shown, f"other pods have {omitted} more causes") if omitted else shown)

    def of(self, stage: str, revision: str) -> tuple[PodReport, ...]:
        """Return the reports of one placement's pods. Those of its tests are no part of it."""
        wanted = stage, revision_label(revision)
        return tuple(
            one
            for one in self.reports
            if (one.group.stage, one.group.revision) == wanted and one.group.component in (AGENT_POD, GUARD_POD)
        )

    def with_other_images(self, stage: str, revision: str) -> tuple[PodReport, ...]:
        """Return those of a placement's pods that run another image than their revision was Ready with first."""
        return tuple(one for one in self.of(stage, revision) if one.has_other_image)

    def ready_since(self, stage: str, revision: str, isolation: Isolation, wanted: int) -> datetime | None:
        """Return since when so many pods of each of a placement's Deployments are Ready without a break.

        Args:
            stage: The stage of the placement.
            revision: The revision of the placement.
            isolation: The isolation of the placement.
            wanted: How many pods each Deployment must have, at least 1.

        Returns:
            The moment, None where fewer pods are Ready now.
        """
        found = self._ready_moments(stage, revision, isolation)
        if any(len(moments) < wanted for moments in found):
            return None
        return max(moments[wanted - 1] for moments in found)

    def ready_count(self, stage: str, revision: str, isolation: Isolation) -> int:
        """Return how many pods of each of a placement's Deployments are Ready."""
        return min(len(moments) for moments in self._ready_moments(stage, revision, isolation))

    def guards(self, stage: str, revision: str, isolation: Isolation) -> tuple[PodReport, ...]:
        """Return the reports of a placement's pods that a guard runs in."""
        group = PodGroup(stage, revision_label(revision), isolation, _COMPONENTS[isolation][-1])
        return tuple(one for one in self.reports if one.group == group)

    def separate_agents(self, stage: str, revision: str, isolation: Isolation) -> tuple[PodReport, ...]:
        """Return the reports of a placement's pods that an agent runs in, and no guard."""
        group = PodGroup(stage, revision_label(revision), isolation, AGENT_POD)
        return tuple(one for one in self.reports if one.group == group) if isolation == "Separate" else ()

    def _ready_moments(self, stage: str, revision: str, isolation: Isolation) -> list[list[datetime]]:
        """Return for each Deployment since when its Ready pods are so, the first one first."""
        label = revision_label(revision)
        groups = [PodGroup(stage, label, isolation, component) for component in _COMPONENTS[isolation]]
        return [
            sorted(one.ready_since for one in self.reports if one.group == group and one.ready_since)
            for group in groups
        ]

    def ready_until(self, stage: str, revision: str, since: datetime, wanted: int, now: datetime) -> datetime:
        """Return until when so many pods of each Deployment were Ready without a break since a moment.

        An example with two pods: one is Ready from 8:00 until now, one from 8:00 to 9:00, and its successor from 9:01.
        Two pods were Ready from 8:30 to 9:00. A placement whose isolation is changing counts with that of its old pods.

        Args:
            stage: The stage of the placement.
            revision: The revision of the placement.
            since: The moment.
            wanted: How many pods each Deployment must have had, at least 1.
            now: The time.

        Returns:
            A moment not after `now`; `since` itself where the pods prove nothing.
        """
        label = revision_label(revision)
        present = (ReadySpan(one.group, one.ready_since, now) for one in self.reports if one.ready_since)
        covering = [span for span in (*present, *self.past) if span.since <= since]

        def end(group: PodGroup) -> datetime:
            ends = sorted((min(span.until, now) for span in covering if span.group == group), reverse=True)
            return ends[wanted - 1] if len(ends) >= wanted else since

        return max(
            min(end(PodGroup(stage, label, isolation, component)) for component in components)
            for isolation, components in _COMPONENTS.items()
        )


def read_pod(pod: Manifest) -> PodReport:
    """Return the report of a pod with an agent, a guard or both."""
    metadata, labels = pod["metadata"], pod["metadata"].get("labels", {})
    group = PodGroup(
        stage=labels.get(STAGE_LABEL, ""),
        revision=labels.get(REVISION_LABEL, ""),
        isolation=labels.get(ISOLATION_LABEL, ""),
        component=labels.get(APP_COMPONENT_LABEL, ""),
    )
    has_check = (group.isolation, group.component) == ("Separate", AGENT_POD)
    has_ended = pod.get("status", {}).get("phase") in _ENDED
    claims = frozenset() if has_ended else mounted_claims(pod.get("spec", {}))
    if (deleted_at := deletion_of(pod)) is not None:
        return PodReport(
            metadata.get("uid", ""),
            group,
            ready_until=deleted_at,
            claims=claims,
            is_ending=True,
            has_ended=has_ended,
            schemas=schemas_in(metadata),
        )
    is_ready, changed_at = _readiness(pod)
    ends, is_last_lost = _ends(pod)
    return PodReport(
        uid=metadata.get("uid", ""),
        group=group,
        ready_since=_ready_since(metadata, changed_at) if is_ready and changed_at else None,
        ready_until=None if is_ready else changed_at,
        ends=ends,
        is_last_lost=is_last_lost,
        cause=_NO_CAUSE if is_ready else find_cause(pod),
        egress_check=read_egress_check(pod) if has_check else None,
        name=metadata.get("name", ""),
        is_marked=_is_marked(metadata),
        addresses=_addresses(pod) if has_check else (),
        images=() if has_ended else read_images(pod),  # else pods that were evicted would crowd out those that run
        is_image_unknown=not has_ended and is_image_unknown(pod),
        claims=claims,
        openings=openings_in(metadata.get("annotations") or {}),
        template_hash=labels.get(TEMPLATE_HASH_LABEL, ""),
        has_ended=has_ended,
        schemas=schemas_in(metadata),
        template=(metadata.get("annotations") or {}).get(TEMPLATE_DIGEST, ""),
    )


def schemas_in(metadata: Manifest) -> frozenset[int] | None:
    """Return the versions of the bundle's schema that the guard of a pod reads, None for a pod without a guard."""
    if GUARD_LABEL not in (metadata.get("labels") or {}):
        return None
    return read_schemas((metadata.get("annotations") or {}).get(BUNDLE_SCHEMAS))


def mounted_claims(spec: Manifest) -> frozenset[str]:
    """Return the names of the claims that a pod with this spec mounts."""
    found = ((volume.get("persistentVolumeClaim") or {}).get("claimName") for volume in spec.get("volumes") or ())
    return frozenset(name for name in found if name)


def _ready_since(metadata: Manifest, changed_at: datetime) -> datetime:
    created_at = metadata.get("creationTimestamp")
    since = changed_at + _GRANULARITY
    return max(since, _moment(created_at)) if created_at else since


def deletion_of(pod: Manifest) -> datetime | None:
    """Return when the deletion of a pod was requested, None where it is not terminating."""
    metadata = pod["metadata"]
    if "deletionTimestamp" not in metadata:
        return None
    # The API server writes the end of the grace period.
    return _moment(metadata["deletionTimestamp"]) - timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)


def _is_marked(metadata: Manifest) -> bool | None:
    labels = metadata.get("labels") or {}
    is_first = (metadata.get("annotations") or {}).get(POD_DELETION_COST) == DELETED_FIRST
    if GUARD_LABEL not in labels:  # no Service for tasks leads to it in any case
        return is_first
    is_endpoint = labels.get(ENDPOINT_LABEL) == ENDPOINT
    return None if is_first == is_endpoint else is_first


def _addresses(pod: Manifest) -> tuple[str, ...]:
    found: Iterable[dict[str, Any]] = pod.get("status", {}).get("podIPs") or ()
    return tuple(str(ip_address(one["ip"])) for one in found if one.get("ip"))


def _readiness(pod: Manifest) -> tuple[bool, datetime | None]:
    """Return whether a pod is Ready, and since when or since when not, as far as it says so."""
    found = _condition(pod, "Ready")
    changed_at = found.get("lastTransitionTime")
    return found.get("status") == "True", _moment(changed_at) if changed_at else None


def _ends(pod: Manifest) -> tuple[int, bool]:
    """Return how often the agent's container has ended, and whether the last end came with that of its node.

    `restartCount` counts the ends that a restart has followed. An end without a restart so far is in `state`, or in
    `lastState` while the container waits. It counts unless the pod ends as a whole, since no restart follows then.
    """
    statuses: Iterable[dict[str, Any]] = pod.get("status", {}).get("containerStatuses") or ()
    found = next((one for one in statuses if one["name"] == AGENT_CONTAINER), {})
    state, last = found.get("state") or {}, (found.get("lastState") or {}).get("terminated")
    pending = state.get("terminated") or (last if "waiting" in state else None)
    if _is_ending(pod):
        pending = None
    latest = pending or last or {}
    return found.get("restartCount", 0) + (pending is not None), latest.get("reason") in _LOST


def _is_ending(pod: Manifest) -> bool:
    phase = pod.get("status", {}).get("phase")
    return phase in _ENDED or _condition(pod, _DISRUPTED).get("status") == "True"


def _condition(pod: Manifest, kind: str) -> dict[str, Any]:
    conditions: Iterable[dict[str, Any]] = pod.get("status", {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind), {})


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
