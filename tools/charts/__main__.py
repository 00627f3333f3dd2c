"""`python -m tools.charts [--check]`: write the Helm charts and the page of their values, or say which have drifted.

The sources are manifests/, crds/ and the table of values.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from interlock_contract.version import VERSION
from tools.charts.documents import values_page, values_schema, values_yaml
from tools.charts.leaves import Group, read_values
from tools.charts.sources import ROOT, Manifest, Source, read_folder
from tools.charts.templates import check_targets, render_source
from tools.charts.values import CrdValues, InterlockValues

CHARTS: Final = ROOT / "charts"
PAGE: Final = Path("docs/reference/helm-values.md")
WRITTEN_BY_HAND: Final = frozenset(
    f"charts/interlock/templates/{name}" for name in ("NOTES.txt", "_helpers.tpl", "checks.yaml")
)
"""Files of the charts that are not generated."""
OLDEST: Final = "1.33.0-0"
"""The oldest Kubernetes that the charts install on, which Helm checks."""

_FOLDERS: Final = (
    "base",
    "admission",
    "components/selected-namespaces",
    "components/grafana-dashboard",
    "components/pod-monitor",
    "components/prometheus-rules",
)
_CHART: Final = """\
# Generated: do not edit, run `make charts`.
apiVersion: v2
name: {name}
description: "{description}"
type: application
version: {version}
appVersion: {version}
kubeVersion: ">={oldest}"
"""
_TABLES: Final[dict[str, type[BaseModel]]] = {"interlock-crds": CrdValues, "interlock": InterlockValues}
_DESCRIPTIONS: Final = {
    "interlock-crds": "The custom resource definitions of Interlock. Install this chart first.",
    "interlock": "Interlock: the operator, the kill controller, the audit collector and the admission policies.",
}


def read_charts() -> dict[str, Group]:
    """Return the values of each chart, by its name."""
    return {
        "interlock-crds": _read("interlock-crds", crd_sources()),
        "interlock": _read("interlock", installation_sources()),
    }


def render_files() -> dict[str, str]:
    """Return every generated file by its path in the repository."""
    crds, sources, charts = crd_sources(), installation_sources(), read_charts()
    files = {str(PAGE): values_page(charts)}
    objects = {"interlock-crds": objects_of(crds), "interlock": objects_of(sources)}
    for name, values in charts.items():
        chart = _CHART.format(name=name, description=_DESCRIPTIONS[name], version=VERSION, oldest=OLDEST)
        files[f"charts/{name}/Chart.yaml"] = chart
        files[f"charts/{name}/values.yaml"] = values_yaml(values)
        files[f"charts/{name}/values.schema.json"] = values_schema(_TABLES[name], values, objects[name])
    for source in crds:
        files[f"charts/interlock-crds/templates/{source.path.name}"] = render_source(source, charts["interlock-crds"])
    for source in sources:
        folder = "admission/" if source.path.parent.name == "admission" else ""
        name = f"charts/interlock/templates/{folder}{source.path.stem}.yaml"
        files[name] = render_source(source, charts["interlock"])
    return files


def crd_sources() -> list[Source]:
    """Return the files of the CRDs."""
    return list(read_folder(ROOT / "crds"))


def installation_sources() -> list[Source]:
    """Return the files of everything else that a chart can install."""
    return [source for folder in _FOLDERS for source in read_folder(ROOT / "manifests" / folder)]


def objects_of(sources: Sequence[Source]) -> list[Manifest]:
    """Return the objects of files."""
    return [one for source in sources for one in source.objects]


def find_drift(root: Path, files: dict[str, str]) -> list[str]:
    """Return one line for each file that is missing, differs or is not known."""
    drift = []
    for name, text in files.items():
        path = root / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            drift.append(f"{name} is not what manifests/ and the table of values say")
    present = {str(path.relative_to(root)) for path in (root / "charts").rglob("*") if path.is_file()}
    return drift + [f"{name} is not generated" for name in sorted(present - set(files) - WRITTEN_BY_HAND)]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run the command; 1 where a file is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tools.charts", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file differs")
    chosen = parser.parse_args(arguments)
    files = render_files()
    if chosen.check:
        drift = find_drift(root, files)
        sys.stderr.writelines(f"{line}: run `make charts`\n" for line in drift)
        return 1 if drift else 0
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return 0


def _read(chart: str, sources: Sequence[Source]) -> Group:
    objects = objects_of(sources)
    values = read_values(_TABLES[chart], objects)
    check_targets(values, objects)
    return values


if __name__ == "__main__":
    sys.exit(main())
