"""What holds for a revision never permits more than what it was reviewed with, nor than today's objects permit.

Guards decide with `decide`, so the calls are decided by it.
"""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from interlock.api.agent import Agent, Stage
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.deployment.children.config import compile_bundle
from interlock.deployment.content import content_of, parse_content
from interlock.deployment.effective import Effective, effective, needs_revision
from interlock.deployment.placement import Placement, bound_sources
from interlock_contract.bundle import Bundle, Pin
from interlock_guard.decision.decide import RESOURCES_READ, TOOLS_CALL, Allow, DecisionInput, decide
from interlock_guard.state import State
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, a_stage, an_agent

PIN = "0" * 64
NAMES = ("get_a", "get_b", "get_ab", "GET_a", "put_a", "a")
URIS = ("file:///a/x", "file:///a/b/x", "file:///b/x", "file:///a/%78")
ARGUMENTS: tuple[dict[str, Any], ...] = (
    {},
    {"path": "/data/x", "region": "eu"},
    {"path": "/data/secret/x", "region": "us", "area": "eu"},
    {"path": "/other/x", "region": ["eu", "us"], "area": "us"},
)
HINTS: tuple[dict[str, Any] | None, ...] = (None, {"readOnlyHint": False}, {"destructiveHint": True})

operations = st.sampled_from(["read", "write", "delete"])
resources = st.sampled_from(["x", "y"])
named = st.lists(resources, unique=True, max_size=2)
readable = st.one_of(named, st.just(["*"]))


def permissions(read: st.SearchStrategy[list[str]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"read": read, "write": named, "delete": named})


scopes = st.lists(
    st.sampled_from(
        [
            {"dimension": "region", "pointer": "/region"},
            {"dimension": "region", "pointer": "/area"},
            {"dimension": "region", "unscoped": "Allowed"},
        ]
    ),
    max_size=1,
)
rules = st.lists(
    st.one_of(
        st.sampled_from(["/data/", "/data/secret/", "/other/"]).map(lambda text: {"pointer": "/path", "prefix": text}),
        st.sampled_from([["eu"], ["eu", "us"]]).map(lambda enum: {"pointer": "/region", "enum": enum}),
    ),
    max_size=2,
    unique_by=str,
)
tools = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["get_a", "get_b", "a", "get_*", "get_a*", "*_a", "*", "get_?", "GET_*"]),
            "operation": operations,
            "resource": resources,
            "scope": scopes,
            "arguments": rules,
        }
    ),
    unique_by=lambda tool: tool["name"],
    max_size=5,
)
resource_scopes = st.lists(
    st.sampled_from(
        [
            {"dimension": "region", "values": ["eu"]},
            {"dimension": "region", "values": ["us"]},
            {"dimension": "region", "unscoped": "Allowed"},
        ]
    ),
    max_size=1,
)
uris = st.lists(
    st.fixed_dictionaries(
        {
            "uri": st.sampled_from(["file:///a/x", "file:///a/*", "file:///**", "file:///a/**", "file:///*/x"]),
            "operation": operations,
            "resource": resources,
            "scope": resource_scopes,
        }
    ),
    unique_by=lambda one: one["uri"],
    max_size=4,
)


@st.composite
def objects(draw: st.DrawFn) -> tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]]:
    """Return an Agent with its policy and bindings."""
    own = draw(st.one_of(st.none(), permissions(named)))
    use = {"source": "crm"} if own is None else {"source": "crm", "permissions": own}
    scope = draw(st.sampled_from([None, {"region": ["eu"]}, {"region": ["eu", "us"]}]))
    agent = an_agent().using(use).with_stages(a_stage("limited", scope=scope), a_stage("last"))
    agent = agent.labelled(**draw(st.sampled_from([{}, {"team": "a"}, {"team": "b"}])))
    policy = a_policy().giving_nothing()
    for _ in range(draw(st.integers(0, 2))):
        row = draw(permissions(readable))
        if draw(st.booleans()):
            policy = policy.giving("triage", "crm", **row)
        else:
            policy = policy.giving_labelled({"team": draw(st.sampled_from(["a", "b"]))}, "crm", **row)
    binding = a_binding().with_tools(*draw(tools)).with_resources(*draw(uris)).permitting(**draw(permissions(readable)))
    bindings = draw(st.sampled_from([(binding,), (binding,), (binding.named("other"),), ()]))
    return agent.build(), policy.build(), tuple(one.build() for one in bindings)


def permitted(found: tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]], stage: Stage) -> frozenset[str]:
    """Return the calls that a guard of the placement lets pass."""
    bundle = bundle_of(found, stage)
    state = State(agent_uid=bundle.agent.uid, contact_at=0.0)
    calls = [
        DecisionInput("crm", TOOLS_CALL, name, arguments, annotations=hints, definition=PIN)
        for name in NAMES
        for arguments in ARGUMENTS
        for hints in HINTS
    ]
    calls += [DecisionInput("crm", RESOURCES_READ, uri=uri) for uri in URIS]
    return frozenset(str(call) for call in calls if isinstance(decide(bundle, state, call, 0.0), Allow))


def bundle_of(found: tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]], stage: Stage) -> Bundle:
    agent, policy, bindings = found
    placement = Placement(
        agent=agent,
        policy=policy,
        stage=stage,
        revision="r",
        sources=bound_sources(agent, bindings, stage.environment),
        replicas=1,
        guard_image="",
    )
    bundle = compile_bundle(placement)
    pins = tuple(Pin(name, PIN) for name in NAMES)
    return replace(bundle, sources=tuple(replace(source, pins=pins) for source in bundle.sources))


@requirement("revision.narrower")
@settings(max_examples=120, deadline=None)
@given(before=objects(), today=objects(), stage=st.sampled_from([0, 1]))
def test_a_revision_permits_no_more_than_its_review_and_no_more_than_today(
    before: tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]],
    today: tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]],
    stage: int,
) -> None:
    entered = before[0].spec.stages[stage]
    content = content_of(*before)
    now = effective(content, *today, stage=entered)
    calls = permitted(now[:3], entered)
    assert calls <= permitted(before, entered)
    # The agent itself is the reviewed one: policy and bindings narrow it.
    labelled = today[0].metadata.model_copy(update={"labels": before[0].metadata.labels})
    reviewed_agent = now.agent.model_copy(update={"metadata": labelled})
    assert calls <= permitted((reviewed_agent, today[1], today[2]), entered)


@requirement("revision.narrower")
@settings(max_examples=60, deadline=None)
@given(today=objects())
def test_what_was_just_reviewed_is_what_today_says(
    today: tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]],
) -> None:
    content = parse_content(content_of(*today).to_kubernetes())
    assert effective(content, *today) == Effective(*today)
    assert effective(content, *today, stage=today[0].spec.stages[0]) == Effective(*today)
    assert not needs_revision(content, *today)
    assert content.digest == content_of(*today).digest


@requirement("revision.narrower")
@settings(max_examples=60, deadline=None)
@given(before=objects(), today=objects())
def test_what_needs_no_revision_permits_no_more_than_what_was_reviewed(
    before: tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]],
    today: tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]],
) -> None:
    today = (today[0].model_copy(update={"spec": before[0].spec}), *today[1:])
    if needs_revision(content_of(*before), *today):
        return
    for stage in before[0].spec.stages:
        assert permitted(today, stage) <= permitted(before, stage)
