"""The example to begin with: its server, its agent, and what its manifests say about them."""

import re
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from mcp.client import Client
from mcp.types import TextContent

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import minimum_refusals, owner_refusal, row_refusals, stage_order_refusals
from tests.support.pod_security import restricted_violations

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "stock"
TUTORIAL = (ROOT / "docs" / "tutorial" / "own-agent.md").read_text(encoding="utf-8")


def document(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


AGENT = Agent.model_validate(document("4-agent.yaml"))
BINDING = MCPBinding.model_validate(document("3-binding.yaml"))
POLICY = AgentPolicy.model_validate(document("2-policy.yaml"))


def program(path: str) -> ModuleType:
    """Return a fresh module of a program, under a name that no other example has."""
    spec = spec_from_file_location(f"stock_{Path(path).stem}", FOLDER / path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server() -> ModuleType:
    return program("server/server.py")


@pytest.fixture
def agent() -> ModuleType:
    return program("agent/agent.py")


async def called(server: ModuleType, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
    async with Client(server.server) as client:
        result = await client.call_tool(tool, arguments)
    [part] = result.content
    assert isinstance(part, TextContent)
    return bool(result.is_error), part.text


def test_nothing_in_the_agent_would_be_refused() -> None:
    assert owner_refusal(AGENT.spec.owner) is None
    assert stage_order_refusals(AGENT.spec.stages) == []
    assert minimum_refusals(AGENT.spec.stages, "shop", POLICY.spec) == []
    assert row_refusals(AGENT.metadata, AGENT.spec, "shop", POLICY.spec) == []
    assert {stage.environment for stage in AGENT.spec.stages} == set(BINDING.spec.environments)


async def test_the_binding_maps_each_tool_of_the_server_and_grants_each_resource(server: ModuleType) -> None:
    async with Client(server.server) as client:
        offered = {tool.name for tool in (await client.list_tools()).tools}
    assert {tool.name for tool in BINDING.spec.tools} == offered
    granted = {("read", one) for one in BINDING.spec.permissions.read}
    granted |= {("write", one) for one in BINDING.spec.permissions.write}
    assert {(tool.operation, tool.resource) for tool in BINDING.spec.tools} == granted


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("How many bolts?", "120 pieces of bolt in stock"),
        ("How many nuts?", "80 pieces of nut in stock"),
        ("How many screws?", "Error executing tool stock_level: no item 'screw': there are bolt, nut, washer"),
        ("Please reserve 5 bolts", "5 pieces of bolt reserved, 115 left"),
    ],
)
async def test_a_question_gets_the_answer_of_the_tutorial(
    server: ModuleType, agent: ModuleType, question: str, text: str
) -> None:
    assert await called(server, *agent.plan(question.lower())) == ("screw" in question, text)
    assert f'"{question}"' in TUTORIAL
    assert f"version {agent.VERSION}: {text}\n" in TUTORIAL


async def test_no_more_is_reserved_than_there_is(server: ModuleType) -> None:
    assert await called(server, "reserve", {"item": "washer", "pieces": 1}) == (
        True,
        "Error executing tool reserve: cannot reserve 1 of 0 pieces of washer",
    )


def test_a_question_of_many_pieces_breaks_the_rule_of_the_binding(agent: ModuleType) -> None:
    _, arguments = agent.plan("please reserve 50 bolts")
    [rule] = [rule for tool in BINDING.spec.tools if tool.name == "reserve" for rule in tool.arguments]
    assert rule.pointer == "/pieces"
    assert rule.maximum is not None
    assert arguments["pieces"] > rule.maximum


def test_the_callers_pod_passes_pod_security_restricted() -> None:
    assert restricted_violations(document("caller/pod.yaml")["spec"]) == []


def images() -> Iterator[str]:
    yield AGENT.spec.template.image
    assert BINDING.spec.server.stdio
    yield BINDING.spec.server.stdio.image
    yield document("caller/pod.yaml")["spec"]["containers"][0]["image"]


def test_the_tutorial_builds_each_image_of_the_manifests() -> None:
    built = set(re.findall(r"^\$ docker build -t (\S+) my-agent/", TUTORIAL, re.MULTILINE))
    loads = re.findall(r"^\$ kind load docker-image (.+)$", TUTORIAL, re.MULTILINE)
    loaded = {one for load in loads for one in load.split()}
    assert set(images()) <= built <= loaded
