"""ControllerRevisions: what is written is read back, what is not ours is not used, and the history is bounded."""

import copy
from datetime import timedelta
from typing import Any

import pytest

from interlock.api.pod_policy import PodMaximums
from interlock.deployment.children.resources import bounded_defaults
from interlock.deployment.children.revisions import build_revision, notes_of, read_revision, surplus_revisions
from interlock.deployment.content import MAX_CONTENT_BYTES, content_of, content_size_refusal
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.clock import write_time
from interlock_contract.names import CHANGE_CAUSE, CONTENT_DIGEST, KUBERNETES_CHANGE_CAUSE, REVISION_TAG
from interlock_contract.revisions import RevisionNotes, RevisionUnreadableError, StoredRevision
from tests.requirements import requirement
from tests.support.builders import NOW, AgentBuilder, a_binding, a_policy, an_agent

AGENT = an_agent().calling("openai/gpt-4o").with_files({"prompt.md": "Be kind."})
CONTENT = content_of(AGENT.build(), a_policy().build(), (a_binding().build(),))
NOTES = RevisionNotes("ada@example.com", is_vouched=True, cause="commit 4be1f20", tag="v1.4")


def annotated(**annotations: str) -> AgentBuilder:
    raw = copy.deepcopy(AGENT.raw)
    raw["metadata"]["annotations"] = annotations
    return AgentBuilder(raw)


def stored(number: int = 7) -> dict[str, Any]:
    """Return a ControllerRevision as the API server would give it."""
    manifest = build_revision(AGENT.build(), number, CONTENT.digest, CONTENT.to_kubernetes(), NOTES)
    manifest["metadata"]["creationTimestamp"] = write_time(NOW, "seconds")
    return manifest


@requirement("revision.history")
def test_a_revision_is_read_back_as_it_was_written() -> None:
    found, content = read_revision(stored(), AGENT.build())
    assert content == CONTENT
    assert found == StoredRevision(7, CONTENT.digest, NOW, NOTES, CONTENT.to_kubernetes())
    assert stored()["metadata"]["name"] == f"triage-{found.name}" == f"triage-7-{CONTENT.digest[:10]}"


@requirement("revision.history")
@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("metadata/ownerReferences", [], "its owner is not Agent triage"),
        ("metadata/ownerReferences/0/uid", "uid-of-an-earlier-triage", "its owner is not Agent triage"),
        ("metadata/ownerReferences/0/controller", False, "its owner is not Agent triage"),
        ("metadata/labels/app.kubernetes.io~managed-by", "helm", "the labels of the operator"),
        ("metadata/name", "triage-8-0123456789", "its name is not"),
        ("revision", 8, "its name is not"),
        ("revision", 0, "no number from 1"),
        ("revision", True, "no number from 1"),
        ("data", {}, "its content is not what"),
        ("data/agent/template/image", "evil/agent:1", "its content is not what"),
        ("metadata/annotations/interlock.dev~content-digest", "0" * 63, "is no SHA-256"),
        ("metadata/annotations/interlock.dev~content-digest", "0" * 64, "its name is not"),
        ("metadata/creationTimestamp", "yesterday", "is no time"),
    ],
)
def test_what_the_operator_did_not_write_is_not_used(path: str, value: Any, why: str) -> None:
    one = stored()
    *parents, last = (part.replace("~", "/") for part in path.split("/"))
    at: Any = one
    for part in parents:
        at = at[int(part)] if part.isdigit() else at[part]
    at[last] = value
    with pytest.raises(RevisionUnreadableError, match=why):
        read_revision(one, AGENT.build())


@requirement("revision.history")
def test_a_content_of_another_version_is_named() -> None:
    data = {**CONTENT.to_kubernetes(), "later": 1}
    from_later = build_revision(AGENT.build(), 7, CONTENT.digest, data, NOTES)
    assert from_later["metadata"]["annotations"][CONTENT_DIGEST] == CONTENT.digest
    with pytest.raises(RevisionUnreadableError, match="its content is not what"):
        read_revision(from_later, AGENT.build())


@requirement("revision.history")
def test_a_content_that_this_version_cannot_read_is_named() -> None:
    data = {**CONTENT.to_kubernetes(), "later": 1}
    one = build_revision(AGENT.build(), 7, digest_of(canonicalize(data)), data, NOTES)
    one["metadata"]["creationTimestamp"] = write_time(NOW, "seconds")
    with pytest.raises(RevisionUnreadableError, match="this version cannot read its content: later"):
        read_revision(one, AGENT.build())


