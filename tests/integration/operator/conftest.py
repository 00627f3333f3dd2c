"""A kwok cluster of this folder's own, the operator as a process with its real rights, namespaces that do not meet."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from tests.integration.operator.api import Access, Api, Refused, eventually
from tests.integration.operator.fault_proxy import FaultProxy
from tests.integration.operator.sandbox import Sandbox
from tests.support.bounds import check_kubectl
from tests.support.operator_process import OperatorProcess, kill_controller
from tests.support.verification_jobs import VerificationJobs
from tools.cluster import kwok

ROOT = Path(__file__).parents[3]
AUDIT_POLICY = Path(__file__).parent / "audit-policy.yaml"
OPERATOR_NAMESPACE = "interlock-system"
USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:interlock"
PROTECTING = (
    "accounts-reserved",
    "agents-commands",
    "agents-kill-only",
    "agents-status",
    "audit-reserved",
    "budgetledgers",
    "evictions-grace",
    "kill-controller",
    "managed-objects",
    "mcpbindings-status",
    "networks-reserved",
    "operator-objects",
    "operator-workloads",
    "pods-debug",
    "pods-grace",
    "pods-reserved",
    "priority-reserved",
    "services-debug",
    "spec-author",
    "workloads-scale",
)
"""The admission policies for the work of the operator: programs and Kubernetes' controllers must not be hindered."""
COMMAND_SECONDS = 60
LOG_SHOWN = 20_000
_LOG = pytest.StashKey[tuple[Path, int]]()
CLEAN_SECONDS = 30.0


@dataclass
class Operators:
    """The one operator of the cluster: the same process from test to test unless one asks for another."""

    cluster: kwok.KwokCluster
    folder: Path
    api: Api
    log: Path
    verifiers: VerificationJobs
    killer: OperatorProcess
    _running: OperatorProcess | None = field(default=None)

    def use(self, url: str = "", **environment: str) -> OperatorProcess:
        """Return an operator that runs and speaks to this address, the API server's own by default."""
        wanted = self.kubeconfig(url)
        running = self._running
        if running and running.is_running and (running.kubeconfig, running.environment) == (wanted, environment):
            return running
        self.stop()
        self._running = OperatorProcess(wanted, self.log, environment, is_forked=True)
        return self._running.start()

    def stop(self) -> None:
        if self.is_running():
            assert self._running is not None
            self._running.stop()

    def is_running(self) -> bool:
        return self._running is not None and self._running.is_running

    @property
    def pid(self) -> int:
        """The process of the operator that runs."""
        assert self._running is not None
        return self._running.pid

    def tail(self) -> str:
        return self._running.tail() if self._running else ""

    def audit_offset(self) -> int:
        """Return where the API server's audit log ends now."""
        assert self.cluster.audit_log is not None
        return self.cluster.audit_log.stat().st_size

    def writes(self, offset: int) -> list[dict[str, str]]:
        """Return what the operator has written since, by the audit log, without Events."""
        assert self.cluster.audit_log is not None
        with self.cluster.audit_log.open("rb") as log:
            begin = max(offset - 1, 0)
            log.seek(begin)
            written = log.read()
        # The API server may be in the middle of a line, now and when the offset was taken.
        complete = written[: written.rfind(b"\n") + 1].splitlines()
        entries = [json.loads(line) for line in (complete[1:] if begin else complete)]
        return [
            {"verb": entry["verb"], "uri": entry["requestURI"]}
            for entry in entries
            if entry["user"]["username"] == USER and entry.get("objectRef", {}).get("resource") != "events"
        ]

    def kubeconfig(self, url: str = "") -> Path:
        """Return a kubeconfig with the operator's own rights."""
        path = self.folder / f"kubeconfig-{abs(hash(url))}"
        return path if path.exists() else write_kubeconfig(path, self.cluster, self.api, "interlock", url)


def write_kubeconfig(
    path: Path, cluster: kwok.KwokCluster, api: Api, account: str, url: str = "", *, namespace: str = OPERATOR_NAMESPACE
) -> Path:
    """Write a kubeconfig with a token of a ServiceAccount, with its rights alone."""
    admin = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    server = {"server": url} if url else dict(admin["clusters"][0]["cluster"])
    token_path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    token = api.request("POST", token_path, {"spec": {"expirationSeconds": 7200}})["status"]["token"]
    name = cluster.context
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@contextlib.contextmanager
def a_cluster(name: str, policies: Sequence[str] = PROTECTING) -> Iterator[kwok.KwokCluster]:
    """Make a cluster without the admission policies that refuse Agents: their work must be done without them."""
    options = kwok.KwokOptions(
        nodes=10,
        audit_policy=AUDIT_POLICY,
        extra_args=("kube-apiserver=service-cluster-ip-range=10.96.0.0/16",),
        unlimited_qps=True,  # else the controllers are still busy with the agents of one test in the next
    )
    created = kwok.create(name, options)
    try:
        files = [option for name in policies for option in ("-f", f"manifests/admission/{name}.yaml")]
        for arguments in (["-k", "crds"], ["-k", "manifests/base"], files):
            if arguments:
                _kubectl(created, "apply", "--server-side", *arguments)
        names = [
            f"crd/{plural}.interlock.dev" for plural in ("agents", "agentpolicies", "mcpbindings", "budgetledgers")
        ]
        _kubectl(created, "wait", "--for=condition=Established", "--timeout=30s", *names)
        yield created
    finally:
        created.delete()


