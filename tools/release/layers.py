"""The layers that an image of ours adds to its base image, and their bound: nodes pull them at each new version.

A base image is pulled once for all three images, and is not ours to make smaller.
"""

import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from tools.machine.errors import ClusterError

MAX_BYTES: Final = 20 * 1024 * 1024
"""Most bytes that the layers of one image take together, compressed."""
FAST: Final = 1
"""The level at which crane compresses layers when it pushes an archive."""

_CHUNK: Final = 1 << 20
_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How a layer begins that is compressed already (gzip, zstd)."""
_ADDS_LAYER: Final = re.compile(r"(?:COPY|ADD|RUN)\b")


def count_own(dockerfile: str) -> int:
    """Return how many layers the last stage of a Dockerfile adds to its base image."""
    last = re.split(r"^FROM\b", dockerfile, flags=re.MULTILINE)[-1]
    return sum(_ADDS_LAYER.match(line) is not None for line in last.splitlines())


def measure(archive: Path, own: int) -> int:
    """Return the compressed bytes of the last layers of an image.

    Args:
        archive: The image as `docker save` writes it.
        own: How many layers are measured.

    Raises:
        ClusterError: The image does not have more layers than these.
    """
    with tarfile.open(archive) as tar:
        members = {member.name.removeprefix("./"): member for member in tar.getmembers()}

        def opened(name: str) -> IO[bytes]:
            found = tar.extractfile(members[name])
            if found is None:
                raise ClusterError(f"{archive}: {name} is no file")
            return found

        (manifest,) = json.load(opened("manifest.json"))
        layers = manifest["Layers"]
        if len(layers) <= own:
            raise ClusterError(f"{manifest['RepoTags']} has {len(layers)} layers, of which {own} should be ours")
        return sum(_compressed(opened(name)) for name in layers[len(layers) - own :])


def check_size(name: str, size: int) -> None:
    """Check that an image adds no more than the bound to its base image.

    Raises:
        ClusterError: It adds more. The message has both sizes.
    """
    if size > MAX_BYTES:
        raise ClusterError(
            f"{name} adds {size / 2**20:.1f} MiB to its base image, compressed, and {MAX_BYTES >> 20} MiB is the most "
            "(tools/release/layers.py): find what its last stage copies in vain"
        )


def _compressed(layer: IO[bytes]) -> int:
    first = layer.read(_CHUNK)
    if first.startswith(_COMPRESSED):
        return len(first) + sum(map(len, _chunks(layer)))
    packer = zlib.compressobj(FAST)
    size = len(packer.compress(first)) + sum(len(packer.compress(chunk)) for chunk in _chunks(layer))
    return size + len(packer.flush())


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk
