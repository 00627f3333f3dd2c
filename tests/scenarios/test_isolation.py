"""Agent and guard in a pod each, seen from the Agent's status: what starts when, and what an open network does."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from interlock.api.status import AgentReason, ConditionType
from interlock.deployment.egress_exceptions import CROWDED
from interlock.deployment.names import ChildKey, revision_label
from interlock.deployment.node_ranges import NodeRanges
from interlock.deployment.observed.causes import PodCause
from interlock.deployment.observed.egress_check import EgressCheckReport, EgressCheckVerdict
from interlock.deployment.observed.pod_reports import AgentPods, PodGroup, PodReport
from interlock.deployment.plan import WORKLOAD
from interlock.reconcile.agent_events import transitions
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, a_snapshot, a_stage, an_agent
from tests.support.simulation import Simulation, written_by

SEEN = "10.96.0.1:443 answered for 10 s"
LONGEST_NAMES = 63 + 52
"""Characters of the longest names of a namespace and an Agent."""
MOST_MESSAGE = 1024
"""Characters of a condition's message that are kept."""
EGRESS, READY, STALLED = ConditionType.EGRESS_ENFORCED, ConditionType.READY, ConditionType.STALLED


def separate(environment: str = "staging", **environments: str) -> Simulation:
    agent = an_agent().with_stages(a_stage("only", environment))
    isolation = {environment: "Separate"} | environments
    return Simulation(a_snapshot().of(agent).with_policy(a_policy().isolating(**isolation)))


def say(
    simulation: Simulation, verdict: EgressCheckVerdict, message: str = "", *, stage: str = "", count: int = 1
) -> None:
    """Let the egress checks of the present stage's pods report."""
    report_pods(simulation, EgressCheckReport(verdict, message), stage=stage, count=count)


def report_pods(
    simulation: Simulation, check: EgressCheckReport, *, trouble: str = "", stage: str = "", count: int = 1
) -> None:
    """Let there be pods with this egress check, in place of earlier ones that a test made."""
    holds = simulation.status.stage
    assert holds is not None
    group = PodGroup(stage or holds.name, revision_label(holds.revision), "Separate", "agent")
    pods = (
        PodReport(f"checked-{number}", group, cause=PodCause(trouble), egress_check=check) for number in range(count)
    )
    kept = (pod for pod in simulation.pods.reports if pod.egress_check is None)
    simulation.snapshot = simulation.snapshot.with_pods(AgentPods((*kept, *pods), simulation.pods.past))


def workloads(simulation: Simulation) -> list[str]:
    return sorted(
        child.manifest["metadata"]["labels"]["app.kubernetes.io/component"]
        for key, child in simulation.snapshot.children.items()
        if key.kind == WORKLOAD
    )


@requirement("deployment.workloads-last")
def test_the_agent_follows_once_the_guard_has_an_address() -> None:
    simulation = separate()
    first = written_by(simulation.reconcile_once().plan)
    assert [one["metadata"]["labels"]["app.kubernetes.io/component"] for one in first if one["kind"] == WORKLOAD] == [
        "guard"
    ]
    kinds = [one["kind"] for one in first]
    assert kinds.index("NetworkPolicy") < kinds.index(WORKLOAD)

    second = written_by(simulation.reconcile_once().plan)
    assert [one["kind"] for one in second] == [WORKLOAD]
    assert workloads(simulation) == ["agent", "guard"]


def test_it_is_ready_once_both_serve_and_not_before() -> None:
    simulation = separate()
    simulation.run()
    assert simulation.condition(READY).status == "True"

    for part in ("agent", "guard"):
        stalled = separate()
        stalled.run()
        for key, child in stalled.snapshot.children.items():
            if key.kind == WORKLOAD and key.name.endswith(part):
                child.manifest["status"]["availableReplicas"] = 0
        stalled.reconcile_once()
        assert (stalled.condition(READY).status, stalled.condition(READY).reason) == ("False", "PodsNotReady"), part


