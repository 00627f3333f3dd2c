"""Virtual environments of programs that are not ours, each installed once per file of requirements into the cache."""

import hashlib
import shutil
import sys
import venv
from pathlib import Path

from tools.machine.locks import held
from tools.machine.process import run
from tools.machine.settings import from_environment

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
INSTALL_SECONDS = 1200.0


def installed_environment(requirements: Path) -> Path:
    """Return the folder of an environment with exactly the pinned packages, installed where it is missing.

    Args:
        requirements: File of pins with hashes. Other content, or another Python, means another environment.

    Raises:
        CommandFailedError: pip failed; the message is pip's.
    """
    pins = requirements.read_bytes() + sys.version.encode()
    folder = from_environment().cache / "environments" / hashlib.sha256(pins).hexdigest()[:16]
    done = folder / ".done"
    with held(folder.with_name(f"{folder.name}.lock"), f"installing {requirements.name}"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)  # in its place: the programs in it name their interpreter by its path
            pip: list[str | Path] = [
                folder / "bin" / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            run([*pip, "--require-hashes", "-r", requirements], timeout=INSTALL_SECONDS)
            done.touch()
    return folder


def installed_program(program: str, requirements: str) -> Path:
    """Return a program of an environment.

    Args:
        program: Its name on the path.
        requirements: Name of the file of pins in `requirements/`.
    """
    return installed_environment(REQUIREMENTS / requirements) / "bin" / program
