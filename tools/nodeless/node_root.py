"""The file tree of a built kind node: kind's own base files on Debian, our programs, and the images it starts from."""

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.machine import versions
from tools.machine.errors import ClusterError
from tools.machine.process import run, succeeds
from tools.machine.settings import Settings
from tools.nodeless import debian, golang, node_archives, private_runtime

PACKAGES = (
    "systemd", "conntrack", "iptables", "nftables", "ipset", "iproute2", "ethtool", "util-linux", "mount", "kmod",
    "libseccomp2", "pigz", "e2fsprogs", "bash", "busybox-static", "ca-certificates", "curl", "jq", "procps",
)  # fmt: skip
"""What kind's base image has, less remote file systems, plus busybox for a helper image and ipset for kube-router."""
PROGRAMS = (
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubeadm", "kubectl",
    "containerd", "containerd-shim-runc-v2", "ctr", "runc", "host-local", "loopback", "ptp", "bridge", "portmap",
    "coredns", "etcd-in-node", "kube-router", "local-path-provisioner",
)  # fmt: skip
PLACES = {
    "usr/local/bin": ("containerd", "containerd-shim-runc-v2", "ctr"),
    "usr/local/sbin": ("runc",),
    "usr/bin": ("kubeadm", "kubectl", "kubelet"),
    "opt/cni/bin": ("host-local", "loopback", "ptp", "bridge", "portmap"),
}
FILES = Path(__file__).parent / "files"
CONTAINERD_SECONDS = 20.0


@dataclass(frozen=True)
class MachineLimits:
    """What the machine lacks and the node must be told of.

    Attributes:
        cgroup_v1: kubelet refuses cgroup v1 by default.
        no_sys_resource: no process may raise limits or lower oom scores.
        no_apparmor: the kernel has none, containerd would look for it.
    """

    cgroup_v1: bool
    no_sys_resource: bool
    no_apparmor: bool


def limits() -> MachineLimits:
    """Read the limits of this machine."""
    apparmor = Path("/sys/module/apparmor/parameters/enabled")
    return MachineLimits(
        cgroup_v1=not Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        no_sys_resource=private_runtime.is_needed(),
        no_apparmor=not apparmor.exists() or apparmor.read_text(encoding="ascii").strip() != "Y",
    )


