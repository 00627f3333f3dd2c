import copy
from collections.abc import Callable
from typing import Any

import pytest

from interlock.deployment.ownership import AppliedObject, content_digest, is_left_over, is_owned, replacement
from interlock.deployment.plan import desired_children, has_drifted
from tests.requirements import requirement
from tests.support.builders import a_placement, a_separate_placement

CHILDREN = {child["kind"]: child for child in desired_children(a_placement())}
SEPARATE = {child["kind"]: child for child in desired_children(a_separate_placement())}
OWNER = CHILDREN["Role"]["metadata"]["ownerReferences"][0]
RESTARTED = "kubectl.kubernetes.io/restartedAt"


def live(kind: str, **metadata: Any) -> Any:
    """Return a child as the API server has it."""
    found = copy.deepcopy(CHILDREN[kind])
    found["metadata"] |= {"resourceVersion": "7", "uid": "u", **metadata}
    return found


def pod(found: Any) -> Any:
    return found["spec"]["template"]["spec"]


def first(found: Any) -> Any:
    return pod(found)["containers"][0]


@requirement("deployment.additions")
@pytest.mark.parametrize(
    ("kind", "add"),
    [
        ("NetworkPolicy", lambda one: one["spec"]["podSelector"].update(matchExpressions=[{"key": "x"}])),
        ("NetworkPolicy", lambda one: one["spec"]["ingress"][0].update(x=[])),
        ("Deployment", lambda one: pod(one).update(hostNetwork=True)),
        ("Deployment", lambda one: pod(one).update(hostPID=True)),
        ("Deployment", lambda one: pod(one).update(shareProcessNamespace=True)),
        ("Deployment", lambda one: pod(one).update(nodeName="n")),
        ("Deployment", lambda one: pod(one)["securityContext"].update(fsGroup=2000)),
        ("Deployment", lambda one: first(one).update(envFrom=[{"secretRef": {"name": "crm"}}])),
        ("Deployment", lambda one: first(one).update(lifecycle={"postStart": {}})),
        ("Deployment", lambda one: first(one)["securityContext"].update(privileged=True)),
        ("Deployment", lambda one: one["spec"].update(paused=True)),
        ("Deployment", lambda one: one["spec"]["template"]["metadata"]["labels"].update(x="y")),
        ("Deployment", lambda one: one["spec"]["template"]["metadata"]["annotations"].update(x="y")),
        ("Deployment", lambda one: one["spec"]["template"]["metadata"].update(finalizers=["x/y"])),
        ("Role", lambda one: one["rules"][0].update(nonResourceURLs=["*"])),
        ("ConfigMap", lambda one: one.update(immutable=True)),
        ("ConfigMap", lambda one: one.update(binaryData={"x": "eA=="})),
        ("Service", lambda one: one["spec"].update(externalIPs=["192.0.2.1"])),
        ("Lease", lambda one: one.update(spec={"holderIdentity": "x"})),
        ("RoleBinding", lambda one: one.update(x="y")),
    ],
)
def test_an_addition_that_no_manifest_names_changes_the_digest(kind: str, add: Callable[[Any], object]) -> None:
    changed = live(kind)
    add(changed)

    assert not has_drifted(CHILDREN[kind], changed)
    assert content_digest(changed) != content_digest(CHILDREN[kind])


@requirement("deployment.restart-welcome")
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Deployment", lambda one: one["spec"]["template"]["metadata"]["annotations"].update({RESTARTED: "now"})),
        ("Deployment", lambda one: one["spec"]["template"]["metadata"].update(creationTimestamp=None)),
        ("Deployment", lambda one: one["spec"].update(replicas=0)),
        ("Deployment", lambda one: one.update(status={"replicas": 1})),
        ("Deployment", lambda one: one["metadata"].update(annotations={"deployment.kubernetes.io/revision": "2"})),
        ("ServiceAccount", lambda one: one.update(secrets=[{"name": "x"}], imagePullSecrets=[{"name": "x"}])),
        ("Role", lambda one: one["metadata"].update(labels={}, finalizers=["x/y"], generation=7)),
    ],
)
def test_what_other_controllers_write_by_right_is_no_content(kind: str, change: Callable[[Any], object]) -> None:
    changed = live(kind)
    change(changed)

    assert content_digest(changed) == content_digest(CHILDREN[kind])


def test_the_order_of_members_does_not_matter() -> None:
    turned = {name: CHILDREN["Service"][name] for name in reversed(CHILDREN["Service"])}

    assert content_digest(turned) == content_digest(CHILDREN["Service"])


