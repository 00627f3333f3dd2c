"""The commands of pages and messages work on objects in every state that these objects can have."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.contract.test_page_links import PAGES, ROOT

SET_SWITCH = re.compile(r"interlock\.dev/kill-switch=")
SOURCES = sorted([*PAGES, *(ROOT / "operator").rglob("*.py"), *(ROOT / "tools").rglob("*.py")])


def kills_that_fail(path: Path) -> Iterator[str]:
    """Yield each command that sets the switch and fails if the switch has a value already.

    A released agent keeps the annotation with the value `off`. `kubectl annotate` changes no annotation that exists
    unless the command says `--overwrite`, so a kill without it would fail when it is needed.
    """
    for line in path.read_text(encoding="utf-8").splitlines():
        if SET_SWITCH.search(line) and "--overwrite" not in line:
            yield f"{path.name}: {line.strip()}"


def test_every_command_that_sets_the_kill_switch_works_on_an_agent_that_was_released() -> None:
    assert [line for path in SOURCES for line in kills_that_fail(path)] == []


def test_a_kill_without_overwrite_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "$ kubectl annotate agent a interlock.dev/kill-switch=why\n"
        "$ kubectl annotate agent a interlock.dev/kill-switch=why --overwrite\n"
    )
    assert list(kills_that_fail(page)) == ["page.md: $ kubectl annotate agent a interlock.dev/kill-switch=why"]