@requirement("revision.history", "operator.unreadable")
def test_a_content_with_a_limit_of_zero_that_an_earlier_version_stored_can_be_read() -> None:
    """It runs already, and a policy with a maximum refuses it."""
    data = CONTENT.to_kubernetes()
    data["agent"]["template"]["resources"] = {"limits": {"memory": "0"}}
    data["policy"]["resources"] = {"default": {"cpu": "0", "memory": "0"}, "tmpSizeLimit": "0"}
    one = build_revision(AGENT.build(), 7, digest_of(canonicalize(data)), data, NOTES)
    one["metadata"]["creationTimestamp"] = write_time(NOW, "seconds")
    _, content = read_revision(one, AGENT.build())
    assert content.agent.template.resources is not None
    assert content.agent.template.resources.limits is not None
    assert content.agent.template.resources.limits.memory == "0"
    defaults = bounded_defaults(content.policy.resources, PodMaximums())
    assert (defaults.default.cpu, defaults.default.memory, defaults.tmp_size_limit) == ("0", "0", "0"), "pods stay"
    defaults = bounded_defaults(content.policy.resources, PodMaximums(cpu="2", memory="1Gi", empty_dir="1Gi"))
    assert (defaults.default.cpu, defaults.default.memory, defaults.tmp_size_limit) == ("2", "1Gi", "1Gi")


@requirement("revision.history")
def test_the_agent_says_cause_and_tag() -> None:
    agent = annotated(**{CHANGE_CAUSE: "commit 4be1f20", KUBERNETES_CHANGE_CAUSE: "other", REVISION_TAG: "v1.4"})
    assert notes_of(agent.build(), "ada@example.com", is_vouched=True) == NOTES
    of_kubectl = annotated(**{KUBERNETES_CHANGE_CAUSE: "kubectl apply"})
    assert notes_of(of_kubectl.build(), "kubectl", is_vouched=False) == RevisionNotes("kubectl", cause="kubectl apply")


@requirement("revision.history")
def test_an_unknown_author_is_not_vouched_for() -> None:
    assert not notes_of(AGENT.build(), "", is_vouched=True).is_vouched


@requirement("revision.history")
def test_notes_are_bounded_and_printable() -> None:
    agent = annotated(**{CHANGE_CAUSE: "a\n\x1b[31mb\u202e" + "c" * 1000, REVISION_TAG: "v" * 100})
    notes = notes_of(agent.build(), "d" * 1000, is_vouched=False)
    assert notes.cause.startswith("a??[31mb?c")
    assert [len(text) for text in (notes.cause, notes.tag, notes.author)] == [512, 63, 253]


@requirement("revision.history")
def test_a_content_too_large_to_be_stored_is_refused_with_what_is_large_in_it() -> None:
    assert content_size_refusal(CONTENT) is None
    bindings = tuple(
        a_binding(f"crm-{number}").serving(f"s{number}", "development").with_tools(*MANY).build() for number in range(9)
    )
    agent = AGENT.using(*(f"s{number}" for number in range(9))).build()
    refusal = content_size_refusal(content_of(agent, a_policy().build(), bindings))
    assert refusal is not None
    assert f"more than the {MAX_CONTENT_BYTES}" in refusal
    assert "crm-0" in refusal


MANY = [
    {
        "name": f"tool-{number}",
        "operation": "read",
        "resource": "contacts",
        "arguments": [{"pointer": "/a", "enum": ["x" * 250, "y" * 250]}],
    }
    for number in range(256)
]


def revision(number: int, days: int = 0) -> StoredRevision:
    return StoredRevision(number, f"{number:064x}", NOW - timedelta(days=days), RevisionNotes(), {})


@requirement("revision.history")
def test_the_newest_revisions_are_kept_and_the_oldest_go_first() -> None:
    found = surplus_revisions([revision(number) for number in (3, 1, 5, 2, 4)], (), NOW, count=3)
    assert [one.number for one in found] == [1, 2]


@requirement("revision.history")
def test_what_runs_and_the_last_good_one_stay_however_old() -> None:
    all_of_them = [revision(number, days=100) for number in range(1, 6)]
    found = surplus_revisions(all_of_them, {1, 3}, NOW, count=1, max_age=timedelta(days=1))
    assert [one.number for one in found] == [2, 4]


@requirement("revision.history")
def test_the_newest_stays_with_any_bounds() -> None:
    assert surplus_revisions([revision(1, days=100)], (), NOW, count=0, max_age=timedelta()) == ()


@requirement("revision.history")
def test_revisions_go_by_age_too() -> None:
    found = surplus_revisions([revision(1, 9), revision(2, 5), revision(3, 8)], (), NOW, count=9, max_age=timedelta(7))
    assert [one.number for one in found] == [1]


def test_a_revision_that_a_rollback_can_name_stays_however_many_are_newer_and_not_longer_than_its_time() -> None:
    stored = [revision(1, 9), revision(2, 5), revision(3, 1), revision(4, 0)]

    assert [one.number for one in surplus_revisions(stored, (), NOW, count=1, passed={1, 2})] == [3]
    found = surplus_revisions(stored, (), NOW, count=1, max_age=timedelta(7), passed={1, 2})
    assert [one.number for one in found] == [1, 3]
