from typing import Any, Literal

from interlock.cluster.child_cache import AgentKey
from interlock.cluster.egress_checks import EgressCheckStore
from interlock.deployment.observed.egress_check import EgressCheckVerdict
from interlock_kube.watch import ChangeEvent, ListEvent

KEY = ("agents", "triage")


def a_pod(name: str, code: int | None = None, *, is_ending: bool = False) -> dict[str, Any]:
    state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
    metadata = {"name": name, "namespace": "agents", "labels": {"interlock.dev/agent": "triage"}}
    if is_ending:
        metadata["deletionTimestamp"] = "2026-03-02T09:00:00Z"
    return {"metadata": metadata, "status": {"initContainerStatuses": [{"name": "egress-check", "state": state}]}}


class Known:
    def __init__(self) -> None:
        self.asked: list[AgentKey] = []
        self.checks = EgressCheckStore(self.asked.append)

    def hear(self, kind: Literal["ADDED", "MODIFIED", "DELETED"], pod: dict[str, Any]) -> None:
        self.asked.clear()
        self.checks.handle(ChangeEvent(kind, pod))

    def verdicts(self) -> list[EgressCheckVerdict]:
        return [one.verdict for one in self.checks.of(KEY)]


def test_a_new_pod_report_enqueues_the_agent_and_a_repeated_one_does_not() -> None:
    known = Known()
    known.hear("ADDED", a_pod("one"))
    assert (known.asked, known.verdicts()) == ([KEY], [EgressCheckVerdict.WAITING])
    known.hear("MODIFIED", a_pod("one"))
    assert known.asked == []
    known.hear("MODIFIED", a_pod("one", 3))
    assert (known.asked, known.verdicts()) == ([KEY], [EgressCheckVerdict.OPEN])


def test_a_pod_that_ends_or_is_gone_says_nothing_any_more() -> None:
    for kind, pod in (("MODIFIED", a_pod("one", 3, is_ending=True)), ("DELETED", a_pod("one", 3))):
        known = Known()
        known.hear("ADDED", a_pod("one", 3))
        known.hear(kind, pod)  # type: ignore[arg-type]
        assert (known.asked, known.verdicts()) == ([KEY], [])


def test_a_list_takes_the_place_of_all_that_was_known() -> None:
    known = Known()
    known.hear("ADDED", a_pod("gone", 3))
    known.checks.handle(ListEvent((a_pod("one", 0), a_pod("two", 0), a_pod("ending", 3, is_ending=True))))

    assert known.verdicts() == [EgressCheckVerdict.CLOSED, EgressCheckVerdict.CLOSED]
    assert set(known.asked) == {KEY}


def test_an_agent_without_pods_has_no_report() -> None:
    assert Known().checks.of(("agents", "another")) == ()
