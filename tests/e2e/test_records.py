"""Records of an agent's calls on real pods: they outlive their pod, are whole, and show what was changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from interlock_audit.remote import Remote
from interlock_audit.stores import all_lines
from interlock_audit.verify import FOUND, OK, UNREADABLE
from tests.e2e.conftest import audit_reader
from tests.e2e.live import ROOT, Live, eventually
from tests.requirements import requirement
from tests.support.examples import example_objects

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(300)]

AGENT = "first-agent"
COLLECTOR = ("-n", "interlock-system", "exec", "deployment/interlock-audit", "--")
DATABASE = "/var/lib/interlock-audit/records.sqlite"
COPY = "/tmp/copy.sqlite"  # noqa: S108 - in the collector's container
FALSIFY = """
import sqlite3, sys
namespace, original, copy = sys.argv[1], *map(sqlite3.connect, sys.argv[2:])
original.backup(copy)
denial = "SELECT guard, seq FROM records WHERE guard LIKE ? AND decision = 'Deny' ORDER BY seq LIMIT 1"
[one] = copy.execute(denial, (namespace + "/%",))
copy.execute("UPDATE records SET line = replace(line, '\\"Deny\\"', '\\"Allow\\"') WHERE guard = ? AND seq = ?", one)
copy.commit()
print(*one)
"""


def verify(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "interlock_audit.verify", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@requirement("records.on-a-cluster")
def test_records_outlive_their_pod_and_are_whole_and_what_was_changed_is_found(
    live: Live, auditor: Path, collector: str, tmp_path: Path
) -> None:
    live.apply(*example_objects("01-first-agent", live.namespace))
    live.until_ready(AGENT)
    eventually(lambda: len(live.decisions(AGENT)) >= 10, 60, lambda: live.agent_log(AGENT)[-2000:])
    written = live.records(AGENT)
    [pod] = live.pods(AGENT)
    guard = json.loads(written[0])["guard"]
    assert guard.startswith(f"{live.namespace}/{pod['metadata']['name']}/")
    live.annotate(AGENT, "seen enough")
    eventually(lambda: not live.pods(AGENT), 60, lambda: str(live.starting_pods(AGENT)))

    kept = [stored.text for stored in all_lines(Remote(collector, auditor), guard)]
    assert kept[: len(written)] == written
    here = ("--url", collector, "--namespace", live.namespace)
    code, said = verify(*here, "--token", auditor)
    assert (code, said.rpartition(": ")[2][:8]) == (OK, "complete"), said

    stranger = audit_reader(live, "stranger", tmp_path)
    assert verify(*here, "--token", stranger)[0] == UNREADABLE

    changed = live.kubectl(*COLLECTOR, "python", "-c", FALSIFY, live.namespace, DATABASE, COPY).split()
    again = ("python", "-m", "interlock_audit.verify", "--sqlite", COPY, "--namespace", live.namespace)
    checked = live.attempt(*COLLECTOR, *again)
    assert f"Damaged: {guard} {changed[1]}: " in checked.stdout, checked.stdout
    assert (checked.returncode, changed[0]) == (FOUND, guard)
