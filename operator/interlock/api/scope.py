"""Where and on which part of the real work an agent runs."""

from enum import StrEnum

from pydantic import Field

from interlock.api.model import ApiModel
from interlock.api.text import Name, ScopeValue


class Environment(StrEnum):
    """A kind of world that an agent acts in; a rollout goes through them in this order."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"

    @property
    def rank(self) -> int:
        """Position in a rollout, from 0."""
        return list(Environment).index(self)


class ScopeDimension(ApiModel):
    """A limit in one dimension of the work."""

    dimension: Name
    """What is limited, such as region or product-line."""

    values: tuple[ScopeValue, ...] = Field(min_length=1, max_length=32)
    """The values that are inside, compared as they stand."""
