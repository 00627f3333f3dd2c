"""The images of this project, released to a registry on this machine as `make release` does it."""

import json
from pathlib import Path

import pytest

from tests.requirements import requirement
from tests.support.registries import running_registry
from tools.cluster.images import IMAGES, NAMES, REPOSITORY, short_name
from tools.cluster.kind import KindCluster
from tools.machine.process import run
from tools.release import layers
from tools.release.__main__ import main

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(3600)]  # cosign and syft may have to be built


@requirement("supply.released-by-digest", "supply.layers")
def test_our_images_are_released_described_and_signed(
    kind_cluster: KindCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    dist = tmp_path / "dist"
    with running_registry(tmp_path) as registry:
        cosign = registry.programs["cosign"]
        run([cosign, "generate-key-pair", "--output-key-prefix", tmp_path / "ours"])
        key = str(tmp_path / "ours.key")
        assert main([f"{registry.address}/platform", "--tag", "1.0", "--key", key, "--dist", str(dist)]) == 0
        kustomization = (dist / "kustomization.yaml").read_text()
        for name in ("operator", "guard", "audit"):
            tagged = f"{registry.address}/platform/interlock/{name}:1.0"
            digest = registry.crane("digest", tagged)
            assert f"name: {NAMES}/{name}\n" in kustomization
            assert f"digest: {digest}\n" in kustomization
            dockerfile = (REPOSITORY / "images" / name / "Dockerfile").read_text()
            pushed = json.loads(registry.crane("manifest", f"{registry.address}/platform/interlock/{name}@{digest}"))
            own = [layer["size"] for layer in pushed["layers"][-layers.count_own(dockerfile) :]]
            assert sum(own) <= layers.MAX_BYTES, name
            run([cosign, "verify", "--key", tmp_path / "ours.pub", "--insecure-ignore-tlog=true", tagged], timeout=120)
            built = kind_cluster.engine.docker(
                "image", "inspect", "--format", "{{json .RootFS.Layers}}", f"{NAMES}/{name}:dev"
            )
            released = json.loads(registry.crane("config", f"{registry.address}/platform/interlock/{name}@{digest}"))
            assert released["rootfs"]["diff_ids"] == json.loads(built)
            sbom = json.loads((dist / "sbom" / f"{name}.spdx.json").read_text())
            described = {package["name"] for package in sbom["packages"]}
            assert {"aiohttp", "libc6"} <= described
            assert ("interlock.dev/launch" in described) == (name == "guard"), "the launcher of stdio servers"

        values = (dist / "charts" / "interlock" / "values.yaml").read_text()
        assert f"digest: {digest}" in values, "that of the image that came last"
        trial = f"{registry.address}/trial"
        assert (
            main([trial, "--tag", "1.0", "--all", "--unsigned", "--undescribed", "--dist", str(tmp_path / "d2")]) == 0
        )
        for image in IMAGES:
            assert registry.crane("digest", f"{trial}/interlock/{short_name(image)}:1.0").startswith("sha256:")
        assert not (tmp_path / "d2" / "sbom").exists()
