"""Tests beside each other: real pods, real API servers and the rest, most of whose time is waiting.

`pytest --numprocesses N --dist loadscope` gives each group of tests to one process: what shares a cluster is a group,
all else is a group per module. The longest come first. A test that is bound to a promised time is marked `alone`:
while it runs, no other process starts a test, so that the machine is its own.
"""

import contextlib
import fcntl
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tools.machine.settings import from_environment

GROUPS = {
    "real pods": ("tests/e2e/",),
    "operator, slow": (
        "tests/integration/operator/test_operator_quiet.py",
        "tests/integration/operator/test_operator_crash_points.py",
    ),
    "operator": ("tests/integration/operator/",),
    "API server": (
        "tests/integration/test_",
        "tests/integration/tools/",
        "tests/integration/guard/test_guard_real_api",
    ),
}
"""Which tests share a cluster, by how their ids begin; the longest first, and the first that fits counts."""


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Schedules whole groups."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupScheduling:
    """Tell pytest-xdist what belongs together."""
    return GroupScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups in order; every process must come to the same.

    Whoever wants to be alone comes last in its group: by then nobody else has a long test under way that all would
    have to wait for.
    """
    order = {name: place for place, name in enumerate(GROUPS)}

    def place(item: pytest.Item) -> tuple[int, bool]:
        return order.get(group_of(item.nodeid), len(order)), item.get_closest_marker("alone") is not None

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for this test's turn, before its timeout begins to count."""
    with _turn(from_environment().run, is_alone=item.get_closest_marker("alone") is not None):
        return (yield)


def group_of(nodeid: str) -> str:
    """Return the name of a test's group, by its id: its module where it shares nothing."""
    for name, beginnings in GROUPS.items():
        if nodeid.startswith(beginnings):
            return name
    return nodeid.partition("::")[0]


@contextlib.contextmanager
def _turn(folder: Path, *, is_alone: bool) -> Iterator[None]:
    """Be in the room with others, or alone; the gate keeps newcomers out while somebody waits to be alone."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tests-room.lock").open("w") as room:
        with (folder / "tests-gate.lock").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        yield
