"""Guards on ledgers in memory. What waits there takes no time: the loop's clock jumps."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from tests.support.budget_bench import BudgetBench
from tests.support.virtual_time import VirtualLoop, clock_of


def pytest_asyncio_loop_factories(item: pytest.Function) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give a test a loop in virtual time where its fixtures ask for one (pytest-asyncio's hook)."""
    return {"loop": VirtualLoop if "virtual_clock" in item.fixturenames else asyncio.new_event_loop}


@pytest.fixture
async def virtual_clock() -> AsyncIterator[None]:
    """Let guards measure time by the loop, whose pauses between two tries are the same in each run."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    random.seed(5)
    with clock_of(loop):
        yield


@pytest.fixture
async def bench(tmp_path: Path, virtual_clock: None) -> AsyncIterator[BudgetBench]:
    found = BudgetBench(tmp_path)
    yield found
    await found.close()
