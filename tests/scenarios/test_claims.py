"""An agent with state: its pods go before those of the next revision come, and its claims are its own."""

from dataclasses import replace

import pytest

from interlock.api.agent_reasons import AgentReason
from interlock.api.status import ConditionType
from interlock.deployment.plan import WORKLOAD
from interlock.orchestration.claim_checks import ClaimUse
from interlock.reconcile.claims import used_claims
from tests.support.builders import NOW, AgentBuilder, a_binding, a_policy, a_snapshot, a_stage, an_agent, hours
from tests.support.pod_templates import ALL_FEATURES
from tests.support.simulation import Simulation

STAGED = an_agent().with_stages(a_stage("try", "staging", lasting="3h"), a_stage("live", "production")).created(NOW)
AGENT = STAGED.with_claims(files={"staging": "files-try", "production": "files"})
POLICY = (
    a_policy()
    .requiring(minStaging="0s", requireLimitedScope=False)
    .isolating(staging="Separate", production="Separate")
)
ALLOWED = POLICY.with_pod_template(allow=ALL_FEATURES)


def deployments(simulation: Simulation) -> list[tuple[str, str, int]]:
    """Return stage, component and replicas of each Deployment."""
    found = []
    for key, child in simulation.snapshot.children.items():
        if key.kind == WORKLOAD:
            labels = child.manifest["metadata"]["labels"]
            component = labels["app.kubernetes.io/component"]
            found.append((labels["interlock.dev/stage"], component, child.manifest["spec"]["replicas"]))
    return sorted(found)


def settle(simulation: Simulation) -> None:
    """Let everything happen that needs no more than some time, but for pods that end."""
    for _ in range(6):
        simulation.wait(hours(1))
        simulation.run()


def running(agent: AgentBuilder = AGENT) -> Simulation:
    simulation = Simulation(a_snapshot().of(agent).with_policy(ALLOWED).with_bindings(a_binding()))
    settle(simulation)
    simulation.let_pods_end()
    settle(simulation)
    assert deployments(simulation) == [("live", "agent", 1), ("live", "guard", 1)]
    return simulation


def message(simulation: Simulation, kind: ConditionType) -> str:
    return simulation.condition(kind).message


def next_revision(simulation: Simulation) -> Simulation:
    """Let revision 2 enter production."""
    template = AGENT.raw["spec"]["template"]
    simulation.apply(AGENT.with_template(**{**template, "args": ["another"]}))
    settle(simulation)
    return simulation


def test_the_pods_of_the_next_revision_come_once_those_of_the_earlier_one_are_gone() -> None:
    simulation = next_revision(running())
    assert deployments(simulation) == [("live", "agent", 0), ("live", "guard", 0)]
    first = simulation.status.rollout.passed[0]  # type: ignore[union-attr]
    waits = f"it waits for the pods of revision 1-{first.digest[:10]} to end, because both use claim files"
    assert waits in message(simulation, ConditionType.READY)
    assert waits in message(simulation, ConditionType.SERVING)
    assert waits in message(simulation, ConditionType.PROGRESSING)

    simulation.let_pods_end()
    settle(simulation)
    assert deployments(simulation) == [("live", "agent", 1), ("live", "guard", 1)]
    assert simulation.condition(ConditionType.READY).status == "True"
    assert simulation.condition(ConditionType.PROGRESSING).reason == "RolloutComplete"


def test_an_autoscaler_finds_no_pods_of_an_agent_that_has_one_pod_whatever_it_writes() -> None:
    simulation = running()
    assert (simulation.status.replicas, simulation.status.selector) == (1, "")
    plain = Simulation(a_snapshot().of(STAGED).with_policy(ALLOWED).with_bindings(a_binding()))
    settle(plain)
    assert plain.status.selector != ""


def test_a_restart_of_the_operator_in_the_gap_starts_no_pod_sooner() -> None:
    simulation = next_revision(running())
    ending = simulation.pods.ending
    simulation.forget()
    simulation.snapshot = simulation.snapshot.with_pods(replace(simulation.pods, ending=ending))
    settle(simulation)
    assert deployments(simulation) == [("live", "agent", 0), ("live", "guard", 0)]


