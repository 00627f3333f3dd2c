"""Where nodes and Services are: what is kept, when others hear of it, and what is known while a list is refused."""

from ipaddress import ip_network
from typing import Any

import pytest

from interlock.cluster.node_watch import HOLD_SECONDS, NodeWatch
from interlock_kube.client import ApiError
from interlock_kube.resource_types import NODE, SERVICE_CIDR
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
        self.seconds = 0.0
        self.client = FakeClient()
        self.nodes = NodeWatch(self.client, self._changed, monotonic=lambda: self.seconds)  # type: ignore[arg-type]
        self.nodes.handle(SyncedEvent(), SERVICE_CIDR)

    def _changed(self) -> None:
        self.count += 1

    def seen(self, *events: Any, kind: Any = NODE) -> list[str] | None:
        for event in events:
            self.nodes.handle(event, kind)
        self.nodes.publish()
        return self.known()

    def known(self) -> list[str] | None:
        return None if self.nodes.found is None else sorted(map(str, self.nodes.found.ranges))


@requirement("egress.nodes")
async def test_the_addresses_follow_nodes_that_come_move_and_go() -> None:
    changes = Changes()

    assert changes.seen(SeenEvent(a_node("a", "10.0.0.2")), SyncedEvent()) == ["10.0.0.2/32"]
    assert changes.seen(SeenEvent(a_node("b", "10.0.0.3"))) == ["10.0.0.2/32", "10.0.0.3/32"]
    assert changes.seen(SeenEvent(a_node("b", "10.0.0.9"))) == ["10.0.0.2/32", "10.0.0.3/32", "10.0.0.9/32"]
    changes.seconds += HOLD_SECONDS
    assert changes.seen(GoneEvent("a", 7)) == ["10.0.0.2/32", "10.0.0.9/32"]
    assert changes.nodes.held_seconds() == HOLD_SECONDS
    changes.seconds += HOLD_SECONDS
    assert changes.seen() == ["10.0.0.9/32"]
    assert (changes.count, changes.nodes.held_seconds()) == (5, None)


@requirement("egress.nodes")
async def test_an_address_that_changes_back_and_forth_wakes_agents_once() -> None:
    changes = Changes()
    changes.seen(SeenEvent(a_node("a", "10.0.0.2")), SyncedEvent())

    for _ in range(100):
        for address in ("10.0.0.9", "10.0.0.2"):
            changes.seconds += 1
            assert changes.seen(SeenEvent(a_node("a", address))) == ["10.0.0.2/32", "10.0.0.9/32"]

    assert changes.count == 2


@requirement("egress.nodes")
async def test_a_heartbeat_of_a_node_wakes_no_agent() -> None:
    changes = Changes()
    changes.seen(SeenEvent(a_node("a", "10.0.0.2")), SyncedEvent())

    changes.seen(SeenEvent(a_node("a", "10.0.0.2", conditions=[{"type": "Ready"}])), SyncedEvent(), GoneEvent("z", 1))

    assert changes.count == 1


@requirement("egress.cut-out")
async def test_the_ranges_of_services_and_of_the_installation_are_known_too() -> None:
    client, service_cidr = (
        FakeClient(),
        {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12", "fd00::/112"]}},
    )
    client.put(f"{SERVICE_CIDR.everywhere()}/kubernetes", {"kind": "ServiceCIDR", **service_cidr})
    nodes = NodeWatch(client, lambda: None, (ip_network("10.64.0.0/14"),))  # type: ignore[arg-type]

    await nodes.find()

    assert nodes.found is not None
    assert set(map(str, nodes.found.ranges)) == {"10.96.0.0/12", "fd00::/112", "10.64.0.0/14"}


@requirement("egress.cut-out")
@pytest.mark.parametrize(("kind", "status", "is_known"), [(NODE, 404, False), (SERVICE_CIDR, 404, True)])
async def test_only_a_cluster_without_the_kind_has_no_ranges_of_services(
    kind: Any, status: int, *, is_known: bool
) -> None:
    client = FakeClient()
    client.break_with(ApiError(status, "not found"), "GET", kind.everywhere())
    nodes = NodeWatch(client, lambda: None)  # type: ignore[arg-type]

    await nodes.find()

    assert (nodes.found is not None) == is_known


@requirement("egress.cut-out")
async def test_a_kind_that_comes_with_an_update_is_found_and_one_that_goes_leaves_its_ranges_out() -> None:
    client = FakeClient()
    client.put(f"{NODE.everywhere()}/a", {"kind": "Node", **a_node("a", "10.0.0.2")})
    client.break_with(ApiError(404, "not found"), "GET", SERVICE_CIDR.everywhere())
    nodes = NodeWatch(client, lambda: None)  # type: ignore[arg-type]
    await nodes.find()
    assert nodes.found is not None
    assert "10.96.0.0/12" not in map(str, nodes.found.ranges)

    spec = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}}
    client.put(f"{SERVICE_CIDR.everywhere()}/kubernetes", {"kind": "ServiceCIDR", **spec})
    await nodes.check(SERVICE_CIDR)
    assert set(map(str, nodes.found.ranges)) == {"10.0.0.2/32", "10.96.0.0/12"}

    client.break_with(ApiError(404, "not found"), "GET", SERVICE_CIDR.everywhere())
    await nodes.check(SERVICE_CIDR)
    assert set(map(str, nodes.found.ranges)) == {"10.0.0.2/32", "10.96.0.0/12"}


@requirement("egress.cut-out")
@pytest.mark.parametrize("kind", [NODE, SERVICE_CIDR])
async def test_a_right_that_is_withdrawn_while_running_leaves_nothing_known(kind: Any) -> None:
    changes = Changes()
    changes.seen(SeenEvent(a_node("a", "10.0.0.2")), SyncedEvent())
    changes.client.break_with(ApiError(403, "forbidden"), "GET", kind.everywhere())

    await changes.nodes.check(kind)

    assert (changes.known(), changes.count) == (None, 2)
    changes.nodes.saw(kind)
    assert (changes.seen(), changes.count) == (["10.0.0.2/32"], 3)


@requirement("egress.cut-out")
@pytest.mark.parametrize("error", [ApiError(503, "starting"), TimeoutError()])
async def test_an_api_server_that_is_away_changes_nothing(error: Exception) -> None:
    changes = Changes()
    changes.seen(SeenEvent(a_node("a", "10.0.0.2")), SyncedEvent())
    changes.client.break_with(error, "GET", NODE.everywhere())

    await changes.nodes.check(NODE)

    assert (changes.known(), changes.count) == (["10.0.0.2/32"], 1)


async def test_a_list_that_was_heard_of_is_not_asked_for_again() -> None:
    changes = Changes()
    changes.nodes.saw(NODE)

    await changes.nodes.check(NODE)

    assert changes.client.requests == []


@requirement("egress.cut-out")
@pytest.mark.parametrize("kind", [NODE, SERVICE_CIDR])
async def test_while_a_list_is_refused_the_addresses_are_unknown(kind: Any) -> None:
    client = FakeClient()
    client.break_with(ApiError(403, "forbidden"), "GET", kind.everywhere())
    nodes = NodeWatch(client, lambda: pytest.fail("nothing was found"))  # type: ignore[arg-type]

    await nodes.find()

    assert nodes.found is None
