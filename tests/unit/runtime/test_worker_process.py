"""The worker process: a computation has a deadline and a bound of its memory, and its end costs one turn."""

import asyncio
import difflib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from interlock.action.pins import diff_changes
from interlock.runtime import worker_process
from interlock.runtime.worker_process import MAX_REQUEST, WorkerDefect, WorkerProcess, _Turns
from interlock_kube.reconcile_loop import TooCostly
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS, until

Workers = Callable[..., WorkerProcess]


def a_request(before: str = '{"a":1}', after: str = '{"a":2}') -> bytes:
    change = {"name": "tool get_contact", "state": "Changed", "before": before, "after": after}
    return json.dumps({"where": "here", "changes": [change]}).encode()


@pytest_asyncio.fixture
async def workers() -> AsyncIterator[Workers]:
    """Makes workers that are closed at the end."""
    made: list[WorkerProcess] = []

    def make(deadline: float = WAIT_SECONDS, **bounds: float) -> WorkerProcess:
        made.append(WorkerProcess(deadline=deadline, **bounds))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for worker in made:
        await worker.close()


def pid_of(worker: WorkerProcess) -> int:
    process = worker._process  # noqa: SLF001 - the process has no other trace
    assert process is not None
    return process.pid


async def test_a_computation_has_the_result_of_its_function(workers: Workers) -> None:
    worker = workers()
    assert await worker.run("agents", "drift", a_request()) == diff_changes(a_request())
    pid = pid_of(worker)
    assert await worker.run("agents", "drift", a_request(after='{"a":3}')) == diff_changes(a_request(after='{"a":3}'))
    assert pid_of(worker) == pid, "one process for many computations"


@requirement("operator.costly")
async def test_a_deadline_ends_the_process_and_the_next_computation_has_another(workers: Workers) -> None:
    worker = workers()
    await worker.run("agents", "drift", a_request())
    pid = pid_of(worker)
    os.kill(pid, signal.SIGSTOP)  # it computes for ever
    worker._deadline = 0.2  # noqa: SLF001 - it ends at the deadline, however long that is
    with pytest.raises(TooCostly, match=r"it took more than 0\.2 s"):
        await worker.run("agents", "drift", a_request(after='{"a":4}'))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

    worker._deadline = WAIT_SECONDS  # noqa: SLF001 - as above
    assert b"5" in await worker.run("agents", "drift", a_request(after='{"a":5}'))


@requirement("operator.costly")
async def test_a_process_that_dies_fails_one_computation(workers: Workers) -> None:
    worker = workers()
    await worker.run("agents", "drift", a_request())
    os.kill(pid_of(worker), signal.SIGSTOP)
    failing = asyncio.create_task(worker.run("agents", "drift", a_request(after='{"a":6}')))
    await asyncio.sleep(0)
    os.kill(pid_of(worker), signal.SIGKILL)
    with pytest.raises(TooCostly, match=r"its process, .* ended"):
        await failing

    assert b"7" in await worker.run("agents", "drift", a_request(after='{"a":7}'))


@requirement("operator.costly")
async def test_a_computation_beyond_its_memory_fails(workers: Workers) -> None:
    worker = workers(memory=100 * 2**20)
    members = ",".join(f'"{index}":{index}' for index in range(300_000))  # ten times its size as Python's objects
    with pytest.raises(TooCostly, match="which may have 100 MiB of memory, ended"):
        await worker.run("agents", "drift", a_request(before="{" + members + "}", after="{" + members + ',"x":1}'))


async def test_a_defect_of_a_computation_is_told_without_what_it_computed_on(workers: Workers) -> None:
    worker = workers()
    with pytest.raises(WorkerDefect, match="JSONDecodeError") as failure:
        await worker.run("agents", "drift", b"hunter2")
    assert "hunter2" not in str(failure.value)
    assert await worker.run("agents", "drift", a_request())


@requirement("operator.costly")
async def test_the_same_input_is_computed_once_whatever_came_of_it(workers: Workers) -> None:
    worker = workers()
    result = await worker.run("agents", "drift", a_request())
    os.kill(pid_of(worker), signal.SIGSTOP)
    assert await worker.run("agents", "drift", a_request()) == result

    worker._deadline = 0.2  # noqa: SLF001 - it ends at the deadline, however long that is
    for _ in range(2):
        with pytest.raises(TooCostly, match=r"it took more than 0\.2 s"):
            await worker.run("agents", "drift", a_request(after='{"a":8}'))
    assert worker._process is None, "the second time no process was started"  # noqa: SLF001 - no other trace


async def test_an_input_without_bounds_is_refused(workers: Workers) -> None:
    worker = workers()
    with pytest.raises(TooCostly, match=f"its input has more than {MAX_REQUEST} bytes"):
        await worker.run("agents", "drift", b" " * (MAX_REQUEST + 1))