def test_a_release_after_a_kill_waits_for_the_pods_that_the_kill_ended() -> None:
    simulation = running()
    simulation.kill()
    settle(simulation)
    simulation.release()
    settle(simulation)
    assert deployments(simulation) == [("live", "agent", 0), ("live", "guard", 0)]
    assert "it waits for its own earlier pods to end, because they use claim files" in message(
        simulation, ConditionType.READY
    )
    simulation.let_pods_end()
    settle(simulation)
    assert deployments(simulation) == [("live", "agent", 1), ("live", "guard", 1)]


def test_an_agent_with_a_claim_has_one_pod_whatever_is_asked_for() -> None:
    simulation = running(AGENT.with_replicas(3))
    assert simulation.condition(ConditionType.READY).message == (
        "1 of 1 pods ready; stage live asks for 3, and an agent with claims has one"
    )
    simulation.apply(STAGED.with_replicas(3))  # without claims; the good revision still has one
    simulation.run()
    assert ("live", "agent", 1) in deployments(simulation)


def recorded(simulation: Simulation) -> tuple[str, ...]:
    assert simulation.status.rollout is not None
    return simulation.status.rollout.claims


def test_its_claims_are_recorded_while_it_names_them_or_pods_use_them() -> None:
    simulation = running()
    assert recorded(simulation) == ("files", "files-try"), "the next rollout finds its files in staging"
    simulation.apply(AGENT.with_template(**{**AGENT.raw["spec"]["template"], "volumes": []}))
    settle(simulation)
    assert recorded(simulation) == ("files",), "the pod of revision 1 is still ending"
    simulation.let_pods_end()
    settle(simulation)
    assert recorded(simulation) == ()


def test_a_policy_that_withholds_claims_ends_the_pods_that_use_them_and_gives_them_to_no_other_agent() -> None:
    simulation = running()
    simulation.find_policy(POLICY)
    settle(simulation)
    assert simulation.condition(ConditionType.GOVERNED).reason == AgentReason.TEMPLATE_NOT_ALLOWED
    assert "PersistentVolumeClaims" in message(simulation, ConditionType.GOVERNED)
    assert deployments(simulation) == []
    simulation.let_pods_end()
    settle(simulation)
    assert recorded(simulation) == ("files", "files-try")


@pytest.mark.parametrize("loss", ["policy", "owner"])
def test_an_agent_that_lost_its_pods_for_a_while_finds_its_files_again(loss: str) -> None:
    simulation = running()
    agent = an_agent("abe").with_stages(a_stage("live", "production")).created(NOW + hours(50))
    younger = Simulation(
        a_snapshot()
        .of(agent.with_claims(files={"production": "files"}))
        .with_policy(ALLOWED.giving("abe", "crm", read=["contacts"]))
        .with_bindings(a_binding())
    )
    if loss == "policy":
        simulation.find_policy(None)
    else:
        simulation.apply(AGENT.without_owner())
    settle(simulation)
    simulation.let_pods_end()
    settle(simulation)
    assert not is_asking(simulation)
    found_others(younger, use_of(simulation))
    assert younger.condition(ConditionType.ORCHESTRATED).reason == AgentReason.CLAIM_SHARED
    assert deployments(younger) == []

    simulation.find_policy(ALLOWED)
    simulation.apply(AGENT)
    found_others(simulation, use_of(younger))
    assert is_asking(simulation)


FILES = frozenset({"files"})
OTHER = ClaimUse("older", NOW - hours(1000), named=FILES)


def found_others(simulation: Simulation, *uses: ClaimUse) -> Simulation:
    simulation.snapshot = replace(simulation.snapshot, claims_of_others=uses)
    settle(simulation)
    return simulation


def test_a_claim_of_another_agent_keeps_a_new_one_from_pods() -> None:
    simulation = Simulation(a_snapshot().of(AGENT).with_policy(ALLOWED).with_bindings(a_binding()))
    found_others(simulation, OTHER)
    assert simulation.condition(ConditionType.ORCHESTRATED).reason == AgentReason.CLAIM_SHARED
    assert "Agent older" in message(simulation, ConditionType.READY)
    assert deployments(simulation) == []


