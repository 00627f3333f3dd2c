from typing import Any

from interlock.deployment.observed.enforcement import Enforcement, enforcement_of
from interlock_contract.names import SELFTEST_PREFIX
from interlock_contract.selftest_report import SelfTestReport, dump_report
from tests.support.builders import NOW


def a_lease(**said: SelfTestReport) -> dict[str, Any]:
    annotations = {f"{SELFTEST_PREFIX}{pod}": dump_report(one, NOW) for pod, one in said.items()}
    return {"kind": "Lease", "metadata": {"name": "triage", "annotations": annotations}}


def test_without_a_lease_or_a_report_in_it_nothing_counts_as_self_tested() -> None:
    assert enforcement_of(None, "new") == Enforcement("new")
    assert enforcement_of({"metadata": {"name": "triage"}}, "new") == Enforcement("new")


def test_only_what_is_said_of_the_bundle_that_holds_counts() -> None:
    lease = a_lease(a=SelfTestReport("new", 3), b=SelfTestReport("old", 3), c=SelfTestReport("new", 3))
    assert enforcement_of(lease, "new") == Enforcement("new", guards=2)


def test_a_flaw_is_reported_with_its_pod_and_does_not_count_as_a_passed_self_test() -> None:
    lease = a_lease(
        a=SelfTestReport("new", 3), b=SelfTestReport("new", 1, "Denied call: Allow"), c=SelfTestReport("old", 0, "x")
    )
    assert enforcement_of(lease, "new") == Enforcement("new", guards=1, flaw="guard b: Denied call: Allow")
