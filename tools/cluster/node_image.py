"""kind's node image: the one that kind itself publishes, or one built from the same parts."""

import hashlib
import shutil
from pathlib import Path

from tools.cluster import programs
from tools.cluster.engine import Engine
from tools.machine import releases, versions
from tools.machine.errors import ClusterError, UnavailableError
from tools.machine.locks import held
from tools.machine.process import CommandFailedError, say
from tools.machine.settings import PartsChoice, Settings
from tools.machine.steps import Step, run_steps
from tools.nodeless import debian, node_root
from tools.nodeless.node_root import NodeRoot

REGISTRY = "https://registry-1.docker.io/v2/"
PULL_SECONDS = 1200
COMPILER = {
    "gcc": "gcc",
    "pkg-config": "pkg-config",
    "/usr/include/stdlib.h": "libc6-dev",
    "/usr/include/seccomp.h": "libseccomp-dev",
}
"""The packages that a build needs in addition to Go. runc is linked statically with libseccomp."""
IMAGE_METADATA = (
    "ENV container=docker",  # systemd looks for it
    "STOPSIGNAL SIGRTMIN+3",  # systemd's way of ending
    'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
)


def registry_answers(engine: Engine) -> bool:
    """Return True if images can be pulled: directly, or through a mirror that the engine has."""
    if releases.answers(REGISTRY):
        return True
    try:
        return "https" in engine.docker("info", "--format", "{{json .RegistryConfig.Mirrors}}", timeout=30)
    except CommandFailedError:
        return False


def ensure(engine: Engine, settings: Settings) -> str:
    """Return the name of a node image that the engine holds, pulled or built if it is missing.

    Raises:
        UnavailableError: neither is possible here.
        StepFailedError: the build failed.
    """
    if settings.parts is not PartsChoice.BUILT:
        if engine.has_image(versions.KIND_NODE_IMAGE):
            return versions.KIND_NODE_IMAGE
        if settings.parts is PartsChoice.RELEASED:
            return _pull(engine)
    name = built_name()
    if engine.has_image(name):
        return name
    if settings.parts is PartsChoice.AUTO and registry_answers(engine):
        try:
            return _pull(engine)
        except ClusterError as error:
            say(f"node image: {error}")
    with held(settings.cache / "node-image.lock", "the node image"):
        if not engine.has_image(name):
            _build(engine, settings, name)
    return name


def _pull(engine: Engine) -> str:
    say(f"node image: pulling {versions.KIND_NODE_IMAGE.split('@')[0]} ...")
    try:
        engine.docker("pull", "--quiet", versions.KIND_NODE_IMAGE, timeout=PULL_SECONDS)
    except CommandFailedError as error:
        raise UnavailableError(f"kind's node image could not be pulled: {error}") from error
    return versions.KIND_NODE_IMAGE


def built_name() -> str:
    """Return the name of the image that a build here would give; other content has another name."""
    digest = hashlib.sha256(repr((node_root.limits(), node_root.PACKAGES, versions.NODE_SUITE)).encode())
    for program in programs.all_programs():
        if program.name in node_root.PROGRAMS:
            digest.update(f"{program.name} {program.version} {program.key}".encode())
    here = Path(node_root.__file__).parent
    for file in ("node_root.py", "node_archives.py", "private_runtime.py", "files/kube-router.yaml"):
        digest.update((here / file).read_bytes())
    return f"interlock/node:{versions.KUBERNETES}-{digest.hexdigest()[:10]}"


def _build(engine: Engine, settings: Settings, name: str) -> None:
    if not debian.can_install():
        raise UnavailableError(
            "no image registry answers, and building kind's node image instead needs root on Debian or Ubuntu"
        )
    say("node image: no image registry answers, so it is built from Go modules and Debian packages")
    debian.need({**COMPILER, **debian.DEBOOTSTRAP}, settings.logs / "packages.log")
    # The compiler keeps the cores busy, downloads and unpacking the network and the disk: they run at the same time.
    wanted, lanes = programs.named((*node_root.PROGRAMS, *programs.KIND)), programs.LANES + 1
    with held(settings.cache / "programs.lock", "the programs"):
        parts = [
            debian.root_step(settings, versions.NODE_SUITE, node_root.PACKAGES),
            *programs.build_steps(settings, wanted, lanes=lanes),
            debian.root_step(settings, versions.BASE_SUITE, versions.BASE_PACKAGES),
        ]
        run_steps("node image", parts, settings.logs, lanes=lanes)
    built = programs.built_paths(settings, programs.named(node_root.PROGRAMS))
    base = debian.root_path(settings, versions.NODE_SUITE, node_root.PACKAGES)
    pause = settings.programs / f"pause-{versions.KUBERNETES}" / "pause"
    root = settings.roots / "node.part"

    def assemble(log: Path) -> None:
        kind = node_root.module_folder("kind", "sigs.k8s.io/kind", settings, log)
        try:
            NodeRoot(base, root, built, pause, kind, log).assemble()
            _import(engine, root, name, log)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    steps = [
        Step("pause", pause.exists, lambda log: node_root.build_pause(settings, pause, log), note="compiling"),
        Step(name, lambda: engine.has_image(name), assemble, note="files, images, import; some 40 s"),
    ]
    run_steps("node image", steps, settings.logs)


def _import(engine: Engine, root: Path, name: str, log: Path) -> None:
    plain = name.replace(":", "-root:", 1)
    engine.import_root(root, plain)
    lines = "\n".join([f"FROM {plain}", *IMAGE_METADATA, ""])
    engine.build("--tag", name, "-", stdin=lines.encode(), log=log)
    engine.docker("image", "rm", "--no-prune", plain)
