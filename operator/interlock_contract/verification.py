"""What is verified of a server before any agent is attached to it, and what came of it.

This module is the wire contract between the operator, which writes a `Plan` and reads a `Result`, and the verifier,
which does the reverse. What a server says of itself is in a result as it was said: readers must not trust it.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeVar

from msgspec import Meta

from interlock_contract.strict_fields import (
    MAX_TEXT,
    BundleInvalid,
    Digest,
    Name,
    StrictStruct,
    Text,
    dump_document,
    parse_document,
    refuse_doubles,
    written,
)

PLAN_KEY: Final = "verification.json"
"""Key of the ConfigMap's `data` that has the plan, next to the bundle."""
RESULT_KEY: Final = "result.json"
"""Key of the ConfigMap's `data` that the verifier writes its result to."""
VERIFICATION_VERSION: Final = 1

MAX_TOOLS: Final = 512
"""Tools, and likewise prompts, of a server that a binding may map: each has a pin in every bundle."""
MAX_UNMAPPED: Final = 64
"""Names of unmapped tools that a result has room for."""
MAX_DEFINITIONS: Final = 384 * 1024
"""Characters of all definitions in a result together; what is beyond is known by its digest alone."""
MAX_NAME: Final = 128

Expectation = Literal["Success", "Error", "Denied"]
ShortName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
MAX_COUNT: Final = 2**31 - 1
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]


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
    PROMPTS_MISSING = "PromptsMissing"
    """It does not list a prompt that the binding maps by name."""
    PROMPTS_AMBIGUOUS = "PromptsAmbiguous"
    """It lists two prompts of one name."""
    TOO_MANY_PROMPTS = "TooManyPrompts"
    """The binding maps more of its prompts than can be pinned."""
    PROBE_FAILED = "ProbeFailed"
    """A probe ended otherwise than expected, or too late."""


class PlannedProbe(StrictStruct, frozen=True):
    """One call, what must come of it, and within how many milliseconds."""

    name: Text
    tool: Text
    arguments: dict[str, Any]
    expect: Expectation
    milliseconds: Annotated[int, Meta(ge=1, le=3_600_000)]


class VerificationPlan(StrictStruct, frozen=True):
    """What a verifier has to do: `run` names this one time, `instructions` asks for those of the server."""

    run: Text
    source: Name
    probes: tuple[PlannedProbe, ...] = written(())
    instructions: bool = False
    version: Literal[1] = written(1)


class SeenDefinition(StrictStruct, frozen=True):
    """A mapped tool or prompt as the server listed it, or its instructions.

    `definition` is the canonical text, empty where there was no room.
    """

    name: ShortName
    digest: Digest
    definition: str = ""


SeenDefinitions = Annotated[tuple[SeenDefinition, ...], Meta(max_length=MAX_TOOLS)]
INSTRUCTIONS: Final = "instructions"
"""The name of a server's instructions among its definitions."""


class VerificationResult(StrictStruct, frozen=True):
    """What came of one run. Without a `failure` everything is as it has to be.

    Attributes:
        run: Of the plan.
        failure: Why the server is not verified, or None.
        message: The same as one sentence; empty without a failure.
        tools: The tools that the binding maps, by name; None where the server did not list any.
        unmapped: Names of tools that it does not map, as far as there is room, shortened where they are long.
        omitted: How many more there are.
        prompts: The prompts that the binding maps, by name; None where it maps none, or the server did not list any.
        instructions: Those of the server, which may be empty; None where the plan does not ask for them.
        probes: How many ended as expected.
        protocol: The version of MCP that the server speaks; empty if it was not initialized.
        dropped: How many of the server's messages were no MCP, or answered no request.
    """

    run: Text
    failure: VerificationFailure | None = None
    message: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    tools: SeenDefinitions | None = None
    unmapped: Annotated[tuple[ShortName, ...], Meta(max_length=MAX_UNMAPPED)] = written(())
    omitted: Count = written(0)
    probes: Count = written(0)
    protocol: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    prompts: SeenDefinitions | None = None
    instructions: SeenDefinition | None = None
    dropped: Count = 0
    version: Literal[1] = written(1)

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if (self.failure is None) != (not self.message):
            raise ValueError(".message: must be there with a failure, and only then")
        refuse_doubles((tool.name for tool in self.tools or ()), "tools", "name")
        refuse_doubles((prompt.name for prompt in self.prompts or ()), "prompts", "name")


class VerificationInvalid(ValueError):  # noqa: N818 - says the state of a text
    """The text is no plan, or no result, of this version; the message starts with the path of what is wrong."""


_Document = TypeVar("_Document", VerificationPlan, VerificationResult)


def dump_plan(plan: VerificationPlan) -> str:
    """Write a plan; equal plans give equal text."""
    return dump_document(plan)


def parse_plan(text: str) -> VerificationPlan:
    """Read a plan.

    Raises:
        VerificationInvalid: It is none of this version.
    """
    return _parse(text, VerificationPlan)


def dump_result(result: VerificationResult) -> str:
    """Write a result."""
    return dump_document(result)


def parse_result(text: str) -> VerificationResult:
    """Read a result: its form is what is relied on, what a server says in it is not.

    Raises:
        VerificationInvalid: It is none of this version.
    """
    return _parse(text, VerificationResult)


def _parse(text: str, kind: type[_Document]) -> _Document:
    try:
        return parse_document(text, kind, VERIFICATION_VERSION, key="version")
    except BundleInvalid as error:
        raise VerificationInvalid(str(error)) from None
