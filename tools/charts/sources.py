"""The objects of manifests/ and crds/, read as `kubectl kustomize` renders them.

Only what our kustomizations use is known here. A test compares the charts with what kubectl renders.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
NAMESPACE: Final = "Namespace"
"""The kind that no chart has: Helm stores the release in the namespace before it applies any object."""

Manifest = dict[str, Any]

_KNOWN: Final = {"apiVersion", "kind", "resources", "labels", "configMapGenerator"}


class SourceError(ValueError):
    """A kustomization, manifest or value that the charts cannot show. The message names it."""


@dataclass(frozen=True)
class Source:
    """The objects of one file.

    Attributes:
        path: The file, relative to the repository.
        objects: Its objects.
    """

    path: Path
    objects: tuple[Manifest, ...]


def read_folder(folder: Path) -> Iterator[Source]:
    """Yield the files of a kustomization.

    Raises:
        SourceError: It uses something of kustomize that is not known here.
    """
    kustomization = yaml.load((folder / "kustomization.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    unknown = set(kustomization) - _KNOWN
    if unknown:
        raise SourceError(
            f"{folder / 'kustomization.yaml'} uses {', '.join(sorted(unknown))}, which charts cannot show"
        )
    labels = {key: text for one in kustomization.get("labels", ()) for key, text in one["pairs"].items()}
    for name in kustomization.get("resources", ()):
        text = (folder / name).read_text(encoding="utf-8")
        found = [one for one in yaml.load_all(text, yaml.CSafeLoader) if one and one["kind"] != NAMESPACE]
        if found:
            yield Source((folder / name).relative_to(ROOT), tuple(_label(one, labels) for one in found))
    for one in kustomization.get("configMapGenerator", ()):
        yield Source((folder / one["files"][0]).relative_to(ROOT), (_label(_config_map(folder, one), labels),))


def name_of(manifest: Manifest) -> str:
    """Return the kind and name of an object, as the table of values writes them."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def _label(manifest: Manifest, labels: dict[str, str]) -> Manifest:
    if not labels:
        return manifest
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), **labels}}}


def _config_map(folder: Path, generator: Manifest) -> Manifest:
    metadata = {"name": generator["name"], "namespace": generator["namespace"]}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata, "labels": generator["options"]["labels"]},
        "data": {name: (folder / name).read_text(encoding="utf-8") for name in generator["files"]},
    }
