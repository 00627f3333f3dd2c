"""The condition PolicyEnforced: self-tests of the current bundle count, and no others."""

from dataclasses import replace

from interlock.api.status import ConditionType
from interlock.deployment.names import ChildKey
from interlock.deployment.plan import LiveChild
from interlock_contract.bundle import BUNDLE_KEY, digest
from interlock_contract.names import PLACEMENT_DIGEST, SELFTEST_PREFIX
from interlock_contract.selftest_report import SelfTestReport, dump_report
from tests.requirements import requirement
from tests.support.builders import NOW, a_snapshot, an_agent
from tests.support.simulation import Simulation


def a_ready_agent(replicas: int = 1) -> Simulation:
    simulation = Simulation(a_snapshot().of(an_agent().with_replicas(replicas)))
    simulation.run()
    return simulation


def held(simulation: Simulation) -> str:
    found = [child.manifest for key, child in simulation.snapshot.children.items() if key.kind == "ConfigMap"]
    return digest(next(manifest["data"][BUNDLE_KEY] for manifest in found if BUNDLE_KEY in manifest["data"]))


def attest(simulation: Simulation, **said: SelfTestReport) -> None:
    """Let guards say something in the Lease."""
    lease = simulation.child("Lease")
    annotations = {f"{SELFTEST_PREFIX}{pod}": dump_report(one, NOW) for pod, one in said.items()}
    metadata = {**lease["metadata"], "annotations": {**lease["metadata"].get("annotations", {}), **annotations}}
    simulation.edit(LiveChild({**lease, "metadata": metadata}))
    simulation.settle()


def enforced(simulation: Simulation) -> tuple[str, str]:
    found = simulation.condition(ConditionType.POLICY_ENFORCED)
    return found.status, found.reason


@requirement("guard.selftest-reported")
def test_it_is_true_once_every_guard_has_self_tested_the_current_bundle() -> None:
    simulation = a_ready_agent(2)
    assert enforced(simulation) == ("False", "SelfTestPending")
    attest(simulation, one=SelfTestReport(held(simulation), 3), two=SelfTestReport("another", 3))
    assert enforced(simulation) == ("False", "SelfTestPending")
    attest(simulation, two=SelfTestReport(held(simulation), 3))
    assert enforced(simulation) == ("True", "SelfTestPassed")
    report = simulation.status.enforcement
    assert report is not None
    assert (report.bundle_digest, report.generation, report.guards) == (
        held(simulation),
        simulation.snapshot.agent.build().metadata.generation,
        2,
    )


@requirement("guard.selftest-reported")
def test_a_self_test_of_pods_that_are_not_ready_does_not_count() -> None:
    """They may be gone: each guard is ready only once it has self-tested its bundle, so this closes the gap."""
    simulation = a_ready_agent()
    attest(simulation, one=SelfTestReport(held(simulation), 3))
    simulation.fail()
    simulation.settle()
    assert enforced(simulation) == ("False", "SelfTestPending")
    assert simulation.status.enforcement is None


@requirement("guard.selftest-reported")
def test_a_flaw_that_a_guard_found_in_itself_is_reported_with_an_event() -> None:
    simulation = a_ready_agent()
    attest(simulation, one=SelfTestReport(held(simulation), 1, "Denied call tools/call 'get': Allow"))
    assert enforced(simulation) == ("False", "SelfTestFailed")
    assert [note.reason for note in simulation.events].count("SelfTestFailed") == 1
    simulation.settle()
    assert [note.reason for note in simulation.events].count("SelfTestFailed") == 1


def test_guards_are_no_drift_when_they_write_to_their_lease() -> None:
    simulation = a_ready_agent()
    attest(simulation, one=SelfTestReport(held(simulation), 3))
    assert simulation.reconcile_once().plan.is_empty


def test_without_a_guard_nothing_is_said() -> None:
    simulation = a_ready_agent(0)
    assert enforced(simulation) == ("Unknown", "NoGuard")
    killed = a_ready_agent()
    attest(killed, one=SelfTestReport(held(killed), 3))
    killed.kill()
    killed.settle()
    assert enforced(killed) == ("Unknown", "KillSwitch")
    refused = Simulation(a_snapshot().with_policy(None))
    refused.settle()
    assert enforced(refused) == ("Unknown", "WaitingForGovernance")


def test_a_lease_that_is_gone_is_recreated_and_its_self_test_report_is_missing() -> None:
    simulation = a_ready_agent()
    attest(simulation, one=SelfTestReport(held(simulation), 3))
    name = simulation.child("Lease")["metadata"]["name"]
    simulation.snapshot = replace(
        simulation.snapshot,
        children={key: child for key, child in simulation.snapshot.children.items() if key != ChildKey("Lease", name)},
    )
    simulation.settle()
    assert enforced(simulation) == ("False", "SelfTestPending")
    assert list(simulation.child("Lease")["metadata"]["annotations"]) == [PLACEMENT_DIGEST]
