"""Our own images: built when their inputs have changed, and put into clusters."""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.cluster import base_image
from tools.cluster.engine import Engine
from tools.cluster.kind import KindCluster
from tools.machine.errors import ClusterError, StepFailedError
from tools.machine.locks import held
from tools.machine.process import CommandFailedError, say
from tools.machine.settings import Settings

REPOSITORY = Path(__file__).parents[2]
INPUTS_LABEL = "dev.interlock.inputs"
"""The hash of everything that an image was built from."""
VERSION_LABEL = "org.opencontainers.image.version"
"""The version of Interlock, under the name that registries and scanners read."""
NAMES = "registry.invalid/interlock"
"""The beginning of our images' names. No registry can have this host (RFC 6761), so no image is pulled by accident."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_LEFT_OUT = re.compile(r"(^|/)(__pycache__|node_modules|\.[^/]*)(/|$)|\.pyc$")


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        name: with tag.
        folder: the build context, relative to the repository.
        dockerfile: relative to the context.
        inputs: what of the context goes in, relative to it.
        arguments: further ones of `docker build`.
    """

    name: str
    folder: str
    dockerfile: str
    inputs: Sequence[str]
    arguments: tuple[str, ...] = ()


IMAGES = (
    Image(
        f"{NAMES}/operator:dev",
        ".",
        "images/operator/Dockerfile",
        (
            "requirements/operator.txt",
            "requirements/prices.txt",
            "tools/__init__.py",
            "tools/prices",
            "operator/interlock",
            "operator/interlock_guard",
            "operator/interlock_contract",
            "operator/interlock_http",
            "operator/interlock_kube",
            "operator/interlock_process",
            "operator/interlock_kill",
        ),
    ),
    Image(
        f"{NAMES}/guard:dev",
        ".",
        "images/guard/Dockerfile",
        (
            "requirements/go.txt",
            "requirements/guard.txt",
            "images/guard/launcher",
            "operator/interlock_guard",
            "operator/interlock_notify",
            "operator/interlock_contract",
            "operator/interlock_http",
            "operator/interlock_kube",
        ),
    ),
    Image(
        f"{NAMES}/audit:dev",
        ".",
        "images/audit/Dockerfile",
        (
            "requirements/audit.txt",
            "operator/interlock_audit",
            "operator/interlock_contract",
            "operator/interlock_http",
        ),
    ),
    Image(f"{NAMES}/example-crm:dev", "examples/crm-server", "Dockerfile", (".",)),
    Image(f"{NAMES}/example-agent:dev", "examples/agent", "Dockerfile", (".",)),
    Image(f"{NAMES}/example-everything:dev", "examples/everything-server", "Dockerfile", (".",)),
    Image(
        f"{NAMES}/example-go:dev", ".", "examples/go-server/Dockerfile", ("requirements/go.txt", "examples/go-server")
    ),
)


def named(names: Sequence[str]) -> list[Image]:
    """Return the images with these names (short as in `guard`, or whole), or all images for no name.

    Raises:
        ClusterError: there is no such image.
    """
    by_name = {short: image for image in IMAGES for short in (image.name, short_name(image))}
    if unknown := [name for name in names if name not in by_name]:
        raise ClusterError(f"no such image: {', '.join(unknown)}; there are: {', '.join(map(short_name, IMAGES))}")
    return [by_name[name] for name in names] if names else list(IMAGES)


def short_name(image: Image) -> str:
    """Return the name of an image without registry and tag, such as `guard`."""
    return image.name.rpartition("/")[2].partition(":")[0]


def ensure(engine: Engine, settings: Settings, names: Sequence[str] = ()) -> list[str]:
    """Build the images whose inputs have changed; return the names of all requested images.

    Raises:
        UnavailableError: there is nothing to build them from.
        StepFailedError: a build failed.
    """
    base = base_image.ensure(engine, settings)
    wanted = named(names)
    with held(settings.cache / "images.lock", "the images"):
        for number, image in enumerate(wanted, start=1):
            place = f"images [{number}/{len(wanted)}] {image.name}"
            if _build(engine, settings, image, base):
                say(f"{place}: built from {base}")
            else:
                say(f"{place}: unchanged")
    if engine.is_private:
        # What earlier builds left without a name; the newer ones are what the next build starts from.
        engine.docker("image", "prune", "--force", "--filter", "until=24h")
    return [image.name for image in wanted]


