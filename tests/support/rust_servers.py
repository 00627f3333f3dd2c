"""Servers of the official Rust SDK: built once for each of its releases, and kept in the user's cache.

Cargo and a Rust compiler must be there. A build takes one to five minutes and needs crates of the Rust registry.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

from tools.machine.locks import held
from tools.machine.settings import from_environment

HERE = Path(__file__).parent / "rmcp_server"
TEMPLATE, MAIN = HERE / "Cargo.toml.in", HERE / "src" / "main.rs"
BUILD_SECONDS = 1200


def find_cargo() -> str | None:
    """Return the path of cargo, None where there is none."""
    return shutil.which("cargo") or shutil.which("cargo", path=Path.home() / ".cargo" / "bin")


def build_server(version: str) -> Path:
    """Return a server of a release of the SDK, which is built if the cache has none.

    Args:
        version: The release of `rmcp`, such as 0.8.5.
    """
    manifest = TEMPLATE.read_text().replace("@VERSION@", version)
    digest = hashlib.sha256((manifest + MAIN.read_text()).encode()).hexdigest()[:16]
    cache = from_environment().cache / "rmcp"
    program = cache / f"{version}-{digest}" / "rmcp_server"
    cache.mkdir(parents=True, exist_ok=True)
    with held(cache / f"{version}.lock", f"the server of rmcp {version}"):
        if not program.exists():
            _build(manifest, program)
    return program


def _build(manifest: str, program: Path) -> None:
    folder = program.parent.with_name(f"{program.parent.name}.build")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "src").mkdir(parents=True)
    (folder / "Cargo.toml").write_text(manifest)
    shutil.copy(MAIN, folder / "src")
    cargo = find_cargo()
    assert cargo is not None, "cargo is not there"
    subprocess.run(
        [cargo, "build", "--quiet", "--target-dir", folder / "target"], cwd=folder, check=True, timeout=BUILD_SECONDS
    )
    shutil.copy(folder / "target" / "debug" / "rmcp_server", folder / "built")
    program.parent.mkdir(exist_ok=True)
    (folder / "built").rename(program)
    shutil.rmtree(folder)
