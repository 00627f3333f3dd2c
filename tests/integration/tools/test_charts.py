"""What Helm renders of the charts, compared with what kubectl renders of the kustomizations."""

import functools
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.settings import OperatorSettings
from interlock_contract.version import VERSION
from tests.contract.test_image_names import images_in
from tests.requirements import requirement
from tests.support.helm import home_variables
from tools.charts.__main__ import CHARTS, read_charts
from tools.charts.bindings import Binding
from tools.charts.leaves import Leaf
from tools.charts.sources import ROOT
from tools.cluster import programs
from tools.cluster.images import NAMES
from tools.machine.process import CommandFailedError, run
from tools.machine.settings import from_environment
from tools.release.charts import write_charts
from tools.release.kustomization import render_values
from tools.release.publishing import Published

pytestmark = pytest.mark.api

Objects = dict[tuple[str, str], dict[str, Any]]
LEAVES = [(chart, leaf) for chart, values in read_charts().items() for leaf in values.leaves()]
AS_MANIFESTS = {"images": {"tag": "dev"}}
"""The tag of the images that the manifests name, which `make images` builds."""
POSTGRES = {"name": "INTERLOCK_POSTGRES", "value": "host=db.example"}
NEEDS: Mapping[str, dict[str, Any]] = {
    "audit.replicas": {"audit": {"persistence": {"enabled": False}, "env": [POSTGRES]}},
    "monitoring.labels": {"monitoring": {"podMonitor": True, "prometheusRules": True}},
    "monitoring.docsUrl": {"monitoring": {"prometheusRules": True}},
}
"""Other values that an example needs, or it is refused or names objects that are switched off."""
KEPT = ("PersistentVolumeClaim", "CustomResourceDefinition")


@functools.cache
def program(name: str) -> Path:
    return programs.ensure(from_environment(), [name])[name]


def objects_of(text: str) -> Objects:
    found = [one for one in yaml.load_all(text, yaml.CSafeLoader) if one]
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(by_name) == len(found)
    return by_name


def template(chart: str, folder: Path, values: Mapping[str, Any], *options: str) -> str:
    """Render a chart as for the newest Kubernetes."""
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    command: list[str | Path] = [
        "template",
        "interlock",
        CHARTS / chart,
        "--namespace",
        "interlock-system",
        "--values",
        file,
    ]
    return run([program("helm"), *command, *options], env=home_variables(folder))


def without_keep(objects: Objects) -> Objects:
    """Return the objects without the annotation that has Helm keep them."""
    for (kind, _), one in objects.items():
        if kind in KEPT and one["metadata"].get("annotations") == {"helm.sh/resource-policy": "keep"}:
            del one["metadata"]["annotations"]
    return objects


def kustomize(folder: Path, resources: list[str], components: tuple[str, ...] = ()) -> Objects:
    """Render folders of manifests/ or crds/; the namespace is not part of a chart."""
    content = {
        "resources": [os.path.relpath(ROOT / name, folder) for name in resources],
        "components": [os.path.relpath(ROOT / "manifests" / "components" / name, folder) for name in components],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content))
    objects = objects_of(run([program("kubectl"), "kustomize", folder]))
    objects.pop(("Namespace", "interlock-system"), None)
    return objects


