"""The environments of an AgentPolicy: class, isolation and budgets of each, and the three that every policy has."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from interlock.api.markers import Rule, cel_sentence, kube
from interlock.api.messages import (
    AUDIT_OUTSIDE_DEVELOPMENT,
    ENVIRONMENT_CLASS_FIXED,
    ENVIRONMENT_CLASS_MISSING,
    format_message,
    plain,
    quoted,
)
from interlock.api.shared_types import ApiModel, EnvironmentClass
from interlock.api.text import EnvironmentName, Money
from interlock_contract.bundle import EnforcementMode

Isolation = Literal["Shared", "Separate"]

_CLASSES = [one.value for one in EnvironmentClass]
MAX_ENVIRONMENTS = 16
"""Most environments that a policy declares."""


@dataclass(frozen=True)
class Environment:
    """What holds in one environment, with the defaults of its class.

    Attributes:
        name: Its name.
        environment_class: Its class, by which the rules of rollouts apply.
        isolation: Whether agent and guard share a pod.
        daily_budget: Most US dollars that one agent spends in a day, as a decimal string.
        monthly_budget: The same in a month; None for no limit of the month.
        mode: Whether guards deny what is not mapped and not granted. `Audit` in class development alone.
    """

    name: str
    environment_class: EnvironmentClass
    isolation: Isolation
    daily_budget: str
    monthly_budget: str | None = None
    mode: EnforcementMode = "Enforce"


DEFAULT_ENVIRONMENTS = {
    one.environment_class: one
    for one in (
        Environment("development", EnvironmentClass.DEVELOPMENT, "Shared", "50"),
        Environment("staging", EnvironmentClass.STAGING, "Separate", "200"),
        Environment("production", EnvironmentClass.PRODUCTION, "Separate", "1000"),
    )
}
"""What holds in environments of each class where a policy sets nothing else."""


class EnvironmentRules(ApiModel):
    """Rules for agents in one environment."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule=f"has(self.class) || self.name in {_CLASSES}",
                message=plain(ENVIRONMENT_CLASS_MISSING),
                message_expression=cel_sentence(ENVIRONMENT_CLASS_MISSING, name="self.name"),
            ),
            # So that rules on stages need not know the policy where an environment has the name of a class.
            Rule(
                rule=f"!has(self.class) || !(self.name in {_CLASSES}) || self.class == self.name",
                message=plain(ENVIRONMENT_CLASS_FIXED),
                message_expression=cel_sentence(ENVIRONMENT_CLASS_FIXED, name="self.name"),
                field_path=".class",
            ),
            Rule(
                rule="!has(self.mode) || self.mode == 'Enforce' || self.name == 'development'"
                " || (has(self.class) && self.class == 'development')",
                message=plain(AUDIT_OUTSIDE_DEVELOPMENT),
                message_expression=cel_sentence(AUDIT_OUTSIDE_DEVELOPMENT, name="self.name"),
                field_path=".mode",
            ),
        ),
    )

    name: EnvironmentName
    """Its name, which Agents and MCPBindings use. Rules for development, staging and production replace defaults."""

    environment_class: EnvironmentClass | None = Field(default=None, alias="class")
    """Its class, by which the order and the minimums of rollouts apply. Required if the name is not that of a class."""

    isolation: Isolation | None = None
    """Shared: agent and guard in one pod, no egress boundary. Separate: the agent's pod reaches only its guard.
    Absent: Shared in environments of class development, else Separate."""

    daily_budget: Money | None = None
    """Most US dollars that one agent spends in a day. Absent: 50, 200 or 1000 by class."""

    monthly_budget: Money | None = None
    """Most US dollars that one agent spends in a month. Absent: no limit of the month."""

    mode: EnforcementMode = Field(default="Enforce", json_schema_extra=kube(default="Enforce"))
    """Audit: guards record calls of tools that are not mapped, and calls without a grant, and let them pass. Only in
    class development, and only for MCPBindings whose environments are all of class development."""

    @model_validator(mode="after")
    def _refuse(self) -> "EnvironmentRules":
        is_class = self.name in _CLASSES
        if not is_class and self.environment_class is None:
            raise ValueError(format_message(ENVIRONMENT_CLASS_MISSING, name=quoted(self.name)))
        if is_class and self.environment_class not in {None, self.name}:
            raise ValueError(format_message(ENVIRONMENT_CLASS_FIXED, name=quoted(self.name)))
        if self.mode == "Audit" and self.resolved.environment_class is not EnvironmentClass.DEVELOPMENT:
            raise ValueError(format_message(AUDIT_OUTSIDE_DEVELOPMENT, name=quoted(self.name)))
        return self

    @property
    def resolved(self) -> Environment:
        """The rules with the defaults of their class."""
        environment_class = self.environment_class or EnvironmentClass(self.name)
        default = DEFAULT_ENVIRONMENTS[environment_class]
        return Environment(
            name=self.name,
            environment_class=environment_class,
            isolation=self.isolation or default.isolation,
            daily_budget=default.daily_budget if self.daily_budget is None else self.daily_budget,
            monthly_budget=self.monthly_budget,
            mode=self.mode,
        )


FORMER_ENVIRONMENTS: JsonDict = {
    "type": "object",
    "properties": {"isolation": {"type": "string", "maxLength": 16, "description": "As in the list."}},
}
"""Schema of the values of the map that AgentPolicies had here before environments were a list.

It stands as `additionalProperties` next to `items`. Otherwise the API server would prune the maps that are stored, and
such policies would lose their isolation. A new object with a map is refused: its type is not array.
"""


def _as_list(stored: Any) -> Any:
    """Read the map of an AgentPolicy that was stored before environments were a list.

    `{"staging": {"isolation": "Shared"}}` becomes `[{"name": "staging", "isolation": "Shared"}]`.
    """
    if not isinstance(stored, dict):
        return stored
    return [{**rules, "name": name} if isinstance(rules, dict) else rules for name, rules in stored.items()]


ClassOf = Callable[[str], EnvironmentClass]
"""Says of which class an environment is, by its name."""


def class_of_name(name: str) -> EnvironmentClass:
    """Return the class of an environment whose policy is unknown. One of another name is held to production's rules."""
    return EnvironmentClass(name) if name in _CLASSES else EnvironmentClass.PRODUCTION


Environments = Annotated[tuple[EnvironmentRules, ...], BeforeValidator(_as_list)]


def find_environment(environments: tuple[EnvironmentRules, ...], name: str) -> Environment | None:
    """Return what holds in an environment of a policy, None if it has none of that name.

    The environments development, staging and production are always there.
    """
    declared = next((one for one in environments if one.name == name), None)
    if declared is not None:
        return declared.resolved
    return next((one for one in DEFAULT_ENVIRONMENTS.values() if one.name == name), None)
