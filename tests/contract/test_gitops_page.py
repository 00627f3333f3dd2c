"""The account for a GitOps sync gives no command, and the page on GitOps names what it should leave alone."""

from pathlib import Path

import yaml

from interlock_contract import names

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "gitops.md").read_text(encoding="utf-8")
KUBERNETES_VERBS = {"get", "list", "watch", "create", "update", "patch", "delete"}


def documents(path: Path) -> list[dict[str, object]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def test_the_role_of_a_sync_has_no_verb_that_exists_only_for_commands() -> None:
    [role] = [one for one in documents(ROOT / "examples/gitops/sync-role.yaml") if one["kind"] == "ClusterRole"]
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}  # type: ignore[attr-defined]
    assert verbs == KUBERNETES_VERBS


def test_the_page_names_every_command_of_an_agent() -> None:
    rbac = documents(ROOT / "manifests/base/rbac.yaml")
    rules = [rule for one in rbac if one["kind"] == "ClusterRole" for rule in one["rules"]]  # type: ignore[attr-defined]
    verbs = {verb for rule in rules if "agents" in rule["resources"] for verb in rule["verbs"]} - KUBERNETES_VERBS
    commands = verbs - {"release", "reconcile", "debug", "budget-override"}
    assert commands >= {"promote", "pause", "rollback"}
    assert [one for one in commands if f"`{one}`" not in PAGE and f"/{one}`" not in PAGE] == []
    assert f"`{names.KILL_SWITCH}`" in PAGE
    file = (ROOT / "examples/gitops/sync-role.yaml").read_text(encoding="utf-8")
    assert [one for one in verbs if one not in file] == []
