"""The search for each supported Python, and what a run of all of them says."""

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import pythons
from tools.machine.errors import UnavailableError
from tools.machine.settings import Settings, from_environment

Write = Callable[[str, str], Path]


@pytest.fixture
def program(tmp_path: Path) -> Write:
    def write(name: str, script: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    return write


def test_a_name_does_not_show_a_version(program: Write, tmp_path: Path) -> None:
    shim = program("shims/python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    other = program("other/python3.13", "echo 3.12")
    real = program("real/python3.13", "echo 3.13")

    assert pythons.find("3.13", [tmp_path / "missing", shim, other]) is None
    assert pythons.find("3.13", [shim, other, real]) == pythons.Interpreter("3.13", real)


def test_the_path_comes_before_the_installations_of_pyenv_and_uv(program: Write, tmp_path: Path) -> None:
    pyenv = program(".pyenv/versions/3.13.0/bin/python3", "echo 3.13")
    program(".pyenv/versions/3.12.1/bin/python3", "echo 3.12")
    uv = program(".local/share/uv/python/cpython-3.13.5-linux/bin/python3", "echo 3.13")

    found = list(pythons.candidates("3.13", {"PATH": "/opt/a:/opt/b", "HOME": str(tmp_path)}))

    assert found == [Path("/opt/a/python3.13"), Path("/opt/b/python3.13"), pyenv, uv]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is run, with nothing run in truth: 3.11 is here, 3.13 is not."""
    seen: list[str] = []

    def here(found: pythons.Interpreter, settings: Settings) -> int:
        assert settings == from_environment()
        seen.append(f"{found.version} here")
        return 0

    def in_root(version: str, settings: Settings) -> int:
        assert settings == from_environment()
        seen.append(f"{version} in a root")
        return 0

    monkeypatch.setattr(pythons, "find", lambda one, _: pythons.Interpreter(one, Path("p")) if one == "3.11" else None)
    monkeypatch.setattr(pythons, "_run_here", here)
    monkeypatch.setattr(pythons, "_run_in_root", in_root)
    return seen


def test_a_version_that_the_machine_has_not_comes_from_a_root(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert pythons.main() == 0
    assert ran == ["3.11 here", "3.13 in a root"]
    assert capsys.readouterr().err.splitlines()[-1] == "make unit verify passed with Python 3.11 and 3.13"


@pytest.mark.parametrize("fault", ["fails", "cannot be had"])
def test_one_version_that_did_not_pass_fails_the_whole(
    ran: list[str], fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_root(*_: object) -> int:
        if fault == "fails":
            return 2
        raise UnavailableError("Python 3.13 is missing: install it")

    monkeypatch.setattr(pythons, "_run_in_root", in_root)

    assert pythons.main() == 1
    assert ran == ["3.11 here"]
    assert capsys.readouterr().err.splitlines()[-1] == "make unit verify failed with Python 3.13"


@pytest.mark.skipif(shutil.which("make") is None, reason="the root in which another Python runs has no make")
def test_the_commands_of_make_are_those_for_a_place_without_make() -> None:
    commands = pythons.commands_of(["make", "VENV=/no/such/venv", "unit", "verify"])

    assert commands[0] == "tools/venv.sh /no/such/venv python3"
    assert commands[1] == "/no/such/venv/bin/python -m tools.prices operator/prices.json"
    assert commands[2] == "/no/such/venv/bin/python -m pytest tests/unit tests/contract tests/scenarios"
    assert "/no/such/venv/bin/mypy" in commands
    assert all(command.startswith(("tools/venv.sh ", "/no/such/venv/bin/")) for command in commands)


def test_the_oldest_version_is_the_one_that_the_project_requires() -> None:
    project = tomllib.loads((pythons.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["requires-python"] == f">={next(iter(pythons.SUITES))}"


def test_the_readme_names_the_range_that_is_run() -> None:
    oldest, *_, newest = pythons.SUITES

    assert f"You need Python {oldest} to {newest} with" in (pythons.REPOSITORY / "README.md").read_text(
        encoding="utf-8"
    )
