"""The generated pages of docs/reference are those of the code, and name every reason with a meaning."""

import re
from pathlib import Path

import pytest

from interlock.api.policy import PolicyCondition
from interlock.api.status import ConditionType
from interlock.api.verification import BindingCondition
from interlock.deployment.plan import desired_children
from interlock.settings import OperatorSettings
from interlock_contract.pod import AGENT_CONTAINER
from tests.support.builders import a_placement
from tools.reference.__main__ import main
from tools.reference.fixes import FIXES, NO_ACTION
from tools.reference.pages import SECTIONS, described, reasons_page, settings_page
from tools.reference.variables import AGENT, MEANINGS, PROGRAMS, variables_of

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
CONDITIONS = (REFERENCE / "conditions.md").read_text(encoding="utf-8")
REASONS = tuple(SECTIONS.values())


def words_of(text: str) -> set[str]:
    return set(re.findall(r"`([A-Z][A-Za-z]+)`", text))


def test_the_committed_pages_are_those_of_the_code() -> None:
    assert main(["--check"]) == 0


def test_a_page_that_differs_is_reported_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], tmp_path) == 1
    assert "reasons.md is not what the code says" in capsys.readouterr().err
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0


def test_every_reason_has_a_meaning_and_is_on_the_page() -> None:
    for enum in REASONS:
        assert {reason for reason, meaning in described(enum) if meaning} == {str(one) for one in enum}
        assert {str(one) for one in enum} <= words_of(reasons_page())


def test_every_reason_has_a_fix_or_needs_no_action() -> None:
    for kind, enum in SECTIONS.items():
        assert FIXES[kind].keys() == {str(one) for one in enum} - NO_ACTION, kind
    assert {str(one) for enum in REASONS for one in enum} >= NO_ACTION


def test_every_condition_is_on_the_page_of_conditions() -> None:
    conditions = {str(one) for enum in (ConditionType, BindingCondition, PolicyCondition) for one in enum}
    assert conditions <= words_of(CONDITIONS)


def test_every_setting_that_a_program_reads_has_a_meaning() -> None:
    read = {name for program in PROGRAMS for name in variables_of(program)}
    assert read == MEANINGS.keys()
    assert variables_of("Collector")["INTERLOCK_KEEP_DAYS"] == "184"
    assert "INTERLOCK_SPOOL_BYTES" in variables_of("Guard")
    assert {f"## {program}" for program in PROGRAMS} < set(settings_page().splitlines())


def test_every_variable_of_the_code_is_on_the_page() -> None:
    named = set()
    for path in (REFERENCE.parents[1] / "operator").rglob("*.py"):
        named |= set(re.findall(r"\"(INTERLOCK_[A-Z_]+)\"", path.read_text(encoding="utf-8")))
    assert {"INTERLOCK_SCOPE", "INTERLOCK_SOURCE", "INTERLOCK_BUNDLE"} < named
    assert {name for name in named if f"`{name}`" not in settings_page()} == set()


def test_the_page_has_the_variables_of_an_agents_container() -> None:
    pods = (
        child["spec"]["template"]["spec"] for child in desired_children(a_placement()) if child["kind"] == "Deployment"
    )
    containers = [one for pod in pods for one in pod["containers"] if one["name"] == AGENT_CONTAINER]
    assert {one["name"] for container in containers for one in container["env"]} == AGENT.keys()


def test_every_setting_is_on_its_page() -> None:
    assert all(f"`INTERLOCK_{name.upper()}`" in settings_page() for name in OperatorSettings.model_fields)
    assert all(field.description for field in OperatorSettings.model_fields.values())
    assert "PydanticUndefined" not in settings_page()
