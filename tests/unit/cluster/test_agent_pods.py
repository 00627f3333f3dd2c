from datetime import datetime
from itertools import pairwise
from string import ascii_lowercase
from typing import Any

import pytest

from interlock.api.status import MOST_PODS
from interlock.cluster.agent_pods import MOST_SPANS, AgentPodStore
from interlock.cluster.child_cache import AgentKey
from interlock.deployment.observed.causes import PodWarning
from interlock.deployment.observed.egress_check import EgressCheckVerdict
from interlock.deployment.observed.pod_reports import AgentPods, PodGroup, ReadySpan
from interlock_contract.bundle_schema import write_schemas
from interlock_contract.names import BUNDLE_SCHEMAS
from tests.requirements import requirement
from tests.support.builders import NOW, seconds
from tests.support.pod_failures import container, ended

KEY = ("agents", "triage")
GROUP = PodGroup("staging", "r1", "Separate", "agent")
LABELS = {
    "interlock.dev/agent": "triage",
    "interlock.dev/stage": "staging",
    "interlock.dev/revision": "r1",
    "interlock.dev/isolation": "Separate",
    "app.kubernetes.io/component": "agent",
}


def at(offset: int) -> datetime:
    return NOW + seconds(offset)


def a_pod(
    name: str,
    code: int | None = None,
    *,
    version: int = 1,
    agent: str = "triage",
    ready: int | None = None,
    deleted: int | None = None,
) -> dict[str, Any]:
    """A pod whose check ended with a code, which is Ready since a second, or not Ready since one before NOW."""
    state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
    labels = {**LABELS, "interlock.dev/agent": agent}
    metadata: dict[str, Any] = {"name": name, "namespace": "agents", "uid": name, "labels": labels}
    metadata["resourceVersion"] = str(version)
    if deleted is not None:
        metadata |= {"deletionTimestamp": at(deleted + 1).isoformat(), "deletionGracePeriodSeconds": 1}
    condition = {"type": "Ready", "status": "False" if ready is None or ready < 0 else "True"}
    if ready is not None:
        condition["lastTransitionTime"] = at(abs(ready)).isoformat()
    status = {"initContainerStatuses": [{"name": "egress-check", "state": state}], "conditions": [condition]}
    return {"metadata": metadata, "status": status}


def span(since: int, until: int) -> ReadySpan:
    """The kubelet cuts to whole seconds, so a pod is certainly Ready from the next one."""
    return ReadySpan(GROUP, at(since + 1), at(until))


class Known:
    def __init__(self) -> None:
        self.asked: list[AgentKey] = []
        self.seconds = 0.0
        client: Any = None
        self.store = AgentPodStore(client, lambda key: key == KEY, self.asked.append, lambda: self.seconds)
        self.version = 0

    def put(self, pod: dict[str, Any]) -> list[AgentKey]:
        self.asked.clear()
        if self.store.is_newer("Pod", pod):
            self.store.put("Pod", pod)
        return self.asked

    def report(self, *, ready: int) -> None:
        """Let the pod `one` report its readiness."""
        self.version += 1
        self.put(a_pod("one", version=self.version, ready=ready))

    def pods(self, since: int | None = 0) -> AgentPods:
        return self.store.of(KEY, None if since is None else at(since))

    def verdicts(self) -> list[EgressCheckVerdict]:
        return [one.egress_check.verdict for one in self.pods().reports if one.egress_check]


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

    known.store.drop("Pod", ("agents", "one"), 4, None)
    assert (known.asked, known.verdicts()) == ([], [EgressCheckVerdict.OPEN]), "there is a newer one"
    known.store.drop("Pod", ("agents", "one"), 6, None)
    assert (known.asked, known.verdicts()) == ([KEY], [])
    assert list(known.store.held("Pod")) == []


def test_a_pod_that_terminates_belongs_to_no_agent_so_that_it_is_dropped() -> None:
    known = Known()
    assert known.store.owner_of("Pod", a_pod("one")) == KEY
    assert known.store.owner_of("Pod", a_pod("one", deleted=5)) is None


def test_a_guard_that_ends_and_does_not_read_the_newest_bundle_is_known_until_it_is_gone() -> None:
    known = Known()
    for said, is_known in ((None, True), (write_schemas(), False)):
        pod = a_pod("one", deleted=5)
        pod["metadata"]["labels"] = {**pod["metadata"]["labels"], "interlock.dev/guard": "triage"}
        pod["metadata"]["annotations"] = {} if said is None else {BUNDLE_SCHEMAS: said}
        assert (known.store.owner_of("Pod", pod) == KEY) is is_known


def with_claims(pod: dict[str, Any], *names: str) -> dict[str, Any]:
    volumes = [{"name": f"v{name}", "persistentVolumeClaim": {"claimName": name}} for name in names]
    pod["metadata"]["labels"] = {**pod["metadata"]["labels"], "interlock.dev/has-claims": "true"}
    return {**pod, "spec": {"volumes": [{"name": "tmp", "emptyDir": {}}, *volumes]}}


