import copy
from dataclasses import replace
from datetime import timedelta

import pytest

from interlock.api.binding import MCPBinding
from interlock.api.status import Condition
from interlock.api.verification import BindingCondition, MCPBindingStatus, VerificationRun
from interlock.deployment.names import binding_label
from interlock.reconcile.binding_status import FREQUENT, EndedRun, build_conditions
from interlock_contract.verification import VerificationFailure, VerificationResult
from tests.requirements import requirement
from tests.support.builders import NOW, BindingBuilder, a_binding


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


@pytest.mark.parametrize("failure", [None, VerificationFailure.LIST_FAILED])
@pytest.mark.parametrize(("dropped", "is_named"), [(0, False), (FREQUENT - 1, False), (FREQUENT, True)])
def test_messages_that_a_server_sends_often_and_that_are_no_mcp_are_named(
    failure: VerificationFailure | None, dropped: int, *, is_named: bool
) -> None:
    binding = a_binding("crm").build()
    result = VerificationResult("crm-1", failure, "it refuses" if failure else "", dropped=dropped)

    found = build_conditions(binding, binding, EndedRun(result), NOW + timedelta(minutes=1))

    [verified] = [one for one in found if one.type == "Verified"]
    assert (f"{dropped} messages of the server were not MCP" in verified.message) == is_named


def at_generation(builder: BindingBuilder, generation: int) -> MCPBinding:
    raw = copy.deepcopy(builder.raw)
    raw["metadata"]["generation"] = generation
    return replace(builder, raw=raw).build()


def by_type(found: tuple[Condition, ...]) -> dict[str, Condition]:
    assert [one.type for one in found] == ["Ready", "Verified", "Drifted"]
    return {one.type: one for one in found}


@requirement("status.generation")
@pytest.mark.parametrize("builder", [a_binding(), a_binding().unverified()], ids=["verified", "being verified"])
def test_conditions_that_need_no_new_verdict_are_carried_over_to_the_new_generation(builder: BindingBuilder) -> None:
    before = at_generation(builder, 1)
    known = build_conditions(before, before, None, NOW)
    edited = at_generation(builder, 2)
    status = edited.status or MCPBindingStatus()
    edited = edited.model_copy(update={"status": status.model_copy(update={"conditions": known})})

    found = build_conditions(edited, edited, None, NOW + timedelta(minutes=1))

    assert {one.observed_generation for one in found} == {2}
    assert [replace_generation(one) for one in found] == [replace_generation(one) for one in known]


def replace_generation(condition: Condition) -> Condition:
    return condition.model_copy(update={"observed_generation": 0})


@requirement("status.generation")
def test_a_spec_that_needs_a_new_verdict_is_unknown_at_its_own_generation() -> None:
    before, after = at_generation(a_binding(), 1), at_generation(a_binding(), 2)
    known = after.verification
    run = VerificationRun(number=2, plan="another", started_at=NOW)
    assert after.status is not None
    status = after.status.model_copy(update={"verification": known.model_copy(update={"run": run})})
    after = after.model_copy(update={"status": status})

    found = by_type(build_conditions(before, after, None, NOW))

    for kind in (BindingCondition.READY, BindingCondition.VERIFIED):
        assert (found[kind].status, found[kind].reason, found[kind].observed_generation) == ("Unknown", "Verifying", 2)


def test_a_binding_is_ready_once_it_is_verified_and_reviewed() -> None:
    verified, waiting = a_binding().build(), a_binding().waiting_for_review().build()

    [ready, *_] = build_conditions(verified, verified, EndedRun(VerificationResult("crm-1")), NOW)
    [unreviewed, *_] = build_conditions(waiting, waiting, EndedRun(VerificationResult("crm-1")), NOW)

    assert (ready.type, ready.status, ready.reason) == ("Ready", "True", "Verified")
    assert (unreviewed.type, unreviewed.status, unreviewed.reason) == ("Ready", "False", "NotReviewed")
    assert unreviewed.message.endswith("annotate mcpbindings.interlock.dev crm interlock.dev/needs-review-")
