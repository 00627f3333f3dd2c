"""The admission policies judge by the objects of now after all their bindings were deleted and installed again.

An API server stops following a built-in kind of parameters for good once no binding names it (kubernetes/kubernetes
issue 130887), unless the API server itself follows that kind. A policy with such a parameter then judges by the objects
of that moment.
"""

from collections.abc import Iterator

import pytest

from tests.integration.attacks import FIRST, Send
from tests.integration.callers import Reply
from tests.integration.kubectl import Cluster, Kubectl
from tests.integration.protected import Protected, protect_with_pods
from tests.integration.test_admission_networks import EVERYWHERE, create
from tests.integration.test_admission_protection import PROTECTING, installed
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

POLICIES = (*PROTECTING, "networks-reserved")
SECONDS = 15.0
BINDINGS, OURS = "validatingadmissionpolicybindings", ".interlock.dev"
REQUESTS: dict[str, Send] = {**FIRST, "networks-reserved": lambda at, caller: create(at, caller, {}, EVERYWHERE)}


def wait_for(at: Protected, policy: str, *, is_refused: bool) -> None:
    """Wait until the policy refuses its request, or no longer does."""
    replies: list[Reply] = []

    def answered() -> bool:
        replies.append(REQUESTS[policy](at, at.editor))
        return replies[-1].was_denied_by(policy) is is_refused

    bounds.eventually(answered, lambda: f"{policy}: {replies[-1].status} {replies[-1].text}", SECONDS)


@pytest.fixture(scope="module")
def later(kwok_cluster: Cluster) -> Iterator[Protected]:
    """The objects of an agent from after the bindings were deleted and installed again."""
    with installed(kwok_cluster, POLICIES) as admin:
        before = protect_with_pods(admin)
        for policy in REQUESTS:
            wait_for(before, policy, is_refused=True)
        names = [one for one in Kubectl(kwok_cluster).must("get", BINDINGS, "-o", "name").text.split() if OURS in one]
        Kubectl(kwok_cluster).must("delete", *names)
        for policy in REQUESTS:
            wait_for(before, policy, is_refused=False)
        with installed(kwok_cluster, POLICIES):
            made = protect_with_pods(admin)
            yield made
        for namespace in (before.namespace, made.namespace):
            admin.send("DELETE", f"/api/v1/namespaces/{namespace}")


@requirement("protection.reinstalled")
@pytest.mark.parametrize("policy", REQUESTS)
def test_a_policy_that_was_installed_again_knows_the_objects_of_now(later: Protected, policy: str) -> None:
    wait_for(later, policy, is_refused=True)
