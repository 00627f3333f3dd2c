"""The examples' manifests: what is shown to users is what the API takes, and says what the examples claim."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import crm_server
import pytest
import yaml
from mcp.client import Client
from mcp.types import Tool
from pydantic import ValidationError

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import (
    environment_refusal,
    minimum_refusals,
    owner_refusal,
    row_refusals,
    stage_order_refusals,
)
from interlock.api.shared_types import parse_duration
from interlock_contract.bundle import BundleTool as GuardTool
from interlock_contract.mapping import find_named, is_name_glob
from tests.support.pod_security import restricted_violations

EXAMPLES = Path(__file__).parents[3] / "examples"
KINDS = {"Agent": Agent, "AgentPolicy": AgentPolicy, "MCPBinding": MCPBinding}
REFUSED = "02-refused-without-owner"
IMAGES = {"registry.invalid/interlock/example-agent:dev", "registry.invalid/interlock/example-crm:dev"}


def documents(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield path, document


EXAMPLE_FOLDERS = sorted(path for path in EXAMPLES.glob("[0-9]*-*") if path.is_dir())
ALL = [found for folder in EXAMPLE_FOLDERS for found in documents(folder)]


def objects(kind: str) -> list[Any]:
    return [KINDS[kind].model_validate(document) for _, document in ALL if document["kind"] == kind]


def agents() -> list[Agent]:
    return [
        Agent.model_validate(document)
        for path, document in ALL
        if document["kind"] == "Agent" and path.parent.name != REFUSED
    ]


def policy_of(agent: Agent) -> AgentPolicy:
    assert agent.spec.policy_ref
    (policy,) = [found for found in objects("AgentPolicy") if found.metadata.name == agent.spec.policy_ref.name]
    return policy


def test_every_example_has_a_page_and_manifests() -> None:
    without = [one for one in EXAMPLE_FOLDERS if not (one / "README.md").is_file() or not list(one.glob("*.yaml"))]
    assert without == []


def test_every_object_of_ours_is_one_that_the_api_knows() -> None:
    ours = [(path, document) for path, document in ALL if document["kind"] in KINDS]
    assert len(ours) > 10
    assert [f"{path}: {fault}" for path, document in ours if (fault := fault_of(document))] == []


def fault_of(document: Any) -> str:
    """Return why the API does not know an object, an empty string if it does."""
    try:
        KINDS[document["kind"]].model_validate(document)
    except ValidationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("agent", agents(), ids=lambda agent: agent.metadata.name)
def test_nothing_in_an_accepted_agent_would_be_refused(agent: Agent) -> None:
    policy = policy_of(agent)
    assert owner_refusal(agent.spec.owner) is None
    assert environment_refusal(agent.spec) is None
    assert stage_order_refusals(agent.spec.stages) == []
    assert minimum_refusals(agent.spec.stages, policy.metadata.name, policy.spec) == []
    modes = {policy.spec.mode_in(stage.environment) for stage in agent.spec.stages}
    assert modes == {"Audit"} or row_refusals(agent.metadata, agent.spec, policy.metadata.name, policy.spec) == []


@pytest.mark.parametrize("agent", agents(), ids=lambda agent: agent.metadata.name)
def test_exactly_one_binding_serves_each_source_in_each_stage(agent: Agent) -> None:
    for use in agent.spec.bindings:
        for stage in agent.spec.stages:
            serving = [
                binding
                for binding in objects("MCPBinding")
                if binding.spec.source == use.source and stage.environment in binding.spec.environments
            ]
            assert len(serving) == 1, (use.source, stage.name)


def test_the_refused_ones_are_refused_for_their_owner_and_nothing_else() -> None:
    messages = []
    for _, document in documents(EXAMPLES / REFUSED):
        agent = Agent.model_validate(document)
        messages.append(owner_refusal(agent.spec.owner))
        assert environment_refusal(agent.spec) is None
        assert agent.spec.purpose
        assert agent.spec.policy_ref
    page = (EXAMPLES / REFUSED / "README.md").read_text(encoding="utf-8")
    assert len(messages) == 2
    for message in messages:
        assert message
        assert message in page


async def offered(folder: Path) -> list[Tool]:
    with closing(crm_server.seed(folder / "crm.db", "sandbox")) as database:
        async with Client(crm_server.build_server(database, "sandbox")) as client:
            return (await client.list_tools()).tools


def entries(binding: MCPBinding) -> list[GuardTool]:
    """Return the binding's map as the guard has it."""
    return [GuardTool(tool.name, tool.operation, tool.resource) for tool in binding.spec.tools]


