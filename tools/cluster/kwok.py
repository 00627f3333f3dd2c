"""kwok clusters: a real API server with its controllers, simulated nodes and pods, no root, ready in seconds."""

import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.cluster import contexts, programs
from tools.machine.errors import ClusterError, StepFailedError, UnavailableError
from tools.machine.locks import Lock, held, try_lock
from tools.machine.process import CommandFailedError, run, say
from tools.machine.settings import Settings, from_environment

READY_SECONDS = 60
COMMAND_SECONDS = 75
ATTEMPTS = 2
"""Ports are looked for by kwokctl before they are used: another program may be quicker."""
GARBAGE = {"GOGC": "400"}
"""Settings of Go that a cluster's programs inherit: a quarter less processor time, for more memory."""
AUDIT_LOG_MEGABYTES = 10_000


@dataclass(frozen=True)
class KwokOptions:
    """How a kwok cluster differs from the plainest one.

    Attributes:
        nodes: simulated nodes; without any, pods stay Pending.
        audit_policy: an audit policy file; the log is then at `KwokCluster.audit_log`.
        feature_gates: "Name=true,Other=false" for all Kubernetes components.
        runtime_config: "api/all=true" and the like for the API server.
        unlimited_qps: lift the client rate limits of the components, for benchmarks.
        extra_args: "component=key=value" each, as `kwokctl --extra-args` takes them.
        memory: above which each program collects garbage at every opportunity (`GOMEMLIMIT`). A program that needs more
            takes all of a core for it.
        api_server: the program of an older API server, `programs.OLDEST` or `programs.OLDER`. It runs alone:
            controllers may not be newer than it. Empty: that of all other programs.
        owned: delete the cluster when this process has died and another one starts a kwok cluster.
    """

    nodes: int = 1
    audit_policy: Path | None = None
    feature_gates: str = ""
    runtime_config: str = ""
    unlimited_qps: bool = False
    extra_args: Sequence[str] = ()
    memory: str = "1500MiB"
    api_server: str = ""
    owned: bool = True


@dataclass(frozen=True)
class KwokCluster:
    """A running kwok cluster.

    Attributes:
        name: as given.
        kubeconfig: a file of its own, with only this cluster in it.
        context: the context's name in that file.
        audit_log: where the API server writes it, when an audit policy was given.
        kubectl: kubectl of the server's version.
    """

    name: str
    kubeconfig: Path
    context: str
    audit_log: Path | None
    kubectl: Path
    settings: Settings = field(repr=False)
    lock: Lock | None = field(default=None, repr=False)

    def kwokctl(self, *arguments: str) -> str:
        """Run kwokctl on this cluster, as in `scale node --replicas 100`, and return its output."""
        return _kwokctl(self.settings, self.name, arguments)

    def delete(self) -> None:
        """End all processes of the cluster and remove its files."""
        delete(self.name, self.settings)
        if self.lock is not None:
            _let_go(self.lock)


def impossible(settings: Settings) -> str | None:
    """Return the message that says why no kwok cluster can run here, or None if one can."""
    if platform.system() != "Linux":
        return "a kwok cluster needs Linux (Kubernetes releases no control plane for other systems)"
    if len(programs.cached(settings, programs.KWOK)) == len(programs.KWOK):
        return None
    return programs.impossible(settings)


def create(name: str, options: KwokOptions | None = None, settings: Settings | None = None) -> KwokCluster:
    """Start a new cluster; one of that name is deleted first.

    Clusters whose owning process has died are cleaned up on the way.

    Raises:
        ForeignContextError: the name lacks our prefix.
        UnavailableError: the programs are to be had in no way.
        StepFailedError: it did not start.
    """
    options = options or KwokOptions()
    settings = settings or from_environment()
    contexts.check_name(name)
    if reason := impossible(settings):
        raise UnavailableError(reason)
    programs.ensure(settings, programs.KWOK)
    delete_stale(settings)
    delete(name, settings)
    lock = _claim(name, settings) if options.owned else None
    try:
        with held(_base(settings) / "create.lock", "another kwok cluster's start"):
            _create(name, options, settings)
        return _cluster(name, options, settings, lock)
    except BaseException:
        delete(name, settings)
        if lock is not None:
            _let_go(lock)
        raise


def delete(name: str, settings: Settings | None = None) -> None:
    """End the cluster's processes and remove its files, if it exists."""
    settings = settings or from_environment()
    contexts.check_name(name)
    if _workdir(settings).joinpath("clusters", name).exists():
        _kwokctl(settings, name, ["delete", "cluster", "--kubeconfig", str(_kubeconfig(settings, name))])
    shutil.rmtree(_workdir(settings) / "clusters" / name, ignore_errors=True)
    shutil.rmtree(_folder(settings, name), ignore_errors=True)


def names(settings: Settings) -> list[str]:
    """Return the names of all clusters."""
    return sorted(path.name for path in _workdir(settings).glob("clusters/*") if path.is_dir())


