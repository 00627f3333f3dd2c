"""Who wrote what a revision consists of: the user who changed a spec last, as far as the API server vouches for it.

From Kubernetes 1.36 on the API server writes this user's name into an annotation, and an admission policy refuses any
other name, on all versions. Without such a name, the field manager says at least by which program the spec was
written. Anyone may choose the name of a field manager, so it is no one's word.
"""

from dataclasses import dataclass
from typing import Final

from interlock.api.shared_types import ObjectMeta
from interlock_contract.names import SPEC_AUTHOR

AUTHOR_POLICY: Final = "spec-author.interlock.dev"
"""The admission policy by which the annotation names the user who changed the spec last, or no one."""


@dataclass(frozen=True)
class Author:
    """Who changed the spec of an Agent, AgentPolicy or MCPBinding last.

    Attributes:
        name: The user of the API server, or the field manager; empty where neither is known.
        is_vouched: Whether the name is that of a user, checked by the API server.
    """

    name: str
    is_vouched: bool


def author_of(metadata: ObjectMeta, *, is_checked: bool) -> Author:
    """Return the author of an object's spec.

    Args:
        metadata: The object's metadata.
        is_checked: Whether `AUTHOR_POLICY` is in force; without it, users may write any name.
    """
    name = metadata.annotations.get(SPEC_AUTHOR, "") if is_checked else ""
    if name:
        return Author(name, is_vouched=True)
    return Author(metadata.managed_fields[-1].manager if metadata.managed_fields else "", is_vouched=False)
