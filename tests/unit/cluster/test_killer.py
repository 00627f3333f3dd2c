from typing import Any

import pytest

from interlock.cluster.killer import Kill, Killer, Release
from interlock_kube.client import ApiError
from tests.requirements import requirement
from tests.support.builders import NOW, an_agent, seconds
from tests.support.fake_client import FakeClient

PODS = "/api/v1/namespaces/agents/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/agents/deployments"
AGENT = "/apis/interlock.dev/v1alpha1/namespaces/agents/agents/triage"
OF_TRIAGE = {"interlock.dev/agent": "triage"}


def a_pod(name: str, labels: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    labels = OF_TRIAGE if labels is None else labels
    return {"kind": "Pod", "metadata": {"name": name, "labels": labels, **metadata}}


def a_deployment(name: str, replicas: int | None, labels: dict[str, str] | None = None) -> dict[str, Any]:
    spec = {} if replicas is None else {"replicas": replicas}
    labels = OF_TRIAGE if labels is None else labels
    return {"kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient()
    client.put(AGENT, an_agent().to_kubernetes())
    client.put(f"{PODS}/p1", a_pod("p1"))
    client.put(f"{PODS}/p2", a_pod("p2"))
    client.put(f"{PODS}/other", a_pod("other", {"interlock.dev/agent": "other"}))
    client.put(f"{DEPLOYMENTS}/d1", a_deployment("d1", 2))
    client.put(f"{DEPLOYMENTS}/other", a_deployment("other", 2, {"interlock.dev/agent": "other"}))
    return client


def kill_of(client: FakeClient) -> dict[str, Any]:
    kill: dict[str, Any] = client.objects[AGENT]["status"]["kill"]
    return kill


@requirement("kill.order")
async def test_pods_are_deleted_with_a_grace_of_one_second_and_only_then_is_scaled_to_zero(client: FakeClient) -> None:
    assert await Killer(client).end("agents", "triage") == 2

    assert client.writes() == [
        ("DELETE", f"{PODS}/p1"),
        ("DELETE", f"{PODS}/p2"),
        ("PATCH", f"{DEPLOYMENTS}/d1"),
    ]
    deleted = [body for (method, _), body in zip(client.requests, client.bodies, strict=True) if method == "DELETE"]
    assert deleted == [{"gracePeriodSeconds": 1}] * 2
    assert client.objects[f"{DEPLOYMENTS}/d1"]["spec"]["replicas"] == 0
    assert client.objects[f"{DEPLOYMENTS}/other"]["spec"]["replicas"] == 2
    assert f"{PODS}/other" in client.objects


async def test_the_kill_is_repeated_until_no_pod_is_left_and_writes_nothing_for_nothing(client: FakeClient) -> None:
    killer = Killer(client)
    await killer.end("agents", "triage")
    client.forget_requests()

    assert await killer.end("agents", "triage") == 0
    assert client.writes() == []


async def test_a_deployment_that_says_no_number_wants_one(client: FakeClient) -> None:
    client.put(f"{DEPLOYMENTS}/d2", a_deployment("d2", None))

    await Killer(client).end("agents", "triage")

    assert client.objects[f"{DEPLOYMENTS}/d2"]["spec"]["replicas"] == 0


async def test_a_pod_that_ends_slowly_is_hurried_and_one_that_ends_at_once_is_left(client: FakeClient) -> None:
    client.put(f"{PODS}/p1", a_pod("p1", deletionTimestamp="now", deletionGracePeriodSeconds=30))
    client.put(f"{PODS}/p2", a_pod("p2", deletionTimestamp="now", deletionGracePeriodSeconds=1))

    assert await Killer(client).end("agents", "triage") == 2
    assert [path for method, path in client.writes() if method == "DELETE"] == [f"{PODS}/p1"]


async def test_a_pod_that_is_gone_already_is_as_good_as_ended(client: FakeClient) -> None:
    client.refuse("DELETE", f"{PODS}/p1", status=404)

    await Killer(client).end("agents", "triage")

    assert client.objects[f"{DEPLOYMENTS}/d1"]["spec"]["replicas"] == 0


@requirement("kill.insists")
@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", f"{PODS}/p1"), ("GET", PODS)], ids=["a pod's deletion", "the list of pods"]
)
async def test_whatever_is_refused_about_pods_the_rest_is_done_all_the_same(
    client: FakeClient, method: str, path: str
) -> None:
    client.refuse(method, path, status=403)

    with pytest.raises(ApiError, match="403"):
        await Killer(client).end("agents", "triage")

    assert client.objects[f"{DEPLOYMENTS}/d1"]["spec"]["replicas"] == 0
    if method == "DELETE":
        assert f"{PODS}/p2" not in client.objects


async def test_a_scale_that_is_refused_is_reported_and_the_pods_are_ended(client: FakeClient) -> None:
    client.refuse("PATCH", f"{DEPLOYMENTS}/d1", status=500)

    with pytest.raises(ApiError, match="500"):
        await Killer(client).end("agents", "triage")

    assert f"{PODS}/p1" not in client.objects


@requirement("kill.recorded")
async def test_a_kill_is_recorded_with_why_and_since_when(client: FakeClient) -> None:
    assert await Killer(client).record("agents", "triage", Kill("runaway", "ada", NOW)) == NOW

    assert kill_of(client) == {"reason": "runaway", "by": "ada", "requestedAt": "2026-03-02T09:00:00.000000Z"}


async def test_a_kill_that_is_recorded_already_keeps_its_time_across_restarts(client: FakeClient) -> None:
    await Killer(client).record("agents", "triage", Kill("runaway", "ada", NOW))
    client.forget_requests()

    assert await Killer(client).record("agents", "triage", Kill("runaway", "ada", NOW + seconds(60))) == NOW
    assert client.writes() == []


async def test_another_reason_is_recorded_and_the_time_kept(client: FakeClient) -> None:
    await Killer(client).record("agents", "triage", Kill("runaway", "ada", NOW))
    await Killer(client).record("agents", "triage", Kill("worse", "ada", NOW + seconds(60)))

    assert kill_of(client) == {"reason": "worse", "by": "ada", "requestedAt": "2026-03-02T09:00:00.000000Z"}


async def test_zero_pods_and_release_are_recorded_and_a_new_kill_begins_a_new_record(client: FakeClient) -> None:
    killer = Killer(client)
    await killer.record("agents", "triage", Kill("runaway", "ada", NOW))
    await killer.record_zero("agents", "triage", NOW, NOW + seconds(1))
    await killer.record_release("agents", "triage", Release(NOW + seconds(2), "alan", None))
    assert kill_of(client) == {
        "reason": "runaway",
        "by": "ada",
        "requestedAt": "2026-03-02T09:00:00.000000Z",
        "zeroPodsAt": "2026-03-02T09:00:01.000000Z",
        "releasedAt": "2026-03-02T09:00:02.000000Z",
        "releasedBy": "alan",
    }

    await killer.record("agents", "triage", Kill("again", "ada", NOW + seconds(3)))

    assert kill_of(client) == {"reason": "again", "by": "ada", "requestedAt": "2026-03-02T09:00:03.000000Z"}


async def test_zero_pods_is_recorded_once(client: FakeClient) -> None:
    killer = Killer(client)
    await killer.record("agents", "triage", Kill("runaway", "ada", NOW))
    await killer.record_zero("agents", "triage", NOW, NOW)

    assert await killer.record("agents", "triage", Kill("runaway", "ada", NOW + seconds(9))) is None


async def test_a_release_of_what_was_never_killed_writes_nothing(client: FakeClient) -> None:
    await Killer(client).record_release("agents", "triage", Release(NOW, "alan", None))

    assert client.writes() == []


async def test_a_kill_that_was_released_before_it_was_recorded_is_recorded_with_its_release_once(
    client: FakeClient,
) -> None:
    release = Release(NOW + seconds(2), "alan", Kill("a slip", "ada", NOW + seconds(1)))
    for _ in range(2):
        await Killer(client).record_release("agents", "triage", release)

    assert kill_of(client) == {
        "reason": "a slip",
        "by": "ada",
        "requestedAt": "2026-03-02T09:00:01.000000Z",
        "releasedAt": "2026-03-02T09:00:02.000000Z",
        "releasedBy": "alan",
    }
    assert len(client.writes()) == 1


async def test_a_record_that_arrives_after_the_release_does_not_undo_it() -> None:
    kill = Kill("a slip", "ada", NOW)

    class ReleasedMeanwhile(FakeClient):
        async def get(self, path: str, query: Any = None, *, accept: str = "") -> dict[str, Any]:
            found = await FakeClient.get(self, path, query, accept=accept)
            if not self.writes():
                other = Killer(as_plain(self))
                await other.record_release("agents", "triage", Release(NOW + seconds(1), "alan", kill))
            return found

    def as_plain(client: FakeClient) -> Any:
        return FakeClient(client.objects, client.requests, client.bodies, version=200)

    client = ReleasedMeanwhile()
    client.put(AGENT, an_agent().to_kubernetes())

    with pytest.raises(ApiError, match="409"):
        await Killer(client).record("agents", "triage", kill)

    assert kill_of(client)["releasedBy"] == "alan"


async def test_zero_pods_of_an_earlier_kill_is_not_recorded_for_a_later_one(client: FakeClient) -> None:
    await Killer(client).record("agents", "triage", Kill("again", "ada", NOW + seconds(3)))
    await Killer(client).record_zero("agents", "triage", NOW, NOW + seconds(4))

    assert "zeroPodsAt" not in kill_of(client)


async def test_no_user_is_named_where_no_annotation_says_who(client: FakeClient) -> None:
    await Killer(client).record("agents", "triage", Kill("runaway", None, NOW))
    await Killer(client).record_release("agents", "triage", Release(NOW, None, None))

    assert set(kill_of(client)) == {"reason", "requestedAt", "releasedAt"}


async def test_a_reason_of_any_length_is_recorded_short_enough(client: FakeClient) -> None:
    killer = Killer(client)
    await killer.record("agents", "triage", Kill("x" * 200_000, "ada", NOW))
    client.forget_requests()
    await killer.record("agents", "triage", Kill("x" * 200_000, "ada", NOW))

    assert len(kill_of(client)["reason"]) == 1024
    assert client.writes() == []
