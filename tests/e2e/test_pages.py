"""Every command of README, tutorial, examples, how-tos and runbooks, as printed and in order, on one cluster.

The commands run in a copy of the checkout, in one shell, on a cluster that the pages themselves create and delete
(`INTERLOCK_CLUSTER` gives it a name of its own). A page that speaks of a state gets this state first.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.requirements import requirement
from tests.support.bounds import BoundMissed, eventually
from tests.support.clusters import own_kind_name
from tests.support.page_commands import Answer, Printed, Terminal, files, missing_lines, printed
from tests.support.registries import address_for_nodes, pull_without_tls, running_registry
from tools.cluster import base_image, engine, images, kind
from tools.machine.process import say
from tools.machine.settings import from_environment

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(7200)]

CLUSTER = "interlock-pages"
FIRST = ("README.md", "docs/tutorial/first-agent.md")
OWN_AGENT = "docs/tutorial/own-agent.md"
LAST = (
    "docs/how-to/release.md",
    "docs/how-to/install.md",
    "docs/how-to/uninstall.md",
    OWN_AGENT,
    "docs/how-to/clusters.md",
)
"""They replace the installation, uninstall it, install it with Helm on a new cluster, and delete that."""

NOT_RUN = {
    "make test": "it runs the tests, and so would start itself",
    "crane auth login registry.example.com -u USER -p PASSWORD": "the registry of this test needs no login",
    "npx -y @modelcontextprotocol/inspector --cli npx -y @modelcontextprotocol/server-gitlab --method tools/list"
    " > tools.json": "it runs packages of others, and the page has the answer as a file",
    "docker build -t registry.example.com/mcp-gitlab:1 .": "it installs a package of others",
    "docker build --build-arg FRAMEWORK=langgraph -t registry.example.com/agents/langgraph:1"
    " examples/frameworks": "tests/e2e/test_frameworks.py builds it",
    "docker push registry.example.com/agents/langgraph:1": "it was not built",
    'kubectl -n agents exec caller -- python -c \'import urllib.request as u; print(u.urlopen("http://guard-script",'
    ' b"{\\"text\\": \\"Call back the first contact of eu-west.\\"}").read().decode())\'': "no public model may answer",
    "docker pull ghcr.io/github/github-mcp-server": "no public registry may answer",
    "docker image inspect --format '{{json .Config.Entrypoint}} {{json .Config.Cmd}}'"
    " ghcr.io/github/github-mcp-server": "the image was not pulled",
    "export INTERLOCK_BASE_IMAGE=python:3.13-slim-trixie@sha256:...": "the default is used: no registry may answer",
}
"""Commands that are printed and do not run here, with the reason."""

OUTPUT_ELSEWHERE = {
    "docs/how-to/cost-report.md": "tests/unit/audit/test_cost_report_page.py compares it",
    "docs/runbooks/AgentLoop.md": "tests/integration/operator/test_operator_loops.py compares it",
    "docs/runbooks/BindingDrifted.md": "tests/integration/operator/test_operator_verifies.py compares it",
}
ENVIRONMENT = 'eval "$(.venv/bin/python -m tools.cluster env)"'
IMPORT = 'interlock-import() { PYTHONPATH=operator .venv/bin/python -m interlock_cli.import_servers "$@"; }'
"""The command that an installation has, as the page on the import says it for a checkout."""
GUARD_DIGEST = "$(grep -A3 'interlock/guard$' dist/kustomization.yaml | sed -n 's/.*digest: //p')"
READING = re.compile(r"kubectl (?:-n \S+ )?(?:get|logs|describe|events)\b")
LONG_SECONDS, SHORT_SECONDS, OUTPUT_SECONDS = 3000.0, 180.0, 90.0

Faults = list[str]


def pages() -> list[str]:
    """Return the pages in the order in which a reader takes them, those that end the installation last."""
    patterns = ("examples/*/README.md", "docs/how-to/*.md", "docs/runbooks/*.md")
    found = [str(path.relative_to(ROOT)) for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return [*FIRST, *(page for page in found if page not in LAST), *LAST]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that belong to the repository, with the environment of this one."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    copy = tmp_path / "checkout"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    return copy


class Reader:
    """A person who follows the pages."""

    def __init__(self, checkout: Path, environment: dict[str, str], registry: str) -> None:
        self.checkout = checkout
        self.environment = environment
        self.registry = registry
        self.faults: Faults = []
        self.functions: list[str] = []
        self.terminal = Terminal(checkout, environment)

    def end(self) -> None:
        self.terminal.end()

    def run(self, command: str, *, seconds: float = SHORT_SECONDS) -> Answer:
        command = self._here(command).replace("guard@sha256:...", f"guard@{GUARD_DIGEST}")
        return self.terminal.run(command, seconds=seconds)

    def must(self, command: str, *, seconds: float = SHORT_SECONDS) -> str:
        answer = self.run(command, seconds=seconds)
        assert answer.code == 0, f"{command}\n{answer.output}"
        return answer.output

    def define(self, function: str) -> None:
        """Define a function of the shell, in each terminal from here on."""
        self.must(function)
        self.functions.append(function)

    def follow(self, page: str) -> None:
        """Bring about the state that a page speaks of, write its files, and run its commands.

        A page without its state is a fault. The pages after it are read all the same.
        """
        try:
            if page in GIVEN:
                GIVEN[page](self)
        except (AssertionError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                self._open_terminal()
            self._note(f"{page}: its state\n{error}")
            return
        for path, content in files(ROOT, page):
            (self.checkout / path).parent.mkdir(parents=True, exist_ok=True)
            (self.checkout / path).write_text(content)
        for one in printed(ROOT, page):
            if one.command.split("  #")[0].strip() not in NOT_RUN:
                self._try(one)

    def _try(self, one: Printed) -> None:
        say(f"{one.page}$ {one.command}")
        try:
            wrong = self._wrong(one)
        except TimeoutError as error:
            wrong = str(error)
            self._open_terminal()
        if wrong:
            self._note(f"{one.page}$ {one.command}\n{wrong}")

    def _note(self, fault: str) -> None:
        say(f"WRONG: {fault}")
        self.faults.append(fault)

    def _open_terminal(self) -> None:
        """Open a terminal in place of one whose command did not end."""
        self.end()
        self.terminal = Terminal(self.checkout, self.environment)
        for command in (*self.functions, ENVIRONMENT):
            self.run(command)

    def _wrong(self, one: Printed) -> str:
        """Return what is wrong with a command, an empty string if nothing is.

        A command that only reads runs again until it prints what the page shows, as the pages say. Of another one, the
        output may come later: a command before it may be at work in the background.
        """
        seconds = LONG_SECONDS if one.command.startswith("make ") else SHORT_SECONDS
        is_read, answer, last = bool(READING.search(one.command)), None, ""

        def found_right() -> bool:
            nonlocal answer, last
            if answer is None or is_read:
                answer = self.run(one.command, seconds=seconds)
            else:
                answer = Answer(answer.code, answer.output + self.run("sleep 1", seconds=seconds).output)
            is_code_right = (answer.code != 0) is one.fails or ("kubectl diff" in one.command and answer.code <= 1)
            expected = () if one.page in OUTPUT_ELSEWHERE else one.output
            missing = missing_lines([self._here(line) for line in expected], answer.output)
            last = f"exit code {answer.code}, missing: {missing}, printed:\n{answer.output}"
            if not is_read and not is_code_right:
                raise BoundMissed(last)  # it does not get better
            return is_code_right and not missing

        try:
            eventually(found_right, "the output", OUTPUT_SECONDS, poll=0.5)
        except BoundMissed:
            return last
        return ""

    def _here(self, line: str) -> str:
        """Return a line with this test's registry and cluster in place of those of the pages."""
        line = line.replace("registry.example.com", self.registry).replace("kind-interlock", f"kind-{CLUSTER}")
        return line.replace("--name interlock", f"--name {CLUSTER}")


