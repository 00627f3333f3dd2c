"""Identities at a cloud: what they add to the guards' account and pods, for whom, and how they go."""

from dataclasses import replace
from typing import Any

import pytest

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.deployment.children.identity import build_service_accounts
from interlock.deployment.children.network import build_network_policies
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.cloud_identity import account_annotations, identity_of, metadata_rules
from interlock.deployment.content import content_of
from interlock.deployment.effective import effective, needs_revision
from interlock.deployment.ownership import replacement
from interlock.deployment.placement import Placement
from interlock.deployment.plan import drifted_member, has_drifted
from interlock.reconcile.layers import check_layers
from tests.requirements import requirement
from tests.support.builders import (
    AgentBuilder,
    a_binding,
    a_policy,
    a_separate_placement,
    a_snapshot,
    a_stage,
    an_agent,
)

AWS = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/orders", "eks.amazonaws.com/audience": "sts.amazonaws.com"}
GOOGLE = {"iam.gke.io/gcp-service-account": "orders@example.iam.gserviceaccount.com"}
AZURE = {"azure.workload.identity/client-id": "0000", "azure.workload.identity/tenant-id": "1111"}
CLOUDS = ("eks.amazonaws.com", "iam.gke.io", "azure.workload.identity")


def a_placement(*rows: dict[str, Any], allow: tuple[str, ...] = ("CloudIdentity",), **parts: Any) -> Placement:
    placement = a_separate_placement(policy=a_policy().identifying(*rows, allow=allow), **parts)
    return replace(placement, metadata_server="GKE")


def of_clouds(values: dict[str, str]) -> dict[str, str]:
    """Return what among labels or annotations is read by clouds."""
    return {key: value for key, value in values.items() if key.startswith(CLOUDS)}


