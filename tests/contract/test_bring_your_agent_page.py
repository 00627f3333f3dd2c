"""The page on the container of agents says what the manifests of the operator have."""

import re
from pathlib import Path

import pytest

from interlock.api.policy import AgentPolicySpec
from interlock.deployment.children.agent_container import build_agent, build_agent_volumes
from interlock.deployment.pod_users import DEFAULT_USERS
from interlock_contract.pod import CONFIG_PATH, FIRST_RESERVED_PORT, GUARD_HOST, LAST_RESERVED_PORT, LOOPBACK, MCP_PORT
from tests.support.builders import a_placement, a_policy, a_separate_placement, an_agent

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "bring-your-agent.md").read_text(encoding="utf-8")
AGENT = an_agent().calling("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5").with_files({"prompt.md": "Be kind."})
POLICY = a_policy().allowing_models("openai/*", "anthropic/*")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def first_column(heading: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", section(heading), re.MULTILINE)


def test_the_table_has_exactly_the_variables_that_the_operator_sets() -> None:
    variables = [one["name"] for one in build_agent(a_placement(AGENT, policy=POLICY))["env"]]
    assert sorted(first_column("Variables")) == sorted(variables)


@pytest.mark.parametrize(
    ("placement", "guard"),
    [(a_placement(AGENT, policy=POLICY), LOOPBACK), (a_separate_placement(AGENT, policy=POLICY), GUARD_HOST)],
    ids=["shared", "separate"],
)
def test_the_urls_are_those_of_the_variables(placement: object, guard: str) -> None:
    env = {one["name"]: one.get("value") for one in build_agent(placement)["env"]}  # type: ignore[arg-type]
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        assert f"`{env[name]}`".replace(guard, "<guard>") in section("Variables")
    assert f"`{guard}`" in section("Variables")
    assert f":{MCP_PORT}/" in section("MCP servers")


def test_the_files_are_those_of_the_volume() -> None:
    [volume] = [one for one in build_agent_volumes(a_placement(AGENT)) if one["name"] == "config"]
    sources = [reference for source in volume["projected"]["sources"] for reference in source.values()]
    paths = [f"{CONFIG_PATH}/{item['path']}" for source in sources for item in source["items"]]
    assert sorted(first_column("Files")) == sorted(path.replace("prompt.md", "<path>") for path in paths)


def test_user_defaults_and_ports_are_those_of_the_code() -> None:
    resources, gives = AgentPolicySpec(data_access=()).resources, section("What the container gives")
    assert f"| user, group | {DEFAULT_USERS.agent.uid}, " in gives
    assert DEFAULT_USERS.agent.uid == DEFAULT_USERS.agent.gid
    assert f"at most {resources.tmp_size_limit} (" in gives
    most, least = resources.default, resources.default_request
    assert f"at most {most.memory} of memory, with requests of {least.memory} and {least.cpu}" in gives
    assert f"ports {FIRST_RESERVED_PORT} to {LAST_RESERVED_PORT}" in section("Tasks and ports")


def test_the_table_of_frameworks_has_each_example_and_no_other() -> None:
    named = re.findall(r"examples/frameworks/([a-z-]+)\)", section("Settings of frameworks"))
    assert sorted(named) == sorted(path.parent.name for path in (ROOT / "examples" / "frameworks").glob("*/agent.py"))