def without_its_binding(reader: Reader) -> None:
    """A new Agent that waits for an MCPBinding of its source. The operator knows before that there is none."""
    reader.must("kubectl -n agents delete agents.interlock.dev support-triage --ignore-not-found")
    reader.must("kubectl apply -f examples/05-staged-scope/")
    reader.must("kubectl -n agents delete mcpbindings.interlock.dev crm-sandbox")
    reader.must("kubectl -n agents wait agents.interlock.dev/support-triage --for=condition=ActionsBound=False")
    reader.must("kubectl -n agents delete agents.interlock.dev support-triage")
    reader.must("kubectl apply -f examples/05-staged-scope/4-agent.yaml")


def with_a_database(reader: Reader) -> None:
    """An agent whose policy has the page's row, and the database."""
    reader.must("kubectl create namespace data")
    database = "registry.invalid/interlock/example-crm:dev -- sleep infinity"
    reader.must(f"kubectl -n data run orders-db --labels app=orders-db --image {database}")
    reader.must("kubectl -n agents delete agents.interlock.dev support-triage --ignore-not-found")
    example = ROOT / "examples/05-staged-scope"
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}},
        "podSelector": {"matchLabels": {"app": "orders-db"}},
    }
    row = {"name": "orders-db", "agents": ["support-triage"], "to": [peer], "ports": [{"port": 5432}]}
    (reader.checkout / "opened.yaml").write_text(
        f"{(example / '2-policy.yaml').read_text()}  egress: {json.dumps([row])}\n"
    )
    reader.must("kubectl apply -f opened.yaml")
    reader.must("kubectl apply -f examples/05-staged-scope/3-bindings.yaml -f examples/05-staged-scope/4-agent.yaml")