@requirement("isolation.reported")
def test_a_container_that_cannot_start_is_named_in_ready_and_so_is_the_command_that_shows_the_rest() -> None:
    simulation = separate()
    simulation.settle()
    trouble = 'container agent is in ImagePullBackOff ("pull access denied")'
    report_pods(simulation, EgressCheckReport(EgressCheckVerdict.WAITING), trouble=trouble)
    simulation.settle()

    assert simulation.condition(READY).message == (
        f"0 of 1 pods ready: {trouble}; correct the name of the image, load it onto the nodes (kind load "
        "docker-image), or name a Secret of its registry in imagePullSecrets; run: kubectl -n agents describe pods "
        "-l interlock.dev/agent=triage"
    )


@requirement("status.causes")
def test_after_the_longest_cause_there_is_room_for_a_refusal_and_the_command() -> None:
    simulation = separate()
    simulation.settle()
    report_pods(simulation, EgressCheckReport(EgressCheckVerdict.WAITING), trouble="x" * 2000)
    refused = {"type": "ReplicaFailure", "status": "True", "message": f"exceeded quota: {'q' * 300}"}
    for key, child in simulation.snapshot.children.items():
        if key.kind == WORKLOAD:
            child.manifest.setdefault("status", {})["conditions"] = [refused]
    simulation.reconcile_once()

    message = simulation.condition(READY).message
    assert '; "exceeded quota: ' in message
    assert message.endswith("run: kubectl -n agents describe pods -l interlock.dev/agent=triage")
    assert len(message) + LONGEST_NAMES - len("agentstriage") <= MOST_MESSAGE


def test_a_shared_pod_says_what_it_does_not_protect_and_what_would() -> None:
    simulation = Simulation()
    simulation.run()
    found = simulation.condition(EGRESS)

    assert (found.status, found.reason) == ("Unknown", AgentReason.SHARED_POD), "no alarm: the default of development"
    assert "past the guard" in found.message
    assert "isolation: Separate for development into spec.environments of AgentPolicy support" in found.message
    assert simulation.condition(READY).status == "True"


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_a_shared_pod_that_a_policy_asks_for_outside_of_development_is_an_alarm(environment: str) -> None:
    policy = a_policy().isolating(**{environment: "Shared"})
    binding = a_binding().serving("crm", environment)
    simulation = Simulation(
        a_snapshot().of(an_agent().in_environment(environment)).with_policy(policy).with_bindings(binding)
    )
    simulation.run()
    found = simulation.condition(EGRESS)
    assert (found.status, found.reason) == ("False", AgentReason.SHARED_POD)


@requirement("isolation.reported")
def test_egress_is_enforced_once_every_pod_has_seen_it() -> None:
    simulation = separate()
    simulation.apply(simulation.snapshot.agent.with_replicas(2))
    simulation.run()
    assert (simulation.condition(EGRESS).status, simulation.condition(EGRESS).reason) == (
        "Unknown",
        "EgressCheckPending",
    )

    say(simulation, EgressCheckVerdict.CLOSED)
    simulation.reconcile_once()
    assert simulation.condition(EGRESS).reason == "EgressCheckPending"
    say(simulation, EgressCheckVerdict.CLOSED, count=2)
    simulation.reconcile_once()
    assert (simulation.condition(EGRESS).status, simulation.condition(EGRESS).reason) == ("True", "EgressClosed")


