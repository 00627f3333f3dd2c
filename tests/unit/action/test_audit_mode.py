"""Mode Audit of an environment: for which sources of an agent it holds, and what a change of it does to revisions."""

from dataclasses import replace

import pytest

from interlock.action.audit_mode import (
    NONE_STRICTER,
    StricterEnvironments,
    audited_by_environment,
    audited_sources,
    stricter_environments,
)
from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.cluster.object_parser import parse_binding
from interlock.deployment.children.config import compile_bundle
from interlock.deployment.content import content_of, parse_content
from interlock.deployment.effective import described_digest, effective, needs_revision
from interlock.governance.governed import check_governance
from interlock.reconcile.effective_permissions import AgentAccess
from interlock.reconcile.snapshot import Unreadable
from tests.support.builders import (
    AgentBuilder,
    BindingBuilder,
    PolicyBuilder,
    a_binding,
    a_placement,
    a_policy,
    a_stage,
    an_agent,
)

Today = tuple[Agent, AgentPolicy, tuple[MCPBinding, ...]]
QA = {"name": "qa", "class": "development"}
AUDIT = {"name": "development", "mode": "Audit"}
CRM, MAIL = a_binding().serving("crm", "development"), a_binding("mail").serving("mail", "development", "staging")
AGENT = an_agent().using("crm", "mail")
POLICY = a_policy().declaring(AUDIT)
STAGED = AGENT.with_stages(a_stage("dev", "development"), a_stage("staging", "staging"))


def objects(
    agent: AgentBuilder = AGENT, policy: PolicyBuilder = POLICY, bindings: tuple[BindingBuilder, ...] = (CRM, MAIL)
) -> Today:
    return agent.build(), policy.build(), tuple(one.build() for one in bindings)


def test_it_holds_for_bindings_that_serve_development_alone() -> None:
    assert audited_sources(*objects(), "development") == {"crm"}
    assert audited_sources(*objects(policy=a_policy()), "development") == set()
    of_class = a_policy().declaring(AUDIT, QA)
    both = (CRM.serving("crm", "development", "qa"),)
    assert audited_sources(*objects(policy=of_class, bindings=both), "development") == {"crm"}
    assert audited_sources(*objects(policy=of_class, bindings=both), "qa") == set(), "its mode is Enforce"
    unknown = (CRM.serving("crm", "development", "moon"),)
    assert audited_sources(*objects(bindings=unknown), "development") == set(), "an unknown class is that of production"


def test_a_row_of_the_map_that_cannot_be_read_ends_it_as_long_as_that_lasts() -> None:
    """The mode lets calls of tools without a row pass, without the rules of the row."""
    broken = CRM.with_tools({"name": "get_contact", "operation": "look", "resource": "contacts"}).to_kubernetes()
    found = parse_binding(broken)
    assert isinstance(found, Unreadable)
    assert isinstance(found.rest, MCPBinding)
    agent, policy, _ = objects()
    assert audited_sources(agent, policy, (CRM.build(),), "development") == {"crm"}
    assert audited_sources(agent, policy, (found.rest,), "development") == set()


LAB = {"name": "lab", "class": "development", "mode": "Audit"}


def test_of_the_classes_that_policies_give_an_environment_the_strictest_counts() -> None:
    """The attack: a policy of one's own calls development what another one of the namespace holds for production."""
    policy = a_policy().declaring(AUDIT, LAB).build()

    def stricter(**others: PolicyBuilder | None) -> StricterEnvironments:
        found = {name: None if one is None else one.build() for name, one in others.items()}
        return stricter_environments(policy, {"triage": policy, **found})

    assert stricter(other=a_policy("other"), same=a_policy("same").declaring(LAB)) == NONE_STRICTER
    for name in ("staging", "production"):
        strict = a_policy("strict").declaring({"name": "lab", "class": name})
        assert stricter(other=a_policy("other"), strict=strict) == StricterEnvironments({"lab": "strict"})
    assert stricter(other=a_policy("other").declaring({"name": "far", "class": "production"})) == NONE_STRICTER
    unreadable = stricter(broken=None)
    assert unreadable == StricterEnvironments(possible={"lab": "broken"}), "anything but for development itself"
    assert unreadable.all == {"lab"}
    assert stricter(broken=None, strict=strict) == StricterEnvironments({"lab": "strict"})
    enforcing = a_policy().declaring(LAB | {"mode": "Enforce"}).build()
    assert stricter_environments(enforcing, {"broken": None}) == NONE_STRICTER, "nothing depends on it"


