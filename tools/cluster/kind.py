"""kind clusters: real pods. Made by the unmodified kind program in whichever Docker engine is to be had."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.cluster import contexts, engine, node_image, programs
from tools.cluster.engine import Engine
from tools.machine.errors import StepFailedError
from tools.machine.locks import Lock, held, try_lock
from tools.machine.process import CommandFailedError, run, say, succeeds
from tools.machine.settings import EngineChoice, Settings, from_environment
from tools.nodeless import private_engine

DEFAULT_NAME = "interlock"
DEFAULT_CONFIG = Path(__file__).parents[2] / "kind-config.yaml"
LABEL = "io.x-k8s.kind.cluster"
CREATE_SECONDS = 300
REVIVE_SECONDS = 60
SYSTEM_SECONDS = 180
_WAIT = f"--timeout={SYSTEM_SECONDS}s"
_PROXY = "daemonset/kube-proxy"
_PROXY_SHARE = {"name": "kube-proxy", "resources": {"requests": {"cpu": "100m"}}}


@dataclass(frozen=True)
class NodeContainer:
    """A container as its node's container runtime sees it.

    Attributes:
        identity: the runtime's id.
        name: the container's name in its pod.
        pod: the pod's name.
        namespace: the pod's namespace.
        node: the node it is on.
        state: CONTAINER_RUNNING, CONTAINER_EXITED, ...
    """

    identity: str
    name: str
    pod: str
    namespace: str
    node: str
    state: str

    @property
    def is_running(self) -> bool:
        """Return True if it has a process."""
        return self.state == "CONTAINER_RUNNING"


@dataclass(frozen=True)
class KindCluster:
    """A running kind cluster.

    Attributes:
        name: as given.
        kubeconfig: a file of its own, with only this cluster in it.
        context: the context's name in that file.
        kubectl: kubectl of the server's minor version; lies next to the kubeconfig.
        engine: the Docker engine its nodes are in.
    """

    name: str
    kubeconfig: Path
    context: str
    kubectl: Path
    engine: Engine = field(repr=False)
    settings: Settings = field(repr=False)

    def nodes(self) -> list[str]:
        """Return the names of its nodes, which are containers of the engine."""
        return _nodes(self.engine, self.name)

    def on_node(self, node: str, *command: str, timeout: float = 60) -> str:
        """Run a command on a node, as root, and return its output."""
        return self.engine.docker("exec", node, *command, timeout=timeout)

    def containers(self, namespace: str | None = None) -> list[NodeContainer]:
        """Return every container on every node (crictl), whatever the API server reports."""
        found: list[NodeContainer] = []
        for node in self.nodes():
            found += node_containers(node, self._crictl(node, "ps", "--all", "--output", "json"))
        return [container for container in found if namespace in {None, container.namespace}]

    def kill_container(self, container: NodeContainer) -> None:
        """End a container with SIGKILL, as the kernel does when it runs out of memory."""
        self._crictl(container.node, "stop", "--timeout", "0", container.identity)

    def _crictl(self, node: str, *arguments: str) -> str:
        """Run crictl on a node. A node that was built here gets it at the first failure; tests poll with it."""
        try:
            return self.on_node(node, "crictl", *arguments)
        except CommandFailedError:
            self._require_crictl(node)
            return self.on_node(node, "crictl", *arguments)

    def _require_crictl(self, node: str) -> None:
        """Put crictl on a node that was built here: only tests use it, and building it takes most of a minute."""
        path = "/usr/local/bin/crictl"
        if not succeeds(["docker", "exec", node, "test", "-x", path], env=self.engine.environment):
            crictl = programs.ensure_built(self.settings, ["crictl"])["crictl"]
            self.engine.docker("cp", str(crictl), f"{node}:{path}")

    def load(self, images: Sequence[str]) -> None:
        """Put images of the engine onto every node; images that are there already cost nothing."""
        if images:
            _kind(self.settings, self.engine, ["load", "docker-image", "--name", self.name, *images], timeout=600)

    def delete(self) -> None:
        """Delete this cluster; its engine goes on."""
        delete(self.name, self.engine, self.settings)


def node_containers(node: str, crictl: str) -> list[NodeContainer]:
    """Return the containers in `crictl ps --output json`."""
    return [
        NodeContainer(
            identity=item["id"],
            name=item["metadata"]["name"],
            pod=item["labels"].get("io.kubernetes.pod.name", ""),
            namespace=item["labels"].get("io.kubernetes.pod.namespace", ""),
            node=node,
            state=item["state"],
        )
        for item in json.loads(crictl).get("containers") or []
    ]


def impossible(settings: Settings) -> str | None:
    """Return the message that says why no kind cluster can run here, or None if one can."""
    return engine.impossible(settings)


def ensure(name: str = DEFAULT_NAME, config: Path | None = None, settings: Settings | None = None) -> KindCluster:
    """Return the cluster of this name, created if it is missing, restarted if it crashed.

    Raises:
        ForeignContextError: the name lacks our prefix.
        UnavailableError: not possible here; the message says what is missing.
        StepFailedError: something on the way failed.
    """
    settings = settings or from_environment()
    contexts.check_name(name)
    docker = engine.ensure(settings)
    with held(settings.run / "kind.lock", "kind clusters"):
        if _nodes(docker, name) and _revive(name, docker, settings):
            say(f"cluster {name}: runs already")
        else:
            _create(name, config or DEFAULT_CONFIG, docker, settings)
    return _cluster(name, docker, settings)


def find(name: str, settings: Settings) -> KindCluster | None:
    """Return the cluster of this name if it exists, without starting anything."""
    docker = engine.running(settings)
    if docker is None or not _nodes(docker, name) or not _kubeconfig(settings, name).exists():
        return None
    return _cluster(name, docker, settings)


def names(docker: Engine) -> list[str]:
    """Return our clusters in this engine: those with our prefix."""
    listed = docker.docker("ps", "--all", "--filter", f"label={LABEL}", "--format", f'{{{{.Label "{LABEL}"}}}}')
    return sorted({name for name in listed.split() if contexts.is_ours(f"kind-{name}")})


def delete(name: str, docker: Engine, settings: Settings) -> None:
    """Delete the cluster of this name, if it exists."""
    contexts.check_name(name)
    if _nodes(docker, name):
        _kind(settings, docker, ["delete", "cluster", "--name", name, "--kubeconfig", str(_kubeconfig(settings, name))])
    shutil.rmtree(_folder(settings, name), ignore_errors=True)


def down(wanted: Sequence[str] | None, settings: Settings) -> None:
    """Delete clusters, and stop the private engine once it has none left.

    Args:
        wanted: their names; None for all of ours that no living process has claimed.
        settings: where things lie.

    Leaves nothing on the machine but the cache, also after everything was killed; never touches an engine that was
    there before, nor clusters without our prefix.
    """
    docker = _engine_to_clean(settings)
    if docker is None:
        return
    for name in _unclaimed(docker, settings) if wanted is None else wanted:
        if _nodes(docker, contexts.check_name(name)):
            say(f"cluster {name}: deleting")
        delete(name, docker, settings)
    left = names(docker)
    if left:
        say(f"engine: goes on, since there is still: {', '.join(left)}")
    elif docker.is_private:
        say("engine: stopping the private one")
        private_engine.stop(settings)


def claim(name: str, settings: Settings) -> Lock | None:
    """Claim the cluster for the life of this process; return None while another process has it."""
    return try_lock(settings.run / f"{name}.lock")


def _unclaimed(docker: Engine, settings: Settings) -> list[str]:
    free = []
    for name in names(docker):
        lock = claim(name, settings)
        if lock is None:
            say(f"cluster {name}: stays, since a running process uses it")
            continue
        lock.release()
        free.append(name)
    return free


def _engine_to_clean(settings: Settings) -> Engine | None:
    """Return the engine with our clusters; start a crashed private one, so that its clusters can be deleted."""
    docker = engine.running(settings)
    if settings.engine is EngineChoice.EXISTING or not private_engine.has_crashed(settings):
        return docker
    say("engine: the private one has crashed")
    private_engine.stop(settings)
    if docker is None and private_engine.has_containers(settings):
        return engine.ensure(settings)
    return docker


def _create(name: str, config: Path, docker: Engine, settings: Settings) -> None:
    image = node_image.ensure(docker, settings)  # builds the programs of this machine too, where it builds at all
    programs.ensure(settings, programs.KIND)
    delete(name, docker, settings)
    folder = _folder(settings, name)
    folder.mkdir(parents=True, exist_ok=True)
    log = settings.logs / f"kind-{name}.log"
    log.unlink(missing_ok=True)
    say(f"cluster {name}: creating, some 30 s ...")
    arguments = ["create", "cluster", "--name", name, "--image", image, "--config", str(config), "--wait", "120s"]
    try:
        _kind(settings, docker, [*arguments, "--kubeconfig", str(_kubeconfig(settings, name))], log=log)
    except CommandFailedError as error:
        delete(name, docker, settings)
        raise StepFailedError(
            f"creating the kind cluster {name}", str(error), log, "Run the same command again."
        ) from error
    _give_proxy_a_share(name, settings)
    if image == node_image.built_name() and len(_nodes(docker, name)) > 1:
        _teach_network(name, settings)
    _wait_for_system(name, settings)
    say(f"cluster {name}: ready")


def _revive(name: str, docker: Engine, settings: Settings) -> bool:
    """Return True if the cluster answers, its nodes started where they stand still."""
    for node in _nodes(docker, name, running=False):
        say(f"cluster {name}: starting node {node} again")
        docker.docker("start", node)
    kubeconfig = _kubeconfig(settings, name)
    if not kubeconfig.exists():
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        _kind(settings, docker, ["export", "kubeconfig", "--name", name, "--kubeconfig", str(kubeconfig)])
    probe = _kubectl(
        settings, name, ["wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={REVIVE_SECONDS}s"]
    )
    deadline = time.monotonic() + REVIVE_SECONDS
    while time.monotonic() < deadline:
        if succeeds(_kubectl(settings, name, ["get", "--raw", "/readyz", "--request-timeout=1s"]), timeout=5):
            return succeeds(probe, timeout=REVIVE_SECONDS + 5)
        time.sleep(0.5)
    say(f"cluster {name}: does not answer, so it is recreated")
    return False


def _teach_network(name: str, settings: Settings) -> None:
    """Restart the network of a built node image once all nodes are there.

    Each time that kube-router applies NetworkPolicies, it restores the pod ranges of the nodes that it knew at its
    start. To those of others pods would come with the address of their node, which no policy lets in.
    """
    network = ["-n", "kube-system", "rollout"]
    for arguments in (
        ["wait", "nodes", "--all", "--for=condition=Ready", _WAIT],
        [*network, "restart", "daemonset/kube-router"],
        [*network, "status", "daemonset/kube-router", _WAIT],
    ):
        _run_on(name, settings, arguments, "the network between nodes")


def _give_proxy_a_share(name: str, settings: Settings) -> None:
    """Let kube-proxy request CPU, which kubeadm does not.

    Pods without a request come last, so on a busy node the rules of a new Service would wait for many seconds. A
    configuration with `kubeProxyMode: none` has no kube-proxy.
    """
    patch = {"spec": {"template": {"spec": {"containers": [_PROXY_SHARE]}}}}
    system, part = ["-n", "kube-system"], "the rules of Services"
    if _run_on(name, settings, [*system, "get", _PROXY, "--ignore-not-found", "--output=name"], part):
        _run_on(name, settings, [*system, "patch", _PROXY, "-p", json.dumps(patch)], part)
        _run_on(name, settings, [*system, "rollout", "status", _PROXY, _WAIT], part)


def _wait_for_system(name: str, settings: Settings) -> None:
    arguments = ["wait", "deployments", "--all", "--all-namespaces", "--for=condition=Available", _WAIT]
    _run_on(name, settings, arguments, "DNS and storage")


def _run_on(name: str, settings: Settings, arguments: Sequence[str], part: str) -> str:
    """Run kubectl on a cluster that is being made; part is what its failure leaves unfinished."""
    try:
        return run(_kubectl(settings, name, arguments), timeout=SYSTEM_SECONDS + 10)
    except CommandFailedError as error:
        hint = f"Look at `{' '.join(_kubectl(settings, name, ['get', 'pods', '--all-namespaces']))}`."
        raise StepFailedError(f"cluster {name}: {part}", str(error), hint=hint) from error


def _cluster(name: str, docker: Engine, settings: Settings) -> KindCluster:
    folder, paths = _folder(settings, name), programs.ensure(settings, programs.KIND)
    for program, path in paths.items():
        link = folder / program
        if not link.is_symlink() or link.readlink() != path:
            link.unlink(missing_ok=True)
            link.symlink_to(path)
    kubeconfig = _kubeconfig(settings, name)
    context = contexts.check_kubeconfig(kubeconfig)
    return KindCluster(name, kubeconfig, context, folder / "kubectl", docker, settings)


def _nodes(docker: Engine, name: str, *, running: bool | None = None) -> list[str]:
    arguments = ["ps", "--all", "--filter", f"label={LABEL}={name}", "--format", "{{.Names}} {{.State}}"]
    listed = [line.split() for line in docker.docker(*arguments, timeout=30).splitlines()]
    return sorted(node for node, state in listed if running is None or (state == "running") is running)


def _kind(
    settings: Settings,
    docker: Engine,
    arguments: Sequence[str],
    *,
    log: Path | None = None,
    timeout: float = CREATE_SECONDS,
) -> str:
    return run(
        [programs.ensure(settings, ["kind"])["kind"], *arguments], env=docker.environment, log=log, timeout=timeout
    )


def _kubectl(settings: Settings, name: str, arguments: Sequence[str]) -> list[str]:
    kubectl = programs.ensure(settings, ["kubectl"])["kubectl"]
    return [str(kubectl), "--kubeconfig", str(_kubeconfig(settings, name)), *arguments]


def _folder(settings: Settings, name: str) -> Path:
    return settings.run / "kind" / name


def _kubeconfig(settings: Settings, name: str) -> Path:
    return _folder(settings, name) / "kubeconfig"