@requirement("egress.reported")
def test_what_rows_open_is_named_with_what_is_not_opened_and_what_did_not_answer() -> None:
    rows = (
        {"name": "orders-db", "to": [{"cidr": "10.20.0.8/32"}, {"cidr": "172.18.0.2/32"}], "dns": "Allowed"},
        {"name": "crm-db", "servers": ["crm"], "dns": "Allowed"},
    )
    policy = a_policy().isolating(staging="Separate").opening(*rows)
    simulation = Simulation(a_snapshot().of(an_agent().with_stages(a_stage("only", "staging"))).with_policy(policy))
    simulation.run()
    say(simulation, EgressCheckVerdict.CLOSED, "10.20.0.8:5432")
    simulation.reconcile_once()

    found = simulation.condition(EGRESS)
    assert (found.status, found.reason) == ("True", AgentReason.EGRESS_OPENED)
    assert found.message == (
        "every agent pod can reach its guard and 2 exceptions: orders-db (10.20.0.8/32, TCP 5432), "
        "the cluster's DNS, which can carry data out; what goes there is neither metered nor recorded; "
        "servers in the guard's pod can reach crm-db (10.20.0.0/24, TCP 5432), the cluster's DNS, which can carry data "
        "out; "
        "not opened: orders-db 172.18.0.2/32: it has only addresses of nodes, pods, Services or the API server, or of "
        "INTERLOCK_CLOSED_RANGES; "
        "did not answer when a pod started: 10.20.0.8:5432"
    )


def test_a_node_that_the_network_does_not_close_is_named_and_the_agent_runs() -> None:
    policy = a_policy().isolating(staging="Separate")
    simulation = Simulation(a_snapshot().of(an_agent().with_stages(a_stage("only", "staging"))).with_policy(policy))
    simulation.run()
    report_pods(simulation, EgressCheckReport(EgressCheckVerdict.CLOSED, node="10.0.0.3:10250"))
    simulation.reconcile_once()

    found = simulation.condition(EGRESS)
    assert (found.status, found.reason) == ("True", AgentReason.EGRESS_OPENED)
    assert found.message == (
        "every agent pod can reach its guard and 1 exception: the pod's own node (10.0.0.3:10250), which the network "
        "plugin does not close; what goes there is neither metered nor recorded"
    )


@requirement("identity.metadata-server")
def test_the_metadata_server_that_gives_an_identity_is_named() -> None:
    google = {"annotations": {"iam.gke.io/gcp-service-account": "orders@example.iam.gserviceaccount.com"}}
    policy = a_policy().isolating(staging="Separate").identifying(google)
    snapshot = a_snapshot().of(an_agent().with_stages(a_stage("only", "staging"))).with_policy(policy)
    simulation = Simulation(replace(snapshot, metadata_server="GKE"))
    simulation.run()
    say(simulation, EgressCheckVerdict.CLOSED)
    simulation.reconcile_once()

    found = simulation.condition(EGRESS)
    assert (found.status, found.reason) == ("True", AgentReason.EGRESS_OPENED)
    assert found.message.startswith("every agent pod can reach only its guard; ")
    assert "servers in the guard's pod can reach the metadata server 169.254.169.254" in found.message


@requirement("egress.killed")
def test_a_kill_closes_what_rows_open_while_the_pods_end_and_a_release_opens_it() -> None:
    policy = a_policy().isolating(staging="Separate").opening({})
    simulation = Simulation(a_snapshot().of(an_agent().with_stages(a_stage("only", "staging"))).with_policy(policy))
    simulation.run()
    assert "5432" in networks(simulation)

    simulation.kill()
    simulation.run()
    assert "5432" not in networks(simulation)

    simulation.release()
    simulation.run()
    assert "5432" in networks(simulation)


def networks(simulation: Simulation) -> str:
    children = simulation.snapshot.children.items()
    return str([child.manifest["spec"] for key, child in children if key.kind == "NetworkPolicy"])


@requirement("egress.reported")
def test_a_way_out_of_servers_alone_counts_as_one() -> None:
    policy = a_policy().isolating(staging="Separate").opening({"name": "crm-db", "servers": ["crm"]})
    simulation = Simulation(a_snapshot().of(an_agent().with_stages(a_stage("only", "staging"))).with_policy(policy))
    simulation.run()
    say(simulation, EgressCheckVerdict.CLOSED)
    simulation.reconcile_once()

    assert simulation.condition(EGRESS).reason == AgentReason.EGRESS_OPENED


