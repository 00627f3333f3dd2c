"""The Secret of a placement: who gets the agent's key, where it stands, and what gives another one."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from interlock.deployment.children.config import build_agent_secret, build_bundle
from interlock.deployment.placement import Placement
from interlock.deployment.plan import desired_children
from interlock.reconcile.agent import reconcile
from interlock_contract.agent_key import agent_key_digest, derive_agent_key, is_agent_key
from interlock_contract.bundle import BUNDLE_KEY
from tests.requirements import requirement
from tests.support.builders import (
    NOW,
    a_binding,
    a_placement,
    a_policy,
    a_separate_placement,
    a_snapshot,
    a_stage,
    an_agent,
    seconds,
)
from tests.support.keys import OPERATOR_KEY
from tests.support.simulation import Simulation

MODELS = {"agent": an_agent().calling("openai/gpt-4o-mini"), "policy": a_policy().allowing_models("openai/*")}


def text_of(manifest: Any) -> str:
    """Return a manifest as text, with the contents of Secrets decoded."""
    data = manifest.get("data", {}) if manifest["kind"] == "Secret" else {}
    return json.dumps(manifest) + "".join(base64.b64decode(value).decode() for value in data.values())


def containers_with(placement: Placement, volume: str) -> set[str]:
    found = set()
    for child in desired_children(placement):
        if child["kind"] == "Deployment":
            pod = child["spec"]["template"]["spec"]
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                if volume in [mount["name"] for mount in container.get("volumeMounts", ())]:
                    found.add(container["name"])
    return found


@requirement("agent-key.secret")
@pytest.mark.parametrize("build", [a_placement, a_separate_placement])
def test_the_key_is_in_the_secret_alone_and_only_the_agent_gets_that(build: Any) -> None:
    placement = build(MODELS["agent"], policy=MODELS["policy"])
    [secret] = [child for child in desired_children(placement) if child["kind"] == "Secret"]
    name = secret["metadata"]["name"]

    holding = [child["kind"] for child in desired_children(placement) if placement.agent_key in text_of(child)]
    assert holding == ["Secret"]
    assert containers_with(placement, "config") == {"agent"}
    for child in desired_children(placement):
        if child["kind"] == "Deployment":
            pod = child["spec"]["template"]["spec"]
            assert [one["name"] for one in pod["volumes"] if name in json.dumps(one)] in ([], ["config"])
            others = [*pod.get("initContainers", ()), *pod["containers"]]
            assert [one["name"] for one in others if name in json.dumps(one)] in ([], ["agent"])


@requirement("agent-key.secret")
def test_a_secret_cannot_be_changed_and_other_content_has_another_name() -> None:
    def name(placement: Placement) -> str:
        return str(build_agent_secret(placement)["metadata"]["name"])

    assert build_agent_secret(a_placement())["immutable"] is True
    same = name(a_placement())
    assert name(a_placement(an_agent().with_replicas(3))) == same
    assert name(replace(a_placement(), agent_key="interlock-another")) != same
    assert name(a_separate_placement()) != same, "the URLs differ"
    assert name(a_placement(bindings=(a_binding().serving("crm2", "development"),))) != same


@requirement("agent-key.secret")
def test_each_agent_stage_and_revision_has_a_key_of_its_own() -> None:
    staged = an_agent().with_stages(a_stage("staging"), a_stage("everywhere", "production"))
    placements = [
        a_placement(),
        a_placement(an_agent("other")),
        a_placement(an_agent().with_template(image="example/agent:2")),
        a_placement(staged),
        a_placement(staged, stage=1),
    ]
    assert len({placement.agent_key for placement in placements}) == len(placements)
    assert {placement.agent_key for placement in placements} == {
        placement.agent_key for placement in [replace(one, replicas=2) for one in placements]
    }


@requirement("agent-key.proven")
def test_the_guard_knows_the_digest_of_the_key_and_not_the_key() -> None:
    placement = a_placement()
    text = build_bundle(placement)["data"][BUNDLE_KEY]

    assert json.loads(text)["agentKeyDigest"] == agent_key_digest(placement.agent_key)
    assert placement.agent_key not in text
    assert is_agent_key(placement.agent_key, agent_key_digest(placement.agent_key))
    for shown in ("", placement.agent_key[:-1], placement.agent_key + "0", placement.agent_key.upper(), "\udcff"):
        assert not is_agent_key(shown, agent_key_digest(placement.agent_key)), shown
    assert not is_agent_key("", None)
    assert not is_agent_key(placement.agent_key, None)


@requirement("agent-key.secret")
def test_neither_key_is_in_what_python_prints_of_a_snapshot_or_a_placement() -> None:
    placement, snapshot = a_placement(), a_snapshot().build()
    assert snapshot.operator_key == OPERATOR_KEY
    assert placement.agent_key not in repr(placement)
    assert repr(OPERATOR_KEY) not in repr(snapshot)


@requirement("agent-key.operator")
@pytest.mark.parametrize("key", [b"", b"x" * 31])
def test_without_a_key_of_the_operator_no_agent_gets_one(key: bytes) -> None:
    with pytest.raises(ValueError, match="of at least 32"):
        derive_agent_key(key, "placement")
    with pytest.raises(ValueError, match="of at least 32"):
        reconcile(replace(a_snapshot().build(), operator_key=key), NOW)


def secrets_in(simulation: Simulation) -> list[str]:
    return [manifest["metadata"]["name"] for manifest in simulation.peek().plan.prepare if manifest["kind"] == "Secret"]


@requirement("agent-key.secret")
def test_a_secret_that_others_deleted_comes_back_within_half_a_minute_of_pods_that_do_not_start() -> None:
    simulation = Simulation()
    simulation.run()
    simulation.wait(seconds(3600))
    assert secrets_in(simulation) == [], "nothing is written while the agent is Ready"

    simulation.fail()
    assert len(secrets_in(simulation)) == 1
    outcome = simulation.reconcile_once()
    assert outcome.requeue_at == simulation.now + seconds(30)
    simulation.wait(seconds(29))
    assert secrets_in(simulation) == []
    simulation.wait(seconds(1))
    assert len(secrets_in(simulation)) == 1


@requirement("agent-key.secret")
def test_an_agent_without_pods_needs_no_secret_again() -> None:
    simulation = Simulation(a_snapshot().of(an_agent().with_replicas(0)))
    simulation.settle()
    simulation.wait(seconds(3600))
    assert simulation.peek().plan.is_empty
