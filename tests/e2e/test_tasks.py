"""examples/08-tasks on real pods: tasks by the agent's Service, and no way round its guard."""

import json

import pytest

from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.timeout(300)]

AGENT, CALLER = "echo", "caller"
POST = (
    "import sys, urllib.request, urllib.error\n"
    "try: print(urllib.request.urlopen(sys.argv[1], data=sys.argv[2].encode(), timeout=5).read().decode())\n"
    "except urllib.error.HTTPError as error: print(error.code, error.read().decode())\n"
    "except OSError as error: print('closed', error)\n"
)


@pytest.fixture(scope="module")
def tasks(shared: Live) -> Live:
    objects = example_objects("08-tasks", shared.namespace)
    caller = json.loads(json.dumps(find(objects, "Agent")))
    caller["metadata"]["name"] = CALLER
    shared.apply(*objects, caller)
    shared.until_ready(AGENT)
    shared.until_ready(CALLER)
    return shared


def send_task(live: Live, url: str) -> str:
    """Send a task from the other agent's pod; return what came of it."""
    return live.exec(CALLER, "agent", "python", "-c", POST, url, '{"text": "hello"}').stdout.strip()


@requirement("tasks.on-a-cluster")
def test_a_task_comes_by_the_service_and_is_recorded(tasks: Live) -> None:
    url = f"http://guard-{AGENT}.{tasks.namespace}/"
    eventually(lambda: send_task(tasks, url) == '{"said": "hello"}', 60, lambda: send_task(tasks, url))

    def answered() -> list[str]:
        records = [record for record in map(json.loads, tasks.records(AGENT)) if record["kind"] == "task"]
        return [record["task"] for record in records if record["outcome"] == "Answered"]

    # The node writes a line of the log a moment later. Tasks that came before the agent listened have other outcomes.
    eventually(lambda: bool(answered()), 30, lambda: str(tasks.records(AGENT)))
    tasks.until_said(AGENT, f"task {answered()[-1]}: hello")


@requirement("tasks.on-a-cluster")
def test_another_pod_reaches_the_guard_and_never_the_agent(tasks: Live) -> None:
    [pod] = tasks.pods(AGENT)
    address = pod["status"]["podIP"]
    guard = f"http://{address}:7412/"
    eventually(lambda: send_task(tasks, guard) == '{"said": "hello"}', 60, lambda: send_task(tasks, guard))
    assert send_task(tasks, f"http://{address}:8080/").startswith("closed")


def test_an_address_in_the_range_of_services_that_none_has_answers_nothing(tasks: Live) -> None:
    """Elsewhere, a request that comes before the node knows a Service would be answered from outside the cluster."""
    assert send_task(tasks, "http://10.96.255.254/").startswith("closed")
