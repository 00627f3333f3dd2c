import sys
from pathlib import Path

import pytest

from interlock.api import meta
from interlock.cluster import kinds
from interlock.deployment import guard_sidecar, security

ROOT = Path(__file__).parents[2]
SINCE_GONE = {"pipes"}  # left the standard library with Python 3.13
EMPTY_WORDS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "core", "lib"}
MODULES = sorted((ROOT / "operator").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "operator")))
def test_a_module_is_named_after_what_is_in_it(path: Path) -> None:
    assert not EMPTY_WORDS & set(path.stem.split("_"))
    assert not EMPTY_WORDS & {part.split(".")[0] for part in path.relative_to(ROOT / "operator").parts[1:]}


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.stem.strip("_") == path.stem], ids=lambda path: path.stem
)
def test_no_module_at_the_root_of_a_package_shadows_the_standard_library(path: Path) -> None:
    """The loader of kopf puts a script's own folder first on the path."""
    if path.parent.parent == ROOT / "operator":
        assert path.stem not in sys.stdlib_module_names - SINCE_GONE


def test_names_that_users_and_other_programs_hold_on_to_are_fixed() -> None:
    assert meta.API_VERSION == "interlock.dev/v1alpha1"
    assert meta.KILL_SWITCH == "interlock.dev/kill-switch"
    assert meta.KILL_SWITCH_OFF == "off"
    assert (meta.AGENT_LABEL, meta.STAGE_LABEL) == ("interlock.dev/agent", "interlock.dev/stage")
    assert meta.REVISION_LABEL == "interlock.dev/revision"
    assert (meta.FIELD_MANAGER, meta.KILL_FIELD_MANAGER) == ("interlock", "interlock-kill")
    assert meta.OPERATOR_NAMESPACE == "interlock-system"


def test_numbers_that_the_guard_holds_on_to_are_fixed() -> None:
    assert (guard_sidecar.MCP_PORT, guard_sidecar.OBSERVE_PORT) == (7410, 7411)
    assert guard_sidecar.PIPES_PATH == "/run/interlock/pipes"
    assert guard_sidecar.TOKEN_PATH == "/var/run/secrets/interlock"  # noqa: S105 - a path
    assert (security.GUARD_UID, security.GUARD_GID) == (10001, 2000)
    assert (security.AGENT_UID, security.FIRST_SERVER_UID) == (10002, 10010)


def test_every_kind_stands_where_the_api_server_has_it() -> None:
    assert kinds.AGENT.path("ns", "a", "status") == "/apis/interlock.dev/v1alpha1/namespaces/ns/agents/a/status"
    assert kinds.POD.within("ns") == "/api/v1/namespaces/ns/pods"
    assert kinds.DEPLOYMENT.everywhere() == "/apis/apps/v1/deployments"
    assert {kind.kind for kind in kinds.CHILDREN} == set(kinds.BY_KIND)
