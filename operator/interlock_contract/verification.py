"""What is verified of a server before any agent is attached to it, and what came of it.

This module is the wire contract between the operator, which writes a `Plan` and reads a `Result`, and the verifier,
which does the reverse. What a server says of itself is in a result as it was said: readers must not trust it.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, cast, get_args

from interlock_contract.canonical_json import is_digest
from interlock_contract.strict_fields import BundleInvalid, StrictFields
from interlock_contract.strict_json import JsonInvalid, parse_json

PLAN_KEY: Final = "verification.json"
"""Key of the ConfigMap's `data` that has the plan, next to the bundle."""
RESULT_KEY: Final = "result.json"
"""Key of the ConfigMap's `data` that the verifier writes its result to."""
VERIFICATION_VERSION: Final = 1

MAX_TOOLS: Final = 512
"""Tools of a server that a binding may map: each has a pin in every bundle."""
MAX_UNMAPPED: Final = 64
"""Names of unmapped tools that a result has room for."""
MAX_DEFINITIONS: Final = 384 * 1024
"""Characters of all definitions in a result together; what is beyond is known by its digest alone."""
MAX_NAME: Final = 128

Expectation = Literal["Success", "Error", "Denied"]


class VerificationFailure(StrEnum):
    """Why a server is not verified; stable words."""

    SERVER_UNAVAILABLE = "ServerUnavailable"
    """The server could not be reached, or initialized."""
    LIST_FAILED = "ListFailed"
    """It did not list its tools."""
    TOOLS_MISSING = "ToolsMissing"
    """It does not list a tool that the binding maps by name."""
    TOOLS_AMBIGUOUS = "ToolsAmbiguous"
    """It lists two tools of one name."""
    TOO_MANY_TOOLS = "TooManyTools"
    """The binding maps more of its tools than can be pinned."""
    PROBE_FAILED = "ProbeFailed"
    """A probe ended otherwise than expected, or too late."""


@dataclass(frozen=True, slots=True)
class PlannedProbe:
    """One call, what must come of it, and within how many seconds."""

    name: str
    tool: str
    arguments: dict[str, Any]
    expect: Expectation
    seconds: float


