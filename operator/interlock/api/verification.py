"""The verification of an MCPBinding's server: its settings, conditions, reasons and results."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, field_validator

from interlock.api.durations import bounded_duration
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
from interlock.api.shared_types import ApiModel, Timestamp
from interlock.api.status import Condition, ManagedObject, status_before_operator
from interlock.api.text import SELF, Name
from interlock_contract.strict_json import JsonInvalid, parse_json
from interlock_contract.verification import MAX_NAME, MAX_TOOLS, MAX_UNMAPPED, Expectation

MAX_PROBES = 16
MAX_ARGUMENTS = 8192
"""Characters of a probe's arguments, as JSON."""
MAX_ARGUMENTS_DEPTH = 16
MAX_ARGUMENTS_MEMBERS = 32
MAX_DIFF = 16384
MAX_REPORTED = 16
MAX_USERS = 32
"""Names of Agents in the status of an MCPBinding."""

_INTERVAL_RULE, _check_interval = bounded_duration("1m", "168h", INTERVAL_INVALID)
_LATENCY_RULE, _check_latency = bounded_duration("1ms", "60s", LATENCY_INVALID)

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


_LOOKS_LIKE_AN_OBJECT = "self.trim().startsWith('{') && self.trim().endsWith('}')"
"""The most that the API server can check. A field that takes any JSON has no bound of its depth there: an object of
10 000 levels was stored that the API server itself could not read again, and no list of all MCPBindings succeeded."""


def parse_arguments(text: str) -> dict[str, Any]:
    """Return the arguments of a probe's call.

    Raises:
        ValueError: The text is no JSON object within the bounds.
    """
    try:
        arguments = parse_json(text, max_depth=MAX_ARGUMENTS_DEPTH)
    except JsonInvalid as error:
        raise ValueError(f"{PROBE_ARGUMENTS} ({error})") from None
    if not isinstance(arguments, dict) or len(arguments) > MAX_ARGUMENTS_MEMBERS:
        raise ValueError(PROBE_ARGUMENTS)
    return arguments


class Probe(ApiModel):
    """One call that checks the behaviour of the server."""

    name: Name
    """Name of the probe, for messages."""

    tool: ProbeTool
    """The tool to call. A call that the binding denies is never sent."""

    arguments: str = Field(
        default="{}",
        max_length=MAX_ARGUMENTS,
        json_schema_extra=kube(Rule(rule=_LOOKS_LIKE_AN_OBJECT, message=PROBE_ARGUMENTS)),
    )
    """Arguments of the call: a JSON object as text. Use no secrets, and no call that must not run every hour."""

    expect: Expectation = "Success"
    """Expected end: a result, an error of the tool, or a denial by the binding without a call."""

    max_latency: Latency = "10s"
    """Time limit of the call."""

    @field_validator("arguments")
    @classmethod
    def _refuse(cls, text: str) -> str:
        parse_arguments(text)
        return text


class Verify(ApiModel):
    """When and how the server is verified."""

    interval: VerifyInterval = "1h"
    """Time between two verifications. A change of the spec starts one immediately."""

    probes: tuple[Probe, ...] = Field(default=(), max_length=MAX_PROBES, json_schema_extra=kube(keys=("name",)))
    """Calls of each verification, in this order. An unexpected end of one ends the verification."""


class BindingCondition(StrEnum):
    """Conditions of an MCPBinding."""

    READY = "Ready"
    """The server is verified, and no imported value of the binding waits for a review."""
    VERIFIED = "Verified"
    """The server initialized, lists every tool that is mapped by name, and all probes ended as expected."""
    DRIFTED = "Drifted"
    """The server's tools, prompts, instructions or image differ from what was verified or accepted."""


