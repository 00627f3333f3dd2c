"""Rows of egress: Python refuses what the API server refuses, with the same words."""

from typing import Any

import pytest
from pydantic import ValidationError

from interlock.api.policy import AgentPolicy
from tests.integration import cloud_values, egress_values
from tests.requirements import requirement


@requirement("egress.refused")
@pytest.mark.parametrize(
    ("manifest", "message"), [*egress_values.REFUSED, *cloud_values.REFUSED], ids=lambda case: str(case)[-60:]
)
def test_python_refuses_rows_with_the_message_of_the_api_server(manifest: dict[str, Any], message: str) -> None:
    # What the API server says to the very same values is tested in tests/integration.
    with pytest.raises(ValidationError) as refusal:
        AgentPolicy.model_validate(manifest)
    assert message in refusal.value.errors()[0]["msg"]


@pytest.mark.parametrize("manifest", egress_values.GOOD, ids=lambda manifest: str(manifest["spec"]["egress"])[:60])
def test_python_reads_what_the_api_server_admits(manifest: dict[str, Any]) -> None:
    assert AgentPolicy.model_validate(manifest).spec.egress
