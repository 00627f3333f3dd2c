"""actionlint on the workflows: it knows the syntax, the contexts and the inputs of well-known actions."""

from pathlib import Path

import pytest

from tests.requirements import requirement
from tools.cluster import programs
from tools.machine.process import CommandFailedError, run
from tools.machine.settings import from_environment

pytestmark = [pytest.mark.api, pytest.mark.nightly, pytest.mark.timeout(900)]  # actionlint may have to be built

WORKFLOWS = sorted((Path(__file__).parents[3] / ".github" / "workflows").iterdir())


def lint(*paths: Path) -> str:
    actionlint = programs.ensure(from_environment(), ["actionlint"])["actionlint"]
    return run([actionlint, "-no-color", *paths])


@requirement("supply.workflows")
def test_actionlint_finds_nothing_in_the_workflows() -> None:
    assert len(WORKFLOWS) == 2
    assert lint(*WORKFLOWS) == ""


@pytest.mark.parametrize(
    ("text", "changed", "found"),
    [
        ("vars.REGISTRY != ''", "registry.REGISTRY != ''", 'undefined variable "registry"'),
        ("python-version:", "python-versoin:", 'input "python-versoin" is not defined'),
        ("timeout-minutes:", "timeout:", 'unexpected key "timeout"'),
    ],
)
def test_actionlint_finds_what_is_wrong(text: str, changed: str, found: str, tmp_path: Path) -> None:
    [release] = [path for path in WORKFLOWS if path.name == "release.yml"]
    wrong = tmp_path / "release.yml"
    wrong.write_text(release.read_text(encoding="utf-8").replace(text, changed), encoding="utf-8")
    with pytest.raises(CommandFailedError) as refused:
        lint(wrong)
    assert found in str(refused.value)
