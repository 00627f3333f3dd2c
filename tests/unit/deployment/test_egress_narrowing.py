"""Egress by revisions: what is taken away is closed at once, what is added waits, and names and order do not matter."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.egress import EgressRow
from interlock.api.policy import AgentPolicy
from interlock.deployment.content import content_of
from interlock.deployment.effective import effective, needs_revision
from interlock.deployment.egress_narrowing import _Meeting
from interlock_contract.addresses import parse_cidr
from tests.requirements import requirement
from tests.support.builders import AgentBuilder, a_binding, a_policy, a_stage, an_agent

AGENT = an_agent().with_stages(a_stage("one", "staging"), a_stage("two", "production"))
Today = tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]]


def objects(*rows: dict[str, Any], agent: AgentBuilder = AGENT) -> Today:
    return agent.build(), a_policy().opening(*rows).build(), (a_binding().build(),)


def holds(reviewed: Today, today: Today) -> tuple[EgressRow, ...]:
    found = effective(content_of(*reviewed), *today)
    return tuple(row for row in found.policy.spec.egress if row.applies_to(found.agent.metadata))


def shown(rows: tuple[EgressRow, ...]) -> list[Any]:
    return [([peer.cidr for peer in row.to], [(port.port, port.last) for port in row.ports]) for row in rows]


@requirement("revision.narrower")
def test_a_row_that_is_taken_away_is_closed_at_once_and_one_that_is_added_waits() -> None:
    reviewed, other = {"name": "a"}, {"name": "b", "ports": [{"port": 9}]}

    assert holds(objects(reviewed), objects()) == ()
    assert shown(holds(objects(reviewed), objects(reviewed, other))) == [(["10.20.0.0/24"], [(5432, 5432)])]
    assert needs_revision(content_of(*objects(reviewed)), *objects(reviewed, other))
    assert not needs_revision(content_of(*objects(reviewed, other)), *objects(reviewed))


@requirement("revision.narrower")
@pytest.mark.parametrize(
    ("reviewed", "today", "left"),
    [
        ("10.0.0.0/8", "10.20.0.0/24", ["10.20.0.0/24"]),
        ("10.20.0.0/24", "10.0.0.0/8", ["10.20.0.0/24"]),
        ("10.20.0.0/24", "10.21.0.0/24", None),
        ("10.20.0.0/24", "fd01::/64", None),
    ],
)
def test_of_two_ranges_the_narrower_one_holds(reviewed: str, today: str, left: list[str] | None) -> None:
    found = holds(objects({"to": [{"cidr": reviewed}]}), objects({"to": [{"cidr": today}]}))

    assert [[peer.cidr for peer in row.to] for row in found] == ([] if left is None else [left])


def test_agents_with_the_same_rows_are_compared_with_a_policy_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    class Counting(_Meeting):
        def __init__(self, *arguments: Any) -> None:
            compared.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr("interlock.deployment.egress_narrowing._Meeting", Counting)
    selector = {"agents": None, "agentSelector": {"matchLabels": {"tier": "gold"}}}
    _, before, bindings = objects(selector, {"name": "b", "ports": [{"port": 9}], **selector})
    today = a_policy().opening({"name": "c", "to": [{"cidr": "10.20.0.8/32"}], **selector}).build()
    other = a_policy().opening(selector).build()
    for policy in (today, today, other, today):
        for name in ("a", "b"):
            agent = an_agent(name).labelled(tier="gold").build()
            found = effective(content_of(agent, before, bindings), agent, policy, bindings).policy.spec.egress
            assert [peer.cidr for row in found for peer in row.to] == [policy.spec.egress[0].to[0].cidr]
    assert len(compared) == 2, "once with each of the two policies"


@requirement("revision.narrower")
def test_ports_that_are_joined_or_listed_twice_start_no_revision() -> None:
    split = {"ports": [{"port": 1, "endPort": 4}, {"port": 5, "endPort": 9}]}
    joined = {"ports": [{"port": 1, "endPort": 9}, {"port": 2}, {"port": 2}]}
    twice = {"to": [{"cidr": "10.20.0.0/24"}, {"cidr": "10.20.0.8/32"}, {"cidr": "10.20.0.0/24"}]}

    assert not needs_revision(content_of(*objects(split)), *objects(joined))
    assert not needs_revision(content_of(*objects({})), *objects(twice))


@requirement("revision.narrower")
def test_of_two_selectors_the_one_with_more_labels_holds() -> None:
    wide = {"to": [{"podSelector": {"matchLabels": {"app": "pg"}}}]}
    narrow = {"to": [{"podSelector": {"matchLabels": {"app": "pg", "tier": "gold"}}}]}
    elsewhere = {"to": [{"namespaceSelector": {"matchLabels": {"team": "data"}}, **wide["to"][0]}]}
    everywhere_there = {"to": [{"namespaceSelector": {"matchLabels": {"team": "data"}}}]}

    for before, now in ((wide, narrow), (narrow, wide)):
        [row] = holds(objects(before), objects(now))
        assert row.to[0].pod_selector is not None
        assert row.to[0].pod_selector.match_labels == {"app": "pg", "tier": "gold"}
    assert holds(objects(wide), objects(elsewhere)) == ()
    assert len(holds(objects(everywhere_there), objects(elsewhere))) == 1
    assert needs_revision(content_of(*objects(elsewhere)), *objects(everywhere_there))


@requirement("revision.narrower")
def test_dns_is_closed_at_once_and_opened_by_a_revision() -> None:
    [kept] = holds(objects({"dns": "Allowed"}), objects({}))
    [new] = holds(objects({}), objects({"dns": "Allowed"}))

    assert (kept.dns, new.dns) == (None, None)
    assert needs_revision(content_of(*objects({})), *objects({"dns": "Allowed"}))


@requirement("revision.narrower")
@pytest.mark.parametrize(
    "today",
    [
        objects({"name": "renamed"}),
        objects({"name": "a", "ports": [{"port": 5432}]}, {"agents": ["another"]}),
        objects({}, {"agents": None, "agentSelector": {"matchLabels": {"tier": "gold"}}}),
        objects({}, {"servers": ["mail"]}),
        objects({}, {"environments": ["development"]}),
        objects({"agents": ["another", "triage"]}),
        objects({"public": "Allowed"}),
    ],
)
def test_what_opens_nothing_more_for_the_agent_starts_no_revision(today: Today) -> None:
    assert not needs_revision(content_of(*objects({})), *today)
    assert effective(content_of(*objects({})), *today).policy == today[1]


@requirement("revision.narrower")
def test_a_row_for_servers_is_no_row_for_the_agent() -> None:
    assert holds(objects({"servers": ["crm"]}), objects({})) == ()
    assert holds(objects({}), objects({"servers": ["crm"]})) == ()
    assert not needs_revision(content_of(*objects({"servers": ["crm"]})), *objects({"servers": ["crm", "mail"]}))


@requirement("revision.narrower")
def test_a_row_of_one_environment_opens_no_other_one_without_a_revision() -> None:
    staging = {"environments": ["staging"]}

    [row] = holds(objects(staging), objects({}))

    assert row.environments == ("staging",)
    assert needs_revision(content_of(*objects(staging)), *objects({}))
    assert needs_revision(content_of(*objects(staging)), *objects({"environments": ["staging", "production"]}))
    assert not needs_revision(content_of(*objects({})), *objects(staging))


@requirement("revision.narrower")
def test_a_label_that_is_taken_away_closes_at_once() -> None:
    row = {"agents": None, "agentSelector": {"matchLabels": {"tier": "gold"}}}
    gold, plain = objects(row, agent=AGENT.labelled(tier="gold")), objects(row)

    assert len(holds(gold, gold)) == 1
    assert holds(gold, plain) == ()
    assert holds(plain, gold) == ()
    assert needs_revision(content_of(*plain), *gold)


@requirement("revision.narrower")
def test_what_one_server_may_reach_never_becomes_a_way_out_of_the_agent_or_of_another_server() -> None:
    def using_both(*rows: dict[str, Any]) -> Today:
        bindings = a_binding().build(), a_binding("mail").serving("mail", "staging", "production").build()
        policy = a_policy().giving("triage", "mail", read=["contacts"]).opening(*rows)
        return AGENT.using("crm", "mail").build(), policy.build(), bindings

    mail, crm = {"servers": ["mail"]}, {"servers": ["crm"]}
    more = {"to": [{"cidr": "10.20.0.0/24"}, {"cidr": "10.30.0.0/24"}]}

    assert holds(using_both(mail), using_both(crm)) == ()
    assert [row.servers for row in holds(using_both(mail, crm), using_both(mail, {**crm, **more}))] == [
        *(("mail",), ("crm",)),
    ]


peers = st.sampled_from(["10.0.0.0/8", "10.20.0.0/16", "10.20.0.0/24", "10.20.0.8/32", "10.21.0.0/16"])
ports = st.sampled_from([{"port": 5, "endPort": 8}, {"port": 6, "endPort": 9}, {"port": 6}, {"port": 9}])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "to": st.lists(peers.map(lambda cidr: {"cidr": cidr}), min_size=1, max_size=2),
            "ports": st.lists(ports, min_size=1, max_size=2),
            "environments": st.sampled_from([[], ["staging"], ["production"]]),
            "servers": st.sampled_from([[], ["crm"], ["mail"]]),
            "dns": st.sampled_from([None, "Allowed"]),
        }
    ),
    max_size=3,
)
ADDRESSES = ("10.20.0.8/32", "10.20.0.9/32", "10.20.1.1/32", "10.21.0.1/32", "10.9.0.1/32")


def opened(found: tuple[EgressRow, ...]) -> set[tuple[str, int, str, bool]]:
    """Return all connections that rows open, of those that differ in any of the rows above."""
    return {
        (address, port, environment, bool(row.servers))
        for row in found
        if not row.servers or "crm" in row.servers
        for environment in ("staging", "production")
        if not row.environments or environment in row.environments
        for address in ADDRESSES
        if any(parse_cidr(address).subnet_of(parse_cidr(peer.cidr or "")) for peer in row.to)  # type: ignore[union-attr,arg-type]
        for one in row.ports
        for port in range(one.port, one.last + 1)
    }


@requirement("revision.narrower")
@settings(max_examples=150, deadline=None)
@given(rows, rows)
def test_exactly_what_both_open_holds(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> None:
    reviewed, today = objects(*before), objects(*now)
    found = holds(reviewed, today)
    both = opened(reviewed[1].spec.egress) & opened(today[1].spec.egress)

    assert opened(found) == both
    assert any(row.dns for row in found if row.servers != ("mail",)) <= any(row["dns"] for row in before)
    if opened(today[1].spec.egress) - both:
        assert needs_revision(content_of(*reviewed), *today)
