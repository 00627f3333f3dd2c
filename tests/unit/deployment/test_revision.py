import pytest

from interlock.deployment.placement import revision_of
from tests.support.builders import AgentBuilder, a_stage, an_agent

BASE = an_agent().with_files({"prompt.md": "Be kind."})


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
    ],
)
def test_what_makes_an_agent_behave_otherwise_is_another_revision(agent: AgentBuilder) -> None:
    assert revision_of(agent.build().spec) != revision_of(BASE.build().spec)


def test_another_port_for_tasks_is_another_revision_and_more_tasks_at_once_are_not() -> None:
    one, other, more = BASE.taking_tasks(8080), BASE.taking_tasks(8081), BASE.taking_tasks(8080, maxConcurrentTasks=9)
    assert revision_of(one.build().spec) != revision_of(other.build().spec)
    assert revision_of(one.build().spec) == revision_of(more.build().spec)


@pytest.mark.parametrize(
    "agent",
    [
        BASE.owned_by("Grace", "grace@example.com"),
        BASE.for_purpose("Sort other tickets"),
        BASE.with_replicas(7),
        BASE.with_stages(a_stage("staging", lasting="1h")),
        BASE.named("another"),
    ],
)
def test_what_does_not_is_the_same_revision(agent: AgentBuilder) -> None:
    assert revision_of(agent.build().spec) == revision_of(BASE.build().spec)
