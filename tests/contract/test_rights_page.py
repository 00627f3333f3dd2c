"""docs/reference/rights.md is the golden list of rights: the manifests and the guard's Role grant exactly these."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from interlock.deployment.children.identity import build_guard_role
from interlock.deployment.children.verification_job import VerificationTarget, build_support
from interlock.deployment.placement import ApiServerAddress
from tests.requirements import requirement
from tests.support.builders import GUARD_IMAGE, a_binding, a_placement, an_agent

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "rights.md").read_text(encoding="utf-8")
Right = tuple[str, str, str]


def roles() -> dict[str, list[dict[str, Any]]]:
    placement = a_placement(an_agent().calling("openai/gpt-4o-mini"))  # an agent that spends money
    found: dict[str, list[dict[str, Any]]] = {"guard": build_guard_role(placement)["rules"]}
    [role] = [
        one
        for one in build_support(VerificationTarget(a_binding().build(), 1, GUARD_IMAGE), ApiServerAddress())
        if one["kind"] == "Role"
    ]
    found["verifier"] = role["rules"]
    for path in sorted((ROOT / "manifests").rglob("*.yaml")):
        for one in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader):
            if one and one["kind"] in ("Role", "ClusterRole"):
                assert one["metadata"]["name"] not in found, "two roles of one name cannot be told apart here"
                found[one["metadata"]["name"]] = one["rules"]
    return found


ROLES = roles()


def granted(rules: list[dict[str, Any]]) -> Iterator[Right]:
    for rule in rules:
        yield from itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])


def rows_of(role: str) -> list[list[str]]:
    """Return the cells of a role's table."""
    section = re.search(rf"^### {re.escape(role)}\n(.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert section, f"docs/reference/rights.md has no section {role}"
    lines = [line for line in section[1].splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def written(role: str) -> Iterator[Right]:
    for group, resources, verbs, _ in rows_of(role):
        groups = [""] if group == "core" else [group.strip("`")]
        yield from itertools.product(groups, re.findall("`([^`]+)`", resources), re.findall("`([^`]+)`", verbs))


@requirement("code.rights-listed")
def test_the_page_lists_every_right_of_a_role_and_no_other() -> None:
    for role, rules in ROLES.items():
        assert sorted(written(role)) == sorted(granted(rules)), role


@requirement("code.rights-listed")
def test_every_right_has_its_reason() -> None:
    assert [row for role in ROLES for row in rows_of(role) if len(row) != 4 or len(row[3]) <= 10] == []


def test_the_page_speaks_of_no_role_that_does_not_exist() -> None:
    assert set(re.findall(r"^### (\S+)$", PAGE, flags=re.MULTILINE)) == set(ROLES)
