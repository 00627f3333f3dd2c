"""CustomResourceDefinitions from the types: `python -m tools.crds.__main__ [--check] DIRECTORY`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from interlock_contract.names import CATEGORY, GROUP, VERSION
from tools.crds.descriptions import describe_fields
from tools.crds.kinds import KINDS, Column, CrdKind
from tools.crds.lint import MAX_CRD_BYTES, lint_crds
from tools.crds.schema import Schema, structural_schema

describe_fields()

_HEADER = "# Generated from operator/interlock/api: do not edit, run `make crds`.\n"
_README = """# Custom resource definitions

Generated from the types in `operator/interlock/api`: do not edit. Change the types, then run `make crds`;
`make verify` fails when the two differ.

| file | kind | short name |
|---|---|---|
{rows}

`kubectl apply --server-side -k crds` installs them. Wait until they serve, since a short name that another
CRD has taken leaves one accepted but not established:

    kubectl wait --for=condition=Established --timeout=30s crd -l app.kubernetes.io/part-of=interlock
"""


def build_crd(kind: CrdKind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of `kind`."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "selectableFields": [{"jsonPath": path} for path in kind.selectable],
        "schema": {"openAPIV3Schema": _object_schema(kind)},
    }
    if kind.has_status:
        version["subresources"] = {"status": {}}
    if kind.scale is not None:
        version["subresources"]["scale"] = {
            "specReplicasPath": kind.scale.spec_replicas,
            "statusReplicasPath": kind.scale.status_replicas,
            "labelSelectorPath": kind.scale.selector,
        }
    singular = kind.name.lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "interlock"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": singular,
                "shortNames": [kind.short_name],
                "categories": [CATEGORY],
            },
            "versions": [version],
        },
    }


def render_files() -> dict[str, str]:
    """Return every generated file by its name."""
    files = {f"{kind.plural}.yaml": _HEADER + _to_yaml(build_crd(kind)) for kind in KINDS}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(files),
    }
    rows = "\n".join(f"| `{kind.plural}.yaml` | {kind.name} | `{kind.short_name}` |" for kind in KINDS)
    return {
        **files,
        "kustomization.yaml": _HEADER + _to_yaml(kustomization),
        "README.md": _README.format(rows=rows),
    }


def find_drift(directory: Path) -> list[str]:
    """Return one line for each file in `directory` that is missing, stale or not ours."""
    wanted = render_files()
    drift = []
    for name, text in wanted.items():
        path = directory / name
        if not path.is_file():
            drift.append(f"{path} is missing")
        elif path.read_text(encoding="utf-8") != text:
            drift.append(f"{path} differs from the types")
    extra = sorted(path for path in directory.glob("*") if path.name not in wanted)
    return drift + [f"{path} is not generated" for path in extra]


def measure_crds() -> dict[str, int]:
    """Return the bytes of each CRD as JSON, by its plural name."""
    return {kind.plural: len(json.dumps(build_crd(kind), separators=(",", ":")).encode()) for kind in KINDS}


def find_mistakes() -> list[str]:
    """Return one line for everything in the CRDs that the API conventions forbid."""
    too_large = [
        f"{name} has more than {MAX_CRD_BYTES} bytes of JSON"
        for name, size in measure_crds().items()
        if size > MAX_CRD_BYTES
    ]
    return lint_crds([build_crd(kind) for kind in KINDS]) + too_large


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or say which of them have drifted and what the lint finds; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.crds.__main__", description=__doc__)
    parser.add_argument("directory", type=Path, help="folder of the generated files")
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail if a file differs or the lint finds something"
    )
    options = parser.parse_args(arguments)
    if options.check:
        drift = find_drift(options.directory)
        mistakes = find_mistakes()
        complaints = [f"{line}: run `make crds` and commit the result" for line in drift] + mistakes
        sys.stderr.writelines(f"{line}\n" for line in complaints)
        return 1 if complaints else 0
    options.directory.mkdir(parents=True, exist_ok=True)
    for name, text in render_files().items():
        (options.directory / name).write_text(text, encoding="utf-8")
    return 0


def _object_schema(kind: CrdKind) -> Schema:
    schema = structural_schema(kind.model)
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string", "description": "Version of the schema of this object."}
    properties["kind"] = {"type": "string", "description": "Kind of this object."}
    properties["metadata"] = {"type": "object"}
    return {**schema, "required": ["spec"]}


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
        "priority": int(column.wide),
    }


def _to_yaml(document: dict[str, Any]) -> str:
    unshared = json.loads(json.dumps(document))  # equal parts are written out, not as YAML aliases
    return yaml.safe_dump(unshared, sort_keys=False, allow_unicode=True, width=1_000)


if __name__ == "__main__":
    sys.exit(main())