def test_a_pod_with_claims_is_known_until_it_is_gone_and_is_no_part_of_its_placement_while_it_ends() -> None:
    known = Known()
    known.put(with_claims(a_pod("one", ready=3), "files", "index"))
    assert [one.claims for one in known.pods().reports] == [{"files", "index"}]

    ending = with_claims(a_pod("one", version=2, ready=3, deleted=9), "files", "index")
    assert known.store.owner_of("Pod", ending) == KEY
    assert known.put(ending) == [KEY]
    assert (known.pods().reports, known.pods().past) == ((), (span(3, 9),))
    assert [(one.claims, one.ready_since) for one in known.pods().ending] == [({"files", "index"}, None)]
    assert known.store.uids(KEY) == set()

    known.asked.clear()
    known.store.drop("Pod", ("agents", "one"), 3, ending)
    assert (known.asked, known.pods().ending) == ([KEY], ())
    assert known.pods().past == (span(3, 9),), "it is remembered once"


def test_a_pod_that_was_deleted_may_still_run_until_its_grace_period_is_long_over() -> None:
    known = Known()
    known.put(a_pod("early"))
    known.store.drop("Pod", ("agents", "early"), 2, a_pod("early", version=2, deleted=0))
    assert known.pods().leaving is None, "nothing says which pods were deleted before the operator started"

    known.seconds += 1000
    assert known.pods().leaving == frozenset()
    known.put(a_pod("one", version=3))
    known.put(with_claims(a_pod("two", version=3), "files"))
    deleted = a_pod("one", version=4, deleted=0)
    deleted["metadata"]["deletionGracePeriodSeconds"] = 300
    known.store.drop("Pod", ("agents", "one"), 4, deleted)
    known.put(with_claims(a_pod("two", version=4, deleted=0), "files"))
    assert known.pods().leaving == {"one", "two"}

    known.seconds += 359
    assert known.pods().leaving == {"one", "two"}
    known.store.drop("Pod", ("agents", "two"), 5, None)
    known.seconds += 1
    assert known.pods().leaving == {"two"}
    known.store.agent_gone(KEY)
    assert known.pods().leaving == frozenset()


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_whose_containers_have_ended_for_good_holds_no_claim(phase: str) -> None:
    known, pod = Known(), with_claims(a_pod("one"), "files")
    pod["status"]["phase"] = phase
    known.put(pod)
    assert [one.claims for one in known.pods().reports] == [frozenset()]


@requirement("operator.memory")
def test_pods_of_unknown_agents_and_more_pods_than_an_agent_has_are_not_read() -> None:
    known = Known()
    assert known.store.is_known(KEY)
    assert not known.store.is_known(("agents", "nobody"))
    for number in range(MOST_PODS + 5):
        known.put(a_pod(f"pod-{number}", 0))

    assert len(known.pods().reports) == MOST_PODS
    assert known.put(a_pod("pod-0", 3, version=2)) == [KEY], "one that was read is read again"


def that_has_ended(pod: dict[str, Any]) -> dict[str, Any]:
    """Return a pod that was evicted. Kubernetes keeps it until there are thousands."""
    return {**pod, "status": {**pod["status"], "phase": "Failed"}}


@requirement("operator.memory")
def test_the_oldest_ended_pods_go_for_those_that_live_and_ended_ones_displace_none() -> None:
    known = Known()
    for number in range(MOST_PODS):
        pod = a_pod(f"pod-{number}", 0, version=MOST_PODS - number)
        known.put(pod if number < MOST_PODS - 3 else that_has_ended(pod))

    known.put(that_has_ended(a_pod("ended", 0, version=MOST_PODS + 1)))
    assert "ended" not in {one.uid for one in known.pods().reports}

    assert known.put(a_pod("live", 0)) == [KEY]
    uids = {one.uid for one in known.pods().reports}
    assert "live" in uids
    assert f"pod-{MOST_PODS - 1}" not in uids, "it has not changed for the longest time"
    assert {f"pod-{MOST_PODS - 2}", f"pod-{MOST_PODS - 3}"} <= uids

    for number in range(5):
        known.put(a_pod(f"more-{number}", 0))
    uids = {one.uid for one in known.pods().reports}
    assert len(uids) == MOST_PODS == len(list(known.store.held("Pod")))
    assert {"pod-0", "live", "more-0", "more-1"} <= uids
    assert "more-2" not in uids, "no pod goes that has not ended"


def test_a_pod_that_was_relabelled_counts_for_its_new_agent() -> None:
    known = Known()
    known.put(a_pod("one", 0))
    known.put(a_pod("one", 0, version=2, agent="other"))

    assert known.pods().reports == ()
    assert len(known.store.of(("agents", "other"), None).reports) == 1


def test_an_agent_that_is_gone_or_has_no_pods_has_no_report() -> None:
    known = Known()
    known.report(ready=3)
    known.report(ready=-9)
    known.store.agent_gone(KEY)
    known.store.agent_gone(KEY)

    assert known.pods() == AgentPods()
    assert known.store.of(("agents", "another"), NOW) == AgentPods()


