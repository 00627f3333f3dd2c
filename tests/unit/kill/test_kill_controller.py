"""The kill controller, against a fake of the client: what is engaged, insisted on, latched and released."""

import asyncio
from typing import Any

import pytest

from interlock_kill import controller
from interlock_kill.killer import Sweep
from interlock_kube.watch import ChangeEvent, ListEvent
from tests.requirements import requirement
from tests.support.builders import NOW, AgentBuilder, an_agent
from tests.unit.kill.conftest import KEY, PATH, PODS, Scene, a_pod, turns, until


@requirement("kill.any-value", "kill.recorded")
@pytest.mark.parametrize("value", ["runaway", "", "Off", "off "])
async def test_any_value_but_off_ends_the_agent_and_is_recorded(scene: Scene, value: str) -> None:
    scene.show(an_agent().killed(value))
    await until(lambda: scene.controller.killed(KEY) == value)

    await until(lambda: "zeroPodsAt" in scene.recorded and scene.is_ended)

    assert scene.is_ended
    assert scene.recorded["reason"] == value


async def test_an_agent_without_a_switch_or_with_off_is_left_alone(scene: Scene) -> None:
    scene.show(an_agent())
    scene.show(an_agent().killed("off"))
    await turns()

    assert scene.controller.killed(KEY) is None
    assert scene.client.writes() == []


@requirement("kill.insists")
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/pods"), ("DELETE", "/pods/p1"), ("GET", "/deployments"), ("PATCH", "/deployments/d1")],
)
async def test_a_kill_goes_on_while_the_api_server_refuses(scene: Scene, method: str, path: str) -> None:
    scene.client.refuse(method, path, status=503, times=20)

    scene.show(an_agent().killed())
    await until(lambda: "zeroPodsAt" in scene.recorded and scene.is_ended)


@requirement("kill.insists")
@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
async def test_a_kill_goes_on_over_a_defect_of_the_operator_which_is_logged_with_its_trace(
    scene: Scene, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    unread: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unread.append(context))
    scene.client.break_with(KeyError("a defect"), method, "/", times=5)

    scene.show(an_agent().killed())
    await until(lambda: "zeroPodsAt" in scene.recorded and scene.is_ended)

    assert scene.is_ended
    assert any(record.exc_info for record in caplog.records)
    assert unread == []


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), OSError("no route")])
async def test_a_kill_goes_on_while_the_api_server_cannot_be_reached(scene: Scene, error: Exception) -> None:
    scene.client.break_with(error, "GET", "/", times=30)

    scene.show(an_agent().killed())
    await until(lambda: "zeroPodsAt" in scene.recorded and scene.is_ended)

    assert scene.is_ended


async def test_a_record_that_is_refused_delays_no_pods_end_and_is_written_later(scene: Scene) -> None:
    scene.client.refuse("PATCH", "/agents/triage/status", times=50)

    scene.show(an_agent().killed("runaway"))
    await until(lambda: scene.is_ended)
    assert scene.recorded == {}

    await until(lambda: "zeroPodsAt" in scene.recorded)
    assert scene.recorded["reason"] == "runaway"


@requirement("kill.latched")
async def test_a_switch_that_is_removed_keeps_the_agent_killed(scene: Scene) -> None:
    scene.show(an_agent().killed("runaway"))
    scene.show(an_agent())

    await until(lambda: scene.is_ended)
    await turns()
    assert scene.controller.killed(KEY) == "runaway"


async def test_off_releases_and_is_recorded_once(scene: Scene) -> None:
    scene.show(an_agent().killed("runaway"))
    await until(lambda: "zeroPodsAt" in scene.recorded)

    for _ in range(3):
        scene.show(an_agent().killed("off"))
    await until(lambda: "releasedAt" in scene.recorded)
    scene.client.forget_requests()
    scene.show(an_agent().killed("off"))
    await turns()

    assert scene.client.requests == []


