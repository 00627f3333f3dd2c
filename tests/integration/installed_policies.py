"""The admission policies of a test: installed, and in force before the test sends its first request."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import yaml

from tests.integration.callers import Caller, Json
from tests.integration.kubectl import BINDING, ROOT, Cluster, Kubectl, edited
from tests.support import bounds

IN_FORCE_SECONDS = 30.0
FOLDER = ROOT / "manifests" / "admission"
_API = "/apis/admissionregistration.k8s.io/v1"
_MARK = "example.com/marker"


def files_of(policies: Sequence[str]) -> list[str]:
    """Return options of kubectl for policies by their names."""
    return [option for name in policies for option in ("-f", str(FOLDER / f"{name}.yaml"))]


def install_policies(cluster: Cluster, *options: str) -> None:
    """Install admission policies, and wait until they are in force. The CRDs must be installed.

    Args:
        cluster: The cluster.
        options: What kubectl is to apply, such as those of `files_of`.
    """
    Kubectl(cluster).must("apply", "--server-side", "--force-conflicts", *options)
    wait_until_in_force(cluster)


def wait_until_in_force(cluster: Cluster, seconds: float = IN_FORCE_SECONDS) -> None:
    """Wait until the API server judges and changes objects by all policies that were installed until now.

    It takes up all policies that it has read at once, those that validate and those that mutate apart. So a marker of
    each, written last, says when. A mutating policy also needs the schema of our kinds, which is read apart as well. A
    policy of class Ignore, as ours are, does nothing until then.
    """
    client, admin = Kubectl(cluster), Caller.administrator(Path(cluster.kubeconfig))
    served = {one["name"] for one in admin.must("GET", _API)["resources"]}
    can_mutate = "mutatingadmissionpolicies" in served  # from Kubernetes 1.36 on
    name = f"marker-{uuid4().hex[:10]}"
    markers = yaml.safe_dump_all(_markers(name, can_mutate=can_mutate))
    client.must("apply", "--server-side", "-f", "-", stdin=markers)

    def is_marked() -> bool:
        path = "/apis/interlock.dev/v1alpha1/namespaces/default/mcpbindings?dryRun=All"
        reply = admin.send("POST", path, edited(BINDING, metadata__name=name))
        is_warned = any(name in one for one in reply.warnings)
        if reply.status != 201 or not is_warned:
            return False
        return not can_mutate or reply.json()["metadata"].get("labels", {}).get(_MARK) == name

    try:
        bounds.eventually(is_marked, "the admission policies are in force", seconds)
    finally:
        client.must("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=markers)


def _markers(name: str, *, can_mutate: bool) -> Iterator[Json]:
    """Yield policies that warn at the creation of one MCPBinding, and label it, with their bindings."""
    kinds = {"apiGroups": ["interlock.dev"], "apiVersions": ["*"], "resources": ["mcpbindings"]}
    matched: Json = {
        "matchConstraints": {"resourceRules": [kinds | {"operations": ["CREATE"]}]},
        "matchConditions": [{"name": "marker", "expression": f"object.metadata.name == '{name}'"}],
        "failurePolicy": "Fail",
    }
    validations = [{"expression": "false", "message": name}]
    yield from _bound("Validating", name, matched | {"validations": validations}, {"validationActions": ["Warn"]})
    if can_mutate:
        label = f"[JSONPatch{{op: 'add', path: '/metadata/labels', value: {{'{_MARK}': '{name}'}}}}]"
        mutations = [{"patchType": "JSONPatch", "jsonPatch": {"expression": label}}]
        yield from _bound("Mutating", name, matched | {"mutations": mutations, "reinvocationPolicy": "Never"}, {})


def _bound(kind: str, name: str, spec: Json, binding: Json) -> Iterator[Json]:
    for end, content in (("", spec), ("Binding", {"policyName": name, **binding})):
        yield {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}AdmissionPolicy{end}",
            "metadata": {"name": name},
            "spec": content,
        }
