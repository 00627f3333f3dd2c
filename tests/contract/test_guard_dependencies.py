"""The guard is small because of what it does not import."""

import json
import subprocess
import sys
from pathlib import Path

OPERATOR = Path(__file__).parents[2] / "operator"
FORBIDDEN = {"interlock", "kopf", "kubernetes", "pydantic", "yaml", "prometheus_client", "httpx2", "mcp", "mcp_types"}


def test_the_guard_imports_nothing_of_the_control_plane() -> None:
    program = "import json, sys, interlock_guard.__main__; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(OPERATOR)},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    modules = json.loads(done.stdout)
    assert "interlock_guard.clients.server" in modules
    assert {name.partition(".")[0] for name in modules} & FORBIDDEN == set()
