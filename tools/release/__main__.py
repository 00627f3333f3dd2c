"""`python -m tools.release REGISTRY`: build our images, push them, and pin manifests and charts to their digests."""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from interlock_contract.version import VERSION
from tools.charts.image_names import REGISTRY, TAG
from tools.cluster import base_image, engine, images, programs
from tools.cluster.engine import Engine
from tools.cluster.images import Image
from tools.machine import versions
from tools.machine.errors import ClusterError
from tools.machine.process import say
from tools.machine.settings import Settings, from_environment
from tools.release import charts, layers
from tools.release.kustomization import render, render_values
from tools.release.multi_platform import PLATFORM, MultiPlatformBuilder
from tools.release.publishing import Published, Publisher, is_on_this_machine

NAMES = ("operator", "guard", "audit")
"""The images that the manifests need."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Release; return 1 after one readable message if it fails."""
    chosen = _parser().parse_args(arguments)
    try:
        release(chosen, from_environment())
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def release(chosen: argparse.Namespace, settings: Settings) -> None:
    """Build, push, describe and sign the images, and write the kustomization and the charts.

    Raises:
        ClusterError: it is not possible here, or something failed.
    """
    key = None if chosen.unsigned else chosen.key
    describes = not (chosen.undescribed or chosen.platforms)  # BuildKit describes what it builds
    wanted = [name for name in programs.RELEASE if name != "syft" or describes]
    wanted = [name for name in wanted if name != "cosign" or key]
    publisher = Publisher(
        programs.ensure(settings, wanted), chosen.registry, chosen.tag, key, chosen.dist, describes=describes
    )
    docker = engine.ensure(settings)
    found = versions.PYTHON_IMAGE if chosen.platforms else base_image.ensure(docker, settings)
    base = choose_base(settings.base_image or found, publisher)
    ours = images.named(() if chosen.all else NAMES)
    if chosen.platforms:
        builder = MultiPlatformBuilder(docker, publisher, base, chosen.platforms)
        published = [builder.publish(image) for image in ours]
    else:
        images.ensure(docker, replace(settings, base_image=base), [image.name for image in ours])
        published = list(_publish(docker, publisher, ours))
    _write(chosen, published, base)
    say(f"release: {chosen.dist} pins these digests" + ("" if key else "; NOTHING IS SIGNED"))


def _publish(docker: Engine, publisher: Publisher, built: Sequence[Image]) -> Iterator[Published]:
    """Push images that the engine has, after all were measured: yield what the registry has then."""
    with tempfile.TemporaryDirectory(prefix="interlock-release-") as folder:
        archives = {image.name: Path(folder) / f"{number}.tar" for number, image in enumerate(built)}
        for image in built:
            docker.docker("save", "--output", str(archives[image.name]), image.name)
            if images.short_name(image) in NAMES:
                layers.check_size(image.name, size_of(image, archives[image.name]))
        for image in built:
            yield publisher.publish(image.name.rpartition(":")[0], archives[image.name])


def size_of(image: Image, archive: Path) -> int:
    """Return the compressed bytes that an image adds to its base image.

    Args:
        image: One of ours.
        archive: The image as `docker save` writes it.
    """
    dockerfile = images.REPOSITORY / image.folder / image.dockerfile
    return layers.measure(archive, layers.count_own(dockerfile.read_text(encoding="utf-8")))


def _write(chosen: argparse.Namespace, published: Sequence[Published], base: str) -> None:
    chosen.dist.mkdir(parents=True, exist_ok=True)
    kustomization = chosen.dist / "kustomization.yaml"
    kustomization.write_text(render(published, tag=chosen.tag, base=base), encoding="utf-8")
    needed = [one for one in published if one.name.rpartition("/")[2] in NAMES]
    values = render_values(needed, registry=chosen.registry, tag=chosen.tag, base=base)
    (chosen.dist / "values.yaml").write_text(values, encoding="utf-8")
    charts.write_charts(chosen.dist / "charts", values)


def choose_base(base: str, publisher: Publisher) -> str:
    """Return the base image by its digest. One that was built on this machine has none, and stays on this machine.

    Raises:
        ClusterError: the base image was built here, and the registry is elsewhere.
    """
    if "@sha256:" in base:
        return base
    if base == versions.PYTHON_IMAGE:
        return f"{base}@{publisher.resolve(base)}"
    if is_on_this_machine(publisher.registry):
        return base
    raise ClusterError(
        f"{base} has no digest in a registry: set INTERLOCK_BASE_IMAGE to an image with python3 and its venv module, "
        "such as python:3.13-slim-trixie@sha256:..."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("registry", type=_registry, help="host, port and path, such as registry.example.com/platform")
    parser.add_argument("--tag", default=VERSION, type=_tag, help="the tag of the images (default: %(default)s)")
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="the folder to write to (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="the images of the examples too")
    parser.add_argument(
        "--platforms", type=_platforms, default=(), help="linux/amd64,linux/arm64: build with docker buildx"
    )
    parser.add_argument("--undescribed", action="store_true", help="write no SBOMs")
    signing = parser.add_mutually_exclusive_group(required=True)
    signing.add_argument("--key", type=_key, help="cosign's private key: a file, or the URI of a key service")
    signing.add_argument("--unsigned", action="store_true", help="sign nothing")
    return parser


def _registry(text: str) -> str:
    if re.fullmatch(REGISTRY, text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a registry: write HOST[:PORT][/PATH] (make: REGISTRY=...)")
    return text


def _tag(text: str) -> str:
    if re.fullmatch(TAG, text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a tag of an image: write up to 128 letters, digits, '.', '_' and '-', such as {VERSION} "
            "(make: TAG=...)"
        )
    return text


def _platforms(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if not all(PLATFORM.fullmatch(one) for one in found):
        raise argparse.ArgumentTypeError(f"{text!r} are not platforms of ours: write linux/amd64,linux/arm64")
    return found


def _key(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(
            "no key: name cosign's private key (make: KEY=cosign.key), or sign nothing (UNSIGNED=1)"
        )
    return text


if __name__ == "__main__":
    sys.exit(main())
