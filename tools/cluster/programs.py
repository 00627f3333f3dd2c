"""The programs that clusters are made of, and how each is had: released, or built from source."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.machine import releases, versions
from tools.machine.errors import UnavailableError
from tools.machine.locks import held
from tools.machine.process import say
from tools.machine.releases import Release
from tools.machine.settings import PartsChoice, Settings, architecture
from tools.machine.steps import Step, run_steps
from tools.nodeless import golang
from tools.nodeless.golang import GoPackage

KUBERNETES_RELEASES = "https://dl.k8s.io"
HELM_RELEASES = "https://get.helm.sh"
GITHUB = "https://github.com"
GITHUB_API = "https://api.github.com/repos"


OLDEST = "kube-apiserver-oldest"
"""The API server of the oldest Kubernetes that Interlock supports."""
OLDER = "kube-apiserver-older"
"""The API server of a version between that one and the newest."""


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        name: its file name, and how others ask for it.
        version: upstream's, with its v.
        source: how it is built.
        release: where it is released; None for what only the built node image needs.
        seconds: about how long a build takes on two cores with an empty Go cache.
    """

    name: str
    version: str
    source: GoPackage
    release: Release | None = None
    seconds: int = 20

    @property
    def key(self) -> str:
        """The inputs of the build as a hash: another program has another key."""
        digest = hashlib.sha256(repr((self.version, self.source)).encode())
        for path in self.source.sources:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:10]

    def built_path(self, settings: Settings) -> Path:
        """Return the path of the built program."""
        return settings.programs / f"{self.name}-{self.version}-{self.key}" / self.name

    def released_path(self, settings: Settings) -> Path:
        """Return the path of the released program."""
        return settings.programs / f"{self.name}-{self.version}-released" / self.name


def _kubernetes(
    name: str,
    seconds: int,
    *,
    released: bool = True,
    version: str = versions.KUBERNETES,
    module: str = "kubernetes",
    called: str = "",
) -> Program:
    major, minor, _ = version.removeprefix("v").split(".")
    package = "k8s.io/component-base/version"
    ldflags = f"-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    url = f"{KUBERNETES_RELEASES}/release/{version}/bin/linux/{architecture()}/{name}"
    source = GoPackage(module, f"k8s.io/kubernetes/cmd/{name}", ldflags)
    return Program(called or name, version, source, Release(url, f"{url}.sha256") if released else None, seconds)


def _github(repository: str, version: str, file: str, member: str = "") -> Release:
    url = f"{GITHUB}/{repository}/releases/download/{version}/{file}"
    return Release(url, f"{GITHUB_API}/{repository}/releases/tags/{version}", member)


def _kwok(name: str, seconds: int) -> Program:
    release = _github("kubernetes-sigs/kwok", versions.KWOK, f"{name}-linux-{architecture()}")
    return Program(name, versions.KWOK, GoPackage("kwok", f"sigs.k8s.io/kwok/cmd/{name}"), release, seconds)


def _cni(name: str, folder: str) -> Program:
    package = f"github.com/containernetworking/plugins/plugins/{folder}/{name}"
    return Program(name, versions.CNI_PLUGINS, GoPackage("cni-plugins", package), seconds=8)


def _containerd(name: str, seconds: int) -> Program:
    source = GoPackage("containerd", f"github.com/containerd/containerd/v2/cmd/{name}")
    return Program(name, versions.CONTAINERD, source, seconds=seconds)


def _etcd_release() -> Release:
    folder = f"etcd-{versions.ETCD}-linux-{architecture()}"
    return _github("etcd-io/etcd", versions.ETCD, f"{folder}.tar.gz", f"{folder}/etcd")


