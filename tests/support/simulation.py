"""A cluster in miniature for the pure reconcile: plans are applied, and time passes when a test says so.

It is a stand-in for the API server and the Deployment controller, as far as `reconcile` can see them: children are
kept as they were applied, with a metadata.generation that counts changes, and a Deployment serves when a test says so.
Its pods are those of a kubelet in miniature: they become ready, crash, are evicted, and end with their Deployment.
They get another template in place, unless their Deployment holds those of the earlier one.
"""

import copy
import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from interlock.api.status import AgentStatus, Condition, ConditionType, KillStatus
from interlock.deployment.names import AGENT_POD, ChildKey, Manifest, key_of
from interlock.deployment.observed.pod_images import PodImage
from interlock.deployment.observed.pod_reports import AgentPods, PodGroup, PodReport, ReadySpan, mounted_claims
from interlock.deployment.ownership import AppliedObject, AppliedObjects, applied_object
from interlock.deployment.plan import SECRET, WORKLOAD, LiveChild, WritePlan
from interlock.deployment.pod_replacement import holds_pods, template_digest
from interlock.reconcile.agent import ReconcileResult, reconcile
from interlock.reconcile.agent_events import EventNote, transitions
from interlock.reconcile.managed_objects import record_applied
from interlock.reconcile.revisions import read_known
from interlock_contract.budget.ledger import Ledger
from interlock_contract.clock import write_time
from interlock_contract.pod import AGENT_CONTAINER
from interlock_contract.revisions import RevisionUnreadableError
from tests.support.builders import NOW, AgentBuilder, BindingBuilder, PolicyBuilder, SnapshotBuilder, a_snapshot

MOST_RECONCILES = 20
IMAGE = "registry.example.com/agent:1.0"
SECOND = timedelta(seconds=1)


def written_by(plan: WritePlan) -> tuple[Manifest, ...]:
    """Return what a plan applies, in its order."""
    return plan.pending


def check_soak(simulation: "Simulation", lasting: timedelta, stage: str, following: str) -> None:
    """Check that the agent stays in a stage until the very end of its soak."""
    simulation.wait(lasting - SECOND)
    simulation.run()
    assert simulation.stage == stage
    simulation.wait(SECOND)
    simulation.run()
    assert simulation.stage == following


