"""Who began a run of a revision: never a user who did something else."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.deployment.content import Content, content_of
from interlock.governance.authors import Author
from interlock.orchestration.rollout_decision import RolloutDecision, RolloutEvent, RolloutEventType
from interlock.orchestration.rollout_state import RevisionRef, RolloutFacts
from interlock.reconcile.revision_author import author_of_run
from interlock_contract.names import SPEC_AUTHOR
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, a_snapshot, an_agent

Kind = TypeVar("Kind", Agent, AgentPolicy, MCPBinding)
OLD, NEW = RevisionRef(1, "a" * 64), RevisionRef(2, "b" * 64)
UNKNOWN = Author("", is_vouched=False)


def by(written: Kind, author: str) -> Kind:
    """Return an object whose spec a user wrote last."""
    metadata = written.metadata.model_copy(update={"annotations": {SPEC_AUTHOR: author}})
    return written.model_copy(update={"metadata": metadata})


@dataclass
class Objects:
    """What a revision consists of."""

    agent: Agent
    policy: AgentPolicy
    bindings: tuple[MCPBinding, ...]

    @property
    def content(self) -> Content:
        return content_of(self.agent, self.policy, self.bindings)


BEFORE = Objects(by(an_agent().build(), "ada"), by(a_policy().build(), "grace"), (by(a_binding().build(), "linus"),))


def author(after: Objects, *, is_checked: bool = True, **more: Any) -> Author:
    """Return who began revision 2, which follows the objects of before."""
    known = a_snapshot().build()
    snapshot = replace(
        known, agent=after.agent, policy=after.policy, bindings=after.bindings, are_authors_checked=is_checked
    )
    events = more.pop("events", ())
    given: dict[str, Any] = {"newest": OLD, "before": BEFORE.content, "after": after.content, **more}
    return author_of_run(snapshot, NEW, RolloutDecision(RolloutFacts(newest=NEW), events=events), **given)


def event(kind: RolloutEventType, ref: RevisionRef = NEW) -> RolloutEvent:
    return RolloutEvent(kind, ref, by="mallory")


CHANGED = replace(BEFORE, agent=by(an_agent().with_template(image="example/agent:2").build(), "eve"))


@requirement("revision.author")
def test_the_author_is_the_user_who_wrote_the_spec_that_differs() -> None:
    assert author(CHANGED) == Author("eve", is_vouched=True)
    assert author(CHANGED, newest=None, before=None) == Author("eve", is_vouched=True)
    other = replace(BEFORE, bindings=(by(a_binding().permitting(read=["contacts"]).build(), "eve"),))
    assert author(other) == Author("eve", is_vouched=True)
    wider = a_policy().giving("triage", "crm", read=["contacts", "deals"])
    assert author(replace(BEFORE, policy=by(wider.build(), "eve"))) == Author("eve", is_vouched=True)


@requirement("revision.author")
def test_where_the_api_server_vouches_for_no_author_the_name_is_not_vouched_for() -> None:
    assert author(CHANGED, is_checked=False).is_vouched is False


@requirement("revision.author")
def test_a_change_that_is_in_no_spec_has_no_author() -> None:
    labelled = replace(BEFORE, agent=by(an_agent().labelled(team="sales").build(), "ada"))
    assert labelled.content != BEFORE.content
    assert author(labelled) == UNKNOWN
    assert author(replace(BEFORE, bindings=())) == UNKNOWN, "a binding was removed"


@requirement("revision.author")
def test_accepted_pins_have_no_author() -> None:
    (reviewed,) = BEFORE.content.bindings.values()
    earlier = reviewed.model_copy(update={"pins": reviewed.pins.model_copy(update={"instructions": "0" * 64})})
    before = BEFORE.content.model_copy(update={"bindings": dict.fromkeys(BEFORE.content.bindings, earlier)})
    assert author(BEFORE, before=before) == UNKNOWN


@requirement("revision.author")
@pytest.mark.parametrize("kind", [RolloutEventType.REVISION_STARTED, RolloutEventType.ROLLED_BACK])
def test_a_run_that_a_command_begins_has_the_user_who_gave_it(kind: RolloutEventType) -> None:
    assert author(CHANGED, events=(event(kind),)) == Author("mallory", is_vouched=True)
    assert author(CHANGED, events=(event(kind, OLD),)) == Author("eve", is_vouched=True)
    assert author(CHANGED, events=(event(RolloutEventType.APPROVED),)) == Author("eve", is_vouched=True)


@requirement("revision.author")
def test_a_run_that_is_stored_again_or_follows_an_unknown_one_has_no_author() -> None:
    assert author(CHANGED, newest=NEW) == UNKNOWN
    assert author(CHANGED, before=None) == UNKNOWN


def test_an_equal_content_that_begins_again_has_the_author_of_the_agents_stages() -> None:
    assert author(BEFORE) == Author("ada", is_vouched=True)
