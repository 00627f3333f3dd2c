import asyncio
import copy
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from interlock_kill import killer
from interlock_kill.killer import Kill, Killer, Release
from interlock_kube.client import ApiError
from tests.requirements import requirement
from tests.support.builders import NOW, an_agent, seconds
from tests.support.fake_client import FakeClient

PODS = "/api/v1/namespaces/agents/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/agents/deployments"
AGENT = "/apis/interlock.dev/v1alpha1/namespaces/agents/agents/triage"
ACCOUNTS = "/api/v1/namespaces/agents/serviceaccounts"
GUARD_ACCOUNT, AGENT_ACCOUNT = "triage-0123456789-guard", "triage-0123456789-agent"
OF_TRIAGE = {"interlock.dev/agent": "triage"}
MANAGED = {"app.kubernetes.io/managed-by": "interlock"}


def a_pod(name: str, labels: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    labels = OF_TRIAGE if labels is None else labels
    return {"kind": "Pod", "metadata": {"name": name, "uid": f"uid-of-{name}", "labels": labels, **metadata}}


def a_deployment(name: str, replicas: int | None, labels: dict[str, str] | None = None) -> dict[str, Any]:
    spec = {} if replicas is None else {"replicas": replicas}
    labels = OF_TRIAGE if labels is None else labels
    return {"kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient()
    stamp_authors(client)
    client.put(AGENT, an_agent().to_kubernetes())
    client.put(f"{PODS}/p1", a_pod("p1"))
    client.put(f"{PODS}/p2", a_pod("p2"))
    client.put(f"{PODS}/other", a_pod("other", {"interlock.dev/agent": "other"}))
    for name in (GUARD_ACCOUNT, AGENT_ACCOUNT):
        metadata = {"name": name, "labels": OF_TRIAGE | MANAGED}
        client.put(f"{ACCOUNTS}/{name}", {"kind": "ServiceAccount", "metadata": metadata})
    client.put(f"{DEPLOYMENTS}/d1", a_deployment("d1", 2))
    client.put(f"{DEPLOYMENTS}/other", a_deployment("other", 2, {"interlock.dev/agent": "other"}))
    return client


STAMP = "agents-kill-identity.interlock.dev"


def stamp_authors(client: FakeClient) -> None:
    """Put the policy that makes the API server write who set a switch."""
    for plural in ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"):
        client.put(f"/apis/admissionregistration.k8s.io/v1/{plural}/{STAMP}", {"metadata": {"name": STAMP}})


def kill_of(client: FakeClient) -> dict[str, Any]:
    kill: dict[str, Any] = client.objects[AGENT]["status"]["kill"]
    return kill


async def kill(client: FakeClient) -> None:
    """Do all that a kill does, then raise the first failure."""
    killer = Killer(client)  # type: ignore[arg-type]
    ends = (killer.end("agents", "triage"), killer.hold_at_zero("agents", "triage"))
    for result in await asyncio.gather(*ends, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


@requirement("kill.order")
async def test_pods_are_deleted_with_a_grace_of_one_second_and_only_then_is_scaled_to_zero(client: FakeClient) -> None:
    killer, asked = Killer(client), []  # type: ignore[arg-type]
    sweep = await killer.end("agents", "triage", on_asked=lambda: asked.append(len(client.writes())))
    await killer.hold_at_zero("agents", "triage")

    assert (len(sweep.left), sweep.deleted) == (2, 2)
    assert asked == [2]
    assert client.writes() == [
        ("DELETE", f"{PODS}/p1"),
        ("DELETE", f"{PODS}/p2"),
        ("PATCH", f"{DEPLOYMENTS}/d1/scale"),
    ]
    deleted = [body for (method, _), body in zip(client.requests, client.bodies, strict=True) if method == "DELETE"]
    assert [options["gracePeriodSeconds"] for options in deleted] == [1, 1]
    assert client.objects[f"{DEPLOYMENTS}/d1"]["spec"]["replicas"] == 0
    assert client.objects[f"{DEPLOYMENTS}/other"]["spec"]["replicas"] == 2
    assert f"{PODS}/other" in client.objects


class SlowClient(FakeClient):
    """Answers a deletion once it may go on."""

    go_on: asyncio.Event

    async def delete(self, path: str, *more: Any, **options: Any) -> None:
        await self.go_on.wait()
        await FakeClient.delete(self, path, *more, **options)


@requirement("kill.order")
async def test_replicas_stay_until_each_pod_was_deleted_with_the_grace_of_a_kill(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ReplicaSet's controller would give the rest of them the grace period of their template."""
    monkeypatch.setattr(killer, "IN_FLIGHT", 1)
    slow, asked = SlowClient(client.objects), []
    slow.go_on = asyncio.Event()
    ending = asyncio.create_task(
        Killer(slow).end("agents", "triage", on_asked=lambda: asked.append(len(slow.writes())))  # type: ignore[arg-type]
    )
    await asyncio.wait({ending}, timeout=0.1)
    assert asked == []
    slow.go_on.set()
    assert (await ending).deleted == 2
    assert asked == [2]


async def test_a_deletion_that_hangs_keeps_no_replicas(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killer, "SCALE_SECONDS", 0.01)
    slow, asked = SlowClient(client.objects), asyncio.Event()
    slow.go_on = asyncio.Event()
    ending = asyncio.create_task(Killer(slow).end("agents", "triage", on_asked=asked.set))  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        await asked.wait()
        assert not ending.done()
        slow.go_on.set()
        await ending


async def test_the_kill_is_repeated_until_no_pod_is_left_and_writes_nothing_for_nothing(client: FakeClient) -> None:
    killer = Killer(client)
    await killer.end("agents", "triage")
    await killer.hold_at_zero("agents", "triage")
    client.forget_requests()

    assert (await killer.end("agents", "triage")).left == set()
    await killer.hold_at_zero("agents", "triage")
    assert client.writes() == []


async def test_a_deployment_that_says_no_number_wants_one(client: FakeClient) -> None:
    client.put(f"{DEPLOYMENTS}/d2", a_deployment("d2", None))

    await Killer(client).hold_at_zero("agents", "triage")

    assert client.objects[f"{DEPLOYMENTS}/d2"]["spec"]["replicas"] == 0


async def test_a_pod_that_ends_slowly_is_hurried_and_one_that_ends_at_once_is_left(client: FakeClient) -> None:
    client.put(f"{PODS}/p1", a_pod("p1", deletionTimestamp="now", deletionGracePeriodSeconds=30))
    client.put(f"{PODS}/p2", a_pod("p2", deletionTimestamp="now", deletionGracePeriodSeconds=1))

    sweep = await Killer(client).end("agents", "triage")

    assert (len(sweep.left), sweep.deleted) == (2, 1)
    assert [path for method, path in client.writes() if method == "DELETE"] == [f"{PODS}/p1"]


@requirement("kill.finalizer")
async def test_a_pod_that_has_ended_and_is_kept_by_a_finalizer_does_not_count(client: FakeClient) -> None:
    ended = a_pod("p1", deletionTimestamp="now", deletionGracePeriodSeconds=0, finalizers=["foregroundDeletion"])
    client.put(f"{PODS}/p1", ended)
    client.put(f"{PODS}/p2", a_pod("p2", deletionTimestamp="now", deletionGracePeriodSeconds=1))

    sweep = await Killer(client).end("agents", "triage")

    assert sweep.left == {"uid-of-p2"}
    assert client.writes() == []


async def test_a_pod_that_is_gone_already_is_as_good_as_ended(client: FakeClient) -> None:
    client.refuse("DELETE", f"{PODS}/p1", status=404)

    await kill(client)

    assert client.objects[f"{DEPLOYMENTS}/d1"]["spec"]["replicas"] == 0


@requirement("kill.insists")
@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", f"{PODS}/p1"), ("GET", PODS), ("GET", ACCOUNTS)],
    ids=["a pod's deletion", "the list of pods", "the list of accounts"],
)
async def test_whatever_is_refused_about_pods_the_rest_is_done_all_the_same(
    client: FakeClient, method: str, path: str
) -> None:
    client.refuse(method, path, status=403)

    with pytest.raises(ApiError, match="403"):
        await kill(client)

    assert client.objects[f"{DEPLOYMENTS}/d1"]["spec"]["replicas"] == 0
    if path != PODS:
        assert f"{PODS}/p2" not in client.objects


@pytest.mark.parametrize("containers", ["containers", "initContainers"])
@pytest.mark.parametrize("account", [GUARD_ACCOUNT, AGENT_ACCOUNT])
async def test_a_pod_whose_label_was_taken_away_is_found_by_its_service_account(
    client: FakeClient, account: str, containers: str
) -> None:
    hidden = a_pod("hidden", {})
    ours = [{"name": "a"}, {"name": "b", "env": [{"name": "INTERLOCK_AGENT", "value": "triage"}]}]
    hidden["spec"] = {"serviceAccountName": account, containers: ours}
    client.put(f"{PODS}/hidden", hidden)

    sweep = await Killer(client).end("agents", "triage")

    assert f"{PODS}/hidden" not in client.objects
    assert sweep.deleted == 3


@requirement("kill.insists")
async def test_a_pod_that_cannot_be_read_keeps_no_other_pod_from_its_end(client: FakeClient) -> None:
    for name in ("unread", "hidden"):
        pod = a_pod(name, {})
        ours = [{"name": "guard", "env": [{"name": "INTERLOCK_AGENT", "value": "triage"}]}]
        client.put(f"{PODS}/{name}", {**pod, "spec": {"serviceAccountName": GUARD_ACCOUNT, "containers": ours}})
    client.refuse("GET", f"{PODS}/unread", status=500, times=10)

    with pytest.raises(ApiError, match="500"):
        await kill(client)

    assert {path for path in client.objects if path.startswith(PODS)} == {f"{PODS}/unread", f"{PODS}/other"}


@requirement("kill.foreign")
@pytest.mark.parametrize("account", [GUARD_ACCOUNT, AGENT_ACCOUNT])
async def test_a_pod_of_a_teams_own_service_account_stays_whatever_agent_has_a_name_like_it(
    client: FakeClient, account: str
) -> None:
    foreign = a_pod("foreign", {"app": "payments"})
    container = {"name": "payments", "env": [{"name": "AGENT", "value": "triage"}]}
    foreign["spec"] = {"serviceAccountName": account, "containers": [container]}
    client.put(f"{PODS}/foreign", foreign)

    sweep = await Killer(client).end("agents", "triage")

    assert f"{PODS}/foreign" in client.objects
    assert "uid-of-foreign" not in sweep.left, "it keeps no kill from being done"
    assert await Killer(client).find_misplaced("agents", "triage") == []


async def test_an_account_that_only_has_the_agents_label_is_none_of_the_agents(client: FakeClient) -> None:
    metadata = {"name": "deployer", "labels": OF_TRIAGE}
    client.put(f"{ACCOUNTS}/deployer", {"kind": "ServiceAccount", "metadata": metadata})
    foreign = a_pod("foreign", {"app": "payments"})
    container = {"name": "payments", "env": [{"name": "INTERLOCK_AGENT", "value": "triage"}]}
    foreign["spec"] = {"serviceAccountName": "deployer", "containers": [container]}
    client.put(f"{PODS}/foreign", foreign)

    assert (await Killer(client).end("agents", "triage")).left == {"uid-of-p1", "uid-of-p2"}
    assert f"{PODS}/foreign" in client.objects


async def test_a_pod_that_took_the_name_of_a_killed_one_is_left(client: FakeClient) -> None:
    await Killer(client).delete_pod("agents", {"name": "other", "uid": "of an earlier pod"})

    assert f"{PODS}/other" in client.objects


async def test_a_scale_that_is_refused_is_reported_and_the_pods_are_ended(client: FakeClient) -> None:
    client.refuse("PATCH", f"{DEPLOYMENTS}/d1", status=500)

    with pytest.raises(ApiError, match="500"):
        await kill(client)

    assert f"{PODS}/p1" not in client.objects


@requirement("kill.insists")
async def test_a_page_that_cannot_be_read_keeps_no_other_pod_and_no_deployment_from_its_end(client: FakeClient) -> None:
    class TwoPages(FakeClient):
        async def get(self, path: str, query: Any = None, **more: Any) -> dict[str, Any]:
            if (query or {}).get("continue"):
                raise ApiError(500, "the second page is lost")
            page = await FakeClient.get(self, path, query, **more)
            if path == PODS:
                page["metadata"]["continue"] = "next"
            return page

    pages = TwoPages(client.objects)
    with pytest.raises(ApiError, match="the second page"):
        await kill(pages)

    assert f"{PODS}/p1" not in pages.objects
    assert pages.objects[f"{DEPLOYMENTS}/d1"]["spec"]["replicas"] == 0


async def test_a_release_ends_the_sweep_that_is_under_way(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killer, "IN_FLIGHT", 1)

    await Killer(client).end("agents", "triage", is_killed=lambda: not client.writes())
    await Killer(client).hold_at_zero("agents", "triage", lambda: False)

    assert client.writes() == [("DELETE", f"{PODS}/p1")]


async def test_one_sweep_deletes_no_more_than_its_share_and_says_that_there_may_be_more(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(killer, "MOST_DELETIONS", 2)

    assert (await Killer(client).end("agents", "triage")).is_full
    assert not (await Killer(client).end("agents", "triage")).is_full


UID = an_agent().build().metadata.uid
KILL = Kill("runaway", "ada", NOW)


async def record(client: FakeClient, kill: Kill = KILL, zero_at: datetime | None = None) -> datetime | None:
    """Set the switch to the kill's value, and record it."""
    annotate(client, kill.value)
    return await Killer(client).record("agents", "triage", UID, kill, zero_at)  # type: ignore[arg-type]


async def release(client: FakeClient, of: Kill | None = None, *, at: float = 2) -> None:
    """Set the switch to off, and record that."""
    annotate(client, "off")
    await Killer(client).record_release("agents", "triage", UID, Release(NOW + seconds(at), "alan", of))  # type: ignore[arg-type]


def annotate(client: FakeClient, value: str | None) -> None:
    agent = copy.deepcopy(client.objects[AGENT])
    agent["metadata"]["annotations"] = {} if value is None else {"interlock.dev/kill-switch": value}
    client.put(AGENT, agent)


RECORDED = {"reason": "runaway", "by": "ada", "requestedAt": "2026-03-02T09:00:00.000000Z"}
RELEASED = {"releasedAt": "2026-03-02T09:00:02.000000Z", "releasedBy": "alan"}


@requirement("kill.recorded")
async def test_a_kill_is_recorded_with_why_and_since_when(client: FakeClient) -> None:
    assert await record(client) == NOW

    assert kill_of(client) == RECORDED


async def test_a_kill_that_is_recorded_already_keeps_its_time_for_restarts_and_other_replicas(
    client: FakeClient,
) -> None:
    await record(client)
    client.forget_requests()

    assert await record(client, replace(KILL, since=NOW + seconds(60))) == NOW
    assert client.writes() == []


async def test_another_reason_is_recorded_and_the_time_kept(client: FakeClient) -> None:
    await record(client)
    await record(client, Kill("worse", "ada", NOW + seconds(60)))

    assert kill_of(client) == RECORDED | {"reason": "worse"}


async def test_zero_pods_and_release_are_recorded_and_a_new_kill_begins_a_new_record(client: FakeClient) -> None:
    await record(client)
    await record(client, zero_at=NOW + seconds(1))
    await release(client)
    assert kill_of(client) == RECORDED | RELEASED | {"zeroPodsAt": "2026-03-02T09:00:01.000000Z"}

    await record(client, Kill("again", "ada", NOW + seconds(3)))

    assert kill_of(client) == {"reason": "again", "by": "ada", "requestedAt": "2026-03-02T09:00:03.000000Z"}


async def test_zero_pods_is_recorded_once(client: FakeClient) -> None:
    await record(client, zero_at=NOW)
    client.forget_requests()

    await record(client, zero_at=NOW + seconds(9))

    assert client.writes() == []


async def test_a_release_of_what_was_never_killed_writes_nothing(client: FakeClient) -> None:
    annotate(client, "off")
    await release(client)

    assert client.writes() == []


async def test_a_kill_that_was_released_before_it_was_recorded_is_recorded_with_its_release_once(
    client: FakeClient,
) -> None:
    for _ in range(2):
        await release(client, KILL)

    assert kill_of(client) == RECORDED | RELEASED
    assert len(client.writes()) == 1


@requirement("kill.recorded")
async def test_two_replicas_that_see_a_kill_and_its_release_write_one_record(client: FakeClient) -> None:
    other = replace(KILL, since=NOW + seconds(0.5))
    await record(client)
    await record(client, other)
    await release(client, KILL)
    await release(client, other, at=2.5)

    assert kill_of(client) == RECORDED | RELEASED


async def test_a_release_that_comes_after_the_next_kill_releases_nothing(client: FakeClient) -> None:
    await record(client)
    late = Release(NOW + seconds(2), "alan", KILL)

    await Killer(client).record_release("agents", "triage", UID, late)  # type: ignore[arg-type]

    assert kill_of(client) == RECORDED


async def test_a_record_that_comes_after_the_release_revives_nothing(client: FakeClient) -> None:
    await record(client)
    await release(client)

    assert await Killer(client).record("agents", "triage", UID, KILL, None) is None  # type: ignore[arg-type]

    assert kill_of(client) == RECORDED | RELEASED


async def test_no_record_goes_to_another_agent_of_the_same_name(client: FakeClient) -> None:
    killer_of_another: Any = Killer(client)  # type: ignore[arg-type]
    annotate(client, "runaway")
    client.forget_requests()

    assert await killer_of_another.record("agents", "triage", "another uid", KILL, None) is None
    annotate(client, "off")
    await killer_of_another.record_release("agents", "triage", "another uid", Release(NOW, None, KILL))

    assert client.writes() == []


async def test_a_record_whose_agent_has_changed_since_it_was_read_is_refused() -> None:
    class ReleasedMeanwhile(FakeClient):
        async def get(self, path: str, query: Any = None, **more: Any) -> dict[str, Any]:
            found = await FakeClient.get(self, path, query, **more)
            if not self.writes():
                plain = FakeClient(self.objects, self.requests, self.bodies, version=200)
                await release(plain, KILL)
            return found

    client = ReleasedMeanwhile()
    stamp_authors(client)
    client.put(AGENT, an_agent().killed("runaway").to_kubernetes())

    with pytest.raises(ApiError, match="409"):
        await Killer(client).record("agents", "triage", UID, KILL, None)  # type: ignore[arg-type]

    assert kill_of(client)["releasedBy"] == "alan"


async def test_no_one_is_named_where_no_annotation_says_who(client: FakeClient) -> None:
    await record(client, Kill("runaway", None, NOW))
    annotate(client, "off")
    await Killer(client).record_release("agents", "triage", UID, Release(NOW, None, None))  # type: ignore[arg-type]

    assert set(kill_of(client)) == {"reason", "requestedAt", "releasedAt"}


async def test_a_reason_of_any_length_is_recorded_short_enough(client: FakeClient) -> None:
    await record(client, Kill("x" * 200_000, "ada", NOW))
    client.forget_requests()
    await record(client, Kill("x" * 200_000, "ada", NOW))

    assert len(kill_of(client)["reason"]) == 1024
    assert client.writes() == []


@requirement("kill.author")
@pytest.mark.parametrize("missing", ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"])
async def test_a_name_that_the_api_server_does_not_write_is_recorded_as_unverified(missing: str) -> None:
    client = FakeClient()
    client.put(AGENT, an_agent().to_kubernetes())
    stamp_authors(client)
    del client.objects[f"/apis/admissionregistration.k8s.io/v1/{missing}/{STAMP}"]

    await record(client)
    assert kill_of(client)["by"] == "unverified:ada"
    client.forget_requests()
    await record(client)
    assert client.writes() == []

    await release(client)
    assert kill_of(client)["releasedBy"] == "unverified:alan"


@requirement("kill.author")
async def test_a_release_carries_its_users_own_name_without_a_stamp_too(client: FakeClient) -> None:
    other = FakeClient()
    other.put(AGENT, an_agent().to_kubernetes())
    for plural in ("validatingadmissionpolicies", "validatingadmissionpolicybindings"):
        name = "agents-release.interlock.dev"
        other.put(f"/apis/admissionregistration.k8s.io/v1/{plural}/{name}", {"metadata": {"name": name}})
    await record(other)
    await release(other)
    assert (kill_of(other)["by"], kill_of(other)["releasedBy"]) == ("unverified:ada", "alan")


@requirement("kill.author")
async def test_a_recorded_name_is_never_verified_afterwards() -> None:
    """The annotation may be forged from before the policy was installed."""
    client = FakeClient()
    client.put(AGENT, an_agent().to_kubernetes())
    await record(client)
    stamp_authors(client)
    client.forget_requests()

    await record(client)
    assert client.writes() == []
    assert kill_of(client)["by"] == "unverified:ada"


@requirement("kill.author")
async def test_a_forged_prefix_neither_hides_nor_doubles(client: FakeClient) -> None:
    bare = FakeClient()
    bare.put(AGENT, an_agent().to_kubernetes())
    await record(bare, Kill("runaway", "unverified:ada", NOW))
    assert kill_of(bare)["by"] == "unverified:ada"


@requirement("kill.author")
async def test_a_policy_that_cannot_be_read_verifies_no_name(client: FakeClient) -> None:
    class Forbidding(FakeClient):
        async def get(self, path: str, query: Any = None, **more: Any) -> dict[str, Any]:
            if "admissionregistration" in path:
                raise ApiError(403, "forbidden")
            return await FakeClient.get(self, path, query, **more)

    refusing = Forbidding()
    refusing.put(AGENT, an_agent().to_kubernetes())
    await record(refusing)
    assert kill_of(refusing)["by"] == "unverified:ada"
