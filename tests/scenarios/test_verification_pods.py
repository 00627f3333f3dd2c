"""The pod of a verification is as a policy says now: a run that waits for an image does not wait for its own end."""

from datetime import timedelta

from interlock.api.pod_policy import PodTemplatePolicy
from interlock.deployment.children.verification_job import POD_DIGEST
from tests.requirements import requirement
from tests.scenarios.test_verification import Bench

WITH_PASSWORD = PodTemplatePolicy.model_validate({"default": {"imagePullSecrets": [{"name": "registry"}]}})


@requirement("verify.pod")
def test_a_run_whose_pod_lacks_what_a_policy_now_gives_is_replaced_immediately() -> None:
    bench = Bench()
    bench.verify()
    [without] = bench.jobs()
    bench.pods, bench.now = WITH_PASSWORD, bench.now + timedelta(seconds=1)
    bench.verify()
    [job] = bench.jobs()
    assert job["metadata"]["name"] != without["metadata"]["name"]
    assert job["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    bench.verify()
    assert bench.jobs() == [job], "the run of the current policy stays"
    bench.finish()
    assert bench.condition("Verified").status == "True"


@requirement("verify.pod")
def test_a_verified_server_is_not_verified_again_for_another_pod() -> None:
    bench = Bench().verified()
    number = bench.known.run.number
    bench.pods = WITH_PASSWORD
    bench.verify()
    assert bench.known.run.number == number


def test_a_job_of_an_earlier_version_without_the_digest_is_kept() -> None:
    bench = Bench()
    bench.verify()
    [job] = bench.jobs()
    del job["metadata"]["annotations"][POD_DIGEST]
    bench.pods = WITH_PASSWORD
    bench.verify()
    assert bench.jobs() == [job]