@dataclass(frozen=True, slots=True)
class VerificationPlan:
    """What a verifier has to do: `run` names this one time."""

    run: str
    source: str
    probes: tuple[PlannedProbe, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenTool:
    """A mapped tool as the server listed it: its digest, and its canonical text, empty where there was no room."""

    name: str
    digest: str
    definition: str = ""


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What came of one run. Without a `failure` everything is as it has to be.

    Attributes:
        run: Of the plan.
        failure: Why the server is not verified, or None.
        message: The same as one sentence; empty without a failure.
        tools: The tools that the binding maps, by name; None where the server did not list any.
        unmapped: Names of tools that it does not map, as far as there is room, shortened where they are long.
        omitted: How many more there are.
        probes: How many ended as expected.
        protocol: The version of MCP that the server speaks; empty if it was not initialized.
    """

    run: str
    failure: VerificationFailure | None = None
    message: str = ""
    tools: tuple[SeenTool, ...] | None = None
    unmapped: tuple[str, ...] = ()
    omitted: int = 0
    probes: int = 0
    protocol: str = ""


class VerificationInvalid(ValueError):  # noqa: N818 - says the state of a text
    """The text is no plan, or no result, of this version; the message starts with the path of what is wrong."""


def dump_plan(plan: VerificationPlan) -> str:
    """Write a plan; equal plans give equal text."""
    probes = [
        {
            "name": probe.name,
            "tool": probe.tool,
            "arguments": probe.arguments,
            "expect": probe.expect,
            "milliseconds": round(probe.seconds * 1000),
        }
        for probe in plan.probes
    ]
    return _dump({"version": VERIFICATION_VERSION, "run": plan.run, "source": plan.source, "probes": probes})


def parse_plan(text: str) -> VerificationPlan:
    """Read a plan.

    Raises:
        VerificationInvalid: It is none of this version.
    """
    try:
        root = _open(text)
        plan = VerificationPlan(
            run=root.text("run"),
            source=root.name("source"),
            probes=tuple(_probe(item, path) for item, path in root.items("probes")),
        )
        root.close()
    except BundleInvalid as error:
        raise VerificationInvalid(str(error)) from None
    return plan


def dump_result(result: VerificationResult) -> str:
    """Write a result."""
    written: dict[str, Any] = {
        "version": VERIFICATION_VERSION,
        "run": result.run,
        "unmapped": list(result.unmapped),
        "omitted": result.omitted,
        "probes": result.probes,
    }
    if result.failure is not None:
        written |= {"failure": result.failure.value, "message": result.message}
    if result.tools is not None:
        written["tools"] = [
            {"name": tool.name, "digest": tool.digest} | ({"definition": tool.definition} if tool.definition else {})
            for tool in result.tools
        ]
    return _dump(written | ({"protocol": result.protocol} if result.protocol else {}))


def parse_result(text: str) -> VerificationResult:
    """Read a result: its form is what is relied on, what a server says in it is not.

    Raises:
        VerificationInvalid: It is none of this version.
    """
    try:
        root = _open(text)
        failed = root.has("failure")
        result = VerificationResult(
            run=root.text("run"),
            failure=VerificationFailure(root.one_of("failure", tuple(VerificationFailure))) if failed else None,
            message=root.text("message") if failed else "",
            tools=tuple(_tool(item, path) for item, path in root.items("tools")) if root.has("tools") else None,
            unmapped=root.texts("unmapped"),
            omitted=root.number("omitted", 0, 2**31 - 1),
            probes=root.number("probes", 0, 2**31 - 1),
            protocol=root.text("protocol") if root.has("protocol") else "",
        )
        root.close()
    except BundleInvalid as error:
        raise VerificationInvalid(str(error)) from None
    _refuse_oddities(result)
    return result


def _open(text: str) -> StrictFields:
    try:
        root = StrictFields(parse_json(text), "")
    except JsonInvalid as error:
        raise VerificationInvalid(f"$: {error}") from None
    if root.take("version") != VERIFICATION_VERSION:
        raise VerificationInvalid(f"version: this one is not {VERIFICATION_VERSION}")
    return root


def _probe(value: Any, path: str) -> PlannedProbe:
    fields = StrictFields(value, path)
    arguments = fields.take("arguments")
    if not isinstance(arguments, dict):
        raise BundleInvalid(f"{path}.arguments: must be an object")
    probe = PlannedProbe(
        name=fields.text("name"),
        tool=fields.text("tool"),
        arguments=arguments,
        expect=cast("Expectation", fields.one_of("expect", get_args(Expectation))),
        seconds=fields.number("milliseconds", 1, 3_600_000) / 1000,
    )
    fields.close()
    return probe


def _tool(value: Any, path: str) -> SeenTool:
    fields = StrictFields(value, path)
    name, digest = fields.text("name"), fields.text("digest")
    definition = fields.take("definition") if fields.has("definition") else ""
    fields.close()
    if not isinstance(definition, str):
        raise BundleInvalid(f"{path}.definition: must be a string")
    return SeenTool(name, digest, definition)


def _refuse_oddities(result: VerificationResult) -> None:
    tools = result.tools or ()
    if len(tools) > MAX_TOOLS or len(result.unmapped) > MAX_UNMAPPED:
        raise VerificationInvalid("tools: more than a verifier writes")
    if len({tool.name for tool in tools}) < len(tools):
        raise VerificationInvalid("tools: one is there twice")
    for tool in tools:
        if not is_digest(tool.digest):
            raise VerificationInvalid(f"tools[{tool.name[:MAX_NAME]}].digest: must be a SHA-256 in hexadecimal digits")
    if any(len(name) > MAX_NAME for name in (*result.unmapped, *(tool.name for tool in tools))):
        raise VerificationInvalid(f"tools: a name of more than {MAX_NAME} characters")


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
