"""The images that a built node brings with it, as docker-archive files.

Each is one layer of Debian files out of the node's root (with the libraries they need) and one layer with its program;
the programs are linked statically.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.machine import versions
from tools.machine.process import run
from tools.machine.settings import architecture

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MERGED = ("bin", "sbin", "lib", "lib64")
"""Top-level folders that are links into /usr in Debian."""
COMMON = ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/ssl/certs/ca-certificates.crt")
SHELL = ("bash", "sh", "cat", "cp", "mv", "rm", "mkdir", "ls", "sleep", "grep")
NETWORK = ("ip", "ipset", "nft", "conntrack", "sysctl", "modprobe")
NAMES = ("/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables", "/etc/protocols", "/etc/services")
HELPER = ("sh", "mkdir", "rm", "ls", "cat", "sleep", "wget", "nc", "nslookup", "id", "mount")

KUBE_ROUTER_IMAGE = f"localhost/kube-router:{versions.KUBE_ROUTER}"
PROVISIONER_IMAGE = f"localhost/local-path-provisioner:{versions.LOCAL_PATH_PROVISIONER}"
HELPER_IMAGE = "localhost/local-path-helper:1"


@dataclass(frozen=True)
class Archive:
    """One image to write.

    Attributes:
        name: its full name with tag.
        layers: uncompressed tar files.
        entrypoint: what it runs.
    """

    name: str
    layers: Sequence[bytes]
    entrypoint: Sequence[str]

    def write(self, folder: Path) -> Path:
        """Write the image as docker-archive and return the file."""
        digests = [hashlib.sha256(layer).hexdigest() for layer in self.layers]
        config = json.dumps(
            {
                "architecture": architecture(),
                "os": "linux",
                "config": {"Entrypoint": list(self.entrypoint), "Env": [f"PATH={SEARCH_PATH}"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
            }
        ).encode()
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        names = [f"{digest}/layer.tar" for digest in digests]
        manifest = json.dumps([{"Config": config_name, "RepoTags": [self.name], "Layers": names}]).encode()
        entries = [(config_name, config), *zip(names, self.layers, strict=True), ("manifest.json", manifest)]
        file = folder / (re.sub(r"[/:]", "_", self.name) + ".tar")
        with tarfile.open(file, "w") as tar:
            for name, data in entries:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return file


class DebianFiles:
    """Layers out of a Debian file tree.

    Args:
        root: the tree, in which ldd can be run.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def layer(self, paths: Sequence[str]) -> bytes:
        """Return the files at these paths, every link on the way to them, and the libraries that they need."""

        def add(tar: tarfile.TarFile) -> None:
            _skeleton(tar)
            done: set[str] = set()
            todo = list(paths)
            while todo:
                for path in self.chain(todo.pop()):
                    if path in done:
                        continue
                    done.add(path)
                    source = self.inside(path)
                    tar.add(source, path.lstrip("/"), recursive=False)
                    if source.is_file() and not source.is_symlink():
                        todo += self.libraries(path)

        return _layer(add)

    def tools(self) -> bytes:
        """Return the paths of a shell and of the network tools that kube-proxy and kube-router need."""
        names = [*SHELL, *NETWORK]
        for six in ("", "6"):
            suffixes = ("", "-save", "-restore", "-nft", "-nft-save", "-nft-restore")
            names += [f"ip{six}tables{suffix}" for suffix in suffixes]
        found = [self.command(name) for name in names]
        extensions = [f"/{file.relative_to(self.root)}" for file in self.root.glob("usr/lib/*/xtables/*")]
        present = [name for name in NAMES if self.inside(name).exists()]
        return self.layer([*COMMON, *found, *extensions, *present])

    def command(self, name: str) -> str:
        """Return the path of this command in the tree."""
        return next(
            path for place in ("/usr/sbin", "/usr/bin") if os.path.lexists(self.inside(path := f"{place}/{name}"))
        )

    def chain(self, path: str) -> list[str]:
        """Return every path that takes part in resolving path: links and the file, but no links to folders."""
        seen: list[str] = []
        while True:
            head, tail = os.path.split(path)
            if head.lstrip("/").split("/")[0] in MERGED:
                head = f"/usr{head}"
            path = f"{head}/{tail}"
            seen.append(path)
            source = self.inside(path)
            if not source.is_symlink():
                return seen
            path = os.path.normpath(os.path.join(head, source.readlink()))  # noqa: PTH118 - the link may be absolute

    def libraries(self, path: str) -> list[str]:
        """Return the shared libraries that a file needs: none if it is static or no program."""
        with self.inside(path).open("rb") as file:
            if file.read(4) != b"\x7fELF":
                return []
        return re.findall(r"(/\S+) \(0x", run(["sh", "-c", 'chroot "$0" ldd "$1" || true', self.root, path]))

    def inside(self, path: str) -> Path:
        """Return the path as seen from outside the tree."""
        return self.root / path.lstrip("/")


