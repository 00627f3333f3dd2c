"""Revisions: what makes another one, what does not, and that a revision is a whole digest."""

import copy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.api.status import AgentStatus, StageLabel, StageStatus
from interlock.deployment.revision import Revision, revision_of
from tests.requirements import requirement
from tests.support.builders import NOW, AgentBuilder, PolicyBuilder, a_policy, a_stage, an_agent

BASE = an_agent().with_files({"prompt.md": "Be kind."}).calling("openai/gpt-4o")
BY_TEAM = a_policy().giving_labelled({"team": "support"}, "crm", read=["contacts"])
BY_TEAM_AND_TIER = BY_TEAM.giving_labelled({"tier": "gold"}, "crm", write=["tasks"])

LABELS = st.dictionaries(st.sampled_from(["team", "tier", "chart"]), st.sampled_from(["", "support", "gold"]))


def digest_of(agent: AgentBuilder, policy: PolicyBuilder | None = BY_TEAM) -> str:
    return revision_of(agent.build(), policy.build() if policy else None).digest


def running(agent: AgentBuilder, policy: PolicyBuilder = BY_TEAM) -> AgentBuilder:
    """Return the agent with the status that a reconcile would write."""
    revision = revision_of(agent.build(), policy.build())
    return agent.with_status(AgentStatus(stage=recorded(revision)))


def recorded(revision: Revision) -> StageStatus:
    return StageStatus(
        name="development",
        environment="development",
        revision=revision.digest,
        spec_digest=revision.spec_digest,
        labels=tuple(StageLabel(key=key, value=value) for key, value in revision.labels),
        entered_at=NOW,
    )


@requirement("revision.whole-digest")
def test_a_revision_is_a_whole_sha_256() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", digest_of(BASE))


@requirement("revision.contents")
@pytest.mark.parametrize(
    "agent",
    [
        BASE.with_template(image="example/agent:2"),
        BASE.with_template(command=["run"]),
        BASE.with_template(env=[{"name": "LEVEL", "value": "DEBUG"}]),
        BASE.with_files({"prompt.md": "Be quick."}),
        BASE.with_files({"other.md": "Be kind."}),
        BASE.using("crm", "mail"),
        BASE.using({"source": "crm", "permissions": {"read": ["contacts"]}}),
        BASE.using(),
        BASE.taking_tasks(8080),
        BASE.calling(),
        BASE.calling("openai/gpt-4o-mini"),
        BASE.calling("openai/gpt-4o", key="another-secret"),
        BASE.under("another-policy"),
    ],
)
def test_what_makes_an_agent_behave_otherwise_is_another_revision(agent: AgentBuilder) -> None:
    assert digest_of(agent) != digest_of(BASE)


@requirement("revision.contents")
def test_another_port_for_tasks_is_another_revision_and_more_tasks_at_once_are_not() -> None:
    one, other, more = BASE.taking_tasks(8080), BASE.taking_tasks(8081), BASE.taking_tasks(8080, maxConcurrentTasks=9)
    assert digest_of(one) != digest_of(other)
    assert digest_of(one) == digest_of(more)


@requirement("revision.contents")
@pytest.mark.parametrize(
    "agent",
    [
        BASE.owned_by("Grace", "grace@example.com"),
        BASE.for_purpose("Sort other tickets"),
        BASE.with_replicas(7),
        BASE.with_stages(a_stage("staging", lasting="1h")),
        BASE.named("another"),
        BASE.labelled(chart="support-1.2"),
    ],
)
def test_what_does_not_is_the_same_revision(agent: AgentBuilder) -> None:
    assert digest_of(agent) == digest_of(BASE)


@requirement("revision.labels")
@pytest.mark.parametrize("labels", [{}, {"team": "sales"}, {"team": ""}])
def test_a_label_under_a_key_that_a_row_selects_by_is_part_of_the_revision(labels: dict[str, str]) -> None:
    before = running(BASE.labelled(team="support"))
    assert digest_of(before.labelled(**labels)) != digest_of(before)


@requirement("revision.labels")
def test_an_edit_of_the_policy_begins_no_revision_whichever_labels_its_rows_select_by_then() -> None:
    agent = running(BASE.labelled(team="support", tier="gold"))
    for policy in (BY_TEAM, BY_TEAM_AND_TIER, a_policy(), None):
        assert digest_of(agent, policy) == digest_of(agent)


@requirement("revision.labels")
def test_a_label_that_a_row_began_to_select_by_in_mid_revision_is_part_of_it_from_then_on() -> None:
    agent = running(BASE.labelled(team="support", tier="gold"))
    assert digest_of(agent.labelled(team="support", tier="silver"), BY_TEAM_AND_TIER) != digest_of(agent)


@requirement("revision.labels")
def test_a_label_that_changed_before_a_row_selects_by_it_is_compared_with_the_one_that_the_revision_began_with() -> (
    None
):
    agent = running(BASE.labelled(team="support", tier="gold"))
    changed = running(agent.labelled(team="support", tier="silver"))
    assert digest_of(changed) == digest_of(agent)
    assert digest_of(changed, BY_TEAM_AND_TIER) != digest_of(agent)
    assert digest_of(changed.labelled(team="support", tier="gold"), BY_TEAM_AND_TIER) == digest_of(agent)


@requirement("revision.labels")
@settings(max_examples=100, deadline=None)
@given(before=LABELS, after=LABELS, policy=st.sampled_from([a_policy(), BY_TEAM, BY_TEAM_AND_TIER]))
def test_a_revision_goes_on_exactly_while_the_labels_that_rows_select_by_stay(
    before: dict[str, str], after: dict[str, str], policy: PolicyBuilder
) -> None:
    rows = [row for row in policy.build().spec.data_access if row.agent_selector]
    keys = {key for row in rows if row.agent_selector for key in row.agent_selector.match_labels}
    agent = running(BASE.labelled(**before), policy)
    changed = agent.labelled(**after)
    same = all(before.get(key) == after.get(key) for key in keys)
    assert (digest_of(changed, policy) == digest_of(agent, policy)) is same
    if same:
        assert [row.applies_to(changed.build().metadata) for row in rows] == [
            row.applies_to(agent.build().metadata) for row in rows
        ]


@requirement("revision.whole-digest")
def test_a_shortened_revision_of_an_older_version_is_another_revision() -> None:
    agent = running(BASE)
    raw = copy.deepcopy(agent.raw)
    raw["status"]["stage"] = {
        name: value for name, value in raw["status"]["stage"].items() if name not in ("specDigest", "labels")
    } | {"revision": digest_of(BASE)[:10]}
    assert digest_of(AgentBuilder(raw)) == digest_of(BASE)
