"""The work that the largest policies cost: it grows with peers and rows, and not with their squares.

What is counted are calls of functions, so the speed of the machine decides nothing.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.egress import MAX_EGRESS, MAX_PEERS
from interlock.api.policy import AgentPolicy
from interlock.deployment.children.network import build_agent_policy
from interlock.deployment.content import content_of
from interlock.deployment.effective import effective
from interlock.deployment.egress_exceptions import words_for_check
from interlock.deployment.names import AGENT_POD
from interlock.deployment.node_ranges import NodeRanges
from interlock.deployment.openings import all_openings_of, is_withdrawn
from tests.support.builders import a_binding, a_policy, a_separate_placement, a_stage, an_agent

Rows = list[dict[str, Any]]
Today = tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]]
AGENT = an_agent().with_stages(a_stage("one", "staging")).build()
BINDINGS = (a_binding().build(),)
MOST_CALLS = 250_000
"""A comparison of each peer with each other one, and of each port, has several times as many."""


def rows(peers: Callable[[int, int], dict[str, Any]], ports: Callable[[int], list[dict[str, Any]]]) -> Rows:
    return [
        {"to": [peers(row, number) for number in range(MAX_PEERS)], "ports": ports(row)} for row in range(MAX_EGRESS)
    ]


def apart(row: int, number: int) -> dict[str, Any]:
    return {"cidr": f"10.{row}.{number}.0/24"}


def same(_row: int, number: int) -> dict[str, Any]:
    return {"cidr": f"10.1.{number}.0/24"}


def nested(row: int, number: int) -> dict[str, Any]:
    return {"cidr": "10.128.0.0/9" if number == 0 else f"10.{128 + row}.0.0/{16 + number % 8}"}


def pods(row: int, number: int) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": "pg", "number": f"n{row}-{number}"}}}


def more_pods(row: int, number: int) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": "pg", "number": f"n{row}-{number}", "tier": "gold"}}}


def one_port(_row: int) -> list[dict[str, Any]]:
    return [{"port": 5432}]


def its_port(row: int) -> list[dict[str, Any]]:
    return [{"port": 100 + row}]


def many_ports(row: int) -> list[dict[str, Any]]:
    return [{"port": 100 + row + 64 * number} for number in range(16)]


def from_port(row: int) -> list[dict[str, Any]]:
    return [{"port": 100 + row, "endPort": 7400}]


def to_port(row: int) -> list[dict[str, Any]]:
    return [{"port": 1, "endPort": 7000 - row}]


def wide_ports(row: int) -> list[dict[str, Any]]:
    return [{"port": 1 + row + number, "endPort": 7000 - row - number} for number in range(16)]


SHAPES = [
    pytest.param(rows(apart, one_port), rows(apart, one_port), id="unchanged"),
    pytest.param(rows(pods, one_port), rows(pods, one_port), id="unchanged selectors"),
    pytest.param(rows(pods, one_port), rows(more_pods, one_port), id="narrower selectors"),
    pytest.param(rows(same, its_port), rows(same, wide_ports), id="one range and many ports"),
    pytest.param(rows(same, many_ports), rows(same, wide_ports), id="as many ports as peers"),
    pytest.param(rows(same, from_port), rows(same, to_port), id="a row for each pair of rows"),
    pytest.param(rows(nested, wide_ports), rows(nested, wide_ports), id="nested"),
]


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions a piece of work calls, those of C included."""
    count = 0

    def seen(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def objects(found: Rows) -> Today:
    return AGENT, a_policy().opening(*found).build(), BINDINGS


@pytest.mark.parametrize(("reviewed", "today"), SHAPES)
def test_what_holds_for_a_revision_is_found_in_few_steps(reviewed: Rows, today: Rows) -> None:
    content, parsed = content_of(*objects(reviewed)), objects(today)

    assert calls_of(lambda: effective(content, *parsed)) < MOST_CALLS


@pytest.mark.parametrize(("reviewed", "today"), SHAPES)
def test_what_holds_is_built_and_said_in_few_steps(reviewed: Rows, today: Rows) -> None:
    found = effective(content_of(*objects(reviewed)), *objects(today))
    placement = replace(a_separate_placement(policy=a_policy()), policy=_separate(found.policy), nodes=NodeRanges())

    assert calls_of(lambda: build_agent_policy(placement)) < MOST_CALLS
    assert calls_of(lambda: words_for_check(placement)) < MOST_CALLS
    assert calls_of(lambda: all_openings_of(placement, AGENT_POD)) < MOST_CALLS


def test_openings_are_compared_in_few_steps() -> None:
    before, today = (
        all_openings_of(a_separate_placement(policy=a_policy().opening(*rows(apart, ports)[:20])), AGENT_POD)
        for ports in (one_port, lambda _row: [{"port": 1, "endPort": 7000}])
    )

    assert calls_of(lambda: is_withdrawn(before, today)) < MOST_CALLS
    assert not is_withdrawn(before, today)


def _separate(policy: AgentPolicy) -> AgentPolicy:
    spec = a_policy().isolating(development="Separate").build().spec
    return policy.model_copy(update={"spec": policy.spec.model_copy(update={"environments": spec.environments})})
