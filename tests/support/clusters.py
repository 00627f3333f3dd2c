"""Clusters for tests: which can be had here, made before the first test, gone after the last, never a user's own.

Tests with real pods get a kind cluster of their own, `interlock-test`: they install, restart and kill the operator,
which belongs to a whole cluster, so that a demo in `interlock` could not go on next to them. The processes of one run
share it (`tests/support/lanes.py`). It has a second node if a test of the run uses the fixture `second_node`.
"""

import contextlib
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.lanes import Lanes, run_id
from tools.cluster import contexts, images, kind, kwok, programs
from tools.cluster.kind import KindCluster
from tools.cluster.kwok import KwokCluster
from tools.machine.errors import ClusterError, UnavailableError
from tools.machine.locks import Lock
from tools.machine.process import say
from tools.machine.settings import Settings, from_environment

KIND_NAME = "interlock-test"
TWO_NODES = Path(__file__).with_name("two-nodes.yaml")
POOL = {"example.com/pool": "agents"}
"""Label of the second node. Its taint has the same key and value, and the effect NoSchedule."""
KEEP = "INTERLOCK_KEEP_TEST_CLUSTER"
"""Set to anything: the kind cluster stays after the tests, and the next run takes it as it is."""
WAIT_SECONDS = 1800.0
LEFT_OUT = "interlock_left_out"


@dataclass
class Preparation:
    """What was made ready for this session.

    Attributes:
        left_out: why the tests with a marker do not run, by marker.
        failures: why a cluster that should be here is not.
        prepared: the markers whose clusters need no further work.
        kind_tests: how many tests of this run, in all its processes, need real pods.
        lanes: the processes that share the kind cluster.
        kind_lock: the claim on the kind cluster, in the process that made it.
    """

    settings: Settings
    lanes: Lanes
    left_out: dict[str, str] = field(default_factory=dict)
    failures: dict[str, ClusterError] = field(default_factory=dict)
    prepared: set[str] = field(default_factory=set)
    kind_tests: int = 0
    kind_cluster: KindCluster | None = None
    kind_lock: Lock | None = None