class BindingReason(StrEnum):
    """Reasons of an MCPBinding's conditions and Events: stable words that alerts may match."""

    VERIFIED = "Verified"
    """All checks passed."""
    SPEC_INVALID = "SpecInvalid"
    """The object cannot be read as an MCPBinding of this version."""
    VERIFYING = "Verifying"
    """The first verification is running."""
    SERVER_UNAVAILABLE = "ServerUnavailable"
    """The server did not answer or did not initialize."""
    LIST_FAILED = "ListFailed"
    """The server did not list its tools."""
    TOOLS_MISSING = "ToolsMissing"
    """The server does not list a tool that is mapped by name."""
    TOOLS_AMBIGUOUS = "ToolsAmbiguous"
    """The server lists two tools of one name."""
    TOO_MANY_TOOLS = "TooManyTools"
    """More tools are mapped than can be pinned."""
    PROMPTS_MISSING = "PromptsMissing"
    """The server does not list a prompt that is mapped by name."""
    PROMPTS_AMBIGUOUS = "PromptsAmbiguous"
    """The server lists two prompts of one name."""
    TOO_MANY_PROMPTS = "TooManyPrompts"
    """More prompts are mapped than can be pinned."""
    PROBE_FAILED = "ProbeFailed"
    """A probe ended differently than expected, or too late."""
    CONFIG_MAP_MISSING = "ConfigMapMissing"
    """A ConfigMap, or a key of it, that the server refers to does not exist."""
    CONFIG_MAP_REFUSED = "ConfigMapRefused"
    """A ConfigMap is Interlock's own, cannot be read, or would set a variable that only Interlock sets."""
    JOB_FAILED = "JobFailed"
    """The verification's pod ended without a result."""
    NO_DRIFT = "NoDrift"
    """The server lists the verified tools and prompts, and has the verified instructions if these are pinned."""
    TOOLS_CHANGED = "ToolsChanged"
    """A pinned tool or prompt changed or is no longer listed, a new one matches a glob, or the instructions changed."""
    IMAGE_CHANGED = "ImageChanged"
    """The image's name refers to another image with the same tools."""
    DRIFT_ACCEPTED = "DriftAccepted"
    """Event: what the server lists now was accepted."""
    ACCEPT_REFUSED = "AcceptRefused"
    """The accepted digest differs from the observed one."""
    NOT_PINNED = "NotPinned"
    """No verification has pinned any tools."""
    NOT_REVIEWED = "NotReviewed"
    """The binding has imported values that are not reviewed."""
    WAITING_FOR_OPERATOR = "WaitingForOperator"
    """The operator has not processed the object."""


RETRIED = (
    BindingReason.SERVER_UNAVAILABLE,
    BindingReason.LIST_FAILED,
    BindingReason.PROBE_FAILED,
    BindingReason.JOB_FAILED,
)
"""Reasons of Verified=False that a later run may not find again, although no user has changed an object.

Examples are a slow start, an image that takes long to be pulled, and a quota that was full. The other reasons concern
names in the spec.
"""


class PinState(StrEnum):
    """State of a mapped tool or prompt, or of the instructions, compared with the pin."""

    VERIFIED = "Verified"
    """As verified: the tool may be called."""
    CHANGED = "Changed"
    """The definition differs. The tool is denied until accepted."""
    ADDED = "Added"
    """The tool is new under a glob. It is denied until accepted."""
    MISSING = "Missing"
    """The server no longer lists the tool."""


class PinnedDefinition(ApiModel):
    """One mapped tool or prompt, or the server's instructions."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=128)
    """Name of the tool or prompt; instructions for those of the server."""

    state: PinState
    """Verified: as pinned. Changed, Added: denied until accepted. Missing: no longer listed."""

    digest: str = Field(default="", max_length=64)
    """SHA-256 of the definition as last observed, in canonical JSON (RFC 8785); empty if it is not listed."""

    pinned_digest: str = Field(default="", max_length=64)
    """SHA-256 of the verified or accepted definition, the only one that guards permit; empty if there is none."""


class VerificationRun(ApiModel):
    """The current or last verification run."""

    model_config = ConfigDict(extra="ignore")

    number: int = Field(ge=0)
    """Number of the run."""

    plan: str = Field(max_length=64)
    """Digest of the run's inputs. Another digest starts a run immediately."""

    config_maps: str = Field(default="", max_length=64)
    """Digest of the ConfigMaps that the server was started with, as far as it refers to them; empty without any."""

    started_at: Timestamp
    """When it was started."""

    ended_at: Timestamp | None = None
    """When it ended; absent while it runs."""

    failures: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of consecutive failures."""

    reported: int = Field(default=0, ge=0, le=MAX_REPORTED, json_schema_extra=kube(format="int32"))
    """Number of consecutive runs that guards' reports of changes have started. An accept sets it to 0."""


