"""examples/frameworks on real pods: the plain script as it is applied, and a framework in an image of its user's.

The model is scripted, in a pod of the tests' own. All else is as docs/how-to/bring-your-agent.md says.
"""

import json
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.live import Live, eventually
from tests.e2e.probes import Probe, a_pod, answered, assert_only_answered, until_answered
from tests.e2e.rollouts import SEND
from tests.requirements import requirement
from tests.support.bounds import eventually as found_eventually
from tests.support.examples import example_objects, find
from tests.support.page_commands import printed
from tools.cluster import images
from tools.cluster.images import Image

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ROOT / "examples" / "frameworks"
PAGE = "docs/how-to/bring-your-agent.md"
PROGRAMS = {
    "provider.py": ROOT / "tests" / "e2e" / "programs" / "model.py",
    "scripted_model.py": ROOT / "tests" / "support" / "scripted_model.py",
}

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(300)]

SCRIPT, FRAMEWORK, CALLER = "script", "langgraph", "caller"
CANARY = "canary-3391-do-not-leak"
REGION = {"region": "eu-west"}
USES = [("list_contacts", REGION), ("create_task", {**REGION, "title": "Call back", "contact": "eu-1"})]
CALLS = [("models", "Allow"), ("crm", "Allow"), ("models", "Allow"), ("crm", "Allow"), ("models", "Allow")]
COST = 30 * 150 + 10 * 600
"""What an answer of the scripted model costs at the price of gpt-4o-mini, in nano-dollars."""
TASK, HELD_TASK = "Call back the first contact of eu-west.", "Call back the first contact of eu-west when held."
PORT = 9000
GRACE = 60


def model(namespace: str) -> list[dict[str, Any]]:
    """Return the objects of examples/09-models for a provider, with the scripted model as their program."""
    objects = example_objects("09-models", namespace, "2-provider.yaml")
    programs = {name: path.read_text(encoding="utf-8") for name, path in PROGRAMS.items()}
    find(objects, "ConfigMap")["data"] = {**programs, "script.json": json.dumps(USES)}
    find(objects, "Secret")["stringData"]["key"] = CANARY
    return objects


def example(live: Live) -> list[dict[str, Any]]:
    """Return what `kubectl apply -k examples/frameworks` applies, with the scripted model and its key."""
    made = [one for one in yaml.safe_load_all(live.kubectl("kustomize", str(FRAMEWORKS))) if one["kind"] != "Namespace"]
    url = {"name": "openai", "url": "http://models:8000/v1", "network": "Private"}
    find(made, "AgentPolicy")["spec"]["models"]["urls"] = [url]
    key = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openai"}, "stringData": {"key": CANARY}}
    for one in (*made, key):
        one["metadata"]["namespace"] = live.namespace
    return [*model(live.namespace), key, *made, a_pod(CALLER, PORT, live.namespace)]


@pytest.fixture(scope="module")
def frameworks(shared: Live) -> Live:
    shared.apply(*example(shared))
    return shared


def send(live: Live, agent: str, text: str) -> dict[str, Any]:
    """Send a task from another pod to the agent's Service, again until the network of the pods is ready."""

    def answer() -> dict[str, Any] | None:
        program = ("python", "-c", SEND, f"http://guard-{agent}/", "{}", json.dumps({"text": text}))
        done = live.attempt("-n", live.namespace, "exec", CALLER, "--", *program)
        return json.loads(done.stdout) if done.returncode == 0 else None

    return found_eventually(answer, "the caller reaches the guard", 60)


def check_done(live: Live, agent: str, answer: dict[str, Any]) -> None:
    """Check that a task went as scripted, through the agent's guard: its answer, its calls, its record."""
    assert "Call back" in answer.get("said", ""), f"{answer}\n{live.agent_log(agent)[-3000:]}"
    assert [(one["source"], one["decision"]) for one in live.decisions(agent) if one["tool"]] == CALLS
    [recorded] = [one for one in map(json.loads, live.records(agent)) if one["kind"] == "task"]
    assert recorded["outcome"] == "Answered"


