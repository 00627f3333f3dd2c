"""The launcher of stdio servers, compiled from this tree as the guard's image compiles it."""

import hashlib
from pathlib import Path

import pytest

from tools.cluster.images import REPOSITORY
from tools.machine.errors import UnavailableError
from tools.machine.locks import held
from tools.machine.settings import from_environment
from tools.nodeless import golang

SOURCE = REPOSITORY / "images" / "guard" / "launcher"
MODULE = "interlock.dev/launch"


def build_launcher() -> Path:
    """Return the path of the launcher, compiled once for each state of its source.

    Tests are skipped where no Go is to be had.
    """
    settings = from_environment()
    digest = hashlib.sha256()
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.read_bytes())
    target = settings.programs / f"launch-{digest.hexdigest()[:10]}" / "launch"
    log = settings.logs / "launcher.log"
    with held(settings.cache / "launcher.lock", "the launcher"):
        if not target.exists():
            try:
                go = golang.find_go(settings, log)
            except UnavailableError as error:
                pytest.skip(str(error))
            golang.build(go, {target: golang.GoPackage(str(SOURCE), MODULE)}, log)
    return target
