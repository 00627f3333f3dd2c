"""Agent: one AI agent, its owner, purpose, tools, rollout and pods."""

from typing import Literal

from interlock.api.meta import API_VERSION
from interlock.api.model import ApiModel, ObjectMeta
from interlock.api.permissions import Permissions
from interlock.api.resources import Resources
from interlock.api.scope import Environment, ScopeDimension
from interlock.api.status import AgentStatus

__all__ = [
    "Agent",
    "AgentSpec",
    "BindingUse",
    "EnvVar",
    "Environment",
    "File",
    "Owner",
    "Permissions",
    "PolicyRef",
    "Resources",
    "Rollout",
    "ScopeDimension",
    "Stage",
    "Template",
]


class Owner(ApiModel):
    """The person who answers for the agent."""

    name: str = ""
    """Name of the person."""

    email: str = ""
    """The person's own e-mail address."""


class PolicyRef(ApiModel):
    """The AgentPolicy that the agent lives under."""

    name: str
    """Name of an AgentPolicy in the same namespace."""


class Stage(ApiModel):
    """One step of a rollout."""

    name: str
    """Name of the stage."""

    environment: Environment
    """Where the agent runs in this stage."""

    scope: tuple[ScopeDimension, ...] | None = None
    """Which part of the work it may touch; absent: all of it."""

    min_duration: str | None = None
    """How long the stage must have been Ready before the next one."""


class Rollout(ApiModel):
    """The way into production."""

    stages: tuple[Stage, ...]
    """The stages in order."""


class BindingUse(ApiModel):
    """A source that the agent uses."""

    source: str
    """Name of the source; an MCPBinding serves it."""

    permissions: Permissions | None = None
    """Narrows what binding and matrix give; absent: all that they give."""


class File(ApiModel):
    """A file that the agent finds below INTERLOCK_FILES."""

    path: str
    """Path relative to INTERLOCK_FILES."""

    content: str = ""
    """What is in it."""


class EnvVar(ApiModel):
    """An environment variable of the agent."""

    name: str
    """Its name."""

    value: str = ""
    """Its value."""


class Template(ApiModel):
    """The agent's container."""

    image: str
    """Image of the agent."""

    command: tuple[str, ...] = ()
    """Replaces the image's entry point."""

    args: tuple[str, ...] = ()
    """Replaces the image's arguments."""

    env: tuple[EnvVar, ...] = ()
    """Environment variables."""

    resources: Resources | None = None
    """CPU and memory."""


class AgentSpec(ApiModel):
    """What is wanted."""

    owner: Owner | None = None
    """The person who answers for the agent."""

    purpose: str | None = None
    """What the agent is for."""

    policy_ref: PolicyRef | None = None
    """The AgentPolicy that the agent lives under."""

    environment: Environment | None = None
    """One stage without scope, named like the environment."""

    rollout: Rollout | None = None
    """Stages on the way into production."""

    bindings: tuple[BindingUse, ...] = ()
    """The sources that the agent uses."""

    files: tuple[File, ...] = ()
    """Prompts and configuration; part of the revision."""

    template: Template
    """The agent's container."""

    replicas: int = 1
    """How many pods."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The rollout's stages, or the one stage that `environment` stands for; none if neither is set."""
        if self.rollout is not None:
            return self.rollout.stages
        if self.environment is not None:
            return (Stage(name=self.environment.value, environment=self.environment),)
        return ()


class Agent(ApiModel):
    """One AI agent."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["Agent"] = "Agent"
    metadata: ObjectMeta
    spec: AgentSpec
    status: AgentStatus | None = None
