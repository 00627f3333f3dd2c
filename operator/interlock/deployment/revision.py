"""A revision names everything in an Agent's spec that makes it behave as it does."""

import hashlib
import json

from interlock.api.agent import AgentSpec


def revision_of(spec: AgentSpec) -> str:
    """Return the revision: ten hexadecimal digits over template, files and bindings.

    Owner, purpose, policy, replicas and the rollout's own times are not behaviour: changing them starts no new
    revision.
    """
    behaviour = spec.model_dump(
        by_alias=True, exclude_none=True, mode="json", include={"template", "files", "bindings"}
    )
    text = json.dumps(behaviour, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]
