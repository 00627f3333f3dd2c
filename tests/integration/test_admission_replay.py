"""Real guards in random schedules: admission takes every write of theirs, on a real API server.

The schedules run in virtual time, against ledgers in memory. Each write is then sent to the API server in the name of
the pod that made it. The policy there is that of the manifests, with the clock of the schedule.
"""

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from interlock_contract.budget.ledger import Ledger, LedgerWindow, dump_ledger, parse_ledger
from interlock_contract.clock import write_time
from tests.integration.callers import Caller
from tests.integration.kubectl import ROOT, Cluster, Kubectl
from tests.integration.ledger_place import DAY, LedgerPlace, ledger_place, write
from tests.requirements import requirement
from tests.support import bounds
from tests.support.guard_schedule import EVENING, OWN, Connection, GuardSchedule
from tests.support.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.api

POLICY = ROOT / "manifests/admission/budgetledgers.yaml"
SEEDS = range(8)
CLOCK = "Impersonate-Extra-schedule"


@dataclass
class Write:
    """One write of a guard: its pod, the ledger, its status before and after, and the time."""

    connection: Connection
    name: str
    before: dict[str, Any]
    after: dict[str, Any]
    now: int


@dataclass
class Recorded:
    """The writes of all guards of a schedule, and the pod of each connection."""

    writes: list[Write] = field(default_factory=list)
    pods: list[tuple[Connection, str]] = field(default_factory=list)

    def pod_of(self, connection: Connection) -> str:
        return next(pod for known, pod in self.pods if known is connection)


def record(seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Run a schedule, and return the writes of its guards."""
    found = Recorded()
    update, start = Connection.update, GuardSchedule.start

    async def run() -> None:
        schedule = GuardSchedule(seed, folder)
        store = schedule.store.update

        async def stored(path: str, body: dict[str, Any], *more: Any) -> dict[str, Any]:
            name = path.removesuffix("/status").rpartition("/")[2]
            before = schedule.store.objects[name]["status"]
            answer = await store(path, body, *more)
            found.writes.append(Write(writing.get(), name, before, body["status"], schedule.now()))
            return answer

        monkeypatch.setattr(schedule.store, "update", stored)
        await schedule.run()

    writing: ContextVar[Connection] = ContextVar("writing")

    async def updated(self: Connection, *arguments: Any) -> dict[str, Any]:
        writing.set(self)
        return await update(self, *arguments)

    def started(self: GuardSchedule, pod: str) -> None:
        start(self, pod)
        found.pods.append((self.guards[-1].connection, pod))

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "update", updated)
        patch.setattr(GuardSchedule, "start", started)
        run_in_virtual_time(run())
    return found


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[LedgerPlace]:
    for made in ledger_place(kwok_cluster):
        text = POLICY.read_text(encoding="utf-8")
        line = next(line for line in text.splitlines() if "object.metadata.managedFields" in line)
        changed = text.replace(line, "      timestamp(request.userInfo.extra['schedule'][0])")
        Kubectl(kwok_cluster).must("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=changed)
        with made.full_ledgers():
            _wait_for_clock(made)
            yield made


def _wait_for_clock(place: LedgerPlace) -> None:
    """Wait until a day can begin that is long over by the clock of the API server."""
    place.reset(place.own, Ledger())
    first = Ledger(LedgerWindow(EVENING, EVENING + DAY), LedgerWindow(EVENING, EVENING + 30 * DAY))
    caller = at(place.guard(), EVENING)
    bounds.eventually(lambda: write(caller, place.own, first).status == 200, "the clock is the schedule's", 30.0)


def at(caller: Caller, now: int) -> Caller:
    """Return a caller whose requests come at a time of the schedule."""
    return replace(caller, headers={**caller.headers, CLOCK: write_time(datetime.fromtimestamp(now, UTC), "seconds")})


@requirement("budget.ledger-writers")
@pytest.mark.parametrize("seed", SEEDS)
def test_admission_takes_every_write_of_a_guard(
    place: LedgerPlace, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = record(seed, tmp_path, monkeypatch)
    assert len(recorded.writes) > 5
    now = {OWN: place.own}
    stored: dict[str, dict[str, Any]] = {}
    for one in recorded.writes:
        path = now.get(one.name, place.total)
        if stored.get(one.name) != one.before:  # the operator has written, or a credit was given
            place.reset(path, parse_ledger(one.before))
        caller = place.guard(pod_uid=recorded.pod_of(one.connection))
        reply = write(at(caller, one.now), path, parse_ledger(one.after))
        assert reply.status == 200, f"{reply.text}\n{one.before}\n{one.after}"
        stored[one.name] = dump_ledger(parse_ledger(one.after))
