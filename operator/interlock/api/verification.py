"""How the server of an MCPBinding is verified before agents are attached to it, and what came of it."""

import json
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from interlock.api.markers import Rule, cel_sentence, kube
from interlock.api.messages import (
    INTERVAL_INVALID,
    LATENCY_INVALID,
    PROBE_ARGUMENTS,
    PROBE_TOOL_INVALID,
    format_message,
    plain,
    quoted,
)
from interlock.api.shared_types import ApiModel, Timestamp, parse_duration
from interlock.api.status import Condition
from interlock.api.text import SELF, Name
from interlock_contract.verification import MAX_NAME, MAX_TOOLS, MAX_UNMAPPED, Expectation

MAX_PROBES = 16
MAX_ARGUMENTS = 8192
"""Characters of a probe's arguments, as JSON."""
MAX_DIFF = 16384

_DURATION = r"self.matches(r'^([0-9]{1,5}(h|m|s|ms)){1,4}$')"


def _bounded(least: str, most: str, template: str) -> tuple[Rule, AfterValidator]:
    """Return the rule that a duration lies between two others, for the API server and for Python."""

    def check(text: str) -> str:
        try:
            inside = parse_duration(least) <= parse_duration(text) <= parse_duration(most)
        except ValueError:
            inside = False
        if not inside:
            raise ValueError(format_message(template, text=quoted(text)))
        return text

    bounds = f"duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
    # matches() comes first: a bare duration('7d') prints a conversion error of CEL's own.
    rule = Rule(
        rule=f"{_DURATION} && {bounds}",
        message=plain(template),
        message_expression=cel_sentence(template, text=SELF),
    )
    return rule, AfterValidator(check)


_INTERVAL_RULE, _check_interval = _bounded("1m", "168h", INTERVAL_INVALID)
_LATENCY_RULE, _check_latency = _bounded("1ms", "60s", LATENCY_INVALID)

VerifyInterval = Annotated[str, Field(max_length=32, json_schema_extra=kube(_INTERVAL_RULE)), _check_interval]
"""How long until a server is verified again."""

Latency = Annotated[str, Field(max_length=32, json_schema_extra=kube(_LATENCY_RULE)), _check_latency]
"""How long a probe may take."""


def _check_tool(text: str) -> str:
    if not text or not all("!" <= one <= "~" and one not in "*?" for one in text):
        raise ValueError(format_message(PROBE_TOOL_INVALID, text=quoted(text)))
    return text


ProbeTool = Annotated[
    str,
    Field(
        max_length=128,
        json_schema_extra=kube(
            Rule(
                rule=r"self.matches(r'^[!-)+->@-~]+$')",
                message=plain(PROBE_TOOL_INVALID),
                message_expression=cel_sentence(PROBE_TOOL_INVALID, text=SELF),
            ),
        ),
    ),
    AfterValidator(_check_tool),
]
"""The name of one tool, no glob."""


