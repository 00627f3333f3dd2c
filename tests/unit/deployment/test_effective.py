"""What holds for a revision: only what concerns the agent is in it, and what is new, gone or moved today."""

from datetime import datetime
from typing import Any

import pytest

from interlock.action.actions_bound import binding_for
from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.verification import MCPBindingStatus, PinnedDefinition, PinState, VerificationRun, VerificationStatus
from interlock.deployment.content import content_of, pins_of_binding, verification_wait
from interlock.deployment.effective import described_digest, effective, needs_revision
from interlock.governance.governed import check_governance
from tests.requirements import requirement
from tests.support.builders import (
    NOW,
    AgentBuilder,
    BindingBuilder,
    PolicyBuilder,
    a_binding,
    a_policy,
    a_stage,
    an_agent,
    prices_of,
    stages,
)

EVERYWHERE = ("development", "staging", "production")
Today = tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]]
AGENT = an_agent().calling("openai/gpt-4o").with_stages(a_stage("one", "staging"), a_stage("two", "production"))
POLICY = a_policy().allowing_models("openai/*")
CRM = a_binding()


def objects(
    agent: AgentBuilder = AGENT, policy: PolicyBuilder = POLICY, bindings: tuple[BindingBuilder, ...] = (CRM,)
) -> Today:
    return agent.build(), policy.build(), tuple(one.build() for one in bindings)


BEFORE = content_of(*objects())


@requirement("revision.narrower")
@pytest.mark.parametrize(
    "today",
    [
        objects(policy=POLICY.giving("another", "crm", read=["secrets"], delete=["contacts"])),
        objects(policy=POLICY.giving("triage", "another", read=["secrets"])),
        objects(policy=POLICY.giving_labelled({"tier": "gold"}, "crm", delete=["contacts"])),
        objects(policy=POLICY.allowing_models("openai/*", "anthropic/*", secrets=["openai", "more"])),
        objects(policy=POLICY.allowing_models("openai/*", urls=[{"name": "corp", "url": "https://a.example.com/v1"}])),
        objects(policy=POLICY.declaring(*POLICY.raw["spec"]["environments"], {"name": "dev", "class": "development"})),
        objects(bindings=(CRM, a_binding("mail").serving("mail", *EVERYWHERE))),
        objects(bindings=(CRM.serving("crm", "staging", "production"), a_binding("b").serving("crm", "development"))),
        objects(agent=AGENT.labelled(chart="support-1.2")),
        objects(agent=AGENT.with_stages(a_stage("one", "staging", lasting="9h"), a_stage("two", "production"))),
        objects(agent=AGENT.with_stages(a_stage("only", "production"))),
    ],
)
def test_what_does_not_concern_the_agent_starts_no_revision(today: Today) -> None:
    assert not needs_revision(BEFORE, *today)
    assert effective(BEFORE, *today)[1:3] == today[1:]


@requirement("revision.narrower")
def test_a_proxy_is_in_the_revision_only_of_agents_that_it_could_be_on_the_way_of() -> None:
    local = objects(AGENT.calling())
    assert not needs_revision(content_of(*local), *objects(AGENT.calling(), POLICY.through_proxy()))
    assert content_of(*objects(AGENT.calling(), POLICY.through_proxy())).digest == content_of(*local).digest
    assert needs_revision(BEFORE, *objects(policy=POLICY.through_proxy()))


@requirement("revision.narrower")
def test_models_of_a_policy_are_in_no_revision_of_an_agent_without_models() -> None:
    agent = AGENT.calling()
    before = content_of(*objects(agent))
    assert not needs_revision(before, *objects(agent, POLICY.allowing_models("openai/*", maxOutputTokens=100_000)))
    assert before.digest == content_of(*objects(agent, POLICY.allowing_models("other/*", maxOutputTokens=7))).digest


@requirement("revision.narrower")
def test_the_content_of_a_revision_has_no_rows_and_no_models_of_others() -> None:
    policy = POLICY.giving("another", "crm", read=["secrets"]).allowing_models("openai/*", "corp/*", secrets=["openai"])
    assert content_of(*objects(policy=policy)) == BEFORE


