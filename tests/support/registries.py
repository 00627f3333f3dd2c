"""A registry of images on this machine, with or without a password, small images to push to it, and nodes that pull."""

import base64
import contextlib
import hashlib
import io
import ipaddress
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.bounds import WAIT_SECONDS, eventually
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port
from tools.cluster import programs
from tools.cluster.kind import KindCluster
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
USER, PASSWORD = "agents", "for-tests-alone"
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuubL2yQmfgu/FsEBdfTdiu1JeD76DzGeC\n"
"""The user with the bcrypt hash of the password, as `htpasswd -nbBC 5` prints it."""


@dataclass(frozen=True)
class Registry:
    """A running registry.

    Attributes:
        address: host and port.
        store: the folder with its content.
        programs: what talks to it, by name.
        login: the folder with crane's login, as in DOCKER_CONFIG.
    """

    address: str
    store: Path
    programs: Mapping[str, Path]
    login: Path

    def crane(self, *arguments: str | Path) -> str:
        """Run crane, logged in."""
        environment = {"DOCKER_CONFIG": str(self.login)}
        return run([self.programs["crane"], *arguments], env=environment, timeout=120).strip()


@contextlib.contextmanager
def running_registry(
    folder: Path, address: str = "", *, has_password: bool = False, tools: Sequence[str] = programs.RELEASE
) -> Iterator[Registry]:
    """Start a registry that keeps its content in the folder; end it with the block, or with this process.

    Args:
        folder: Two registries with the same folder have the same images.
        address: Where it listens; by default a free port of the loopback interface.
        has_password: It answers only `USER` with `PASSWORD`.
        tools: What talks to it, crane among them.
    """
    found = programs.ensure(from_environment(), [*tools, "registry"])
    address, store = address or f"127.0.0.1:{free_port()}", folder / "store"
    registry = Registry(address, store, found, folder / "login")
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(store)}},
        "http": {"addr": address},
    }
    if has_password:
        (folder / "htpasswd").write_text(HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        registry.login.mkdir(exist_ok=True)
        (registry.login / "config.json").write_text(json.dumps({"auths": {address: {"auth": login}}}))
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
                lambda: succeeds([found["crane"], "catalog", address], env={"DOCKER_CONFIG": str(registry.login)}),
                lambda: f"the registry answers: {(folder / 'registry.log').read_text()}",
                WAIT_SECONDS,
            )
            yield registry
        finally:
            process.kill()
            process.wait(WAIT_SECONDS)


def address_for_nodes(cluster: KindCluster) -> str:
    """Return host and free port at which the nodes of a cluster reach a program on this machine: their gateway."""
    listed = cluster.engine.docker(
        "network", "inspect", "kind", "--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    )
    [gateway] = [one for one in listed.split() if ipaddress.ip_address(one).version == 4]
    return f"{gateway}:{free_port()}"


def pull_without_tls(cluster: KindCluster, name: str, address: str) -> None:
    """Have the nodes of a cluster pull from a registry without TLS, as kind's page on local registries says.

    Args:
        cluster: The cluster.
        name: Host and port in the names of images.
        address: Host and port of the registry, as nodes reach it.
    """
    hosts, text = f"/etc/containerd/certs.d/{name}", f'server = "http://{address}"'
    for node in cluster.nodes():
        cluster.on_node(node, "sh", "-c", f"mkdir -p {hosts} && echo '{text}' > {hosts}/hosts.toml")


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
