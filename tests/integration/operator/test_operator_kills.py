"""The kill switch: zero pods and none again, whatever hangs, queues, restarts or pulls the other way."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from interlock.cluster.applier import IN_FLIGHT
from tests.integration.attacks import a_pod
from tests.integration.operator import objects
from tests.integration.operator.api import Api, Json, eventually
from tests.integration.operator.conftest import Operators, a_sandbox
from tests.integration.operator.fault_proxy import Call, FaultProxy
from tests.integration.operator.objects import KILL_SWITCH, KILL_SWITCH_BY
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

KILL_SECONDS = 15.0  # that it does not wait is the matter here; how fast it is on a node is measured in tests/e2e
GC_SECONDS = 90.0  # the garbage collector tries again ever later where an object changed while it took its owner away
CREATORS = 8
RESTRICTED = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
NO_CAPABILITY = {"drop": ["ALL"]}
WORKERS, CROWD = 4, 24  # several times the number of concurrent reconciles


def switch(sandbox: Sandbox, name: str, value: str | None, by: str | None = None) -> None:
    """Set the annotation, or take it away; no policy of this cluster stamps who does it."""
    annotations = {KILL_SWITCH: value, KILL_SWITCH_BY: by}
    sandbox.api.patch("agents", sandbox.namespace, name, {"metadata": {"annotations": annotations}})


def wait_killed(sandbox: Sandbox, name: str, seconds: float = KILL_SECONDS) -> None:
    """Wait until no pod is left, no replica is wanted and the status says so."""
    eventually(lambda: not sandbox.pods(name), f"no pod of {name} is left", seconds)
    eventually(lambda: sandbox.replicas(name) == 0, f"{name} wants no replica", seconds)
    eventually(lambda: sandbox.condition(name, "Killed").get("status") == "True", f"{name} says it is killed", seconds)


@contextlib.contextmanager
def no_pod_stays(sandbox: Sandbox, name: str) -> Iterator[list[Json]]:
    """Nothing that comes up for the agent may stay, whatever happens inside."""
    with sandbox.api.watching("pods", sandbox.namespace) as seen:
        yield seen
        eventually(lambda: not sandbox.pods(name), f"no pod of {name} stays", KILL_SECONDS)
        eventually(lambda: sandbox.replicas(name) == 0, f"{name} wants no replica", KILL_SECONDS)


@pytest.fixture
def living(operator: OperatorProcess, sandbox: Sandbox) -> Sandbox:
    """A namespace with one Agent, `triage`, that is Ready."""
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage", replicas=2)
    sandbox.wait_ready("triage")
    return sandbox


@pytest.fixture
def killed(living: Sandbox) -> Sandbox:
    """The same, killed, and the kill is recorded."""
    switch(living, "triage", "it sends nonsense")
    wait_killed(living, "triage")
    # The operator says that an agent is killed. The kill controller records it, which may be later.
    kill = lambda: living.agent("triage")["status"].get("kill", {})  # noqa: E731
    eventually(lambda: "zeroPodsAt" in kill(), "the status says when no pod was left")
    return living


@pytest.mark.parametrize(
    "value", ["", *(pytest.param(value, marks=pytest.mark.nightly) for value in ("it sends nonsense", "Off", "false"))]
)
def test_any_value_but_off_kills(living: Sandbox, value: str) -> None:
    switch(living, "triage", value)
    wait_killed(living, "triage")


def test_a_kill_is_reported_in_the_status(killed: Sandbox) -> None:
    kill = killed.agent("triage")["status"]["kill"]
    assert kill["reason"] == "it sends nonsense"
    assert kill["requestedAt"] <= kill["zeroPodsAt"]
    ready = killed.condition("triage", "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "KillSwitch")
    assert "interlock.dev/kill-switch=off --overwrite" in ready["message"]


def test_who_set_the_kill_switch_and_who_released_it_is_reported_even_if_it_was_for_a_moment(living: Sandbox) -> None:
    switch(living, "triage", "a slip", by="ada")
    switch(living, "triage", "off", by="alan")

    def kill() -> dict[str, str]:
        return living.agent("triage")["status"].get("kill", {})  # type: ignore[no-any-return]

    eventually(lambda: "releasedAt" in kill(), "the release is reported")
    # This cluster has no policy that makes the API server write the names.
    assert (kill()["reason"], kill()["by"], kill()["releasedBy"]) == ("a slip", "unverified:ada", "unverified:alan")
    living.wait_ready("triage")


def test_pods_are_ended_before_replicas_are_taken_away(living: Sandbox) -> None:
    names = {pod["metadata"]["name"] for pod in living.pods("triage")}
    with living.api.watching("pods", living.namespace) as pods:
        switch(living, "triage", "now")
        wait_killed(living, "triage")
        gone = lambda: {event["object"]["metadata"]["name"] for event in pods if event["type"] == "DELETED"}  # noqa: E731
        eventually(lambda: names <= gone(), "the watch has seen the end of both")
    # A pod that replaces one before the replicas are taken away may be deleted by its ReplicaSet's controller.
    earlier = [event["object"]["metadata"] for event in pods if event["object"]["metadata"]["name"] in names]
    ended = [metadata for metadata in earlier if "deletionTimestamp" in metadata]
    assert {metadata["deletionGracePeriodSeconds"] for metadata in ended} <= {0, 1}


def test_off_brings_the_pods_back_at_once_and_it_can_be_killed_again(killed: Sandbox) -> None:
    switch(killed, "triage", "off")
    eventually(lambda: len(killed.pods("triage")) == 2, "both pods are back", KILL_SECONDS)
    killed.wait_ready("triage")
    eventually(lambda: killed.condition("triage", "Killed")["reason"] == "Released", "it says it was released")
    eventually(lambda: "releasedAt" in killed.agent("triage")["status"]["kill"], "the release stands recorded")

    switch(killed, "triage", "again")
    wait_killed(killed, "triage")
    released = lambda: "releasedAt" not in killed.agent("triage")["status"]["kill"]  # noqa: E731
    eventually(released, "the second kill stands recorded")


def test_scaling_up_a_killed_agent_is_undone(killed: Sandbox) -> None:
    deployment = killed.child("triage", "Deployment")["metadata"]["name"]
    with no_pod_stays(killed, "triage"):
        killed.api.scale(killed.namespace, deployment, 3)


def restart(*processes: OperatorProcess) -> None:
    """End processes as crashes do, and start them again."""
    for process in processes:
        process.kill()
    for process in processes:
        process.start()


@pytest.mark.nightly
def test_a_killed_agent_stays_killed_across_restarts(
    killed: Sandbox, operator: OperatorProcess, operators: Operators
) -> None:
    with killed.api.watching("pods", killed.namespace) as seen:
        restart(operator, operators.killer)
        killed.create("answer")  # its refusal shows that the new operator works
        killed.wait_refused("answer", "DataAccessMissing")
    assert seen == []
    assert killed.replicas("triage") == 0


@pytest.fixture
def no_killer(operators: Operators) -> Iterator[OperatorProcess]:
    """The kill controller, which does not run; the Lease is not old yet."""
    operators.killer.kill()
    yield operators.killer
    if not operators.killer.is_running:
        operators.killer.start()


def test_what_came_up_while_no_kill_controller_ran_is_ended_by_the_next(
    killed: Sandbox, operator: OperatorProcess, no_killer: OperatorProcess
) -> None:
    deployment = killed.child("triage", "Deployment")["metadata"]["name"]
    operator.kill()  # which would take the replicas back
    killed.api.scale(killed.namespace, deployment, 2)
    eventually(lambda: len(killed.pods("triage")) == 2, "nothing holds it at zero now")
    no_killer.start()
    eventually(lambda: not killed.pods("triage"), "no pod is left", KILL_SECONDS)
    operator.start()
    wait_killed(killed, "triage")


def test_a_kill_while_no_kill_controller_ran_is_carried_out_by_the_next(
    living: Sandbox, no_killer: OperatorProcess
) -> None:
    switch(living, "triage", "now")
    no_killer.start()
    wait_killed(living, "triage")


@requirement("kill.shares-nothing")
def test_a_kill_is_carried_out_and_recorded_while_no_operator_runs(living: Sandbox, operator: OperatorProcess) -> None:
    operator.kill()
    switch(living, "triage", "now", by="ada")
    eventually(lambda: not living.pods("triage"), "no pod is left", KILL_SECONDS)
    eventually(lambda: living.replicas("triage") == 0, "no replica is wanted", KILL_SECONDS)
    kill = lambda: living.agent("triage")["status"].get("kill", {})  # noqa: E731
    eventually(lambda: "zeroPodsAt" in kill(), "the status says so", KILL_SECONDS)
    assert (kill()["reason"], kill()["by"]) == ("now", "unverified:ada")
    operator.start()


@requirement("kill.deleted")
def test_the_pods_of_a_deleted_agent_that_a_finalizer_keeps_end_while_no_operator_runs(
    living: Sandbox, operator: OperatorProcess
) -> None:
    finalizer = {"metadata": {"finalizers": ["example.com/keep"]}}
    living.api.patch("agents", living.namespace, "triage", finalizer)
    operator.kill()
    try:
        living.api.delete("agents", living.namespace, "triage")
        eventually(lambda: not living.pods("triage"), "no pod is left", KILL_SECONDS)
        eventually(lambda: living.replicas("triage") == 0, "no replica is wanted", KILL_SECONDS)
        assert "kill" not in living.agent("triage")["status"]
    finally:
        operator.start()
        living.api.patch("agents", living.namespace, "triage", {"metadata": {"finalizers": None}})


@requirement("kill.latched")
def test_removing_the_annotation_releases_nothing(
    killed: Sandbox, operator: OperatorProcess, operators: Operators
) -> None:
    with no_pod_stays(killed, "triage") as seen:
        switch(killed, "triage", None)
        restart(operator, operators.killer)
        killed.create("answer")
        killed.wait_refused("answer", "DataAccessMissing")
        deployment = killed.child("triage", "Deployment")["metadata"]["name"]
        killed.api.scale(killed.namespace, deployment, 0)
    assert seen == []
    assert killed.condition("triage", "Killed")["status"] == "True"
    deployment = killed.child("triage", "Deployment")["metadata"]["name"]
    with no_pod_stays(killed, "triage"):
        killed.api.scale(killed.namespace, deployment, 2)


def wait_gone(sandbox: Sandbox, pod: Json) -> None:
    """Wait until no pod has the uid of this metadata."""
    uids = lambda: {one["metadata"]["uid"] for one in sandbox.api.listed("pods", sandbox.namespace)}  # noqa: E731
    eventually(lambda: pod["uid"] not in uids(), "the pod is gone", KILL_SECONDS)


@requirement("kill.relabelled")
@pytest.mark.parametrize(
    "label",
    [pytest.param(None, id="taken away"), pytest.param("another-agent", id="changed", marks=pytest.mark.nightly)],
)
def test_a_pod_whose_label_was_changed_is_deleted(living: Sandbox, label: str | None) -> None:
    pod = living.pods("triage")[0]["metadata"]
    patch = {"metadata": {"labels": {"interlock.dev/agent": label}}}

    living.api.patch("pods", living.namespace, pod["name"], patch)

    wait_gone(living, pod)


@requirement("kill.relabelled")
@pytest.mark.parametrize("isolation", [pytest.param("Shared", marks=pytest.mark.nightly), "Separate"])
def test_a_kill_finds_pods_whose_labels_no_watch_saw_change(
    sandbox: Sandbox, operator: OperatorProcess, no_killer: OperatorProcess, isolation: str
) -> None:
    sandbox.apply_policy_and_bindings("triage", isolation=isolation)
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    pods = [pod["metadata"] for pod in sandbox.pods("triage")]
    for pod in pods:
        patch = {"metadata": {"labels": {"interlock.dev/agent": None}}}
        sandbox.api.patch("pods", sandbox.namespace, pod["name"], patch)
    switch(sandbox, "triage", "now")

    no_killer.start()

    assert len(pods) == (2 if isolation == "Separate" else 1)
    for pod in pods:
        wait_gone(sandbox, pod)


def delete_orphaning(living: Sandbox, killer: OperatorProcess | None) -> None:
    """Delete an Agent and orphan its objects, after the start of the kill controller if there is to be one."""
    if killer is not None:
        killer.start()
        eventually(lambda: killer.metric("interlock_reconcile_seconds_count") >= 0, "it works")

    path = f"/apis/interlock.dev/v1alpha1/namespaces/{living.namespace}/agents/triage?propagationPolicy=Orphan"
    living.api.request("DELETE", path)
    eventually(lambda: living.api.find("agents", living.namespace, "triage") is None, "the Agent is gone", GC_SECONDS)


@requirement("kill.gone")
@pytest.mark.parametrize(
    "is_away",
    [pytest.param(False, id="while it runs", marks=pytest.mark.nightly), pytest.param(True, id="while it is away")],
)
def test_an_agent_that_is_deleted_leaves_no_pod_behind_even_if_its_objects_are_orphaned(
    living: Sandbox, no_killer: OperatorProcess, *, is_away: bool
) -> None:
    """The garbage collector takes the owner away from the Deployment, and the operator finds no Agent to prune."""
    delete_orphaning(living, None if is_away else no_killer)
    if is_away:
        no_killer.start()

    eventually(lambda: not living.pods("triage"), "no pod is left", KILL_SECONDS)


@requirement("kill.gone")
@pytest.mark.parametrize(
    "is_away",
    [pytest.param(False, id="while it runs"), pytest.param(True, id="while it is away", marks=pytest.mark.nightly)],
)
def test_an_agent_created_again_leaves_no_pod_of_the_earlier_one_whose_objects_were_orphaned(
    living: Sandbox, no_killer: OperatorProcess, *, is_away: bool
) -> None:
    """The attack: pods that no layer has checked, under an Agent that would be refused."""
    earlier = {pod["metadata"]["uid"] for pod in living.pods("triage")}
    assert earlier
    delete_orphaning(living, None if is_away else no_killer)
    living.create("triage", purpose="Another one")
    if is_away:
        no_killer.start()

    left = lambda: earlier & {pod["metadata"]["uid"] for pod in living.pods("triage")}  # noqa: E731
    eventually(lambda: not left(), "no pod of the earlier Agent is left", KILL_SECONDS)


@requirement("kill.foreign")
def test_pods_of_a_teams_own_service_account_outlive_the_kill_of_an_agent_with_a_name_like_it(
    operator: OperatorProcess, sandbox: Sandbox, no_killer: OperatorProcess
) -> None:
    """The attack: a user who may create Agents alone chooses such a name, and sets the switch."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "payments-0123456789-guard"}}
    sandbox.api.create(account, sandbox.namespace)
    pod = a_pod({}, serviceAccountName="payments-0123456789-guard", securityContext=RESTRICTED)
    pod["spec"]["containers"][0]["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": NO_CAPABILITY}
    name = pod["metadata"]["name"]
    uid = sandbox.api.create(pod, sandbox.namespace)["metadata"]["uid"]
    sandbox.apply_policy_and_bindings("payments")
    sandbox.create("payments", annotations={KILL_SWITCH: "an attack"})

    no_killer.start()  # it looks for pods without labels at its start, too

    zero = lambda: sandbox.agent("payments").get("status", {}).get("kill", {}).get("zeroPodsAt")  # noqa: E731
    eventually(zero, "the kill is done")
    found = sandbox.api.get("pods", sandbox.namespace, name)["metadata"]
    assert found["uid"] == uid
    assert "deletionTimestamp" not in found


