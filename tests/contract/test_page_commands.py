"""The commands of pages and messages work on objects in each of their states, next to other products too."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.test_page_links import PAGES, ROOT

SET_SWITCH = re.compile(r"interlock\.dev/kill-switch=")
SOURCES = sorted([*PAGES, *(ROOT / "operator").rglob("*.py"), *(ROOT / "tools").rglob("*.py")])
COMMAND = re.compile(
    r"(?:kubectl|\{KUBECTL\}) (?:-n \S+ )?(?:get|annotate|delete|describe|wait|patch|label|edit|explain)\b[^`|#\n]*"
)
SHORT = re.compile(
    r"(?<![\w./=:{-])(?<!-n )(?<!-c )(?:agents?|agt|mcpbindings?|agentpolic(?:y|ies))"
    r"(?=[ /,.`'\")]|$)(?!\.interlock\.dev)"
)
"""A kind of ours without its group, where it is neither a namespace nor a container."""


def kills_that_fail(path: Path) -> Iterator[str]:
    """Yield each command that sets the switch and fails if the switch has a value already.

    A released agent keeps the annotation with the value `off`. `kubectl annotate` changes no annotation that exists
    unless the command says `--overwrite`, so a kill without it would fail when it is needed.
    """
    for line in path.read_text(encoding="utf-8").splitlines():
        if SET_SWITCH.search(line) and "--overwrite" not in line:
            yield f"{path.name}: {line.strip()}"


def short_names(path: Path) -> Iterator[str]:
    """Yield each kubectl command that names a kind of ours without its group.

    Other products own a kind `agents` too (ECK, kagent, Instana). Where one of them is installed, kubectl takes the
    group that it sorts first, so that a kill by the short name could annotate an object of that product.
    """
    for command in COMMAND.findall(path.read_text(encoding="utf-8")):
        if SHORT.search(command):
            yield f"{path.name}: {command.strip()}"


def test_every_command_that_sets_the_kill_switch_works_on_an_agent_that_was_released() -> None:
    assert [line for path in SOURCES for line in kills_that_fail(path)] == []


def test_every_command_names_kinds_with_their_group() -> None:
    assert [line for path in SOURCES if path.name != "CHANGELOG.md" for line in short_names(path)] == []


def test_a_kill_without_overwrite_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "$ kubectl annotate agent a interlock.dev/kill-switch=why\n"
        "$ kubectl annotate agent a interlock.dev/kill-switch=why --overwrite\n"
    )
    assert list(kills_that_fail(page)) == ["page.md: $ kubectl annotate agent a interlock.dev/kill-switch=why"]


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("kubectl -n agents get agents", True),
        ("kubectl -n agents wait agent/a --for=condition=Ready", True),
        ("kubectl get agents,pods", True),
        ("kubectl explain agent.spec", True),
        ("kubectl get mcpbinding crm", True),
        ("kubectl -n agents get agents.interlock.dev,pods", False),
        ("kubectl -n agents get pods -l interlock.dev/agent=a -c agent", False),
        ("kubectl explain agents.interlock.dev.spec", False),
    ],
)
def test_a_kind_without_its_group_is_found(command: str, *, found: bool, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"$ {command}\n")
    assert bool(list(short_names(page))) is found
