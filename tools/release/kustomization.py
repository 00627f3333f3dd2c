"""The images of a release by digest, the guard's too: a component for kustomize, and values for the Helm chart."""

from collections.abc import Iterable

from tools.cluster.images import NAMES
from tools.release.publishing import Published

_COMPONENT = """\
# The images of Interlock {tag} by digest, built from {base}. Written by `make release`.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
images:
{images}
patches:
# kustomize finds no image in an environment variable, so a patch names the guard's.
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {{name: interlock, namespace: interlock-system}}
    spec:
      template:
        spec:
          containers:
          - name: operator
            env:
            - {{name: INTERLOCK_GUARD_IMAGE, value: "{guard}"}}
"""
_IMAGE = """\
- name: {0.name}
  newName: {0.repository}
  digest: {0.digest}"""

_VALUES = """\
# The images of Interlock {tag} by digest, built from {base}. Written by `make release`.
images:
  registry: "{registry}"
{images}
"""
_VALUE = """\
  {name}:
    repository: "{repository}"
    digest: {digest}"""


def render(published: Iterable[Published], *, tag: str, base: str) -> str:
    """Return the text of the component.

    Args:
        published: the images of the manifests.
        tag: the release.
        base: the base image, for the reader.
    """
    by_name = {image.name: image for image in published}
    images = "\n".join(_IMAGE.format(image) for _, image in sorted(by_name.items()))
    return _COMPONENT.format(tag=tag, base=base, images=images, guard=by_name[f"{NAMES}/guard"].reference)


def render_values(published: Iterable[Published], *, registry: str, tag: str, base: str) -> str:
    """Return the text of the values for the chart `interlock`.

    Args:
        published: the images of the manifests.
        registry: where they were pushed to.
        tag: the release.
        base: the base image, for the reader.
    """
    images = "\n".join(
        _VALUE.format(
            name=image.name.rpartition("/")[2],
            repository=image.repository.removeprefix(f"{registry}/"),
            digest=image.digest,
        )
        for image in sorted(published, key=lambda image: image.name)
    )
    return _VALUES.format(tag=tag, base=base, registry=registry, images=images)
