"""How far apart agent and guard stand, environment by environment."""

from typing import Literal

from pydantic import Field

from interlock.api.model import ApiModel
from interlock.api.scope import Environment

Isolation = Literal["Shared", "Separate"]

DEFAULT_ISOLATION: dict[Environment, Isolation] = {
    Environment.DEVELOPMENT: "Shared",
    Environment.STAGING: "Separate",
    Environment.PRODUCTION: "Separate",
}
"""What holds where a policy says nothing."""


class DevelopmentRules(ApiModel):
    """What holds in development."""

    isolation: Isolation = Field(default=DEFAULT_ISOLATION[Environment.DEVELOPMENT])
    """Shared: agent and guard in one pod, no egress boundary; Separate: the agent's pod reaches its guard alone."""


class ProtectedRules(ApiModel):
    """What holds in an environment in which harm is done to others."""

    isolation: Isolation = Field(default=DEFAULT_ISOLATION[Environment.PRODUCTION])
    """Separate: the agent's pod reaches its guard alone; Shared: agent and guard in one pod, no egress boundary."""


class Environments(ApiModel):
    """What holds for agents in each environment."""

    development: DevelopmentRules = DevelopmentRules()
    """In development."""

    staging: ProtectedRules = ProtectedRules()
    """In staging."""

    production: ProtectedRules = ProtectedRules()
    """In production."""

    def isolation_in(self, environment: Environment) -> Isolation:
        """Return how far apart agent and guard stand in an environment."""
        rules: dict[Environment, DevelopmentRules | ProtectedRules] = {
            Environment.DEVELOPMENT: self.development,
            Environment.STAGING: self.staging,
            Environment.PRODUCTION: self.production,
        }
        return rules[environment].isolation
