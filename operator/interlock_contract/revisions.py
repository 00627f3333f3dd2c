"""What a stored revision says of itself: the ControllerRevision that the operator writes and users read. No I/O.

metadata:
  name: support-7-3f2a91c04b            # <agent>-<number>-<first 10 digits of the digest>
  annotations:
    interlock.dev/content-digest: 3f2a91c04b...
    interlock.dev/author: ada@example.com
    interlock.dev/author-vouched: "false"
    interlock.dev/change-cause: commit 4be1f20
    interlock.dev/tag: v1.4
revision: 7
data: {...}                             # the content
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from interlock_contract.canonical_json import canonicalize, digest_of, is_digest
from interlock_contract.clock import read_time
from interlock_contract.names import (
    AGENT_LABEL,
    API_VERSION,
    APP_MANAGED_BY_LABEL,
    CHANGE_CAUSE,
    CONTENT_DIGEST,
    MANAGED_BY,
    REVISION_AUTHOR,
    REVISION_AUTHOR_VOUCHED,
    REVISION_TAG,
)

SHORT_DIGEST: Final = 10
"""Digits of the digest in the name of a revision."""
MAX_NUMBER: Final = 2**53 - 1
MAX_AUTHOR: Final = 253
MAX_CAUSE: Final = 512
MAX_TAG: Final = 63
TRUE: Final = "true"
_UNKNOWN: Final = datetime.max.replace(tzinfo=UTC)


def revision_name(number: int, digest: str) -> str:
    """Return what people write into annotations, such as `7-3f2a91c04b`."""
    return f"{number}-{digest[:SHORT_DIGEST]}"


def printable(text: str, limit: int) -> str:
    """Return a text of a user in one line of at most so many characters. What is not printable becomes `?`."""
    shown = "".join(one if one.isprintable() else "?" for one in text[: limit + 1].strip())
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


@dataclass(frozen=True)
class RevisionNotes:
    """What is noted about a revision, besides its content.

    Attributes:
        author: Who wrote what began it; empty if nothing says so.
        is_vouched: The API server vouches for the author. Else the name is what a field manager calls itself.
        cause: Why, in the author's words; it may name a commit.
        tag: The author's name of the revision, such as v1.4.
    """

    author: str = ""
    is_vouched: bool = False
    cause: str = ""
    tag: str = ""


@dataclass(frozen=True)
class StoredRevision:
    """One ControllerRevision of an agent, as it is stored.

    Attributes:
        number: Its number.
        digest: SHA-256 of its content in hex.
        created_at: When it was created, in UTC.
        notes: What is noted about it.
        data: Its content as JSON.
    """

    number: int
    digest: str
    created_at: datetime
    notes: RevisionNotes
    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name that people write, such as `7-3f2a91c04b`."""
        return revision_name(self.number, self.digest)


class RevisionUnreadableError(ValueError):
    """A ControllerRevision is not one that the operator wrote for this agent. The message names what is wrong."""


def read_stored_revision(found: Mapping[str, Any], agent: str, agent_uid: str) -> StoredRevision:
    """Read a ControllerRevision.

    Args:
        found: The object as the API server has it.
        agent: The name of the Agent.
        agent_uid: Its uid.

    Raises:
        RevisionUnreadableError: It belongs to something else, or its content is not what its digest says.
    """
    metadata, number, data = found.get("metadata") or {}, found.get("revision"), found.get("data")
    name = metadata.get("name", "")
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    digest = annotations.get(CONTENT_DIGEST)
    if not _is_owned(metadata.get("ownerReferences") or [], agent, agent_uid):
        raise _unreadable(name, f"its owner is not Agent {agent} with uid {agent_uid}")
    if labels.get(APP_MANAGED_BY_LABEL) != MANAGED_BY or labels.get(AGENT_LABEL) != agent:
        raise _unreadable(name, "it lacks the labels of the operator")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= MAX_NUMBER:
        raise _unreadable(name, "its revision is no number from 1")
    if not is_digest(digest):
        raise _unreadable(name, f"its annotation {CONTENT_DIGEST} is no SHA-256")
    if name != f"{agent}-{revision_name(number, digest)}":
        raise _unreadable(name, f"its name is not {agent}-{revision_name(number, digest)}")
    if not isinstance(data, dict) or digest_of(canonicalize(data)) != digest:
        raise _unreadable(name, f"its content is not what its annotation {CONTENT_DIGEST} says")
    created_at = read_time(metadata.get("creationTimestamp"), _UNKNOWN)
    if created_at is _UNKNOWN:
        raise _unreadable(name, "its creationTimestamp is no time")
    return StoredRevision(number, digest, created_at, _notes(annotations), data)


def _notes(annotations: Mapping[str, str]) -> RevisionNotes:
    return RevisionNotes(
        author=printable(annotations.get(REVISION_AUTHOR, ""), MAX_AUTHOR),
        is_vouched=annotations.get(REVISION_AUTHOR_VOUCHED) == TRUE,
        cause=printable(annotations.get(CHANGE_CAUSE, ""), MAX_CAUSE),
        tag=printable(annotations.get(REVISION_TAG, ""), MAX_TAG),
    )


def _is_owned(owners: list[Any], agent: str, agent_uid: str) -> bool:
    wanted = {"apiVersion": API_VERSION, "kind": "Agent", "name": agent, "uid": agent_uid, "controller": True}
    return any(isinstance(owner, dict) and wanted.items() <= owner.items() for owner in owners)


def _unreadable(name: str, why: str) -> RevisionUnreadableError:
    return RevisionUnreadableError(f"ControllerRevision {name} cannot be used, because {why}")