@requirement("egress.reported")
def test_a_way_out_that_more_nodes_would_close_is_reported_once() -> None:
    policy = a_policy().isolating(staging="Separate").opening({"name": "db", "to": [{"cidr": "10.0.0.0/8"}]})
    nodes = [ip_network(f"10.{number}.0.1/32") for number in range(CROWDED)]
    snapshot = a_snapshot().of(an_agent().with_stages(a_stage("only", "staging"))).with_policy(policy)
    simulation = Simulation(replace(snapshot, nodes=NodeRanges(nodes[:-1])))
    simulation.run()
    say(simulation, EgressCheckVerdict.CLOSED)
    few = simulation.reconcile_once().status

    simulation.snapshot = replace(simulation.snapshot, nodes=NodeRanges(nodes))
    many = simulation.reconcile_once().status

    [note] = [one for one in transitions(few, many) if one.reason == "EgressCrowded"]
    assert (
        "200 or more of at most 256 ranges are left out, and more nodes will close as a whole: db 10.0.0.0/8"
        in note.message
    )
    assert "EgressCrowded" not in [one.reason for one in transitions(many, many)]


@requirement("egress.reported")
def test_in_a_shared_pod_rows_are_said_to_have_no_effect() -> None:
    simulation = Simulation(a_snapshot().with_policy(a_policy().opening({})))
    simulation.run()

    assert simulation.condition(EGRESS).reason == AgentReason.SHARED_POD
    assert simulation.condition(EGRESS).message.endswith("; rows of egress have no effect here")


@requirement("egress.reported")
def test_the_longest_lists_leave_room_in_the_message() -> None:
    rows = [{"name": f"{'x' * 60}{number}"} for number in range(32)]
    policy = a_policy().isolating(staging="Separate").opening(*rows)
    simulation = Simulation(a_snapshot().of(an_agent().with_stages(a_stage("only", "staging"))).with_policy(policy))
    simulation.run()
    say(simulation, EgressCheckVerdict.CLOSED)
    simulation.reconcile_once()

    message = simulation.condition(EGRESS).message
    assert "32 exceptions: " in message
    assert " and 29 more; what goes there is neither metered nor recorded" in message


def test_what_pods_of_another_stage_have_seen_counts_for_nothing() -> None:
    simulation = separate()
    simulation.run()
    say(simulation, EgressCheckVerdict.OPEN, SEEN, stage="another")
    simulation.reconcile_once()

    assert simulation.condition(EGRESS).reason == AgentReason.EGRESS_CHECK_PENDING


@requirement("isolation.open-network")
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_an_open_network_refuses_the_agent_with_the_reason_and_keeps_its_pods_waiting(environment: str) -> None:
    simulation = separate(environment)
    simulation.settle()
    say(simulation, EgressCheckVerdict.OPEN, SEEN)
    simulation.reconcile_once()

    for kind, status in ((EGRESS, "False"), (READY, "False"), (STALLED, "True")):
        found = simulation.condition(kind)
        assert (found.status, found.reason) == (status, AgentReason.NETWORK_OPEN), kind
        assert "enforces no NetworkPolicy" in found.message
        assert SEEN in found.message
        assert f"in {environment} it does not start" in found.message
    assert workloads(simulation) == ["agent", "guard"], (
        "its egress check tries again, and lets it start once that is fixed"
    )
    assert [one.reason for one in simulation.events if one.type == "Warning"] == [AgentReason.NETWORK_OPEN] * 2

    say(simulation, EgressCheckVerdict.CLOSED)
    simulation.run()
    assert simulation.condition(READY).status == "True"
    assert simulation.condition(STALLED).status == "False"


def test_no_soak_goes_on_while_the_network_is_open() -> None:
    simulation = separate()
    simulation.settle()
    say(simulation, EgressCheckVerdict.OPEN, SEEN)
    simulation.reconcile_once()

    assert simulation.status.stage is not None
    assert simulation.status.stage.ready_since is None


