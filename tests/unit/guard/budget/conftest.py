"""Guards on ledgers in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.budget_bench import BudgetBench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[BudgetBench]:
    found = BudgetBench(tmp_path)
    yield found
    await found.close()
