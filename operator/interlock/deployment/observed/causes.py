"""Why a pod is not ready: in the words of its containers, of the scheduler and of the kubelet.

The status of a pod names most causes. A few, such as a volume that cannot be mounted or a probe that fails, are only in
Events about the pod.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from interlock.deployment.names import Manifest
from interlock.deployment.observed.quoting import quote_last_line, quote_message
from interlock_contract.clock import read_time

_STARTING: Final = ("ContainerCreating", "PodInitializing")
_PLAIN_ENDS: Final = ("", "Error", "Completed")
"""Reasons of an ended container that say no more than its exit code."""
_PROBE: Final = "Unhealthy"
_FIGURE = re.compile(r"\w*\d\w*")
"""A word with a digit: a port of the client, a duration, a count, part of an id."""
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_PLACE = re.compile(r"spec\.[A-Za-z]{1,32}\{([a-z0-9][-a-z0-9]{0,62})\}")
"""The path of a container in a pod, with its name."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PodCause:
    """Why a pod is not ready.

    Attributes:
        message: The cause; empty where the pod's status has none.
        may_have_event: Whether an Event may say more: nothing is known, or a container ended, which a probe may cause.
        is_over: The pod has ended as a whole, and another one takes its place.
    """

    message: str = ""
    may_have_event: bool = False
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class PodWarning:
    """A Warning Event about a pod or a Job.

    Attributes:
        uid: Of the pod or Job.
        at: When it was last observed.
        message: Its words.
        is_probe: Whether a probe has failed.
    """

    uid: str
    at: datetime
    message: str
    is_probe: bool = False

    @property
    def wording(self) -> str:
        """The message without figures."""
        return without_figures(self.message)

    def added_to(self, cause: PodCause) -> str:
        """Return the message of a cause together with this Event."""
        if not cause.message:
            return self.message
        return f"{cause.message}; {self.message}" if self.is_probe else cause.message


def without_figures(message: str) -> str:
    """Return a message without figures, which differ each time that the same failure is reported."""
    return _FIGURE.sub("", message)


def find_cause(pod: Manifest) -> PodCause:
    """Return why a pod is not ready, as far as its status says so.

    Examples: `container agent is in ImagePullBackOff ("pull access denied")`,
    `container agent is in CrashLoopBackOff (exit code 1: "KeyError: 'x'")`,
    `a pod has no node: FailedScheduling, Unschedulable ("0/3 nodes are available: 3 Insufficient memory.")`.
    """
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):  # not ended by its containers: evicted, node lost, ...
        return PodCause(
            _said(f"a pod ended: {status['reason']}", quote_message(_text(status, "message"))), is_over=True
        )
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason = f"FailedScheduling, {_text(condition, 'reason')}".removesuffix(", ")
            return PodCause(_said(f"a pod has no node: {reason}", quote_message(_text(condition, "message"))))
    for found in _containers(status):
        waiting = found.get("state", {}).get("waiting") or {}
        reason = _text(waiting, "reason")
        if reason and reason not in _STARTING:
            ended = found.get("lastState", {}).get("terminated")
            # The kubelet's own message about a crash holds the length of the back-off, which changes at each restart.
            why = _describe_end(ended) if ended else quote_message(_text(waiting, "message"))
            return PodCause(_said(f"container {found['name']} is in {reason}", why), may_have_event=ended is not None)
    for found in _containers(status):
        if (ended := _unexpected_end(found)) is not None:
            return PodCause(_said(f"container {found['name']} ended", _describe_end(ended)), may_have_event=True)
    return PodCause(may_have_event=True)


def _containers(status: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _unexpected_end(found: dict[str, Any]) -> dict[str, Any] | None:
    """Return the end of a container that has not served since; an init container that succeeded is as it has to be."""
    for state in ("state", "lastState"):
        ended: dict[str, Any] | None = found.get(state, {}).get("terminated")
        if ended is not None and ended.get("exitCode") != 0 and not found.get("ready"):
            return ended
    return None


def _describe_end(ended: dict[str, Any]) -> str:
    reason = _text(ended, "reason")
    why = f"exit code {ended.get('exitCode')}" + ("" if reason in _PLAIN_ENDS else f", {reason}")
    line = quote_last_line(_text(ended, "message"))
    return f"{why}: {line}" if line else why


def _said(what: str, words: str) -> str:
    return f"{what} ({words})" if words else what


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def read_warning(event: Manifest) -> PodWarning | None:
    """Return what a Warning Event says, in the form of events.k8s.io/v1; None where it is about no pod and no Job.

    Anyone who may create Events chooses their reason and path, too. One whose reason is no word is none of Kubernetes.
    """
    about, reason = event.get("regarding") or {}, _text(event, "reason")
    if about.get("kind") not in ("Pod", "Job") or not _text(about, "uid") or not _REASON.fullmatch(reason):
        return None
    times = (
        _text(event.get("series") or {}, "lastObservedTime"),
        _text(event, "deprecatedLastTimestamp"),
        _text(event, "eventTime"),
        _text(event.get("metadata") or {}, "creationTimestamp"),
    )
    container = _PLACE.fullmatch(_text(about, "fieldPath"))
    place = f"container {container[1]}" if container else {"Pod": "a pod", "Job": "its Job"}[about["kind"]]
    return PodWarning(
        uid=_text(about, "uid"),
        at=max((read_time(time, _EPOCH) for time in times if time), default=_EPOCH),
        message=_said(f"{place}: {reason}", quote_message(_text(event, "note"))),
        is_probe=reason == _PROBE,
    )
