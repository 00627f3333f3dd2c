"""The library that draws the diagrams of pages in the browser: one file, from the package registry of Node.js."""

import base64
import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

from tools.machine.errors import UnavailableError
from tools.machine.settings import Settings

VERSION: Final = "12.3.0"
INTEGRITY: Final = "sha512-4113TdXeLAsMruJ79OpFL5O8+LTFXhQqZ260rF3tgUmiNAtRm4Uume04I+65PRN6yZ69J4f8rVYWW8zRk65UYw=="
"""Of the package, as lock files of npm have it."""
_FILE: Final = "package/dist/mermaid.min.js"
_SECONDS: Final = 180


def find_mermaid(settings: Settings) -> Path:
    """Return the path of the library, which is kept in the cache.

    Raises:
        UnavailableError: The registry does not answer, or has another file.
    """
    folder = settings.cache / "mermaid"
    target = folder / f"mermaid-{VERSION}.min.js"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / f"mermaid-{VERSION}.tgz"
    command: list[str | Path] = [
        Path(sys.executable).parent / "npm",
        "pack",
        f"mermaid@{VERSION}",
        "--pack-destination",
        folder,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if ended.returncode:
        raise UnavailableError(f"the registry of Node.js gives no mermaid {VERSION}: {ended.stderr.strip()[-300:]}")
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != INTEGRITY:
        package.unlink()
        raise UnavailableError(f"mermaid {VERSION} has the digest sha512-{digest}, not the pinned one")
    with tarfile.open(package) as packed:
        content = packed.extractfile(_FILE)
        if content is None:
            raise UnavailableError(f"mermaid {VERSION} has no file {_FILE}")
        part = target.with_suffix(".part")
        part.write_bytes(content.read())
    package.unlink()
    part.rename(target)
    return target
