"""Agents of common frameworks, each unmodified, in an agent's container next to a real guard and a real MCP server.

The model is scripted, so that the test decides which tools an agent calls. One call breaks a rule on arguments and is
denied. Then the right to create tasks is withdrawn while the agent works, and the model asks for the tool once more.
The agent must go on after both.
"""

import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from interlock.api.shared_types import SecretKeyRef
from interlock.deployment.children.config import compile_bundle
from interlock.deployment.children.upstreams import file_of
from interlock.deployment.placement import Placement
from interlock_contract.bundle import digest, dump_bundle
from interlock_contract.selftest_report import parse_report
from tests.integration.guard.fake_api_server import AGENT, UID, FakeApiServer
from tests.integration.guard.fake_provider import REAL_KEYS, FakeProvider, send
from tests.integration.guard.harness import SOURCE, Guard, StdioServer
from tests.integration.guard.learning import learn_on_pipes
from tests.requirements import requirement
from tests.support.agent_container import AgentContainer, Ended
from tests.support.bounds import until, until_count
from tests.support.builders import AgentBuilder, PolicyBuilder, a_binding, a_placement, a_policy
from tests.support.closed_network import ClosedNetwork, closed_network
from tests.support.pins import with_pins
from tests.support.ports import free_port
from tests.support.scripted_model import ToolUse, Turn, read_turn, scripted_reply
from tools.machine.environments import installed_environment

ROOT = Path(__file__).parents[3]
FRAMEWORKS = ROOT / "examples" / "frameworks"
CRM = [sys.executable, str(ROOT / "examples" / "crm-server" / "crm_server.py")]
AGENT_SECONDS = 100.0
FIND = ToolUse("list_contacts", {"region": "eu-west"})
CREATE = ToolUse("create_task", {"region": "eu-west", "title": "Call back", "contact": "eu-1"})
ELSEWHERE = ToolUse("create_task", {"region": "us-east", "title": "Call back", "contact": "us-1"})
RULE = {"pointer": "/region", "enum": ["eu-west"]}
BROKEN_RULE = "The argument at '/region' must be one of eu-west"
WITHDRAWN = "write on 'tasks' of 'crm' is not granted by the policy's data access"
LISTS_AGAIN = {"autogen": "tool 'create_task' not found"}
"""Frameworks that list the tools before each call, and what they say themselves of one that is no longer there."""
TOOLS = (
    {"name": "list_contacts", "operation": "read", "resource": "contacts"},
    {"name": "create_task", "operation": "write", "resource": "tasks", "arguments": [RULE]},
    {"name": "delete_contact", "operation": "delete", "resource": "contacts"},
)

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(os.geteuid() != 0, reason="root alone makes the namespaces of a container"),
    pytest.mark.timeout(1200),  # the first run installs the environments
]


