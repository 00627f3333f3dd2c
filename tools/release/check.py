"""`python -m tools.release.check [--tag v1.2.3]`: what must be true before a release, each fault on a line of its own.

The tests say whether Interlock works. These checks say whether a tag names what it is on.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from interlock_contract.version import VERSION
from tools.charts.__main__ import find_drift, render_files
from tools.cluster import engine, images
from tools.machine.errors import ClusterError
from tools.machine.process import run, say
from tools.machine.settings import Settings, from_environment
from tools.release import layers
from tools.release.__main__ import NAMES, size_of

ROOT: Final = images.REPOSITORY
_HEADING: Final = re.compile(r"^## (?P<version>\S+)(?P<rest>.*)$", re.MULTILINE)
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check; 1 where something is not ready for a release."""
    parser = argparse.ArgumentParser(prog="python -m tools.release.check", description=__doc__)
    parser.add_argument("--tag", default="", help="the tag of the release in Git, such as v1.2.3")
    parser.add_argument("--without-images", action="store_true", help="build and measure no images")
    chosen = parser.parse_args(arguments)
    try:
        faults = [*find_faults(chosen.tag, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))]
        faults += find_drift(ROOT, render_files())
        if chosen.tag:
            faults += [f"{line[3:]} is not committed" for line in _changed().splitlines()]
        if not chosen.without_images:
            faults += measure_images(from_environment())
    except ClusterError as error:
        faults = [str(error)]
    for fault in faults:
        print(f"release-check: {fault}", file=sys.stderr)
    if not faults:
        say(f"release-check: {VERSION} is ready")
    return 1 if faults else 0


def find_faults(tag: str, changelog: str, version: str = VERSION) -> Iterator[str]:
    """Yield what of the texts of the repository does not fit the version.

    Args:
        tag: The tag in Git, empty before there is one.
        changelog: The text of CHANGELOG.md.
        version: The version of operator/interlock_contract/version.py.
    """
    if _VERSION.fullmatch(version) is None:
        yield f"the version {version} is not one of semantic versioning"
    first = _HEADING.search(changelog)
    if first is None or first["version"] != version:
        yield f"CHANGELOG.md begins with {first['version'] if first else 'no version'}, and the version is {version}"
    if not tag:
        return
    if tag != f"v{version}":
        yield f"the tag {tag} is not v{version}: change operator/interlock_contract/version.py, then run make charts"
    if first is not None and "unreleased" in first["rest"]:
        yield f"CHANGELOG.md calls {version} unreleased: write the date in its place"


def measure_images(settings: Settings) -> list[str]:
    """Build the images of the manifests where they changed, and return those that are too large.

    Raises:
        ClusterError: No image can be built here.
    """
    docker, faults = engine.ensure(settings), []
    images.ensure(docker, settings, NAMES)
    for image in images.named(NAMES):
        with tempfile.TemporaryDirectory(prefix="interlock-release-") as folder:
            archive = Path(folder) / "image.tar"
            docker.docker("save", "--output", str(archive), image.name)
            size = size_of(image, archive)
        say(f"release-check: {image.name} adds {size / 2**20:.1f} MiB to its base image, compressed")
        try:
            layers.check_size(image.name, size)
        except ClusterError as error:
            faults.append(str(error))
    return faults


def _changed() -> str:
    return run(["git", "status", "--porcelain"], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
