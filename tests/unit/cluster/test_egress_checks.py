from typing import Any

from interlock.cluster.child_cache import AgentKey
from interlock.cluster.egress_checks import MOST_PODS, EgressCheckStore
from interlock.deployment.observed.egress_check import EgressCheckVerdict
from tests.requirements import requirement

KEY = ("agents", "triage")


def a_pod(name: str, code: int | None = None, *, version: int = 1, agent: str = "triage") -> dict[str, Any]:
    state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
    labels = {"interlock.dev/agent": agent}
    metadata = {"name": name, "namespace": "agents", "labels": labels, "resourceVersion": str(version)}
    return {"metadata": metadata, "status": {"initContainerStatuses": [{"name": "egress-check", "state": state}]}}


class Known:
    def __init__(self) -> None:
        self.asked: list[AgentKey] = []
        client: Any = None
        self.checks = EgressCheckStore(client, lambda key: key == KEY, self.asked.append)

    def put(self, pod: dict[str, Any]) -> list[AgentKey]:
        self.asked.clear()
        if self.checks.is_newer("Pod", pod):
            self.checks.put("Pod", pod)
        return self.asked

    def verdicts(self) -> list[EgressCheckVerdict]:
        return [one.verdict for one in self.checks.of(KEY)]


def test_a_new_pod_report_enqueues_the_agent_and_a_repeated_one_does_not() -> None:
    known = Known()
    assert (known.put(a_pod("one")), known.verdicts()) == ([KEY], [EgressCheckVerdict.WAITING])
    assert known.put(a_pod("one", version=2)) == []
    assert (known.put(a_pod("one", 3, version=3)), known.verdicts()) == ([KEY], [EgressCheckVerdict.OPEN])
    assert (known.put(a_pod("one", 0, version=2)), known.verdicts()) == ([], [EgressCheckVerdict.OPEN]), "an older one"


def test_a_pod_that_is_gone_has_no_report() -> None:
    known = Known()
    known.put(a_pod("one", 3, version=5))
    known.asked.clear()

    known.checks.drop("Pod", ("agents", "one"), 4)
    assert (known.asked, known.verdicts()) == ([], [EgressCheckVerdict.OPEN]), "there is a newer one"
    known.checks.drop("Pod", ("agents", "one"), 6)
    assert (known.asked, known.verdicts()) == ([KEY], [])
    assert list(known.checks.held("Pod")) == []


def test_a_pod_that_terminates_belongs_to_no_agent_so_that_it_is_dropped() -> None:
    known = Known()
    ending = a_pod("one")
    assert known.checks.owner_of("Pod", ending) == KEY
    ending["metadata"]["deletionTimestamp"] = "2026-03-02T09:00:00Z"
    assert known.checks.owner_of("Pod", ending) is None


@requirement("operator.memory")
def test_pods_of_unknown_agents_and_more_pods_than_an_agent_has_are_not_read() -> None:
    known = Known()
    assert known.checks.is_known(KEY)
    assert not known.checks.is_known(("agents", "nobody"))
    for number in range(MOST_PODS + 5):
        known.put(a_pod(f"pod-{number}", 0))

    assert len(known.checks.of(KEY)) == MOST_PODS
    assert known.put(a_pod("pod-0", 3, version=2)) == [KEY], "one that was read is read again"


def test_a_pod_that_was_relabelled_counts_for_its_new_agent() -> None:
    known = Known()
    known.put(a_pod("one", 0))
    known.put(a_pod("one", 0, version=2, agent="other"))

    assert known.checks.of(KEY) == ()
    assert len(known.checks.of(("agents", "other"))) == 1


def test_an_agent_that_is_gone_or_has_no_pods_has_no_report() -> None:
    known = Known()
    known.put(a_pod("one", 0))
    known.checks.agent_gone(KEY)
    known.checks.agent_gone(KEY)

    assert known.checks.of(KEY) == ()
    assert known.checks.of(("agents", "another")) == ()
