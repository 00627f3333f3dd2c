"""The publisher of images: it pushes an archive to a registry, adds an SBOM and signatures, and returns the digest.

Every step after the push names the image by its digest, so moving the tag in between exchanges nothing.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.machine.errors import ClusterError
from tools.machine.process import CommandFailedError, run, say

_UNKNOWN = ("MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND")
"""How registries say that they have no such tag or repository."""
# Our key is the root of trust: no certificate authority and no public transparency log takes part.
_SIGN = ("--use-signing-config=false", "--tlog-upload=false", "--yes")


@dataclass(frozen=True)
class Published:
    """An image in a registry.

    Attributes:
        name: its name in the manifests, without tag.
        repository: where it was pushed to, with the registry.
        digest: of its manifest.
    """

    name: str
    repository: str
    digest: str

    @property
    def reference(self) -> str:
        """The image by its digest."""
        return f"{self.repository}@{self.digest}"


@dataclass(frozen=True)
class Publisher:
    """Publishes images to one registry under one tag.

    Attributes:
        programs: the paths of crane, syft and cosign.
        registry: host, port and path, without a scheme.
        tag: the tag, which is never moved to another image.
        key: what cosign signs with, a file or the URI of a key service. None: nothing is signed.
        dist: the folder for SBOMs.
        describes: whether an SBOM is written for each image.
    """

    programs: Mapping[str, Path]
    registry: str
    tag: str
    key: str | None
    dist: Path
    describes: bool = True

    def repository_of(self, name: str) -> str:
        """Return where an image with this name in the manifests, without tag, is pushed to."""
        return f"{self.registry}/{name.partition('/')[2]}"

    def publish(self, name: str, archive: Path) -> Published:
        """Push one image, unless the tag is this image already. Write its SBOM and sign both.

        Args:
            name: its name in the manifests, without tag.
            archive: the image as `docker save` writes it.

        Raises:
            ClusterError: the tag has another image, the registry has another image after the push, or a program failed.
        """
        published = Published(name, self.repository_of(name), self._crane("digest", "--tarball", archive))
        tagged = f"{published.repository}:{self.tag}"
        found = self.tagged(published.repository)
        if found not in {None, published.digest}:
            raise ClusterError(f"{tagged} is another image ({found}), and no tag is moved: choose another TAG")
        if found is None:
            self._crane("push", archive, tagged)
        if self.tagged(published.repository) != published.digest:
            raise ClusterError(f"{tagged} is not the image that was pushed, {published.digest}")
        self.sign(published, self._describe(published, archive) if self.describes else None)
        say(f"release: {published.reference}")
        return published

    def sign(self, published: Published, sbom: Path | None = None) -> None:
        """Sign an image in the registry, and attest its SBOM; nothing without a key.

        Args:
            published: the image.
            sbom: a file with its SBOM, None where the image has one of BuildKit.
        """
        if self.key is None:
            return
        self._cosign("sign", "--key", self.key, *_SIGN, published.reference)
        if sbom is not None:
            predicate = ("--type", "spdxjson", "--predicate", str(sbom))
            self._cosign("attest", "--key", self.key, *predicate, *_SIGN, published.reference)

    def resolve(self, image: str) -> str:
        """Return the digest of an image in its registry."""
        return self._crane("digest", image)

    def tagged(self, repository: str) -> str | None:
        """Return the digest that the tag names, None if the repository has no such tag."""
        try:
            return self._crane("digest", f"{repository}:{self.tag}")
        except CommandFailedError as error:
            if any(code in str(error) for code in _UNKNOWN):
                return None
            raise

    def _describe(self, published: Published, archive: Path) -> Path:
        """Write the SBOM: the packages of Debian and of Python in the image, and the Go modules of its programs."""
        sbom = self.dist / "sbom" / f"{published.name.rpartition('/')[2]}.spdx.json"
        sbom.parent.mkdir(parents=True, exist_ok=True)
        source = ("--source-name", published.repository, "--source-version", published.digest)
        scan = ("scan", f"docker-archive:{archive}", *source, "--output", f"spdx-json={sbom}")
        run([self.programs["syft"], *scan], env={"SYFT_CHECK_FOR_APP_UPDATE": "false"}, timeout=600)
        return sbom

    def _crane(self, *arguments: str | Path) -> str:
        return run([self.programs["crane"], *arguments], timeout=600).strip()

    def _cosign(self, *arguments: str) -> None:
        run([self.programs["cosign"], *arguments], timeout=120)


def is_on_this_machine(registry: str) -> bool:
    """Return True if the registry's host is this machine's loopback interface."""
    host = registry.partition("/")[0].rpartition(":")[0] or registry.partition("/")[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