@pytest.mark.parametrize(
    ("owners", "applied", "expected"),
    [
        ([OWNER], None, True),
        ([{"uid": "x"}, OWNER], None, True),
        ([], None, False),
        ([{**OWNER, "uid": "of-another"}], None, False),
        ([], AppliedObject("u", ""), True),
        ([], AppliedObject("another", ""), False),
    ],
)
def test_an_object_is_ours_by_its_owner_or_by_the_uid_that_we_created(
    owners: list[Any], applied: AppliedObject | None, *, expected: bool
) -> None:
    assert is_owned(live("Role", ownerReferences=owners), OWNER, applied) is expected


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/managed-by": "helm"}])
def test_an_object_of_a_user_with_our_owner_is_not_ours(labels: dict[str, str]) -> None:
    """Everyone may write the ownerReference, and only the operator the label."""
    assert not is_owned(live("ServiceAccount", ownerReferences=[OWNER], labels=labels), OWNER, None)
    assert is_owned(live("ServiceAccount", ownerReferences=[OWNER], labels=labels), OWNER, AppliedObject("u", ""))


@pytest.mark.parametrize(
    ("owners", "expected"),
    [
        ([{**OWNER, "uid": "earlier"}], True),
        ([{**OWNER, "uid": "earlier"}, {**OWNER, "uid": "earliest"}], True),
        ([], False),
        ([OWNER], False),
        ([{**OWNER, "uid": "earlier"}, OWNER], False),
        ([{**OWNER, "uid": "earlier", "name": "another"}], False),
        ([{**OWNER, "uid": "earlier", "kind": "MCPBinding"}], False),
        ([{**OWNER, "uid": "earlier", "apiVersion": "v1"}], False),
    ],
)
def test_an_object_is_left_over_if_all_its_owners_were_earlier_agents_of_this_name(
    owners: list[Any], *, expected: bool
) -> None:
    assert is_left_over(live("Role", ownerReferences=owners), OWNER) is expected


def patched(manifest: Any, found: Any) -> Any:
    """Return the live object after the patch."""
    after = copy.deepcopy(found)
    for one in replacement(manifest, found):
        _, *parents, name = one["path"].split("/")
        below = after["metadata"] if parents else after
        if one["value"] is None:
            below.pop(name, None)
        else:
            below[name] = one["value"]
    return after


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_replacement_leaves_the_content_of_the_manifest_and_the_metadata_of_others(kind: str) -> None:
    found = live(kind, labels={"team": "a", "interlock.dev/agent": "x"}, annotations={"x": "y"}, finalizers=["x/y"])
    found |= {"x": "y", "status": {"z": 1}, "spec": {**found.get("spec", {}), "more": 1}}
    if kind == "Deployment":
        found["spec"]["template"] = {"metadata": {}, "spec": {"hostNetwork": True}}

    after = patched(CHILDREN[kind], found)

    assert content_digest(after) == content_digest(CHILDREN[kind])
    assert not has_drifted(CHILDREN[kind], after)
    assert after["metadata"]["labels"]["team"] == "a"
    ours = CHILDREN[kind]["metadata"].get("annotations", {})
    assert (after["metadata"]["annotations"], after["metadata"]["finalizers"]) == ({**ours, "x": "y"}, ["x/y"])
    assert after["status"] == {"z": 1}


def test_a_replacement_is_bound_to_the_version_that_was_read() -> None:
    assert {"op": "add", "path": "/metadata/resourceVersion", "value": "7"} in replacement(
        CHILDREN["Role"], live("Role")
    )


@requirement("deployment.restart-welcome")
def test_a_replacement_keeps_the_restart_of_a_user() -> None:
    found = live("Deployment")
    found["spec"]["template"]["metadata"]["annotations"] = {RESTARTED: "now", "x": "y"}

    after = patched(CHILDREN["Deployment"], found)

    notes = after["spec"]["template"]["metadata"]["annotations"]
    assert notes == {**CHILDREN["Deployment"]["spec"]["template"]["metadata"]["annotations"], RESTARTED: "now"}


def test_annotations_of_ours_are_written_next_to_those_of_others() -> None:
    manifest = copy.deepcopy(SEPARATE["Role"])
    manifest["metadata"]["annotations"] = {"interlock.dev/x": "1"}
    found = copy.deepcopy(manifest)
    found["metadata"] |= {"resourceVersion": "7", "annotations": {"y": "2", "interlock.dev/x": "3"}}

    assert has_drifted(manifest, found)
    assert patched(manifest, found)["metadata"]["annotations"] == {"y": "2", "interlock.dev/x": "1"}