def module_folder(module: str, path: str, settings: Settings, log: Path) -> Path:
    """Return the folder of a Go module's sources, downloaded and checked against go.sum."""
    go = golang.find_go(settings, log)
    env = {"GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    answer = run([go, "mod", "download", "-json", path], env=env, cwd=golang.MODULES / module, timeout=600)
    return Path(json.loads(answer)["Dir"])


def build_pause(settings: Settings, target: Path, log: Path) -> None:
    """Compile the program that holds a pod's namespaces, from its C source in Kubernetes."""
    debian.need({"gcc": "gcc", "/usr/include/stdlib.h": "libc6-dev"}, log)
    source = module_folder("kubernetes", "k8s.io/kubernetes", settings, log) / "build/pause/linux/pause.c"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    run(["gcc", "-Os", "-static", "-s", f"-DVERSION={versions.KUBERNETES}", "-o", part, source], log=log)
    part.rename(target)


@dataclass(frozen=True)
class NodeRoot:
    """A node's file tree in the making.

    Attributes:
        base: the Debian tree, left as it is.
        root: the node's tree, recreated.
        programs: built programs by name.
        pause: the built pause program.
        kind: the sources of the kind program.
        log: everything that is run.
    """

    base: Path
    root: Path
    programs: Mapping[str, Path]
    pause: Path
    kind: Path
    log: Path

    def assemble(self) -> None:
        """Create the whole tree."""
        shutil.rmtree(self.root, ignore_errors=True)
        run(["cp", "-a", self.base, self.root], log=self.log)
        self._copy_kind_files()
        self._trim_systemd()
        for place, names in PLACES.items():
            (self.root / place).mkdir(parents=True, exist_ok=True)
            for name in names:
                shutil.copy(self.programs[name], self.root / place / name)
        self._write_manifests()
        self._adapt(limits())
        for unit in ("kubelet.service", "containerd.service", "undo-mount-hacks.service"):
            run(["chroot", self.root, "systemctl", "enable", unit], log=self.log)
        run(["chroot", self.root, "systemctl", "mask", "systemd-binfmt.service"], log=self.log)
        self._preload_images()

    def _copy_kind_files(self) -> None:
        files = self.kind / "images/base/files"
        run(["cp", "-r", "--no-preserve=mode,ownership", f"{files}/.", self.root], log=self.log)
        for program in [*self.root.glob("usr/local/bin/*"), *self.root.glob("kind/bin/*")]:
            program.chmod(0o755)

    def _trim_systemd(self) -> None:
        """Remove the units that a node does not need, as kind's base Dockerfile does."""
        system, local = self.root / "lib/systemd/system", self.root / "etc/systemd/system"
        sockets = [*system.glob("sockets.target.wants/*udev*"), *system.glob("sockets.target.wants/*initctl*")]
        wants = [system.glob(f"{target}.target.wants/*") for target in ("multi-user", "local-fs", "basic")]
        setup = system / "sysinit.target.wants/systemd-tmpfiles-setup.service"
        for unit in [setup, *sockets, *local.glob("*.wants/*"), *(unit for group in wants for unit in group)]:
            unit.unlink(missing_ok=True)
        with (self.root / "etc/systemd/journald.conf").open("a", encoding="utf-8") as file:
            file.write("ReadKMsg=no\n")
        init = self.root / "sbin/init"
        init.unlink(missing_ok=True)
        init.symlink_to("/usr/lib/systemd/systemd")

    def _write_manifests(self) -> None:
        manifests = self.root / "kind/manifests"
        manifests.mkdir(parents=True, exist_ok=True)
        (self.root / "etc/kubernetes/manifests").mkdir(parents=True, exist_ok=True)
        (self.root / "kind/version").write_text(versions.KUBERNETES, encoding="ascii")
        network = (FILES / "kube-router.yaml").read_text(encoding="utf-8")
        network = network.replace("KUBE_ROUTER_IMAGE", node_archives.KUBE_ROUTER_IMAGE)
        (manifests / "default-cni.yaml").write_text(network, encoding="utf-8")
        storage = storage_manifest((self.kind / "pkg/build/nodeimage/const_storage.go").read_text(encoding="utf-8"))
        (manifests / "default-storage.yaml").write_text(storage, encoding="utf-8")

    def _adapt(self, machine: MachineLimits) -> None:
        spec = json.loads(run([self.programs["ctr"], "oci", "spec"]))
        spec.setdefault("hooks", {}).setdefault("createContainer", []).append(
            {"path": "/kind/bin/mount-product-files.sh"}
        )
        process = spec["process"]
        del process["rlimits"]
        if machine.no_sys_resource:
            process.update(private_runtime.without_capability(process, 0))
        (self.root / "etc/containerd/cri-base.json").write_text(json.dumps(spec), encoding="utf-8")
        containerd = self.root / "etc/containerd/config.toml"
        containerd.write_text(containerd_config(containerd.read_text(encoding="utf-8"), machine), encoding="utf-8")
        kubelet = self.root / "etc/default/kubelet"
        kubelet.write_text(kubelet_defaults(kubelet.read_text(encoding="utf-8"), machine), encoding="utf-8")

    def _preload_images(self) -> None:
        sandbox = re.search(r'sandbox_image = "(.+?)"', (self.root / "etc/containerd/config.toml").read_text("utf-8"))
        if sandbox is None:
            raise ClusterError("kind's containerd configuration names no sandbox image any more")
        archives = node_archives.node_archives(self.base, self.programs, self.pause, sandbox.group(1))
        with self._containerd() as ctr, tempfile.TemporaryDirectory(dir=self.root.parent) as folder:
            for make in archives:
                file = make().write(Path(folder))
                command: list[str | Path] = ["images", "import", "--local", "--discard-unpacked-layers", file]
                run([*ctr, "--namespace", "k8s.io", *command], log=self.log)
                file.unlink()

    @contextlib.contextmanager
    def _containerd(self) -> Iterator[list[str | Path]]:
        """Run the node's containerd here on the node's own store; yield how to call its ctr."""
        with tempfile.TemporaryDirectory(prefix="interlock-") as state:
            config = Path(state) / "config.toml"
            config.write_text(preload_config(self.root, Path(state)), encoding="utf-8")
            ctr: list[str | Path] = [self.programs["ctr"], "--address", f"{state}/socket"]
            with self.log.open("a", encoding="utf-8") as out:
                process = subprocess.Popen(
                    [self.programs["containerd"], "--config", config], stdout=out, stderr=subprocess.STDOUT
                )
            try:
                _wait_for(ctr, process)
                yield ctr
            finally:
                process.terminate()
                process.wait(timeout=CONTAINERD_SECONDS)


def _wait_for(ctr: list[str | Path], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + CONTAINERD_SECONDS
    while not succeeds([*ctr, "version"], timeout=5):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ClusterError("containerd, which puts the images into the node, does not start")
        time.sleep(0.1)


def preload_config(root: Path, state: Path) -> str:
    """Return a containerd configuration for putting images into a node's store without running any."""
    return f"""version = 3
root = "{root}/var/lib/containerd"
state = "{state}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images",
]
[grpc]
  address = "{state}/socket"
[plugins."io.containerd.internal.v1.opt"]
  path = "{state}/opt"
"""


_STATS = """
[plugins."io.containerd.cri.v1.runtime"]
  # containerd asks the shim of each pod each second by default. The kubelet reads no figures more often than this.
  stats_collect_period = "10s"
"""


def containerd_config(text: str, machine: MachineLimits) -> str:
    """Return the containerd configuration of kind, adapted to what the machine lacks, with less idle work."""
    lines = ["restrict_oom_score_adj = true"] if machine.no_sys_resource else ["restrict_oom_score_adj = false"]
    if machine.no_apparmor:
        lines.append("disable_apparmor = true")
    replaced, count = re.subn(
        r"^( *)restrict_oom_score_adj = false$",
        lambda match: "\n".join(f"{match.group(1)}{line}" for line in lines),
        text,
        flags=re.MULTILINE,
    )
    if count != 1:
        raise ClusterError("kind's containerd configuration has no restrict_oom_score_adj any more")
    return f"{replaced}{_STATS}"


def kubelet_defaults(text: str, machine: MachineLimits) -> str:
    """Return the extra kubelet arguments of kind, adapted to what the machine lacks."""
    extra = ""
    if machine.cgroup_v1:
        extra += " --fail-cgroupv1=false"
    if machine.no_sys_resource:
        extra += " --feature-gates=KubeletInUserNamespace=true"
    return re.sub(r"^(KUBELET_EXTRA_ARGS=.*)$", lambda match: match.group(1) + extra, text, flags=re.MULTILINE)


def storage_manifest(source: str) -> str:
    """Return the manifest of kind for local-path-provisioner, with our images, from its Go source."""
    found = re.search(r"const defaultStorageManifest = `(.*)`\s*$", source, re.DOTALL)
    if found is None:
        raise ClusterError("kind's sources hold no storage manifest any more")
    text = found.group(1).replace("` + storageProvisionerImage + `", node_archives.PROVISIONER_IMAGE)
    return text.replace("` + storageHelperImage + `", node_archives.HELPER_IMAGE)
