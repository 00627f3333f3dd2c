"""The page about records: its commands are run as they stand there, and its tables name what there is."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock_audit.chain_verifier import ChainVerifier
from interlock_audit.settings import AGENT_QUOTA, KEEP_DAYS, NAMESPACE_QUOTA
from interlock_audit.sqlite import open_sqlite
from interlock_audit.stores import Batch, Received
from interlock_contract.audit_chain import KINDS, open_line
from interlock_guard.downstream import authorizer
from tests.support.chains import ChainWriter
from tests.unit.guard.test_records import BUNDLE, Start, a_call, allowed, start

__all__ = ["start"]

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "explanation" / "audit.md").read_text(encoding="utf-8")


def steps() -> Iterator[tuple[str, str]]:
    """Yield each command of the page's consoles with what it prints there."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            yield command, output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the audit records of the page, and `python` on the path."""
    chain = ChainWriter().begin().call(3).deny(2).call(2)
    (tmp_path / "records.jsonl").write_bytes(chain.text())
    store = open_sqlite(tmp_path / "records.sqlite")
    lines = [Received(line.decode(), open_line(line)) for line in chain.lines]
    store.append(Batch("agents", "triage", lines, "2026-03-02T09:00:00.000Z"))
    store.close()
    (tmp_path / "bin").mkdir()
    python = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'
    (tmp_path / "bin" / "python").write_text(python)
    (tmp_path / "bin" / "python").chmod(0o755)
    return tmp_path


def test_every_command_prints_what_the_page_says(folder: Path) -> None:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    commands = list(steps())
    for command, output in commands:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env={"PATH": path, "PYTHONPATH": str(ROOT / "operator")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.stdout, done.stderr) == (output, ""), command
        assert done.returncode == (1 if "findings" in output else 0), command
    assert len(commands) >= 9


def test_every_field_and_every_kind_of_a_record_is_explained(start: Start) -> None:
    bench = start()
    bench.recorder.complete(bench.recorder.record(BUNDLE, a_call(), allowed()), "Answered", 0.1)
    fields = {name for line in bench.stored() for name in line.fields}
    assert {name for name in fields | KINDS if f"`{name}`" not in PAGE} == set()


def test_every_finding_of_the_verifier_is_explained() -> None:
    code = "".join(
        (ROOT / "operator" / "interlock_audit" / name).read_text(encoding="utf-8")
        for name in ("chain_verifier.py", "verify.py")
    )
    found = set(re.findall(r'add_finding\("([A-Z][a-z]+)"', code))
    assert found >= {"Damaged", "Misfiled"}
    assert {kind for kind in found if f"`{kind}`" not in PAGE} == set()
    assert ChainVerifier().finish().findings == ()


def test_the_defaults_on_the_page_are_the_codes() -> None:
    assert f"| `INTERLOCK_KEEP_DAYS` | {KEEP_DAYS} |" in PAGE
    assert f"| `INTERLOCK_AGENT_QUOTA_BYTES` | {AGENT_QUOTA} |" in PAGE
    assert f"| `INTERLOCK_NAMESPACE_QUOTA_BYTES` | {NAMESPACE_QUOTA} |" in PAGE


def test_every_outcome_is_explained() -> None:
    words = {value for name, value in vars(authorizer).items() if name.isupper() and isinstance(value, str)}
    assert words >= {"Answered", "NotAsked"}
    assert {word for word in words if f"| `{word}` |" not in PAGE} == set()
