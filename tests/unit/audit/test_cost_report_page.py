"""The page about reports on costs: its commands run here on records of a month, and print what the page says."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from interlock_audit.cost_formats import FOCUS_COLUMNS
from interlock_audit.cost_report import DIMENSIONS, MOST_ROWS
from interlock_audit.sqlite import open_sqlite
from tests.support.costs import PaidCalls
from tests.support.page_commands import files, printed

ROOT = Path(__file__).parents[3]
PAGE = "docs/how-to/cost-report.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
KUBECTL = """#!/bin/sh
if [ "$1" = get ]; then cat agents.json; exit; fi
while [ "$1" != -- ]; do shift; done
shift; exec "$@"
"""
GPT = {"answeredModel": "gpt-4o-2024-08-06"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the records of the page, and with `kubectl` and `python` on the path."""
    store = open_sqlite(tmp_path / "records.sqlite")
    triage = PaidCalls("support-triage")
    usage = {"inputTokens": 2000, "cachedInputTokens": 1000, "outputTokens": 400}
    triage.call("0.0103", time="2026-03-02T09:00:00.000Z", outcome={**GPT, "usage": usage})
    usage = {"inputTokens": 2200, "outputTokens": 400, "reasoningTokens": 40}
    triage.call("0.0099", time="2026-03-02T10:00:00.000Z", outcome={**GPT, "usage": usage})
    usage = {"inputTokens": 1200, "outputTokens": 150}
    bound = {**GPT, "costBasis": "Reservation", "usage": usage}
    triage.call("0.0045", time="2026-03-03T09:00:00.000Z", environment="staging", outcome=bound).store(store)
    usage = {"inputTokens": 1000, "cachedInputTokens": 38000, "cacheWrite5mTokens": 2000, "outputTokens": 2100}
    claude = {"owner": "grace@example.com", "tool": "anthropic/claude-sonnet-4-5"}
    check = PaidCalls("invoice-check")
    check.call("0.0549", time="2026-03-03T10:00:00.000Z", outcome={"usage": usage}, **claude).store(store)
    store.close()
    metadata = {"namespace": "agents", "name": "support-triage", "labels": {"team": "support"}}
    (tmp_path / "agents.json").write_text(json.dumps({"items": [{"metadata": metadata, "spec": {}}]}))
    (tmp_path / "bin").mkdir()
    programs = {"python": f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', "kubectl": KUBECTL}
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def test_every_command_prints_what_the_page_says(folder: Path) -> None:
    for name, content in files(ROOT, PAGE):
        (folder / name).write_text(content)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT / "operator"), "INTERLOCK_SQLITE": "records.sqlite"}
    commands = list(printed(ROOT, PAGE))
    for one in commands:
        done = subprocess.run(
            ["sh", "-c", one.command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.stdout.splitlines(), done.stderr) == (list(one.output), ""), one.command
    assert len(commands) == 5
    head, *lines = (folder / "focus.csv").read_text().splitlines()
    assert head.startswith(",".join(FOCUS_COLUMNS))
    assert len(lines) == 3


def test_every_dimension_and_every_bound_is_explained() -> None:
    assert [name for name in DIMENSIONS if f"| `{name}` |" not in TEXT] == []
    assert f"at most {MOST_ROWS // 1000} 000 rows" in TEXT
