import copy
from collections.abc import Callable
from typing import Any

import pytest

from interlock.deployment.names import Manifest
from interlock.deployment.ownership import content_digest
from interlock.deployment.plan import desired_children, drifted_member, has_drifted
from tests.requirements import requirement
from tests.support.builders import a_binding, a_placement, an_agent
from tests.support.drifts import DRIFTS, Drift, tampered

AGENT = (
    an_agent()
    .with_template(
        resources={"requests": {"cpu": "1000m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        env=[{"name": "EMPTY", "value": ""}, {"name": "LEVEL", "value": "INFO"}],
    )
    .with_files({"prompt.md": "Be kind."})
)
SERVER = a_binding().with_server(resources={"requests": {"cpu": "0.5"}})
CHILDREN = {child["kind"]: child for child in desired_children(a_placement(AGENT, bindings=(SERVER,)))}
DEPLOYMENT = CHILDREN["Deployment"]


def changed(manifest: Manifest, change: Callable[[Any], object]) -> Manifest:
    live = copy.deepcopy(manifest)
    change(live)
    return live


def pod(live: Manifest) -> Any:
    return live["spec"]["template"]["spec"]


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_that_stands_as_it_was_desired_has_not_drifted(kind: str) -> None:
    assert not has_drifted(CHILDREN[kind], copy.deepcopy(CHILDREN[kind]))


@requirement("deployment.restart-welcome")
def test_what_the_api_server_adds_is_no_drift() -> None:
    def default(live: Any) -> None:
        live["metadata"] |= {"uid": "u", "resourceVersion": "9", "generation": 3, "creationTimestamp": "2026-01-01"}
        live["spec"] |= {"progressDeadlineSeconds": 600, "strategy": {"type": "RollingUpdate"}}
        live["status"] = {"replicas": 1}
        pod(live)["dnsPolicy"] = "ClusterFirst"
        for container in (*pod(live)["containers"], *pod(live)["initContainers"]):
            container |= {"terminationMessagePath": "/dev/termination-log"}
            container.setdefault("terminationMessagePolicy", "File")
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    container[probe] |= {"timeoutSeconds": 1, "successThreshold": 1}
                    container[probe]["httpGet"]["scheme"] = "HTTP"
        for volume in pod(live)["volumes"]:
            if "configMap" in volume:
                volume["configMap"]["defaultMode"] = 420

    assert not has_drifted(DEPLOYMENT, changed(DEPLOYMENT, default))


def test_values_that_are_empty_may_be_left_out_by_the_api_server() -> None:
    def leave_out(live: Any) -> None:
        variables = pod(live)["containers"][0]["env"]
        next(one for one in variables if one["name"] == "EMPTY").pop("value")
        for volume in pod(live)["volumes"]:
            if volume.get("emptyDir") == {}:
                volume.pop("emptyDir")

    assert not has_drifted(DEPLOYMENT, changed(DEPLOYMENT, leave_out))


@pytest.mark.parametrize(
    ("where", "written"),
    [
        (("requests", "cpu"), "1"),
        (("requests", "cpu"), 1),
        (("requests", "memory"), "67108864"),
        (("limits", "memory"), "1024Mi"),
    ],
)
def test_an_amount_in_another_notation_is_no_drift(where: tuple[str, str], written: object) -> None:
    def rewrite(live: Any) -> None:
        pod(live)["containers"][0]["resources"][where[0]][where[1]] = written

    assert not has_drifted(DEPLOYMENT, changed(DEPLOYMENT, rewrite))


@pytest.mark.parametrize("written", ["999m", "1100m", "", "lots", None])
def test_another_amount_is_drift(written: object) -> None:
    def rewrite(live: Any) -> None:
        pod(live)["containers"][0]["resources"]["requests"]["cpu"] = written

    assert has_drifted(DEPLOYMENT, changed(DEPLOYMENT, rewrite))


def test_amounts_that_are_gone_are_drift() -> None:
    assert has_drifted(DEPLOYMENT, changed(DEPLOYMENT, lambda live: pod(live)["containers"][0].pop("resources")))


def test_words_that_resemble_amounts_are_compared_as_words_elsewhere() -> None:
    desired = {**CHILDREN["ConfigMap"], "data": {"level": "1000m"}}

    assert has_drifted(desired, {**desired, "data": {"level": "1"}})


@requirement("deployment.drift")
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Deployment", lambda live: live["spec"].update(replicas=5)),
        ("Deployment", lambda live: pod(live)["containers"][0].update(image="example/other:1")),
        ("Deployment", lambda live: pod(live)["containers"].append({"name": "more"})),
        ("Deployment", lambda live: pod(live)["containers"].pop()),
        ("Deployment", lambda live: pod(live)["initContainers"].reverse()),
        ("Deployment", lambda live: pod(live)["initContainers"].pop(0)),
        ("Deployment", lambda live: pod(live)["containers"][0]["env"].append({"name": "MORE", "value": "1"})),
        ("Deployment", lambda live: pod(live)["containers"][0]["env"][1].update(value="DEBUG")),
        ("Deployment", lambda live: pod(live).update(automountServiceAccountToken=True)),
        ("Deployment", lambda live: pod(live).pop("automountServiceAccountToken")),
        ("Deployment", lambda live: pod(live)["securityContext"].update(runAsNonRoot=False)),
        ("Deployment", lambda live: pod(live)["containers"][0]["securityContext"].pop("readOnlyRootFilesystem")),
        ("Deployment", lambda live: pod(live)["containers"][0]["securityContext"]["capabilities"].update(drop=[])),
        ("Deployment", lambda live: pod(live).update(terminationGracePeriodSeconds=30)),
        ("Deployment", lambda live: pod(live)["volumes"].append({"name": "more", "hostPath": {"path": "/"}})),
        ("Deployment", lambda live: live["metadata"]["labels"].pop("interlock.dev/stage")),
        ("Deployment", lambda live: live["metadata"].pop("ownerReferences")),
        ("Deployment", lambda live: live["metadata"]["ownerReferences"][0].update(uid="another")),
        ("ConfigMap", lambda live: live.pop("data")),
        ("Role", lambda live: live["rules"].append({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})),
        ("Role", lambda live: live["rules"][0].pop("resourceNames")),
        ("Role", lambda live: live["rules"][0]["verbs"].append("patch")),
        ("RoleBinding", lambda live: live["subjects"].append({"kind": "User", "name": "eve"})),
        ("RoleBinding", lambda live: live["roleRef"].update(name="cluster-admin")),
        ("NetworkPolicy", lambda live: live["spec"]["egress"].append({})),
        ("NetworkPolicy", lambda live: live["spec"]["ingress"].clear()),
        ("NetworkPolicy", lambda live: live["spec"].update(podSelector={})),
        ("Service", lambda live: live["spec"].update(selector={"app": "other"})),
        ("Service", lambda live: live["spec"]["ports"].append({"name": "more", "port": 1})),
        ("ServiceAccount", lambda live: live.update(automountServiceAccountToken=True)),
        ("ServiceAccount", lambda live: live.pop("automountServiceAccountToken")),
    ],
)
def test_whatever_is_other_than_desired_is_drift(kind: str, change: Callable[[Any], object]) -> None:
    assert has_drifted(CHILDREN[kind], changed(CHILDREN[kind], change))


