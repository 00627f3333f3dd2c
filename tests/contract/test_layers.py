import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import requirement

ROOT = Path(__file__).parents[2]
OPERATOR = ROOT / "operator"
LAYERS = ("governance", "orchestration", "action", "deployment")


def modules_imported_by(module: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter holds after one import."""
    code = f"import {module}, json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(OPERATOR)}, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def layers_in(modules: set[str]) -> list[str]:
    layers = (*LAYERS, "reconcile")
    return sorted(name for name in modules if name.startswith("interlock.") and name.split(".")[1] in layers)


@requirement("code.layers")
@pytest.mark.parametrize("layer", [*LAYERS, "reconcile", "prices"])
def test_each_layer_says_what_it_is_for(layer: str) -> None:
    readme = OPERATOR / "interlock" / layer / "README.md"

    assert readme.is_file()
    assert 1 <= len(readme.read_text(encoding="utf-8").strip().splitlines()) <= 10


def test_the_operator_folder_is_no_package() -> None:
    """An operator/__init__.py would shadow the standard library's module for a program with the root on its path."""
    assert not (OPERATOR / "__init__.py").exists()


def test_the_standard_librarys_operator_is_found_from_the_root() -> None:
    code = "import operator, collections; print(operator.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": "."}, capture_output=True, text=True, check=True
    )

    assert str(ROOT) not in done.stdout.replace(str(ROOT / ".venv"), "")


@requirement("rollout.one-clock")
def test_the_operator_reads_the_clock_of_its_node_in_one_place() -> None:
    modules = (OPERATOR / "interlock").rglob("*.py")
    readers = [path.name for path in modules if "utc_now" in path.read_text(encoding="utf-8")]

    assert readers == ["operator_clock.py"]


@requirement("kill.shares-nothing")
def test_the_kill_controller_imports_nothing_of_the_operator() -> None:
    imported = modules_imported_by("interlock_kill.__main__")
    packages = {module.partition(".")[0] for module in imported}

    assert "interlock_kill" in packages
    assert packages & {"interlock", "interlock_guard", "interlock_audit", "kopf", "pydantic", "kubernetes"} == set()


@pytest.mark.parametrize("layer", [*LAYERS, "reconcile", "api", "prices"])
def test_a_pure_package_opens_no_connection_and_reads_no_clock(layer: str) -> None:
    forbidden = ("import aiohttp", "import asyncio", "import socket", "import os\n", "import time\n", "utc_now")

    for path in sorted((OPERATOR / "interlock" / layer).glob("*.py")):
        source = path.read_text(encoding="utf-8")
        assert [word for word in forbidden if word in source] == [], path


def test_no_test_lives_among_the_product_code() -> None:
    assert [*OPERATOR.rglob("test_*.py"), *OPERATOR.rglob("conftest.py")] == []
