"""The objects of `examples/`, as they stand there, laid into a namespace of a test's own."""

from pathlib import Path
from typing import Any

import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"
CLUSTER_WIDE = ("Namespace",)


def example_objects(name: str, namespace: str, *files: str) -> list[dict[str, Any]]:
    """Return the example's objects, or those of some of its files, in the order of the files' names."""
    paths = [EXAMPLES / name / file for file in files] or sorted((EXAMPLES / name).glob("*.yaml"))
    assert paths, f"no manifests in examples/{name}"
    loaded = [found for path in paths for found in yaml.safe_load_all(path.read_text()) if found]
    objects = [found for found in loaded if found["kind"] not in CLUSTER_WIDE]
    for found in objects:
        found["metadata"]["namespace"] = namespace
    return objects


def find(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the one object of a kind."""
    [found] = [candidate for candidate in objects if candidate["kind"] == kind]
    return found
