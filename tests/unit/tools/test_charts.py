from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from tools.charts import sources
from tools.charts.__main__ import find_drift, installation_sources, objects_of, read_charts
from tools.charts.bindings import (
    Adds,
    AddsEntries,
    AddsRunbooks,
    AddsVariable,
    Appends,
    Binding,
    Of,
    ReplacesWhere,
    Sets,
    Switches,
)
from tools.charts.documents import values_schema, values_yaml
from tools.charts.leaves import read_values
from tools.charts.sources import Manifest, Source, SourceError, read_folder
from tools.charts.templates import check_targets, render_source
from tools.charts.values import InterlockValues, Values

DEPLOYMENT: Manifest = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {"replicas": 2, "containers": [{"name": "web", "env": [{"name": "A", "value": "1"}]}]},
}
ENV = "spec.containers.[name=web].env"


class Table(Values):
    replicas: Annotated[int, Sets("spec.replicas", "Deployment/web")] = Field(examples=[3])
    """Number of [pods](pods.md)."""


def template(table: type[Values], manifest: Manifest = DEPLOYMENT) -> str:
    return render_source(Source(Path("web.yaml"), (manifest,)), read_values(table, [manifest]))


def test_a_field_of_the_manifest_is_the_default_and_the_value_replaces_it() -> None:
    assert yaml.safe_load(values_yaml(read_values(Table, [DEPLOYMENT]))) == {"replicas": 2}
    assert "  replicas: {{ toJson .Values.replicas }}\n" in template(Table)


def test_comments_of_values_have_no_addresses_of_links() -> None:
    assert "# Number of pods.\nreplicas: 2\n" in values_yaml(read_values(Table, [DEPLOYMENT]))


def test_a_field_and_a_variable_are_added_only_where_the_value_says_something() -> None:
    class Additions(Values):
        class_name: Annotated[str, Adds("spec.priorityClassName", "Deployment/*")] = ""
        level: Annotated[str, AddsVariable(ENV, "Deployment/*", name="LEVEL")] = ""

    text = template(Additions)
    assert "  {{- with .Values.className }}\n  priorityClassName: {{ toJson . }}\n  {{- end }}\n" in text
    variable = "- {name: LEVEL, value: {{ toString . | quote }}}"
    assert f"    {{{{- with .Values.level }}}}\n    {variable}\n    {{{{- end }}}}\n" in text


def test_entries_are_added_to_those_of_the_manifest() -> None:
    class Entries(Values):
        labels: Annotated[dict[str, str], AddsEntries("metadata.labels", "Deployment/*")] = Field(default={})

    text = template(Entries, {**DEPLOYMENT, "metadata": {"name": "web", "labels": {"a": "b"}}})
    added = "{{- range $key, $entry := .Values.labels }}\n    {{ toJson $key }}: {{ toJson $entry }}\n    {{- end }}"
    assert f"  labels:\n    a: b\n    {added}\n" in text


def test_an_optional_field_is_left_out_where_its_value_is_empty() -> None:
    class Optional(Values):
        replicas: Annotated[int, Sets("spec.replicas", "Deployment/web", is_optional=True)] = Field(examples=[0])

    assert yaml.safe_load(values_yaml(read_values(Optional, [DEPLOYMENT]))) == {"replicas": 2}
    field = "  {{- if .Values.replicas }}\n  replicas: {{ toJson .Values.replicas }}\n  {{- end }}\n"
    assert field in template(Optional)


def test_braces_of_a_manifest_are_no_actions() -> None:
    text = template(Table, {**DEPLOYMENT, "data": "{{namespace}}"})
    assert """data: '{{ "{{" }}namespace}}'""" in text


def test_an_object_with_a_switch_depends_on_it() -> None:
    class Switch(Values):
        enabled: Annotated[bool, Switches("Deployment/web")] = True

    text = template(Switch)
    assert text.splitlines()[1] == "{{- if .Values.enabled }}"
    assert text.endswith("{{- end }}\n")


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        (Sets("spec.absent.field", "Deployment/web"), r"Deployment/web has no spec\.absent\.field"),
        (Sets("spec.replicas", "Deployment/other"), "value wrong sets nothing"),
        (Sets("spec.replicas"), "value wrong names no object"),
        (None, "value wrong sets nothing"),
    ],
)
def test_a_value_that_does_nothing_is_refused(binding: Binding | None, message: str) -> None:
    class Wrong(Values):
        wrong: Annotated[int, binding] = Field(examples=[1])

    with pytest.raises(SourceError, match=message):
        read_values(Wrong, [DEPLOYMENT])