@requirement("revision.narrower")
def test_more_names_than_one_row_has_room_for_are_all_in_the_revision() -> None:
    policy = POLICY
    for start in range(0, 150, 50):
        policy = policy.giving("triage", "crm", read=[f"r{number}" for number in range(start, start + 50)])
    today = objects(policy=policy)
    assert len(content_of(*today).policy.data_access) == 3
    assert not needs_revision(content_of(*today), *today)


@requirement("revision.narrower")
def test_a_stage_in_another_environment_starts_a_revision() -> None:
    today = objects(AGENT.with_stages(a_stage("zero", "development"), a_stage("one", "staging")))
    assert needs_revision(BEFORE, *today)
    assert binding_for(effective(BEFORE, *today).bindings, "crm", "development") is None
    assert binding_for(effective(BEFORE, *today).bindings, "crm", "staging") is not None


@requirement("revision.narrower")
def test_a_binding_that_replaced_another_one_is_not_there_for_what_was_reviewed_before() -> None:
    found = effective(BEFORE, *objects(bindings=(CRM.named("crm-2"),)))
    assert [one.spec.environments for one in found.bindings] == [("development",)]  # in which it has no stage


@requirement("revision.narrower")
def test_a_binding_that_serves_another_source_today_is_gone() -> None:
    other = content_of(
        *objects(AGENT.using("crm", "mail"), bindings=(CRM, a_binding("mail").serving("mail", "staging")))
    )
    today = objects(AGENT.using("crm", "mail"), bindings=(CRM.serving("mail", "staging"),))
    assert effective(other, *today).bindings == ()


@requirement("revision.narrower")
def test_a_second_binding_of_a_source_leaves_what_was_reviewed_with_the_first_one_alone() -> None:
    found = effective(BEFORE, *objects(bindings=(CRM, CRM.named("second"))))
    assert binding_for(found.bindings, "crm", "production") is not None
    assert binding_for(found.bindings, "crm", "development") is None


@requirement("revision.narrower")
def test_a_binding_that_is_being_deleted_serves_no_revision() -> None:
    found = effective(BEFORE, *objects(bindings=(CRM.being_deleted("a/b"),)))
    assert binding_for(found.bindings, "crm", "production") is None


@requirement("revision.labels")
def test_rows_select_by_the_labels_that_the_revision_began_with() -> None:
    policy = POLICY.giving_nothing().giving_labelled({"team": "support"}, "crm", read=["contacts"])
    before = content_of(*objects(AGENT.labelled(team="support"), policy))
    moved = objects(AGENT.labelled(team="sales"), policy)
    assert needs_revision(before, *moved)
    assert effective(before, *moved).agent.metadata.labels == {"team": "support"}
    assert effective(before, *moved).policy.spec.data_access[0].read == (), "today's labels give nothing"
    unlabelled = content_of(*objects(AGENT.labelled(team="sales"), policy))
    found = effective(unlabelled, *objects(AGENT.labelled(team="support"), policy))
    assert not found.policy.spec.data_access[0].applies_to(found.agent.metadata)


@requirement("revision.labels")
def test_a_label_that_the_agent_had_all_along_is_that_of_its_revision_once_a_row_selects_by_it() -> None:
    agent = AGENT.labelled(team="support")
    by_label = POLICY.giving_nothing().giving_labelled(
        {"team": "support"}, "crm", read=["contacts", "opportunities"], write=["tasks"]
    )
    assert not needs_revision(content_of(*objects(agent)), *objects(agent, by_label))


@requirement("revision.narrower")
def test_a_provider_that_is_not_set_any_more_gets_its_default_and_others_are_gone() -> None:
    corp = {"name": "corp", "url": "https://llm.example.com/v1"}
    own_openai = {"name": "openai", "url": "https://proxy.example.com/v1"}
    agent = AGENT.calling("openai/gpt-4o", "corp/x")
    policy = POLICY.allowing_models("openai/*", "corp/*", urls=[corp, own_openai])
    before = content_of(*objects(agent, policy))
    today = objects(agent, POLICY.allowing_models("openai/*", "corp/*", secrets=["openai", "corp"]))
    found = effective(before, *today)
    assert [(one.name, one.url) for one in found.policy.spec.models.urls] == [("openai", own_openai["url"])]
    refused = check_governance(found.agent, found.policy, prices_of(found.agent))
    assert refused is not None
    assert "corp/x" in refused.message