def test_a_binding_that_serves_an_environment_with_a_stricter_class_elsewhere_stays_enforced() -> None:
    agent, policy, bindings = objects(
        AGENT.using("crm", "mail").with_stages(a_stage("dev", "development"), a_stage("lab", "lab")),
        a_policy().declaring(AUDIT, LAB),
        (CRM.serving("crm", "development", "lab"), MAIL.serving("mail", "development")),
    )
    lab = frozenset({"lab"})
    assert audited_sources(agent, policy, bindings, "development") == {"crm", "mail"}
    assert audited_sources(agent, policy, bindings, "development", lab) == {"mail"}
    assert audited_sources(agent, policy, bindings, "lab", lab) == set()

    within = content_of(agent, policy, bindings)
    assert needs_revision(within, agent, policy, bindings, stricter=lab)
    assert effective(within, agent, policy, bindings, stricter=lab).audited["development"] == {"mail"}
    after = content_of(agent, policy, bindings, stricter=lab)
    assert after.audited == {"development": ("mail",)}
    assert not needs_revision(after, agent, policy, bindings, stricter=lab)
    known = {"within": within, "after": after}
    assert described_digest(known, agent, policy, bindings, after, stricter=lab) == "after"


def test_a_source_that_two_bindings_serve_is_in_no_mode() -> None:
    assert audited_sources(*objects(bindings=(CRM, CRM.named("second"))), "development") == set()


def test_the_bundle_has_the_mode_of_each_source() -> None:
    placement = replace(a_placement(AGENT, policy=POLICY, bindings=(CRM, MAIL)), audited=frozenset({"crm"}))
    modes = {one.name: one.mode for one in compile_bundle(placement).sources}
    assert modes == {"crm": "Audit", "mail": "Enforce"}


def test_a_revision_begins_and_ends_with_the_mode() -> None:
    """What ran in mode Audit has shown nothing about the policy, so another revision has to pass the stages."""
    enforced, audited = objects(policy=a_policy()), objects()
    before, within = content_of(*enforced), content_of(*audited)
    assert within.audited == {"development": ("crm",)}
    assert needs_revision(before, *audited)
    assert needs_revision(within, *enforced)
    assert not needs_revision(within, *audited)
    assert effective(before, *audited).audited == {}, "it was reviewed in mode Enforce"
    assert effective(within, *enforced).audited == {"development": frozenset()}, "Enforce holds immediately"
    assert effective(within, *audited).audited == {"development": {"crm"}}


def test_a_binding_that_begins_to_serve_staging_is_enforced_immediately() -> None:
    within, widened = content_of(*objects()), objects(bindings=(CRM.serving("crm", "development", "staging"), MAIL))
    assert effective(within, *widened).audited == {"development": frozenset()}
    assert needs_revision(within, *widened)


def test_a_source_that_joins_the_mode_does_so_with_the_next_revision() -> None:
    within, joined = content_of(*objects()), objects(bindings=(CRM, MAIL.serving("mail", "development")))
    assert audited_sources(*joined, "development") == {"crm", "mail"}
    assert effective(within, *joined).audited == {"development": {"crm"}}
    assert needs_revision(within, *joined)


def test_a_content_without_the_mode_is_written_as_before() -> None:
    content = content_of(*objects(policy=a_policy()))
    assert "audited" not in content.to_kubernetes()
    assert parse_content(content.to_kubernetes()) == content
    assert parse_content(content_of(*objects()).to_kubernetes()) == content_of(*objects())


def test_only_environments_of_the_agents_stages_count() -> None:
    assert audited_by_environment(*objects(STAGED)) == {"development": ("crm",)}
    assert audited_by_environment(*objects(AGENT.in_environment("staging"))) == {}


@pytest.mark.parametrize(
    ("agent", "policy", "current", "is_refused"),
    [
        (AGENT, POLICY, None, False),
        (AGENT, a_policy(), None, True),
        (STAGED, POLICY, None, False),
        (STAGED, POLICY, 0, False),
        (STAGED, POLICY, 1, True),
        (AGENT.in_environment("staging"), POLICY, None, True),
        (
            AGENT.with_stages(a_stage("qa", "qa"), a_stage("dev", "development")),
            a_policy().declaring(AUDIT, QA),
            0,
            True,
        ),
    ],
)
def test_a_missing_row_is_no_refusal_while_the_stage_is_in_mode_audit(
    agent: AgentBuilder, policy: PolicyBuilder, current: int | None, *, is_refused: bool
) -> None:
    refusal = check_governance(agent.build(), policy.giving_nothing().build(), None, current)
    assert (refusal is not None and refusal.reason == "DataAccessMissing") == is_refused


def test_the_effective_permissions_say_what_would_be_denied() -> None:
    agent, policy, bindings = objects(AGENT.using("crm"), POLICY.giving_nothing())
    rows = AgentAccess(policy, bindings).rows_of(agent)
    assert {(one.decision, one.reason) for one in rows if one.operation == "read"} <= {
        ("WouldDeny", "NotGrantedByMatrix"),
        ("WouldDeny", "NotGrantedByBinding"),
    }
    assert {one.decision for one in rows} == {"WouldDeny"}
    stricter = AgentAccess(policy, bindings, frozenset({"development"})).rows_of(agent)
    assert {one.decision for one in stricter} == {"Deny"}
