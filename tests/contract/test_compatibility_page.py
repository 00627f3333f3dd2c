"""The page on compatibility names the versions that the tests use, and tests that exist."""

import json
import re
from pathlib import Path

import pytest

from interlock_contract.mcp import SESSION_VERSIONS, SESSIONLESS_VERSIONS
from tools.machine import versions
from tools.pythons import SUITES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "compatibility.md").read_text(encoding="utf-8")
CLIENTS = json.loads((ROOT / "tests" / "support" / "mcp_clients" / "package.json").read_text(encoding="utf-8"))
FRAMEWORKS = {
    "langgraph": "langgraph",
    "openai-agents": "openai-agents",
    "pydantic-ai": "pydantic-ai-slim",
    "autogen": "autogen-agentchat",
    "crewai": "crewai",
}
"""Folders of examples/frameworks, each with the package whose version counts."""


def pinned(package: str, file: str = "requirements/dev.txt") -> str:
    found = re.search(rf"^{package}==(\S+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, package
    return found[1]


def row(begin: str) -> str:
    """Return the row of a table whose first cell begins so."""
    [found] = [line for line in PAGE.splitlines() if line.startswith(f"| {begin}")]
    return found


@pytest.mark.parametrize(
    ("begin", "version"),
    [
        ("1.37", versions.KUBERNETES.removeprefix("v")),
        ("1.36", versions.KUBERNETES_OLDER.removeprefix("v")),
        ("1.33", versions.KUBERNETES_OLDEST.removeprefix("v")),
        ("distribution", versions.KIND),
        ("network plugin", versions.KUBE_ROUTER),
        ("container runtime", versions.CONTAINERD),
        ("metrics", versions.METRICS_SERVER),
        ("Helm", versions.HELM),
        ("cosign", versions.COSIGN),
        ("cosign", versions.CRANE),
        ("cosign", versions.SYFT),
        ("MCP, session-based", ", ".join(SESSION_VERSIONS)),
        ("MCP, sessionless", ", ".join(SESSIONLESS_VERSIONS)),
        ("MCP SDKs", f"`mcp` {pinned('mcp')}"),
        ("MCP SDKs", f"TypeScript ({CLIENTS['dependencies']['@modelcontextprotocol/sdk']})"),
        ("A2A", f"`a2a-sdk` {pinned('a2a-sdk')}"),
        ("models: API of OpenAI", f"`openai` {pinned('openai')}"),
        ("models: API of Anthropic", f"`anthropic` {pinned('anthropic')}"),
        ("Python", " and ".join(SUITES)),
        *(
            (name, pinned(package, f"examples/frameworks/{folder}/requirements.txt"))
            for name, (folder, package) in zip(
                ("LangGraph", "OpenAI Agents", "Pydantic AI", "AutoGen", "CrewAI"), FRAMEWORKS.items(), strict=True
            )
        ),
    ],
)
def test_a_version_is_the_one_that_tests_use(begin: str, version: str) -> None:
    assert version in row(begin)


def test_each_framework_of_the_examples_is_on_the_page() -> None:
    folders = {path.parent.name for path in (ROOT / "examples" / "frameworks").glob("*/agent.py")}
    assert folders - {"script"} == set(FRAMEWORKS), "add it to the page and to this test"


def test_each_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`((?:e2e|integration)/[\w/]+(?:\.py)?|e2e|integration)`", PAGE)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []
