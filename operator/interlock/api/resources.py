"""CPU and memory of a container."""

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, WithJsonSchema

from interlock.api.markers import Rule, kube
from interlock.api.model import ApiModel
from interlock.api.sentences import LIMIT_BELOW_REQUEST, QUANTITY_INVALID


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_IS_QUANTITY = Rule(
    rule="type(self) == int ? self >= 0 : isQuantity(self) && quantity(self).compareTo(quantity('0')) >= 0",
    message=QUANTITY_INVALID,
)

Quantity = Annotated[
    str,
    BeforeValidator(_as_text),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32, **kube(_IS_QUANTITY)}),
]
"""A Kubernetes quantity such as `100m` or `128Mi`; a whole number may be written without quotes."""


class ResourceAmounts(ApiModel):
    """Amounts of CPU and memory."""

    cpu: Quantity | None = None
    """CPU, such as 100m or 1."""

    memory: Quantity | None = None
    """Memory, such as 128Mi."""


def _limit_covers_request(kind: str) -> Rule:
    """Return the rule that the API server would otherwise only apply to the Deployment, out of sight."""
    request, limit = f"string(self.requests.{kind})", f"string(self.limits.{kind})"
    return Rule(
        rule=f"!has(self.requests) || !has(self.limits) || !has(self.requests.{kind}) || !has(self.limits.{kind})"
        f" || !isQuantity({request}) || !isQuantity({limit}) || quantity({limit}).compareTo(quantity({request})) >= 0",
        message=LIMIT_BELOW_REQUEST.format(kind=kind),
    )


class Resources(ApiModel):
    """What a container is promised and what it may take at most."""

    model_config = ConfigDict(json_schema_extra=kube(_limit_covers_request("cpu"), _limit_covers_request("memory")))

    requests: ResourceAmounts | None = None
    """What it is promised."""

    limits: ResourceAmounts | None = None
    """What it may take at most."""