@requirement("kill.never-up")
def test_an_agent_created_killed_never_gets_a_pod(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    with sandbox.api.watching("pods", sandbox.namespace) as seen:
        sandbox.create("triage", annotations={KILL_SWITCH: "not yet"})
        wait_killed(sandbox, "triage")
        operator.kill()
        operator.start()
        sandbox.create("answer")
        sandbox.wait_refused("answer", "DataAccessMissing")
    assert seen == []


def test_an_agent_that_is_refused_can_be_killed_and_says_both(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.create("triage")
    sandbox.wait_refused("triage", "PolicyNotFound")
    switch(sandbox, "triage", "now")
    eventually(lambda: sandbox.condition("triage", "Ready")["reason"] == "KillSwitch", "killed is reported first")
    assert sandbox.condition("triage", "Governed")["reason"] == "PolicyNotFound"


def is_apply(call: Call) -> bool:
    """A reconcile's creation of a child; the kill controller creates nothing but its Lease, elsewhere."""
    return call.method == "POST" and "/events" not in call.path


@requirement("kill.while-hanging")
def test_a_kill_works_while_every_reconcile_hangs(
    proxied: OperatorProcess, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    others = [f"other-{number}" for number in range(20)]
    sandbox.apply_policy_and_bindings("triage", *others)
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    with proxy.stalling(is_apply):
        for name in others:
            sandbox.create(name)
        eventually(lambda: proxy.waiting >= IN_FLIGHT, "as many applies hang as the operator has in flight there")
        switch(sandbox, "triage", "now")
        eventually(lambda: not sandbox.pods("triage"), "no pod is left", KILL_SECONDS)
        eventually(lambda: sandbox.replicas("triage") == 0, "no replica is wanted", KILL_SECONDS)
        kill = lambda: sandbox.agent("triage")["status"].get("kill", {}).get("zeroPodsAt")  # noqa: E731
        eventually(kill, "the status reports it", KILL_SECONDS)
        assert proxy.waiting >= IN_FLIGHT


@requirement("operator.fair")
def test_an_agent_is_served_while_every_apply_in_another_namespace_hangs(
    proxied: OperatorProcess, proxy: FaultProxy, sandbox: Sandbox, operators: Operators
) -> None:
    """More Agents than the operator has workers, and more applies than it has connections."""
    sandbox.apply_policy_and_bindings("triage")
    with a_sandbox(operators) as slow:
        crowd = [f"other-{number}" for number in range(40)]
        slow.apply_policy_and_bindings(*crowd)
        with proxy.stalling(lambda call: is_apply(call) and slow.namespace in call.path):
            for name in crowd:
                slow.create(name)
            eventually(lambda: proxy.waiting >= IN_FLIGHT, "as many applies hang as the operator has in flight there")
            sandbox.create("triage")
            sandbox.wait_ready("triage")
            assert proxy.waiting >= IN_FLIGHT


def test_a_kill_does_not_wait_behind_a_crowd(operators: Operators, proxy: FaultProxy, sandbox: Sandbox) -> None:
    """The crowd's turn never comes while the proxy holds it up, so that no clock decides who is first."""
    operator = operators.use(proxy.url, INTERLOCK_WORKERS=str(WORKERS))
    crowd = [f"other-{number}" for number in range(CROWD)]
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    create_all(sandbox, crowd)
    with proxy.stalling(is_apply):
        sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, policy_for("triage", *crowd))
        eventually(lambda: operator.metric("interlock_queued_agents") > CROWD / 4, "much of the crowd is queued")
        switch(sandbox, "triage", "now")
        eventually(lambda: not sandbox.pods("triage"), "no pod is left", KILL_SECONDS)
        assert operator.metric("interlock_queued_agents") > CROWD / 4, "the crowd was served before the kill"
        operators.stop()  # the crowd needs no objects


def policy_for(*agents: str) -> Json:
    """A merge patch with rows for these agents, as many rows as it takes."""
    spec = objects.policy(*agents)["spec"]
    row = spec["dataAccess"][0]
    rows = [row | {"agents": list(agents[start : start + 60])} for start in range(0, len(agents), 60)]
    return {"spec": {"dataAccess": rows}}


def create_all(sandbox: Sandbox, names: list[str]) -> None:
    """Create Agents that want no pod, several at a time."""

    def create(part: list[str]) -> None:
        client = Api(sandbox.api.access)
        for name in part:
            client.create(objects.agent(name, replicas=0), sandbox.namespace)
        client.close()

    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(create, (names[number::CREATORS] for number in range(CREATORS))))


@requirement("kill.lease")
def test_no_new_pod_starts_while_the_lease_of_the_kill_controller_is_not_renewed(
    living: Sandbox, operators: Operators, no_killer: OperatorProcess
) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/interlock-system/leases/interlock-kill"
    body = {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
    living.api.request("PATCH", path, body, "application/merge-patch+json")
    operators.stop()
    operators.use()
    living.api.patch("agentpolicies", living.namespace, objects.POLICY, policy_for("triage", "new"))

    living.create("new")

    away = lambda: living.condition("new", "Ready").get("reason") == "KillControllerAway"  # noqa: E731
    eventually(away, "the agent says why it does not start", KILL_SECONDS)
    assert living.children("new").get("Deployment") is None
    assert living.condition("triage", "Ready")["status"] == "True", "pods that run already stay"
    no_killer.start()
    living.wait_ready("new")
