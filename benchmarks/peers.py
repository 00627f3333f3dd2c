"""The programs of others that are compared with ours, each in an environment of its own in the cache."""

import hashlib
import shutil
import subprocess
import venv
from pathlib import Path

from tools.machine.settings import from_environment

REQUIREMENTS = Path(__file__).parents[1] / "requirements"
_INSTALL_SECONDS = 1200.0


def install_peer(program: str, requirements: str) -> Path:
    """Return a program from PyPI, installed where it is not, with the hashes of its requirements.

    Args:
        program: Its name on the path.
        requirements: Name of the file in `requirements`.
    """
    file = REQUIREMENTS / requirements
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    folder = from_environment().cache / "benchmarks" / f"{program}-{digest}"
    if not (folder / ".done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes"]
        subprocess.run([*pip, "-r", file], check=True, timeout=_INSTALL_SECONDS)
        (folder / ".done").touch()
    return folder / "bin" / program