@contextlib.contextmanager
def operators_of(cluster: kwok.KwokCluster, folder: Path) -> Iterator[Operators]:
    """Run operators against a cluster, and the kill controller next to them, each with the rights of the real one."""
    client = Api(Access.of(cluster.kubeconfig))
    verifiers = VerificationJobs(lambda: Api(Access.of(cluster.kubeconfig))).start()
    access = write_kubeconfig(folder / "kubeconfig-kill", cluster, client, "interlock-kill")
    killer = kill_controller(access, folder / "kill.log", is_forked=True)
    killer.start()
    operators = Operators(cluster, folder, client, folder / "operator.log", verifiers, killer)
    yield operators
    operators.stop()
    killer.stop()
    verifiers.stop()
    client.close()


@pytest.fixture(scope="package")
def cluster() -> Iterator[kwok.KwokCluster]:
    with a_cluster(f"interlock-operator-{os.getpid()}") as created:
        yield created


@pytest.fixture(scope="package")
def api(cluster: kwok.KwokCluster) -> Iterator[Api]:
    client = Api(Access.of(cluster.kubeconfig))
    yield client
    client.close()


@pytest.fixture(scope="package")
def kubectl(cluster: kwok.KwokCluster) -> Callable[..., str]:
    """Run kubectl as the cluster's administrator."""
    return lambda *arguments: _kubectl(cluster, *arguments)


@pytest.fixture(scope="package")
def _operators(cluster: kwok.KwokCluster, api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operators]:
    with operators_of(cluster, tmp_path_factory.mktemp("operator")) as operators:
        yield operators


@pytest.fixture
def operators(_operators: Operators, request: pytest.FixtureRequest) -> Operators:
    """The operator; its log is printed with the failure of a test."""
    begin = _operators.log.stat().st_size if _operators.log.exists() else 0
    request.node.stash[_LOG] = (_operators.log, begin)
    return _operators


@pytest.fixture
def operator(operators: Operators) -> OperatorProcess:
    """The operator, running, straight at the API server."""
    return operators.use()


@pytest.fixture
def proxy(api: Api) -> Iterator[FaultProxy]:
    """A proxy to put between operator and API server: `operators.use(proxy.url)`."""
    made = FaultProxy(api.access)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def proxied(proxy: FaultProxy, operators: Operators) -> Iterator[OperatorProcess]:
    """The operator, running, behind the proxy."""
    yield operators.use(proxy.url)
    operators.stop()


@pytest.fixture
def sandbox(api: Api, _operators: Operators) -> Iterator[Sandbox]:
    """A namespace of the test's own."""
    with a_sandbox(_operators) as made:
        yield made


@pytest.fixture(scope="module")
def shared_sandbox(api: Api, _operators: Operators) -> Iterator[Sandbox]:
    """A namespace for all tests of a module, whose order must not matter."""
    with a_sandbox(_operators) as made:
        yield made


@contextlib.contextmanager
def a_sandbox(operators: Operators) -> Iterator[Sandbox]:
    """Make a namespace; take it away with its Agents first, so that nothing is healed while it is being emptied."""
    name, api = f"test-{uuid4().hex[:10]}", operators.api
    body = {"metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    api.request("POST", "/api/v1/namespaces", body)
    yield Sandbox(api, name, operators.is_running)
    operators.verifiers.reset()
    for plural in ("agents", "mcpbindings"):
        api.delete_all(plural, name)
    eventually(lambda: not api.listed("agents", name), "the test's Agents are gone", CLEAN_SECONDS)
    api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and _LOG in item.stash:
        path, begin = item.stash[_LOG]
        text = path.read_bytes()[begin:][-LOG_SHOWN:].decode(errors="replace") if path.exists() else ""
        report.sections.append(("operator log", text))
    return report


def _kubectl(cluster: kwok.KwokCluster, *arguments: str) -> str:
    done = subprocess.run(
        [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), "--context", cluster.context, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    check_kubectl(done.returncode, done.stderr)
    return done.stdout


__all__ = ["Operators", "Refused"]