@dataclass
class ScriptedModel:
    """A model that asks for tools in a fixed order.

    Attributes:
        uses: The tools.
        before: What to await before a tool is asked for the first time, by its position.
        turns: What agents have sent to it.
    """

    uses: tuple[ToolUse, ...]
    before: dict[int, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    async def answer(self, http: web.Request) -> web.StreamResponse:
        """Answer one request."""
        turn = read_turn(http.path, json.loads(await http.read()))
        self.turns.append(turn)
        if (action := self.before.pop(len(turn.results), None)) is not None:
            await action()
        return await send(http, scripted_reply(turn, self.uses))


@dataclass
class Work:
    """Everything next to the agent's container: guard, MCP server, model, network."""

    placement: Placement
    api: FakeApiServer
    guard: Guard
    provider: FakeProvider
    model: ScriptedModel
    network: ClosedNetwork
    folder: Path
    environment: Path | None

    async def run(self, name: str, *command: str) -> Ended:
        """Run an example in the agent's container, or another command with the files of the example."""
        container = AgentContainer(self.placement, self.network, self.folder, FRAMEWORKS / name, self.environment)
        return await container.run(command or ("python3", "/app/agent.py"), AGENT_SECONDS)

    async def withdraw_writes(self) -> None:
        """Take the right to create tasks from the agent, as an edited AgentPolicy does, and wait for its guard."""
        text = dump_bundle(compile_bundle(replace(self.placement, policy=policy(self.provider.port).build())))
        assert self.api.pins is not None
        self.api.set_bundle(text)
        wanted = digest(with_pins(text, *self.api.pins))

        def is_obeyed() -> bool:
            reports = [parse_report(said) for said in (self.api.lease or {}).values()]
            return any(report is not None and report.bundle == wanted for report in reports)

        await until(is_obeyed, "the guard obeys the new bundle")

    def decisions(self, source: str) -> list[tuple[str, str, str]]:
        """Return tool, decision and reason of each call."""
        told = [one for one in self.guard.records() if one["source"] == source and one["tool"]]
        return [(one["tool"], one["decision"], one["reason"]) for one in told]


def policy(port: int, *written: str) -> PolicyBuilder:
    """Return the agent's policy, which lets it read contacts and write what is named."""
    urls = [{"name": "openai", "url": f"http://127.0.0.1:{port}/openai/v1", "network": "Private"}]
    granted = {"read": ["contacts"], **({"write": list(written)} if written else {})}
    return a_policy().giving_nothing().giving(AGENT, SOURCE, **granted).allowing_models("openai/*", urls=urls)


def agent(name: str) -> AgentBuilder:
    """Return the Agent of an example under the name and UID that the API server of the tests has."""
    document = yaml.safe_load((FRAMEWORKS / name / "agent.yaml").read_text(encoding="utf-8"))
    known = {"name": AGENT, "uid": UID, "generation": 1, "resourceVersion": "1"}
    return AgentBuilder({**document, "metadata": {**document["metadata"], **known}})


@asynccontextmanager
async def working(name: str, folder: Path) -> AsyncIterator[Work]:
    """Start everything for an example but its agent."""
    pins = FRAMEWORKS / name / "requirements.txt"
    environment = installed_environment(pins) if pins.exists() else None  # blocks, so before anything listens
    api, provider, model = (
        FakeApiServer(free_port()),
        FakeProvider(free_port()),
        ScriptedModel((FIND, CREATE, ELSEWHERE, CREATE)),
    )
    provider.answer = model.answer
    binding = a_binding().with_tools(*TOOLS).permitting(read=["contacts"], write=["tasks"])
    placement = a_placement(agent(name), policy=policy(provider.port, "tasks"), bindings=(binding,))
    guard = Guard(api, folder)
    keys = folder / "secrets" / ".models"
    keys.mkdir(parents=True)
    (keys / file_of(SecretKeyRef(name="openai", key="key"))).write_text(REAL_KEYS["openai"])
    api.pins = await learn_on_pipes(CRM, folder, ())
    api.set_agent()
    api.set_bundle(dump_bundle(compile_bundle(placement)))
    await provider.start()
    await api.start()
    server = StdioServer(guard.pipes / SOURCE, CRM)
    try:
        await guard.start()
        await guard.started()
        await server.start()
        await guard.source_ready()
        await until(lambda: guard.probe("/readyz"), "the guard is open")
        async with closed_network(guard.port) as network:
            yield Work(placement, api, guard, provider, model, network, folder, environment)
    finally:
        await server.kill()
        await guard.stop()
        await provider.stop()
        await api.stop()


@pytest.mark.parametrize("name", sorted(path.parent.name for path in FRAMEWORKS.glob("*/agent.py")))
@requirement("agents.frameworks")
async def test_an_agent_works_unmodified_and_goes_on_after_a_denial(name: str, tmp_path: Path) -> None:
    async with working(name, tmp_path) as work:
        work.model.before[3] = work.withdraw_writes
        ended = await work.run(name)
        assert ended.code == 0, ended.errors
        assert LISTS_AGAIN.get(name, WITHDRAWN) in ended.output.splitlines()[-1], ended.errors
        assert work.decisions("crm") == [
            ("list_contacts", "Allow", ""),
            ("create_task", "Allow", ""),
            ("create_task", "Deny", "ArgumentNotAllowed"),
            *([] if name in LISTS_AGAIN else [("create_task", "Deny", "NotGrantedByMatrix")]),
        ]
        assert work.decisions("models") == [("openai/gpt-4o-mini", "Allow", "")] * 5
        found, created, denied, _ = work.model.turns[-1].results
        assert "Test Person One" in found
        assert "Call back" in created
        assert BROKEN_RULE in denied
        offered = [sorted(_without_server(turn.offered)) for turn in work.model.turns[:2]]
        assert offered == [["create_task", "list_contacts"]] * 2
        key = work.placement.agent_key.rpartition("-")[2][:16]  # a name of 64 characters has a part of it
        assert len(key) == 16
        assert not any(key in json.dumps(turn.asked) for turn in work.model.turns), (
            "the model is told a part of the key"
        )
        assert key not in re.sub(r"[\s│]", "", ended.output + ended.errors), "the key is logged"  # also in a box
        assert {seen.headers["Authorization"] for seen in work.provider.seen} == {f"Bearer {REAL_KEYS['openai']}"}
        await until_count(lambda: _outcomes(work.guard), 7, "each allowed call of a tool or a model has its outcome")
        assert work.network.attempts() == set()


def _without_server(names: Sequence[str]) -> list[str]:
    """Return the names of tools without a prefix that a framework puts in front."""
    known = [str(tool["name"]) for tool in TOOLS]
    return [next((one for one in known if name.endswith(one)), name) for name in names]


def _outcomes(guard: Guard) -> int:
    calls = {one["seq"] for one in guard.records() if one["tool"]}
    return sum(line["kind"] == "outcome" and line["of"] in calls for line in guard.lines())


@requirement("agents.frameworks")
async def test_without_its_variables_the_telemetry_of_crewai_is_seen(tmp_path: Path) -> None:
    """So the test above would see it, if the variables did not turn it off."""
    environment = installed_environment(FRAMEWORKS / "crewai" / "requirements.txt")
    without = agent("crewai").with_template(env=[{"name": "HOME", "value": "/tmp"}])  # noqa: S108 - of the container
    async with closed_network(free_port()) as network:
        placement = a_placement(without, policy=policy(1), bindings=(a_binding(),))
        container = AgentContainer(placement, network, tmp_path, FRAMEWORKS / "crewai", environment)
        ended = await container.run(("python3", "-c", KICK_OFF), AGENT_SECONDS)
        assert network.attempts() == {"udp 127.0.0.1:53"}, ended.errors


KICK_OFF = """
from crewai import Agent, Crew, Task
one = Agent(role="a", goal="b", backstory="c", llm="openai/gpt-4o-mini")
Crew(agents=[one], tasks=[Task(description="d", expected_output="e", agent=one)]).kickoff()
"""
"""It finds no model, and so fails."""


LOOK_AROUND = """
import os, socket
print("ids", os.getuid(), os.getgid(), os.getgroups(), os.getpid())
for path in ("/", "/app", "/etc/interlock", "/home", os.environ["HOME"]):
    try:
        open(os.path.join(path, "written"), "w")
        print("wrote to", path)
    except OSError:
        pass
open("/tmp/written", "w")
for address in (("192.0.2.1", 443), ("169.254.169.254", 80), ("2001:db8::1", 443)):
    try:
        socket.create_connection(address, timeout=5)
        print("connected to", address)
    except OSError:
        pass
try:
    print("resolved", socket.getaddrinfo("telemetry.example.com", 443))
except OSError:
    pass
"""


async def test_the_container_of_these_tests_is_closed_and_an_attempt_to_leave_it_is_seen(tmp_path: Path) -> None:
    async with closed_network(free_port()) as network:
        placement = a_placement(agent("script"), policy=policy(1), bindings=(a_binding(),))
        container = AgentContainer(placement, network, tmp_path, FRAMEWORKS / "script")
        ended = await container.run(("python3", "-c", LOOK_AROUND), AGENT_SECONDS)
        assert (ended.code, ended.output) == (0, "ids 10002 10002 [] 1\n"), ended.errors
        assert network.attempts() == {
            *("tcp 192.0.2.1:443", "tcp 169.254.169.254:80", "tcp [2001:db8::1]:443", "udp 127.0.0.1:53"),
        }
        assert network.attempts() == set()
