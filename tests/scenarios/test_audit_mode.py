"""An agent in mode Audit: it has pods without a row, its status counts what passed, and it is never promoted."""

import copy
from dataclasses import replace

from interlock.action.audit_mode import NONE_STRICTER, StricterEnvironments
from interlock.api.status import ConditionType
from interlock.deployment.plan import LiveChild
from interlock.orchestration.rollout_state import Command, RolloutCommands
from interlock_contract.bundle import BUNDLE_KEY, Bundle, digest, parse_bundle
from interlock_contract.names import SELFTEST_PREFIX
from interlock_contract.selftest_report import SelfTestReport, dump_report
from interlock_contract.work_counts import SettledCounts, WorkCounts, dump_counts
from tests.support.builders import (
    NOW,
    PolicyBuilder,
    a_binding,
    a_policy,
    a_snapshot,
    a_stage,
    an_agent,
    hours,
    seconds,
)
from tests.support.simulation import Simulation

SHARED = [{"name": name, "isolation": "Shared"} for name in ("staging", "production")]
AUDIT = {"name": "development", "isolation": "Shared", "mode": "Audit"}
STAGES = (a_stage("dev", "development"), a_stage("staging", "staging"))
DEVELOPMENT, STAGING = a_binding().serving("crm", "development"), a_binding("crm-staging").serving("crm", "staging")
ENFORCING = a_policy()


def in_audit(policy: PolicyBuilder | None = None) -> PolicyBuilder:
    return (policy or a_policy()).with_environments(AUDIT, *SHARED)


def begin(policy: PolicyBuilder, *stages: dict[str, object], bindings: tuple[object, ...] = ()) -> Simulation:
    agent = an_agent().with_stages(*stages) if stages else an_agent()
    found = bindings or ((DEVELOPMENT, STAGING) if stages else (DEVELOPMENT,))
    simulation = Simulation(a_snapshot().of(agent).with_policy(policy).with_bindings(*found))  # type: ignore[arg-type]
    simulation.run()
    return simulation


def condition(simulation: Simulation, kind: ConditionType) -> tuple[str, str]:
    found = simulation.condition(kind)
    return found.status, found.reason


def bundle_of(simulation: Simulation) -> Bundle:
    return parse_bundle(simulation.child_with(BUNDLE_KEY)["data"][BUNDLE_KEY])


def report(simulation: Simulation, counts: WorkCounts) -> None:
    """Let the only guard have passed its self-test, and have counted so much."""
    lease = copy.deepcopy(simulation.child("Lease"))
    test = SelfTestReport(digest(simulation.child_with(BUNDLE_KEY)["data"][BUNDLE_KEY]), 3)
    lease["metadata"]["annotations"] |= {
        f"{SELFTEST_PREFIX}one": dump_report(test, NOW),
        "counts.interlock.dev/one": dump_counts(SettledCounts("a" * 16, counts)),
    }
    simulation.edit(LiveChild(lease))
    simulation.settle()


def promote(simulation: Simulation, stage: str) -> None:
    newest = simulation.snapshot.build().agent.status
    assert newest is not None
    assert newest.stage is not None
    command = Command(newest.stage.revision_name, stage, by="ada", is_vouched=True, may_override_gates=True)
    simulation.snapshot = replace(simulation.snapshot, commands=RolloutCommands(promote=command))
    simulation.run()


def test_a_missing_row_keeps_no_pods_away_and_the_status_says_so() -> None:
    simulation = begin(in_audit().giving_nothing())
    assert condition(simulation, ConditionType.GOVERNED) == ("True", "GovernanceSatisfied")
    assert "in mode Audit: no dataAccess row for crm" in simulation.condition(ConditionType.GOVERNED).message
    assert condition(simulation, ConditionType.READY) == ("True", "PodsReady")
    bundle = bundle_of(simulation)
    assert [one.mode for one in bundle.sources] == ["Audit"]
    assert bundle.is_counted, "what passes is counted in the Lease"


def test_the_same_agent_has_no_pods_once_the_mode_is_enforce() -> None:
    simulation = begin(in_audit().giving_nothing())
    simulation.find_policy(ENFORCING.giving_nothing())
    simulation.settle()
    assert condition(simulation, ConditionType.GOVERNED) == ("False", "DataAccessMissing")


def test_the_policy_is_not_enforced_and_the_message_counts_what_passed() -> None:
    simulation = begin(in_audit())
    assert condition(simulation, ConditionType.POLICY_ENFORCED) == ("False", "SelfTestPending")
    report(simulation, WorkCounts(unmapped_passed=217, ungranted_passed=3))
    assert condition(simulation, ConditionType.POLICY_ENFORCED) == ("False", "Audit")
    message = simulation.condition(ConditionType.POLICY_ENFORCED).message
    assert "at least 200 calls of tools that are not mapped and 3 requests without a grant have passed" in message
    assert "have passed in revision 1-" in message
    assert "1 of 1 guards have passed the self-test" in message
    assert simulation.status.enforcement is None


