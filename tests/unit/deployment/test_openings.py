"""What a pod says that it was started with, and when it has more than is open now."""

import base64
import hashlib
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from interlock.api.egress import MAX_EGRESS, MAX_PEERS, MAX_PORTS
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.names import AGENT_POD, GUARD_POD, Manifest, key_of, revision_label
from interlock.deployment.observed.pod_reports import AgentPods, PodGroup, PodReport, read_pod
from interlock.deployment.openings import MAX_OPENINGS, all_openings_of, is_withdrawn, openings_of
from interlock.deployment.placement import Placement
from interlock.deployment.plan import LiveChild, plan_children
from interlock.reconcile.withdrawn_pods import withdrawn_pods
from interlock_contract.names import OPENINGS
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, a_separate_placement

ROW: dict[str, Any] = {"to": [{"cidr": "10.20.0.0/24"}], "ports": [{"port": 5432}]}
PODS: dict[str, Any] = {"podSelector": {"matchLabels": {"app": "pg"}}}


def a_placement(*rows: dict[str, Any], policy: Any = None) -> Placement:
    return a_separate_placement(policy=(policy or a_policy()).opening(*rows))


def opened(*rows: dict[str, Any], component: str = AGENT_POD) -> str:
    return openings_of(a_placement(*rows), component)


@requirement("egress.withdrawn")
@pytest.mark.parametrize(
    ("before", "today"),
    [
        ([ROW], []),
        ([ROW, {"to": [PODS]}], [ROW]),
        ([ROW], [{"to": [{"cidr": "10.20.0.8/32"}]}]),
        ([ROW], [{"ports": [{"port": 5433}]}]),
        ([{"ports": [{"port": 1, "endPort": 9}]}], [{"ports": [{"port": 1, "endPort": 4}, {"port": 6, "endPort": 9}]}]),
        ([{"ports": [{"port": 53, "protocol": "UDP"}]}], [{"ports": [{"port": 53}]}]),
        ([{"dns": "Allowed"}], [ROW]),
        ([{"to": [PODS]}], [{"to": [{"podSelector": {"matchLabels": {"app": "pg", "tier": "gold"}}}]}]),
    ],
)
def test_a_pod_with_more_than_is_open_now_has_something_that_is_withdrawn(
    before: list[dict[str, Any]], today: list[dict[str, Any]]
) -> None:
    assert is_withdrawn(opened(*before), opened(*today))


@requirement("egress.withdrawn")
@pytest.mark.parametrize(
    ("before", "today"),
    [
        ([], [ROW]),
        ([ROW], [ROW, {"to": [PODS]}]),
        ([ROW], [{**ROW, "name": "renamed", "dns": "Allowed"}]),
        ([ROW], [{"to": [{"cidr": "10.0.0.0/8"}], "ports": [{"port": 5000, "endPort": 6000}]}]),
        ([{"ports": [{"port": 1, "endPort": 9}]}], [{"ports": [{"port": 5, "endPort": 9}, {"port": 1, "endPort": 4}]}]),
        ([{"to": [PODS]}], [{"to": [{"namespaceSelector": None, **PODS}]}]),
        ([{"ports": [{"port": 1}, {"port": 2}]}], [{"ports": [{"port": 2}]}, {"ports": [{"port": 1}]}]),
    ],
)
def test_a_wider_way_and_one_that_is_named_otherwise_end_no_pod(
    before: list[dict[str, Any]], today: list[dict[str, Any]]
) -> None:
    assert not is_withdrawn(opened(*before), opened(*today))


@requirement("egress.withdrawn")
@pytest.mark.parametrize("text", ["x", "[]", '{"ways": 1}', "[" * 5000, "sha256:00", 'zlib:"', "zlib:", "zlib:c-q"])
def test_what_cannot_be_read_counts_as_withdrawn(text: str) -> None:
    assert is_withdrawn(text, opened(ROW))