@requirement("rollout.pause")
def test_a_pod_that_is_ready_no_longer_is_remembered_until_when_it_was() -> None:
    known = Known()
    known.report(ready=3)
    known.report(ready=-9)
    assert known.pods().past == (span(3, 9),)

    known.report(ready=12)
    known.store.drop("Pod", ("agents", "one"), 9, a_pod("one", deleted=20))
    assert known.pods().past == (span(3, 9), span(12, 20))
    assert known.pods().reports == ()


@requirement("rollout.unproven")
def test_an_end_of_readiness_that_was_missed_shows_nothing() -> None:
    known = Known()
    known.report(ready=3)
    known.report(ready=12)  # it was not Ready in between
    known.store.drop("Pod", ("agents", "one"), 9, None)  # it is gone, since whenever

    assert known.pods().past == ()


def test_what_is_recorded_already_is_forgotten() -> None:
    known = Known()
    known.report(ready=3)
    known.report(ready=-9)
    assert known.pods(since=8).past == (span(3, 9),)
    assert known.pods(since=9).past == ()
    assert known.pods().past == ()

    known.report(ready=12)
    known.report(ready=-20)
    assert known.pods(since=None).past == ()


def test_the_memory_of_what_no_reconcile_asks_for_is_bounded() -> None:
    known = Known()
    for second in range(0, 4 * MOST_SPANS, 2):
        known.report(ready=second)
        known.report(ready=-second - 1)

    assert len(known.pods(since=-1).past) == MOST_SPANS


class Warned:
    """A pod that is not ready, and a clock of its store."""

    def __init__(self) -> None:
        self.now = 0.0
        self.changes: list[AgentKey] = []
        client: Any = None
        self.store = AgentPodStore(client, lambda key: key == KEY, self.changes.append, lambda: self.now)
        self.store.put("Pod", a_pod("one"))
        self.changes.clear()

    def warn(self, message: str) -> None:
        self.store.put_warnings("agents", {"one": PodWarning("one", NOW, message)})

    def shown(self) -> str:
        [report] = self.store.of(KEY, None).reports
        return report.cause.message


@requirement("status.quiet")
def test_an_event_that_differs_in_figures_alone_is_no_change() -> None:
    pod = Warned()
    for port in range(40_000, 40_100):
        pod.now += 5
        pod.warn(f'container agent: Unhealthy ("read tcp 10.0.0.1:{port}->10.0.0.5:8080: reset after {port % 7}ms")')
    assert len(pod.changes) == 1
    assert ":40000->" in pod.shown()


@requirement("status.quiet")
def test_events_that_alternate_are_shown_at_once_and_then_replace_each_other_once_a_minute() -> None:
    pod = Warned()
    pod.warn("a pod: FailedMount")
    pod.warn("a pod: NetworkNotReady")
    assert pod.shown() == "a pod: NetworkNotReady"
    assert len(pod.changes) == 2
    for turn in range(720):  # an hour
        pod.now += 5
        pod.warn(("a pod: FailedMount", "a pod: NetworkNotReady")[turn % 2])
    assert len(pod.changes) <= 2 + 60
    pod.warn("a pod: FailedCreatePodSandBox")
    assert pod.shown() == "a pod: FailedCreatePodSandBox"


@requirement("status.quiet")
def test_events_with_a_new_reason_each_time_are_bounded_too() -> None:
    pod = Warned()
    for first in ascii_lowercase:
        for second in ascii_lowercase:
            pod.now += 5
            pod.warn(f"a pod: Reason{first}{second}")
    assert len(pod.changes) <= 16 + pod.now / 60


def test_another_status_of_the_pod_keeps_the_event() -> None:
    pod = Warned()
    pod.warn("a pod: FailedMount")
    pod.store.put("Pod", a_pod("one", version=2, ready=-1))
    assert pod.shown() == "a pod: FailedMount"
    pod.store.put("Pod", a_pod("one", version=3, ready=1))
    pod.store.put("Pod", a_pod("one", version=4, ready=-2))
    assert pod.shown() == ""


def attempt(version: int, container_status: dict[str, Any]) -> dict[str, Any]:
    pod = a_pod("one", version=version, ready=-1)
    pod["status"]["containerStatuses"] = [container_status]
    return pod


@requirement("status.quiet")
@pytest.mark.parametrize(("line", "changes"), [("no CRM_URL", 2), ("09:{:02} no CRM_URL", 51)])
def test_a_crash_loop_changes_the_message_once_and_later_only_with_its_words(line: str, changes: int) -> None:
    known = Known()
    said, version = [], 0
    for crash in range(50):
        end, before = ended(1, log=line.format(crash)), ended(1, log=line.format(crash - 1)) if crash else None
        back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": f"back-off {crash}s"}}
        states = (
            container("agent", state={"running": {}}, last=before, restarts=crash),
            container("agent", state=end, last=before, restarts=crash),
            container("agent", state=back_off, last=end, restarts=crash),
        )
        for state in states:
            version += 1
            known.put(attempt(version, state))
            said.append(known.pods().cause("staging", "r1"))
    assert len([one for one, two in pairwise(said) if one != two]) == changes
    assert said[-1] == f'container agent is in CrashLoopBackOff (exit code 1: "{line.format(49)}")'