class VerificationStatus(ApiModel):
    """State of the server's verification."""

    model_config = ConfigDict(extra="ignore")

    observed_digest: str = Field(default="", max_length=64)
    """Digest of the image, mapped tools and prompts, and pinned instructions as observed. Accept a drift with this
    value."""

    pinned_digest: str = Field(default="", max_length=64)
    """The same digest as all of these were verified or accepted."""

    tools: tuple[PinnedDefinition, ...] = Field(
        default=(), max_length=MAX_TOOLS, json_schema_extra=kube(keys=("name",))
    )
    """The mapped tools, by name."""

    prompts: tuple[PinnedDefinition, ...] | None = Field(
        default=None, max_length=MAX_TOOLS, json_schema_extra=kube(keys=("name",))
    )
    """The mapped prompts, by name; absent before the first successful verification and where none are mapped."""

    instructions: PinnedDefinition | None = None
    """The server's instructions; absent unless spec.instructions is Pinned."""

    unmapped: tuple[Annotated[str, Field(max_length=MAX_NAME)], ...] = Field(default=(), max_length=MAX_UNMAPPED)
    """Tools of the server that the binding does not map. No agent can call them, and a new one is no drift."""

    unmapped_omitted: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of further unmapped tools."""

    dropped_messages: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Messages of the server that were not MCP or answered no request, such as lines of a log on standard output, in
    the last verification run."""

    dropped_at: Timestamp | None = None
    """When a guard last dropped 60 such messages or more within a minute. Its log has some of them. Absent if none
    did."""

    diff: str = Field(default="", max_length=MAX_DIFF)
    """Readable differences; empty without a drift."""

    image: str = Field(default="", max_length=512)
    """The image of the server that was pinned, by its name in the spec."""

    image_digest: str = Field(default="", max_length=512)
    """Digest of that image when it was pinned; empty if unknown."""

    observed_image_digest: str = Field(default="", max_length=512)
    """Digest of that image at the last verification."""

    protocol: str = Field(default="", max_length=32)
    """The version of MCP that the server speaks."""

    verified_at: Timestamp | None = None
    """When the last successful verification ended; absent if there was none."""

    next_at: Timestamp | None = None
    """When the next verification is due."""

    run: VerificationRun | None = None
    """The current or last verification run."""

    refused_accept: str = Field(default="", max_length=256)
    """Last refused value of interlock.dev/accept-drift."""


class MCPBindingStatus(ApiModel):
    """Observed state of an MCPBinding."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: int = Field(default=-1, ge=-1)
    """Generation of the spec that this status was computed for; -1 before the operator has processed the object."""

    conditions: tuple[Condition, ...] = Field(default=(), max_length=8, json_schema_extra=kube(keys=("type",)))
    """Ready, Verified and Drifted; ReconcileFailed while the operator fails on this MCPBinding."""

    agents: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of Agents that use the source in an environment of the binding."""

    used_by: tuple[Annotated[str, Field(max_length=253)], ...] = Field(default=(), max_length=MAX_USERS)
    """The first of these Agents by name."""

    tools_mapped: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of mapped tools that the server lists."""

    tools_unmapped: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of tools that the server lists and the binding does not map."""

    tools_drifted: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of mapped tools that changed, are new under a glob, or are no longer listed."""

    verification: VerificationStatus | None = None
    """State of the server's verification; absent before the first."""

    managed_objects: tuple[ManagedObject, ...] = Field(
        default=(), max_length=16, json_schema_extra=kube(keys=("kind", "name"))
    )
    """The objects of the verification as the operator left them. One that differs has been changed by others."""

    def condition(self, kind: BindingCondition) -> Condition | None:
        """Return a condition, or None if it does not exist."""
        return next((found for found in self.conditions if found.type == kind), None)


NEW_BINDING = status_before_operator("this binding", BindingReason.WAITING_FOR_OPERATOR)
"""Status of a new MCPBinding."""
