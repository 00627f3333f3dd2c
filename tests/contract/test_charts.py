"""The Helm charts are what manifests/, crds/ and the table of values say, and fit into a release of Helm."""

import base64
import gzip
import json
from pathlib import Path

import pytest
import yaml

from tools.charts.__main__ import CHARTS, WRITTEN_BY_HAND, find_drift, read_charts, render_files
from tools.charts.bindings import ReadBy
from tools.charts.leaves import Leaf

ROOT = Path(__file__).parents[2]
FILES = render_files()
DEFAULTS = {chart: yaml.safe_load(FILES[f"charts/{chart}/values.yaml"]) for chart in read_charts()}
LEAVES = [(chart, leaf) for chart, values in read_charts().items() for leaf in values.leaves()]
MAX_RELEASE_BYTES = 1024 * 1024
"""What a Secret holds, in which Helm stores each release."""
SPARE = 0.5
"""The part of it that charts may take, so that they can grow."""


def test_the_charts_are_generated() -> None:
    assert find_drift(ROOT, FILES) == []


def test_every_file_that_is_written_by_hand_exists() -> None:
    assert [name for name in WRITTEN_BY_HAND if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("chart", sorted(path.name for path in CHARTS.iterdir()))
def test_a_release_fits_into_a_secret(chart: str) -> None:
    """Helm stores the files of the chart and the rendered objects, as compressed JSON in base64."""
    files = {
        path.relative_to(CHARTS / chart): path.read_bytes() for path in (CHARTS / chart).rglob("*") if path.is_file()
    }
    stored = [{"name": str(name), "data": base64.b64encode(data).decode()} for name, data in files.items()]
    rendered = b"".join(data for name, data in files.items() if name.parts[0] == "templates").decode()
    release = json.dumps({"chart": {"templates": stored}, "manifest": rendered}).encode()
    assert len(base64.b64encode(gzip.compress(release))) < MAX_RELEASE_BYTES * SPARE


@pytest.mark.parametrize(("chart", "leaf"), LEAVES, ids=[f"{chart}-{leaf.name}" for chart, leaf in LEAVES])
def test_every_value_has_a_meaning_and_an_example_that_is_not_its_default(chart: str, leaf: Leaf) -> None:
    assert leaf.field.description
    assert leaf.example not in (None, leaf.default)
    found = DEFAULTS[chart]
    for step in leaf.path:
        found = found[step]
    assert found == leaf.default


@pytest.mark.parametrize(("chart", "leaf"), LEAVES, ids=[f"{chart}-{leaf.name}" for chart, leaf in LEAVES])
def test_a_value_that_a_helper_reads_is_read_there(chart: str, leaf: Leaf) -> None:
    for binding in leaf.bindings:
        if isinstance(binding, ReadBy):
            assert binding.text in (CHARTS / chart / "templates" / binding.file).read_text(encoding="utf-8")
