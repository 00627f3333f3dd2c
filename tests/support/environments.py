"""Virtual environments of programs that are not ours, each installed once per file of requirements into the cache."""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tools.machine.settings import from_environment

INSTALL_SECONDS = 900.0


def installed_environment(requirements: Path) -> Path:
    """Return the folder of an environment with exactly the pinned packages, installed where it is missing.

    Args:
        requirements: File of pins with hashes. Other content means another environment.
    """
    pins = requirements.read_bytes() + sys.version.encode()
    folder = from_environment().cache / "environments" / hashlib.sha256(pins).hexdigest()[:16]
    if folder.exists():
        return folder
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    venv.create(part, with_pip=True)
    pip = [part / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", requirements], check=True, timeout=INSTALL_SECONDS)
    part.rename(folder)
    return folder