def metadata(placement: Placement) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Return what clouds read of the pods of guard and agent: labels and annotations."""
    pods = [one["spec"]["template"]["metadata"] for one in build_workloads(placement)]
    return [(of_clouds(pod["labels"]), of_clouds(pod["annotations"])) for pod in pods]


def accounts(placement: Placement) -> list[dict[str, str]]:
    return [of_clouds(one["metadata"]["annotations"]) for one in build_service_accounts(placement)]


@requirement("identity.cloud")
@pytest.mark.parametrize(
    ("annotations", "labels", "skips"),
    [
        (AWS, {}, {"eks.amazonaws.com/skip-containers": "guard,launcher"}),
        (
            AZURE,
            {"azure.workload.identity/use": "true"},
            {"azure.workload.identity/skip-containers": "guard;launcher"},
        ),
        (GOOGLE, {}, {}),
    ],
)
def test_the_guards_account_and_pod_get_what_the_cloud_reads_and_the_agents_nothing(
    annotations: dict[str, str], labels: dict[str, str], skips: dict[str, str]
) -> None:
    placement = a_placement({"annotations": annotations})

    assert accounts(placement) == [annotations, {}]
    assert metadata(placement) == [(labels, skips), ({}, {})]


@requirement("identity.cloud")
@pytest.mark.parametrize(
    "placement",
    [
        a_placement({}, allow=()),
        a_placement({}, allow=("Priority",)),
        a_placement({"agents": ["another"]}),
        a_placement({"environments": ["production"]}),
        a_placement({}, bindings=(a_binding().over_http(),)),
        replace(a_placement(), policy=a_policy().identifying({}).build()),
    ],
    ids=["no feature", "another feature", "another agent", "another environment", "no stdio server", "a shared pod"],
)
def test_without_the_feature_or_the_row_there_is_no_identity(placement: Placement) -> None:
    assert identity_of(placement) is None
    assert not any(accounts(placement))
    assert all(one == ({}, {}) for one in metadata(placement))


@requirement("identity.metadata-server")
def test_the_metadata_server_is_open_to_the_guards_pod_alone_and_only_where_it_gives_the_identity() -> None:
    def opened(placement: Placement) -> list[list[Any]]:
        return [
            [rule for rule in one["spec"]["egress"] if "169.254.169.254/32" in str(rule["to"][0].get("ipBlock"))]
            for one in build_network_policies(placement)
        ]

    agent, guard = opened(a_placement({"annotations": GOOGLE}))
    assert agent == []
    assert guard == [{"to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}], "ports": [{"port": 80, "protocol": "TCP"}]}]
    for annotations in (AWS, AZURE):
        assert opened(a_placement({"annotations": annotations})) == [[], []]


def test_the_first_row_that_applies_counts() -> None:
    rows = ({"environments": ["production"], "annotations": AZURE}, {"annotations": AWS}, {"annotations": GOOGLE})

    assert account_annotations(a_placement(*rows)) == AWS


def test_the_guards_pods_start_again_with_another_identity() -> None:
    def digest(placement: Placement) -> str:
        annotations = build_workloads(placement)[0]["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["interlock.dev/config-digest"])

    assert len({digest(a_placement(*rows)) for rows in ((), ({},), ({"annotations": AZURE},))}) == 3


@requirement("identity.metadata-server")
def test_without_a_metadata_server_of_the_installation_nothing_of_google_is_given_or_opened() -> None:
    with_setting = a_placement({"annotations": GOOGLE})
    without = replace(with_setting, metadata_server="None")

    assert metadata_rules(with_setting) != []
    assert metadata_rules(without) == []
    assert account_annotations(without) == {}
    aws = replace(a_placement({"annotations": AWS}), metadata_server="None")
    assert account_annotations(aws) == AWS, "it needs no such server"


@requirement("identity.metadata-server")
@pytest.mark.parametrize(
    ("row", "setting", "isolation", "is_refused"),
    [
        ({"annotations": GOOGLE}, "None", "Separate", True),
        ({"annotations": GOOGLE}, "GKE", "Separate", False),
        ({"annotations": GOOGLE}, "None", "Shared", False),
        ({"annotations": GOOGLE, "agents": ["another"]}, "None", "Separate", False),
        ({"annotations": AWS}, "None", "Separate", False),
    ],
)
def test_an_agent_with_an_identity_of_google_is_refused_where_no_metadata_server_is_allowed(
    row: dict[str, Any], setting: Any, isolation: str, *, is_refused: bool
) -> None:
    agent = an_agent().with_stages(a_stage("one", "staging"))
    policy = a_policy().identifying(row).isolating(staging=isolation)
    snapshot = replace(a_snapshot().of(agent).with_policy(policy).build(), metadata_server=setting)

    refusal = check_layers(snapshot, None).refusal

    assert (refusal is not None and refusal.reason == "MetadataServerClosed") is is_refused
    if refusal is not None:
        assert "set INTERLOCK_METADATA_SERVER=GKE" in refusal.message


@requirement("identity.cloud")
def test_an_identity_that_no_policy_names_is_taken_off_the_account() -> None:
    without, live = build_service_accounts(a_placement())[0], build_service_accounts(a_placement({}))[0]
    live["metadata"] |= {"resourceVersion": "1", "uid": "u"}
    live["metadata"]["annotations"]["example.com/theirs"] = "x"

    assert drifted_member(without, live) == "metadata.annotations.eks.amazonaws.com/role-arn"
    [repaired] = [one["value"] for one in replacement(without, live) if one["path"] == "/metadata/annotations"]
    assert of_clouds(repaired) == {}
    assert repaired["example.com/theirs"] == "x"
    live["metadata"]["annotations"] = repaired
    assert not has_drifted(without, live)


AGENT = an_agent().with_stages(a_stage("one", "staging"), a_stage("two", "production"))
Today = tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]]


def objects(*rows: dict[str, Any], agent: AgentBuilder = AGENT) -> Today:
    return agent.build(), a_policy().identifying(*rows).build(), (a_binding().build(),)


def holds(reviewed: Today, today: Today) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    found = effective(content_of(*reviewed), *today)
    rows = [row for row in found.policy.spec.cloud_identity if row.applies_to(found.agent.metadata)]
    return [(row.environments, row.annotations) for row in rows]


@requirement("revision.narrower")
def test_an_identity_that_is_removed_is_gone_at_once_and_one_that_is_added_waits() -> None:
    aws = {"annotations": AWS}

    assert holds(objects(aws), objects()) == []
    assert not needs_revision(content_of(*objects(aws)), *objects())
    assert holds(objects(), objects(aws)) == []
    assert needs_revision(content_of(*objects()), *objects(aws))
    narrowed = holds(objects(aws), objects({**aws, "environments": ["staging"]}))
    assert narrowed == [(("staging",), AWS)]


@requirement("revision.narrower")
def test_no_revision_has_an_identity_that_no_row_names_any_more() -> None:
    aws, azure = {"annotations": AWS}, {"annotations": AZURE}

    assert holds(objects(aws), objects(azure)) == []
    assert holds(objects(aws), objects(azure, {**aws, "environments": ["staging"]})) == [(("staging",), AWS)]
    for replaced in (objects(azure), objects(azure, aws)):
        assert needs_revision(content_of(*objects(aws)), *replaced)
    assert holds(objects(azure, aws), objects(azure, aws)) == [((), AZURE), ((), AWS)]


@requirement("revision.narrower")
@pytest.mark.parametrize(
    "today",
    [
        objects({"annotations": AWS}, {"agents": ["another"], "annotations": AZURE}),
        objects({"name": "renamed", "annotations": AWS, "agents": ["another", "triage"]}),
        objects({"annotations": AWS, "environments": ["staging", "production"]}),
        objects({"annotations": AWS}, {"annotations": AZURE}),
    ],
)
def test_what_gives_the_agent_no_other_identity_starts_no_revision(today: Today) -> None:
    assert not needs_revision(content_of(*objects({"annotations": AWS})), *today)


@requirement("revision.narrower")
def test_a_label_that_is_taken_away_takes_the_identity_at_once() -> None:
    row = {"agents": None, "agentSelector": {"matchLabels": {"tier": "gold"}}, "annotations": AWS}
    gold, plain = objects(row, agent=AGENT.labelled(tier="gold")), objects(row)

    assert len(holds(gold, gold)) == 1
    assert holds(gold, plain) == []
    assert needs_revision(content_of(*plain), *gold)
