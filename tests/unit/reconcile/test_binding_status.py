from datetime import timedelta

from interlock.deployment.names import binding_label
from interlock.reconcile.binding_status import EndedRun, build_conditions
from tests.support.builders import NOW, a_binding


def test_the_command_that_shows_the_pods_of_a_run_selects_by_the_label_that_they_have() -> None:
    binding = a_binding("b" * 100).build()

    found = build_conditions(binding, binding, EndedRun(None, "no result"), NOW + timedelta(minutes=1))

    [verified] = [one for one in found if one.type == "Verified"]
    assert verified.message.endswith(f"describe pods -l interlock.dev/binding={binding_label('b' * 100)}")
