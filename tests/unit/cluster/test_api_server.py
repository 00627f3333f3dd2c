import pytest

from interlock.cluster.api_server import ApiServerFinder
from interlock.deployment.placement import ApiEndpoint
from interlock_kube.client import ApiError
from tests.support.fake_client import FakeClient

SERVICE = "/api/v1/namespaces/default/services/kubernetes"
SLICE = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
LABELS = {"kubernetes.io/service-name": "kubernetes"}


def a_cluster(*addresses: str) -> FakeClient:
    client = FakeClient()
    client.put(
        SERVICE, {"metadata": {"name": "kubernetes"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 443}]}}
    )
    move(client, *addresses)
    client.put(SLICE.replace("kubernetes", "other"), {"metadata": {"name": "other", "labels": {}}, "ports": []})
    return client


def move(client: FakeClient, *addresses: str) -> None:
    endpoints = [{"addresses": [address]} for address in addresses]
    body = {"metadata": {"name": "kubernetes", "labels": LABELS}, "ports": [{"port": 6443}], "endpoints": endpoints}
    client.put(SLICE, body)


@pytest.fixture
def moves() -> list[str]:
    return []


async def test_it_knows_the_service_and_its_endpoints_and_notifies_when_they_change(moves: list[str]) -> None:
    client = a_cluster("172.18.0.2")
    finder = ApiServerFinder(client, lambda: moves.append("moved"), is_anywhere=False)  # type: ignore[arg-type]

    await finder.find()
    assert finder.found.endpoints == (ApiEndpoint("10.96.0.1", 443), ApiEndpoint("172.18.0.2", 6443))
    await finder.find()
    assert moves == ["moved"], "nothing has changed since"

    move(client, "172.18.0.9")
    await finder.find()
    assert finder.found.endpoints == (ApiEndpoint("10.96.0.1", 443), ApiEndpoint("172.18.0.9", 6443))
    assert moves == ["moved", "moved"]


async def test_what_was_found_last_holds_while_the_api_server_is_away(moves: list[str]) -> None:
    client = a_cluster("172.18.0.2")
    finder = ApiServerFinder(client, lambda: moves.append("moved"), is_anywhere=True)  # type: ignore[arg-type]
    await finder.find()
    client.refuse("GET", SLICE.rpartition("/")[0])

    with pytest.raises(ApiError):
        await finder.find()
    assert len(finder.found.endpoints) == 2
    assert finder.found.is_anywhere
