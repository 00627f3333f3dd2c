import sys
from pathlib import Path

from interlock_contract import names, pod
from interlock_kube import resource_types

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
    assert names.API_VERSION == "interlock.dev/v1alpha1"
    assert names.KILL_SWITCH == "interlock.dev/kill-switch"
    assert names.KILL_SWITCH_OFF == "off"
    assert (names.AGENT_LABEL, names.STAGE_LABEL) == ("interlock.dev/agent", "interlock.dev/stage")
    assert names.REVISION_LABEL == "interlock.dev/revision"
    assert (names.FIELD_MANAGER, names.KILL_FIELD_MANAGER) == ("interlock", "interlock-kill")
    assert names.OPERATOR_NAMESPACE == "interlock-system"


def test_numbers_that_the_guard_holds_on_to_are_fixed() -> None:
    assert (pod.MCP_PORT, pod.OBSERVE_PORT) == (7410, 7411)
    assert pod.PIPES_PATH == "/run/interlock/pipes"
    assert pod.TOKEN_PATH == "/var/run/secrets/interlock"  # noqa: S105 - a path
    assert (pod.GUARD_UID, pod.GUARD_GID) == (10001, 2000)
    assert (pod.AGENT_UID, pod.FIRST_SERVER_UID) == (10002, 10010)


def test_every_kind_stands_where_the_api_server_has_it() -> None:
    assert (
        resource_types.AGENT.path("ns", "a", "status") == "/apis/interlock.dev/v1alpha1/namespaces/ns/agents/a/status"
    )
    assert resource_types.POD.within("ns") == "/api/v1/namespaces/ns/pods"
    assert resource_types.DEPLOYMENT.everywhere() == "/apis/apps/v1/deployments"
    assert {kind.kind for kind in resource_types.CHILDREN} == set(resource_types.BY_KIND) - {"Secret"}, (
        "it is written, never read"
    )


def test_admission_lets_guards_write_each_report_that_they_make() -> None:
    policy = (ROOT / "manifests" / "admission" / "managed-objects.yaml").read_text(encoding="utf-8")
    reports = {value for name, value in vars(names).items() if name.endswith("_PREFIX")}
    assert names.HOLDER_PREFIX in reports
    assert [one for one in sorted(reports) if f"'{one}'" not in policy] == []