@requirement("revision.narrower")
def test_a_model_that_is_no_longer_allowed_is_refused_for_what_was_reviewed_with_it() -> None:
    found = effective(BEFORE, *objects(AGENT.calling(), POLICY.allowing_models("other/*", secrets=["openai"])))
    refused = check_governance(found.agent, found.policy, prices_of(found.agent))
    assert refused is not None
    assert "openai/gpt-4o" in refused.message


@requirement("revision.narrower")
def test_another_server_keeps_its_own_network_and_the_same_one_gets_the_narrower_one() -> None:
    private = CRM.over_http("http://crm.example.com/mcp", network="Private")
    before = content_of(*objects(bindings=(private,)))
    moved = effective(before, *objects(bindings=(CRM.over_http("https://crm.example.com/mcp", network="Public"),)))
    assert moved.bindings[0].spec.server == private.build().spec.server
    image = content_of(*objects(bindings=(CRM.with_server(network="Private"),)))
    found = effective(image, *objects(bindings=(CRM.with_server(network="None"),)))
    assert found.bindings[0].spec.server.stdio is not None
    assert found.bindings[0].spec.server.stdio.network == "None"
    other_image = effective(image, *objects(bindings=(CRM.with_server(network="None", image="example/crm:2"),)))
    assert other_image.bindings[0].spec.server.stdio is not None
    assert other_image.bindings[0].spec.server.stdio.network == "Private"


def pinned(binding: BindingBuilder, digest: str) -> BindingBuilder:
    tool = PinnedDefinition(name="get_contact", state=PinState.VERIFIED, digest=digest, pinned_digest=digest)
    return binding.with_status(MCPBindingStatus(verification=VerificationStatus(tools=(tool,), protocol="2025-06-18")))


HTTP = CRM.over_http("https://crm.example.com/mcp")


@requirement("revision.narrower")
@pytest.mark.parametrize(
    ("before", "today", "is_reviewed", "is_new"),
    [
        (CRM, CRM, True, True),  # the image may be another one of the same name
        (CRM, CRM.with_server(image="example/crm:2"), True, True),
        (HTTP, HTTP, False, False),  # accepted while it runs
        (HTTP, CRM.over_http("https://other.example.com/mcp"), True, True),
        (HTTP, CRM, True, True),
    ],
)
def test_pins_are_those_of_the_server_that_the_revision_uses(
    before: BindingBuilder,
    today: BindingBuilder,
    is_reviewed: bool,  # noqa: FBT001
    is_new: bool,  # noqa: FBT001
) -> None:
    content = content_of(*objects(bindings=(pinned(before, "a" * 64),)))
    now = objects(bindings=(pinned(today, "b" * 64),))
    (found,) = effective(content, *now).bindings
    assert pins_of_binding(found).tools == {"get_contact": ("a" if is_reviewed else "b") * 64}
    assert needs_revision(content, *now) is is_new


def with_verification(**members: Any) -> tuple[BindingBuilder, ...]:
    """Return the binding with other members of its status."""
    status = CRM.build().status
    assert status is not None
    return (CRM.with_status(status.model_copy(update=members)),)


def running(ended_at: datetime | None) -> VerificationStatus:
    run = VerificationRun(number=1, plan="", started_at=NOW, ended_at=ended_at)
    return CRM.build().verification.model_copy(update={"run": run})


@requirement("revision.narrower")
@pytest.mark.parametrize(
    ("bindings", "waits"),
    [
        ((CRM,), False),
        (with_verification(verification=running(NOW)), False),
        (with_verification(verification=running(None)), False),  # again, and what is pinned stays
        (with_verification(observed_generation=0), True),
        (with_verification(conditions=()), True),
        ((CRM.unverified(),), True),
        ((CRM.unverified().serving("crm", "development"),), False),  # in which it has no stage
        ((CRM, a_binding("mail").unverified().serving("mail", *EVERYWHERE)), False),
    ],
)
def test_a_revision_waits_for_the_verification_of_the_servers_that_it_uses(
    bindings: tuple[BindingBuilder, ...],
    waits: bool,  # noqa: FBT001
) -> None:
    agent, _, built = objects(bindings=bindings)
    sentence = verification_wait(agent, built)
    assert sentence == ("MCPBinding crm is being verified" if waits else "")