def test_few_more_calls_do_not_change_the_status() -> None:
    simulation = begin(in_audit())
    report(simulation, WorkCounts(unmapped_passed=217))
    before = simulation.condition(ConditionType.POLICY_ENFORCED)
    report(simulation, WorkCounts(unmapped_passed=299))
    assert simulation.condition(ConditionType.POLICY_ENFORCED) == before
    report(simulation, WorkCounts(unmapped_passed=300))
    assert simulation.condition(ConditionType.POLICY_ENFORCED) != before


def test_a_binding_that_also_serves_staging_stays_enforced_and_the_status_says_so() -> None:
    both = a_binding().serving("crm", "development", "staging")
    simulation = begin(in_audit(), bindings=(both,))
    assert [one.mode for one in bundle_of(simulation).sources] == ["Enforce"]
    report(simulation, WorkCounts())
    assert condition(simulation, ConditionType.POLICY_ENFORCED) == ("True", "SelfTestPassed")
    message = simulation.condition(ConditionType.POLICY_ENFORCED).message
    assert message.endswith("MCPBindings that stay enforced: crm (serves staging)")


def test_an_environment_that_another_policy_holds_for_production_stays_enforced_and_the_status_says_so() -> None:
    lab = {"name": "lab", "class": "development", "isolation": "Shared"}
    both = a_binding().serving("crm", "development", "lab")
    simulation = begin(a_policy().with_environments(AUDIT, lab, *SHARED), bindings=(both,))
    assert [one.mode for one in bundle_of(simulation).sources] == ["Audit"]
    waits = "as many rollouts run as the policy allows"
    strict = StricterEnvironments({"lab": "strict"})
    simulation.snapshot = replace(simulation.snapshot, stricter=strict, may_start=waits)
    simulation.run()
    assert [one.mode for one in bundle_of(simulation).sources] == ["Enforce"], "immediately, not with a new revision"
    report(simulation, WorkCounts())
    message = simulation.condition(ConditionType.POLICY_ENFORCED).message
    assert "MCPBindings that stay enforced: crm (serves lab, which AgentPolicy strict holds to another" in message


def test_a_policy_that_cannot_be_read_ends_the_mode_while_that_lasts_and_begins_no_revision() -> None:
    lab = {"name": "lab", "class": "development", "isolation": "Shared"}
    both = a_binding().serving("crm", "development", "lab")
    simulation = begin(a_policy().with_environments(AUDIT, lab, *SHARED), bindings=(both,))
    before = simulation.status.rollout
    modes = []

    for stricter in (StricterEnvironments(possible={"lab": "broken"}), NONE_STRICTER):
        simulation.snapshot = replace(simulation.snapshot, stricter=stricter)
        simulation.run()
        modes += [one.mode for one in bundle_of(simulation).sources]
        report(simulation, WorkCounts())
        messages = simulation.condition(ConditionType.POLICY_ENFORCED).message
        assert ("serves lab, as far as is known: AgentPolicy broken cannot be read" in messages) == (len(modes) == 1)

    assert modes == ["Enforce", "Audit"]
    assert before is not None
    assert simulation.status.rollout is not None
    assert simulation.status.rollout.last_number == before.last_number


def test_an_agent_in_mode_audit_is_never_promoted_not_even_by_command() -> None:
    simulation = begin(in_audit(), *STAGES)
    simulation.wait(hours(1))
    simulation.run()
    assert simulation.stage == "dev"
    assert condition(simulation, ConditionType.PROMOTION_PENDING) == ("True", "Audit")
    assert condition(simulation, ConditionType.PROGRESSING) == ("True", "Audit")
    promote(simulation, "staging")
    assert simulation.stage == "dev"
    assert "also not by a promote" in simulation.condition(ConditionType.PROMOTION_PENDING).message


def test_without_the_mode_the_same_agent_is_promoted() -> None:
    assert begin(ENFORCING, *STAGES).stage == "staging"


def test_the_end_of_the_mode_begins_a_revision_that_passes_the_stages_enforced() -> None:
    simulation = begin(in_audit(), *STAGES)
    assert simulation.status.stage is not None
    before = simulation.status.stage.revision_name
    simulation.find_policy(ENFORCING)
    simulation.run()
    simulation.wait(seconds(30))
    simulation.run()
    assert simulation.stage == "staging"
    assert simulation.status.stage is not None
    assert simulation.status.stage.revision_name != before


def test_a_revision_that_began_in_the_mode_waits_for_the_one_after_it() -> None:
    simulation = begin(in_audit(), *STAGES)
    simulation.snapshot = replace(simulation.snapshot, may_start="as many rollouts run as the policy allows")
    simulation.find_policy(ENFORCING)
    simulation.run()
    assert simulation.stage == "dev"
    assert [one.mode for one in bundle_of(simulation).sources] == ["Enforce"], "Enforce holds immediately"
    assert "waits for a new revision" in simulation.condition(ConditionType.PROMOTION_PENDING).message


def test_an_agent_of_development_alone_has_a_good_revision_in_the_mode() -> None:
    simulation = begin(in_audit())
    assert condition(simulation, ConditionType.PROGRESSING) == ("False", "RolloutComplete")
