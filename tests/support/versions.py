"""Versions of this project to install: this one, and one from its history."""

import io
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.cluster.kind import KindCluster
from tools.machine.process import run

ROOT = Path(__file__).parents[2]
_OURS = re.compile(r"((?:registry\.invalid/interlock|\{NAMES\})/[a-z-]+):dev\b")
_NAMING = ("tools/cluster/images.py", "manifests/**/*.yaml", "charts/**/*.yaml")


@dataclass(frozen=True)
class Version:
    """Files of one version, whose images are on the cluster.

    Attributes:
        folder: The checkout.
        tag: Of its images.
    """

    folder: Path
    tag: str


NOW = Version(ROOT, "dev")


def earlier(commit: str, folder: Path, cluster: KindCluster) -> Version:
    """Check a commit out, build its images under a tag of their own, and put them onto a cluster.

    Args:
        commit: In this repository's history.
        folder: Where its files go.
        cluster: That gets the images.
    """
    tag = commit[:12]
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False, timeout=60)
    if archive.returncode != 0:
        pytest.fail(f"the commit {commit} is missing, get the whole history with `git fetch --unshallow`")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    for pattern in _NAMING:
        for path in folder.glob(pattern):
            path.write_text(_OURS.sub(rf"\1:{tag}", path.read_text()))
    build = [sys.executable, "-m", "tools.cluster", "images", "--name", cluster.name, "operator", "guard", "audit"]
    run(build, env={"PYTHONPATH": os.fspath(folder / "operator")}, cwd=folder)
    return Version(folder, tag)