async def test_a_cancelled_computation_leaves_no_answer_for_the_next_one(workers: Workers) -> None:
    worker = workers()
    await worker.run("agents", "drift", a_request())
    os.kill(pid_of(worker), signal.SIGSTOP)
    turn = asyncio.create_task(worker.run("agents", "drift", a_request(after='{"a":9}')))
    await asyncio.sleep(0)
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)

    assert b"10" in await worker.run("agents", "drift", a_request(after='{"a":10}'))


async def test_a_process_without_work_ends(workers: Workers) -> None:
    worker = workers(idle=0.01)
    await worker.run("agents", "drift", a_request())
    process = worker._process  # noqa: SLF001 - no other trace
    assert process is not None
    await until(lambda: process.returncode == 0, "the process has ended")
    assert await worker.run("agents", "drift", a_request(after='{"a":11}'))


HOSTILE = 101


def hostile(step: int, length: int) -> str:
    """A definition whose lines repeat as rarely as difflib's own shortcut allows: its time grows with their cube."""
    return json.dumps({"name": "get_contact", "inputSchema": [(step * index) % HOSTILE for index in range(length)]})


@requirement("operator.costly")
async def test_a_hostile_difference_is_too_large_and_never_computed(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 60_000  # 384 KiB of definitions are kept
    diff = (await workers().run("agents", "drift", a_request(hostile(1, length), hostile(2, length)))).decode()
    assert diff == "tool get_contact: changed; the difference is too large to be shown; compare here"

    compared: list[int] = []

    def compare(old: list[str], new: list[str], *_: str, **__: object) -> list[str]:
        compared.append(len(old) + len(new))
        return ["-a", "+b"] * 10_000

    monkeypatch.setattr(difflib, "unified_diff", compare)
    change = {"name": "t", "state": "Changed", "before": hostile(1, 900), "after": hostile(2, 900)}
    diff_changes(json.dumps({"where": "here", "changes": [change] * 512}).encode())
    assert len(compared) == 1, "no difference is compared for beyond the room of the status"
    assert compared[0] <= 2004


def test_the_lines_of_a_difference_in_a_long_definition_have_their_own_numbers() -> None:
    before = json.dumps({"items": list(range(5000)), "name": "a"})
    after = before.replace("4000", "-1")
    text = diff_changes(a_request(before, after)).decode()
    assert text.splitlines()[2:] == ["@@ -4002,3 +4002,3 @@", "     3999,", "-    4000,", "+    -1,", "     4001,"]


def test_a_process_has_no_credentials() -> None:
    assert "KUBECONFIG" not in worker_process.KEPT_VARIABLES
    assert [name for name in worker_process.KEPT_VARIABLES if "KUBERNETES" in name] == []


class Computing(WorkerProcess):
    """A worker process whose computations end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.ends: list[asyncio.Future[bytes]] = []

    async def _compute(self, task: str, request: bytes) -> bytes:
        assert task == "drift"
        self.begun.append(request.decode())
        self.ends.append(asyncio.get_running_loop().create_future())
        return await self.ends[-1]

    def ask(self, namespace: str, number: int) -> asyncio.Task[bytes]:
        return asyncio.create_task(self.run(namespace, "drift", f"{namespace}{number}".encode()))

    async def end_one(self) -> None:
        count = len(self.begun)
        self.ends[-1].set_result(b"")
        await turns()
        assert len(self.begun) <= count + 1, "one computation at a time"


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@requirement("operator.fair")
async def test_namespaces_have_the_process_in_turn() -> None:
    worker = Computing()
    asked = [worker.ask("crowd", number) for number in range(4)]
    await turns()
    asked += [worker.ask("other", 0), worker.ask("other", 1), worker.ask("third", 0)]
    await turns()
    assert worker.begun == ["crowd0"]

    for _ in range(len(asked)):
        await worker.end_one()

    assert worker.begun == ["crowd0", "crowd1", "other0", "third0", "crowd2", "other1", "crowd3"]
    assert all(task.done() for task in asked)
    assert not worker._turns.is_taken  # noqa: SLF001 - nothing else shows that the lock is free


@requirement("operator.fair")
async def test_a_computation_that_is_no_longer_wanted_keeps_none_waiting() -> None:
    lock, began = _Turns(), list[str]()

    async def hold(namespace: str) -> None:
        async with lock.of(namespace):
            began.append(namespace)

    async with lock.of("a"):
        asked = [asyncio.create_task(hold(namespace)) for namespace in "bcd"]
        await turns()
        asked[0].cancel()
        await turns()
    asked[1].cancel()  # it was given the lock, and does not know yet
    await turns()

    assert (began, lock.is_taken) == (["d"], False)