async def test_who_set_the_switch_and_who_released_it_is_recorded(scene: Scene) -> None:
    scene.show(an_agent().killed("runaway", by="ada"))
    await until(lambda: "zeroPodsAt" in scene.recorded)
    scene.show(an_agent().killed("off", by="alan"))
    await until(lambda: "releasedAt" in scene.recorded)

    assert (scene.recorded["by"], scene.recorded["releasedBy"]) == ("unverified:ada", "unverified:alan")


@requirement("kill.recorded")
async def test_a_kill_that_is_released_before_it_could_be_recorded_is_recorded_all_the_same(scene: Scene) -> None:
    scene.client.refuse("PATCH", "/status", times=5)
    scene.show(an_agent().killed("a slip"))
    scene.show(an_agent().killed("off"))
    await until(lambda: "releasedAt" in scene.recorded)

    assert scene.recorded["reason"] == "a slip"
    assert scene.recorded["requestedAt"]


async def test_a_release_that_is_refused_is_recorded_later(scene: Scene) -> None:
    scene.show(an_agent().killed("runaway"))
    await until(lambda: "zeroPodsAt" in scene.recorded)
    scene.client.refuse("PATCH", "/status", times=20)

    scene.show(an_agent().killed("off"))

    await until(lambda: "releasedAt" in scene.recorded)


async def test_a_release_in_the_midst_of_a_kill_ends_the_kill(scene: Scene) -> None:
    scene.client.refuse("DELETE", "/pods/p1", times=10**9)
    scene.show(an_agent().killed("runaway"))
    await turns()

    scene.show(an_agent().killed("off"))
    await until(lambda: "releasedAt" in scene.recorded)
    scene.client.forget_requests()
    await turns()

    assert scene.client.writes() == []


async def test_a_kill_after_a_release_is_a_new_kill(scene: Scene) -> None:
    scene.show(an_agent().killed("runaway"))
    await until(lambda: "zeroPodsAt" in scene.recorded)
    scene.show(an_agent().killed("off"))
    await until(lambda: "releasedAt" in scene.recorded)
    scene.client.put(f"{PODS}/p1", a_pod("p1"))

    scene.show(an_agent().killed("again"))
    await until(lambda: scene.recorded.get("reason") == "again" and "zeroPodsAt" in scene.recorded)

    assert "releasedAt" not in scene.recorded
    assert scene.is_ended


async def test_an_agent_that_is_deleted_while_it_is_killed_is_insisted_on_no_longer(scene: Scene) -> None:
    scene.client.objects.clear()
    scene.show(an_agent().killed("runaway"))
    await turns()
    scene.client.forget_requests()
    await turns()

    assert scene.client.requests == []


@pytest.mark.parametrize(
    "gone",
    [ChangeEvent("DELETED", an_agent().to_kubernetes()), ListEvent((an_agent("other").to_kubernetes(),))],
    ids=["deleted", "missing from a list"],
)
async def test_an_agent_that_is_gone_is_killed_no_longer(scene: Scene, gone: ListEvent | ChangeEvent) -> None:
    await scene.kill()

    scene.agents(gone)

    await until(lambda: scene.controller.killed(KEY) is None)


async def test_a_page_that_is_not_the_last_one_forgets_no_agent(scene: Scene) -> None:
    await scene.kill()

    scene.agents(ListEvent((an_agent("other").to_kubernetes(),), is_first=True, is_last=False))
    await turns()
    assert scene.controller.killed(KEY) == "runaway"

    scene.agents(ListEvent((an_agent().to_kubernetes(),), is_first=False, is_last=True))
    await turns()
    assert scene.controller.killed(KEY) == "runaway"


async def test_an_agent_that_was_created_again_with_its_name_is_another_one(scene: Scene) -> None:
    await scene.kill()
    again = an_agent().to_kubernetes()
    again["metadata"]["uid"] = "another uid"

    scene.agents(ChangeEvent("MODIFIED", again))

    await until(lambda: scene.controller.killed(KEY) is None)


