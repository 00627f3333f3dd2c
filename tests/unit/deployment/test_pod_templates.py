"""Which pod template a Deployment gets: a change of the operator waits, and one of users does not."""

from dataclasses import replace
from typing import Any

import pytest

from interlock.deployment.names import ChildKey, Manifest, key_of
from interlock.deployment.ownership import AppliedObject, applied_object
from interlock.deployment.plan import LiveChild, desired_children
from interlock.deployment.pod_templates import (
    TemplateChoice,
    TemplateRecord,
    choose_template,
    digest_template,
    needed_by,
)
from tests.support.builders import a_placement, a_separate_placement

OLD, NEW = (
    next(one for one in desired_children(replace(a_placement(), guard_image=image)) if one["kind"] == "Deployment")
    for image in ("guard:1", "guard:2")
)
LIVE = LiveChild(OLD)
BEFORE = TemplateRecord("operator-1", "inputs", digest_template(OLD))


def choose(desired: Manifest = NEW, **changed: Any) -> TemplateChoice:
    """Return what a Deployment of operator-1 gets from operator-2."""
    given: dict[str, Any] = {
        "live": LIVE,
        "applied": applied_object(OLD),
        "recorded": BEFORE,
        "operator": "operator-2",
        "inputs": "inputs",
        "is_first": False,
        "may_update": False,
    }
    given |= changed
    return choose_template(desired, given.pop("live"), given.pop("applied"), given.pop("recorded"), **given)


def test_a_template_of_another_version_is_kept_until_the_agent_may_be_updated() -> None:
    kept = choose()
    assert kept.manifest["spec"] == OLD["spec"]
    assert (kept.is_outdated, kept.is_kept) == (True, True)

    updated = choose(may_update=True)
    assert updated.manifest == NEW
    assert (updated.is_outdated, updated.is_kept) == (True, False)


def test_a_deployment_with_a_kept_template_is_scaled() -> None:
    kept = choose(NEW | {"spec": NEW["spec"] | {"replicas": 3}})
    assert kept.is_kept
    assert kept.manifest["spec"] == OLD["spec"] | {"replicas": 3}


def test_a_kept_template_stays_kept_and_a_change_of_users_meanwhile_does_not_wait() -> None:
    recorded = choose().record
    assert choose(recorded=recorded).is_kept

    edited = _with_node_selector(NEW)
    assert choose(edited, recorded=recorded).manifest == edited


def test_what_users_changed_while_the_operator_was_replaced_does_not_wait() -> None:
    assert choose(inputs="other inputs").manifest == NEW


@pytest.mark.parametrize(
    "changed",
    [
        {"live": None},
        {"applied": None},
        {"applied": AppliedObject("", "of another content")},
        {"live": LiveChild(OLD | {"spec": OLD["spec"] | {"replicas": 0}})},
    ],
    ids=["no Deployment", "nothing recorded of it", "changed by others", "no pods"],
)
def test_today_is_written_where_no_pod_needs_the_earlier_template(changed: dict[str, Any]) -> None:
    choice = choose(**changed)
    assert (choice.manifest, choice.is_outdated) == (NEW, False)


def test_a_killed_agent_gets_the_template_of_today_immediately() -> None:
    killed = NEW | {"spec": NEW["spec"] | {"replicas": 0}}
    assert choose(killed).manifest == killed


def test_a_template_without_a_record_is_one_of_an_earlier_version() -> None:
    assert choose(recorded=None, is_first=True).is_kept
    assert choose(recorded=None).manifest == NEW, "a record that was lost keeps no change of users waiting"


def test_what_withdraws_a_way_out_does_not_wait() -> None:
    opened = {"interlock.dev/openings": '{"ways": [], "dns": true, "identity": {}, "network": "None"}'}
    template = OLD["spec"]["template"]
    metadata = template["metadata"] | {"annotations": template["metadata"]["annotations"] | opened}
    live = OLD | {"spec": OLD["spec"] | {"template": template | {"metadata": metadata}}}
    choice = choose(live=LiveChild(live), applied=applied_object(live))
    assert choice.manifest == NEW


def test_pods_need_what_they_mount_and_read() -> None:
    children = desired_children(a_separate_placement())
    workloads = [one for one in children if one["kind"] == "Deployment"]
    found = needed_by(workloads)
    existing = {key_of(one) for one in children}
    assert {key for key in existing if key.kind in ("ServiceAccount", "Secret")} <= found
    assert {key.kind for key in found} == {"ServiceAccount", "Secret", "ConfigMap"}

    read = {"envFrom": [{"secretRef": {"name": "a"}}], "env": [{"valueFrom": {"configMapKeyRef": {"name": "b"}}}]}
    pod = {"spec": {"template": {"spec": {"containers": [read]}}}}
    assert needed_by([pod]) == {ChildKey("Secret", "a"), ChildKey("ConfigMap", "b")}


def _with_node_selector(manifest: Manifest) -> Manifest:
    template = manifest["spec"]["template"]
    pod = template["spec"] | {"nodeSelector": {"pool": "agents"}}
    return manifest | {"spec": manifest["spec"] | {"template": template | {"spec": pod}}}
