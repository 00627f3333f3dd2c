"""The program as it is called: files in, bindings or sentences out, and never a secret."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.api.binding import MCPBinding
from interlock_cli.binding import Imported
from interlock_cli.credentials import Secrets
from interlock_cli.import_servers import main
from interlock_cli.operation_heuristics import Guesses
from interlock_cli.printing import print_bindings
from tests.requirements import requirement
from tests.unit.cli.conftest import Run

ROOT = Path(__file__).parents[3]
DESKTOP = ROOT / "tests" / "data" / "desktop"
PAGE = (ROOT / "docs" / "how-to" / "import.md").read_text(encoding="utf-8")
CANARY = "hunter2hunter2"


def server(**members: Any) -> dict[str, Any]:
    return {"mcpServers": {"crm": {"command": "crm-server", **members}}}


def remote(**members: Any) -> dict[str, Any]:
    return {"mcpServers": {"crm": {"url": "https://crm.example.com/mcp", **members}}}


def binding(out: str) -> dict[str, Any]:
    (found,) = yaml.safe_load_all(out)
    MCPBinding.model_validate(found)
    return found


IMAGE = ("--image", "crm=example/crm:1")


@requirement("import.shapes")
def test_three_files_of_well_known_servers_become_bindings(run: Run) -> None:
    tools = {name: ("--tools", f"{name}={DESKTOP / name}-tools.json") for name in ("filesystem", "memory")}
    code, out, _ = run(DESKTOP / "filesystem.json", "--image-for", "npx=example/node:24", *tools["filesystem"])
    spec = binding(out)["spec"]
    assert code == 0
    assert spec["server"]["stdio"]["command"] == ["npx"]
    assert spec["server"]["stdio"]["args"][1:3] == [
        "@modelcontextprotocol/server-filesystem",
        "/Users/username/Desktop",
    ]
    assert [tool["operation"] for tool in spec["tools"] if tool["name"] == "write_file"] == ["delete"]
    assert "'/Users/username/Desktop', '/path/to/other/allowed/dir'" in out.replace("\n#   ", " ")

    code, out, _ = run(DESKTOP / "memory-windows.json", "--image-for", "npx=example/node:24", *tools["memory"])
    spec = binding(out)["spec"]
    assert spec["server"]["stdio"]["command"] == ["npx"]
    assert spec["server"]["stdio"]["env"] == [{"name": "MEMORY_FILE_PATH", "value": "/path/to/custom/memory.jsonl"}]
    assert len(spec["tools"]) == 9

    code, out, _ = run(DESKTOP / "github-vscode.json")
    reference = {"secretKeyRef": {"name": "github", "key": "Authorization"}}
    assert binding(out)["spec"]["server"]["http"] == {
        "url": "https://api.githubcopilot.com/mcp/",
        "headers": [{"name": "Authorization", "valueFrom": reference}],
    }
    assert 'the whole value: "Bearer " and ${input:github_mcp_pat}' in out

    code, out, _ = run(DESKTOP / "github-docker.json", "--command", "github=/server/github-mcp-server stdio")
    stdio = binding(out)["spec"]["server"]["stdio"]
    assert (stdio["image"], stdio["command"]) == (
        "ghcr.io/github/github-mcp-server",
        ["/server/github-mcp-server", "stdio"],
    )
    assert stdio["env"][0]["valueFrom"] == {"secretKeyRef": {"name": "github", "key": "github_token"}}


@requirement("import.nothing-unstated")
def test_the_permissions_are_those_of_the_file_and_nothing_else_is_permitted(run: Run) -> None:
    written = {"read": ["contacts"], "write": [], "delete": []}
    approved = {"autoApprove": ["delete_contact"], "alwaysAllow": ["delete_contact"]}
    assert binding(run(server(permissions=written), *IMAGE)[1])["spec"]["permissions"] == {"read": ["contacts"]}
    assert binding(run(server(**approved), *IMAGE)[1])["spec"]["permissions"] == {}
    spec = binding(run(server(**approved), *IMAGE)[1])["spec"]
    assert spec["tools"] == []
    assert "serverRequests" not in spec
    assert spec["environments"] == ["development"]


@requirement("import.review")
def test_guessed_tools_are_marked_for_review_and_bindings_without_any_are_not(run: Run, tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text('{"tools": [{"name": "get_contact"}]}')
    _, out, _ = run(server(), *IMAGE, "--tools", f"crm={tools}")
    assert "interlock.dev/needs-review" in binding(out)["metadata"]["annotations"]
    assert "guessed" in out
    assert "annotations" not in binding(run(server(), *IMAGE)[1])["metadata"]


@requirement("import.secrets")
@pytest.mark.parametrize(
    "file",
    [
        server(env={"CRM_TOKEN": CANARY}),
        server(env={"NOTE": f"Bearer {CANARY}"}),
        server(env={"DB": f"postgres://ada:{CANARY}@db/crm"}),
        server(env={"MIXED": f"{CANARY} ${{TOKEN}}"}),
        server(env={"MIXED": "${TOKEN:-" + CANARY + "}"}),
        server(args=["--api-key", CANARY]),
        server(args=[f"--password={CANARY}"]),
        server(args=[f"TOKEN={CANARY}"]),
        server(args=["--header", f"Authorization: {CANARY}"]),
        server(args=[f"postgresql://ada:{CANARY}@db/crm"]),
        {"mcpServers": {"crm": {"command": "docker", "args": ["run", "-e", f"CRM_TOKEN={CANARY}", "example/crm"]}}},
        remote(url=f"https://ada:{CANARY}@crm.example.com/mcp"),
        remote(url=f"https://crm.example.com/mcp?api_key={CANARY}"),
        remote(headers={"Authorization": CANARY}),
        remote(headers={"X-Thing": f"Bearer {CANARY}"}),
        remote(headers={"Authorization": f"{CANARY}\n"}),
    ],
    ids=lambda file: json.dumps(file["mcpServers"]["crm"])[:60],
)
def test_no_secret_of_the_file_is_ever_printed(run: Run, file: dict[str, Any]) -> None:
    code, out, err = run(file, *(IMAGE if "command" in file["mcpServers"]["crm"] else ()), *_entry_point(file))
    assert CANARY not in out + err
    assert ("kubectl create secret generic crm" in out) if code == 0 else err


def _entry_point(file: dict[str, Any]) -> tuple[str, ...]:
    return ("--command", "crm=crm-server") if file["mcpServers"]["crm"].get("command") == "docker" else ()


def keep(count: int) -> tuple[str, ...]:
    return tuple(word for index in range(count) for word in ("--keep", f"crm:args[{index}]"))


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "the file names no image for the server": (server(), ()),
    "'two words' is not an image": (server(), ("--image", "crm=two words")),
    "is not a program": (server(command="npx -y x"), IMAGE),
    "mcpServers.crm needs exactly one of command and url": (server(url="https://x.example.com/"), IMAGE),
    "mcpServers.crm.headers does not belong": (server(headers={"A": "b"}), IMAGE),
    "mcpServers.crm.env does not belong": (remote(env={"A": "b"}), ()),
    "mcpServers.crm.cwd cannot be imported": (server(cwd="/x"), IMAGE),
    "mcpServers.crm.envFile cannot be imported": (server(envFile=".env"), IMAGE),
    "mcpServers.crm.oauth cannot be imported": (remote(oauth={}), ()),
    "mcpServers.crm.type is sse": (remote(type="sse"), ()),
    "mcpServers.crm.type is 'http': write stdio": (server(type="http"), IMAGE),
    "mcpServers.crm.args is not a list of strings": (server(args=["a", 1.5]), IMAGE),
    "mcpServers.crm.env.'A' is not a string": (server(env={"A": 1.5}), IMAGE),
    "mcpServers.crm.env.A has control characters": (server(env={"A": "x\x00"}), IMAGE),
    "mcpServers.crm.env is not an object": (server(env=[]), IMAGE),
    "mcpServers.crm.command is not a string": (server(command=["npx", 1]), IMAGE),
    "is not an environment variable": (server(env={"A=B": "x"}), (*IMAGE, "--keep", "crm:env.A=B")),
    "is set by Interlock": (server(env={"INTERLOCK_X": "x"}), IMAGE),
    "args[1] has a placeholder": (server(args=["x", "${TOKEN}"]), IMAGE),
    "args[0] has '${workspaceFolder}'": (server(args=["${workspaceFolder}"]), IMAGE),
    "url has a placeholder": (remote(url="https://${HOST_NAME}/mcp"), ()),
    "is not the URL of a server": (remote(url="ftp://crm.example.com/"), ()),
    "is your own machine (localhost)": (remote(url="http://localhost:3000/mcp"), ("--private", "crm")),
    "is your own machine (127.0.0.1)": (remote(url="https://127.0.0.1/mcp"), ()),
    "is http://, which is allowed only for servers at private addresses": (remote(url="http://crm.crm.svc/mcp"), ()),
    "permissions has 'execute'": (server(permissions={"execute": ["x"]}), IMAGE),
    "permissions.read has '*'": (server(permissions={"read": ["*"]}), IMAGE),
    "permissions.read is not a list": (server(permissions={"read": {"a": 1}}), IMAGE),
    "permissions is not an object": (server(permissions=["read"]), IMAGE),
    "hold more than 32768 characters together": (server(args=["x" * 4000] * 9), (*IMAGE, *keep(9))),
    "args.0: String should have at most 4096": (server(args=["x" * 4097]), (*IMAGE, *keep(1))),
    "is reserved for MCP or for the connection": (remote(headers={"Host": "x"}), ()),
    "'-v' of docker run cannot be imported": (server(command="docker", args=["run", "-v", "a:/b", "i"]), ()),
    "pass on 'A', which env does not have": (server(command="docker", args=["run", "-e", "A", "i"]), ()),
    "name no image": (server(command="docker", args=["run", "-i"]), ()),
    "do not start with run": (server(command="docker", args=["mcp", "gateway"]), ()),
    "the entry point of image 'i' is not in the file": (server(command="docker", args=["run", "i"]), ()),
    "the name cannot become a source": ({"mcpServers": {"!!": {"command": "x"}}}, ()),
    "would be one source, a-b": ({"mcpServers": {"a b": {"command": "x"}, "A-B": {"command": "x"}}}, ()),
    "the file has no server 'mail', but crm": (server(), ("--image", "mail=example/mail:1")),
    "--image 'crm' has no name or no value": (server(), ("--image", "crm")),
    "--image names 'crm' twice": (server(), (*IMAGE, *IMAGE)),
    "--namespace 'A B' is not a name": (server(), (*IMAGE, "--namespace", "A B")),
    "close the quotation mark": (server(), (*IMAGE, "--command", 'crm="x')),
    "'/nowhere' cannot be read": (server(), (*IMAGE, "--tools", "crm=/nowhere")),
}


@requirement("import.refused")
@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_imported_is_refused_with_place_value_and_way_out(run: Run, message: str) -> None:
    file, options = REFUSED[message]
    code, out, err = run(file, *options)
    assert (code, out) == (1, "")
    assert message in err
    assert ": " in err


def test_all_problems_of_a_file_are_reported_together_and_nothing_is_printed(run: Run) -> None:
    code, out, err = run(
        {"mcpServers": {"a": {"command": "x"}, "b": {"url": "ftp://b"}, "c": {"url": "https://c.example/"}}}
    )
    assert (code, out) == (1, "")
    assert [line.split(": ")[1] for line in err.splitlines()] == [
        "mcpServers.a",
        "mcpServers.b.url",
        "1 of 3 servers can be imported",
    ]


def test_a_disabled_server_is_left_out_and_reported(run: Run) -> None:
    code, out, err = run(
        {"mcpServers": {"a": {"command": "x", "disabled": True}, "b": {"url": "https://b.example.com/"}}}
    )
    assert code == 0
    assert binding(out)["spec"]["source"] == "b"
    assert "left out, because it is disabled: mcpServers.a" in err


def test_only_some_servers_can_be_asked_for(run: Run) -> None:
    both = {"mcpServers": {"a": {"command": "x"}, "b": {"url": "https://b.example.com/"}}}
    assert binding(run(both, "--only", "b")[1])["spec"]["source"] == "b"


def test_what_kubernetes_would_fill_in_is_left_as_the_desktop_has_it(run: Run) -> None:
    stdio = binding(run(server(args=["$(HOSTNAME)"], env={"A": "$(B)"}), *IMAGE)[1])["spec"]["server"]["stdio"]
    assert (stdio["args"], stdio["env"][0]["value"]) == (["$$(HOSTNAME)"], "$$(B)")


def test_nothing_in_the_file_can_end_a_comment(run: Run) -> None:
    hostile = "x\nspec: {permissions: {delete: [all]}}\u2028\x85# "
    code, out, _ = run(server(args=[f"/home/{hostile}"], **{hostile: 1}), *IMAGE, *keep(1))
    assert code == 0
    assert binding(out)["spec"]["permissions"] == {}
    assert binding(out)["spec"]["server"]["stdio"]["args"] == [f"/home/{hostile}"]


def test_environments_namespace_and_private_network_are_as_stated(run: Run) -> None:
    options = ("--private", "crm", "--namespace", "agents", "--environment", "staging", "--environment", "production")
    found = binding(run(remote(url="http://crm.crm.svc/mcp"), *options)[1])
    assert found["spec"]["environments"] == ["staging", "production"]
    assert found["spec"]["server"]["http"]["network"] == "Private"
    assert found["metadata"]["namespace"] == "agents"


@requirement("import.shapes")
def test_the_example_of_the_page_prints_what_the_page_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = re.findall(r'```json title="(.*?)"\n(.*?)```', PAGE, flags=re.DOTALL)
    (command,) = re.findall(r"^\$ interlock-import (mcp\.json .*--tools.* agents)$", PAGE, flags=re.MULTILINE)
    (printed,) = re.findall(r"```yml\n(.*?)```", PAGE, flags=re.DOTALL)
    for name, text in files:
        (tmp_path / name).write_text(text)
    words = [
        re.sub(r"(mcp|tools)\.json", lambda name: str(tmp_path / name.group(0)), word) for word in shlex.split(command)
    ]
    assert main(words) == 0
    assert capsys.readouterr().out == printed
    (dockerfile,) = re.findall(r"```Dockerfile\n(.*?)```", PAGE, flags=re.DOTALL)
    assert main([str(tmp_path / "mcp.json"), "--dockerfile", "gitlab"]) == 0
    assert capsys.readouterr().out == dockerfile


def test_a_note_stays_a_comment_whatever_is_in_it() -> None:
    manifest = {"metadata": {"name": "crm"}, "spec": {"source": "crm", "tools": [], "permissions": {}}}
    printed = print_bindings([Imported(manifest, Secrets("crm"), Guesses(), ["x\nspec: {}\u2028kind: Agent"])])
    assert list(yaml.safe_load_all(printed)) == [manifest]