def spent(live: Live, agent: str) -> int:
    day: dict[str, int] = live.get("budgetledgers.interlock.dev", f"{agent}.development")["status"].get("day", {})
    return day.get("spent", 0)


@requirement("agents.on-a-cluster")
def test_a_plain_script_does_a_task_and_what_it_costs_is_counted(frameworks: Live) -> None:
    live = frameworks
    live.until_ready(SCRIPT, 120)
    check_done(live, SCRIPT, send(live, SCRIPT, TASK))
    eventually(lambda: spent(live, SCRIPT) == 3 * COST, 30, lambda: f"{spent(live, SCRIPT)} of {3 * COST}")


def image_of_the_page() -> Image:
    """Return what the page's command builds."""
    [command] = [one.command for one in printed(ROOT, PAGE) if one.command.startswith("docker build ")]
    _, _, *options, folder = shlex.split(command)
    assert options[::2] == ["--build-arg", "-t"]
    return Image(options[3], folder, "Dockerfile", (".",), tuple(options[:2]))


@pytest.fixture(scope="module")
def langgraph(frameworks: Live) -> Live:
    """The agent of LangGraph in an image that the page's command has built, in the namespace of the others."""
    image = image_of_the_page()
    images.build_on(frameworks.cluster, image)
    agent = yaml.safe_load((FRAMEWORKS / FRAMEWORK / "agent.yaml").read_text(encoding="utf-8"))
    agent["metadata"]["namespace"] = frameworks.namespace
    agent["spec"]["template"]["image"] = image.name
    agent["spec"]["files"] = [{"path": "prompts/tone.md", "content": "Be kind."}]
    frameworks.apply(agent)
    frameworks.until_ready(FRAMEWORK, 180)
    return frameworks


LOOK_AROUND = """
import json, os, re
from pathlib import Path

def is_writable(path):
    try:
        Path(path, "written").touch()
    except OSError:
        return False
    Path(path, "written").unlink()
    return True

status = dict(re.findall(r"^(\\w+):\\s+(\\S+)", Path("/proc/1/status").read_text(), re.MULTILINE))
variables = dict(one.split("=", 1) for one in Path("/proc/1/environ").read_text().split("\\0") if one)
config = Path("/etc/interlock")
files = [Path(folder, name) for folder, _, names in os.walk(config, followlinks=True) for name in names
         if "/.." not in folder]  # the kubelet's own folder, to which the others link
print(json.dumps({
    "user": [os.getuid(), os.getgid(), sorted(set(os.getgroups()) - {os.getgid()})],
    "privileges": [int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"], status["Seccomp"]],
    "program": Path("/proc/1/cmdline").read_text().split("\\0")[:2],
    "variables": variables,
    "writable": [one for one in ("/", "/app", "/etc", "/etc/interlock", "/run", "/tmp", "/var/tmp", "/dev/shm",
                                 variables["HOME"]) if is_writable(one)],
    "files": {str(one.relative_to(config)): one.read_text() for one in files},
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
}))
"""
PRIVILEGES = [0, 0, "1", "2"]
"""No capability, none to be had, no privilege escalation, a seccomp profile."""


def variables_of_the_page() -> set[str]:
    """Return the variables that the page names, without those of models of Anthropic."""
    section = (ROOT / PAGE).read_text(encoding="utf-8").partition("\n## Variables\n")[2].partition("\n## ")[0]
    return {name for name in re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) if not name.startswith("ANTHROPIC")}


