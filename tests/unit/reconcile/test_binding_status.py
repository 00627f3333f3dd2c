from datetime import timedelta

import pytest

from interlock.deployment.names import binding_label
from interlock.reconcile.binding_status import EndedRun, build_conditions
from interlock_contract.verification import VerificationFailure, VerificationResult
from tests.support.builders import NOW, a_binding


def test_the_command_that_shows_the_pods_of_a_run_selects_by_the_label_that_they_have() -> None:
    binding = a_binding("b" * 100).unverified().build()

    found = build_conditions(binding, binding, None, NOW + timedelta(minutes=1))

    [verified] = [one for one in found if one.type == "Verified"]
    assert verified.message.endswith(f"describe jobs,pods -l interlock.dev/binding={binding_label('b' * 100)}")


def test_a_run_without_a_result_names_the_events_since_its_pod_may_be_gone() -> None:
    binding = a_binding().build()

    found = build_conditions(binding, binding, EndedRun(None, "no result"), NOW + timedelta(minutes=1))

    [verified] = [one for one in found if one.type == "Verified"]
    assert verified.message == "no result; run: kubectl -n agents events --types=Warning"


def test_a_run_that_has_no_result_yet_names_the_command_that_shows_why_its_pod_does_not_start() -> None:
    binding = a_binding("crm").unverified().build()

    found = build_conditions(binding, binding, None, NOW + timedelta(minutes=1))

    [verified] = [one for one in found if one.type == "Verified"]
    assert (verified.status, verified.reason) == ("Unknown", "Verifying")
    assert verified.message.endswith("describe jobs,pods -l interlock.dev/binding=crm")


@pytest.mark.parametrize(
    ("failure", "end"),
    [
        (VerificationFailure.SERVER_UNAVAILABLE, "logs -l interlock.dev/binding=crm --all-containers"),
        (VerificationFailure.LIST_FAILED, "logs -l interlock.dev/binding=crm --all-containers"),
        (VerificationFailure.TOOLS_MISSING, "it has no tool nosuch"),
    ],
)
def test_a_server_that_fails_is_told_with_the_command_that_shows_its_log(
    failure: VerificationFailure, end: str
) -> None:
    binding = a_binding("crm").build()
    result = VerificationResult("crm-1", failure, "it has no tool nosuch")

    found = build_conditions(binding, binding, EndedRun(result), NOW + timedelta(minutes=1))

    [verified] = [one for one in found if one.type == "Verified"]
    assert verified.message.endswith(end)