def with_recorded_kill(agent: AgentBuilder, **kill: str) -> dict[str, Any]:
    manifest = agent.to_kubernetes()
    manifest.setdefault("status", {})["kill"] = {"reason": "runaway", "requestedAt": NOW.isoformat(), **kill}
    return manifest


@requirement("kill.latched")
async def test_a_recorded_kill_without_its_annotation_is_carried_on_after_a_restart(scene: Scene) -> None:
    scene.client.put(PATH, with_recorded_kill(an_agent()))

    scene.agents(ListEvent((an_agent().to_kubernetes(),)))

    await until(lambda: scene.is_ended)
    assert scene.controller.killed(KEY) == "runaway"


async def test_a_recorded_kill_that_was_released_kills_nothing(scene: Scene) -> None:
    scene.client.put(PATH, with_recorded_kill(an_agent(), releasedAt=NOW.isoformat()))

    scene.agents(ListEvent((an_agent().to_kubernetes(),)))
    scene.pods(ListEvent(()))
    await until(lambda: scene.controller.problem() is None)

    assert scene.controller.killed(KEY) is None
    assert not scene.is_ended


async def test_a_recorded_kill_with_a_time_that_cannot_be_read_kills_all_the_same(scene: Scene) -> None:
    scene.client.put(PATH, with_recorded_kill(an_agent(), requestedAt="nonsense"))

    scene.agents(ListEvent((an_agent().to_kubernetes(),)))

    await until(lambda: scene.is_ended)


async def test_a_page_of_recorded_kills_from_before_the_release_kills_nothing(scene: Scene) -> None:
    scene.agents(ChangeEvent("ADDED", an_agent().killed("off").to_kubernetes()))
    scene.show(an_agent())
    scene.client.put(PATH, with_recorded_kill(an_agent()))
    scene.agents(ListEvent((an_agent().to_kubernetes(),)))
    scene.pods(ListEvent(()))

    await until(lambda: scene.controller.problem() is None)
    await turns()

    assert scene.controller.killed(KEY) is None


async def test_a_release_that_no_controller_saw_is_recorded_at_the_next_start(scene: Scene) -> None:
    released = an_agent().killed("off", by="alan")
    scene.client.put(PATH, with_recorded_kill(released))

    scene.agents(ListEvent((released.to_kubernetes(),)))

    await until(lambda: scene.recorded.get("releasedBy") == "unverified:alan")
    assert not scene.is_ended


@requirement("kill.zero")
@pytest.mark.parametrize(
    "event", [ChangeEvent("ADDED", a_pod("p2")), ListEvent((a_pod("p2"),))], ids=["added", "listed"]
)
async def test_a_pod_that_starts_for_a_killed_agent_is_ended(scene: Scene, event: ListEvent | ChangeEvent) -> None:
    await scene.kill()
    scene.client.put(f"{PODS}/p2", a_pod("p2"))

    scene.pods(event)

    await until(lambda: f"{PODS}/p2" not in scene.client.objects)


@pytest.mark.parametrize(
    "event",
    [
        ChangeEvent("ADDED", a_pod("p2", "other")),
        ChangeEvent("ADDED", a_pod("p2", deletionTimestamp="2026-03-02T09:00:00Z", deletionGracePeriodSeconds=1)),
        ChangeEvent("DELETED", a_pod("p2")),
    ],
    ids=["of another agent", "terminating", "never seen"],
)
async def test_other_pods_cause_no_request(scene: Scene, event: ChangeEvent) -> None:
    await scene.kill()
    scene.client.forget_requests()

    scene.pods(event)
    await turns()

    assert scene.client.requests == []


@requirement("kill.relabelled")
@pytest.mark.parametrize("killed", [False, True], ids=["agent lives", "agent is killed"])
@pytest.mark.parametrize("missed", [False, True], ids=["watched", "while the watch was cut off"])
async def test_a_pod_whose_label_was_taken_away_is_deleted(scene: Scene, *, killed: bool, missed: bool) -> None:
    scene.pods(ListEvent((a_pod("p2"),)))
    await turns()
    if killed:
        await scene.kill()
    scene.client.put(f"{PODS}/p2", a_pod("p2", None))

    scene.pods(ListEvent(()) if missed else ChangeEvent("DELETED", a_pod("p2")))

    await until(lambda: f"{PODS}/p2" not in scene.client.objects)


