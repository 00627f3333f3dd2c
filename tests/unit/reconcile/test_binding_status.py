from datetime import timedelta

from interlock.deployment.names import binding_label
from interlock.reconcile.binding_status import EndedRun, build_conditions
from tests.support.builders import NOW, a_binding


def test_the_command_that_shows_the_pods_of_a_run_selects_by_the_label_that_they_have() -> None:
    binding = a_binding("b" * 100).build()

    found = build_conditions(binding, binding, EndedRun(None, "no result"), NOW + timedelta(minutes=1))

    [verified] = [one for one in found if one.type == "Verified"]
    assert verified.message.endswith(f"describe jobs,pods -l interlock.dev/binding={binding_label('b' * 100)}")


def test_a_run_that_has_no_result_yet_names_the_command_that_shows_why_its_pod_does_not_start() -> None:
    binding = a_binding("crm").unverified().build()

    found = build_conditions(binding, binding, None, NOW + timedelta(minutes=1))

    [verified] = [one for one in found if one.type == "Verified"]
    assert (verified.status, verified.reason) == ("Unknown", "Verifying")
    assert verified.message.endswith("describe jobs,pods -l interlock.dev/binding=crm")
