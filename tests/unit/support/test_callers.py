"""The API server's answers as the tests of admission policies read them."""

from tests.integration.callers import Reply
from tests.support.admission import is_unsettled

DENIED = (
    "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'pods-grace.interlock.dev' with binding 'b' denied request: "
)


def test_a_policy_whose_parameters_were_not_read_yet_has_refused_nothing() -> None:
    """Else a test takes a policy for one that is in force, and the next request passes it."""
    assert Reply(403, DENIED + "a grace period of more than one second").was_denied_by("pods-grace")
    unread = "failed to configure binding: paramKind kind `/v1, Kind=Pod` not yet synced to use for admission"
    assert not Reply(403, DENIED + unread).was_denied_by("pods-grace")
    unknown = "Kind=Agent not found. There can be a delay between when CustomResourceDefinitions are created and when"
    assert not Reply(503, unknown).was_denied_by("pods-grace")
    assert is_unsettled(unread)
    assert is_unsettled(unknown)
    assert not is_unsettled(DENIED)
