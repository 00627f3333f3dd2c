"""Tests in parallel: real pods, real API servers and the rest, most of whose time is waiting.

`pytest --numprocesses N --dist loadscope` gives each group of tests to one process: what shares a cluster is a group,
all else is a group per module. The longest come first. Tests with real pods run in two lanes on one cluster; one that
changes what all of that cluster shares, such as its operator or its network, is marked `exclusive`: no other test with
real pods runs meanwhile. All exclusive tests are in the longer lane, at its end: by then the other one is through. So
the lanes take about as long as each other without them. The operator's tests are two groups, each with an API server
of its own, since one process would still run them when all others have ended.

Each process has to import all modules of tests, and in a fresh clone to compile them first. So each begins at another
place of each folder, and finds compiled what others have come to before. Nothing of it is garbage: the collector of
Python is off meanwhile, and leaves it alone afterwards.
"""

import contextlib
import fcntl
import gc
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from xdist.scheduler import LoadScopeScheduling

from tools.machine.settings import from_environment

Found = TypeVar("Found")

GROUPS = {
    "real pods, short": tuple(
        f"tests/e2e/test_{name}.py"
        for name in (
            *("adopt", "budget", "database", "first_agent", "import", "kill", "official_servers", "refusals"),
            *("staged_scope", "state", "tasks"),
        )
    ),
    "real pods, long": ("tests/e2e/",),
    "operator, first": tuple(f"tests/integration/operator/test_operator_{letter}" for letter in "abcdefghij"),
    "operator, second": ("tests/integration/operator/",),
    "API server": (
        "tests/integration/test_",
        "tests/integration/tools/",
        "tests/integration/guard/test_guard_real_api",
        "tests/integration/guard/test_guard_budget_real_api",
        "tests/integration/notify/test_notifier",
    ),
}
"""Which tests share a process, by how their ids begin; the first that fits counts.

The two groups with real pods share one cluster, each test in a namespace of its own.
"""
ORDER = ("real pods, long", "real pods, short", "API server", "operator, second", "operator, first")
"""The groups in the order in which they start; all other tests follow."""


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Schedules whole groups."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupScheduling:
    """Give pytest-xdist the groups that belong together."""
    return GroupScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage in modules and tests: a quarter of the time went into that."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let each process go through a folder from another place on."""
    report = yield
    if report.passed and isinstance(collector, pytest.Directory):
        report.result = turned(report.result, os.environ.get("PYTEST_XDIST_WORKER", ""), processes())
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups in order; every process must come to the same.

    Modules with exclusive tests come last in their group, each one whole: what a module shares is made once.
    """
    order = {name: place for place, name in enumerate(ORDER)}
    exclusive = {module_of(item.nodeid) for item in items if is_exclusive(item)}

    def place(item: pytest.Item) -> tuple[int, bool, str, bool]:
        group, module = order.get(group_of(item.nodeid), len(order)), module_of(item.nodeid)
        return group, module in exclusive, module, is_exclusive(item)

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for this test's turn, before its timeout begins to count."""
    if item.get_closest_marker("kind") is None:
        return (yield)
    with _turn(from_environment().run, exclusively=is_exclusive(item)):
        return (yield)


def processes() -> int:
    """Return how many processes run the tests."""
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def turned(found: Sequence[Found], process: str, count: int) -> list[Found]:
    """Return what was found in a folder, from the place on where a process begins.

    Args:
        found: In its order.
        process: As pytest-xdist names it, such as `gw1`; another name changes nothing.
        count: How many processes there are.
    """
    number = process.removeprefix("gw")
    start = int(number) * len(found) // count if number.isdigit() else 0
    return [*found[start:], *found[:start]]


def group_of(nodeid: str) -> str:
    """Return the name of a test's group, by its id: its module where it shares nothing."""
    for name, beginnings in GROUPS.items():
        if nodeid.startswith(beginnings):
            return name
    return module_of(nodeid)


def module_of(nodeid: str) -> str:
    """Return the path of a test's module, by its id."""
    return nodeid.partition("::")[0]


def is_exclusive(item: pytest.Item) -> bool:
    """Return True if no other test with real pods may run meanwhile."""
    return item.get_closest_marker("exclusive") is not None


@contextlib.contextmanager
def _turn(folder: Path, *, exclusively: bool) -> Iterator[None]:
    """Use the cluster with others, or alone; the queue keeps newcomers out while an exclusive test waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tests-cluster.lock").open("w") as cluster:
        with (folder / "tests-queue.lock").open("w") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            fcntl.flock(cluster, fcntl.LOCK_EX if exclusively else fcntl.LOCK_SH)
        yield