def node_archives(root: Path, programs: Mapping[str, Path], pause: Path, sandbox: str) -> list[Callable[[], Archive]]:
    """Return every image that a node needs before it can pull any; each is built on first use.

    Args:
        root: the node's Debian file tree.
        programs: the built programs by name.
        pause: the built pause program.
        sandbox: the name that containerd's configuration gives the pause image.
    """
    debian = DebianFiles(root)
    small = debian.layer(COMMON)
    tools = debian.tools()
    names = kubeadm_images(programs["kubeadm"])

    def one(image: str, base: bytes, program: str, path: str = "") -> Callable[[], Archive]:
        target = path or f"/usr/local/bin/{program.removesuffix('-in-node')}"
        return lambda: Archive(image, [base, files_layer({target: programs[program]})], [target])

    def helper() -> Archive:
        links = {f"/bin/{name}": "busybox" for name in HELPER}
        return Archive(HELPER_IMAGE, [files_layer({"/bin/busybox": root / "usr/bin/busybox"}, links)], ["/bin/sh"])

    control_plane = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    return [
        *(one(names[name], small, name) for name in control_plane),
        one(names["kube-proxy"], tools, "kube-proxy"),
        one(names["etcd"], small, "etcd-in-node"),
        one(names["coredns"], small, "coredns", "/coredns"),
        lambda: Archive(sandbox, [files_layer({"/pause": pause})], ["/pause"]),
        one(KUBE_ROUTER_IMAGE, tools, "kube-router"),
        one(PROVISIONER_IMAGE, small, "local-path-provisioner"),
        helper,
    ]


def kubeadm_images(kubeadm: Path) -> dict[str, str]:
    """Return the images that kubeadm will ask for, by their last name."""
    listed = run([kubeadm, "config", "images", "list", "--kubernetes-version", versions.KUBERNETES]).split()
    return {image.rsplit("/", 1)[-1].split(":")[0]: image for image in listed}


def files_layer(files: Mapping[str, Path], links: Mapping[str, str] | None = None) -> bytes:
    """Return a layer of executable files (path to source) and links (path to target)."""

    def add(tar: tarfile.TarFile) -> None:
        for path, source in files.items():
            info = tar.gettarinfo(str(source.resolve()), path.lstrip("/"))
            info.mode, info.uid, info.gid, info.uname, info.gname, info.mtime = 0o755, 0, 0, "", "", 0
            with source.open("rb") as data:
                tar.addfile(info, data)
        for path, target in (links or {}).items():
            tar.addfile(_link(path.lstrip("/"), target))

    return _layer(add)


def _skeleton(tar: tarfile.TarFile) -> None:
    for name in MERGED:
        tar.addfile(_link(name, f"usr/{name}"))
    info = tarfile.TarInfo("tmp")
    info.type, info.mode = tarfile.DIRTYPE, 0o1777
    tar.addfile(info)


def _link(path: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def _layer(add: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add(tar)
    return buffer.getvalue()
