"""An image has exactly the packages that its programs import: no build-time code and no command-line tools."""

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from interlock.prices.book import PriceBook
from interlock.runtime import price_file

ROOT = Path(__file__).parents[2]
IMAGES = {
    "operator": ("interlock", "interlock_kill"),
    "guard": ("interlock_guard", "interlock_notify"),
    "audit": ("interlock_audit",),
}
"""The packages of each image's programs; its other packages are shared."""
IMPORT_ALL = """
import importlib, pkgutil, sys
packages, missing = (argument.split() for argument in sys.argv[1:])
sys.modules |= dict.fromkeys(missing)
for package in packages:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name, module in sys.modules.items() if module is not None}))
"""


def packages_of(image: str) -> list[str]:
    text = (ROOT / "images" / image / "Dockerfile").read_text(encoding="utf-8")
    return re.findall(r"^COPY operator/(\w+) /opt/interlock/\1$", text, flags=re.MULTILINE)


def packages_that_an_image_lacks(image: str) -> list[str]:
    """Return the packages of this environment that no requirement of the image brings."""
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / f"{image}.txt").read_text(), re.MULTILINE))
    names = importlib.metadata.packages_distributions()
    return [
        package
        for package, distributions in names.items()
        if pinned.isdisjoint(re.sub("[-_.]+", "-", name).lower() for name in distributions)
    ]


def import_all(image: str, packages: Iterable[str], missing: Iterable[str], folder: Path) -> list[str]:
    """Import all modules of some packages where the project has only what the image has; return what is loaded."""
    for package in packages_of(image):
        (folder / package).symlink_to(ROOT / "operator" / package)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, " ".join(packages), " ".join(missing)],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


@pytest.mark.parametrize("image", IMAGES)
def test_the_packages_of_an_image_import_each_other_and_nothing_else_of_the_project(image: str, tmp_path: Path) -> None:
    packages = packages_of(image)
    assert set(IMAGES[image]) <= set(packages)
    assert {"tools", "interlock_cli", "tests"}.isdisjoint(import_all(image, packages, (), tmp_path))


@pytest.mark.parametrize("image", IMAGES)
def test_the_programs_of_an_image_need_no_package_that_its_requirements_lack(image: str, tmp_path: Path) -> None:
    missing = packages_that_an_image_lacks(image)
    assert {"kubernetes", "pytest"} <= set(missing)
    assert set(IMAGES[image]) <= set(import_all(image, IMAGES[image], missing, tmp_path))


def test_the_price_book_is_compiled_from_what_its_stage_has_and_lands_where_the_operator_reads_it(
    tmp_path: Path,
) -> None:
    dockerfile = (ROOT / "images" / "operator" / "Dockerfile").read_text(encoding="utf-8")
    stage = dockerfile.partition("FROM ${BASE} AS prices\n")[2].partition("\nFROM ")[0]
    for source, place in re.findall(r"^COPY (\S+) /src/(\S+)$", stage, flags=re.MULTILINE):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).symlink_to(ROOT / source)
    missing = packages_that_an_image_lacks("prices")
    assert {"aiohttp", "pytest"} <= set(missing)
    start = (
        f"import runpy, sys; sys.modules |= dict.fromkeys({missing!r}); sys.argv[1:] = ['prices.json']; "
        "runpy.run_module('tools.prices', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", start], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert PriceBook.parse((tmp_path / "prices.json").read_bytes()).timestamp > 0
    assert "\nCOPY --from=prices /opt/prices.json /opt/interlock/prices.json\n" in dockerfile
    assert price_file.BESIDE_PACKAGES == ROOT / "operator" / "prices.json", "next to the packages, as in the image"


@pytest.mark.parametrize("program", ["interlock", "interlock_kill"])
def test_a_program_in_its_image_says_what_a_kubeconfig_needs(program: str, tmp_path: Path) -> None:
    start = f"import runpy, sys; sys.modules['kubernetes'] = None; runpy.run_module({program!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", start],
        env={
            "PYTHONPATH": str(ROOT / "operator"),
            "INTERLOCK_KUBECONFIG": str(tmp_path / "kubeconfig"),
            "INTERLOCK_TELEMETRY_PORT": "0",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'interlock[kubeconfig]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