class Simulation:
    """One agent with its snapshot, and the time."""

    def __init__(self, snapshot: SnapshotBuilder | None = None, now: datetime = NOW) -> None:
        self.snapshot = snapshot or a_snapshot()
        self.now = now
        self.events: list[EventNote] = []
        self.revisions: dict[str, Manifest] = {}
        self.test_pods: dict[str, tuple[Manifest, ...]] = {}
        """The pods of ended Jobs of tests, by the Job's name."""
        self.node_skew = timedelta()
        """By how much the clock of the pods' nodes is ahead."""
        self.image = ""
        """Digest of the image that the agent's tag leads to, for new pods. Empty if they do not say it."""
        self._uids = (f"uid-of-pod-{number}" for number in itertools.count(1))

    # What the operator does

    def reconcile_once(self) -> ReconcileResult:
        """Reconcile once and carry everything out."""
        outcome = self.peek()
        self.store(outcome)
        written = self.carry_out(outcome)
        managed = record_applied(outcome.managed, self.snapshot.build().applied, written)
        self.report(outcome.status.model_copy(update={"managed_objects": managed}))
        return outcome

    def peek(self) -> ReconcileResult:
        """Reconcile once and carry out nothing."""
        outcome = reconcile(self.snapshot.build(), self.now)
        if not outcome.missing_revisions and not outcome.ended_tests:
            return outcome
        read = {job: self.test_pods.get(job, ()) for job in outcome.ended_tests}
        self.snapshot = replace(self.snapshot, test_pods=read)
        agent = self.snapshot.agent.build()
        for one in outcome.missing_revisions:
            try:
                known = read_known(self.revisions[one.name], agent, one)
                self.snapshot = replace(self.snapshot, revisions={**self.snapshot.revisions, one.digest: known})
            except (KeyError, RevisionUnreadableError) as error:
                lost = {**self.snapshot.lost_revisions, one.digest: str(error)}
                self.snapshot = replace(self.snapshot, lost_revisions=lost)
        outcome = reconcile(self.snapshot.build(), self.now)
        assert not outcome.missing_revisions, "revisions are missing that were read"
        assert not outcome.ended_tests, "pods are missing that were read"
        return outcome

    def store(self, outcome: ReconcileResult) -> None:
        """Create the ControllerRevisions that are new."""
        for manifest in outcome.new_revisions:
            created = {"metadata": {"creationTimestamp": write_time(self.now)}}
            stored = copy.deepcopy(manifest)
            stored["metadata"] |= created["metadata"]
            self.revisions[manifest["metadata"]["name"]] = stored

    def carry_out(self, outcome: ReconcileResult) -> AppliedObjects:
        """Carry out the plan and return what its writes left; the status is not reported."""
        for identity in outcome.missing_ledgers:
            self.snapshot = self.snapshot.with_ledger(identity.name, Ledger())
        children = {key: child for key, child in self.snapshot.children.items() if key not in outcome.plan.prune}
        written = {}
        marked = {one.name: one.goes for one in outcome.marks}
        for pod in self.pods.reports:
            self._put(replace(pod, is_marked=marked.get(pod.name, pod.is_marked)))
        for manifest in written_by(outcome.plan):
            key = key_of(manifest)
            if key.kind == SECRET:  # the operator never sees it again
                written[key] = AppliedObject("uid-of-the-secret", "")
                self.snapshot = self.snapshot.with_secret_created_at(self.now)
                continue
            children[key] = LiveChild(_applied(manifest, children.get(key)))
            written[key] = applied_object(children[key].manifest)
        self.snapshot = replace(self.snapshot, children=children)
        self._scale_pods()
        return written

    def report(self, status: AgentStatus) -> None:
        """Take the status over; the kill controller's part stays as it is."""
        before = self.snapshot.agent.build().status
        self.events += transitions(before, status)
        kept = status.model_copy(update={"kill": before.kill if before else None})
        self.snapshot = self.snapshot.of(self.snapshot.agent.with_status(kept))

    def settle(self) -> ReconcileResult:
        """Reconcile until nothing changes any more, at this moment and without any change of a pod."""
        for _ in range(MOST_RECONCILES):
            before = self.snapshot.agent.build().status
            outcome = self.reconcile_once()
            if outcome.plan.is_empty and self.snapshot.agent.build().status == before:
                return outcome
        raise AssertionError(f"still not settled after {MOST_RECONCILES} reconciles: {outcome}")

    def run(self) -> ReconcileResult:
        """Reconcile and let pods become ready until nothing changes any more at this moment."""
        for _ in range(MOST_RECONCILES):
            self.settle()
            before = self.snapshot
            self.serve()
            outcome = self.settle()
            if self.snapshot == before:
                return outcome
        raise AssertionError(f"still not still after {MOST_RECONCILES} rounds")

    # What others do

    def serve(self) -> None:
        """Let every Deployment have all the pods that it wants."""
        self._update_deployments(lambda wanted: wanted)
        for pod in self.pods.reports:
            if pod.ready_since is None and pod.egress_check is None:
                self._put(replace(pod, ready_since=self.now + self.node_skew, ready_until=None))

    def fail(self) -> None:
        """Let no pod be available any more."""
        self._update_deployments(lambda _: 0)
        for pod in self.pods.reports:
            self._lose(pod)

    def crash(self, count: int = 1, *, with_node: bool = False) -> None:
        """Let the agent's container end in every pod with one, so many times."""
        self.fail()
        for pod in self.pods.reports:
            if pod.group.component == AGENT_POD:
                self._put(replace(self._pod(pod.uid), ends=pod.ends + count, is_last_lost=with_node))

    def evict(self) -> None:
        """Let every pod end, and a new one of each that is not ready take its place."""
        self._update_deployments(lambda _: 0)
        for pod in self.pods.reports:
            self._end(pod)
        self._scale_pods()

    def forget(self) -> None:
        """Restart the operator: it knows what objects say now, and nothing of what they said before."""
        self.snapshot = replace(self.snapshot, revisions={}, lost_revisions={})
        self.snapshot = self.snapshot.with_pods(AgentPods(self.pods.reports))

    def wait(self, span: timedelta) -> None:
        """Let time pass; a negative span is a clock that goes back."""
        self.now += span

    def apply(self, agent: AgentBuilder) -> None:
        """Apply another spec: metadata.generation grows, the status stays."""
        generation = self.snapshot.agent.raw["metadata"]["generation"] + 1
        raw = copy.deepcopy(agent.raw)
        raw["metadata"]["generation"] = generation
        self.snapshot = self.snapshot.of(AgentBuilder(raw).with_status(self.snapshot.agent.build().status))

    def edit(self, child: LiveChild) -> None:
        """Change a child as another user would."""
        children = {**self.snapshot.children, key_of(child.manifest): child}
        self.snapshot = replace(self.snapshot, children=children)

    def remove(self, kind: str) -> None:
        """Delete the children of a kind as another user would."""
        children = {key: child for key, child in self.snapshot.children.items() if key.kind != kind}
        self.snapshot = replace(self.snapshot, children=children)

    def find_policy(self, policy: PolicyBuilder | None) -> None:
        """Let another policy, or none, be there from now on."""
        self.snapshot = self.snapshot.with_policy(policy)

    def find_bindings(self, *bindings: BindingBuilder) -> None:
        """Let exactly these bindings be there from now on."""
        self.snapshot = self.snapshot.with_bindings(*bindings)

    def kill(self, value: str = "a test") -> None:
        """Set the switch and record it, as the kill controller does."""
        self._switch(self.snapshot.agent.killed(value), KillStatus(reason=value, requested_at=self.now))

    def release(self) -> None:
        """Set the switch to off and record it, as the kill controller does."""
        status = self.snapshot.agent.build().status
        kill = status.kill if status else None
        released = kill.model_copy(update={"released_at": self.now}) if kill else None
        self._switch(self.snapshot.agent.killed("off"), released)

    def remove_switch(self) -> None:
        """Remove the annotation, which releases nothing."""
        self.snapshot = self.snapshot.of(self.snapshot.agent.without_switch())

    # What can be seen

    @property
    def pods(self) -> AgentPods:
        """What is known of the agent's pods."""
        return self.snapshot.pods

    @property
    def status(self) -> AgentStatus:
        """The status that was reported last."""
        status = self.snapshot.agent.build().status
        assert status is not None, "no status was reported yet"
        return status

    def condition(self, kind: ConditionType) -> Condition:
        """Return a condition of the status."""
        return next(found for found in self.status.conditions if found.type == kind)

    @property
    def stage(self) -> str:
        """Name of the stage that holds."""
        assert self.status.stage is not None, "no stage was entered yet"
        return self.status.stage.name

    def child(self, kind: str) -> Manifest:
        """Return the one child of a kind."""
        found = [child.manifest for key, child in self.snapshot.children.items() if key.kind == kind]
        assert len(found) == 1, f"{len(found)} children of kind {kind}"
        return found[0]

    def child_with(self, key: str) -> Manifest:
        """Return the one ConfigMap with an entry of this name."""
        found = [one.manifest for one in self.snapshot.children.values() if key in (one.manifest.get("data") or {})]
        assert len(found) == 1, f"{len(found)} ConfigMaps with {key}"
        return found[0]

    def _switch(self, agent: AgentBuilder, kill: KillStatus | None) -> None:
        status = agent.build().status
        base = status or AgentStatus()
        self.snapshot = self.snapshot.of(agent.with_status(base.model_copy(update={"kill": kill})))

    # The pods

    def _pod(self, uid: str) -> PodReport:
        return next(pod for pod in self.pods.reports if pod.uid == uid)

    def _put(self, pod: PodReport) -> None:
        reports = tuple(pod if one.uid == pod.uid else one for one in self.pods.reports)
        self.snapshot = self.snapshot.with_pods(replace(self.pods, reports=reports))

    def replace_image(self, name: str, digest: str) -> None:
        """Let the agent's container in the pod of this name run another image."""
        pod = next(pod for pod in self.pods.reports if pod.name == name)
        self._put(replace(pod, images=(PodImage(AGENT_CONTAINER, IMAGE, digest),), is_image_unknown=False))

    def forget_image(self, name: str) -> None:
        """Let the agent's container in the pod of this name start, so that its image is not known."""
        pod = next(pod for pod in self.pods.reports if pod.name == name)
        self._put(replace(pod, images=(), is_image_unknown=True))

    def move_address(self, name: str, address: str) -> None:
        """Let the pod of this name have the address of one that was there before."""
        pod = next(pod for pod in self.pods.reports if pod.name == name)
        self._put(replace(pod, addresses=(address,)))

    def lose_readiness(self, name: str) -> None:
        """Let the pod of this name lose its readiness."""
        self._lose(next(pod for pod in self.pods.reports if pod.name == name))

    def _lose(self, pod: PodReport) -> None:
        """Let a pod lose its readiness."""
        if pod.ready_since is not None:
            until = self.now + self.node_skew
            past = (*self.pods.past, ReadySpan(pod.group, pod.ready_since, until))
            self.snapshot = self.snapshot.with_pods(replace(self.pods, past=past))
            self._put(replace(pod, ready_since=None, ready_until=until))

    def _end(self, pod: PodReport) -> None:
        """Let a pod end. One with claims is there until a test lets it be gone."""
        self._lose(pod)
        reports = tuple(one for one in self.pods.reports if one.uid != pod.uid)
        ending = (*self.pods.ending, *((replace(pod, ready_since=None, is_ending=True),) if pod.claims else ()))
        self.snapshot = self.snapshot.with_pods(replace(self.pods, reports=reports, ending=ending))

    def let_pods_end(self) -> None:
        """Let the pods be gone that are ending."""
        self.snapshot = self.snapshot.with_pods(replace(self.pods, ending=()))

    def _scale_pods(self) -> None:
        """Let there be as many pods as the Deployments want, and those that they hold."""
        deployments = [child.manifest for key, child in self.snapshot.children.items() if key.kind == WORKLOAD]
        wanted = {group_of(one): one["spec"]["replicas"] for one in deployments}
        claims = {group_of(one): mounted_claims(one["spec"]["template"]["spec"]) for one in deployments}
        templates = {group_of(one): template_digest(one) for one in deployments}
        held = {group_of(one) for one in deployments if holds_pods(one)}
        self._replace_pods(templates, held)
        for pod in self.pods.reports:
            if pod.egress_check is None and pod.group not in wanted:
                self._end(pod)
        for group, count in wanted.items():
            found = [
                pod
                for pod in self.pods.reports
                if pod.group == group and pod.egress_check is None and pod.template == templates[group]
            ]
            for pod in sorted(found, key=lambda one: one.is_marked is True)[count:]:
                self._end(pod)
            uids = itertools.islice(self._uids, max(0, count - len(found)))
            new = tuple(
                replace(_new_pod(uid, group, self.image), claims=claims[group], template=templates[group])
                for uid in uids
            )
            self.snapshot = self.snapshot.with_pods(replace(self.pods, reports=(*self.pods.reports, *new)))

    def _replace_pods(self, templates: dict[PodGroup, str], held: set[PodGroup]) -> None:
        """End the pods of earlier templates that are not held any longer, if others serve; else they get today's."""
        for pod in self.pods.reports:
            template = templates.get(pod.group, pod.template)
            if pod.egress_check is not None or pod.template == template or pod.group in held:
                continue
            if any(one.group == pod.group and one.template == template for one in self.pods.reports):
                self._end(pod)
            else:
                self._put(replace(pod, template=template))

    def _update_deployments(self, available: Any) -> None:
        children: dict[ChildKey, LiveChild] = {}
        for key, child in self.snapshot.children.items():
            if key.kind == WORKLOAD:
                wanted = child.manifest["spec"]["replicas"]
                status = {
                    "observedGeneration": child.manifest["metadata"]["generation"],
                    "replicas": wanted,
                    "updatedReplicas": wanted,
                    "availableReplicas": available(wanted),
                }
                children[key] = LiveChild({**child.manifest, "status": status})
            else:
                children[key] = child
        self.snapshot = replace(self.snapshot, children=children)


