"""The version of Interlock is written in one place, from which everything else has it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from interlock_contract.version import VERSION
from tests.requirements import requirement
from tools.release.check import find_faults

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "operator" / "interlock_contract" / "version.py"


@requirement("supply.version")
def test_the_package_reads_its_version_where_the_programs_do() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    read = project["tool"]["hatch"]["version"]
    assert project["project"]["dynamic"] == ["version"]
    assert "version" not in project["project"]
    found = re.search(read["pattern"], (ROOT / read["path"]).read_text(encoding="utf-8"))
    assert found is not None
    assert found["version"] == VERSION


@requirement("supply.version")
def test_the_charts_and_the_images_that_they_name_by_default_have_this_version() -> None:
    for chart in ("interlock", "interlock-crds"):
        described = yaml.safe_load((ROOT / "charts" / chart / "Chart.yaml").read_text(encoding="utf-8"))
        assert (described["version"], described["appVersion"]) == (VERSION, VERSION)
    assert not yaml.safe_load((ROOT / "charts/interlock/values.yaml").read_text(encoding="utf-8"))["images"]["tag"]


@requirement("supply.version")
def test_the_tools_for_clusters_read_it_without_the_packages_on_the_path() -> None:
    """Pages have `python -m tools.cluster` as a command, without PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "import tools.cluster.__main__, tools.cluster.images; print(tools.cluster.images.read_version())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, VERSION), done.stderr


@requirement("supply.version")
def test_no_program_writes_the_version_itself() -> None:
    files = [path for folder in ("operator", "tools") for path in (ROOT / folder).rglob("*.py") if path != PLACE]
    assert len(files) > 100
    word = re.compile(rf"(?<![\w.]){re.escape(VERSION)}(?![\w.])")
    assert [str(path.relative_to(ROOT)) for path in files if word.search(path.read_text(encoding="utf-8"))] == []


@requirement("supply.version")
def test_changelog_and_readme_speak_of_this_version() -> None:
    assert list(find_faults("", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))) == []
    minor = ".".join(VERSION.split(".")[:2])
    assert f"Version {minor} " in (ROOT / "README.md").read_text(encoding="utf-8")
