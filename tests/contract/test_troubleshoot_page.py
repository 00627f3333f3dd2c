"""The page on troubleshooting names reasons that Interlock writes, in the sections where they belong."""

import re
from pathlib import Path

import pytest

from interlock.api.agent_reasons import AgentReason

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "troubleshoot.md").read_text(encoding="utf-8")


def reasons_in(heading: str) -> set[str]:
    """Return the reasons in the first column of a section's table."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    return {one for cell in cells for one in re.findall(r"`([A-Z][A-Za-z]+)`", cell)}


@pytest.mark.parametrize("heading", ["The agent had pods, and has none now", "The rollout does not go on"])
def test_each_reason_is_one_that_the_status_can_have(heading: str) -> None:
    assert len(reasons_in(heading)) > 5
    assert reasons_in(heading) <= {str(one) for one in AgentReason}


def test_each_reason_of_a_pending_promotion_is_explained() -> None:
    of_promotions = {"Soaking", "WaitingForReady", "ApprovalRequired", "GatePending", "GateWithoutVerdict", "Audit"}
    assert of_promotions <= reasons_in("The rollout does not go on")