@pytest.mark.timeout(1500)  # the first test with the image builds it
@requirement("agents.container")
def test_the_container_of_a_framework_is_what_the_page_says(langgraph: Live) -> None:
    done = langgraph.exec(FRAMEWORK, "agent", "python", "-c", LOOK_AROUND)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["user"] == [10002, 10002, []]
    assert found["privileges"] == PRIVILEGES
    assert found["program"] == ["python", "/app/serve.py"]
    assert found["writable"] == ["/tmp", "/dev/shm"]  # noqa: S108 - of the pod
    assert found["token"] is False
    variables = found["variables"]
    assert {name for name in variables if re.match("INTERLOCK|OPENAI|ANTHROPIC", name)} == variables_of_the_page()
    assert variables["HOME"] == "/"
    assert variables["OPENAI_BASE_URL"] == "http://guard:7410/openai/v1"
    assert {name for name in variables if "SERVICE" in name} == {
        name for name in variables if name.startswith("KUBERNETES_SERVICE")
    }
    assert set(found["files"]) == {"mcp.json", "scope.json", "files/prompts/tone.md"}
    assert found["files"]["files/prompts/tone.md"] == "Be kind."
    [server] = json.loads(found["files"]["mcp.json"])["mcpServers"].values()
    assert re.fullmatch(r"http://guard:7410/[^/]+/mcp/crm", server["url"])
    assert CANARY not in done.stdout


@pytest.mark.timeout(1500)
@requirement("agents.container")
def test_the_network_of_a_framework_is_closed_in_both_directions(langgraph: Live) -> None:
    pod = langgraph.only_pod(FRAMEWORK, "agent")
    address = pod["status"]["podIP"]
    [dns] = langgraph.within("kube-system").items("services", "k8s-app=kube-dns")
    api = langgraph.within("default").get("service", "kubernetes")["spec"]["clusterIP"]
    [free] = [one for one in langgraph.items("pods") if one["metadata"]["name"] == CALLER]
    guard = Probe("its guard", "tcp", "guard", 7410)
    closed = [
        Probe("the API server", "tcp", api, 443),
        Probe("DNS", "udp", dns["spec"]["clusterIP"], 53),
        Probe("another pod", "tcp", free["status"]["podIP"], PORT),
        Probe("a name", "name", "kubernetes.default.svc", 443),
        Probe("the internet", "tcp", "1.1.1.1", 443),
        Probe("a metadata service", "tcp", "169.254.169.254", 80),
    ]
    local, door = Probe("itself", "tcp", "127.0.0.1", 8080), Probe("the agent", "tcp", address, 8080)
    reached = {"its guard", "itself"}
    assert_only_answered(langgraph, pod["metadata"]["name"], "agent", [guard, local, *closed], reached)
    alive = {"the API server", "DNS", "another pod", "a name"}  # else they show nothing
    until_answered(langgraph, CALLER, "main", [probe for probe in closed if probe.what in alive])
    assert answered(langgraph, CALLER, "main", [door]) == set()


@pytest.mark.timeout(1500)
@requirement("agents.container")
def test_a_task_that_is_under_way_outlives_sigterm(langgraph: Live) -> None:
    live, here = langgraph, ("-n", langgraph.namespace)
    pod = live.only_pod(FRAMEWORK, "agent")["metadata"]["name"]

    def has_printed(line: str) -> bool:
        return line in live.reader.log(live.namespace, pod, "agent")

    with ThreadPoolExecutor(2) as pool:
        log = pool.submit(live.attempt, *here, "logs", "--follow", pod, "-c", "agent")
        task = pool.submit(send, live, FRAMEWORK, HELD_TASK)
        asked = ("logs", "deployment/models")
        eventually(lambda: "held: 0" in live.kubectl(*here, *asked), 60, lambda: live.kubectl(*here, *asked))
        live.kubectl(*here, "delete", "pod", pod, "--wait=false")
        eventually(lambda: has_printed("SIGTERM: the last tasks"), 30, lambda: live.reader.log(*here[1:], pod, "agent"))
        live.kubectl(*here, "exec", CALLER, "--", "python", "-c", LET_GO)
        check_done(live, FRAMEWORK, task.result(timeout=GRACE))
        said = log.result(timeout=GRACE).stdout
    found = re.findall(r"^(SIGTERM|task|ended)\b.*?(\d*)$", said, re.MULTILINE)
    assert found == [("SIGTERM", ""), ("task", "200"), ("ended", "")], said
    eventually(lambda: pod not in [one["metadata"]["name"] for one in live.pods(FRAMEWORK)], GRACE, lambda: said)


LET_GO = "import urllib.request; urllib.request.urlopen('http://models:8000/go', timeout=10)"
