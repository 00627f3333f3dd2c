"""Every image of the manifests and examples has a name that no registry can have."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from interlock.settings import OperatorSettings
from tests.requirements import requirement
from tools.cluster.images import IMAGES, NAMES

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("manifests", "examples") for path in (ROOT / folder).rglob("*.yaml"))
REFERENCE = re.compile(r"[\w.-]+(:\d+)?(/[\w.-]+)+(:[\w.-]+|@sha256:[0-9a-f]{64})")
"""A name with a tag or digest. URLs have a scheme in front, and addresses have no path."""


def texts(value: Any) -> Iterator[str]:
    """Yield each text of a document, wherever it is."""
    match value:
        case str():
            yield value
        case list():
            for one in value:
                yield from texts(one)
        case dict():
            for one in value.values():
                yield from texts(one)


def images_in(text: str) -> set[str]:
    """Return what may be the name of an image, in any field of the documents of a file."""
    found = {one for document in yaml.safe_load_all(text) for one in texts(document)}
    return {one for one in found if REFERENCE.fullmatch(one)}


@requirement("supply.no-public-registry")
def test_every_image_that_a_file_names_has_a_host_that_no_registry_can_have() -> None:
    ours = {image.name for image in IMAGES}
    found = {image for path in FILES for image in images_in(path.read_text(encoding="utf-8"))}
    host = NAMES.partition("/")[0]
    of_users = (f"{host}/mcp/", f"{host}/agents/")  # which users build: examples/mcp-servers, examples/frameworks
    assert {image for image in found if not image.startswith(of_users)} <= ours
    assert {f"{NAMES}/{name}:dev" for name in ("operator", "guard", "audit", "example-agent", "example-crm")} <= found
    assert NAMES.partition("/")[0].endswith(".invalid")


@requirement("supply.no-public-registry")
def test_images_are_named_in_no_other_way() -> None:
    """The field of every container is one of the names above."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        fields = set(re.findall(r"\bimage: *\"?([^\s\",}]+)", text))
        assert fields <= images_in(text) | {"{"}, path


@requirement("supply.no-public-registry")
def test_the_operators_default_is_one_of_these_images() -> None:
    assert OperatorSettings().guard_image == f"{NAMES}/guard:dev"


@requirement("supply.no-public-registry")
def test_the_programs_name_no_other_image() -> None:
    """So the pods that the operator creates have the guard's image, or what users wrote."""
    found = {
        node.value
        for path in (ROOT / "operator").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and REFERENCE.fullmatch(node.value)
    }
    assert found == {f"{NAMES}/guard:dev"}