@requirement("egress.withdrawn")
def test_an_identity_that_is_removed_or_replaced_is_withdrawn() -> None:
    aws = openings_of(a_placement(policy=a_policy().identifying({})), GUARD_POD)
    other = {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/other"}}
    replaced = openings_of(a_placement(policy=a_policy().identifying(other)), GUARD_POD)
    with_row = openings_of(a_placement({"servers": ["crm"]}, policy=a_policy().identifying({})), GUARD_POD)

    assert is_withdrawn(aws, "")
    assert is_withdrawn(aws, replaced)
    assert not is_withdrawn(aws, with_row)
    assert not is_withdrawn("", aws)


@requirement("egress.withdrawn")
def test_a_network_of_servers_that_becomes_narrower_is_withdrawn_and_a_wider_one_is_not() -> None:
    none, public, private = (
        openings_of(a_separate_placement(bindings=(a_binding().with_server(network=network),)), GUARD_POD)
        for network in ("None", "Public", "Private")
    )

    assert none == ""
    assert [is_withdrawn(private, public), is_withdrawn(public, none), is_withdrawn(private, none)] == [True] * 3
    assert [is_withdrawn(public, private), is_withdrawn(none, private)] == [False] * 2


def full_rows(to: Callable[[], list[dict[str, Any]]], rows: int = MAX_EGRESS) -> list[dict[str, Any]]:
    """Return rows with as many ports as a row may have."""
    source = random.Random(2)  # noqa: S311 - the same ports in each run
    ports = iter(source.sample(range(1, 7000), rows * MAX_PORTS))
    return [{"to": to(), "ports": [{"port": next(ports)} for _ in range(MAX_PORTS)]} for _ in range(rows)]


def some_ranges() -> Callable[[], list[dict[str, Any]]]:
    """Return what returns the peers of a row, each time others that say nothing about those before."""
    source = random.Random(1)  # noqa: S311 - the same peers in each run

    def a_range() -> str:
        bits = (0xFD << 56) | source.getrandbits(56)
        return str(ip_network((bits << 64, 64)))

    return lambda: [{"cidr": a_range()} for _ in range(MAX_PEERS)]


@requirement("egress.withdrawn")
def test_of_the_most_ranges_that_a_policy_can_open_only_a_withdrawal_ends_pods() -> None:
    *rows, last = full_rows(some_ranges())
    text = opened(*rows)
    wider = {"to": [{"cidr": "fd00::/8"}], "ports": [{"port": 1, "endPort": 7000}]}
    fewer_peers = [{**rows[0], "to": rows[0]["to"][1:]}, *rows[1:]]
    fewer_ports = [*rows[:-1], {**rows[-1], "ports": rows[-1]["ports"][1:]}]

    assert text.startswith("zlib:")
    assert len(opened(*rows, last)) <= MAX_OPENINGS
    assert [is_withdrawn(text, opened(*today)) for today in ([*rows, last], rows, [wider])] == [False] * 3
    assert [is_withdrawn(text, opened(*today)) for today in (fewer_peers, fewer_ports, [ROW], [])] == [True] * 4
    assert not is_withdrawn(opened(rows[0]), text)


def some_pods() -> Callable[[], list[dict[str, Any]]]:
    source = random.Random(1)  # noqa: S311 - the same peers in each run

    def a_label() -> str:
        return f"{source.getrandbits(200):x}"

    return lambda: [{"podSelector": {"matchLabels": {a_label(): a_label()}}} for _ in range(MAX_PEERS)]


def test_ways_that_are_too_long_even_so_are_a_digest_of_which_each_change_counts() -> None:
    *rows, last = full_rows(some_pods())
    text = opened(*rows)

    assert text.startswith("sha256:")
    assert not is_withdrawn(text, text)
    assert is_withdrawn(text, opened(*rows, last))


@requirement("egress.withdrawn")
def test_what_an_earlier_version_said_of_a_long_text_ends_a_pod_only_once_it_changes() -> None:
    today = a_placement(*full_rows(some_ranges(), 8))
    long_text = all_openings_of(today, AGENT_POD)
    said = f"sha256:{hashlib.sha256(long_text.encode()).hexdigest()}"

    assert openings_of(today, AGENT_POD).startswith("zlib:")
    assert not is_withdrawn(said, long_text)
    assert not is_withdrawn(said, openings_of(today, AGENT_POD))
    assert is_withdrawn(said, opened(ROW))


@requirement("egress.withdrawn")
def test_a_text_that_others_have_compressed_costs_no_memory() -> None:
    bomb = base64.b85encode(zlib.compress(opened(ROW).encode() + b" " * 20_000_000)).decode()
    tracemalloc.start()
    assert is_withdrawn(f"zlib:{bomb}", opened(ROW))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 15_000_000


@requirement("egress.withdrawn")
def test_a_policy_that_says_the_same_and_more_in_too_many_words_for_a_pod_ends_none() -> None:
    row = {"to": [{"cidr": "10.0.0.0/8"}], "ports": [{"port": 1, "endPort": 9}]}
    ports = [{"port": 2 * number + 11} for number in range(16)]
    many = [{"to": [{"cidr": f"10.{one}.{two}.0/24"} for two in range(16)], "ports": ports} for one in range(31)]
    before, today = a_placement(row), a_placement(row, *many)
    pod = a_pod(today, AGENT_POD, openings_of(before, AGENT_POD))

    assert openings_of(today, AGENT_POD).startswith("zlib:")
    assert withdrawn_pods(today, AgentPods((pod, replace(pod, openings=openings_of(today, AGENT_POD))))) == ()
    assert len(withdrawn_pods(a_placement(*many), AgentPods((pod,)))) == 1


@requirement("egress.withdrawn")
def test_what_another_version_says_ends_a_pod_only_if_it_opens_more() -> None:
    today = opened(ROW)
    said = json.loads(today)
    earlier = json.dumps({name: said[name] for name in ("ways", "dns")})
    later = {**said, "proxies": []}

    assert not is_withdrawn(earlier, today)
    assert not is_withdrawn(json.dumps(later), today)
    assert is_withdrawn(json.dumps({**later, "proxies": ["10.0.0.1"]}), today), "it cannot be judged"
    assert is_withdrawn(earlier, opened())


def test_each_pod_says_what_its_own_component_may_use() -> None:
    placement = a_placement({**ROW, "servers": ["crm"]}, {"to": [PODS]})

    guard, agent = (_annotations(one).get(OPENINGS, "") for one in build_workloads(placement))

    assert guard == opened(ROW)
    assert agent == opened({"to": [PODS]})
    assert OPENINGS not in _annotations(build_workloads(a_placement())[1])


def _annotations(workload: Manifest) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["annotations"]
    return found


def a_pod(placement: Placement, component: str, openings: str, **more: Any) -> PodReport:
    group = PodGroup(placement.stage.name, revision_label(placement.revision), "Separate", component)
    return PodReport(f"uid-of-{component}", group, name=component, openings=openings, **more)


@requirement("egress.withdrawn")
def test_the_pods_that_were_started_with_more_end_with_their_replica_set_and_no_others() -> None:
    placement = a_placement(ROW)
    more = opened(ROW, {"to": [PODS]})
    old = a_pod(placement, AGENT_POD, more, template_hash="5d8")
    new = replace(a_pod(placement, AGENT_POD, opened(ROW)), uid="new")
    shared = replace(old, group=replace(old.group, isolation="Shared"))
    elsewhere = replace(old, group=replace(old.group, revision="other"))

    [found] = withdrawn_pods(placement, AgentPods((old, new, a_pod(placement, GUARD_POD, ""), shared, elsewhere)))

    assert (found.name, found.uid) == (AGENT_POD, f"uid-of-{AGENT_POD}")
    assert dict(found.replica_set)["pod-template-hash"] == "5d8"
    assert dict(found.replica_set)["app.kubernetes.io/component"] == AGENT_POD


def test_what_many_pods_say_alike_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = a_placement(ROW)
    pods = [replace(a_pod(placement, AGENT_POD, opened({"to": [PODS]})), name=str(number)) for number in range(100)]
    compared: list[str] = []

    def count(before: str, today: str) -> bool:
        compared.append(before)
        return is_withdrawn(before, today)

    monkeypatch.setattr("interlock.reconcile.withdrawn_pods.is_withdrawn", count)

    assert len(withdrawn_pods(placement, AgentPods(tuple(pods)))) == len(pods)
    assert len(compared) == 1


def test_a_report_has_what_its_pod_says() -> None:
    labels = {"pod-template-hash": "5d8"}
    pod = {"metadata": {"name": "a", "uid": "u", "labels": labels, "annotations": {OPENINGS: opened(ROW)}}}

    found = read_pod(pod)

    assert (found.openings, found.template_hash) == (opened(ROW), "5d8")


@requirement("egress.withdrawn")
@pytest.mark.parametrize(("today", "replicas"), [([], 0), ([ROW, {"to": [PODS]}], None)])
def test_while_no_pod_may_start_those_with_a_withdrawn_way_end_all_the_same(
    today: list[dict[str, Any]], replicas: int | None
) -> None:
    _, live = build_workloads(replace(a_placement(ROW), replicas=1))
    _, desired = build_workloads(replace(a_placement(*today), replicas=1))

    plan = plan_children((desired,), {key_of(live): LiveChild(live)}, {}, starts_pods=False)

    assert [one["spec"]["replicas"] for one in plan.workloads] == ([] if replicas is None else [replicas])