@requirement("kill.relabelled")
async def test_a_pod_that_was_given_to_another_agent_is_deleted(scene: Scene) -> None:
    scene.pods(ListEvent((a_pod("p2"),)))
    await turns()
    scene.client.put(f"{PODS}/p2", a_pod("p2", "other"))

    scene.pods(ChangeEvent("MODIFIED", a_pod("p2", "other")))

    await until(lambda: f"{PODS}/p2" not in scene.client.objects)


async def test_a_deleted_pod_whose_name_another_pod_has_now_costs_that_one_nothing(scene: Scene) -> None:
    scene.pods(ListEvent((a_pod("p2"),)))
    await turns()
    scene.client.put(f"{PODS}/p2", a_pod("p2", None, uid="another uid"))
    scene.client.forget_requests()

    scene.pods(ChangeEvent("DELETED", a_pod("p2")))
    await until(lambda: ("GET", f"{PODS}/p2") in scene.client.requests)
    await turns()

    assert scene.client.writes() == []


@requirement("kill.insists")
async def test_an_object_that_no_code_expects_is_skipped_and_the_next_kill_is_seen(scene: Scene) -> None:
    odd = an_agent("odd").to_kubernetes()
    odd["metadata"]["annotations"] = "no mapping"
    nameless = {"metadata": {"name": "odd", "namespace": "agents"}}

    scene.agents(
        ListEvent((odd, an_agent("listed").killed("runaway").to_kubernetes())),
        ChangeEvent("MODIFIED", nameless),
        ChangeEvent("MODIFIED", an_agent().killed("runaway").to_kubernetes()),
    )

    await until(lambda: scene.controller.killed(KEY) == "runaway")
    assert scene.controller.killed(("agents", "listed")) == "runaway"


async def test_it_is_not_ready_before_switches_pods_and_recorded_kills_are_read(scene: Scene) -> None:
    assert scene.controller.problem() == "the Agents have not been listed yet"
    scene.agents(ListEvent(()))
    await until(lambda: scene.controller.problem() == "the Pods have not been listed yet")
    scene.pods(ListEvent(()))
    await until(lambda: scene.controller.problem() is None)


@requirement("kill.lease")
async def test_a_watch_without_contact_is_reported(scene: Scene) -> None:
    scene.agents(ListEvent(()))
    scene.pods(ListEvent(()))
    await until(lambda: scene.controller.watch_problem() is None)
    scene.now += 70
    scene.pods(ListEvent(()))
    await turns()
    assert scene.controller.watch_problem() is None

    scene.now += 6

    assert scene.controller.watch_problem() == "the watch of Agents had no contact to the API server for 76 s"