def test_a_value_with_a_default_of_its_own_must_name_an_object_too() -> None:
    class Wrong(Values):
        wrong: Annotated[str, Adds("spec.x", "Deployment/other")] = ""

    with pytest.raises(SourceError, match=r"value wrong: .* names none of Deployment/web"):
        check_targets(read_values(Wrong, [DEPLOYMENT]), [DEPLOYMENT])


def test_a_field_that_the_manifest_has_is_not_added() -> None:
    class Wrong(Values):
        wrong: Annotated[int, Adds("spec.replicas", "Deployment/web")] = 0

    with pytest.raises(SourceError, match=r"Deployment/web has spec\.replicas: use Sets"):
        template(Wrong)


def test_values_of_a_group_set_its_object() -> None:
    class Group(Values):
        replicas: Annotated[int, Sets("spec.replicas")] = Field(examples=[3])

    class Grouped(Values):
        web: Annotated[Group, Of("Deployment/web")]

    assert "  replicas: {{ toJson .Values.web.replicas }}\n" in template(Grouped)


def test_a_schema_refuses_other_values_and_takes_what_helm_adds() -> None:
    schema = schema_of_the_installation()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["global"]["type"] == "object"
    assert all(one["additionalProperties"] is False for one in schema["$defs"].values())


def schema_of_the_installation() -> Any:
    objects = objects_of(installation_sources())
    return yaml.safe_load(values_schema(InterlockValues, read_charts()["interlock"], objects))


@pytest.mark.parametrize("program", ["Operator", "KillController", "Audit"])
def test_labels_by_which_a_deployment_selects_its_pods_are_no_labels_of_users(program: str) -> None:
    labels = schema_of_the_installation()["$defs"][program]["properties"]["podLabels"]
    assert labels["properties"] == {"app.kubernetes.io/name": False, "app.kubernetes.io/part-of": False}


def test_entries_that_the_manifest_has_or_that_other_values_add_are_refused() -> None:
    class Table(Values):
        level: Annotated[str, AddsVariable(ENV, "Deployment/web", name="LEVEL")] = ""
        env: Annotated[list[dict[str, str]], Appends(ENV, "Deployment/web")] = Field(default=[])

    schema = yaml.safe_load(values_schema(Table, read_values(Table, [DEPLOYMENT]), [DEPLOYMENT]))
    refused = {"properties": {"name": {"not": {"enum": ["A", "LEVEL"]}}}}
    assert schema["properties"]["env"]["items"]["allOf"][1] == refused


def test_a_field_is_replaced_where_a_template_says_so() -> None:
    class Table(Values):
        env: Annotated[str, ReplacesWhere("spec.replicas", "Deployment/web", helper="many", otherwise="5")] = ""

    assert '  replicas: {{ if include "many" . }}5{{ else }}2{{ end }}\n' in template(Table)


def test_each_alert_with_a_page_gets_its_address() -> None:
    class Table(Values):
        docs: Annotated[str, AddsRunbooks("spec.groups", "PrometheusRule/rules")] = ""

    rules = [
        {"alert": "A", "annotations": {"runbook": "docs/a.md#b"}},
        {"alert": "B", "annotations": {}},
        {"record": "c"},
    ]
    manifest = {"kind": "PrometheusRule", "metadata": {"name": "rules"}, "spec": {"groups": [{"rules": rules}]}}
    text = template(Table, manifest)
    assert text.count("runbook_url:") == 1
    assert "{{- with .Values.docs }}" in text
    assert 'runbook_url: {{ printf "%s/%s" . "docs/a.md#b" | toJson }}\n' in text


def test_a_kustomization_with_something_unknown_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\nnamePrefix: x-\n")
    with pytest.raises(SourceError, match="namePrefix"):
        list(read_folder(tmp_path))


def test_labels_are_added_and_namespaces_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    (tmp_path / "kustomization.yaml").write_text("resources: [a.yaml]\nlabels: [{pairs: {x: y}}]\n")
    objects = [{"kind": "Namespace", "metadata": {"name": "n"}}, {"kind": "Service", "metadata": {"name": "s"}}]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump_all(objects))
    (source,) = read_folder(tmp_path)
    assert source.objects == ({"kind": "Service", "metadata": {"name": "s", "labels": {"x": "y"}}},)


def test_a_file_that_differs_is_missing_or_is_not_generated_is_named(tmp_path: Path) -> None:
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "a.yaml").write_text("a")
    (tmp_path / "charts" / "stray.yaml").write_text("b")
    drift = find_drift(tmp_path, {"charts/a.yaml": "b", "charts/missing.yaml": ""})
    assert [line.partition(" ")[0] for line in drift] == ["charts/a.yaml", "charts/missing.yaml", "charts/stray.yaml"]
