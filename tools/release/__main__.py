"""`python -m tools.release REGISTRY`: build our images, push them, and pin the manifests to their digests."""

import argparse
import re
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tools.cluster import base_image, engine, images, programs
from tools.machine import versions
from tools.machine.errors import ClusterError
from tools.machine.process import say
from tools.machine.settings import Settings, from_environment
from tools.release.kustomization import render, render_values
from tools.release.publishing import Publisher, is_on_this_machine

NAMES = ("operator", "guard", "audit")
"""The images that the manifests need."""
_REGISTRY = re.compile(r"([a-zA-Z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?(/[a-z0-9._-]+)*")


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
    """Build, push, describe and sign the images, and write the kustomization.

    Raises:
        ClusterError: it is not possible here, or something failed.
    """
    key = None if chosen.unsigned else chosen.key
    publisher = Publisher(programs.ensure(settings, programs.RELEASE), chosen.registry, chosen.tag, key, chosen.dist)
    docker = engine.ensure(settings)
    base = choose_base(base_image.ensure(docker, settings), publisher)
    built = images.ensure(docker, replace(settings, base_image=base), NAMES)
    published = []
    for name in built:
        with tempfile.TemporaryDirectory(prefix="interlock-release-") as folder:
            archive = Path(folder) / "image.tar"
            docker.docker("save", "--output", str(archive), name)
            published.append(publisher.publish(name.rpartition(":")[0], archive))
    kustomization = chosen.dist / "kustomization.yaml"
    kustomization.write_text(render(published, tag=chosen.tag, base=base), encoding="utf-8")
    values = render_values(published, registry=chosen.registry, tag=chosen.tag, base=base)
    (chosen.dist / "values.yaml").write_text(values, encoding="utf-8")
    say(f"release: {kustomization} pins these digests" + ("" if key else "; NOTHING IS SIGNED"))


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
    parser.add_argument("--tag", default=_version(), help="the tag of the images (default: %(default)s)")
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="the folder to write to (default: %(default)s)")
    signing = parser.add_mutually_exclusive_group(required=True)
    signing.add_argument("--key", type=_key, help="cosign's private key: a file, or the URI of a key service")
    signing.add_argument("--unsigned", action="store_true", help="sign nothing")
    return parser


def _registry(text: str) -> str:
    if _REGISTRY.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a registry: write HOST[:PORT][/PATH] (make: REGISTRY=...)")
    return text


def _key(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(
            "no key: name cosign's private key (make: KEY=cosign.key), or sign nothing (UNSIGNED=1)"
        )
    return text


def _version() -> str:
    return str(tomllib.loads((images.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


if __name__ == "__main__":
    sys.exit(main())
