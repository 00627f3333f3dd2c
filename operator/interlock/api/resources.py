"""CPU and memory of a container."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from interlock.api.model import ApiModel


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[str, BeforeValidator(_as_text)]
"""A Kubernetes quantity such as `100m` or `128Mi`; a whole number may be written without quotes."""


class ResourceAmounts(ApiModel):
    """Amounts of CPU and memory."""

    cpu: Quantity | None = None
    """CPU, such as 100m."""

    memory: Quantity | None = None
    """Memory, such as 128Mi."""


class Resources(ApiModel):
    """What a container is promised and what it may take at most."""

    requests: ResourceAmounts | None = None
    """What it is promised."""

    limits: ResourceAmounts | None = None
    """What it may take at most."""
