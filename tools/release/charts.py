"""The charts of a release: those of charts/, whose default values name the images that were pushed."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tools.charts.__main__ import CHARTS, read_charts
from tools.charts.documents import values_yaml
from tools.charts.leaves import Group


def write_charts(folder: Path, values: str) -> None:
    """Write both charts. An earlier release in the folder is replaced.

    Args:
        folder: Where each chart gets a folder of its own.
        values: The values of the release as YAML, for the chart `interlock`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name, defaults in read_charts().items():
        shutil.copytree(CHARTS / name, folder / name)
        if name == "interlock":
            text = values_yaml(with_defaults(defaults, yaml.safe_load(values)))
            (folder / name / "values.yaml").write_text(text, encoding="utf-8")


def with_defaults(group: Group, values: Mapping[str, Any]) -> Group:
    """Return values of a chart with other defaults.

    Args:
        group: The values.
        values: Their new defaults, nested as in values.yaml. Others stay.

    Raises:
        KeyError: The chart has no value of a name.
    """
    if unknown := values.keys() - {one.path[-1] for one in group.members}:
        raise KeyError(
            f"the chart has no values {', '.join(sorted(unknown))} in {'.'.join(group.path) or 'values.yaml'}"
        )
    members = []
    for one in group.members:
        name = one.path[-1]
        if name not in values:
            members.append(one)
        elif isinstance(one, Group):
            members.append(with_defaults(one, values[name]))
        else:
            members.append(replace(one, default=values[name]))
    return replace(group, members=tuple(members))
