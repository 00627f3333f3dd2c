"""The fragments of the page on private registries are members of the types that they belong to."""

import re
from pathlib import Path

import yaml

from interlock.api.pod_policy import PodTemplatePolicy
from interlock.api.pod_template import Template

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "private-registry.md"


def test_each_fragment_is_read_by_its_type() -> None:
    blocks = re.findall(r"^ *```yaml\n(.*?)^ *```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    read = []
    for block in blocks:
        ((kind, value),) = yaml.safe_load(block)["spec"].items()
        read.append((Template if kind == "template" else PodTemplatePolicy).model_validate(value))
    assert len(read) == 3
