"""The reference page of revisions: what a change of each field does."""

from typing import Final

from interlock.deployment.field_classes import FIELDS, KINDS, field_paths
from interlock.deployment.field_groups import FieldClass
from tools.reference.pages import GENERATED

_INTRODUCTION: Final = (
    "A *revision* is what an agent was reviewed with: the parts of its Agent, its AgentPolicy and its MCPBindings that "
    "decide how it behaves. This page says of each field whether a change of it goes through the stages of the rollout "
    "as a new revision, or takes effect immediately."
)
_MEANING: Final = {
    FieldClass.STAGED: (
        "a change starts a new revision, which goes through the stages. Earlier revisions keep the value that they "
        "began with"
    ),
    FieldClass.NARROWER: (
        "each revision obeys the value that it began with and today's, whichever is narrower. So what narrows takes "
        "effect immediately in all revisions, and what widens starts a new one. A rollback never widens anything"
    ),
    FieldClass.IMMEDIATE: "a change takes effect immediately in all revisions, and starts none",
    FieldClass.ROLLOUT: "the field describes the rollout itself, and is in no revision",
}
_RULES: Final = """
* Only what concerns the agent is in its revision: its rows of the access matrix, the providers of its models, and the
  bindings of its sources in the environments of its stages. A change for other agents starts no revision.
* Today's policy and bindings narrow a revision, and today's Agent does not. The sources, models and permissions that an
  Agent lists go through the stages, also if there are fewer of them.
* The pins of tools, prompts and instructions of stdio servers belong to the revision. What is accepted of the same HTTP
  server takes effect immediately. A revision with another URL keeps the pins that it began with.
* MCPBindings are compared by their names. If another MCPBinding replaces one, earlier revisions lose the source. Change
  the MCPBinding itself instead.
* Where globs of both maps match some names in common, and neither matches all names of the other, earlier revisions are
  denied these names until the new revision has passed the stages.
* A new revision begins only after the servers that it uses were verified as today's MCPBindings describe them.
* The content of ConfigMaps belongs to the revision, as far as containers of the agent and of its stdio servers
  [refer to it](../explanation/rollouts.md#configmaps). Only the keys that are referred to are in it.
* Values of Secrets, and certificates of `caFrom`, are in no revision: a new value takes effect immediately.
"""


def revisions_page() -> str:
    """Return docs/reference/revisions.md: the class of each field, and what a change of it does."""
    lines = ["# Fields of a revision", "", GENERATED, "", _INTRODUCTION, "", "| class | meaning |", "|---|---|"]
    lines += [f"| `{field_class}` | {meaning} |" for field_class, meaning in _MEANING.items()]
    lines += ["", *_RULES.strip().splitlines()]
    for kind in KINDS:
        lines += ["", f"## {kind}", "", "| field | class | what a change does |", "|---|---|---|"]
        for path in field_paths(kind):
            rule = FIELDS[path]
            lines.append(f"| `{path.removeprefix(f'{kind}.')}` | `{rule.field_class}` | {rule.effect} |")
    return "\n".join(lines) + "\n"
