"""Images for several architectures, built and pushed by BuildKit (`docker buildx`) with SBOM and provenance.

The other way, through the engine's own store, makes images for the machine that builds them alone.
"""

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock_contract.version import VERSION
from tools.cluster import images
from tools.cluster.engine import Engine
from tools.cluster.images import Image
from tools.machine.errors import ClusterError, UnavailableError
from tools.machine.process import run, say
from tools.release.publishing import Published, Publisher

PLATFORM: Final = re.compile(r"linux/(amd64|arm64)")
"""The platforms for which the pinned wheels exist."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_BUILD_SECONDS: Final = 3600.0
"""An emulated build takes several times as long as one for this machine."""


@dataclass(frozen=True)
class MultiPlatformBuilder:
    """Builds images for several platforms and pushes each under one tag.

    Attributes:
        engine: A Docker engine with buildx.
        publisher: Where images go, and how they are signed.
        base: The base image by the digest of its index.
        platforms: Such as `linux/amd64`.
    """

    engine: Engine
    publisher: Publisher
    base: str
    platforms: Sequence[str]

    def publish(self, image: Image) -> Published:
        """Build, push and sign one image.

        Raises:
            ClusterError: The tag exists already, no engine with BuildKit is there, or a program failed.
        """
        if self.engine.is_private:
            raise UnavailableError(
                "an image for several platforms needs `docker buildx` and an engine that answers: the private engine "
                "of this machine builds for its own architecture alone. Leave PLATFORMS out"
            )
        name = image.name.rpartition(":")[0]
        repository = self.publisher.repository_of(name)
        if (found := self.publisher.tagged(repository)) is not None:
            tagged = f"{repository}:{self.publisher.tag}"
            raise ClusterError(
                f"{tagged} is there ({found}), and no tag is moved: choose another TAG. If a release of this version "
                f"failed midway, delete what it has pushed, as with `crane delete {tagged}`, and run it again"
            )
        published = Published(name, repository, self._build(image, f"{repository}:{self.publisher.tag}"))
        self.publisher.sign(published)
        say(f"release: {published.reference} for {', '.join(self.platforms)}")
        return published

    def _build(self, image: Image, tagged: str) -> str:
        """Build and push; return the digest of the index."""
        with tempfile.TemporaryDirectory(prefix="interlock-release-") as folder:
            metadata = Path(folder) / "metadata.json"
            options = [
                *("--platform", ",".join(self.platforms), "--tag", tagged, "--file", image.dockerfile),
                *("--build-arg", f"BASE={self.base}", "--label", f"{images.VERSION_LABEL}={VERSION}"),
                *("--provenance", "mode=max", "--sbom", "true"),
                *("--metadata-file", str(metadata), "--push"),
            ]
            for name in images.PROXIES:
                options += ["--build-arg", name] if os.environ.get(name) else []
            context = images.pack(images.REPOSITORY / image.folder, [image.dockerfile, *image.inputs])
            command = ["docker", "buildx", "build", *options, "-"]
            run(command, env=self.engine.environment, stdin=context, timeout=_BUILD_SECONDS)
            digest = str(json.loads(metadata.read_text(encoding="utf-8")).get("containerimage.digest"))
        if _DIGEST.fullmatch(digest) is None:
            raise ClusterError(f"docker buildx names no digest of {tagged}: {digest}")
        return digest
