"""The base of all API types, and the types that several kinds share."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from interlock.api.markers import Rule, cel_pattern, kube
from interlock.api.messages import CONCURRENCY_INVALID, LIMIT_BELOW_REQUEST, LIMIT_INVALID, QUANTITY_INVALID
from interlock.api.quantities import parse_quantity
from interlock.api.text import Name, ObjectName, Resource, ScopeValue


class ApiModel(BaseModel):
    """Base of every type that stands in a Kubernetes object."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        # A validator is built when a type is first used, not for each type that another one contains: a third of the
        # start of every program that imports the types.
        defer_build=True,
    )

    def to_kubernetes(self) -> dict[str, Any]:
        """Return the JSON that the API server speaks: camelCase keys, absent fields left out."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


def check_one_of(value: ApiModel, *members: str, message: str) -> None:
    """Hold an object to `markers.one_of`.

    Args:
        value: The object.
        members: The names of its members in Python.
        message: What is refused, and what to write.

    Raises:
        ValueError: None of the members, or several of them, are set.
    """
    if sum(getattr(value, member) is not None for member in members) != 1:
        raise ValueError(message)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside of the years 1 to 9999 in UTC") from None


Timestamp = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A moment in UTC, RFC 3339 in JSON. Fractions of a second are kept: soaks are measured with them."""


class ManagedFields(ApiModel):
    """The part of an entry of `metadata.managedFields` that Interlock reads."""

    model_config = ConfigDict(extra="ignore")

    manager: str = ""


class ObjectMeta(ApiModel):
    """The part of Kubernetes object metadata that Interlock reads; the rest is ignored."""

    model_config = ConfigDict(extra="ignore")

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    managed_fields: tuple[ManagedFields, ...] = ()
    """In the operator at most one entry: the field manager that changed the spec last."""


_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}", re.ASCII)
_PART = re.compile(r"([0-9]+)(h|ms|m|s)", re.ASCII)
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_duration(text: str) -> timedelta:
    """Return the time that `text` says, such as `168h`, `90m` or `1h30m`.

    Raises:
        ValueError: if `text` is not a duration; there are no days, signs or fractions.

    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f'"{text}" is not a duration: write 168h, 90m or 1h30m (7 days are 168h)')
    return timedelta(milliseconds=sum(int(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(text)))


def format_duration(duration: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads back; parts of a millisecond are cut off.

    Raises:
        ValueError: if `duration` is negative or has more hours than five digits hold.

    """
    rest = duration // timedelta(milliseconds=1)
    parts = []
    for unit, size in _MILLISECONDS.items():
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    text = "".join(parts) or "0s"
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{duration} is negative or too long to be written as a duration")
    return text


class SecretKeyRef(ApiModel):
    """One key of a Secret in the same namespace."""

    name: ObjectName
    """Name of the Secret."""

    key: ObjectName
    """Key in the Secret."""


class ConfigMapKeyRef(ApiModel):
    """One key of a ConfigMap in the same namespace."""

    name: ObjectName
    """Name of the ConfigMap."""

    key: ObjectName
    """Key in the ConfigMap."""


class EnvSource(ApiModel):
    """Where a value comes from."""

    secret_key_ref: SecretKeyRef
    """One key of a Secret."""


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


STORED: Final = "stored"
"""Context of the validation of what an earlier version has accepted and pods run with: rules that came later, and that
no one is endangered by, do not hold for it."""


def _limits_something(text: str, info: ValidationInfo) -> str:
    """Refuse 0 as a limit. A text that is no quantity is left to the API server, as in `Quantity`."""
    if info.context == STORED:
        return text
    try:
        is_limit = parse_quantity(text) > 0
    except ValueError:
        return text
    if not is_limit:
        raise ValueError(LIMIT_INVALID)
    return text


_IS_LIMIT = Rule(
    # A text that is no quantity is an error, which quotes the message too. With isQuantity, an API server of 1.33
    # refuses the rule in a list: it takes a text of a field for either type as one of 3 MiB, and counts each reading.
    rule="type(self) == int ? self > 0 : quantity(self).isGreaterThan(quantity('0'))",
    message=LIMIT_INVALID,
)

LimitQuantity = Annotated[
    str,
    BeforeValidator(_as_text),
    AfterValidator(_limits_something),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32, **kube(_IS_LIMIT)}),
]
"""A quantity above 0: as a limit of memory, and as the size of an emptyDir, Kubernetes takes 0 for no limit at all."""


_COUNT_OR_PERCENT = r"^([1-9][0-9]{0,4}|(100|[1-9]?[0-9])%)$"


def _check_count(text: str) -> str:
    if not re.fullmatch(_COUNT_OR_PERCENT[1:-1], text, re.ASCII):
        raise ValueError(CONCURRENCY_INVALID)
    return text


CountOrPercent = Annotated[
    str,
    BeforeValidator(_as_text),
    AfterValidator(_check_count),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 8,
            **kube(
                Rule(
                    rule="type(self) == int ? self >= 1 && self <= 99999 : "
                    f"self.matches({cel_pattern(_COUNT_OR_PERCENT)})",
                    message=CONCURRENCY_INVALID,
                )
            ),
        }
    ),
]
"""A number of objects from 1, or a percentage of all, such as `10%`."""


class ResourceAmounts(ApiModel):
    """Amounts of CPU and memory."""

    cpu: Quantity | None = None
    """CPU, such as 100m or 1."""

    memory: Quantity | None = None
    """Memory, such as 128Mi."""


class ResourceLimits(ApiModel):
    """Largest amounts of CPU and memory."""

    cpu: LimitQuantity | None = None
    """CPU, such as 100m or 1."""

    memory: LimitQuantity | None = None
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
    """Resource requests and limits of a container."""

    model_config = ConfigDict(json_schema_extra=kube(_limit_covers_request("cpu"), _limit_covers_request("memory")))

    requests: ResourceAmounts | None = None
    """Amounts reserved for it."""

    limits: ResourceLimits | None = None
    """Largest amounts that it may use."""


class Permissions(ApiModel):
    """Resources by operation. A resource that is not listed is denied."""

    read: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be read."""

    write: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be created or changed."""

    delete: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be deleted."""


class EnvironmentClass(StrEnum):
    """The class of an environment, by which rules apply. A rollout goes through the classes in this order.

    An environment with the name of a class is of that class. An AgentPolicy gives environments of other names theirs.
    """

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"

    @property
    def rank(self) -> int:
        """Position in a rollout, from 0."""
        return list(EnvironmentClass).index(self)


class ScopeDimension(ApiModel):
    """A limit in one dimension of the work."""

    dimension: Name
    """What is limited, such as region or product-line."""

    values: tuple[ScopeValue, ...] = Field(min_length=1, max_length=32)
    """The allowed values, compared exactly."""
