import pytest

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.status import AgentStatus, KillStatus
from interlock.api.verification import (
    MCPBindingStatus,
    PinnedDefinition,
    PinState,
    VerificationRun,
    VerificationStatus,
)
from interlock.cluster.status_writer import StatusWriter
from interlock.reconcile.agent import reconcile
from interlock_kube.client import ApiError
from tests.requirements import requirement
from tests.support.builders import NOW, a_binding, a_snapshot, a_stage, an_agent, hours
from tests.support.fake_client import FakeClient
from tests.support.simulation import Simulation

PATH = "/apis/interlock.dev/v1alpha1/namespaces/agents/agents/triage"


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient()
    client.put(PATH, an_agent().to_kubernetes())
    return client


def writer(client: FakeClient) -> StatusWriter:
    return StatusWriter(client)  # type: ignore[arg-type]


def agent_of(client: FakeClient) -> Agent:
    return Agent.model_validate(client.objects[PATH])


def a_status() -> AgentStatus:
    return reconcile(a_snapshot().build(), NOW).status


async def test_a_status_that_was_reported_reads_back_as_it_was(client: FakeClient) -> None:
    written = await writer(client).write_agent(agent_of(client), a_status())

    assert written is not None
    assert Agent.model_validate(written).status == a_status()
    assert client.writes() == [("PATCH", f"{PATH}/status")]


@requirement("operator.idle")
async def test_a_status_that_stands_already_is_not_written_again_after_a_restart_either(client: FakeClient) -> None:
    await writer(client).write_agent(agent_of(client), a_status())
    client.forget_requests()

    assert await writer(client).write_agent(agent_of(client), a_status()) is None
    assert client.writes() == []


@requirement("status.kill-untouched")
async def test_what_the_kill_path_recorded_is_neither_written_nor_a_reason_to_write(client: FakeClient) -> None:
    await writer(client).write_agent(agent_of(client), a_status())
    kill = KillStatus(reason="runaway", requested_at=NOW).to_kubernetes()
    client.objects[PATH]["status"]["kill"] = kill
    client.forget_requests()

    assert await writer(client).write_agent(agent_of(client), a_status()) is None
    changed = a_status().model_copy(update={"observed_generation": 2})
    await writer(client).write_agent(agent_of(client), changed)

    assert "kill" not in client.bodies[0]["status"]
    assert client.objects[PATH]["status"]["kill"] == kill


async def test_what_is_no_longer_so_is_taken_away(client: FakeClient) -> None:
    scoped = a_stage("one-region", "production", scope={"region": ["eu-west"]}, lasting="1h")
    simulation = Simulation(a_snapshot().of(an_agent().with_stages(scoped, a_stage("everywhere", "production"))))
    simulation.run()
    simulation.crash()
    simulation.run()
    await writer(client).write_agent(agent_of(client), simulation.status)
    written = client.objects[PATH]["status"]["stage"]
    assert {"readySince", "nextAt", "soakRestartedAt"} <= set(written)
    assert len(written["restartedPods"]) == 1

    simulation.wait(hours(1))
    entered = simulation.settle().status
    await writer(client).write_agent(agent_of(client), entered)

    stage = client.objects[PATH]["status"]["stage"]
    assert (stage["name"], stage["scope"], stage["scopeSummary"]) == ("everywhere", [], "all")
    assert {"readySince", "nextAt", "soakRestartedAt"} & set(stage) == set()
    assert (stage["soakedSeconds"], stage["restarts"], stage["restartedPods"]) == (0, 0, [])
    assert agent_of(client).status == entered


async def test_a_stage_that_is_gone_is_taken_away(client: FakeClient) -> None:
    await writer(client).write_agent(agent_of(client), a_status())

    await writer(client).write_agent(agent_of(client), a_status().model_copy(update={"stage": None}))

    assert "stage" not in client.objects[PATH]["status"]


@requirement("drift.prompts", "drift.instructions")
async def test_parts_of_a_verification_that_are_gone_are_taken_away(client: FakeClient) -> None:
    binding = a_binding().build()
    path = f"/apis/interlock.dev/v1alpha1/namespaces/agents/mcpbindings/{binding.metadata.name}"
    client.put(path, a_binding().to_kubernetes())
    instructions = PinnedDefinition(name="instructions", state=PinState.VERIFIED)
    run = VerificationRun(number=1, plan="p", started_at=NOW, ended_at=NOW)
    full = VerificationStatus(prompts=(), instructions=instructions, verified_at=NOW, next_at=NOW, run=run)
    for known in (full, VerificationStatus()):
        await writer(client).write_binding(binding, MCPBindingStatus(verification=known))
        stored = MCPBinding.model_validate(client.objects[path])
        assert stored.verification == known


async def test_an_agent_that_is_gone_is_no_failure(client: FakeClient) -> None:
    agent = agent_of(client)
    client.objects.clear()

    assert await writer(client).write_agent(agent, a_status()) is None


async def test_a_refusal_is_passed_on(client: FakeClient) -> None:
    client.refuse("PATCH", PATH, status=403)

    with pytest.raises(ApiError, match="403"):
        await writer(client).write_agent(agent_of(client), a_status())
