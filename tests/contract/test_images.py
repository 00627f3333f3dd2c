"""An image has exactly the packages that its program imports: no build-time code and no command-line tools."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = {"operator": "interlock", "guard": "interlock_guard", "audit": "interlock_audit"}
IMPORT_ALL = """
import importlib, pkgutil, sys
for package in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def packages_of(image: str) -> list[str]:
    text = (ROOT / "images" / image / "Dockerfile").read_text(encoding="utf-8")
    return re.findall(r"^COPY operator/(\w+) /opt/interlock/\1$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("image", IMAGES)
def test_the_packages_of_an_image_import_each_other_and_nothing_else_of_the_project(image: str, tmp_path: Path) -> None:
    packages = packages_of(image)
    for package in packages:
        (tmp_path / package).symlink_to(ROOT / "operator" / package)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *packages],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert IMAGES[image] in packages
    assert {"tools", "interlock_cli", "tests"}.isdisjoint(done.stdout.split())
