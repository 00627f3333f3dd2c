"""What a notifier's identity may write: the record of its own policy."""

from collections.abc import Iterator

import pytest

from tests.integration.callers import MERGE, Caller, Reply
from tests.integration.kubectl import Cluster
from tests.integration.protected import Protected, account, grant, protect
from tests.integration.test_admission_protection import DRY, IN_FORCE_SECONDS, installed
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def protected(kwok_cluster: Cluster) -> Iterator[Protected]:
    with installed(kwok_cluster, ("managed-objects",)) as admin:
        at = protect(admin)
        yield at
    admin.send("DELETE", f"/api/v1/namespaces/{at.namespace}")


@requirement("protection.identity")
def test_a_notifier_writes_its_own_record_and_nothing_else(protected: Protected) -> None:
    at = protected
    own = at.identity("support-notify", pod="support-notify-0-abcde")

    def record(caller: Caller) -> Reply:
        return caller.send("PATCH", at.record + DRY, {"data": {"chat": "x"}}, MERGE)

    bounds.eventually(lambda: record(own).status == 200, "the record is written", IN_FORCE_SECONDS)
    grant(at.admin, at.namespace, "notifier-may-edit", account(at.namespace, "support-notify"), "edit")
    bounds.eventually(
        lambda: own.send("PATCH", at.bundle + DRY, {"data": {"x": "y"}}, MERGE).was_denied_by("managed-objects"),
        "RBAC lets it",
        IN_FORCE_SECONDS,
    )
    assert record(at.identity("support-notify")).was_denied_by("managed-objects")  # without a pod's name
    assert record(at.editor).was_denied_by("managed-objects")
    assert record(at.identity("crm-verify", pod="p")).status == 403
    for body in (
        {"immutable": True},
        {"metadata": {"labels": {"interlock.dev/policy": "other"}}},
        {"metadata": {"annotations": {"a": "b"}}},
    ):
        assert own.send("PATCH", at.record + DRY, body, MERGE).was_denied_by("managed-objects"), body
    assert own.send("DELETE", at.record + DRY).was_denied_by("managed-objects")
    assert own.send("PATCH", at.result + DRY, {"data": {"x": "y"}}, MERGE).was_denied_by("managed-objects")
