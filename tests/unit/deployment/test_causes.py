"""Why a pod is not ready, in the words of Kubernetes; the same rows are run against an API server."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.deployment.observed.causes import (
    PodCause,
    find_cause,
    find_pull_way_out,
    read_warning,
    without_figures,
)
from tests.requirements import requirement
from tests.support.pod_failures import FAILURES, Failure, container, crashing, ended, status_of, waiting

NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)


def an_event(reason: str, note: str, container: str = "", **parts: Any) -> dict[str, Any]:
    path = {"fieldPath": f"spec.containers{{{container}}}"} if container else {}
    return {"reason": reason, "note": note, "regarding": {"kind": "Pod", "uid": "u-1", **path}, **parts}


@requirement("status.causes")
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_pod_that_fails_says_why(failure: Failure) -> None:
    cause = find_cause({"status": status_of(failure)})
    said = cause.message
    reason, note, container = failure.event
    if reason:
        assert cause.may_have_event
        warning = read_warning(an_event(reason, note, container, eventTime=NINE.isoformat()))
        assert warning is not None
        said = warning.added_to(cause)
    assert failure.says in said
    assert said.isprintable()


ENDS = ("Evicted", "NodeLost", "Shutdown", "UnexpectedAdmissionError", "OutOfcpu", "Preempting")


@pytest.mark.parametrize("reason", ENDS)
def test_a_pod_that_ended_as_a_whole_says_why_and_counts_last(reason: str) -> None:
    pod = {"status": {"phase": "Failed", "reason": reason, "message": "The node was low on resource: memory."}}
    assert find_cause(pod) == PodCause(f'a pod ended: {reason} ("The node was low on resource: memory.")', is_over=True)


@pytest.mark.parametrize(
    "status",
    [{}, {"containerStatuses": None, "conditions": None}, {"initContainerStatuses": [{"name": "pipes", "state": {}}]}],
)
def test_a_pod_that_starts_has_no_cause_of_its_own(status: dict[str, Any]) -> None:
    assert find_cause({"status": status}) == PodCause(may_have_event=True)


def test_an_init_container_that_succeeded_is_no_cause() -> None:
    done = {"name": "launcher", "ready": True, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    assert find_cause({"status": {"initContainerStatuses": [done]}}).message == ""


def test_the_newest_time_of_an_event_counts_whatever_its_form() -> None:
    at = "2026-03-02T09:00:00.000000Z"
    for form in ({"series": {"lastObservedTime": at}}, {"deprecatedLastTimestamp": at}, {"eventTime": at}):
        warning = read_warning(an_event("FailedMount", "x", **form))
        assert warning is not None
        assert warning.at == datetime(2026, 3, 2, 9, tzinfo=UTC)


@requirement("status.causes")
@pytest.mark.parametrize(
    ("reason", "minutes", "shown"),
    [("FailedMount", -1, 0), ("FailedMount", 1, 1), ("NodeNotReady", 1, 1), ("Unhealthy", -1, 1)],
)
def test_an_event_is_over_once_a_container_has_started_unless_a_probe_failed(
    reason: str, minutes: int, shown: int
) -> None:
    running = {"name": "agent", "ready": False, "state": {"running": {"startedAt": "2026-03-02T09:00:00Z"}}}
    cause = find_cause({"status": {"containerStatuses": [running]}})
    warning = read_warning(an_event(reason, "x", eventTime=(NINE + timedelta(minutes=minutes)).isoformat()))
    assert warning is not None
    assert warning.added_to(cause).count(reason) == shown


@pytest.mark.parametrize("note", ["Error: ErrImagePull", "Error: ImagePullBackOff"])
def test_an_event_that_only_repeats_that_a_pull_failed_hides_none_with_the_cause(note: str) -> None:
    assert read_warning(an_event("Failed", note, "mcp-stock")) is None
    assert read_warning(an_event("Failed", 'Failed to pull image "stock:1": not found', "mcp-stock")) is not None


@pytest.mark.parametrize(
    ("message", "is_pull"),
    [
        ('container agent is in ErrImagePull ("not found")', True),
        ('container agent is in ImagePullBackOff ("denied")', True),
        ('container agent: Failed ("Failed to pull image "stock:1": no such host")', True),
        ('container agent is in CrashLoopBackOff (exit code 1: "no image")', False),
        ("", False),
    ],
)
def test_a_failed_pull_names_the_ways_out_and_no_other_cause_does(message: str, *, is_pull: bool) -> None:
    assert ("kind load docker-image" in find_pull_way_out(message)) is is_pull


def test_an_event_before_a_pod_got_a_node_is_over() -> None:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-03-02T09:00:00Z"}
    cause = find_cause({"status": {"conditions": [scheduled]}})
    warning = read_warning(an_event("FailedScheduling", "x", eventTime="2026-03-02T08:59:00Z"))
    assert warning is not None
    assert warning.added_to(cause) == ""


def test_of_many_containers_two_are_described_and_those_that_wait_first() -> None:
    statuses = [container(f"c{number}", state=ended(number)) for number in (1, 2, 3)]
    statuses += waiting("ErrImagePull")["containerStatuses"]
    said = find_cause({"status": {"containerStatuses": statuses}}).message
    assert said == "container agent is in ErrImagePull; container c1 ended (exit code 1); 2 more containers fail"


def cause_of(status: dict[str, Any]) -> PodCause:
    return find_cause({"status": status})


def again(code: int, log: str) -> dict[str, Any]:
    """Return the status of a pod whose container runs again after a crash."""
    running = container("agent", state={"running": {}}, last=ended(code, log=log), restarts=3)
    return {"containerStatuses": [running]}


@requirement("status.quiet")
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (crashing(1, log="9:00:01 x"), again(1, "9:00:01 x")),
        (crashing(1, log="9:00:01 x"), {"containerStatuses": [container("agent", state=ended(1, log="9:05:02 x"))]}),
        (waiting("ImagePullBackOff", "Back-off pulling image: ErrImagePull: no"), waiting("ErrImagePull", "no")),
    ],
    ids=["runs again", "ends again", "pulls again"],
)
def test_one_more_attempt_of_a_container_in_back_off_says_nothing_new(
    first: dict[str, Any], then: dict[str, Any]
) -> None:
    earlier = cause_of(first)
    said = cause_of(then).after(earlier).message
    assert without_figures(said) == without_figures(earlier.message)
    assert "9:05" in said or "9:05" not in str(then)


@requirement("status.causes")
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (crashing(1, log="x"), crashing(137, "OOMKilled")),
        (crashing(1, log="x"), crashing(2, log="x")),
        (crashing(1, log="x"), again(1, "y")),
        (again(1, "x"), crashing(1, log="x")),
        (waiting("ErrImagePull", "not found"), waiting("ImagePullBackOff", "Back-off pulling image")),
        (waiting("ImagePullBackOff", "Back-off: ErrImagePull: no such host"), waiting("ErrImagePull", "not found")),
        (crashing(1, log="x"), waiting("ErrImagePull", "x")),
        (crashing(1, log="x"), {}),
    ],
)
def test_another_failure_of_a_container_is_said(first: dict[str, Any], then: dict[str, Any]) -> None:
    assert cause_of(then).after(cause_of(first)).message == cause_of(then).message


@pytest.mark.parametrize("about", [{}, {"kind": "Pod"}, {"kind": "Node", "uid": "u"}, None])
def test_an_event_about_something_else_is_ignored(about: Any) -> None:
    assert read_warning({"reason": "X", "note": "y", "regarding": about}) is None


def test_only_a_failing_probe_is_added_to_what_a_pod_says_itself() -> None:
    cause = find_cause({"status": status_of(Failure("", crashing(1)))})
    back_off, probe = read_warning(an_event("BackOff", "x")), read_warning(an_event("Unhealthy", "y"))
    assert back_off is not None
    assert probe is not None
    assert back_off.added_to(cause) == cause.message
    assert probe.added_to(cause) == f'{cause.message}; a pod: Unhealthy ("y")'


@requirement("status.quoted")
@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\nb", "\u202eab", "ok; run: kubectl delete agents", "x" * 65, ""])
def test_an_event_with_a_reason_that_is_no_word_says_nothing(hostile: str) -> None:
    assert read_warning(an_event(hostile, "x")) is None


@requirement("status.quoted")
@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\nb", "\u202eab", "agent; run: kubectl delete agents", "x" * 64])
def test_an_event_with_a_path_that_names_no_container_is_about_the_pod(hostile: str) -> None:
    warning = read_warning(an_event("FailedMount", "x", hostile))
    assert warning is not None
    assert warning.message == 'a pod: FailedMount ("x")'


@requirement("status.quoted")
@given(reason=st.text(max_size=80), note=st.text(max_size=80), container=st.text(max_size=80))
def test_whatever_an_event_says_is_one_printable_line(reason: str, note: str, container: str) -> None:
    warning = read_warning(an_event(reason, note, container))
    assert warning is None or warning.message.isprintable()