def delete_stale(settings: Settings) -> None:
    """Delete every cluster that belonged to a process which is no longer alive."""
    with held(_base(settings) / "claims.lock", "kwok clusters"):
        for owner in sorted(_base(settings).glob("owners/*")):
            lock = try_lock(owner)
            if lock is None:
                continue
            say(f"kwok cluster {owner.name}: its owner is gone, so it is deleted")
            delete(owner.name, settings)
            _let_go(lock)


def _claim(name: str, settings: Settings) -> Lock:
    with held(_base(settings) / "claims.lock", "kwok clusters"):
        lock = try_lock(_base(settings) / "owners" / name)
    if lock is None:
        raise ClusterError(f"kwok cluster {name} belongs to another process that is alive; choose another name")
    return lock


def _let_go(lock: Lock) -> None:
    """Give the claim up. The file goes first, so that no other process finds it without its owner."""
    lock.path.unlink(missing_ok=True)
    lock.release()


def _create(name: str, options: KwokOptions, settings: Settings) -> None:
    kubeconfig = _kubeconfig(settings, name)
    for attempt in range(1, ATTEMPTS + 1):
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        try:
            _kwokctl(settings, name, _create_arguments(options, settings, kubeconfig), GOMEMLIMIT=options.memory)
            if options.nodes:
                _kwokctl(settings, name, ["scale", "node", "--replicas", str(options.nodes)])
        except CommandFailedError as error:
            logs = _keep_logs(settings, name)
            if attempt == ATTEMPTS:
                hint = "Run the same command again."
                raise StepFailedError(f"kwok cluster {name}", str(error), logs, hint) from error
            delete(name, settings)
        else:
            kubeconfig.chmod(0o600)
            return


def _cluster(name: str, options: KwokOptions, settings: Settings, lock: Lock | None) -> KwokCluster:
    kubeconfig = _kubeconfig(settings, name)
    audit_log = _workdir(settings) / "clusters" / name / "logs" / "audit.log"
    return KwokCluster(
        name=name,
        kubeconfig=kubeconfig,
        context=contexts.check_kubeconfig(kubeconfig),
        audit_log=audit_log if options.audit_policy else None,
        kubectl=programs.ensure(settings, ["kubectl"])["kubectl"],
        settings=settings,
        lock=lock,
    )


def _create_arguments(options: KwokOptions, settings: Settings, kubeconfig: Path) -> list[str]:
    paths = programs.ensure(settings, programs.KWOK)
    if options.api_server:
        paths = {**paths, "kube-apiserver": programs.ensure(settings, [options.api_server])[options.api_server]}
    arguments = ["create", "cluster", "--runtime", "binary", "--wait", f"{READY_SECONDS}s"]
    arguments += ["--kubeconfig", str(kubeconfig)]
    for component in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        arguments += [f"--{component}-binary", str(paths[component])]
    arguments += ["--kwok-controller-binary", str(paths["kwok"])]
    # As in kubeadm's clusters: admission policies see each controller under a name of its own, not the administrator's.
    arguments += ["--extra-args", "kube-controller-manager=use-service-account-credentials=true"]
    if options.api_server:
        arguments += ["--disable", "kube-controller-manager", "--disable", "kube-scheduler"]
    if options.audit_policy:
        arguments += ["--kube-audit-policy", str(options.audit_policy.absolute())]
        # By default the log is renamed at 100 MB, and who reads on in it would miss what came before.
        arguments += ["--extra-args", f"kube-apiserver=audit-log-maxsize={AUDIT_LOG_MEGABYTES}"]
    if options.feature_gates:
        arguments += ["--kube-feature-gates", options.feature_gates]
    if options.runtime_config:
        arguments += ["--kube-runtime-config", options.runtime_config]
    if options.unlimited_qps:
        arguments += ["--disable-qps-limits"]
    for argument in options.extra_args:
        arguments += ["--extra-args", argument]
    return arguments


def _kwokctl(settings: Settings, name: str, arguments: Sequence[str], **env: str) -> str:
    kwokctl = programs.ensure(settings, ["kwokctl"])["kwokctl"]
    env |= {"KWOK_WORKDIR": str(_workdir(settings)), **GARBAGE}
    return run([kwokctl, "--name", name, *arguments], env=env, timeout=COMMAND_SECONDS)


def _keep_logs(settings: Settings, name: str) -> Path | None:
    source = _workdir(settings) / "clusters" / name / "logs"
    if not source.is_dir():
        return None
    target = settings.logs / f"kwok-{name}"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def _base(settings: Settings) -> Path:
    return settings.run / "kwok"


def _workdir(settings: Settings) -> Path:
    return _base(settings) / "state"


def _folder(settings: Settings, name: str) -> Path:
    return _base(settings) / "clusters" / name


def _kubeconfig(settings: Settings, name: str) -> Path:
    return _folder(settings, name) / "kubeconfig"