def test_a_claim_that_its_pods_use_stays_its_own_and_one_that_both_use_goes_to_the_older_one() -> None:
    simulation = found_others(running(), OTHER)
    assert simulation.condition(ConditionType.READY).status == "True"
    found_others(simulation, replace(OTHER, held=FILES))
    assert simulation.condition(ConditionType.READY).status == "True", "the other one only announces it"
    found_others(simulation, replace(OTHER, held=FILES, used=FILES))
    assert deployments(simulation) == []


def test_a_claim_that_a_refused_agent_names_is_free() -> None:
    simulation = Simulation(a_snapshot().of(AGENT).with_policy(ALLOWED).with_bindings(a_binding()))
    found_others(simulation, replace(OTHER, is_refused=True))
    assert simulation.condition(ConditionType.READY).status == "True"


def is_asking(simulation: Simulation) -> bool:
    return used_claims(simulation.snapshot.children) != frozenset()


def use_of(simulation: Simulation) -> ClaimUse:
    """Return what others learn of an Agent."""
    agent = simulation.snapshot.agent.build()
    held = agent.status.rollout.claims if agent.status and agent.status.rollout else ()
    return ClaimUse(
        agent.metadata.name,
        agent.metadata.creation_timestamp or NOW,
        named=frozenset({"files"}),
        held=frozenset(held),
        used=used_claims(simulation.snapshot.children),
    )


def two_that_announce() -> tuple[Simulation, Simulation]:
    """Return an older and a younger agent that have announced one claim, neither of which knows of the other."""
    stage = a_stage("live", "production")
    older, younger = (
        Simulation(
            a_snapshot()
            .of(an_agent(name).with_stages(stage).created(at).with_claims(files={"production": "files"}))
            .with_policy(ALLOWED.giving(name, "crm", read=["contacts"]))
            .with_bindings(a_binding())
        )
        for name, at in (("zoe", NOW - hours(1)), ("abe", NOW))
    )
    for simulation in (older, younger):
        while not use_of(simulation).held:
            simulation.reconcile_once()
        assert not is_asking(simulation)
    return older, younger


@pytest.mark.parametrize("turns", ["oyoyoyoy", "yoyoyoyo", "ooyyooyy", "yyooyyoo"])
def test_of_two_agents_that_announce_one_claim_at_the_same_time_one_alone_has_pods(turns: str) -> None:
    older, younger = two_that_announce()
    take_turns(older, younger, turns)
    assert is_asking(older) or is_asking(younger)
    loser = younger if is_asking(older) else older
    assert loser.condition(ConditionType.ORCHESTRATED).reason == AgentReason.CLAIM_SHARED


def test_an_older_agent_whose_announcement_comes_too_late_leaves_the_claim_to_the_younger_one() -> None:
    older, younger = two_that_announce()
    while not is_asking(younger):
        younger.reconcile_once()
    take_turns(older, younger, "ooyyooyy")
    assert is_asking(younger)
    assert use_of(older).held == frozenset()
    assert older.condition(ConditionType.ORCHESTRATED).reason == AgentReason.CLAIM_SHARED


def take_turns(older: Simulation, younger: Simulation, turns: str) -> None:
    for turn in turns:
        own, other = (older, younger) if turn == "o" else (younger, older)
        own.snapshot = replace(own.snapshot, claims_of_others=(use_of(other),))
        own.reconcile_once()
        assert not (is_asking(older) and is_asking(younger))


@pytest.mark.parametrize("stage", ["try", "live"])
def test_an_environment_where_agent_and_guard_share_a_pod_has_no_claims(stage: str) -> None:
    environment = {"try": "staging", "live": "production"}[stage]
    simulation = running()
    simulation.find_policy(
        ALLOWED.isolating(**{"staging": "Separate", "production": "Separate", environment: "Shared"})
    )
    settle(simulation)
    assert simulation.condition(ConditionType.ORCHESTRATED).reason == AgentReason.CLAIM_NOT_SEPARATE


def test_a_claim_of_a_revision_that_runs_is_not_that_of_another_environment() -> None:
    simulation = running()
    simulation.apply(STAGED.with_claims(files={"staging": "files", "production": "other"}))
    settle(simulation)
    assert simulation.condition(ConditionType.ORCHESTRATED).reason == AgentReason.CLAIM_SHARED
    assert deployments(simulation) == [("live", "agent", 1), ("live", "guard", 1)], "the good revision serves on"