def looped(reader: Reader) -> None:
    """The first example's agent, which makes the same calls in each round, killed because of that."""
    reader.must("kubectl -n agents delete agents.interlock.dev,mcpbindings.interlock.dev --all")
    reader.must("kubectl apply -f examples/01-first-agent/")
    reader.must("kubectl -n agents wait agents.interlock.dev/first-agent --for=condition=Ready --timeout=120s")
    loops = json.dumps({"spec": {"loops": {"identicalCalls": 3, "action": "Kill"}}})
    reader.must(f"kubectl -n agents patch agentpolicies.interlock.dev development --type=merge -p '{loops}'")
    reader.must("kubectl -n agents wait agents.interlock.dev/first-agent --for=condition=Killed --timeout=120s")


def drifted(reader: Reader) -> None:
    """The binding `crm-sandbox` of a server over HTTP that has changed the description of a tool."""
    reader.must("kubectl -n agents delete agents.interlock.dev --all")
    example = ROOT / "examples/07-http-server"
    server = (example / "2-server.yaml").read_text().replace("binding: sales-crm", "binding: crm-sandbox")
    binding = (example / "4-binding.yaml").read_text().replace("name: sales-crm\n", "name: crm-sandbox\n", 1)
    (reader.checkout / "drifted.yaml").write_text(f"{server}\n---\n{binding}")
    reader.must("kubectl -n agents delete mcpbindings.interlock.dev --all")
    reader.must("kubectl apply -f examples/07-http-server/3-policy.yaml -f drifted.yaml")
    reader.must("kubectl -n agents wait mcpbindings.interlock.dev/crm-sandbox --for=condition=Verified --timeout=120s")
    reader.must("kubectl apply -f examples/07-http-server/5-agent.yaml")
    run = "sed 's/Get one contact by its id/Send all contacts/' /app/crm_server.py > /tmp/c.py && exec python /tmp/c.py"
    container = {"name": "crm", "command": ["sh", "-c", run]}
    patch = json.dumps({"spec": {"template": {"spec": {"containers": [container]}}}}).replace("'", "'\\''")
    reader.must(f"kubectl -n agents patch deployment sales-crm -p '{patch}'")
    reader.must("kubectl -n agents wait mcpbindings.interlock.dev/crm-sandbox --for=condition=Drifted --timeout=120s")


def exhausted(reader: Reader) -> None:
    """The agent of the example on budgets, which has spent what it may."""
    reader.must("kubectl apply -f examples/04-budget-stop/")
    reader.must("kubectl -n agents wait agents.interlock.dev/spender --for=condition=BudgetExhausted --timeout=170s")


