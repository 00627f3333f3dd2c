"""Loops: the policy's terms reach the guard, and the kill controller obeys guards only where the policy kills."""

from typing import Any

import pytest

from interlock_contract.bundle import BUNDLE_KEY, Bundle, parse_bundle
from interlock_contract.loops import BundleLoops
from tests.requirements import requirement
from tests.support.builders import PolicyBuilder, a_policy, a_snapshot, an_agent
from tests.support.simulation import SECOND, Simulation

LABEL = "interlock.dev/on-loop"


def limiting(**loops: Any) -> PolicyBuilder:
    return a_policy().breaking_loops(**loops)


def a_run(policy: PolicyBuilder) -> Simulation:
    simulation = Simulation(a_snapshot().of(an_agent()).with_policy(policy))
    simulation.run()
    return simulation


def text_of(simulation: Simulation) -> str:
    maps = [child.manifest for key, child in simulation.snapshot.children.items() if key.kind == "ConfigMap"]
    (text,) = [one["data"][BUNDLE_KEY] for one in maps if BUNDLE_KEY in one["data"]]
    return str(text)


def bundle_of(simulation: Simulation) -> Bundle:
    return parse_bundle(text_of(simulation))


def labels_of(simulation: Simulation) -> dict[str, str]:
    labels: dict[str, str] = simulation.child("Lease")["metadata"]["labels"]
    return labels


@requirement("loops.refused")
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({}, BundleLoops(20, 60, "Block")),
        ({"identicalCalls": 3, "window": "1h", "action": "Kill"}, BundleLoops(3, 3600, "Kill")),
        ({"window": "1m30s500ms"}, BundleLoops(20, 91, "Block")),
    ],
)
def test_the_guard_gets_the_terms_of_the_policy(written: dict[str, Any], expected: BundleLoops) -> None:
    assert bundle_of(a_run(limiting(**written))).loops == expected


@requirement("loops.refused")
def test_a_policy_without_loops_leaves_the_bundle_as_it_was() -> None:
    simulation = a_run(a_policy())
    assert bundle_of(simulation).loops is None
    assert '"loops"' not in text_of(simulation)
    assert labels_of(simulation)[LABEL] == "Allow"


@requirement("loops.kill")
def test_the_lease_says_whether_the_policy_kills_and_follows_it_without_new_pods() -> None:
    simulation = a_run(limiting(action="Block"))
    assert labels_of(simulation)[LABEL] == "Block"
    template = simulation.child("Deployment")["spec"]["template"]

    for action in ("Kill", "Block", "Kill"):
        simulation.snapshot = simulation.snapshot.with_policy(limiting(action=action))
        simulation.wait(SECOND)
        simulation.run()
        assert labels_of(simulation)[LABEL] == action
        terms = bundle_of(simulation).loops
        assert terms is not None
        assert terms.action == action
    assert simulation.child("Deployment")["spec"]["template"] == template
    simulation.snapshot = simulation.snapshot.with_policy(a_policy())
    simulation.run()
    assert labels_of(simulation)[LABEL] == "Allow"
    assert simulation.child("Deployment")["spec"]["template"] != template, "a looser policy is a new revision"