def _new_pod(uid: str, group: PodGroup, image: str) -> PodReport:
    name = uid.removeprefix("uid-of-")
    is_alone = (group.isolation, group.component) == ("Separate", "agent")
    return PodReport(
        uid,
        group,
        name=name,
        addresses=(f"10.0.0.{name.rpartition('-')[2]}",) if is_alone else (),
        images=(PodImage(AGENT_CONTAINER, IMAGE, image),) if image and group.component == AGENT_POD else (),
    )


def group_of(deployment: Manifest) -> PodGroup:
    """Return the group of a Deployment's pods."""
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    names = ("interlock.dev/stage", "interlock.dev/revision", "interlock.dev/isolation", "app.kubernetes.io/component")
    return PodGroup(*(labels[name] for name in names))


def _applied(manifest: Manifest, before: LiveChild | None) -> Manifest:
    applied = copy.deepcopy(manifest)
    generation = 1
    if before is not None:
        generation = before.manifest["metadata"]["generation"]
        if before.manifest.get("spec") != applied.get("spec"):
            generation += 1
        if "status" in before.manifest:
            applied["status"] = before.manifest["status"]
    applied["metadata"]["generation"] = generation
    if applied["kind"] == "Service":
        applied["spec"].setdefault("clusterIP", "10.96.0.41")
    return applied
