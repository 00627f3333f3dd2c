"""The results of a stage's tests: from their Jobs, and from the pods of these."""

from collections.abc import Iterable
from typing import Any, Final

from interlock.deployment.children.stage_tests import TEST_CONTAINER
from interlock.deployment.names import Manifest
from interlock.orchestration.gates import TestOutcome, TestResult

MAX_LOG: Final = 4096
"""Bytes of a log that are kept. Of a log that Kubernetes reads itself it keeps 2048 bytes or 80 lines of a test that
failed. A test may write up to 4096 bytes to /dev/termination-log instead, also one that passes."""
_ESCAPED: Final = dict.fromkeys("<>&", 6) | dict.fromkeys('"\\\n\t', 2)
"""Bytes of characters that the API server escapes."""
_DEADLINE: Final = "DeadlineExceeded"


def read_test(job: Manifest | None, pods: Iterable[Manifest] = ()) -> TestResult:
    """Return the result of a test.

    A test has failed only if it ran: an image that cannot be pulled, a pod that no node has room for, a node that went
    and a kill leave no result (`Lost`). The result of an ended test must be recorded, since its pod may go.

    Args:
        job: Its Job, None where it does not exist yet.
        pods: The pods of the Job. They are read only once the Job has ended.
    """
    conditions = [] if job is None else job.get("status", {}).get("conditions") or []
    ended = {one["type"]: one for one in conditions if one.get("status") == "True"}
    pod = next(iter(pods), None)
    if "Complete" in ended:
        state = _ended_container(pod)
        return TestResult(TestOutcome.PASSED, 0, _log_of(state))
    if "Failed" not in ended:
        return TestResult(TestOutcome.RUNNING)
    if pod is None:
        return TestResult(TestOutcome.LOST, log="its pod was deleted before its end was seen, such as by a kill")
    return _read_failed(pod)


def _read_failed(pod: Manifest) -> TestResult:
    status = pod.get("status", {})
    state = _ended_container(pod)
    is_disrupted = any(
        one["type"] == "DisruptionTarget" and one.get("status") == "True" for one in status.get("conditions") or ()
    )
    if "deletionTimestamp" in pod["metadata"] or is_disrupted or state.get("reason") == "ContainerStatusUnknown":
        return TestResult(TestOutcome.LOST, log="its pod was deleted or went with its node")
    if status.get("reason") == _DEADLINE:
        if state.get("startedAt") or "running" in (_container(pod).get("state") or {}):
            return TestResult(TestOutcome.FAILED, state.get("exitCode"), _log_of(state) or "its deadline is exceeded")
        return TestResult(TestOutcome.LOST, log=f"it did not start before its deadline: {_waits_for(pod)}")
    code = state.get("exitCode")
    if code is None:
        return TestResult(TestOutcome.LOST, log=f"it did not start: {_waits_for(pod)}")
    return TestResult(TestOutcome.FAILED, code, _log_of(state))


def _container(pod: Manifest | None) -> dict[str, Any]:
    statuses = [] if pod is None else pod.get("status", {}).get("containerStatuses") or []
    return next((one for one in statuses if one["name"] == TEST_CONTAINER), {})


def _ended_container(pod: Manifest | None) -> dict[str, Any]:
    """Return the `terminated` state of the test's container; empty where it has not ended or its pod is gone."""
    state = _container(pod).get("state") or {}
    found: dict[str, Any] = state.get("terminated") or {}
    return found


def _waits_for(pod: Manifest) -> str:
    waiting = (_container(pod).get("state") or {}).get("waiting") or {}
    text = ": ".join(one for one in (waiting.get("reason", ""), waiting.get("message", "")) if one)
    return text[:MAX_LOG] or pod.get("status", {}).get("message", "")[:MAX_LOG] or "no node had started it"


def _log_of(state: dict[str, Any]) -> str:
    """Return the end of a test's log, in at most `MAX_LOG` bytes as it is stored in JSON.

    A test says what it wants, and the object that it fills must keep room for a kill.
    """
    kept, size = "", 0
    for one in reversed(str(state.get("message", ""))[-MAX_LOG:]):
        shown = one if one.isprintable() or one in "\n\t" else "?"
        size += _ESCAPED.get(shown, len(shown.encode(errors="replace")))
        if size > MAX_LOG:
            break
        kept = shown + kept
    return kept
