"""examples/02-refused-without-owner, on the cluster of the tests with real pods."""

import pytest

from tests.e2e.live import Live
from tests.support.examples import EXAMPLES

pytestmark = [pytest.mark.kind, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("agent.yaml", "spec.owner is missing"),
        ("agent-of-a-team.yaml", '"support@example.com" is a role address'),
    ],
)
def test_a_dry_run_says_who_is_missing(live: Live, file: str, message: str) -> None:
    path = str(EXAMPLES / "02-refused-without-owner" / file)
    refused = live.attempt("-n", live.namespace, "apply", "--dry-run=server", "-f", path)
    assert refused.returncode != 0
    assert message in refused.stderr
