"""The guard is small because of what it does not import."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.certificates import an_authority

OPERATOR = Path(__file__).parents[2] / "operator"
FORBIDDEN = {"interlock", "kopf", "kubernetes", "pydantic", "yaml", "prometheus_client", "httpx2", "mcp", "mcp_types"}


def test_the_guard_imports_nothing_of_the_control_plane() -> None:
    program = "import json, sys, interlock_guard.program; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(OPERATOR)},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    modules = json.loads(done.stdout)
    assert "interlock_guard.downstream.endpoint" in modules
    assert {name.partition(".")[0] for name in modules} & FORBIDDEN == set()


def test_no_program_but_the_operator_uses_what_only_its_image_has() -> None:
    packages = [path for path in OPERATOR.iterdir() if path.name not in {"interlock", "interlock_cli"}]
    modules = [path for package in packages for path in package.rglob("*.py")]
    assert len(modules) > 100
    assert [path.name for path in modules if "from typing_extensions import" in path.read_text(encoding="utf-8")] == []


def test_a_guard_loads_no_authorities_until_a_server_wants_them_and_nothing_of_the_verifier(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(an_authority().pem)
    program = (
        "import sys; from interlock_guard.__main__ import load; load('program'); from aiohttp import connector; "
        "import ssl; trusted = ssl.create_default_context(); "
        "print(len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()), trusted.cert_store_stats()['x509'] > 0, "
        "any('verification' in name for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(OPERATOR), "SSL_CERT_FILE": str(tmp_path / "ca.pem")},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["0", "True", "False"]
