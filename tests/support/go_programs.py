"""Programs in Go that tests run: the launcher of stdio servers, as its image compiles it, kstatus, and Lua."""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.cluster.images import REPOSITORY
from tools.machine.errors import UnavailableError
from tools.machine.locks import held
from tools.machine.settings import from_environment
from tools.nodeless import golang

LAUNCHER = REPOSITORY / "images" / "guard" / "launcher"
KSTATUS = Path(__file__).parent / "kstatus_program"
ARGO_LUA = Path(__file__).parent / "argo_lua_program"
SECONDS = 30
"""How long kstatus, or the scripts of Argo CD, may take."""


def build_launcher() -> Path:
    """Return the path of the launcher."""
    return _build(LAUNCHER, "interlock.dev/launch")


def build_kstatus() -> Path:
    """Return the path of a program that applies kstatus, with which Helm and Flux wait, to objects."""
    return _build(KSTATUS, "interlock.dev/kstatus")


def run_kstatus(program: Path, objects: Sequence[Any]) -> list[str]:
    """Return the status of each object by the rules of kstatus: `Current`, `InProgress`, `Failed`, `Terminating`."""
    lines = "".join(f"{json.dumps(one)}\n" for one in objects)
    ended = subprocess.run([program], input=lines, capture_output=True, text=True, check=True, timeout=SECONDS)
    return ended.stdout.split()


def build_argo_lua() -> Path:
    """Return the path of a program that runs health checks of Argo CD, with the Lua and the libraries that it has."""
    return _build(ARGO_LUA, "interlock.dev/argo-lua")


def run_argo_lua(program: Path, checks: Sequence[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Return health and message for each pair of a script and an object, such as `Healthy`.

    The health is `Error` where the script fails, which Argo CD shows as unknown.
    """
    lines = "".join(f"{json.dumps({'script': script, 'object': one})}\n" for script, one in checks)
    ended = subprocess.run([program], input=lines, capture_output=True, text=True, check=True, timeout=SECONDS)
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    return [(one["status"], one["message"]) for one in found]


def _build(source: Path, module: str) -> Path:
    """Return the path of a program, compiled once for each state of its source.

    Tests are skipped where no Go is to be had.
    """
    settings = from_environment()
    digest = hashlib.sha256()
    for path in sorted(source.iterdir()):
        digest.update(path.read_bytes())
    name = golang.program_name(module)
    target = settings.programs / f"{name}-{digest.hexdigest()[:10]}" / name
    log = settings.logs / f"{name}.log"
    with held(settings.cache / f"{name}.lock", f"the program {name}"):
        if not target.exists():
            try:
                go = golang.find_go(settings, log)
            except UnavailableError as error:
                pytest.skip(str(error))
            golang.build(go, {target: golang.GoPackage(str(source), module)}, log)
    return target
