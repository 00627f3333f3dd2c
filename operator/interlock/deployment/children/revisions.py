"""The ControllerRevisions of an agent: each holds what one revision was reviewed with, and notes about it.

`interlock_contract.revisions` reads them, since users print a changelog from them. The data of a ControllerRevision
cannot be changed, and admission policies reserve these for the operator. Even so a content is used only if its digest
is the recorded one.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from interlock.api.agent import Agent
from interlock.deployment.content import Content, ContentInvalidError, parse_content
from interlock.deployment.names import Manifest, agent_labels, build_child
from interlock_contract.names import (
    CHANGE_CAUSE,
    CONTENT_DIGEST,
    KUBERNETES_CHANGE_CAUSE,
    REVISION_AUTHOR,
    REVISION_AUTHOR_VOUCHED,
    REVISION_TAG,
)
from interlock_contract.revisions import (
    MAX_AUTHOR,
    MAX_CAUSE,
    MAX_TAG,
    RevisionNotes,
    RevisionUnreadableError,
    StoredRevision,
    printable,
    read_stored_revision,
    revision_name,
)

CONTROLLER_REVISION = "ControllerRevision"
REVISION = "revision"
"""Value of the component label."""


def notes_of(agent: Agent, author: str, *, is_vouched: bool) -> RevisionNotes:
    """Return the notes about a revision that begins now.

    Args:
        agent: The Agent, whose annotations may say a cause and a tag.
        author: Who wrote what begins it; empty if nothing says so.
        is_vouched: Whether the API server vouches for the author.
    """
    annotations = agent.metadata.annotations
    cause = annotations.get(CHANGE_CAUSE) or annotations.get(KUBERNETES_CHANGE_CAUSE, "")
    return RevisionNotes(
        author=printable(author, MAX_AUTHOR),
        is_vouched=is_vouched and bool(author),
        cause=printable(cause, MAX_CAUSE),
        tag=printable(annotations.get(REVISION_TAG, ""), MAX_TAG),
    )


def revision_object_name(agent: str, number: int, digest: str) -> str:
    """Return the name of a ControllerRevision: `<agent>-<number>-<10 hexadecimal digits>`."""
    return f"{agent}-{revision_name(number, digest)}"


def build_revision(agent: Agent, number: int, digest: str, data: Mapping[str, Any], notes: RevisionNotes) -> Manifest:
    """Return the ControllerRevision of a revision.

    Args:
        agent: The Agent.
        number: The revision's number.
        digest: The digest of its content.
        data: Its content as JSON. A retry stores what is stored already, so this is no `Content`.
        notes: What is noted about it.
    """
    manifest = build_child(
        agent,
        "apps/v1",
        CONTROLLER_REVISION,
        revision_object_name(agent.metadata.name, number, digest),
        agent_labels(agent, REVISION),
        revision=number,
        data=dict(data),
    )
    optional = {REVISION_AUTHOR: notes.author, CHANGE_CAUSE: notes.cause, REVISION_TAG: notes.tag}
    manifest["metadata"]["annotations"] = {
        CONTENT_DIGEST: digest,
        REVISION_AUTHOR_VOUCHED: "true" if notes.is_vouched else "false",
        **{name: text for name, text in optional.items() if text},
    }
    return manifest


def read_revision(found: Mapping[str, Any], agent: Agent) -> tuple[StoredRevision, Content]:
    """Read a ControllerRevision of an agent with its content.

    Args:
        found: The object as the API server has it.
        agent: The Agent.

    Raises:
        RevisionUnreadableError: It is not one that the operator wrote for this agent, or this version cannot read it.
    """
    stored = read_stored_revision(found, agent.metadata.name, agent.metadata.uid)
    try:
        return stored, parse_content(stored.data)
    except ContentInvalidError as error:
        name = revision_object_name(agent.metadata.name, stored.number, stored.digest)
        message = f"ControllerRevision {name} cannot be used, because this version cannot read its content: {error}"
        raise RevisionUnreadableError(message) from None


def surplus_revisions(
    stored: Iterable[StoredRevision],
    needed: Collection[int],
    now: datetime,
    *,
    count: int,
    max_age: timedelta | None = None,
    passed: Collection[int] = (),
) -> tuple[StoredRevision, ...]:
    """Return the revisions that the history no longer keeps, the oldest first.

    Args:
        stored: The stored revisions, in any order.
        needed: The numbers of revisions that a placement runs, and of the last good one. They stay, as the newest does.
        now: The time.
        count: How many of the newest are kept.
        max_age: How long others are kept; None for no bound.
        passed: The numbers of revisions that a rollback can name. They stay, however many are newer.
    """
    newest_first = sorted(stored, key=lambda one: one.number, reverse=True)
    surplus = [
        one
        for place, one in enumerate(newest_first)
        if place > 0
        and one.number not in needed
        and ((place >= count and one.number not in passed) or (max_age is not None and now - one.created_at > max_age))
    ]
    return tuple(reversed(surplus))
