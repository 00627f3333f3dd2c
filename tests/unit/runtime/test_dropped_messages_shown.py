"""Messages that guards drop, in the status of their MCPBinding."""

import json

from interlock_contract.names import DRIFT_PREFIX
from interlock_kube.resource_types import AGENT, MCP_BINDING
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, an_agent
from tests.support.small_operator import SmallOperator

TRIAGE = ("agents", "triage")
AT, LATER = "2026-03-02T08:58:00.123Z", "2026-03-02T08:59:00Z"


@requirement("guard.odd-messages")
async def test_the_status_has_the_last_report_of_many_dropped_messages() -> None:
    operator = SmallOperator()
    operator.put(a_policy().to_kubernetes())
    key = operator.put(a_binding().to_kubernetes())
    operator.put(an_agent().to_kubernetes())
    assert await operator.turn(AGENT, TRIAGE)
    for pod, at in (("a", AT), ("b", "9999-12-31T23:59:59Z"), ("c", LATER), ("d", AT)):
        said = {f"{key[1]}/messages": at, "other/messages": LATER}
        await operator.report(TRIAGE, f"{DRIFT_PREFIX}{pod}", json.dumps(said))
        assert await operator.turn(MCP_BINDING, key)

    assert operator.status(MCP_BINDING, key)["verification"]["droppedAt"] == LATER
    assert operator.drifts.learned_at(key) is None, "no tool has changed"
