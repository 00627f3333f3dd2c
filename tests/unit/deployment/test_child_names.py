import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.deployment.names import (
    WORKLOAD_LENGTH,
    Manifest,
    binding_label,
    mcp_container,
    mcp_volume,
    notifier_name,
    placement_name,
    policy_label,
    stage_service,
    verification_name,
)
from interlock.deployment.plan import desired_children
from tests.requirements import requirement
from tests.support.builders import a_binding, a_placement, a_policy, a_stage, an_agent

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
LONGEST_AGENT = "a" * 52
LONGEST = "s" * 63
SOURCES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


def children_of_the_longest_names() -> tuple[Manifest, ...]:
    sources = ["s" * 62 + "a", "s" * 62 + "b", "t" * 58 + "a", "t" * 58 + "b"]
    agent = an_agent(LONGEST_AGENT).using(*sources).with_stages(a_stage(LONGEST, "production"))
    policy = a_policy()
    for source in sources:
        policy = policy.giving(LONGEST_AGENT, source, read=["contacts"])
    bindings = tuple(a_binding(f"b{index}").serving(source, "production") for index, source in enumerate(sources))
    return desired_children(a_placement(agent, policy=policy, bindings=bindings))


def pod_of(children: tuple[Manifest, ...]) -> dict[str, list[dict[str, object]]]:
    return next(child for child in children if child["kind"] == "Deployment")["spec"]["template"]["spec"]


def labels_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, below in value.items():
            if name in ("labels", "matchLabels", "selector") and isinstance(below, dict):
                yield from (text for text in below.values() if isinstance(text, str))
            yield from labels_in(below)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from labels_in(below)


@requirement("deployment.names-fit")
def test_every_child_of_the_longest_names_has_a_name_that_the_api_server_takes() -> None:
    for child in children_of_the_longest_names():
        name = child["metadata"]["name"]
        assert SUBDOMAIN.fullmatch(name), (child["kind"], name)
        # A Service's name is a DNS label, and a Deployment's name becomes a label's value on its pods.
        if child["kind"] in ("Service", "Deployment"):
            assert LABEL.fullmatch(name), (child["kind"], name)


def test_every_label_of_the_longest_names_fits() -> None:
    values = list(labels_in(children_of_the_longest_names()))

    assert LONGEST in values
    assert [value for value in values if not LABEL_VALUE.fullmatch(value)] == []


def test_containers_and_volumes_of_the_longest_sources_are_labels_and_differ() -> None:
    pod = pod_of(children_of_the_longest_names())
    containers = [str(one["name"]) for one in (*pod["initContainers"], *pod["containers"])]
    volumes = [str(volume["name"]) for volume in pod["volumes"]]

    for names in (containers, volumes):
        assert [name for name in names if not LABEL.fullmatch(name)] == []
        assert len(set(names)) == len(names)


def test_a_verification_has_a_valid_name_wherever_the_bindings_name_has_a_dot() -> None:
    for length in range(3, 64):
        for dot in range(1, length - 1):
            binding = "b" * dot + "." + "c" * (length - dot - 1)
            name = verification_name(binding)
            assert SUBDOMAIN.fullmatch(name), (binding, name)
            assert len(name) <= WORKLOAD_LENGTH


def test_every_mount_has_its_volume() -> None:
    pod = pod_of(children_of_the_longest_names())
    volumes = {volume["name"] for volume in pod["volumes"]}

    for container in (*pod["initContainers"], *pod["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes  # type: ignore[attr-defined]


@settings(max_examples=50, deadline=None)
@given(SOURCES, SOURCES)
def test_sidecars_and_their_volumes_are_labels_and_are_told_apart_whatever_the_sources(one: str, two: str) -> None:
    for name_of_source in (mcp_container, mcp_volume):
        assert LABEL.fullmatch(name_of_source(one))
        assert (name_of_source(one) == name_of_source(two)) == (one == two)


def test_a_short_source_is_readable_in_the_name_of_its_sidecar() -> None:
    assert mcp_container("crm") == "mcp-crm"
    assert mcp_volume("crm") == "tmp-mcp-crm"


def test_stage_revision_and_collisions_tell_the_placements_of_an_agent_apart() -> None:
    agent = an_agent().build().metadata
    names = {
        placement_name(agent, stage, revision, collisions)
        for stage in ("staging", "one-region")
        for revision in ("r1", "r2")
        for collisions in (0, 1)
    }

    assert len(names) == 8
    assert placement_name(agent, "staging", "r1", 0) in names
    assert all(re.fullmatch(r"triage-[0-9a-f]{10}", name) for name in names)


def test_children_that_all_placements_share_are_named_after_the_agent_alone() -> None:
    agent = an_agent().with_stages(a_stage("staging"), a_stage("everywhere", "production"))
    first, second = (
        {(child["kind"], child["metadata"]["name"]) for child in desired_children(a_placement(agent, stage=stage))}
        for stage in (0, 1)
    )

    assert first & second == {("Service", "guard-triage")}


def test_a_service_begins_with_a_letter_even_if_the_agent_begins_with_a_digit() -> None:
    agent = an_agent().named("4711")
    services = [child for child in desired_children(a_placement(agent)) if child["kind"] == "Service"]

    assert len(services) == 2
    for service in services:
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service["metadata"]["name"])  # RFC 1035


@requirement("deployment.names-apart")
@pytest.mark.parametrize(
    ("form", "prefix", "suffix"),
    [
        (mcp_container, "mcp-", ""),
        (mcp_volume, "tmp-mcp-", ""),
        (binding_label, "", ""),
        (policy_label, "", ""),
        (verification_name, "", "-verify"),
        (notifier_name, "", "-notify"),
    ],
)
def test_no_owner_has_the_cut_name_of_another_one(form: Callable[[str], str], prefix: str, suffix: str) -> None:
    """The attack: an author computes the digest of a long name, and gives that cut name to an object of their own."""
    for length in range(20, 80):
        cut = form("a" * length)
        assert form(cut.removeprefix(prefix).removesuffix(suffix)) != cut or cut == f"{prefix}{'a' * length}{suffix}"


@requirement("deployment.names-apart")
@pytest.mark.parametrize(
    ("agent", "stage", "attacker"),
    [("a", "s" * 63, "a"), ("a" * 23, "s" * 63, "a" * 23), ("a" * 23 + "-b", "s" * 40, "a" * 23), ("a--b", "s", "a")],
)
def test_no_stage_has_the_cut_service_of_another_one(agent: str, stage: str, attacker: str) -> None:
    cut = stage_service(an_agent(agent).build(), stage)
    assert len(cut) == 63
    own = f"guard-{attacker}--"
    assert cut.startswith(own)
    assert stage_service(an_agent(attacker).build(), cut.removeprefix(own)) != cut