def changed(path: tuple[str, ...], value: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with one that is set, next to others."""
    found: dict[str, Any] = json.loads(json.dumps(others))
    here = found
    for step in path[:-1]:
        here = here.setdefault(step, {})
    here[path[-1]] = value
    return found


@requirement("charts.equal")
def test_the_chart_of_the_crds_is_the_folder_crds(tmp_path: Path) -> None:
    rendered = objects_of(template("interlock-crds", tmp_path, {}))
    assert len(rendered) == 4
    assert all(one["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"} for one in rendered.values())
    assert without_keep(rendered) == kustomize(tmp_path, ["crds"])


@requirement("charts.equal")
@pytest.mark.parametrize(
    ("admission", "values", "options"),
    [
        ("admission", {}, ("--kube-version", "1.37.0")),
        ("admission", {}, ("--kube-version", "1.36.0-gke.1")),
        ("admission-1.33", {}, ("--kube-version", "1.35.9")),
        ("admission-1.33", {"admission": {"mutatingPolicies": "Never"}}, ("--kube-version", "1.37.0")),
        ("admission", {"admission": {"mutatingPolicies": "Always"}}, ("--kube-version", "1.35.0")),
    ],
)
def test_the_chart_of_the_installation_is_base_and_admission(
    admission: str, values: dict[str, Any], options: tuple[str, ...], tmp_path: Path
) -> None:
    rendered = without_keep(objects_of(template("interlock", tmp_path, AS_MANIFESTS | values, *options)))
    assert rendered == kustomize(tmp_path, ["manifests/base", f"manifests/{admission}"])


@requirement("charts.equal")
def test_switches_add_the_components(tmp_path: Path) -> None:
    values = AS_MANIFESTS | {
        "admission": {"onlySelectedNamespaces": True},
        "monitoring": {"grafanaDashboard": True, "podMonitor": True, "prometheusRules": True},
    }
    rendered = without_keep(objects_of(template("interlock", tmp_path, values)))
    components = ("selected-namespaces", "grafana-dashboard", "pod-monitor", "prometheus-rules")
    assert rendered == kustomize(tmp_path, ["manifests/base", "manifests/admission"], components)


@requirement("charts.equal")
def test_without_a_volume_the_collector_is_that_of_the_overlay_for_kind(tmp_path: Path) -> None:
    values = AS_MANIFESTS | {"audit": {"persistence": {"enabled": False}}}
    rendered = objects_of(template("interlock", tmp_path, values))
    crds = objects_of(template("interlock-crds", tmp_path, {"keep": False}))
    assert rendered | crds == kustomize(tmp_path, ["manifests/overlays/kind"])


@requirement("charts.values", "supply.one-registry")
def test_one_value_names_the_registry_of_every_image(tmp_path: Path) -> None:
    text = template("interlock", tmp_path, {"images": {"registry": "registry.example.com:5000/platform"}})
    names = {f"registry.example.com:5000/platform/interlock/{name}" for name in ("operator", "guard", "audit")}
    assert images_in(text) == {f"{name}:{VERSION}" for name in names}


@requirement("charts.values")
def test_a_new_collector_starts_before_the_old_one_ends_only_where_both_can_write(tmp_path: Path) -> None:
    def strategy(**audit: Any) -> str:
        objects = objects_of(template("interlock", tmp_path, {"audit": audit}))
        return str(objects["Deployment", "interlock-audit"]["spec"]["strategy"]["type"])

    without_volume: dict[str, Any] = {"persistence": {"enabled": False}}
    assert strategy(env=[POSTGRES], **without_volume) == "RollingUpdate"
    assert strategy(env=[POSTGRES]) == strategy(**without_volume) == strategy() == "Recreate"


@requirement("charts.values")
def test_one_value_names_the_pull_secrets_of_programs_and_of_what_the_operator_creates(tmp_path: Path) -> None:
    secrets = [{"name": "registry-login"}, {"name": "mirror"}]
    objects = objects_of(template("interlock", tmp_path, {"images": {"pullSecrets": secrets}}))
    pods = [one["spec"]["template"]["spec"] for (kind, _), one in objects.items() if kind == "Deployment"]
    assert [pod["imagePullSecrets"] for pod in pods] == [secrets] * 3
    env = objects["Deployment", "interlock"]["spec"]["template"]["spec"]["containers"][0]["env"]
    [setting] = [one["value"] for one in env if one["name"] == "INTERLOCK_IMAGE_PULL_SECRETS"]
    assert json.loads(setting) == secrets


@requirement("charts.values")
def test_alerts_have_the_address_of_their_page_where_a_value_says_where_pages_are(tmp_path: Path) -> None:
    base = "https://git.example.com/interlock/blob/v1"
    values = {"monitoring": {"prometheusRules": True, "docsUrl": base}}
    groups = objects_of(template("interlock", tmp_path, values))["PrometheusRule", "interlock"]["spec"]["groups"]
    found = [rule["annotations"] for group in groups for rule in group["rules"]]
    assert found
    assert [one["runbook_url"] for one in found] == [f"{base}/{one['runbook']}" for one in found]


@requirement("charts.values")
@pytest.mark.parametrize(("chart", "leaf"), LEAVES, ids=[f"{chart}-{leaf.name}" for chart, leaf in LEAVES])
def test_a_value_changes_the_objects_that_it_names_and_no_other(chart: str, leaf: Leaf, tmp_path: Path) -> None:
    others = NEEDS.get(leaf.name, {})
    before = rendered_with(chart, json.dumps(others))
    after = objects_of(template(chart, tmp_path, changed(leaf.path, leaf.example, others)))
    differing = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert differing, f"{leaf.name} changes nothing"
    named = [binding for binding in leaf.bindings if isinstance(binding, Binding)]
    for name in differing if named else ():
        found = before.get(name) or after[name]
        assert any(binding.applies_to(found) for binding in named), f"{leaf.name} changes {name}"


@functools.cache
def rendered_with(chart: str, values: str) -> Objects:
    with tempfile.TemporaryDirectory() as folder:
        return objects_of(template(chart, Path(folder), json.loads(values)))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"oprator": {}}, "oprator"),
    ({"operator": {"resuorces": {}}}, "resuorces"),
    ({"images": {"guard": {"digest": "sha256:1"}}}, "/images/guard/digest"),
    ({"images": {"registry": "https://registry.example.com/"}}, "/images/registry"),
    ({"audit": {"keepDays": -1}}, "/audit/keepDays"),
    ({"audit": {"keepDays": "184"}}, "/audit/keepDays"),
    ({"admission": {"mutatingPolicies": "auto"}}, "/admission/mutatingPolicies"),
    ({"operator": {"tolerations": [{"kee": "x"}]}}, "kee"),
    ({"images": {"pullSecrets": ["registry-login"]}}, "/images/pullSecrets/0"),
    ({"operator": {"auditUrl": None}}, "auditUrl"),
    ({"audit": {"replicas": 2}}, "audit.replicas is 2"),
    ({"audit": {"replicas": 2, "persistence": {"enabled": False}}}, "audit.replicas is 2"),
    ({"images": {"tag": "a tag"}}, "/images/tag"),
    ({"monitoring": {"docsUrl": "https://docs.example.com/"}}, "/monitoring/docsUrl"),
    ({"operator": {"podLabels": {"app.kubernetes.io/name": "mine"}}}, "/operator/podLabels"),
    ({"monitoring": {"labels": {"app.kubernetes.io/part-of": "mine"}}}, "/monitoring/labels"),
    ({"operator": {"env": [{"name": "INTERLOCK_GUARD_IMAGE", "value": "x"}]}}, "/operator/env/0/name"),
    ({"operator": {"env": [{"name": "INTERLOCK_LOG_LEVEL", "value": "DEBUG"}]}}, "/operator/env/0/name"),
    ({"images": {"registry": "https://registry.example.com"}}, "/images/registry"),
    ({"images": {"registry": "registry.example.com/Platform"}}, "/images/registry"),
    ({"images": {"guard": {"repository": "mirror//guard"}}}, "/images/guard/repository"),
    ({"operator": {"guardResources": {"limits": {"cpu": "0"}}}}, "/operator/guardResources/limits/cpu"),
    ({"operator": {"auditUrl": "http://audit:7420"}}, "/operator/auditUrl"),
    ({"operator": {"auditUrl": "http://audit.team-a:7420"}}, "/operator/auditUrl"),
    ({"operator": {"prometheus": {"team-a": "prometheus:9090"}}}, "/operator/prometheus/team-a"),
    ({"audit": {"volumes": [{"name": "tmp", "emptyDir": {}}]}}, "/audit/volumes/0/name"),
    ({"audit": {"volumeMounts": [{"name": "x", "mountPath": "/tmp"}]}}, "/audit/volumeMounts/0/mountPath"),  # noqa: S108 - in the pod
]
"""Wrong values, with what Helm must name."""


@requirement("charts.values")
@pytest.mark.parametrize(("values", "named"), WRONG)
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError) as refused:
        template("interlock", tmp_path, values)
    assert named in str(refused.value).replace("'", "/").replace(".", "/") or named in str(refused.value)


NOT_EMPTY = [(chart, leaf) for chart, leaf in LEAVES if leaf.default]


@requirement("charts.values")
@pytest.mark.parametrize(("chart", "leaf"), NOT_EMPTY, ids=[f"{chart}-{leaf.name}" for chart, leaf in NOT_EMPTY])
def test_a_value_that_is_left_empty_gives_up_no_default(chart: str, leaf: Leaf, tmp_path: Path) -> None:
    """Helm takes `enabled:` without a value for null, and null takes the default away."""
    with pytest.raises(CommandFailedError, match=f"missing property '{leaf.path[-1]}'"):
        template(chart, tmp_path, changed(leaf.path, None, {}))


@requirement("charts.values", "supply.released-by-digest")
def test_the_packed_charts_of_a_release_name_its_images_without_any_value(tmp_path: Path) -> None:
    registry, digest = "registry.example.com/platform", f"sha256:{'a' * 64}"
    names = {f"{registry}/interlock/{name}" for name in ("operator", "guard", "audit")}
    published = [Published(f"{NAMES}/{name.rpartition('/')[2]}", name, digest) for name in names]
    write_charts(tmp_path / "charts", render_values(published, registry=registry, tag="1.0", base="debian@sha256:0"))
    folders = [tmp_path / "charts" / name for name in ("interlock-crds", "interlock")]
    run([program("helm"), "package", *folders, "--destination", tmp_path])
    packed = [tmp_path / f"{folder.name}-{VERSION}.tgz" for folder in folders]
    assert all(path.is_file() for path in packed)
    text = run([program("helm"), "template", "interlock", packed[1], "--namespace", "interlock-system"])
    assert images_in(text) == {f"{name}@{digest}" for name in names}


@pytest.mark.parametrize(
    "url",
    ["", "https://audit", "http://localhost:7420/x", "http://10.0.0.1:7420", "http://[fd00::1]:7420", "http://a.b.svc"],
)
def test_a_url_that_the_operator_takes_is_taken(url: str, tmp_path: Path) -> None:
    assert OperatorSettings(audit_url=url).audit_url == url
    template("interlock", tmp_path, {"operator": {"auditUrl": url}})


def test_a_release_in_another_namespace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match="Interlock runs in the namespace interlock-system"):
        template("interlock", tmp_path, {}, "--namespace", "default")


def test_what_helm_passes_to_a_part_of_another_chart_is_taken(tmp_path: Path) -> None:
    assert template("interlock", tmp_path, {"global": {"region": "eu"}}) == template("interlock", tmp_path, {})
