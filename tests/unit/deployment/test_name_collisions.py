"""Names of objects: agents of one namespace never share one, and placements with equal short digests do not either."""

import hashlib
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.deployment.name_collisions import without_collisions
from interlock.deployment.names import ChildKey, key_of, name_of
from interlock.deployment.placement import Placement
from interlock.deployment.plan import LiveChild, desired_children
from interlock_contract.names import PLACEMENT_DIGEST
from tests.requirements import requirement
from tests.support.builders import a_placement, a_separate_placement, a_snapshot, an_agent
from tests.support.simulation import Simulation

# Found by trying two million: the placements of the agent triage in development with these revisions have equal names.
ONE, OTHER = (hashlib.sha256(text).hexdigest() for text in (b"455327", b"1891204"))

AGENTS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", fullmatch=True)


def live_objects(placement: Placement) -> dict[ChildKey, LiveChild]:
    return {key_of(manifest): LiveChild(manifest) for manifest in desired_children(placement)}


def keys_of(placement: Placement) -> set[ChildKey]:
    return {key_of(manifest) for manifest in desired_children(placement)}


def own_keys_of(placement: Placement) -> set[ChildKey]:
    """Return the keys of what belongs to one placement, not to the agent as a whole."""
    return {key_of(one) for one in desired_children(placement) if "annotations" in one["metadata"]}


@requirement("deployment.names-apart")
@pytest.mark.parametrize("build", [a_placement, a_separate_placement])
def test_two_placements_with_equal_short_digests_share_no_object(build: type[Placement]) -> None:
    one, other = (
        replace(build(an_agent().taking_tasks()), revision=revision, agent_key=f"interlock-{revision}")
        for revision in (ONE, OTHER)
    )
    assert name_of(one) == name_of(other), "the crafted collision is none any more: look for another one"

    apart = without_collisions(other, live_objects(one))

    assert apart.collisions == 1
    assert own_keys_of(apart) & own_keys_of(one) == set()
    assert without_collisions(other, live_objects(apart)) == other


@requirement("deployment.names-apart")
def test_the_deployment_of_an_agent_whose_guard_has_no_address_yet_counts() -> None:
    one, other = (replace(a_separate_placement(), revision=revision) for revision in (ONE, OTHER))
    only_agent = {key: child for key, child in live_objects(one).items() if key.name.endswith("-agent")}
    assert without_collisions(replace(other, guard_addresses=()), only_agent).collisions == 1


@requirement("deployment.names-apart")
def test_an_object_that_lost_its_annotation_is_another_placements() -> None:
    placement = a_placement()
    live = live_objects(placement)
    assert without_collisions(placement, live).collisions == 0
    [bundle] = [child.manifest for key, child in live.items() if key == ChildKey("ConfigMap", name_of(placement))]
    del bundle["metadata"]["annotations"]
    assert without_collisions(placement, live).collisions == 1


@requirement("deployment.names-apart")
def test_the_collision_is_recorded_and_the_names_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = {"example/agent:1": ONE, "example/agent:2": OTHER}
    monkeypatch.setattr(
        "interlock.reconcile.revisions.described_digest",
        lambda _known, agent, *_, **_kw: revisions[agent.spec.template.image],
    )
    simulation = Simulation(a_snapshot())
    simulation.run()
    before = simulation.child("Deployment")["metadata"]

    simulation.apply(an_agent().with_template(image="example/agent:2"))
    first = simulation.reconcile_once()
    assert {manifest["metadata"]["name"] for manifest in first.plan.workloads}.isdisjoint({before["name"]})
    simulation.run()

    after = simulation.child("Deployment")["metadata"]
    assert simulation.status.stage is not None
    assert (simulation.status.stage.revision, simulation.status.stage.collision_count) == (OTHER, 1)
    assert (after["name"] != before["name"], after["annotations"] != before["annotations"]) == (True, True)
    assert simulation.settle().plan.is_empty


@requirement("deployment.names-apart")
def test_each_object_of_a_placement_has_the_whole_digest_of_its_placement() -> None:
    digests = [
        child.manifest["metadata"].get("annotations", {}) for child in live_objects(a_separate_placement()).values()
    ]
    own = {found[PLACEMENT_DIGEST] for found in digests if found}
    assert len(own) == 1
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in own)
    one, *others = (
        placement
        for placement in (
            a_placement(),
            a_placement(an_agent().with_template(image="example/agent:2")),
            a_placement(an_agent().in_environment("staging")),
            a_placement(an_agent("another")),
        )
    )
    assert own == {digest_of(one)}
    assert len({digest_of(one), *map(digest_of, others)}) == 4


def digest_of(placement: Placement) -> str:
    [digest] = {
        child["metadata"]["annotations"][PLACEMENT_DIGEST]
        for child in desired_children(placement)
        if "annotations" in child["metadata"]
    }
    return str(digest)


@st.composite
def two_agents(draw: st.DrawFn) -> tuple[str, str]:
    """Two names of agents: any two, or one that is a part of a name that the other one's objects have."""
    one = draw(AGENTS)
    names = sorted(key.name for key in keys_of(a_separate_placement(an_agent(one).taking_tasks())))
    name = draw(st.sampled_from(names))
    start, end = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    parts = [
        name,
        *(f"{prefix}{name}" for prefix in ("a-", "guard-", "mcp-", "agent-")),
        name[start:],
        name[: -end or None],
    ]
    other = draw(st.one_of(AGENTS, st.sampled_from(parts)))
    return one, other


@requirement("deployment.names-apart")
@settings(max_examples=150, deadline=None)
@given(two_agents())
def test_two_agents_of_a_namespace_share_no_object(names: tuple[str, str]) -> None:
    one, other = names
    if one == other or not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", other):
        return
    builds = (a_placement, a_separate_placement)
    first, second = (
        set().union(*(keys_of(build(an_agent(name).taking_tasks())) for build in builds)) for name in (one, other)
    )
    assert first & second == set()


@requirement("deployment.names-apart")
@pytest.mark.parametrize(
    ("one", "other"), [("1x", "a-1x"), ("guard", "{hash}-guard"), ("x", "guard-x"), ("x", "x-guard")]
)
def test_agents_whose_services_once_shared_a_name_share_none(one: str, other: str) -> None:
    first = a_separate_placement(an_agent(one).taking_tasks())
    second = an_agent(other.format(hash=name_of(first).rpartition("-")[2])).taking_tasks()
    assert keys_of(first) & keys_of(a_separate_placement(second)) == set()