class Probe(ApiModel):
    """One call that is made to see whether the server does what it is bound for."""

    name: Name
    """Its name, for what is told of it."""

    tool: ProbeTool
    """The tool that is called; what the binding itself denies is never sent."""

    arguments: dict[str, Any] = Field(
        default_factory=dict,
        max_length=32,
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    """The arguments of the call: nothing secret, and nothing that does harm every hour."""

    expect: Expectation = "Success"
    """How it must end: with a result, with an error of the tool, or refused by the binding without being sent."""

    max_latency: Latency = "10s"
    """How long it may take."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if len(json.dumps(self.arguments)) > MAX_ARGUMENTS:
            raise ValueError(PROBE_ARGUMENTS)
        return self


class Verify(ApiModel):
    """When and how the server is verified."""

    interval: VerifyInterval = "1h"
    """How long after one verification the next one follows; also on each change of the spec."""

    probes: tuple[Probe, ...] = Field(default=(), max_length=MAX_PROBES, json_schema_extra=kube(keys=("name",)))
    """Calls that are made each time, in this order; one that ends otherwise than expected ends the verification."""


class BindingCondition(StrEnum):
    """Conditions of an MCPBinding."""

    VERIFIED = "Verified"
    """The server was greeted, has every tool that is mapped by name, and all probes ended as expected."""
    DRIFTED = "Drifted"
    """The server, or its image, is not what was verified and accepted."""


class BindingReason(StrEnum):
    """Reasons of an MCPBinding's conditions and Events: stable words that alerts may match."""

    VERIFIED = "Verified"
    """Everything is as it has to be."""
    VERIFYING = "Verifying"
    """The first verification is under way."""
    SERVER_UNAVAILABLE = "ServerUnavailable"
    """The server could not be reached, or greeted."""
    LIST_FAILED = "ListFailed"
    """The server did not list its tools."""
    TOOLS_MISSING = "ToolsMissing"
    """The server does not list a tool that is mapped by name."""
    TOOLS_AMBIGUOUS = "ToolsAmbiguous"
    """The server lists two tools of one name."""
    TOO_MANY_TOOLS = "TooManyTools"
    """More tools are mapped than can be pinned."""
    PROBE_FAILED = "ProbeFailed"
    """A probe ended otherwise than expected, or too late."""
    JOB_FAILED = "JobFailed"
    """The verification's own pod did not come to a result."""
    NO_DRIFT = "NoDrift"
    """The server lists what was verified."""
    TOOLS_CHANGED = "ToolsChanged"
    """A pinned tool is described otherwise, listed no more, or a new one falls under a glob."""
    IMAGE_CHANGED = "ImageChanged"
    """Another image stands behind the name; its tools are the same."""
    DRIFT_ACCEPTED = "DriftAccepted"
    """Event: what the server lists now was accepted."""
    ACCEPT_REFUSED = "AcceptRefused"
    """The digest that was accepted is not the one that was observed."""
    NOT_PINNED = "NotPinned"
    """Nothing was verified yet that there could be a drift from."""


class ToolState(StrEnum):
    """How a mapped tool is, compared with what was verified."""

    VERIFIED = "Verified"
    """As it was verified: it may be called."""
    CHANGED = "Changed"
    """Described otherwise: denied until accepted."""
    ADDED = "Added"
    """New under a glob: denied until accepted."""
    MISSING = "Missing"
    """Listed no more."""


class VerifiedTool(ApiModel):
    """One mapped tool."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=128)
    """Its own name."""

    state: ToolState
    """Verified: as it was pinned. Changed, Added: denied until accepted. Missing: listed no more."""

    digest: str = Field(default="", max_length=64)
    """SHA-256 of the whole tool as it was listed last, canonical as RFC 8785 says; empty where it was not."""

    pinned_digest: str = Field(default="", max_length=64)
    """The same of the tool that was verified or accepted: the one that guards let pass; empty where none was."""


class VerificationRun(ApiModel):
    """The verification that is under way, or was last."""

    model_config = ConfigDict(extra="ignore")

    number: int = Field(ge=0)
    """How many there have been."""

    plan: str = Field(max_length=64)
    """Digest of what it does: another one is due at once."""

    started_at: Timestamp
    """When it was started."""

    ended_at: Timestamp | None = None
    """When it came to an end; absent while it is under way."""

    failures: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """How many in a row have failed."""


class VerificationStatus(ApiModel):
    """What is known of the server."""

    model_config = ConfigDict(extra="ignore")

    observed_digest: str = Field(default="", max_length=64)
    """Digest of the image and all mapped tools as they are: the one that accepts them."""

    pinned_digest: str = Field(default="", max_length=64)
    """Digest of the image and all mapped tools as they were verified or accepted."""

    tools: tuple[VerifiedTool, ...] = Field(default=(), max_length=MAX_TOOLS, json_schema_extra=kube(keys=("name",)))
    """The mapped tools, by name."""

    unmapped: tuple[Annotated[str, Field(max_length=MAX_NAME)], ...] = Field(default=(), max_length=MAX_UNMAPPED)
    """Tools of the server that the binding does not map: nobody can call them, and a new one is no drift."""

    unmapped_omitted: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """How many more there are."""

    diff: str = Field(default="", max_length=MAX_DIFF)
    """What has changed, as lines to be read; empty without a drift."""

    image: str = Field(default="", max_length=512)
    """The image of the server that was pinned, by its name in the spec."""

    image_digest: str = Field(default="", max_length=512)
    """What stood behind that name when it was pinned; empty where it is not known."""

    observed_image_digest: str = Field(default="", max_length=512)
    """What stood behind it when it was verified last."""

    protocol: str = Field(default="", max_length=32)
    """The version of MCP that the server speaks."""

    verified_at: Timestamp | None = None
    """When everything was as it has to be last; absent where it never was."""

    next_at: Timestamp | None = None
    """When the next verification is due."""

    run: VerificationRun | None = None
    """The verification that is under way, or was last."""

    refused_accept: str = Field(default="", max_length=256)
    """The value of interlock.dev/accept-drift that was refused last."""


class MCPBindingStatus(ApiModel):
    """What the operator reports on an MCPBinding."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: int = Field(default=0, ge=0)
    """The generation of the spec that this status speaks of."""

    conditions: tuple[Condition, ...] = Field(default=(), max_length=8, json_schema_extra=kube(keys=("type",)))
    """Verified and Drifted; ReconcileFailed while the operator fails on this MCPBinding."""

    verification: VerificationStatus | None = None
    """What is known of the server; absent before the first verification."""

    def condition(self, kind: BindingCondition) -> Condition | None:
        """Return a condition, None where it is not there."""
        return next((found for found in self.conditions if found.type == kind), None)
