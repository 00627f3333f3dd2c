from typing import Any

import pytest

from interlock.deployment.ownership import hand_over, has_foreign_fields
from tests.requirements import requirement

OURS = {
    "manager": "interlock",
    "operation": "Apply",
    "apiVersion": "apps/v1",
    "fieldsType": "FieldsV1",
    "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {'k:{"name":"agent"}': {}}}}}},
}


def an_entry(fields: dict[str, Any], manager: str = "kubectl-edit", operation: str = "Update", **more: str) -> Any:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        "time": "2026-03-02T09:00:00Z",
        **more,
    }


CONTAINER = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"more"}': {".": {}, "f:image": {}}}}}}}
VARIABLE = {
    "f:spec": {
        "f:template": {
            "f:spec": {"f:containers": {'k:{"name":"agent"}': {"f:env": {'k:{"name":"X"}': {".": {}, "f:value": {}}}}}}
        }
    }
}
RESTARTED = {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}}}}
REPLICAS = {"f:spec": {"f:replicas": {}}}


def test_what_we_own_alone_is_not_touched() -> None:
    assert not has_foreign_fields([OURS])
    assert not has_foreign_fields([])


@requirement("deployment.additions")
@pytest.mark.parametrize(
    "fields",
    [
        CONTAINER,
        VARIABLE,
        REPLICAS,
        {"f:rules": {}},
        {"f:data": {"f:more": {}}},
        {"f:data": {".": {}, "f:more": {}}},
        {"f:spec": {"f:egress": {}}},
        {"f:subjects": {}},
        {"f:automountServiceAccountToken": {}},
        {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:example.com/x": {}}}}}},
        {"f:spec": {"f:template": {"f:metadata": {"f:labels": {"f:app": {}}}}}},
        {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {
            "f:kubectl.kubernetes.io/restartedAt": {}, "f:example.com/x": {}}}}}},
    ],
)  # fmt: skip
def test_fields_of_another_owner_are_seen(fields: dict[str, Any]) -> None:
    assert has_foreign_fields([OURS, an_entry(fields)])


def test_another_managers_apply_is_seen_like_an_update() -> None:
    assert has_foreign_fields([OURS, an_entry(CONTAINER, manager="argocd", operation="Apply")])


def test_an_update_under_our_own_name_is_seen_since_apply_alone_is_ours() -> None:
    assert has_foreign_fields([OURS, an_entry(CONTAINER, manager="interlock", operation="Update")])


def test_replicas_that_were_changed_by_the_scale_subresource_are_seen() -> None:
    assert has_foreign_fields([OURS, an_entry(REPLICAS, manager="kubectl", subresource="scale")])


@requirement("deployment.restart-welcome")
@pytest.mark.parametrize(
    "fields",
    [
        RESTARTED,
        {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {
            ".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}}}},
        {"f:metadata": {"f:labels": {"f:team": {}}, "f:annotations": {".": {}, "f:example.com/x": {}}}},
        {"f:metadata": {"f:finalizers": {}}, "f:status": {"f:conditions": {}}},
        {},
    ],
)  # fmt: skip
def test_a_rollout_restart_metadata_and_status_are_left_alone(fields: dict[str, Any]) -> None:
    assert not has_foreign_fields([OURS, an_entry(fields)])


def test_the_status_subresource_is_its_controllers() -> None:
    assert not has_foreign_fields([OURS, an_entry({"f:spec": {}}, manager="kcm", subresource="status")])


def test_the_kill_path_may_own_the_replicas_and_nothing_else() -> None:
    assert not has_foreign_fields([OURS, an_entry(REPLICAS, manager="interlock-kill")])
    assert has_foreign_fields([OURS, an_entry(CONTAINER, manager="interlock-kill")])


def test_what_is_foreign_is_handed_over_to_our_entry_and_nothing_else_is() -> None:
    status = an_entry({"f:status": {"f:replicas": {}}}, manager="kcm", subresource="status")
    restarted = an_entry(RESTARTED, manager="kubectl-rollout")

    ours, *kept = hand_over([OURS, an_entry(VARIABLE), an_entry(CONTAINER, manager="other"), status, restarted])

    assert kept == [status, restarted]
    assert (ours["manager"], ours["operation"], ours["apiVersion"]) == ("interlock", "Apply", "apps/v1")
    containers = ours["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert set(containers) == {'k:{"name":"agent"}', 'k:{"name":"more"}'}
    assert "f:env" in containers['k:{"name":"agent"}']
    assert not has_foreign_fields([ours, *kept])


def test_handing_over_changes_nothing_of_what_was_read() -> None:
    managed = [OURS, an_entry(VARIABLE)]
    before = repr(managed)

    hand_over(managed)

    assert repr(managed) == before


def test_an_object_that_we_never_applied_is_handed_over_whole() -> None:
    ours, *kept = hand_over([an_entry(CONTAINER)])

    assert kept == []
    assert ours["fieldsV1"] == CONTAINER
    assert ours["apiVersion"] == "apps/v1"