@requirement("revision.narrower")
def test_a_return_to_a_known_revision_is_that_revision() -> None:
    changed = content_of(*objects(AGENT.with_template(image="example/agent:2")))
    known = {"newest": changed, "good": BEFORE}
    labelled = objects(AGENT.labelled(chart="support-1.3"))
    assert described_digest(known, *labelled, content_of(*labelled)) == "good"
    third = objects(AGENT.with_template(image="example/agent:3"))
    assert described_digest(known, *third, content_of(*third)) == content_of(*third).digest


def a_tool(**members: Any) -> dict[str, Any]:
    return {"name": "get_contact", "operation": "read", "resource": "contacts", **members}


REGION, AREA = ({"dimension": "region", "pointer": f"/{name}"} for name in ("region", "area"))
FREE = {"dimension": "region", "unscoped": "Allowed"}
SCOPED = AGENT.with_stages(a_stage("eu", scope={"region": ["eu"]}), a_stage("all"))


@requirement("revision.narrower")
@pytest.mark.parametrize(
    ("before", "today", "in_limited", "in_others"),
    [
        ([REGION], [REGION], [REGION], [REGION]),
        ([REGION], [FREE], [REGION], [REGION]),
        ([FREE], [REGION], [REGION], [REGION]),
        ([FREE], [FREE], [FREE], [FREE]),
        ([FREE], [], [], []),
        ([], [FREE], [], []),
        # A limited stage denies what does not say its value. Others leave alone what belongs to a limited one.
        ([REGION], [], [], [REGION]),
        ([], [REGION], [], [REGION]),
        ([REGION], [AREA], None, None),
    ],
)
def test_a_call_is_inside_the_scope_by_both(
    before: list[Any], today: list[Any], in_limited: list[Any] | None, in_others: list[Any] | None
) -> None:
    content = content_of(*objects(SCOPED, bindings=(CRM.with_tools(a_tool(scope=before)),)))
    now = objects(SCOPED, bindings=(CRM.with_tools(a_tool(scope=today)),))
    for stage, wanted in zip(now[0].spec.stages, (in_limited, in_others), strict=True):
        (tool,) = effective(content, *now, stage=stage).bindings[0].spec.tools
        if wanted is None:
            assert (tool.operation, tool.resource) == ("delete", "not-reviewed")
        else:
            assert [entry.to_kubernetes() for entry in tool.scope] == wanted


@requirement("revision.narrower")
def test_a_pointer_that_moves_concerns_no_agent_without_limits_in_its_dimension() -> None:
    content = content_of(*objects(bindings=(CRM.with_tools(a_tool(scope=[REGION])),)))
    now = objects(bindings=(CRM.with_tools(a_tool(scope=[AREA])),))
    assert not needs_revision(content, *now)
    (entered,) = stages(a_stage("eu", scope={"region": ["eu"]}))
    (tool,) = effective(content, *now, stage=entered).bindings[0].spec.tools
    assert tool.resource == "not-reviewed"


def names(found: tuple[Any, ...]) -> list[str]:
    return [f"{one.name} {one.operation} {one.resource}" for one in found]


@requirement("revision.narrower")
@pytest.mark.parametrize(
    ("before", "today", "wanted"),
    [
        # a removed glob in front of another one keeps its names
        (["get_* read", "* write"], ["* write"], ["get_* read contacts", "* write contacts"]),
        (["get_* delete", "* read"], ["* read"], ["get_* delete contacts", "* read contacts"]),
        # a new exact name under a glob
        (["get_* read"], ["get_* read", "get_x delete"], ["get_* read contacts", "get_x delete contacts"]),
        # what one map lacks
        (["get_* read"], ["put_* read"], []),
        (["a read", "b read"], ["b read", "c read"], ["b read contacts"]),
        (["* read"], ["get_* read", "put_* read"], ["get_* read contacts", "put_* read contacts"]),
        (["get_* read", "put_* read"], ["* read"], ["get_* read contacts", "put_* read contacts"]),
        (["get_* read"], ["get_a/b* read"], []),  # no name with a slash matches the first one
        # neither has all names of the other one
        (["get_* read"], ["*_contact read"], []),
        # today, get_a is no name of get_*, because a server may take it for GET_A
        (
            ["get_a read", "get_* read"],
            ["GET_A read", "get_* read"],
            ["GET_A delete not-reviewed", "get_* read contacts", "get_a delete not-reviewed"],
        ),
        # nor do later globs get the names that cannot be decided
        (
            ["get_* read", "* read"],
            ["*_contact read", "* read"],
            ["get_* delete not-reviewed", "*_contact read contacts", "* read contacts"],
        ),
    ],
)
def test_maps_are_narrowed_name_by_name(before: list[str], today: list[str], wanted: list[str]) -> None:
    maps = [
        CRM.with_tools(*(a_tool(name=name, operation=operation) for name, operation in map(str.split, rows)))
        for rows in (before, today)
    ]
    policy = POLICY.giving("triage", "crm", write=["contacts"])
    permitted = [one.permitting(read=["contacts"], write=["contacts"]) for one in maps]
    content = content_of(*objects(policy=policy, bindings=(permitted[0],)))
    found = effective(content, *objects(policy=policy, bindings=(permitted[1],)))
    assert names(found.bindings[0].spec.tools) == wanted


