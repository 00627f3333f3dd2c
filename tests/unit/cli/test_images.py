from typing import Any

import pytest
import yaml

from interlock_cli.images import ENTRY_POINTS, EntryPoint, entry_point
from tests.requirements import requirement
from tests.unit.cli.conftest import Run

GITHUB = EntryPoint(("/server/github-mcp-server",), ("stdio",))


@requirement("import.images")
@pytest.mark.parametrize("end", ["", ":v1.2.0", f"@sha256:{'0' * 64}", f":latest@sha256:{'0' * 64}"])
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_image_is_known_with_any_tag_and_digest(name: str, end: str) -> None:
    assert entry_point(name + end) == ENTRY_POINTS[name]


@requirement("import.images")
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_a_known_image_needs_no_option(run: Run, name: str) -> None:
    code, out, err = run({"mcpServers": {"crm": {"command": "docker", "args": ["run", "-i", "--rm", name]}}})
    assert code == 0, err
    assert yaml.safe_load(out)["spec"]["server"]["stdio"]["image"] == name


@pytest.mark.parametrize("name", ["docker.io/mcp/git", "docker.io/mcp/git:1", "mcp/git"])
def test_docker_hub_may_be_named_or_not(name: str) -> None:
    assert entry_point(name) == EntryPoint(("mcp-server-git",))


@pytest.mark.parametrize(
    "image",
    [
        "",
        "git",
        "mcp/gitlab",
        "mcp",
        "example.com/mcp/git",
        "example.com:5000/mcp/git:1",
        "ghcr.io/github/github-mcp-server/more",
        "mcp/git\n",
        "mcp/Git",
        f"mcp/git{'a' * 4096}",
    ],
)
def test_an_image_of_another_name_is_not_known(image: str) -> None:
    assert entry_point(image) is None


@requirement("import.images")
def test_ten_images_are_known_and_each_names_a_program() -> None:
    assert len(ENTRY_POINTS) == 10
    assert all(known.entrypoint for known in ENTRY_POINTS.values())
    assert entry_point("ghcr.io/github/github-mcp-server:v1") == GITHUB


def docker_run(image: str, *arguments: str) -> dict[str, Any]:
    return {"mcpServers": {"crm": {"command": "docker", "args": ["run", "-i", "--rm", image, *arguments]}}}


@requirement("import.images")
@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("ghcr.io/github/github-mcp-server",), ["/server/github-mcp-server", "stdio"]),
        (("ghcr.io/github/github-mcp-server:v1", "http"), ["/server/github-mcp-server", "http"]),
        (("mcp/memory",), ["node", "dist/index.js"]),
        (("mcp/git", "--verbose"), ["mcp-server-git", "--verbose"]),
    ],
)
def test_a_binding_runs_what_docker_would_run(run: Run, words: tuple[str, ...], command: list[str]) -> None:
    code, out, err = run(docker_run(*words), "--keep", "crm:args[4]" if len(words) > 1 else "crm:args[3]")
    assert code == 0, err
    stdio = yaml.safe_load(out)["spec"]["server"]["stdio"]
    assert (stdio["image"], [*stdio["command"], *stdio.get("args", [])]) == (words[0], command)


@requirement("import.images")
def test_the_refusal_of_another_image_says_which_command_shows_its_entry_point(run: Run) -> None:
    code, out, err = run(docker_run("example/crm:1"))
    assert (code, out) == (1, "")
    assert 'docker image inspect --format "{{json .Config.Entrypoint}} {{json .Config.Cmd}}"' in err
    assert '--command "crm=<Entrypoint and Cmd>"' in err
    assert " sh " not in err, "the image needs no shell"
