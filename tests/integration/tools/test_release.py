"""Images pushed to a real registry, pulled from it by digest, signed, and verified as the how-to says."""

import base64
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_image_names import images_in
from tests.requirements import requirement
from tests.support.registries import Registry, running_registry, write_image
from tools.cluster import programs
from tools.cluster.images import NAMES
from tools.machine.errors import ClusterError
from tools.machine.process import CommandFailedError, run
from tools.machine.settings import from_environment
from tools.release.kustomization import render
from tools.release.publishing import Published, Publisher

pytestmark = [pytest.mark.api, pytest.mark.nightly, pytest.mark.timeout(3600)]  # cosign and syft may have to be built

MANIFESTS = Path(__file__).parents[3] / "manifests"
VERIFY = ("--insecure-ignore-tlog=true",)


@dataclass(frozen=True)
class Release:
    """A release of small images of our names."""

    registry: Registry
    publisher: Publisher
    archives: dict[str, Path]
    published: dict[str, Published]
    keys: Path

    def cosign(self, *arguments: str) -> str:
        """Run cosign."""
        return run([self.registry.programs["cosign"], *arguments], timeout=120)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    folder = tmp_path_factory.mktemp("release")
    with pytest.MonkeyPatch.context() as patch, running_registry(folder) as registry:
        patch.setenv("COSIGN_PASSWORD", "")
        for name in ("ours", "other"):
            run([registry.programs["cosign"], "generate-key-pair", "--output-key-prefix", folder / name])
        publisher = Publisher(
            registry.programs, f"{registry.address}/platform", "1.0", str(folder / "ours.key"), folder / "dist"
        )
        names = [f"{NAMES}/{name}" for name in ("operator", "guard", "audit")]
        archives = {name: write_image(folder / f"{name.rpartition('/')[2]}.tar", name) for name in names}
        published = {name: publisher.publish(name, archives[name]) for name in names}
        yield Release(registry, publisher, archives, published, folder)


def content_of(archive: Path) -> tuple[Any, list[str]]:
    """Return the configuration of the image in an archive, and the digests of its layers."""
    with tarfile.open(archive) as tar:
        names = {name.lstrip("./"): name for name in tar.getnames()}

        def read(name: str) -> bytes:
            file = tar.extractfile(names[name])
            assert file is not None
            return file.read()

        (manifest,) = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
    return config, config["rootfs"]["diff_ids"]


@requirement("supply.released-by-digest")
def test_an_image_that_is_pulled_by_its_digest_is_the_one_that_was_pushed(release: Release, tmp_path: Path) -> None:
    for name, image in release.published.items():
        assert image.repository == f"{release.registry.address}/platform/interlock/{name.rpartition('/')[2]}"
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", image.digest)
        assert release.registry.crane("digest", f"{image.repository}:1.0") == image.digest
        pulled = tmp_path / "pulled.tar"
        release.registry.crane("pull", image.reference, pulled)
        assert content_of(pulled) == content_of(release.archives[name])
    assert len({image.digest for image in release.published.values()}) == 3


@requirement("supply.released-by-digest")
def test_the_kustomization_pins_every_image_by_its_digest(release: Release, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "kustomization.yaml").write_text(
        render(release.published.values(), tag="1.0", base="debian@sha256:0")
    )
    resources = [os.path.relpath(MANIFESTS / name, tmp_path) for name in ("admission", "base")]
    kustomization: dict[str, Any] = {"resources": resources, "components": ["dist"]}
    kubectl = programs.ensure(from_environment(), ["kubectl"])["kubectl"]

    def rendered() -> str:
        (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
        return run([kubectl, "kustomize", tmp_path])

    text = rendered()
    assert images_in(text) == {image.reference for image in release.published.values()}
    assert ".invalid" not in text
    guard = release.published[f"{NAMES}/guard"].reference
    assert re.search(rf"- name: INTERLOCK_GUARD_IMAGE\n +value: {re.escape(guard)}\n", text)

    kustomization["components"].append(os.path.relpath(MANIFESTS / "components" / "registry", tmp_path))
    options = {"disableNameSuffixHash": True, "annotations": {"config.kubernetes.io/local-config": "true"}}
    registry = {"name": "interlock-registry", "literals": ["registry=mirror.example.com"], "options": options}
    kustomization["configMapGenerator"] = [registry]
    mirrored = {
        image.reference.replace(release.registry.address, "mirror.example.com") for image in release.published.values()
    }
    assert images_in(rendered()) == mirrored, "a mirror changes the registry, and digests stay"


@requirement("supply.signed")
def test_signatures_are_verified_with_our_key_and_no_other(release: Release, tmp_path: Path) -> None:
    for image in release.published.values():
        release.cosign("verify", "--key", str(release.keys / "ours.pub"), *VERIFY, image.reference)
        with pytest.raises(CommandFailedError):
            release.cosign("verify", "--key", str(release.keys / "other.pub"), *VERIFY, image.reference)
    unsigned = replace(release.publisher, key=None, dist=tmp_path)
    other = unsigned.publish("registry.invalid/interlock/unsigned", write_image(tmp_path / "unsigned.tar", "unsigned"))
    with pytest.raises(CommandFailedError, match="no signatures found"):
        release.cosign("verify", "--key", str(release.keys / "ours.pub"), *VERIFY, other.reference)


@requirement("supply.signed")
def test_the_sbom_names_the_packages_of_the_image_and_is_signed(release: Release) -> None:
    for name, image in release.published.items():
        sbom = json.loads((release.keys / "dist" / "sbom" / f"{name.rpartition('/')[2]}.spdx.json").read_text())
        found = {(one["name"], one.get("versionInfo")) for one in sbom["packages"]}
        assert {("libc6", "2.41-12"), ("aiohttp", "3.12.0"), (image.repository, image.digest)} <= found
        attested = release.cosign(
            "verify-attestation",
            "--key",
            str(release.keys / "ours.pub"),
            *VERIFY,
            "--type",
            "spdxjson",
            image.reference,
        )
        statement = json.loads(base64.b64decode(json.loads(attested)["payload"]))
        assert statement["subject"][0]["digest"]["sha256"] == image.digest.removeprefix("sha256:")
        assert statement["predicate"] == sbom


def test_a_tag_is_never_moved_and_the_same_image_may_be_released_again(release: Release, tmp_path: Path) -> None:
    name = f"{NAMES}/audit"
    publisher = replace(release.publisher, dist=tmp_path, key=None)
    with pytest.raises(ClusterError, match="no tag is moved"):
        publisher.publish(name, write_image(tmp_path / "changed.tar", "changed"))
    assert publisher.publish(name, release.archives[name]) == release.published[name]


def test_an_image_that_was_changed_in_the_registry_is_not_pulled(release: Release, tmp_path: Path) -> None:
    image = release.publisher.publish("registry.invalid/interlock/changed", write_image(tmp_path / "one.tar", "one"))
    manifest = json.loads(release.registry.crane("manifest", image.reference))
    digest = manifest["layers"][0]["digest"].removeprefix("sha256:")
    blob = next(release.registry.store.rglob(f"{digest}/data"))
    changed = bytearray(blob.read_bytes())
    changed[-1] ^= 1
    blob.write_bytes(changed)
    with pytest.raises(CommandFailedError):
        release.registry.crane("pull", image.reference, tmp_path / "pulled.tar")
