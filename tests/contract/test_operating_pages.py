"""The pages for those who operate Interlock name roles, alerts, settings and reasons that exist."""

import re
from pathlib import Path

import pytest
import yaml

from interlock.api.agent_reasons import AgentReason
from interlock.api.status import ConditionType
from interlock.api.verification import BindingCondition, BindingReason

ROOT = Path(__file__).parents[2]
KNOWN = {str(one) for names in (AgentReason, ConditionType, BindingReason, BindingCondition) for one in names}
OF_GUARDS = {"LoopDetected", "EgressClosed"}
NO_NAMES = {"Deployment", "Scheduling", "Digest", "Separate", "Denied", "Error", "Success", "Notifying", "Secret"}
"""Words in code spans that are kinds, values of fields, and a condition of AgentPolicies."""


def page(name: str) -> str:
    return (ROOT / "docs" / "how-to" / f"{name}.md").read_text(encoding="utf-8")


def words_in_code(text: str, pattern: str) -> set[str]:
    spans = re.findall(r"`([^`\n]+)`", text)
    return {word for span in spans for word in re.findall(rf"(?<![\w/.-]){pattern}(?![\w-])", span)}


def roles() -> set[str]:
    files = (ROOT / "manifests" / "base").glob("*.yaml")
    documents = (one for path in files for one in yaml.safe_load_all(path.read_text(encoding="utf-8")))
    return {one["metadata"]["name"] for one in documents if one["kind"] == "ClusterRole"}


@pytest.mark.parametrize("name", ["production", "tenants", "gitops"])
def test_each_role_exists(name: str) -> None:
    others = {"interlock-system", "interlock-key", "interlock-kill"}  # a namespace, a Secret, a PriorityClass
    assert words_in_code(page(name), r"interlock-[a-z-]+") - others <= roles()


def test_each_alert_of_the_checklist_exists() -> None:
    named = words_in_code(page("production"), r"Interlock[A-Z]\w+")
    rules = "".join(path.read_text("utf-8") for path in (ROOT / "manifests/components/prometheus-rules").glob("*.yaml"))
    assert len(named) == 3
    assert [one for one in named if f"alert: {one}\n" not in rules] == []


def test_each_setting_of_the_checklist_exists() -> None:
    settings = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    named = words_in_code(page("production"), r"INTERLOCK_\w+")
    assert named
    assert [one for one in named if f"| `{one}` |" not in settings] == []


def test_each_reason_and_condition_of_the_checklist_exists() -> None:
    named = words_in_code(page("production"), r"[A-Z][a-z]+[A-Za-z]*")
    ours = {one for one in named if not re.match(r"Interlock[A-Z]", one)}
    assert ours - KNOWN <= OF_GUARDS | NO_NAMES


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_no_kustomization_of_a_page_has_the_crds_next_to_the_programs(path: Path) -> None:
    """`kubectl delete -k` would take them, and with them every Agent of the cluster."""
    for block in re.findall(r"^```yaml[^\n]*\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        resources = re.findall(r"^- (\S+)", block.partition("resources:\n")[2], re.MULTILINE)
        if any("manifests/base" in one for one in resources):
            assert [one for one in resources if one.rstrip("/").endswith("crds")] == []