async def test_bindings_map_every_tool_of_the_crm_but_the_export(tmp_path: Path) -> None:
    there = {tool.name for tool in await offered(tmp_path)}
    for binding in (one for one in objects("MCPBinding") if one.spec.tools):  # without any, for mode Audit
        unmapped = {name for name in there if find_named(entries(binding), name) is None}
        assert unmapped - {"delete_contact"} == {"export_everything"}
        assert {tool.name for tool in binding.spec.tools if not is_name_glob(tool.name)} <= there


async def test_rules_on_arguments_are_of_arguments_that_the_tool_requires(tmp_path: Path) -> None:
    ruled = [
        (entries(binding), tool) for binding in objects("MCPBinding") for tool in binding.spec.tools if tool.arguments
    ]
    assert ruled
    required = {tool.name: tool.input_schema.get("required", []) for tool in await offered(tmp_path)}
    for mapped, entry in ruled:
        falling = [name for name in required if getattr(find_named(mapped, name), "name", None) == entry.name]
        assert falling
        for name in falling:
            assert {rule.pointer.removeprefix("/") for rule in entry.arguments} <= set(required[name])


async def test_a_pointer_leads_to_an_argument_that_the_tool_requires(tmp_path: Path) -> None:
    required = {tool.name: tool.input_schema.get("required", []) for tool in await offered(tmp_path)}
    pointers = [
        (tool.name, scope.pointer)
        for binding in objects("MCPBinding")
        for tool in binding.spec.tools
        for scope in tool.scope
    ]
    assert pointers
    for tool, pointer in pointers:
        assert pointer.removeprefix("/") in required[tool]


def test_no_agent_in_the_examples_may_delete() -> None:
    assert all(not binding.spec.permissions.delete for binding in objects("MCPBinding"))
    assert all(not row.delete for policy in objects("AgentPolicy") for row in policy.spec.data_access)


def test_all_images_are_ours() -> None:
    used = {agent.spec.template.image for agent in agents()}
    used |= {binding.spec.server.stdio.image for binding in objects("MCPBinding") if binding.spec.server.stdio}
    deployments = [document for _, document in ALL if document["kind"] == "Deployment"]
    used |= {one["image"] for found in deployments for one in found["spec"]["template"]["spec"]["containers"]}
    assert used == IMAGES


def test_the_soaks_of_the_staged_examples_fit_into_the_demo() -> None:
    staged = [agent for agent in agents() if agent.spec.rollout]
    names = {agent.metadata.name: [stage.name for stage in agent.spec.stages] for agent in staged}
    scoped = ["staging", "one-region", "everywhere"]
    # A claim is that of one stage of its environment, so an agent with claims has one stage in production.
    assert names == {"support-triage": scoped, "answers": scoped, "notes": ["staging", "everywhere"]}
    for agent in staged:
        soaks = [parse_duration(stage.min_duration or "0s").total_seconds() for stage in agent.spec.stages]
        assert sum(soaks) <= 40


def test_secrets_of_servers_are_in_the_example_and_no_agent_gets_one() -> None:
    made = [document for _, document in ALL if document["kind"] == "Secret"]
    secrets = {(secret["metadata"]["name"], key) for secret in made for key in secret["stringData"]}
    servers = [binding.spec.server for binding in objects("MCPBinding")]
    variables = [variable for server in servers if server.stdio for variable in server.stdio.env]
    headers = [header for server in servers if server.http for header in server.http.headers]
    keys = [use.api_key_from for agent in agents() for use in agent.spec.models]
    sources = [*(one.value_from for one in (*variables, *headers) if one.value_from), *keys]
    references = [source.secret_key_ref for source in sources]
    assert {(reference.name, reference.key) for reference in references} == secrets
    values = {value for secret in made for value in secret["stringData"].values()}
    assert all(variable.value not in values for agent in agents() for variable in agent.spec.template.env)


def test_a_server_over_http_and_a_provider_of_models_are_ones_that_the_example_runs() -> None:
    services = {
        (document["metadata"]["name"], port["port"])
        for _, document in ALL
        if document["kind"] == "Service"
        for port in document["spec"]["ports"]
    }
    dialled = [binding.spec.server.http.url for binding in objects("MCPBinding") if binding.spec.server.http]
    dialled += [upstream.url for policy in objects("AgentPolicy") for upstream in policy.spec.models.urls]
    assert {(url.hostname, url.port) for url in map(urlsplit, dialled)} == services


def test_every_pod_of_a_server_passes_pod_security_restricted() -> None:
    pods = [document["spec"]["template"]["spec"] for _, document in ALL if document["kind"] == "Deployment"]
    assert pods
    assert [found for pod in pods for found in restricted_violations(pod)] == []


def test_every_namespace_enforces_restricted_pod_security() -> None:
    namespaces = [document for _, document in ALL if document["kind"] == "Namespace"]
    assert {namespace["metadata"]["name"] for namespace in namespaces} == {"agents"}
    for namespace in namespaces:
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