def all_programs() -> tuple[Program, ...]:
    """Return every program, in the order in which a build is useful earliest."""
    kind_release = _github("kubernetes-sigs/kind", versions.KIND, f"kind-linux-{architecture()}")
    crictl_flags = f"-X sigs.k8s.io/cri-tools/pkg/version.Version={versions.CRICTL.removeprefix('v')}"
    return (
        _kubernetes("kubectl", 90),
        _kubernetes("kube-apiserver", 150),
        _kubernetes("kube-controller-manager", 60),
        _kubernetes("kube-scheduler", 25),
        Program("etcd", versions.ETCD, GoPackage("etcd", "go.etcd.io/etcd/server/v3"), _etcd_release(), 25),
        _kwok("kwok", 50),
        _kwok("kwokctl", 20),
        Program("kind", versions.KIND, GoPackage("kind", "sigs.k8s.io/kind"), kind_release),
        _kubernetes(
            "kube-apiserver", 150, version=versions.KUBERNETES_OLDEST, module="kubernetes-oldest", called=OLDEST
        ),
        _kubernetes("kube-apiserver", 150, version=versions.KUBERNETES_OLDER, module="kubernetes-older", called=OLDER),
        _kubernetes("kubelet", 60, released=False),
        _kubernetes("kube-proxy", 20, released=False),
        _kubernetes("kubeadm", 20, released=False),
        _containerd("containerd", 50),
        _containerd("containerd-shim-runc-v2", 10),
        _containerd("ctr", 10),
        Program("runc", versions.RUNC, GoPackage("runc", "github.com/opencontainers/runc", tags=("seccomp",))),
        Program("crictl", versions.CRICTL, GoPackage("crictl", "sigs.k8s.io/cri-tools/cmd/crictl", crictl_flags)),
        _cni("host-local", "ipam"),
        _cni("loopback", "main"),
        _cni("ptp", "main"),
        _cni("bridge", "main"),
        _cni("portmap", "meta"),
        Program("coredns", versions.COREDNS, GoPackage("coredns", "github.com/coredns/coredns"), seconds=60),
        Program("etcd-in-node", versions.ETCD_IN_NODE, GoPackage("etcd-in-node", "go.etcd.io/etcd/server/v3")),
        Program(
            "kube-router",
            versions.KUBE_ROUTER,
            GoPackage("kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"),
            seconds=60,
        ),
        Program(
            "local-path-provisioner",
            versions.LOCAL_PATH_PROVISIONER,
            GoPackage("local-path-provisioner", "github.com/rancher/local-path-provisioner"),
        ),
        *_release_programs(),
        _helm(),
        _actionlint(),
        *_prometheus_programs(),
        Program(
            "metrics-server",
            versions.METRICS_SERVER,
            GoPackage("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
            seconds=120,
        ),
    )


def _helm() -> Program:
    """Return Helm, which its project publishes on a server of its own."""
    file = f"helm-{versions.HELM}-linux-{architecture()}.tar.gz"
    url = f"{HELM_RELEASES}/{file}"
    flags = f"-X helm.sh/helm/v4/internal/version.version={versions.HELM}"
    source = GoPackage("helm", "helm.sh/helm/v4/cmd/helm", flags)
    release = Release(url, f"{url}.sha256", f"linux-{architecture()}/helm")
    return Program("helm", versions.HELM, source, release, 60)


def _actionlint() -> Program:
    """Return the checker of the workflows in .github."""
    version = versions.ACTIONLINT.removeprefix("v")
    file = f"actionlint_{version}_linux_{architecture()}.tar.gz"
    source = GoPackage("actionlint", "github.com/rhysd/actionlint/cmd/actionlint")
    return Program(
        "actionlint", versions.ACTIONLINT, source, _github("rhysd/actionlint", versions.ACTIONLINT, file, "actionlint")
    )


def _prometheus_programs() -> tuple[Program, ...]:
    """Return the Prometheus of the tests, and its checker of rules.

    Built, Prometheus discovers no services, which halves the build.
    """
    major, minor = divmod(int(versions.PROMETHEUS.split(".")[1]), 100)
    version = f"{major}.{minor}.{versions.PROMETHEUS.split('.')[2]}"
    folder = f"prometheus-{version}.linux-{architecture()}"
    return tuple(
        Program(
            name,
            versions.PROMETHEUS,
            GoPackage("prometheus", f"github.com/prometheus/prometheus/cmd/{name}", tags=("remove_all_sd",)),
            _github("prometheus/prometheus", f"v{version}", f"{folder}.tar.gz", f"{folder}/{name}"),
            150,
        )
        for name in ("prometheus", "promtool")
    )


def _release_programs() -> tuple[Program, ...]:
    """Return the programs that release our images, and a registry for the tests of that."""
    crane, syft, cosign = versions.CRANE, versions.SYFT, versions.COSIGN
    registry, machine = versions.DISTRIBUTION, architecture()
    crane_file = f"go-containerregistry_Linux_{'x86_64' if machine == 'amd64' else machine}.tar.gz"
    syft_file = f"syft_{syft.removeprefix('v')}_linux_{machine}.tar.gz"
    registry_file = f"registry_{registry.removeprefix('v')}_linux_{machine}.tar.gz"
    return (
        Program(
            "crane",
            crane,
            GoPackage("crane", "github.com/google/go-containerregistry/cmd/crane"),
            _github("google/go-containerregistry", crane, crane_file, "crane"),
        ),
        Program(
            "syft",
            syft,
            GoPackage("syft", "github.com/anchore/syft/cmd/syft"),
            _github("anchore/syft", syft, syft_file, "syft"),
            300,
        ),
        Program(
            "cosign",
            cosign,
            GoPackage("cosign", "github.com/sigstore/cosign/v3/cmd/cosign"),
            _github("sigstore/cosign", cosign, f"cosign-linux-{machine}"),
            300,
        ),
        Program(
            "registry",
            registry,
            GoPackage("distribution", "github.com/distribution/distribution/v3/cmd/registry"),
            _github("distribution/distribution", registry, registry_file, "registry"),
            80,
        ),
    )


KWOK = ("kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "kwok", "kwokctl")
"""What a kwok cluster needs."""
KIND = ("kubectl", "kind")
"""What a kind cluster needs on this machine."""
RELEASE = ("crane", "syft", "cosign")
"""What a release of our images needs."""
LANES = 2
"""How many modules are built at the same time: one downloads or links, on one core, while the other compiles."""


def ensure(settings: Settings, names: Sequence[str]) -> dict[str, Path]:
    """Provide these programs, from the cache where it has them.

    Raises:
        UnavailableError: they are to be had in no way on this machine.
        StepFailedError: a download or a build failed.
    """
    wanted = named(names)
    found = cached(settings, names)
    if len(found) == len(wanted):
        return found
    with held(settings.cache / "programs.lock", "the programs"):
        if all(program.release for program in wanted) and _released_wanted(settings):
            return _released(settings, wanted)
        return _built(settings, wanted)


def impossible(settings: Settings) -> str | None:
    """Return the message that says why missing programs cannot be built, or None if they can."""
    if settings.parts is PartsChoice.RELEASED or golang.may_have_go():
        return None
    if settings.parts is PartsChoice.AUTO and releases.answers(f"{KUBERNETES_RELEASES}/"):
        return None
    return (
        f"no release server answers, and building the programs needs Go {golang.WANTED} or newer; "
        "all tests but those marked `api` or `kind` run all the same"
    )


def ensure_built(settings: Settings, names: Sequence[str]) -> dict[str, Path]:
    """Provide these programs as built ones: for the node image, where they must be static.

    Raises:
        UnavailableError: no Go to build with.
        StepFailedError: a build failed.
    """
    wanted = named(names)
    paths = built_paths(settings, wanted)
    if all(path.exists() for path in paths.values()):  # a build of other programs holds the lock for minutes
        return paths
    with held(settings.cache / "programs.lock", "the programs"):
        return _built(settings, wanted)


def cached(settings: Settings, names: Iterable[str]) -> dict[str, Path]:
    """Return the paths of those of these programs that the cache has."""
    found: dict[str, Path] = {}
    for program in named(names):
        built, released = program.built_path(settings), program.released_path(settings)
        if settings.parts is not PartsChoice.BUILT and released.exists():
            found[program.name] = released
        elif settings.parts is not PartsChoice.RELEASED and built.exists():
            found[program.name] = built
    return found


def named(names: Iterable[str]) -> list[Program]:
    """Return the programs of these names, in the order of `all_programs`."""
    wanted = set(names)
    return [program for program in all_programs() if program.name in wanted]


def _released_wanted(settings: Settings) -> bool:
    if settings.parts is not PartsChoice.AUTO:
        say(f"programs: {settings.parts}, as INTERLOCK_PARTS says")
        return settings.parts is PartsChoice.RELEASED
    if releases.answers(f"{KUBERNETES_RELEASES}/") and releases.answers(f"{GITHUB}/"):
        say("programs: the release servers answer, so released ones")
        return True
    say("programs: the release servers do not answer, so built from the Go module proxy")
    return False


def _released(settings: Settings, wanted: Sequence[Program]) -> dict[str, Path]:
    steps = [_download_step(settings, program) for program in wanted]
    run_steps("programs", steps, settings.logs)
    return {program.name: program.released_path(settings) for program in wanted}


def _built(settings: Settings, wanted: Sequence[Program]) -> dict[str, Path]:
    if steps := build_steps(settings, wanted):
        run_steps("programs", steps, settings.logs, lanes=LANES)
    else:
        say(f"programs: all {len(wanted)} from the cache")
    return built_paths(settings, wanted)


def built_paths(settings: Settings, wanted: Sequence[Program]) -> dict[str, Path]:
    """Return where each of these programs lies once it is built."""
    return {program.name: program.built_path(settings) for program in wanted}


def build_steps(settings: Settings, wanted: Sequence[Program], *, lanes: int = LANES) -> list[Step]:
    """Return a step for each Go module of which a program is missing; none where all are there.

    The steps do not depend on each other. The longest comes first, so that no lane waits for it at the end.

    Args:
        settings: Where things lie.
        wanted: The programs.
        lanes: How many steps run at the same time; the builds share the memory.
    """
    missing = [program for program in wanted if not program.built_path(settings).exists()]
    if not missing:
        return []
    go = golang.find_go(settings, settings.logs / "go.log")
    groups: dict[object, list[Program]] = {}
    for program in missing:
        source = program.source
        groups.setdefault((source.module, source.ldflags, tuple(source.tags)), []).append(program)
    ordered = sorted(groups.values(), key=lambda group: -sum(program.seconds for program in group))
    return [_build_step(settings, go, group, lanes) for group in ordered]


def _download_step(settings: Settings, program: Program) -> Step:
    target, release = program.released_path(settings), program.release
    if release is None:
        raise UnavailableError(f"{program.name} is not released; unset INTERLOCK_PARTS so that it can be built")
    return Step(
        f"{program.name} {program.version}",
        target.exists,
        lambda _log: releases.download(release, target),
        "INTERLOCK_PARTS=built builds the programs instead.",
        "downloading",
    )


def _build_step(settings: Settings, go: Path, group: Sequence[Program], lanes: int) -> Step:
    targets = {program.built_path(settings): program.source for program in group}

    return Step(
        f"{', '.join(program.name for program in group)} {group[0].version}",
        lambda: all(target.exists() for target in targets),
        lambda log: golang.build(go, targets, log, lanes=lanes),
        "The Go module proxy must answer (GOPROXY); what is built stays built, so run the same command again.",
        f"building from source, some {sum(program.seconds for program in group)} s the first time",
    )
