"""Where and on which part of the real work an agent runs."""

from enum import StrEnum

from interlock.api.model import ApiModel


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

    dimension: str
    """What is limited, such as region or product-line."""

    values: tuple[str, ...]
    """The values that are inside."""