@requirement("revision.narrower")
@pytest.mark.parametrize(
    ("before", "today", "wanted"),
    [
        ("file:///*", "file:///**", ["file:///*"]),
        ("file:///**", "file:///*", ["file:///*"]),
        ("file:///a/**", "file:///**", ["file:///a/**"]),
        ("file:///a/*", "file:///b/*", []),
        ("file:///*/x", "file:///a/*", []),
        ("file:///a/x", "file:///a/*", ["file:///a/x"]),
    ],
)
def test_resources_are_narrowed_uri_by_uri(before: str, today: str, wanted: list[str]) -> None:
    reviewed, now = (
        CRM.with_resources({"uri": uri, "operation": "read", "resource": "contacts"}) for uri in (before, today)
    )
    found = effective(content_of(*objects(bindings=(reviewed,))), *objects(bindings=(now,)))
    assert [one.uri for one in found.bindings[0].spec.resources] == wanted


@requirement("revision.narrower")
@pytest.mark.parametrize(
    ("before", "today", "is_both"),
    [
        ("/data/", "/data/x/", False),
        ("/data", "/data/x/", True),
        ("/data/x/", "/data/", True),
        ("https://a.example", "https://a.example.evil/", True),
    ],
)
def test_a_rule_is_left_out_only_if_it_follows_from_another(
    before: str,
    today: str,
    is_both: bool,  # noqa: FBT001
) -> None:
    reviewed, now = (
        CRM.with_tools(a_tool(arguments=[{"pointer": "/a", "prefix": prefix}])) for prefix in (before, today)
    )
    (tool,) = effective(content_of(*objects(bindings=(reviewed,))), *objects(bindings=(now,))).bindings[0].spec.tools
    assert [rule.prefix for rule in tool.arguments] == [today, *([before] if is_both else [])]


@requirement("revision.narrower")
def test_rows_that_each_permit_what_the_other_one_denies_are_denied() -> None:
    """By its hints, the server may raise a read to a write of x, or to a deletion of y."""
    before, today = (
        CRM.with_tools(a_tool(resource=resource)).permitting(read=["x", "y"], write=["x"], delete=["y"])
        for resource in ("x", "y")
    )
    policy = POLICY.giving_nothing().giving("triage", "crm", read=["*"], write=["x", "y"], delete=["x", "y"])
    found = effective(
        content_of(*objects(policy=policy, bindings=(before,))), *objects(policy=policy, bindings=(today,))
    )
    assert names(found.bindings[0].spec.tools) == ["get_contact delete not-reviewed"]


@requirement("revision.narrower")
def test_a_denied_row_that_means_something_else_and_is_denied_too_needs_no_revision() -> None:
    before, today = (CRM.with_tools(a_tool(resource=resource)) for resource in ("denied", "denied-too"))
    assert not needs_revision(content_of(*objects(bindings=(before,))), *objects(bindings=(today,)))


@requirement("revision.narrower")
def test_what_is_denied_is_denied_whatever_may_be_deleted() -> None:
    deletable = ["not-reviewed", "not-reviewed-", "contacts"]
    before, today = (
        CRM.with_tools(a_tool(scope=[entry])).permitting(read=["contacts"], delete=deletable)
        for entry in (REGION, AREA)
    )
    policy = POLICY.giving("triage", "crm", delete=deletable)
    content = content_of(*objects(SCOPED, policy, (before,)))
    (tool,) = effective(content, *objects(SCOPED, policy, (today,))).bindings[0].spec.tools
    assert tool.resource == "not-reviewed--"