@requirement("kill.insists")
async def test_a_defect_on_one_agent_turns_health_red_and_costs_no_other_agent_its_kill(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.agents(ListEvent(()))
    scene.pods(ListEvent(()))
    scene.client.put(PATH.replace("triage", "sick"), an_agent("sick").to_kubernetes())
    scene.client.put(f"{PODS}/sick", a_pod("sick", "sick"))
    scene.client.break_with(KeyError("a defect"), "DELETE", "/pods/sick", times=10**9)

    scene.show(an_agent("sick").killed("runaway"))
    await scene.kill()

    assert scene.is_ended
    assert scene.controller.problem() == "a kill fails because of a defect of Interlock: agents/sick"
    assert scene.controller.watch_problem() is None
    traces = [record for record in caplog.records if record.exc_info]
    assert len(traces) == 1


@requirement("kill.insists")
async def test_a_kill_that_the_api_server_refuses_turns_health_red_after_a_while(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.agents(ListEvent(()))
    scene.pods(ListEvent(()))
    monkeypatch.setattr(controller, "REFUSED_SECONDS", 0.0)
    scene.client.refuse("DELETE", "/pods/p1", times=10**9, status=403)

    scene.show(an_agent().killed("runaway"))

    await until(lambda: "refuses a kill" in (scene.controller.problem() or ""))
    assert scene.controller.lease_problem() is None, "one namespace alone keeps no one else's pods from starting"


@requirement("kill.lease")
async def test_kills_that_are_refused_in_several_namespaces_keep_new_pods_from_starting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.agents(ListEvent(()))
    scene.pods(ListEvent(()))
    await until(lambda: scene.controller.lease_problem() is None)
    monkeypatch.setattr(controller, "REFUSED_SECONDS", 0.0)
    scene.client.refuse("GET", "/pods", times=10**9, status=403)
    for namespace in ("agents", "others"):
        manifest = an_agent().killed("runaway").to_kubernetes()
        manifest["metadata"]["namespace"] = namespace
        scene.agents(ChangeEvent("MODIFIED", manifest))

    await until(lambda: scene.controller.lease_problem() == "kills fail in 2 namespaces")


async def test_the_kill_of_an_agent_that_is_deleted_meanwhile_is_finished(scene: Scene) -> None:
    scene.client.refuse("DELETE", "/pods/p1", times=3)
    scene.show(an_agent().killed("runaway"))
    await until(lambda: scene.controller.killed(KEY) is not None)

    scene.agents(ChangeEvent("DELETED", an_agent().to_kubernetes()))

    await until(lambda: scene.is_ended)


async def test_an_unfinished_kill_does_not_end_the_pods_of_the_next_agent_of_that_name(scene: Scene) -> None:
    scene.client.refuse("DELETE", "/pods/p1", times=10**9)
    scene.show(an_agent().killed("runaway"))
    await until(lambda: scene.controller.killed(KEY) is not None)
    again = an_agent().to_kubernetes()
    again["metadata"]["uid"] = "another uid"

    scene.agents(ChangeEvent("DELETED", an_agent().to_kubernetes()), ChangeEvent("ADDED", again))
    await turns()
    scene.client.forget_requests()
    await turns()

    assert scene.client.writes() == []


@requirement("kill.relabelled")
async def test_a_pod_whose_label_changed_while_no_controller_ran_is_found_at_the_start(scene: Scene) -> None:
    hidden = a_pod("p2", None)
    labels = {"interlock.dev/agent": "triage", "app.kubernetes.io/managed-by": "interlock"}
    account = {"kind": "ServiceAccount", "metadata": {"name": "triage-0123456789-guard", "labels": labels}}
    scene.client.put("/api/v1/namespaces/agents/serviceaccounts/triage-0123456789-guard", account)
    hidden["spec"]["serviceAccountName"] = "triage-0123456789-guard"
    hidden["spec"]["containers"] = [{"name": "guard", "env": [{"name": "INTERLOCK_AGENT", "value": "triage"}]}]
    scene.client.put(f"{PODS}/p2", hidden)

    scene.agents(ListEvent((an_agent().to_kubernetes(),)))

    await until(lambda: f"{PODS}/p2" not in scene.client.objects)
    assert f"{PODS}/p1" in scene.client.objects


@requirement("kill.relabelled")
async def test_a_relabelled_pod_that_has_long_to_live_is_deleted_again(scene: Scene) -> None:
    scene.pods(ListEvent((a_pod("p2"),)))
    await turns()
    ending: dict[str, Any] = {"deletionTimestamp": "2026-03-02T09:00:00Z", "deletionGracePeriodSeconds": 86400}
    scene.client.put(f"{PODS}/p2", a_pod("p2", None, **ending))

    scene.pods(ChangeEvent("DELETED", a_pod("p2")))

    await until(lambda: f"{PODS}/p2" not in scene.client.objects)


async def test_a_conflict_of_a_record_waits_before_it_is_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(scene.controller._records, "add_after", lambda _, pause: pauses.append(pause))  # noqa: SLF001 - its queue
    scene.client.refuse("PATCH", "/status", status=409)

    scene.show(an_agent().killed("runaway"))

    await until(lambda: pauses != [])


async def test_a_value_of_any_length_is_kept_short(scene: Scene) -> None:
    scene.show(an_agent().killed("x" * 200_000, by="y" * 200_000))

    await until(lambda: scene.recorded.get("zeroPodsAt") is not None)
    state = scene.controller._agents[KEY]  # noqa: SLF001 - what it holds for as long as the agent lives
    assert [len(text or "") for text in (state.switch, state.by, state.latch.message)] == [1024] * 3


@requirement("kill.lease")
async def test_deployments_that_cannot_be_scaled_keep_no_pods_of_others_from_starting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.agents(ListEvent(()))
    scene.pods(ListEvent(()))
    monkeypatch.setattr(controller, "REFUSED_SECONDS", 0.0)
    scene.client.refuse("PATCH", "/scale", times=10**9, status=500)

    scene.show(an_agent().killed("runaway"))

    await until(lambda: "refuses a kill" in (scene.controller.problem() or ""))
    assert f"{PODS}/p1" not in scene.client.objects
    assert scene.controller.lease_problem() is None


async def test_a_crd_without_the_columns_of_kills_is_reported(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        scene.client, "_table", lambda _: {"columnDefinitions": [{"name": "Name"}], "rows": [], "metadata": {}}
    )
    scene.agents(ListEvent(()))
    scene.pods(ListEvent(()))

    await until(lambda: scene.controller.problem() == "status.kill of the Agents has not been read yet")
    await turns()

    assert scene.controller.lease_problem() is not None


async def test_a_stuck_pod_of_a_deleted_agent_is_looked_for_ever_more_rarely(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(controller, "SWEEP_SECONDS", (1.0, 2.0, 3.0))
    queue = scene.controller._repeats  # noqa: SLF001 - its queue

    def at_once(key: Any, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) < 4:
            queue.add(key)

    monkeypatch.setattr(queue, "add_after", at_once)
    stuck = a_pod("p1", deletionTimestamp="2026-03-02T09:00:00Z", deletionGracePeriodSeconds=1)
    scene.client.put(f"{PODS}/p1", stuck)
    scene.show(an_agent().killed("runaway"))
    scene.agents(ChangeEvent("DELETED", an_agent().to_kubernetes()))

    await until(lambda: len(pauses) == 4)

    assert pauses == [2.0, 3.0, 3.0, 3.0]


async def test_one_namespace_has_no_more_than_its_share_of_workers(scene: Scene) -> None:
    ending, others, is_open = set[tuple[str, str]](), (f"agent-{number}" for number in range(100)), asyncio.Event()

    async def end(namespace: str, agent: str, **_: Any) -> Sweep:
        ending.add((namespace, agent))
        await is_open.wait()
        return Sweep(set())

    scene.controller._killer.end = end  # type: ignore[method-assign]  # noqa: SLF001 - a slow API server
    for name in others:
        scene.show(an_agent(name).killed())
    await until(lambda: len(ending) > 0)
    await turns()
    crowd = set(ending)

    elsewhere = an_agent("other").killed().to_kubernetes()
    elsewhere["metadata"]["namespace"] = "elsewhere"
    scene.agents(ChangeEvent("ADDED", elsewhere))
    await until(lambda: ("elsewhere", "other") in ending)

    assert len(crowd) == controller.KILL_WORKERS // 4
    is_open.set()


async def test_zero_pods_is_recorded_even_if_the_record_brings_an_earlier_time(scene: Scene) -> None:
    earlier = "2026-03-02T08:00:00.000000Z"
    scene.client.put(PATH, with_recorded_kill(an_agent().killed("runaway"), requestedAt=earlier))

    scene.agents(ListEvent((an_agent().killed("runaway").to_kubernetes(),)))

    await until(lambda: "zeroPodsAt" in scene.recorded)
    assert scene.recorded["requestedAt"] == earlier