@requirement("isolation.open-network")
def test_in_development_it_runs_all_the_same_and_says_so() -> None:
    simulation = separate("development")
    simulation.run()
    say(simulation, EgressCheckVerdict.OPEN, SEEN)
    simulation.reconcile_once()

    assert (simulation.condition(EGRESS).status, simulation.condition(EGRESS).reason) == ("False", "NetworkOpen")
    assert "in development it runs nevertheless" in simulation.condition(EGRESS).message
    assert simulation.condition(READY).status == "True"
    assert simulation.condition(STALLED).status == "False"
    assert AgentReason.NETWORK_OPEN in [one.reason for one in simulation.events]


@requirement("isolation.both-end")
def test_a_kill_wants_no_pod_of_either_and_off_brings_both_back() -> None:
    simulation = separate()
    simulation.run()
    simulation.kill()
    simulation.run()
    deployments = {key: one.manifest for key, one in simulation.snapshot.children.items() if key.kind == WORKLOAD}
    assert [one["spec"]["replicas"] for one in deployments.values()] == [0, 0]
    assert (simulation.condition(EGRESS).status, simulation.condition(EGRESS).reason) == ("Unknown", "KillSwitch")

    simulation.release()
    simulation.run()
    assert simulation.condition(READY).status == "True"


@requirement("isolation.both-end")
def test_a_refusal_prunes_both_workloads_first() -> None:
    simulation = separate()
    simulation.run()
    simulation.find_policy(None)
    plan = simulation.peek().plan

    assert [key.kind for key in plan.prune[:2]] == [WORKLOAD, WORKLOAD]
    simulation.settle()
    assert dict(simulation.snapshot.children) == {}
    assert simulation.condition(EGRESS).reason == AgentReason.WAITING_FOR_GOVERNANCE


def test_a_policy_that_changes_the_isolation_replaces_the_workloads() -> None:
    simulation = separate("development")
    simulation.run()
    simulation.find_policy(a_policy())
    simulation.run()
    assert workloads(simulation) == ["agent"]
    assert simulation.condition(READY).status == "True"
    assert not any(key.name.endswith("-closed") for key in simulation.snapshot.children)

    simulation.find_policy(a_policy().isolating(development="Separate"))
    simulation.run()
    assert workloads(simulation) == ["agent", "guard"]


def test_a_guards_service_that_was_deleted_takes_the_agent_along_until_it_has_an_address_again() -> None:
    simulation = separate()
    simulation.run()
    simulation.remove("Service")
    plan = simulation.peek().plan
    assert [key.kind for key in plan.prune] == [WORKLOAD]
    assert plan.prune[0].name.endswith("-agent")

    simulation.run()
    assert workloads(simulation) == ["agent", "guard"]
    assert any(ChildKey("Service", key.name) == key for key in simulation.snapshot.children)


@requirement("budget.environments")
@pytest.mark.parametrize(
    ("environment_class", "refused"), [("development", []), ("staging", ["True"]), ("production", ["True"])]
)
def test_the_class_of_an_environment_says_whether_an_open_network_is_refused(
    environment_class: str, refused: list[str]
) -> None:
    policy = a_policy().with_environments({"name": "qa", "class": environment_class, "isolation": "Separate"})
    binding = a_binding().serving("crm", "qa")
    simulation = Simulation(a_snapshot().of(an_agent().in_environment("qa")).with_policy(policy).with_bindings(binding))
    simulation.run()
    say(simulation, EgressCheckVerdict.OPEN, SEEN)
    simulation.reconcile_once()

    egress, stalled = simulation.condition(EGRESS), simulation.condition(STALLED)
    assert (egress.status, egress.reason) == ("False", AgentReason.NETWORK_OPEN)
    assert [one.status for one in [stalled] if one.reason == AgentReason.NETWORK_OPEN] == refused
