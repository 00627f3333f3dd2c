"""`python -m tools.pythons`: `make unit verify` with the oldest and the newest Python that README promises.

Both must have run, or the command fails. A version that this machine does not have comes from the Debian suite whose
Python it is: as root on Debian or Ubuntu, in a file tree of its own next to those that our images are made of.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.machine import versions
from tools.machine.errors import ClusterError, UnavailableError
from tools.machine.process import say
from tools.machine.settings import Settings, from_environment
from tools.nodeless import debian

REPOSITORY = Path(__file__).parents[1]
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
"""The versions, each with the Debian suite that brings it."""
TARGETS = ("unit", "verify")
LEFT_OUT = (".git", ".venv*", "__pycache__", "node_modules", ".*_cache", ".hypothesis")
IN_ROOT = """
set -eu
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc" 2>/dev/null || mount --rbind /proc "$1/proc"
mount -t tmpfs tmpfs "$1/tmp"
cp -L /etc/resolv.conf /etc/hosts "$1/etc/"
cp -L "/$2" "$1/$2"
exec chroot "$1" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp PYTHONPATH=operator "${@:4}" sh -euxc "cd /work; $3"
"""
"""Runs in a mount namespace of its own, so that nothing stays mounted: ROOT, CA BUNDLE, SCRIPT, VARIABLES."""


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine.

    Attributes:
        version: Such as 3.13.
        path: Its program.
    """

    version: str
    path: Path


def main() -> int:
    """Run the targets with every version, the missing ones last; 1 if one failed or could not run."""
    settings, failed = from_environment(), []
    for version, suite in SUITES.items():
        found = find(version, candidates(version, os.environ))
        say(f"Python {version}: {found.path if found else f'from Debian {suite}'}")
        try:
            code = _run_here(found, settings) if found else _run_in_root(version, settings)
        except ClusterError as error:
            say(str(error))
            code = 1
        if code:
            failed.append(version)
    say(f"make {' '.join(TARGETS)} failed with Python {', '.join(failed)}" if failed else _done())
    return 1 if failed else 0


def candidates(version: str, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the programs that may be this version: on the path, then those of pyenv and uv."""
    for folder in environ.get("PATH", "").split(os.pathsep):
        yield Path(folder) / f"python{version}"
    home = Path(environ.get("HOME", "/nonexistent"))
    for folder, pattern in ((".pyenv/versions", f"{version}.*"), (".local/share/uv/python", f"cpython-{version}.*")):
        yield from (path / "bin" / "python3" for path in sorted((home / folder).glob(pattern)))


def find(version: str, paths: Iterable[Path]) -> Interpreter | None:
    """Return the first program that is this version and can make environments, None if there is none.

    A name proves nothing: a shim of pyenv has the name of a version that it may not have.
    """
    check = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    for path in paths:
        if not path.is_file():
            continue
        try:
            done = subprocess.run([path, "-c", check], capture_output=True, text=True, timeout=30, check=False)
        except OSError:
            continue
        if done.returncode == 0 and done.stdout.strip() == version:
            return Interpreter(version, path)
    return None


def _run_here(found: Interpreter, settings: Settings) -> int:
    """Run the targets in an environment of this version, kept in the cache."""
    venv = settings.cache / f"venv-{found.version}"
    command = ["make", f"VENV={venv}", f"PYTHON={found.path}", *TARGETS]
    return subprocess.run(command, cwd=REPOSITORY, env=_outside_of_make(), check=False).returncode


def _run_in_root(version: str, settings: Settings) -> int:
    """Run what the targets run in a Debian root, on a copy of the repository.

    Raises:
        UnavailableError: Not root on Debian or Ubuntu.
    """
    if not debian.can_install():
        raise UnavailableError(f"Python {version} is missing: install it, or run this as root on Debian or Ubuntu")
    suite = SUITES[version]
    base = debian.root_path(settings, suite, versions.BASE_PACKAGES)
    if not base.exists():
        debian.make_root(settings, suite, versions.BASE_PACKAGES, settings.logs / f"python-{version}.log")
    root = settings.roots / f"python-{version}.part"
    shutil.rmtree(root, ignore_errors=True)
    try:
        subprocess.run(["cp", "-a", base, root], check=True)
        shutil.copytree(REPOSITORY, root / "work", symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        script = "; ".join(commands_of(["make", "VENV=/venv", *TARGETS]))
        passed_on = [f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith("PIP_")]
        inside = ["bash", "-c", IN_ROOT, "in-root", str(root), str(debian.CA_BUNDLE), script, *passed_on]
        return subprocess.run(["unshare", "--mount", *inside], check=False).returncode
    finally:
        shutil.rmtree(root, ignore_errors=True)


def commands_of(make: Sequence[str]) -> list[str]:
    """Return what `make` would run, for a place that has no make."""
    dry = [*make, "--dry-run", "--no-print-directory"]
    done = subprocess.run(dry, cwd=REPOSITORY, env=_outside_of_make(), capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line and not line.startswith("make")]


def _outside_of_make() -> dict[str, str]:
    """Return the environment without what a make above hands down."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


def _done() -> str:
    return f"make {' '.join(TARGETS)} passed with Python {' and '.join(SUITES)}"


if __name__ == "__main__":
    sys.exit(main())
