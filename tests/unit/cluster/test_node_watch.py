"""Where nodes are: what is kept of them, when others hear of it, and what is known while the list is refused."""

from typing import Any

import pytest

from interlock.cluster.node_watch import NodeWatch
from interlock_kube.client import ApiError
from interlock_kube.watch import GoneEvent, SeenEvent, SyncedEvent
from tests.requirements import requirement
from tests.support.fake_client import FakeClient


def a_node(name: str, address: str, **more: Any) -> dict[str, Any]:
    status = {"addresses": [{"type": "InternalIP", "address": address}], **more}
    return {"metadata": {"name": name}, "status": status}


class Changes:
    """A watch, and how often it told others of a change."""

    def __init__(self) -> None:
        self.count = 0
        self.nodes = NodeWatch(FakeClient(), self._changed)  # type: ignore[arg-type]

    def _changed(self) -> None:
        self.count += 1

    def seen(self, *events: Any) -> list[str] | None:
        for event in events:
            self.nodes.handle(event)
        self.nodes.publish()
        return None if self.nodes.found is None else sorted(map(str, self.nodes.found.ranges))


@requirement("egress.nodes")
async def test_the_addresses_follow_nodes_that_come_move_and_go() -> None:
    changes = Changes()

    assert changes.seen(SeenEvent(a_node("a", "10.0.0.2")), SyncedEvent()) == ["10.0.0.2/32"]
    assert changes.seen(SeenEvent(a_node("b", "10.0.0.3"))) == ["10.0.0.2/32", "10.0.0.3/32"]
    assert changes.seen(SeenEvent(a_node("b", "10.0.0.9"))) == ["10.0.0.2/32", "10.0.0.9/32"]
    assert changes.seen(GoneEvent("a", 7)) == ["10.0.0.9/32"]
    assert changes.count == 4


@requirement("egress.nodes")
async def test_a_heartbeat_of_a_node_wakes_no_agent() -> None:
    changes = Changes()
    changes.seen(SeenEvent(a_node("a", "10.0.0.2")), SyncedEvent())

    changes.seen(SeenEvent(a_node("a", "10.0.0.2", conditions=[{"type": "Ready"}])), SyncedEvent(), GoneEvent("z", 1))

    assert changes.count == 1


@requirement("egress.cut-out")
async def test_while_the_list_is_refused_the_nodes_are_unknown() -> None:
    client = FakeClient()
    client.break_with(ApiError(403, "nodes is forbidden"), "GET", "/api/v1/nodes")
    nodes = NodeWatch(client, lambda: pytest.fail("nothing was found"))  # type: ignore[arg-type]

    await nodes.find()

    assert nodes.found is None
