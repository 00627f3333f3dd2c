import sys
from pathlib import Path

from interlock.api import meta
from interlock.cluster import kinds
from interlock.deployment import guard_sidecar, security

ROOT = Path(__file__).parents[2]
SINCE_GONE = {"pipes"}  # left the standard library with Python 3.13
EMPTY_WORDS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "core", "lib"}
MODULES = sorted((ROOT / "operator").rglob("*.py"))


def words_in(path: Path) -> set[str]:
    """Return the words that the names of a module and of its packages below the first are made of."""
    packages = {part.split(".")[0] for part in path.relative_to(ROOT / "operator").parts[1:]}
    return packages | set(path.stem.split("_"))


def test_every_module_is_named_after_what_is_in_it() -> None:
    assert len(MODULES) > 100
    assert [str(path.relative_to(ROOT)) for path in MODULES if EMPTY_WORDS & words_in(path)] == []


def test_no_module_at_the_root_of_a_package_shadows_the_standard_library() -> None:
    """The loader of kopf puts a script's own folder first on the path."""
    roots = [path for path in MODULES if path.parent.parent == ROOT / "operator"]
    shadowed = sys.stdlib_module_names - SINCE_GONE
    assert [str(path) for path in roots if path.stem in shadowed and path.stem.strip("_") == path.stem] == []


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