def ensure_on(cluster: KindCluster, names: Sequence[str] = ()) -> list[str]:
    """Build the images and put them onto the cluster's nodes.

    Raises:
        UnavailableError: there is nothing to build them from.
        StepFailedError: a build failed.
    """
    built = ensure(cluster.engine, cluster.settings, names)
    cluster.load(built)
    say(f"images: on cluster {cluster.name}")
    return built


def build_on(cluster: KindCluster, image: Image) -> None:
    """Build an image that is none of ours, such as a user's, and put it onto the cluster's nodes.

    Raises:
        UnavailableError: there is nothing to build it from.
        StepFailedError: the build failed.
    """
    base = base_image.ensure(cluster.engine, cluster.settings)
    with held(cluster.settings.cache / "images.lock", "the images"):
        _build(cluster.engine, cluster.settings, image, base)
    cluster.load([image.name])


def _build(engine: Engine, settings: Settings, image: Image, base: str) -> bool:
    """Build one image unless the engine has the same one; return True if it was built."""
    context = pack(REPOSITORY / image.folder, [image.dockerfile, *image.inputs])
    inputs = hashlib.sha256(context + " ".join((base, *image.arguments)).encode()).hexdigest()
    if _label(engine, image.name) == inputs:
        return False
    log = settings.logs / f"image-{short_name(image)}.log"
    log.unlink(missing_ok=True)
    proxies = [word for name in PROXIES if os.environ.get(name) for word in ("--build-arg", name)]
    arguments = ["--tag", image.name, "--file", image.dockerfile, "--label", f"{INPUTS_LABEL}={inputs}"]
    arguments += image.arguments
    arguments += ["--label", f"{VERSION_LABEL}={read_version()}"]
    arguments += ["--build-arg", f"BASE={base}", *proxies]
    if engine.is_private:
        arguments += ["--network", "host"]  # it has no bridge for builds
    old = _identity(engine, image.name)
    try:
        engine.build(*arguments, "-", stdin=context, log=log)
    except CommandFailedError as error:
        hint = "A package registry that does not answer is the usual reason; run the same command again."
        raise StepFailedError(f"building {image.name}", str(error), log, hint) from error
    if old and old != _identity(engine, image.name):
        _forget(engine, old)
    return True


def read_version() -> str:
    """Return the version of Interlock, read from its file: these tools run without its packages on the path."""
    text = (REPOSITORY / "operator" / "interlock_contract" / "version.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^VERSION: Final = "(.+)"$', text, re.MULTILINE)
    return str(version)


def pack(folder: Path, inputs: Sequence[str]) -> bytes:
    """Return a build context with these files and folders: the same bytes for the same content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(set(_files(folder, inputs))):
            info = tarfile.TarInfo(path.relative_to(folder).as_posix())
            info.size = path.stat().st_size
            info.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            with path.open("rb") as data:
                tar.addfile(info, data)
    return buffer.getvalue()


def _files(folder: Path, inputs: Sequence[str]) -> Iterator[Path]:
    for name in inputs:
        path = folder / name
        if not path.exists():
            raise ClusterError(f"{path} is not there, but an image is built from it")
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and not _LEFT_OUT.search(file.relative_to(folder).as_posix()):
                yield file


def _label(engine: Engine, name: str) -> str:
    return _inspect(engine, name, f'{{{{index .Config.Labels "{INPUTS_LABEL}"}}}}')


def _identity(engine: Engine, name: str) -> str:
    return _inspect(engine, name, "{{.Id}}")


def _inspect(engine: Engine, name: str, template: str) -> str:
    try:
        return engine.docker("image", "inspect", "--format", template, name, timeout=30).strip()
    except CommandFailedError:
        return ""


def _forget(engine: Engine, identity: str) -> None:
    """Remove an image that lost its name to a newer one, unless something still uses it."""
    try:
        engine.docker("image", "rm", identity, timeout=60)
    except CommandFailedError:
        return
