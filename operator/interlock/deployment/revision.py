"""A revision names everything in an Agent's spec that makes it behave as it does."""

import hashlib
import json

from interlock.api.agent import AgentSpec


def revision_of(spec: AgentSpec) -> str:
    """Return the revision: ten hexadecimal digits over template, files, bindings, names of models, the port for tasks.

    Owner, purpose, policy, replicas, how many tasks at once and the rollout's own times are not behaviour: changing
    them starts no new revision.
    """
    behaviour = spec.model_dump(
        by_alias=True,
        exclude_none=True,
        mode="json",
        include={"template", "files", "bindings", "orchestration"},
        exclude={"orchestration": {"max_concurrent_tasks"}},
    )
    if spec.models:  # an agent without models keeps the revision that it had before there were any
        behaviour["models"] = [use.name for use in spec.models]
    text = json.dumps(behaviour, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]