_PREPARATION = pytest.StashKey[Preparation]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing in a test finds the user's own cluster, whatever it forgets to say."""
    os.environ["KUBECONFIG"] = os.devnull
    os.environ.pop("KUBERNETES_SERVICE_HOST", None)
    settings = from_environment()
    config.stash[_PREPARATION] = Preparation(settings, Lanes(settings.run / f"tests-{run_id()}"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot do, with the sentence that says why."""
    preparation = config.stash[_PREPARATION]
    for marker, reason in (
        ("api", kwok.impossible(preparation.settings) if _marked(items, "api") else None),
        ("kind", kind.impossible(preparation.settings) if _marked(items, "kind") else None),
    ):
        if reason:
            _leave_out(preparation, items, marker, reason)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the tests that share the kind cluster, once it is settled which tests run."""
    session.config.stash[_PREPARATION].kind_tests = sum(map(_shares_kind, session.items))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Make what this test needs before its timeout begins to count: builds take longer than a test may."""
    preparation = item.config.stash[_PREPARATION]
    for marker, is_needed in (("api", item.get_closest_marker("api") is not None), ("kind", _shares_kind(item))):
        if is_needed and marker not in preparation.prepared:
            _prepare(preparation, marker, item.session)
    result = yield
    has_used_it = preparation.kind_cluster is not None and _shares_kind(item)
    if has_used_it and preparation.lanes.note_end_of_test() == preparation.kind_tests:
        _take_kind_away(item.config)  # no test needs it any longer, and others need the processor
    return result


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take the kind cluster away again, also after Ctrl-C; the summary stays the last that is said."""
    preparation = session.config.stash[_PREPARATION]
    _leave_kind(session.config)
    if (to_controller := getattr(session.config, "workeroutput", None)) is not None:
        to_controller[LEFT_OUT] = preparation.left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process that ran tests has left out (pytest-xdist's hook)."""
    for marker, reason in getattr(node, "workeroutput", {}).get(LEFT_OUT, {}).items():
        node.config.stash[_PREPARATION].left_out.setdefault(marker, reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what did not run, so that a green run never claims more than it ran."""
    skipped = terminalreporter.stats.get("skipped", [])
    for marker, reason in config.stash[_PREPARATION].left_out.items():
        count = sum(marker in report.keywords for report in skipped)
        terminalreporter.write_line(f"left out: {count} tests marked {marker!r}: {reason}")


@pytest.fixture(scope="session")
def kwok_cluster(pytestconfig: pytest.Config) -> Iterator[KwokCluster]:
    """A fresh API server for this session, without nodes' reality; another run cleans up after a killed one."""
    preparation = pytestconfig.stash[_PREPARATION]
    _raise_failure(preparation, "api")
    with own_kwok_cluster("test", settings=preparation.settings) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def oldest_cluster(pytestconfig: pytest.Config) -> Iterator[KwokCluster]:
    """The API server of the oldest Kubernetes that Interlock supports, without controllers, nodes and pods."""
    preparation = pytestconfig.stash[_PREPARATION]
    _raise_failure(preparation, "api")
    options = kwok.KwokOptions(nodes=0, api_server=programs.OLDEST)
    with own_kwok_cluster("oldest", options, preparation.settings) as cluster:
        yield cluster


@contextlib.contextmanager
def own_kwok_cluster(
    name: str, options: kwok.KwokOptions | None = None, settings: Settings | None = None
) -> Iterator[KwokCluster]:
    """Make a kwok cluster that belongs to this process, and delete it at the end."""
    cluster = kwok.create(f"interlock-{name}-{os.getpid()}", options, settings)
    try:
        contexts.check_kubeconfig(cluster.kubeconfig)
        yield cluster
    finally:
        cluster.delete()


@contextlib.contextmanager
def own_kind_name(name: str, settings: Settings) -> Iterator[None]:
    """Keep other processes from a kind cluster, which is not there at first and is deleted at the end."""
    lock = kind.claim(name, settings)
    assert lock is not None, f"another run uses the cluster {name}"
    try:
        kind.down([name], settings)
        yield
    finally:
        kind.down([name], settings)
        lock.release()


@pytest.fixture(scope="session")
def lanes(pytestconfig: pytest.Config) -> Lanes:
    """The processes of this run that share the kind cluster."""
    return pytestconfig.stash[_PREPARATION].lanes


@pytest.fixture(scope="session")
def kind_cluster(pytestconfig: pytest.Config) -> KindCluster:
    """A cluster with real pods, our images on its node."""
    preparation = pytestconfig.stash[_PREPARATION]
    _raise_failure(preparation, "kind")
    cluster = preparation.kind_cluster
    assert cluster is not None, "a test that asks for kind_cluster needs the marker `kind`"
    contexts.check_kubeconfig(cluster.kubeconfig)
    return cluster


@pytest.fixture(scope="session")
def second_node(kind_cluster: KindCluster) -> str:
    """The node of the cluster that has label and taint `POOL`. All modules that use it are in one lane."""
    [name] = [node for node in kind_cluster.nodes() if node.endswith("-worker")]
    return name


def _prepare(preparation: Preparation, marker: str, session: pytest.Session) -> None:
    preparation.prepared.add(marker)
    if marker in preparation.left_out:
        return
    try:
        with _said_aloud(session.config):
            if marker == "api":
                wanted = (*programs.KWOK, programs.OLDEST) if _is_used(session, "oldest_cluster") else programs.KWOK
                programs.ensure(preparation.settings, wanted)
            else:
                _prepare_kind(preparation, TWO_NODES if _is_used(session, "second_node") else None)
    except UnavailableError as error:
        _leave_out(preparation, session.items, marker, str(error))
    except ClusterError as error:
        preparation.failures[marker] = error
        with _said_aloud(session.config):
            say(str(error))


def _is_used(session: pytest.Session, fixture: str) -> bool:
    """Return True if a test of this run uses the fixture."""
    return any(fixture in getattr(item, "fixturenames", ()) for item in session.items)


def _shares_kind(item: pytest.Item) -> bool:
    """Return True if the test uses the shared kind cluster: some with the marker make one of their own."""
    return item.get_closest_marker("kind") is not None and "kind_cluster" in getattr(item, "fixturenames", ())


def _said_aloud(config: pytest.Config) -> contextlib.AbstractContextManager[None]:
    """Let through what the tools say of their work: it may take long, and a user waits."""
    capture = config.pluginmanager.getplugin("capturemanager")
    through: contextlib.AbstractContextManager[None] = capture.global_and_fixture_disabled()
    return through


def _take_kind_away(config: pytest.Config) -> None:
    preparation = config.stash[_PREPARATION]
    if not os.environ.get(KEEP) and not preparation.lanes.is_taken_away:
        with _said_aloud(config):
            kind.down([KIND_NAME], preparation.settings)
        preparation.lanes.note_taken_away()


def _leave_kind(config: pytest.Config) -> None:
    """End this process' use of the kind cluster; the process that made it waits for the others, and cleans up."""
    preparation = config.stash[_PREPARATION]
    preparation.lanes.leave()
    if preparation.kind_lock is None:
        return
    try:
        preparation.lanes.wait_for_others()
        _take_kind_away(config)
        preparation.lanes.forget()
    finally:
        preparation.kind_lock.release()
        preparation.kind_lock = None


def _prepare_kind(preparation: Preparation, config: Path | None) -> None:
    with preparation.lanes.entering() as is_first:
        if is_first:
            preparation.kind_lock = _own_kind_cluster(preparation.settings)
            left = kind.find(KIND_NAME, preparation.settings)
            if left is not None and (reason := _unusable(left, config)):
                say(f"cluster {KIND_NAME}: {reason}, so it is recreated")
                kind.down([KIND_NAME], preparation.settings)
        cluster = kind.ensure(KIND_NAME, config, preparation.settings)
        if is_first:
            images.ensure_on(cluster)
    preparation.kind_cluster = cluster


def _unusable(left: KindCluster, config: Path | None) -> str:
    """Return why a cluster of an earlier run cannot be used, an empty string if it can."""
    if not os.environ.get(KEEP):
        return "left by a run that was killed"
    return "has no second node" if config is TWO_NODES and len(left.nodes()) == 1 else ""


def _own_kind_cluster(settings: Settings) -> Lock:
    deadline = time.monotonic() + WAIT_SECONDS
    waiting = False
    while (lock := kind.claim(KIND_NAME, settings)) is None:
        if time.monotonic() > deadline:
            raise ClusterError(f"cluster {KIND_NAME} has belonged to another test run for {WAIT_SECONDS:.0f} s")
        if not waiting:
            say(f"cluster {KIND_NAME}: another test run uses it; waiting for its end")
            waiting = True
        time.sleep(1)
    return lock


def _marked(items: Iterable[pytest.Item], marker: str) -> list[pytest.Item]:
    return [item for item in items if item.get_closest_marker(marker)]


def _leave_out(preparation: Preparation, items: Sequence[pytest.Item], marker: str, reason: str) -> None:
    preparation.left_out[marker] = reason
    for item in _marked(items, marker):
        item.add_marker(pytest.mark.skip(reason=reason))


def _raise_failure(preparation: Preparation, marker: str) -> None:
    if marker in preparation.failures:
        raise preparation.failures[marker]
