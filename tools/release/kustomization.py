"""The kustomization of a release: a component that pins each image of the manifests to its digest, the guard's too."""

from collections.abc import Iterable

import yaml

from tools.cluster.images import NAMES
from tools.release.publishing import Published

_HEAD = "# The images of Interlock {tag} by digest, built from {base}. Written by `make release`.\n"


def render(published: Iterable[Published], *, tag: str, base: str) -> str:
    """Return the text of the component.

    Args:
        published: the images of the manifests.
        tag: the release.
        base: the base image, for the reader.
    """
    by_name = {image.name: image for image in published}
    # kustomize finds no image in an environment variable, so a patch names the guard's.
    guard = {"name": "INTERLOCK_GUARD_IMAGE", "value": by_name[f"{NAMES}/guard"].reference}
    operator = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "interlock", "namespace": "interlock-system"},
        "spec": {"template": {"spec": {"containers": [{"name": "operator", "env": [guard]}]}}},
    }
    component = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "images": [
            {"name": name, "newName": image.repository, "digest": image.digest}
            for name, image in sorted(by_name.items())
        ],
        "patches": [{"patch": yaml.safe_dump(operator, sort_keys=False)}],
    }
    return _HEAD.format(tag=tag, base=base) + yaml.safe_dump(component, sort_keys=False)
