"""A registry of images on the loopback interface, and small images to push to it."""

import contextlib
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.bounds import WAIT_SECONDS, eventually
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port
from tools.cluster import programs
from tools.machine.process import run, succeeds
from tools.machine.settings import from_environment

DPKG = b"""Package: libc6
Status: install ok installed
Version: 2.41-12
Architecture: amd64
Maintainer: Debian <debian@example.com>
Description: C library
"""
AIOHTTP = "opt/venv/lib/python3.13/site-packages/aiohttp-3.12.0.dist-info"
FILES = {
    "etc/os-release": b'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13"\n',
    "var/lib/dpkg/status": DPKG,
    f"{AIOHTTP}/METADATA": b"Metadata-Version: 2.1\nName: aiohttp\nVersion: 3.12.0\n",
    f"{AIOHTTP}/RECORD": b"",
}
"""Files of an image as ours have them: a Debian with a package, and a package of Python."""


@dataclass(frozen=True)
class Registry:
    """A running registry.

    Attributes:
        address: host and port.
        store: the folder with its content.
        programs: what talks to it, by name.
    """

    address: str
    store: Path
    programs: Mapping[str, Path]

    def crane(self, *arguments: str | Path) -> str:
        """Run crane."""
        return run([self.programs["crane"], *arguments], timeout=120).strip()


@contextlib.contextmanager
def running_registry(folder: Path, address: str = "") -> Iterator[Registry]:
    """Start a registry that keeps its content in the folder; end it with the block.

    Args:
        folder: Two registries with the same folder have the same images.
        address: Where it listens; by default a free port of the loopback interface.
    """
    found = programs.ensure(from_environment(), [*programs.RELEASE, "registry"])
    address, store = address or f"127.0.0.1:{free_port()}", folder / "store"
    settings = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(store)}},
        "http": {"addr": address},
    }
    path = folder / "registry.json"  # JSON is YAML
    path.write_text(json.dumps(settings))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [found["registry"], "serve", path],
            env={"OTEL_TRACES_EXPORTER": "none"},
            stdout=log,
            stderr=log,
            preexec_fn=end_with_parent,
        )
        try:
            eventually(
                lambda: succeeds([found["crane"], "catalog", address]),
                lambda: f"the registry answers: {(folder / 'registry.log').read_text()}",
                WAIT_SECONDS,
            )
            yield Registry(address, store, found)
        finally:
            process.kill()
            process.wait(WAIT_SECONDS)


def write_image(path: Path, name: str) -> Path:
    """Write an image as `docker save` does; its content depends on the name."""
    layer = _tar({**FILES, "name": name.encode()})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created_by": "a test"}],
        }
    ).encode()
    file = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": file, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    path.write_bytes(_tar({file: config, "layer.tar": layer, "manifest.json": manifest}))
    return path


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