@requirement("deployment.additions")
@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: drift.what.replace(" ", "-"))
def test_every_drift_that_is_healed_on_a_cluster_is_noticed(drift: Drift) -> None:
    component = "app.kubernetes.io/component"
    [child, *_] = [
        one
        for one in desired_children(a_placement(AGENT, bindings=(SERVER,)))
        if one["kind"] == drift.kind and drift.part in ("", one["metadata"]["labels"].get(component))
    ]
    live = tampered(child, drift)

    assert has_drifted(child, live) != drift.adds_a_key
    assert content_digest(live) != content_digest(child)


def test_labels_and_owners_that_others_add_are_theirs_to_use() -> None:
    def add(live: Any) -> None:
        live["metadata"]["labels"]["team"] = "support"
        live["metadata"]["annotations"]["example.com/note"] = "seen"
        live["metadata"]["ownerReferences"].append({"kind": "Other", "name": "x", "uid": "y"})

    assert not has_drifted(DEPLOYMENT, changed(DEPLOYMENT, add))


@requirement("deployment.names-apart")
def test_an_object_without_the_digest_of_its_placement_has_drifted() -> None:
    def strip(live: Manifest) -> None:
        del live["metadata"]["annotations"]

    assert has_drifted(DEPLOYMENT, changed(DEPLOYMENT, strip))


@pytest.mark.parametrize(
    ("change", "member"),
    [
        (lambda live: live["metadata"]["labels"].pop("interlock.dev/agent"), "metadata.labels.interlock.dev/agent"),
        (lambda live: live["metadata"].pop("ownerReferences"), "metadata.ownerReferences"),
        (lambda live: pod(live)["containers"][0].update(image="x"), "spec.template.spec.containers[0].image"),
        (lambda live: pod(live)["containers"].append({}), "spec.template.spec.containers"),
        (
            lambda live: pod(live)["containers"][0]["resources"]["requests"].update(cpu="7"),
            "spec.template.spec.containers[0].resources.requests.cpu",
        ),
        (lambda live: live.update(spec="x"), "spec"),
    ],
)
def test_the_first_member_that_drifted_is_named(change: Any, member: str) -> None:
    assert drifted_member(DEPLOYMENT, changed(DEPLOYMENT, change)) == member
