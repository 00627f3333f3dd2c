"""The revision of an Agent: the digest of what it was reviewed as, and the rule by which another revision begins.

Security rests on it: another revision starts again at the first stage, and audit records name it. So a revision is a
whole digest. An author who can choose what is hashed finds two texts with equal beginnings of their digests in seconds.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from interlock.api.agent import Agent, AgentSpec
from interlock.api.policy import AgentPolicy
from interlock.governance.access_matrix import selected_label_keys


@dataclass(frozen=True)
class Revision:
    """The revision that an Agent describes now.

    Attributes:
        digest: SHA-256 in hex, the revision itself.
        spec_digest: SHA-256 in hex of the part of the spec that belongs to it.
        labels: The labels that the Agent had when the revision began, by key, in order.
    """

    digest: str
    spec_digest: str
    labels: tuple[tuple[str, str], ...]


def revision_of(agent: Agent, policy: AgentPolicy | None) -> Revision:
    """Return the revision that the Agent describes: the recorded one, or another one that begins.

    A revision begins with other contents of the spec, or with another value of a label by whose key a row of the access
    matrix selects. So rows match the labels that the revision began with. An edit of the policy begins none, unless its
    rows begin to select by a label that has changed since the revision began.

    Args:
        agent: The Agent with its status, which records the revision that it runs.
        policy: Its policy, None where there is none that can be read; then no pod runs.
    """
    spec_digest = _digest(_reviewed_part(agent.spec))
    labels = agent.metadata.labels
    keys = sorted(selected_label_keys(policy)) if policy is not None else []
    now = {key: labels.get(key) for key in keys}
    recorded = agent.status.stage if agent.status else None
    if recorded is not None and recorded.spec_digest == spec_digest:
        before = {label.key: label.value for label in recorded.labels}
        if now == {key: before.get(key) for key in keys}:
            return Revision(recorded.revision, spec_digest, tuple(sorted(before.items())))
    return Revision(_digest([spec_digest, now]), spec_digest, tuple(sorted(labels.items())))


def _reviewed_part(spec: AgentSpec) -> dict[str, Any]:
    """Return all of a spec but owner, purpose, stages, replicas and the number of concurrent tasks."""
    return spec.model_dump(
        by_alias=True,
        exclude_none=True,
        mode="json",
        include={"policy_ref", "template", "files", "bindings", "models", "tasks"},
        exclude={"tasks": {"max_concurrent_tasks"}},
    )


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
