"""The selection of Agents by a row of a policy: by their names, or by their labels."""

from typing import Any

from pydantic import Field

from interlock.api.markers import Rule, cel_pattern, cel_sentence, kube
from interlock.api.messages import LABEL_KEY, LABEL_VALUE, LABELS_INVALID, SELECTOR_EMPTY, plain
from interlock.api.shared_types import ApiModel, ObjectMeta
from interlock.api.text import LabelValue


def match_labels_field(*, empty: str, invalid: str) -> Any:
    """Return the field `matchLabels` of a selector: at least one label, which could be one of Kubernetes.

    Args:
        empty: The message about a selector without labels.
        invalid: The message about what is no label.
    """
    return Field(
        max_length=8,
        json_schema_extra=kube(
            Rule(rule="size(self) > 0", message=empty),
            Rule(
                rule=f"self.all(k, size(k) <= 317 && k.matches({cel_pattern(LABEL_KEY)})"
                f" && self[k].matches({cel_pattern(LABEL_VALUE)}))",
                message=invalid,
            ),
        ),
    )


class AgentSelector(ApiModel):
    """Selects Agents by their labels."""

    match_labels: dict[str, LabelValue] = match_labels_field(empty=SELECTOR_EMPTY, invalid=LABELS_INVALID)
    """Labels that an Agent must carry, all of them with these very values; at least one."""


def agents_or_selector(template: str, **parts: str) -> Rule:
    """Return the rule on a row that names Agents: exactly one of agents and agentSelector is set.

    Args:
        template: The message, see `cel_sentence`.
        parts: The CEL expressions for what it leaves open.
    """
    return Rule(
        rule="has(self.agents) != has(self.agentSelector)",
        message=plain(template),
        message_expression=cel_sentence(template, **parts),
    )


def selects(agents: tuple[str, ...] | None, selector: AgentSelector | None, agent: ObjectMeta) -> bool:
    """Return True if a row applies to an Agent. A row with both names and labels applies to none.

    Args:
        agents: The names in the row.
        selector: The labels in the row.
        agent: The Agent's metadata.
    """
    if selector is None:
        return agents is not None and agent.name in agents
    wanted = selector.match_labels.items()
    return agents is None and bool(wanted) and wanted <= agent.labels.items()
