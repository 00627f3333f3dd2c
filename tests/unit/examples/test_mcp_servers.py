"""The bindings for common MCP servers, and the page that says how each was imported."""

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.api.binding import MCPBinding
from interlock_cli.import_servers import main
from tests.requirements import requirement

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "mcp-servers"
PAGE = (ROOT / "docs" / "how-to" / "common-servers.md").read_text(encoding="utf-8")
KINDS = ["npx", "uvx", "oci", "remote", "filesystem", "git", "postgres", "browser", "github", "slack"]


def sections() -> dict[str, str]:
    """Return each section of the page by the file that is its example."""
    found = (part for part in PAGE.split("\n## ")[1:] if "Example: [" in part)
    return {re.findall(r"Example: \[(.*)\.yaml\]", part)[0]: part for part in found}


def example(kind: str) -> Any:
    return yaml.safe_load((EXAMPLES / f"{kind}.yaml").read_text(encoding="utf-8"))


def test_each_kind_has_a_section_and_an_example() -> None:
    files = {path.stem for path in EXAMPLES.glob("*.yaml")} - {"1-namespace"}
    assert list(sections()) == KINDS
    assert files == set(KINDS)


@requirement("import.shapes")
@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_what_the_import_of_the_page_prints_and_a_map(kind: str, tmp_path: Path) -> None:
    section = sections()[kind]
    ((name, config),) = re.findall(r'```json title="(.*?)"\n(.*?)```', section, flags=re.DOTALL)
    command = re.findall(rf"^\$ interlock-import {name} *(.*)$", section, flags=re.MULTILINE)[-1]
    (tmp_path / "mcp.json").write_text(config)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(tmp_path / "mcp.json"), *shlex.split(command)]) == 0
    imported = yaml.safe_load(out.getvalue())["spec"]
    shown = example(kind)["spec"]
    assert shown["source"] == imported["source"]
    for name, value in imported["server"].get("http", {}).items():
        assert name != "url" or shown["server"]["http"]["url"] == value
    stdio = imported["server"].get("stdio", {})
    for name in ("image", "command"):
        assert stdio.get(name) == shown["server"].get("stdio", {}).get(name)
    variables = {one["name"] for one in shown["server"].get("stdio", {}).get("env", [])}
    assert {one["name"] for one in stdio.get("env", [])} <= variables


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_maps_tools_and_permits_no_deletion(kind: str) -> None:
    spec = MCPBinding.model_validate(example(kind)).spec
    resources = {(tool.operation, tool.resource) for tool in spec.tools}
    permitted = {("read", name) for name in spec.permissions.read} | {
        ("write", name) for name in spec.permissions.write
    }
    assert spec.tools
    assert permitted <= resources
    assert not spec.permissions.delete


@pytest.mark.parametrize("kind", KINDS)
def test_no_example_has_a_secret_in_a_value(kind: str) -> None:
    server = MCPBinding.model_validate(example(kind)).spec.server
    variables = [*(server.stdio.env if server.stdio else ()), *(server.http.headers if server.http else ())]
    assert [one.name for one in variables if "TOKEN" in one.name and one.value is not None] == []
