"""Why a pod is not ready: in the words of its containers, of the scheduler and of the kubelet.

The status of a pod names most causes. A few, such as a volume that cannot be mounted or a probe that fails, are only in
Events about the pod.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from interlock.deployment.names import Manifest
from interlock.deployment.observed.pod_refusals import find_way_out
from interlock.deployment.observed.quoting import quote_last_line, quote_message, quote_wrapped
from interlock_contract.clock import read_time

_STARTING: Final = ("ContainerCreating", "PodInitializing")
_PLAIN_ENDS: Final = ("", "Error", "Completed")
"""Reasons of an ended container that say no more than its exit code."""
_RUNTIME_ENDS: Final = ("StartError", "ContainerCannotRun")
"""Reasons of a container that never ran. Their message is the container runtime's, and no log."""
_FAILED_PULL: Final = "ErrImagePull"
_PULL_BACK_OFF: Final = "ImagePullBackOff"
_PULL_FAILS = re.compile(rf"\b(?:{_FAILED_PULL}|{_PULL_BACK_OFF}|Failed to pull image)\b")
_SAYS_NO_CAUSE = re.compile(rf"Error: (?:{_FAILED_PULL}|{_PULL_BACK_OFF})")
"""The note of a second Event about each failed pull. The first one names the image and the cause."""
_PULL_WAY_OUT: Final = (
    "correct the name of the image, load it onto the nodes (kind load docker-image), or name a Secret of its registry "
    "in imagePullSecrets"
)
_SAME_END: Final = 60
"""Characters at the end of two messages about a pull that are compared."""
_PROBE: Final = "Unhealthy"
_GATES: Final = "ReadinessGatesNotReady"
"""The reason of a pod whose containers are ready, and which another controller has not released so far."""
_MOST_CONTAINERS: Final = 2
"""Failing containers of one pod that are described."""
_FIGURE = re.compile(r"\w*\d\w*")
"""A word with a digit: a port of the client, a duration, a count, part of an id."""
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_PLACE = re.compile(r"spec\.[A-Za-z]{1,32}\{([a-z0-9][-a-z0-9]{0,62})\}")
"""The path of a container in a pod, with its name."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ContainerFailure:
    """Why one container is not ready.

    Attributes:
        container: Its name.
        waits_for: The reason for which it waits, such as `CrashLoopBackOff`; empty if it has ended or runs again.
        exit_code: Of its last end, None without one.
        why: The words of the kubelet or of its log; empty where there are none.
    """

    container: str
    waits_for: str
    exit_code: int | None
    why: str

    @property
    def message(self) -> str:
        """The failure as a sentence."""
        return _said(f"container {self.container} {f'is in {self.waits_for}' if self.waits_for else 'ended'}", self.why)

    def after(self, earlier: "ContainerFailure") -> "ContainerFailure":
        """Return the failure with the back-off of an earlier one, if it is the same once more.

        A container in a back-off makes one more attempt now and then. The words of two ends may differ in figures, such
        as the time of day in each line of a log.
        """
        if (self.waits_for, earlier.waits_for) == (_FAILED_PULL, _PULL_BACK_OFF):
            # The message of the back-off ends with that of the last pull.
            return earlier if earlier.why.endswith(self.why[1:][-_SAME_END:]) else self
        is_same = (self.exit_code, without_figures(self.why)) == (earlier.exit_code, without_figures(earlier.why))
        return replace(self, waits_for=earlier.waits_for) if is_same and not self.waits_for else self


@dataclass(frozen=True, slots=True)
class PodCause:
    """Why a pod is not ready.

    Attributes:
        message: The cause; empty where the pod's status has none.
        may_have_event: Whether an Event may say more: nothing is known, or a container ended, which a probe may cause.
        is_over: The pod has ended as a whole, and another one takes its place.
        failures: The containers that fail, where they are the cause.
        progressed_at: When the pod last got further: it got a node, or a container started. What Events said before
            is over, except that a probe failed.
    """

    message: str = ""
    may_have_event: bool = False
    is_over: bool = False
    failures: tuple[ContainerFailure, ...] = ()
    progressed_at: datetime = _EPOCH

    def after(self, earlier: "PodCause") -> "PodCause":
        """Return the cause, where each container that has only made one more attempt is still in its back-off.

        A container that crashes again and again runs, ends and waits in turn. The message would change each time.
        """
        before = {one.container: one for one in earlier.failures}
        kept = tuple(one.after(before.get(one.container, one)) for one in self.failures)
        return replace(self, message=_describe_failures(kept), failures=kept) if kept else self


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
        """Return the message of a cause together with this Event, unless the Event is over or adds nothing."""
        if not self.is_probe and (cause.message or self.at < cause.progressed_at):
            return cause.message
        return f"{cause.message}; {self.message}" if cause.message else self.message


def find_pull_way_out(message: str) -> str:
    """Return what to do about a cause where it is an image that cannot be pulled, or an empty string."""
    return _PULL_WAY_OUT if _PULL_FAILS.search(message) else ""


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
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    if whole := _text(status, "reason"):  # evicted, node lost, ...
        has_ended = status.get("phase") == "Failed"
        said = _said(
            f"a pod ended: {whole}" if has_ended else f"a pod: {whole}", quote_message(_text(status, "message"))
        )
        return PodCause(said, is_over=has_ended)
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        reason = f"FailedScheduling, {_text(scheduled, 'reason')}".removesuffix(", ")
        return PodCause(_said(f"a pod has no node: {reason}", quote_message(_text(scheduled, "message"))))
    failures = tuple(sorted(_failures(status), key=lambda one: not one.waits_for))
    if failures:
        has_end = any(one.exit_code is not None for one in failures)
        return PodCause(_describe_failures(failures), may_have_event=has_end, failures=failures)
    ready = conditions.get("Ready", {})
    if _text(ready, "reason") == _GATES:
        return PodCause(_said(f"a pod: {_GATES}", quote_message(_text(ready, "message"))))
    return PodCause(may_have_event=True, progressed_at=_progressed_at(status, scheduled))


def _progressed_at(status: dict[str, Any], scheduled: dict[str, Any]) -> datetime:
    started = ((one.get("state", {}).get("running") or {}).get("startedAt") for one in _containers(status))
    times = (scheduled.get("lastTransitionTime"), *started)
    return max((read_time(time, _EPOCH) for time in times if isinstance(time, str)), default=_EPOCH)


def _failures(status: dict[str, Any]) -> Iterator[ContainerFailure]:
    for found in _containers(status):
        waiting = found.get("state", {}).get("waiting") or {}
        reason = _text(waiting, "reason")
        if reason and reason not in _STARTING:
            ended = found.get("lastState", {}).get("terminated")
            # The kubelet's own message about a crash holds the length of the back-off, which changes at each restart.
            why = _describe_end(ended) if ended else quote_wrapped(_text(waiting, "message"))
            yield ContainerFailure(found["name"], reason, ended.get("exitCode") if ended else None, why)
        elif (end := _unexpected_end(found)) is not None:
            yield ContainerFailure(found["name"], "", end.get("exitCode"), _describe_end(end))


def _describe_failures(failures: Sequence[ContainerFailure]) -> str:
    omitted = len(failures) - _MOST_CONTAINERS
    more = [f"{omitted} more containers fail"] if omitted > 0 else []
    return "; ".join([*(one.message for one in failures[:_MOST_CONTAINERS]), *more])


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
    message = _text(ended, "message")
    never_ran = reason in _RUNTIME_ENDS
    line = quote_wrapped(message.replace('"', "'")) if never_ran else quote_last_line(message)
    return f"{why}: {line}" if line else why


def _said(what: str, words: str) -> str:
    return f"{what} ({words})" if words else what


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def time_of(event: Manifest) -> datetime:
    """Return when an Event, in the form of events.k8s.io/v1, was last observed."""
    times = (
        _text(event.get("series") or {}, "lastObservedTime"),
        _text(event, "deprecatedLastTimestamp"),
        _text(event, "eventTime"),
        _text(event.get("metadata") or {}, "creationTimestamp"),
    )
    return max((read_time(time, _EPOCH) for time in times if time), default=_EPOCH)


def read_warning(event: Manifest) -> PodWarning | None:
    """Return what a Warning Event says, in the form of events.k8s.io/v1.

    None where it is about no pod and no Job, or only repeats that a pull failed.

    Anyone who may create Events chooses their reason and path, too. One whose reason is no word is none of Kubernetes.
    """
    about, reason = event.get("regarding") or {}, _text(event, "reason")
    if about.get("kind") not in ("Pod", "Job") or not _text(about, "uid") or not _REASON.fullmatch(reason):
        return None
    if _SAYS_NO_CAUSE.fullmatch(_text(event, "note")):
        return None
    container = _PLACE.fullmatch(_text(about, "fieldPath"))
    place = f"container {container[1]}" if container else {"Pod": "a pod", "Job": "its Job"}[about["kind"]]
    said = _said(f"{place}: {reason}", quote_wrapped(_text(event, "note")))
    way_out = find_way_out(_text(event, "note"), _text(event.get("metadata") or {}, "namespace"))
    return PodWarning(
        uid=_text(about, "uid"),
        at=time_of(event),
        message=f"{said}; {way_out}" if way_out else said,
        is_probe=reason == _PROBE,
    )
