"""The workflows do what README and CONTRIBUTING say of them. tests/integration/tools runs actionlint on them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.requirements import requirement
from tests.support.page_commands import printed

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.iterdir())


def workflow(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def scripts(found: Any) -> str:
    """Return all that a workflow runs in a shell."""
    return "\n".join(step["run"] for job in found["jobs"].values() for step in job["steps"] if "run" in step)


@requirement("supply.workflows")
def test_both_commands_of_the_readme_run_on_every_python_that_it_names() -> None:
    matrix = workflow("ci.yml")["jobs"]["readme"]["strategy"]["matrix"]
    commands = [one.command for one in printed(ROOT, "README.md")]
    assert matrix["command"] == commands[:2] == ["make demo", "make test"]
    readme = re.search(r"Python 3\.(\d+) to 3\.(\d+) with", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert readme is not None
    assert matrix["python"] == [f"3.{minor}" for minor in range(int(readme[1]), int(readme[2]) + 1)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={matrix['python'][0]}"


@requirement("supply.workflows")
def test_a_tag_releases_images_for_two_architectures_and_the_charts_to_the_registry_of_a_variable() -> None:
    found = workflow("release.yml")
    assert found[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as a boolean
    job = found["jobs"]["release"]
    assert job["if"] == "vars.REGISTRY != ''"
    assert job["env"]["REGISTRY"] == "${{ vars.REGISTRY }}"
    script = scripts(found)
    assert 'make release-check TAG="$TAG"' in script
    assert 'make release REGISTRY="$REGISTRY" TAG="${TAG#v}" PLATFORMS=linux/amd64,linux/arm64' in script
    assert '"$helm" push "$package" "oci://$REGISTRY/charts"' in script


@requirement("supply.workflows")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_a_workflow_reads_the_repository_and_a_release_alone_writes_packages(path: Path) -> None:
    found = workflow(path.name)
    assert found["permissions"] == {"contents": "read"}
    writing = [job for job in found["jobs"].values() if "write" in job.get("permissions", {}).values()]
    assert [job["permissions"] for job in writing] == ([{"contents": "read", "packages": "write"}] * len(writing))
    assert bool(writing) == (path.name == "release.yml")


@requirement("supply.workflows")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_no_text_of_others_becomes_part_of_a_script(path: Path) -> None:
    """A branch or title with `$(...)` would otherwise be a command. Scripts read variables, or a matrix of ours."""
    assert set(re.findall(r"\$\{\{\s*([^}]*?)\s*\}\}", scripts(workflow(path.name)))) <= {"matrix.command"}


def test_contributing_says_that_the_workflows_have_not_run() -> None:
    assert "have not run yet" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
