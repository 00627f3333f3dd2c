"""Imported bindings: a real API server accepts them, and an agent waits until they are reviewed."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock_cli.import_servers import main
from tests.integration.kubectl import Api
from tests.requirements import requirement
from tests.unit.cli import test_files_of_clients, test_values_of_files

pytestmark = pytest.mark.api

CASES = test_files_of_clients.CASES | test_values_of_files.CASES
DESKTOP = Path(__file__).parents[1] / "data" / "desktop"
NPX = ("--image-for", "npx=example/node:24")
FILES: dict[str, tuple[str, ...]] = {
    "filesystem.json": (*NPX, "--tools", f"filesystem={DESKTOP / 'filesystem-tools.json'}"),
    "memory-windows.json": (*NPX, "--tools", f"memory={DESKTOP / 'memory-tools.json'}"),
    "github-vscode.json": (),
    "github-docker.json": ("--command", "github=/server/github-mcp-server stdio"),
}
DOCS = """{"salesforce": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-salesforce"],
 "env": {"X": "${TOKEN}"},
 "permissions": {"read": ["contacts", "opportunities"], "write": ["tasks"], "delete": []}}}"""


def imported(path: Path, *options: str) -> list[dict[str, Any]]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([str(path), *options]) == 0
    return list(yaml.safe_load_all(printed.getvalue()))


@requirement("import.accepted")
@pytest.mark.parametrize("file", FILES)
def test_the_api_server_accepts_what_a_real_file_becomes(server: Api, file: str) -> None:
    (binding,) = imported(DESKTOP / file, *FILES[file])
    with server.namespace() as namespace:
        answer = server.try_create(binding, namespace)
    assert answer.ok, answer.text


@requirement("import.accepted")
def test_the_api_server_accepts_what_the_files_of_all_clients_become(server: Api, tmp_path: Path) -> None:
    path, refused, count = tmp_path / "mcp.json", {}, 0
    with server.namespace() as namespace:
        for name, case in CASES.items():
            if case.code != 0:
                continue
            path.write_text(case.file if isinstance(case.file, str) else json.dumps(case.file), encoding="utf-8")
            for binding in imported(path, *case.options):
                count += 1
                binding["metadata"]["name"] = f"{binding['metadata']['name']}-{count}"
                answer = server.try_create(binding, namespace)
                if not answer.ok:
                    refused[name] = answer.text
    assert refused == {}
    assert count > len(CASES) // 3


@requirement("import.accepted")
def test_the_api_server_accepts_the_documented_example_and_keeps_every_word_of_it(server: Api, tmp_path: Path) -> None:
    (tmp_path / "desktop.json").write_text(DOCS)
    (tmp_path / "tools.json").write_text('{"tools": [{"name": "get_contact"}, {"name": "create_task"}]}')
    (binding,) = imported(tmp_path / "desktop.json", *NPX, "--tools", f"salesforce={tmp_path / 'tools.json'}")
    with server.namespace() as namespace:
        answer = server.try_create(binding, namespace)
    assert answer.ok, answer.text
    kept = answer.json()["spec"]
    assert kept["server"]["stdio"].pop("network") == "None", "what the file does not say is not let out"
    assert {name: kept[name] for name in binding["spec"]} == binding["spec"]
    assert answer.json()["metadata"]["annotations"] == binding["metadata"]["annotations"]