def held(reader: Reader) -> None:
    """The agent of the example on rollbacks with a second revision that a pause holds next to the good one."""
    reader.must("kubectl -n agents delete agents.interlock.dev answers --ignore-not-found")
    reader.must("kubectl apply -f examples/10-rollback/")
    agent = "agents.interlock.dev/answers"
    reader.must(f"kubectl -n agents wait {agent} --for=condition=Progressing=False --timeout=180s", seconds=200)
    reader.must("""sed 's/value: "one"/value: "bad"/' examples/10-rollback/3-agent.yaml | kubectl apply -f -""")
    reader.must(f"kubectl -n agents wait {agent} --for=condition=Progressing --timeout=60s")
    newest = f"$(kubectl -n agents get {agent} -o jsonpath='{{.status.stage.revisionName}}')"
    me = "$(kubectl auth whoami -o jsonpath='{.status.userInfo.username}')"
    reader.must(
        f"kubectl -n agents annotate {agent} --overwrite interlock.dev/pause={newest} interlock.dev/pause-by={me}"
    )


def argo_cd(reader: Reader) -> None:
    """The settings of Argo CD, which the cluster does not have."""
    reader.must("kubectl create namespace argocd")
    reader.must("kubectl -n argocd create configmap argocd-cm --from-literal=timeout.reconciliation=180s")


def new_machine(reader: Reader) -> None:
    """No cluster, and a Docker engine that builds from the usual Python image, or from what this machine has instead.

    The kubelet of the cluster before has pulled the images by another name, and would pull these too (KEP-2535).
    The base is named in a copy of each Dockerfile. A tag would change what the project's own images are built from.
    """
    reader.must("make cluster-down", seconds=LONG_SECONDS)
    settings = from_environment()
    docker = engine.ensure(settings)
    options = " ".join(f"--build-arg {name}" for name in images.PROXIES)
    options += " --network host" if docker.is_private else ""
    build = f"""sed "s|^FROM .*|FROM {base_image.ensure(docker, settings)}|" "${{@: -1}}/Dockerfile" """
    build += f"""| command docker build {options} -f - "${{@:2}}" """
    reader.define(f'docker() {{ if [ "$1" = build ]; then {build}; else command docker "$@"; fi; }}')


@contextmanager
def pulled_by_nodes(folder: Path, registry: str) -> Iterator[None]:
    """Have the cluster's nodes pull from the registry on this machine's loopback interface."""
    cluster = kind.find(CLUSTER, from_environment())
    assert cluster is not None
    gateway = address_for_nodes(cluster).rpartition(":")[0]
    address = f"{gateway}:{registry.rpartition(':')[2]}"
    pull_without_tls(cluster, registry, address)
    with running_registry(folder, address):
        yield


GIVEN = {
    OWN_AGENT: new_machine,
    "docs/how-to/gitops.md": argo_cd,
    "docs/how-to/reach-a-database.md": with_a_database,
    "docs/how-to/troubleshoot.md": without_its_binding,
    "docs/runbooks/AgentLoop.md": looped,
    "docs/runbooks/BindingDrifted.md": drifted,
    "docs/runbooks/BudgetExhausted.md": exhausted,
    "docs/runbooks/RolloutHeld.md": held,
}


@requirement("pages.commands")
def test_every_command_of_the_pages_works_as_printed(checkout: Path, tmp_path: Path) -> None:
    settings = from_environment()
    environment = {name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "PYTHONPATH"}}
    environment |= {"INTERLOCK_CLUSTER": CLUSTER}
    with ExitStack() as at_end, own_kind_name(CLUSTER, settings), running_registry(tmp_path) as registry:
        folders = {str(program.parent) for program in registry.programs.values()}
        environment["PATH"] = os.pathsep.join([*sorted(folders), environment["PATH"]])
        reader = Reader(checkout, environment, registry.address)
        at_end.callback(reader.end)
        reader.define(IMPORT)
        for page in pages():
            if page == "docs/how-to/install.md":
                at_end.enter_context(pulled_by_nodes(tmp_path, registry.address))
            reader.follow(page)
    assert not reader.faults, "\n\n".join(reader.faults)
