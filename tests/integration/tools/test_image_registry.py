"""The manifests with another registry, as kubectl renders them."""

import json
import os
from pathlib import Path

import pytest

from tests.contract.test_image_names import images_in
from tests.requirements import requirement
from tools.cluster import programs
from tools.machine.process import CommandFailedError, run
from tools.machine.settings import from_environment

pytestmark = pytest.mark.api

MANIFESTS = Path(__file__).parents[3] / "manifests"
REGISTRY = "registry.example.com:5000/platform"


def render(folder: Path, registry: str | None) -> str:
    """Render base and admission policies, with the component that names a registry."""
    kustomization = {
        "resources": [os.path.relpath(MANIFESTS / name, folder) for name in ("admission", "base")],
        "components": [os.path.relpath(MANIFESTS / "components" / "registry", folder)],
    }
    if registry is not None:
        generated = {
            "name": "interlock-registry",
            "literals": [f"registry={registry}"],
            "options": {
                "disableNameSuffixHash": True,
                "annotations": {"config.kubernetes.io/local-config": "true"},
            },
        }
        kustomization["configMapGenerator"] = [generated]  # type: ignore[list-item]
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
    return run([programs.ensure(from_environment(), ["kubectl"])["kubectl"], "kustomize", folder])


@requirement("supply.one-registry")
def test_one_setting_names_the_registry_of_every_image(tmp_path: Path) -> None:
    text = render(tmp_path, REGISTRY)
    assert images_in(text) == {f"{REGISTRY}/interlock/{name}:dev" for name in ("operator", "guard", "audit")}
    assert ".invalid" not in text
    assert "interlock-registry" not in text, "the setting itself is not an object of the cluster"


def test_without_the_setting_nothing_is_rendered(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match="interlock-registry"):
        render(tmp_path, None)
